"""The lab's second method: what training all of AlexNet adds to the graph."""

import tensorflow.compat.v1 as tf

from lab.network import new_layer

DROPOUT = 0.5  # of fc6 and fc7, the rate with which AlexNet was trained
PACE = 0.5  # by which both learning rates are multiplied after each epoch
_SEEDS = {"dropout6": 0, "dropout7": 1 << 30}  # added to the second seed: the layers must not drop the same numbers


class Finetuning:
    """Dropout, and an optimizer with one learning rate for the new layer and another one for the pretrained layers.

    learning_rate, pretrained_learning_rate: float. seed: int, of dropout.
    """

    def __init__(self, learning_rate, pretrained_learning_rate, seed):
        self._learning_rate, self._pretrained_learning_rate, self._seed = learning_rate, pretrained_learning_rate, seed
        self._dropout_rate = tf.placeholder_with_default(0.0, [], name="dropout_rate")
        self._dropout_seed = tf.placeholder_with_default([0, 0], [2], name="dropout_seed")
        self._pace = tf.placeholder_with_default(1.0, [], name="pace")

    def dropout(self, features, name):
        """The layer that `AlexNet` takes. It changes nothing unless `feed` says so: not in validation."""
        return dropout(features, self._dropout_rate, self._dropout_seed + [0, _SEEDS[name]], name)

    def minimize(self, loss):
        """The training step, an operation, for `loss`, a float32 tensor []: Adam for the new and for the pretrained layers."""
        new = new_layer.variables()
        pretrained = [v for v in tf.trainable_variables() if v.op.name.startswith("alexnet/")]
        gradients = tf.gradients(loss, new + pretrained)
        adam_new = tf.train.AdamOptimizer(self._learning_rate * self._pace, name="AdamNew")
        adam_pretrained = tf.train.AdamOptimizer(self._pretrained_learning_rate * self._pace, name="AdamPretrained")
        return tf.group(adam_new.apply_gradients(zip(gradients[:len(new)], new)),
                        adam_pretrained.apply_gradients(zip(gradients[len(new):], pretrained)))

    def feed(self, epoch):
        """What a training step of `epoch`, a run.Epoch, is fed besides photos and labels."""
        return {self._pace: PACE ** epoch.index, self._dropout_rate: DROPOUT, self._dropout_seed: [self._seed, epoch.step]}


def dropout(features, rate, seed, name="dropout"):
    """Each number in `features`, float32 or bfloat16, set to 0 with probability `rate`, else divided by 1 - rate.

    rate: float32 tensor []. seed: int tensor [2]; the same seed drops the same numbers in every run.
    """
    with tf.name_scope(name) as scope:
        kept = tf.random.stateless_uniform(tf.shape(features), seed) >= rate
        return tf.multiply(features, tf.cast(tf.cast(kept, tf.float32) / (1 - rate), features.dtype), name=scope)
