"""Layers of AlexNet that compute what the plain ones in alexnet.py do, in less time: hand them to `AlexNet` by name.

`for_few`, `for_many` and `for_training` choose them. benchmarks/bench.py measures them; tests check that all give the same
results.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from lab.network import devices, onednn, places_first, preprocessing
from lab.network.convolutions import images_first, resized_conv2d, resized_products, strided_conv2d
from lab.network.normalisation import compiled_lrn, trained_lrn
from lab.network.preprocessing import check_size
from lab.network.variables import variable
from lab.network.xla import compiled


def for_few(precision):
    """The layers for `AlexNet`, by name, with which it is fastest where this process runs: all but conv1.

    precision: "float32" or "bfloat16".
    """
    return {"conv": prepacked_conv} if onednn.has_prepacked(precision) else {}


def for_many(size, precision, batch=128):
    """The same for many images, with conv1. size: 227, or less to resize them. precision: "float32" or "bfloat16".

    batch: how many images the network takes at a time. If one by one, they must have 227x227 pixels.
    """
    if devices.gpu():
        return {"conv1": resized_conv if size < 227 else strided_conv}
    first = {"conv1": strided_conv, "norm": compiled_lrn}
    if size < 227:
        first = {"conv1": places_first.conv, "norm": places_first.lrn, "pool": places_first.max_pool}
    if devices.onednn(precision):
        first["fc"] = transposed_fc if precision == "bfloat16" or batch == 1 else batched_fc
    return for_few(precision) | first


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
    whole arrays: as one tf.reduce_sum it would take XLA six times as long. The tensor has a function `padded`, from what tf.pad
    takes to what it returns: padding the bytes first is quicker.
    """
    _, height, width, channels = images.shape.as_list()
    if devices.gpu() or height < 227:
        return tf.cast(preprocessing.subtract_mean(images), dtype)

    @compiled
    def sums_of_columns(pixels):
        pixels = tf.reshape(pixels, [-1, height, width * channels])
        return sum(tf.cast(pixels[:, row], tf.int32) for row in range(height))

    sums = tf.cast(tf.reduce_sum(sums_of_columns(images), axis=1), tf.float32)
    means = (sums / (height * width * channels))[:, None, None]

    def padded(paddings):
        _, rows, (before, after), _ = paddings
        around = [rows, (before * channels, after * channels)]
        inside = np.pad(np.ones([height, width * channels], np.float32), around)

        @compiled
        def subtract(pixels, means):
            return tf.cast((tf.cast(pixels, tf.float32) - means) * inside, dtype)

        pixels = tf.pad(tf.reshape(images, [-1, height, width * channels]), [(0, 0), *around])
        return tf.reshape(subtract(pixels, means), [-1, len(inside), before + width + after, channels])

    features = padded([[0, 0]] * 4)
    features.padded = padded
    return features


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
    @compiled
    def finish(products, biases):
        outputs = tf.nn.relu(tf.cast(products, tf.float32) + tf.cast(biases, tf.float32))
        return images_first(tf.cast(outputs, features.dtype))

    with tf.name_scope(name) as scope:
        products = resized_products(features, variable("weights", W, features.dtype), stride, size)
        biases = tf.convert_to_tensor(variable("biases", b, features.dtype))
        return tf.ensure_shape(finish(products, biases), [None, -(-size // stride), -(-size // stride), len(b)], name=scope)


def _layer(convolve, W, b, dtype, name):
    """ReLU(convolve(kernels) + bias), with variables of W and b."""
    with tf.name_scope(name) as scope:
        outputs = convolve(variable("weights", W, dtype))
        return tf.nn.relu(tf.nn.bias_add(outputs, variable("biases", b, dtype)), name=scope)


def trained_fc(features, W, b, relu=True, name="fc"):
    """What alexnet.fc computes, without the copy of W that TensorFlow's matrix product makes in every step, and its gradient.

    For few rows of features, oneDNN's kernels first copy the second factor of a tf.matmul to a layout of their own, by one
    thread, which takes longer than the product. As the first factor, and in a product of batches, W is read where it is.

    The variable and its gradient are float32 for bfloat16 features too: writing that gradient takes longer than computing it,
    and casting it as long again.
    """
    product = tf.raw_ops.BatchMatMulV2

    @tf.custom_gradient
    def multiply(x, weights):
        cast = tf.cast(weights, x.dtype)[None]
        y = tf.transpose(product(x=cast, y=x[None], adj_x=True, adj_y=True)[0])

        def gradient(dy):
            to_weights = tf.matmul(tf.cast(x, tf.float32), tf.cast(dy, tf.float32), transpose_a=True)
            return tf.transpose(product(x=cast, y=dy[None], adj_y=True)[0]), to_weights

        return y, gradient

    with tf.name_scope(name) as scope:
        outputs = multiply(features, tf.convert_to_tensor(variable("weights", W, tf.float32)))
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
