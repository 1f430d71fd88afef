"""XLA, TensorFlow's compiler, which makes one loop of many operations."""

import tensorflow.compat.v1 as tf


def compiled(function):
    """`function`, from tensors to a tensor, compiled by XLA for each shape of theirs.

    In a tf.xla.experimental.jit_scope, the first batch of a shape is not always compiled, so the last bits of what a training
    computes would depend on where it was resumed.
    """
    return tf.function(function, jit_compile=True, autograph=False)
