"""From photos to AlexNet's input, inside the graph: one convention for every script, training included."""

import tensorflow.compat.v1 as tf


def preprocess(images):
    """AlexNet's `features`, float32 [N, 227, 227, 3], from `images`: RGB, 0 to 255, [N, H, W, 3], uint8 or float32.

    The lab's convention: each image has its own mean, one number over pixels and channels, subtracted. Images of
    another size than 227x227, which are signs, are then resized by TensorFlow 1's bilinear rule, whose corner pixels
    coincide at the top left (no half-pixel centres).
    """
    images = tf.cast(images, tf.float32)
    images -= tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    if images.shape.as_list()[1:3] == [227, 227]:
        return images
    return tf.image.resize_images(images, (227, 227))
