"""What goes on top of the frozen layers: a new classification layer, or a small feedforward network that ends with one."""

import math

import tensorflow.compat.v1 as tf

from lab.network.cuts import KEPT


def as_kept(features, layer):
    """`features`, float32 [N, C], the output of `layer`, rounded as they are kept: to float16 for pool5, but still float32.

    Every graph has this rounding, so kept features and photos get the same answers. The gradient passes it unchanged: in half
    precision it would vanish.
    """
    if KEPT[layer].dtype == "float32":
        return features
    rounded = tf.cast(tf.cast(features, KEPT[layer].dtype), tf.float32)
    # Exact: the difference of a number and itself rounded has few bits. tf.custom_gradient would leave a number in the graph
    # that differs from run to run, and with it the graph's fingerprint.
    return features + tf.stop_gradient(rounded - features)


def build(features, classes, seed=0, hidden=(), dropout=None):
    """The fresh layer's `logits`, float32 [N, classes], from `features`, float32 [N, C].

    Its variables are head/weights, drawn from a normal distribution of standard deviation 0.01 truncated at 0.02 as in the
    lab, with `seed` (int), and head/biases, zero.

    hidden: the sizes of hidden layers before it, ints, each with a ReLU and its variables in head/hidden1/ and so on. Their
        weights have the standard deviation sqrt(2 / inputs): He et al., "Delving Deep into Rectifiers", 2015.
    dropout: a function (features, name) applied after each hidden layer; None for none.
    """
    with tf.name_scope("head"):
        for i, size in enumerate(hidden, 1):
            with tf.name_scope(f"hidden{i}"):
                inputs = features.shape.as_list()[-1]
                W, b = _variables(inputs, size, math.sqrt(2 / inputs), seed + i)
                features = tf.nn.relu(tf.nn.xw_plus_b(features, W, b))
            if dropout:
                features = dropout(features, f"dropout{i}")
        W, b = _variables(features.shape.as_list()[-1], classes, 0.01, seed)
        return tf.nn.xw_plus_b(features, W, b, name="logits")


def _variables(inputs, outputs, deviation, seed):
    initial = tf.truncated_normal([inputs, outputs], stddev=deviation, seed=seed)
    return (tf.Variable(initial, name="weights", use_resource=True),
            tf.Variable(tf.zeros(outputs), name="biases", use_resource=True))


def variables():
    """The variables of what `build` has built in the current graph, without an optimizer's slots for them."""
    return tf.trainable_variables("head/")
