"""What a training step needs besides the loss: the pace of the learning rates, dropout, and finetuning's two optimizers."""

import math

import tensorflow.compat.v1 as tf

from lab.network import cuts, new_layer, variables

DROPOUT = 0.5  # of fc6 and fc7, the rate with which AlexNet was trained
PACE = 0.5  # by which both learning rates are multiplied after each epoch of finetuning
# Added to the second seed, so that no two layers drop the same numbers; of the hidden layers (new_layer.build) and AlexNet's.
_SEEDS = {f"dropout{i}": i << 27 for i in range(1, 6)} | {"dropout6": 0, "dropout7": 8 << 27}


class Steps:
    """The training steps of a `stage`, "frozen" or "finetuned", of `run` (run.Run) in the current graph.

    pace: a float32 tensor [], by which the learning rates are multiplied.
    """

    def __init__(self, run, stage):
        self._stage, self._settings, self._epochs = stage, run.state["settings"], run.state["epochs"][stage]
        self.pace = tf.placeholder_with_default(1.0, [], name="pace")
        self._training = tf.placeholder_with_default(0.0, [], name="training")
        self._dropout_seed = tf.placeholder_with_default([0, 0], [2], name="dropout_seed")

    def dropout(self, features, name, rate=DROPOUT):
        """The dropout that `AlexNet` takes. It changes nothing unless `feed` says so: not in validation."""
        return dropout(features, rate * self._training, self._dropout_seed + [0, _SEEDS[name]], name)

    def hidden_dropout(self, features, name):
        """The dropout that `new_layer.build` takes, with the rate that the user has chosen."""
        return self.dropout(features, name, self._settings["dropout"])

    def unchanging(self):
        """While finetuning: the output of the last layer below those that are trained, and its name in lab.network.cuts.KEPT.

        Both are None if something random lies below it, or if it lies so low that keeping its output would not pay off.
        """
        name = cuts.BELOW.get(self._settings["finetune_from"])
        return (tf.get_default_graph().get_tensor_by_name(f"alexnet/{name}:0") if name else None), name

    def learned(self):
        """The variables that training changes, with the optimizer's slots for them."""
        return variables.changing(self._settings["finetune_from"] if self._stage == "finetuned" else None)

    def minimize(self, loss):
        """Finetuning's training step, an operation, for `loss`, a float32 tensor []: Adam for the new layer, and for the
        pretrained ones with a learning rate of their own."""
        settings, new = self._settings, new_layer.variables()
        pretrained = variables.of_alexnet(settings["finetune_from"])
        gradients = tf.gradients(loss, new + pretrained)
        adam_new = tf.train.AdamOptimizer(settings["learning_rate"] * self.pace, name="AdamNew")
        adam_pretrained = tf.train.AdamOptimizer(settings["pretrained_learning_rate"] * self.pace, name="AdamPretrained")
        return tf.group(adam_new.apply_gradients(zip(gradients[:len(new)], new)),
                        adam_pretrained.apply_gradients(zip(gradients[len(new):], pretrained)))

    def feed(self, epoch):
        """What the next step of `epoch`, a run.Epoch, is fed besides photos and labels."""
        pace = PACE ** epoch.index if self._stage == "finetuned" else 1.0
        if self._stage == "frozen" and self._settings["decay"] == "cosine":
            pace = (1 + math.cos(math.pi * epoch.step / (self._epochs * epoch.steps))) / 2
        return {self.pace: pace, self._training: 1.0, self._dropout_seed: [self._settings["seed"], epoch.step]}


def dropout(features, rate, seed, name="dropout"):
    """Each number in `features`, float32 or bfloat16, set to 0 with probability `rate`, else divided by 1 - rate.

    rate: float32 tensor []. seed: int tensor [2]; the same seed drops the same numbers in every run.
    """
    with tf.name_scope(name) as scope:
        kept = tf.random.stateless_uniform(tf.shape(features), seed) >= rate
        return tf.multiply(features, tf.cast(tf.cast(kept, tf.float32) / (1 - rate), features.dtype), name=scope)
