"""From photos to AlexNet's input, inside the graph: the lab's convention, Caffe's beside it, and checks of the result."""

import tensorflow.compat.v1 as tf


def subtract_mean(images):
    """`images`, uint8 or float32 [N, H, W, 3], in float32, each minus its own mean: one number over pixels and channels.

    That is the lab's convention for all photos and signs, in training too.
    """
    images = tf.cast(images, tf.float32)
    return images - tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)


def caffe(images):
    """`features`, float32 [N, 227, 227, 3], from `images`: RGB, 0 to 255, uint8 or float32 [N, 256, 256, 3].

    Caffe's convention for BVLC AlexNet: the middle 227x227 pixels of a photo warped to 256x256, channels in the order BGR,
    ImageNet's mean subtracted from each channel: 104, 117, 123. It goes with a VALID conv1.
    """
    edge = (256 - 227) // 2
    images = tf.cast(images[:, edge:edge + 227, edge:edge + 227], tf.float32)
    return tf.reverse(images, axis=[3]) - [104.0, 117.0, 123.0]


def check_features(features):
    """Raise TypeError or ValueError unless `features` is a float32 or bfloat16 tensor of RGB images in a graph."""
    if tf.executing_eagerly():
        raise ValueError("AlexNet is built in a graph: call it inside `with tf.Graph().as_default():`")
    if not isinstance(features, (tf.Tensor, tf.Variable)):
        raise TypeError(f"features must be a tensor, not {type(features).__name__}")
    if features.dtype.base_dtype not in (tf.float32, tf.bfloat16):
        raise TypeError(f"features must be float32 or bfloat16, not {features.dtype.name}; preprocessing.subtract_mean makes "
                        "them float32")
    if features.shape.rank != 4 or features.shape[3] != 3:
        raise ValueError(f"features must have shape [N, 227, 227, 3], not {features.shape}")


def check_size(features, size):
    """Raise ValueError unless `features` has shape [N, size, size, C]; a `size` of None allows all."""
    if size and features.shape.as_list()[1:3] != [size, size]:
        raise ValueError(f"features must have shape [N, {size}, {size}, {features.shape[3]}], not {features.shape}")
