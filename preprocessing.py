"""From photos to AlexNet's input, inside the graph: one convention, the lab's, for every script, training included.

Caffe's, in which BVLC's weights were trained, is there beside it for photos of ImageNet's classes.
"""

import tensorflow.compat.v1 as tf


def preprocess(images):
    """AlexNet's `features`, float32 [N, 227, 227, 3], from `images`: RGB, 0 to 255, [N, H, W, 3], uint8 or float32.

    The lab's convention: `subtract_mean`. Images of another size than 227x227, which are signs, are then resized by
    TensorFlow 1's bilinear rule, whose corner pixels coincide at the top left (no half-pixel centres).
    """
    images = subtract_mean(images)
    if images.shape.as_list()[1:3] == [227, 227]:
        return images
    return tf.image.resize_images(images, (227, 227))


def subtract_mean(images):
    """`images`, uint8 or float32 [N, H, W, 3], in float32, each less its own mean: one number over pixels and channels."""
    images = tf.cast(images, tf.float32)
    return images - tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)


def preprocess_caffe(images):
    """AlexNet's `features`, float32 [N, 227, 227, 3], from `images`: RGB, 0 to 255, [N, 256, 256, 3], uint8 or float32.

    Caffe's convention for BVLC AlexNet: of the photo warped to 256x256 the 227x227 pixels in the middle, channels in the
    order BGR, and ImageNet's mean of each channel subtracted: 104, 117 and 123. It goes with AlexNet(conv1_padding="VALID").
    """
    edge = (256 - 227) // 2
    images = tf.cast(images[:, edge:edge + 227, edge:edge + 227], tf.float32)
    return tf.reverse(images, axis=[3]) - [104.0, 117.0, 123.0]
