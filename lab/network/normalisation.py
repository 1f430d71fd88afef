"""Local response normalisation that computes what alexnet.lrn does, for training and in compiled loops."""

import tensorflow.compat.v1 as tf

from lab.network.xla import compiled


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

    @compiled
    def normalised(x):
        x, sums = read(x)
        return tf.cast(x * power(sums, -beta), dtype)

    @compiled
    def weighted(x, dy):
        x, sums = read(x)
        return tf.cast(tf.cast(dy, tf.float32) * x * power(sums, -beta) / sums, dtype)

    @compiled
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


def power(x, exponent):
    """x to the power of `exponent` (float). -0.75, which AlexNet needs, takes two square roots: a fifth of tf.pow's time."""
    if exponent != -0.75:
        return tf.pow(x, exponent)
    return tf.sqrt(tf.sqrt(x)) / x
