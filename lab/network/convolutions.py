"""Convolutions with fewer or quicker products, for photos with three channels and for small images that are resized."""

import math

import numpy as np
import tensorflow.compat.v1 as tf


def strided_conv2d(features, kernels, stride, padding):
    """tf.nn.conv2d(features, kernels, stride, padding), treating every `stride` adjacent pixels of a row as one wide pixel.

    features: [N, H, H, C], float32 or bfloat16; only N may be unknown. kernels: [K, K, C, outputs], K >= stride.
    Returns [N, M, M, outputs] of the dtype of the features.

    TensorFlow's convolution is slow for the 3 channels of a photo. 4 pixels side by side lie in memory as one pixel of 12
    channels would, so a reshape makes them one; kernels of 11x11 pixels are padded with zeros to 11x12, 11x3 wide pixels.
    Features that can pad themselves (fast_layers.subtract_mean) do.
    """
    size, _, channels, outputs = kernels.shape.as_list()
    edge = features.shape.as_list()[1]
    places, before = _same_padding(edge, size, stride) if padding == "SAME" else ((edge - size) // stride + 1, 0)
    width = -(-size // stride)  # of a kernel, in wide pixels
    wide = places - 1 + width  # pixels of a wide row
    below = max((places - 1) * stride + size - before - edge, 0)
    right = wide * stride - before - edge
    if right < 0:  # pixels that no kernel reaches
        features, right = features[:, :, :right], 0
    pad = getattr(features, "padded", lambda paddings: tf.pad(features, paddings))
    features = pad([[0, 0], [before, below], [before, right], [0, 0]])
    features = tf.reshape(features, [-1, before + edge + below, wide, stride * channels])
    kernels = tf.pad(kernels, [[0, 0], [0, width * stride - size], [0, 0], [0, 0]])
    kernels = tf.reshape(kernels, [size, width, stride * channels, outputs])
    return tf.nn.conv2d(features, kernels, strides=[stride, 1], padding="VALID")


def resized_conv2d(features, kernels, stride, size):
    """tf.nn.conv2d(tf.image.resize_images(features, (size, size)), kernels, stride, "SAME"), without the large images.

    features: [N, H, H, C], H <= size, float32 or bfloat16; only N may be unknown. kernels: [K, K, C, outputs].
    Returns [N, M, M, outputs], M = ceil(size / stride), of the dtype of the features.

    Both steps are linear, and the 11 pixels of 227 below a kernel of conv1 are mixtures of four of the 32: an output is the
    sum of 4x4x3 products instead of 11x11x3, with a kernel of its own at each of the 57x57 places.
    """
    return images_first(resized_products(features, kernels, stride, size))


def resized_products(features, kernels, stride, size):
    """What resized_conv2d returns, but as [M * M, N, outputs]."""
    height, _, channels, outputs = kernels.shape.as_list()
    small = features.shape.as_list()[1]
    first, mixtures = _windows(small, size, height, stride)
    places, _, width = mixtures.shape

    # The kernel of each place: [M, M, width * width * channels, outputs]. The rows are mixed first, then the columns.
    mixed = tf.einsum("iua,uvco->ivaco", mixtures, tf.cast(kernels, tf.float32))
    mixed = tf.reshape(mixed, [places, height, width * channels * outputs])
    columns = mixtures.transpose(0, 2, 1).reshape(1, places * width, height)
    own_kernels = tf.reshape(tf.matmul(columns, mixed), [places * places, width * width * channels, outputs])

    # The pixels that each place sees, of all images: [M, M, width * width * channels, N].
    seen = first[:, None] + np.arange(width)
    seen = seen[:, None, None, :] * small + seen[None, :, :, None]
    pixels = tf.reshape(tf.transpose(features, [1, 2, 3, 0]), [small * small, -1])
    pixels = tf.reshape(tf.gather(pixels, seen.reshape(places * places, -1)), [places * places, width * width * channels, -1])

    return tf.matmul(pixels, tf.cast(own_kernels, features.dtype), transpose_a=True)


def images_first(products):
    """[M * M, N, outputs] as [N, M, M, outputs]."""
    places, _, outputs = products.shape.as_list()
    return tf.reshape(tf.transpose(products, [1, 0, 2]), [-1, math.isqrt(places), math.isqrt(places), outputs])


def _windows(small, size, height, stride):
    """The pixels below a kernel at each of its M places along one axis, as mixtures of the small image's pixels.

    small, size, height: pixels along that axis in the small image, the resized one, and the kernel.

    Returns the first of the neighbouring small pixels that matter at each place, int64 [M], and their shares in each pixel
    below the kernel, float32 [M, height, width]. Resizing is TensorFlow 1's: pixel r is at r * small / size, between two
    pixels. Zeros surround the image as `_same_padding` says.
    """
    places, before = _same_padding(size, height, stride)
    pixels = stride * np.arange(places)[:, None] - before + np.arange(height)
    inside = (pixels >= 0) & (pixels < size)
    position = pixels.clip(0, size - 1).astype(np.float32) * np.float32(small / size)
    lower = position.astype(np.int64)
    upper = np.minimum(lower + 1, small - 1)
    width = (upper.max(axis=1) - lower.min(axis=1)).max() + 1
    first = np.minimum(lower.min(axis=1), small - width)

    shares = np.zeros((places, height, width), np.float32)
    place, row = np.nonzero(inside)
    for pixel, share in ((lower, 1 - (position - lower)), (upper, position - lower)):
        np.add.at(shares, (place, row, (pixel - first[:, None])[inside]), share[inside])
    return first, shares


def _same_padding(edge, size, stride):
    """TensorFlow's "SAME" on an axis of `edge` pixels: how many places a kernel of `size` has, and the zeros before the first.

    As few zeros as give ceil(edge / stride) places; if their number is odd, the extra one comes after the image.
    """
    places = -(-edge // stride)
    return places, max((places - 1) * stride + size - edge, 0) // 2
