"""The convolution of resized images, computed from the small images: AlexNet's first layer on 32x32 signs."""

import numpy as np
import tensorflow.compat.v1 as tf

from strided import same_padding


def conv2d(features, kernels, size, stride):
    """tf.nn.conv2d(tf.image.resize_images(features, (size, size)), kernels, stride, "SAME"), without the large images.

    features: [N, H, H, C], H <= size, float32 or bfloat16; N alone may be unknown. kernels: [K, K, C, outputs].
    Returns [N, M, M, outputs], M = ceil(size / stride), of the dtype of the features.

    Both are linear, and the 11 pixels of 227 below a kernel of conv1 are mixtures of four of the 32: an output is the sum
    of 4x4x3 products instead of 11x11x3, with a kernel of its own at each of its 57x57 places.
    """
    height, _, channels, outputs = kernels.shape.as_list()
    small = features.shape.as_list()[1]
    first, mixtures = windows(small, size, height, stride)
    places, _, width = mixtures.shape

    # The kernel of each place: [M, M, width * width * channels, outputs], of which first the rows are mixed, then the columns.
    mixed = tf.einsum("iua,uvco->ivaco", mixtures, tf.cast(kernels, tf.float32))
    mixed = tf.reshape(mixed, [places, height, width * channels * outputs])
    columns = mixtures.transpose(0, 2, 1).reshape(1, places * width, height)
    own_kernels = tf.reshape(tf.matmul(columns, mixed), [places * places, width * width * channels, outputs])

    # The pixels that each place sees, of all images: [M, M, width * width * channels, N].
    seen = first[:, None] + np.arange(width)
    seen = seen[:, None, None, :] * small + seen[None, :, :, None]
    pixels = tf.reshape(tf.transpose(features, [1, 2, 3, 0]), [small * small, -1])
    pixels = tf.reshape(tf.gather(pixels, seen.reshape(places * places, -1)), [places * places, width * width * channels, -1])

    answers = tf.matmul(pixels, tf.cast(own_kernels, features.dtype), transpose_a=True)
    return tf.reshape(tf.transpose(answers, [1, 0, 2]), [-1, places, places, outputs])


def windows(small, size, height, stride):
    """The pixels below a kernel at each of its M places along one axis, as mixtures of the small image's.

    small, size, height: pixels along that axis in the small image, the resized one, and the kernel.

    Returns the first of the neighbouring small pixels that matter at each place, int64 [M], and their shares in each pixel
    below the kernel, float32 [M, height, width]. The rules are TensorFlow 1's: for resizing, that pixel r is at r * small /
    size, between two pixels; for "SAME", that zeros surround the image, one more behind it than before it if they are odd.
    """
    places, before = same_padding(size, height, stride)
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
