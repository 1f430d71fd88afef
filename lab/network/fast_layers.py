"""Layers of AlexNet that compute what the plain ones in alexnet.py do, in less time: hand them to `AlexNet` by name.

`for_few`, `for_many` and `for_training` choose them. benchmarks/bench.py measures them; tests check that all give the same
results.
"""

import math

import numpy as np
import tensorflow.compat.v1 as tf

from lab.network import devices, onednn, preprocessing
from lab.network.preprocessing import check_size
from lab.network.variables import variable


def for_few():
    """The layers for `AlexNet`, by name, with which it is fastest where this process runs: all but conv1."""
    return {"conv": prepacked_conv} if onednn.has_prepacked() else {}


def for_many(size, precision, batch=128):
    """The same for many images, with conv1. size: 227, or less to resize them. precision: "float32" or "bfloat16".

    batch: how many images the network takes at a time. If one by one, they must have 227x227 pixels.
    """
    if devices.gpu():
        return {"conv1": resized_conv if size < 227 else strided_conv}
    layers = for_few() | {"conv1": compiled_resized_conv if size < 227 else strided_conv, "norm": compiled_lrn}
    return layers | {"fc": transposed_fc if precision == "bfloat16" or batch == 1 else batched_fc}


def for_training(size, count):
    """The same for training all of AlexNet on `count` images, of which a few are not worth compiling for."""
    layers = {"conv1": resized_conv if size < 227 else strided_conv, "fc": trained_fc}
    if devices.gpu():
        return layers
    if devices.onednn():
        layers["conv"] = grouped_conv
    if count < 1000:
        return layers | {"norm": trained_lrn}
    return layers | {"norm": compiled_lrn} | ({"conv1": compiled_resized_conv} if size < 227 else {})


def subtract_mean(images, dtype):
    """What preprocessing.subtract_mean computes from uint8 [N, H, W, 3], rounded to `dtype`, for many images.

    From 227x227 pixels on, XLA does it in two passes over memory. A photo's sum is exact then, and is that of its rows as
    whole arrays: as one tf.reduce_sum it would take XLA six times as long.
    """
    _, height, width, channels = images.shape.as_list()
    if devices.gpu() or height < 227:
        return tf.cast(preprocessing.subtract_mean(images), dtype)

    @_compiled
    def sums_of_columns(pixels):
        pixels = tf.reshape(pixels, [-1, height, width * channels])
        return sum(tf.cast(pixels[:, row], tf.int32) for row in range(height))

    @_compiled
    def subtract(pixels, means):
        pixels = tf.reshape(pixels, [-1, height * width * channels])
        return tf.reshape(tf.cast(tf.cast(pixels, tf.float32) - means, dtype), [-1, height, width, channels])

    sums = tf.cast(tf.reduce_sum(sums_of_columns(images), axis=1, keepdims=True), tf.float32)
    return tf.ensure_shape(subtract(images, sums / (height * width * channels)), images.shape)


def strided_conv(features, W, b, stride, size, padding="SAME", name="conv"):
    """What alexnet.conv computes for one group, treating every `stride` adjacent pixels of a row as one wide pixel.

    features: [N, size, size, C], float32 or bfloat16. W: float32 array [K, K, C, outputs], K >= stride. b: float32 array
    [outputs]. Returns [N, M, M, outputs], M = ceil(size / stride) if SAME, of the dtype of the features.
    """
    check_size(features, size)
    return _layer(lambda kernels: strided_conv2d(features, kernels, stride, padding), W, b, features.dtype, name)


def resized_conv(features, W, b, stride, size, name="conv"):
    """What alexnet.conv, SAME, computes from tf.image.resize_images(features, (size, size)), with far fewer products.

    features: [N, H, H, C], H <= size, float32 or bfloat16. W: float32 array [K, K, C, outputs]. b: float32 array [outputs].
    Returns [N, M, M, outputs], M = ceil(size / stride), of the dtype of the features.
    """
    return _layer(lambda kernels: resized_conv2d(features, kernels, stride, size), W, b, features.dtype, name)


def grouped_conv(features, W, b, stride=1, groups=1, padding="SAME", size=None, name="conv"):
    """What alexnet.conv computes, bit for bit, in one operation for all groups instead of one for each and copies around them.

    TensorFlow takes the number of groups from the shapes, [N, H, W, C] and [height, width, C / groups, outputs]. It can do so
    on a CPU only where oneDNN is on (devices.onednn).
    """
    check_size(features, size)
    return _layer(lambda kernels: tf.nn.conv2d(features, kernels, stride, padding), W, b, features.dtype, name)


def prepacked_conv(features, W, b, stride=1, groups=1, padding="SAME", size=None, name="conv"):
    """What grouped_conv computes, bit for bit, for weights that never change: oneDNN reorders them in the first run only.

    The first run fixes the weights, whatever is assigned to the variable later, and there is no gradient. It needs
    onednn.has_prepacked.
    """
    check_size(features, size)
    with tf.name_scope(name) as scope:
        weights, biases = variable("weights", W, features.dtype), variable("biases", b, features.dtype)
        return tf.identity(onednn.prepacked_conv2d(features, weights, biases, stride, padding), name=scope)


def compiled_resized_conv(features, W, b, stride, size, name="conv"):
    """What resized_conv computes, bit for bit, with one pass over memory for all that follows the products.

    XLA compiles it, which pays off for many batches.
    """
    @_compiled
    def finish(products, biases):
        outputs = tf.nn.relu(tf.cast(products, tf.float32) + tf.cast(biases, tf.float32))
        return _images_first(tf.cast(outputs, features.dtype))

    with tf.name_scope(name) as scope:
        products = _resized_products(features, variable("weights", W, features.dtype), stride, size)
        biases = tf.convert_to_tensor(variable("biases", b, features.dtype))
        return tf.ensure_shape(finish(products, biases), [None, -(-size // stride), -(-size // stride), len(b)], name=scope)


def _layer(convolve, W, b, dtype, name):
    """ReLU(convolve(kernels) + bias), with variables of W and b."""
    with tf.name_scope(name) as scope:
        outputs = convolve(variable("weights", W, dtype))
        return tf.nn.relu(tf.nn.bias_add(outputs, variable("biases", b, dtype)), name=scope)


def compiled_lrn(features, radius, alpha, beta, bias, name="lrn"):
    """What alexnet.lrn computes, and its gradient, in loops that XLA compiles from these lines: few passes over memory.

    It computes in float32, whatever the type of the features, which is faster than bfloat16 on CPUs, and closer.

    It pays off for many batches: compiling takes a quarter of a second for the first batch of each size, and twice as long
    for the gradient. The gradient is that of `trained_lrn`.
    """
    channels, dtype = features.shape.as_list()[-1], features.dtype

    def padded(x):  # before XLA, not in it: its loops are several times slower where they have to find the edges
        return tf.pad(x, [[0, 0], [0, 0], [0, 0], [radius, radius]])

    def over_neighbours(x):
        return sum(x[..., i:i + channels] for i in range(2 * radius + 1))

    def read(x):
        """The features without their padding, in float32, and what their power divides them by."""
        x = tf.cast(x, tf.float32)
        return x[..., radius:radius + channels], bias + alpha * over_neighbours(x * x)

    @_compiled
    def normalised(x):
        x, sums = read(x)
        return tf.cast(x * power(sums, -beta), dtype)

    @_compiled
    def weighted(x, dy):
        x, sums = read(x)
        return tf.cast(tf.cast(dy, tf.float32) * x * power(sums, -beta) / sums, dtype)

    @_compiled
    def gradient(x, dy, products):
        x, sums = read(x)
        products = over_neighbours(tf.cast(products, tf.float32))
        return tf.cast(tf.cast(dy, tf.float32) * power(sums, -beta) - 2 * alpha * beta * x * products, dtype)

    @tf.custom_gradient
    def normalise(x):
        x = padded(x)
        return normalised(x), lambda dy: gradient(x, dy, padded(weighted(x, dy)))

    with tf.name_scope(name) as scope:
        return tf.identity(normalise(features), name=scope)


def _compiled(function):
    """`function`, from tensors to a tensor, compiled by XLA for each shape of theirs.

    In a tf.xla.experimental.jit_scope, the first batch of a shape is not always compiled, so the last bits of what a training
    computes would depend on where it was resumed.
    """
    return tf.function(function, jit_compile=True, autograph=False)


def trained_lrn(features, radius, alpha, beta, bias, name="lrn"):
    """What alexnet.lrn computes, in float32 whatever the type of the features, with its gradient in closed form.

    y = x s^-beta, s = bias + alpha * (the sum of x^2 over the neighbours). By the chain rule the gradient to x is
    dy s^-beta - 2 alpha beta x (the sum of dy x s^(-beta - 1) over the neighbours): being a neighbour is mutual.

    It is for few photos, for which compiling `compiled_lrn` and its gradient would take longer than it saves.
    """
    channels = features.shape.as_list()[-1]

    def over_neighbours(x):
        neighbours = alpha * tf.linalg.band_part(tf.ones([channels, channels]), radius, radius)
        return tf.nn.conv2d(x, neighbours[None, None], strides=1, padding="SAME")

    @tf.custom_gradient
    def normalise(x):
        sums = tf.nn.bias_add(over_neighbours(x * x), bias * tf.ones([channels]))
        scale = power(sums, -beta)

        def gradient(dy):
            return dy * scale - 2 * beta * x * over_neighbours(dy * x * scale / sums)

        return x * scale, gradient

    with tf.name_scope(name) as scope:
        return tf.identity(tf.cast(normalise(tf.cast(features, tf.float32)), features.dtype), name=scope)


def trained_fc(features, W, b, relu=True, name="fc"):
    """What alexnet.fc computes, without the copy of W that TensorFlow's matrix product makes in every step, and its gradient.

    For few rows of features, oneDNN's kernels first copy the second factor of a tf.matmul to a layout of their own, by one
    thread, which takes longer than the product. As the first factor, and in a product of batches, W is read where it is.
    """
    product = tf.raw_ops.BatchMatMulV2

    @tf.custom_gradient
    def multiply(x, weights):
        y = tf.transpose(product(x=weights[None], y=x[None], adj_x=True, adj_y=True)[0])

        def gradient(dy):
            return tf.transpose(product(x=weights[None], y=dy[None], adj_y=True)[0]), tf.matmul(x, dy, transpose_a=True)

        return y, gradient

    with tf.name_scope(name) as scope:
        outputs = multiply(features, tf.convert_to_tensor(variable("weights", W, features.dtype)))
        biases = variable("biases", b, features.dtype)
        if not relu:
            return tf.add(outputs, biases, name=scope)
        return tf.nn.relu(outputs + biases, name=scope)


def transposed_fc(features, W, b, relu=True, name="fc"):
    """What alexnet.fc computes, with the transposed W in a variable: faster for one image, and in bfloat16 for any number.

    The variable is NAME/transposed_weights, so that no checkpoint of a finetuned model is taken for it.
    """
    def multiply(weights):
        return tf.matmul(features, weights, transpose_b=True)

    return _transposed_fc(multiply, W, b, features.dtype, relu, name)


def batched_fc(features, W, b, relu=True, name="fc"):
    """What transposed_fc computes, as a product of batches, of which there is one: faster for many images in float32.

    There W is the first factor. It is the second of a tf.matmul, which oneDNN copies to a layout of its own in every run.
    """
    def multiply(weights):
        return tf.transpose(tf.raw_ops.BatchMatMulV2(x=tf.convert_to_tensor(weights)[None], y=features[None], adj_y=True)[0])

    return _transposed_fc(multiply, W, b, features.dtype, relu, name)


def _transposed_fc(multiply, W, b, dtype, relu, name):
    with tf.name_scope(name) as scope:
        outputs = multiply(variable("transposed_weights", W.T, dtype))
        biases = variable("biases", b, dtype)
        if not relu:
            return tf.add(outputs, biases, name=scope)
        return tf.nn.relu(outputs + biases, name=scope)


def power(x, exponent):
    """x to the power of `exponent` (float). -0.75, which AlexNet needs, takes two square roots: a fifth of tf.pow's time."""
    if exponent != -0.75:
        return tf.pow(x, exponent)
    return tf.sqrt(tf.sqrt(x)) / x


def strided_conv2d(features, kernels, stride, padding):
    """tf.nn.conv2d(features, kernels, stride, padding), treating every `stride` adjacent pixels of a row as one wide pixel.

    features: [N, H, H, C], float32 or bfloat16; only N may be unknown. kernels: [K, K, C, outputs], K >= stride.
    Returns [N, M, M, outputs] of the dtype of the features.

    TensorFlow's convolution is slow for the 3 channels of a photo. 4 pixels side by side lie in memory as one pixel of 12
    channels would, so a reshape makes them one; kernels of 11x11 pixels are padded with zeros to 11x12, 11x3 wide pixels.
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
    features = tf.pad(features, [[0, 0], [before, below], [before, right], [0, 0]])
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
    return _images_first(_resized_products(features, kernels, stride, size))


def _resized_products(features, kernels, stride, size):
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


def _images_first(products):
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
