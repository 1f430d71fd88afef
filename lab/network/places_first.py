"""conv1, norm1 and pool1 of many resized images, with the places of the output before the images in memory: [M * M, N, C].

The products of a resized convolution come in this order, and reordering takes a pass over memory, a quarter as long after
pool1 as before it. Each layer here returns what the plain one does, [N, M, M, C], which TensorFlow computes if it is fetched.
The tensor carries the other order as an attribute, and the next layer here starts from that.
"""

import functools

import tensorflow.compat.v1 as tf

from lab.network.convolutions import images_first, resized_products
from lab.network.normalisation import compiled_lrn, power
from lab.network.variables import variable
from lab.network.xla import compiled

MARGIN = 2  # zeros on both sides of the channels, for AlexNet's norm1: XLA's loops are slow where they have to find the edges


def conv(features, W, b, stride, size, name="conv"):
    """What fast_layers.resized_conv computes. What `lrn` starts from are the products, before the biases are added."""
    channels = len(b)
    with tf.name_scope(name) as scope:
        kernels = tf.pad(variable("weights", W, features.dtype), [[0, 0]] * 3 + [[MARGIN, MARGIN]])
        biases = tf.pad(variable("biases", b, features.dtype), [[MARGIN, MARGIN]])
        products = resized_products(features, kernels, stride, size)  # [M * M, N, MARGIN + C + MARGIN]
        outputs = tf.identity(images_first(tf.nn.relu(products + biases)[..., MARGIN:MARGIN + channels]), name=scope)
        outputs.products = products, biases
        return outputs


def lrn(features, radius, alpha, beta, bias, name="lrn"):
    """What alexnet.lrn computes, in float32 whatever the type of the features: after `conv`, in one pass with its ReLU."""
    if not hasattr(features, "products") or radius != MARGIN:
        return compiled_lrn(features, radius, alpha, beta, bias, name)
    channels, dtype = features.shape.as_list()[-1], features.dtype

    @compiled
    def normalise(products, biases):
        x = tf.nn.relu(tf.cast(products, tf.float32) + tf.cast(biases, tf.float32))
        sums = bias + alpha * sum(tf.square(x[..., i:i + channels]) for i in range(2 * radius + 1))
        return tf.cast(x[..., radius:radius + channels] * power(sums, -beta), dtype)

    with tf.name_scope(name) as scope:
        places = tf.ensure_shape(normalise(*features.products), features.products[0].shape[:2].concatenate(channels))
        outputs = tf.identity(images_first(places), name=scope)
        outputs.places = places
        return outputs


def max_pool(features, name="max_pool"):
    """What alexnet.max_pool computes. After `lrn`, each of a window's nine places is an array of all images and channels."""
    if not hasattr(features, "places"):
        return tf.nn.max_pool(features, ksize=3, strides=2, padding="VALID", name=name)
    _, _, edge, channels = features.shape.as_list()
    pooled_edge = (edge - 1) // 2

    @compiled
    def pooled(places):
        places = tf.reshape(places, [edge, edge, -1, channels])
        windows = [places[i:i + 2 * pooled_edge:2, j:j + 2 * pooled_edge:2] for i in range(3) for j in range(3)]
        return functools.reduce(tf.maximum, windows)

    with tf.name_scope(name) as scope:
        places = tf.reshape(pooled(features.places), [pooled_edge ** 2, -1, channels])
        return tf.identity(images_first(places), name=scope)
