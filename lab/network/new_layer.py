"""The new layer on top of fc7, which takes the place of AlexNet's fc8."""

import tensorflow.compat.v1 as tf


def build(fc7, classes, seed=0):
    """The fresh layer's `logits`, float32 [N, classes], from `fc7`, float32 [N, 4096].

    Its variables are signs/weights, drawn from a normal distribution of standard deviation 0.01 truncated at 0.02 as in
    the lab, with `seed` (int), and signs/biases, zero.
    """
    with tf.name_scope("signs"):
        initial = tf.truncated_normal([fc7.shape.as_list()[-1], classes], stddev=0.01, seed=seed)
        W = tf.Variable(initial, name="weights", use_resource=True)
        b = tf.Variable(tf.zeros(classes), name="biases", use_resource=True)
        return tf.nn.xw_plus_b(fc7, W, b, name="logits")


def variables():
    """The layer's variables in the current graph, without an optimizer's slots for them."""
    return tf.trainable_variables("signs/")
