"""The fast layers compute what SciPy and NumPy do; resized_conv2d needs no resized images to convolve them."""

import numpy as np
import pytest
import scipy.signal
import tensorflow.compat.v1 as tf

from lab.network import fast_layers

SIZES = [  # small, resized, kernel, stride
    (32, 227, 11, 4),  # conv1 on a sign
    (5, 9, 3, 1),
    (9, 30, 4, 3),     # the extra zero of an odd SAME padding comes last
    (3, 50, 11, 4),    # every kernel covers the whole small image
    (16, 16, 5, 2),    # nothing to resize
]


def inputs(small, kernel):
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, small, small, 3), np.float32), rng.standard_normal((kernel, kernel, 3, 4), np.float32)


@pytest.mark.parametrize("small, size, kernel, stride", SIZES)
def test_resized_conv2d_is_scipys_correlation_of_the_interpolated_image(small, size, kernel, stride):
    images, kernels = inputs(small, kernel)
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.placeholder(tf.float32, [None, small, small, 3])
        ours = session.run(fast_layers.resized_conv2d(features, tf.constant(kernels), stride, size), {features: images})

    matrix = np.stack([np.interp(np.arange(size) * small / size, np.arange(small), unit) for unit in np.eye(small)], axis=1)
    large = np.einsum("ya,xb,nabc->nyxc", matrix, matrix, images)
    places = -(-size // stride)
    zeros = max((places - 1) * stride + kernel - size, 0)
    padded = np.pad(large, [(0, 0), *[(zeros // 2, zeros - zeros // 2)] * 2, (0, 0)])
    theirs = np.stack([[scipy.signal.correlate(image, kernels[..., o], "valid")[::stride, ::stride, 0] for o in range(4)]
                       for image in padded]).transpose(0, 2, 3, 1)
    assert ours.shape == theirs.shape == (2, places, places, 4)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("small, size, kernel, stride", SIZES)
def test_the_gradients_of_resized_conv2d_are_those_of_resizing_and_convolving(small, size, kernel, stride):
    images, kernels = inputs(small, kernel)
    with tf.Graph().as_default(), tf.Session() as session:
        features, kernels = tf.constant(images), tf.constant(kernels)
        ours = fast_layers.resized_conv2d(features, kernels, stride, size)
        theirs = tf.nn.conv2d(tf.image.resize_images(features, (size, size)), kernels, stride, "SAME")
        gradients = [tf.gradients(tf.nn.l2_loss(answer), [features, kernels]) for answer in (ours, theirs)]
        for ours, theirs in zip(*session.run(gradients)):
            assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("side, kernel, stride", [(227, 11, 4), (15, 4, 4), (14, 3, 2), (17, 5, 3)])
def test_a_strided_convolution_on_wide_pixels_is_scipys(side, kernel, stride, padding):
    images, kernels = inputs(side, kernel)
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.placeholder(tf.float32, [None, side, side, 3])
        layer = fast_layers.strided_conv(features, kernels, np.float32([0, 1, 2, 3]), stride=stride, size=side, padding=padding)
        session.run(tf.global_variables_initializer())
        ours = session.run(layer, {features: images})

    zeros = max((-(-side // stride) - 1) * stride + kernel - side, 0) * (padding == "SAME")
    padded = np.pad(images, [(0, 0), *[(zeros // 2, zeros - zeros // 2)] * 2, (0, 0)])
    theirs = np.stack([[scipy.signal.correlate(image, kernels[..., o], "valid")[::stride, ::stride, 0] for o in range(4)]
                       for image in padded]).transpose(0, 2, 3, 1)
    assert np.abs(ours - np.maximum(theirs + [0, 1, 2, 3], 0)).max() < 1e-4 * np.abs(theirs).max()


def test_features_of_another_size_are_refused():
    with tf.Graph().as_default(), pytest.raises(ValueError, match=r"\[N, 227, 227, 3\], not .*224"):
        features = tf.placeholder(tf.float32, [None, 224, 224, 3])
        fast_layers.strided_conv(features, np.zeros((11, 11, 3, 4), np.float32), np.zeros(4, np.float32), stride=4, size=227)


@pytest.mark.parametrize("exponent", [-0.75, -0.5, 2.0])
def test_powers_are_numpys(exponent):
    x = np.random.default_rng(0).uniform(0.5, 5000, 1000).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        ours = session.run(fast_layers.power(tf.constant(x), exponent))
    np.testing.assert_allclose(ours, x.astype(np.float64) ** exponent, rtol=1e-5)
