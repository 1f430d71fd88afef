"""resized.py: convolving resized images needs no resized images, only the rules of both."""

import numpy as np
import pytest
import scipy.signal
import tensorflow.compat.v1 as tf

import resized

SIZES = [  # small, resized, kernel, stride
    (32, 227, 11, 4),  # conv1 on a sign
    (5, 9, 3, 1),
    (9, 30, 4, 3),     # an odd zero of SAME padding goes to the end
    (3, 50, 11, 4),    # all of the small image below every kernel
    (16, 16, 5, 2),    # nothing to resize
]


def inputs(small, kernel):
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, small, small, 3), np.float32), rng.standard_normal((kernel, kernel, 3, 4), np.float32)


@pytest.mark.parametrize("small, size, kernel, stride", SIZES)
def test_it_is_scipys_correlation_of_the_interpolated_image(small, size, kernel, stride):
    images, kernels = inputs(small, kernel)
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.placeholder(tf.float32, [None, small, small, 3])
        ours = session.run(resized.conv2d(features, tf.constant(kernels), size, stride), {features: images})

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
def test_its_gradients_are_those_of_resizing_and_convolving(small, size, kernel, stride):
    images, kernels = inputs(small, kernel)
    with tf.Graph().as_default(), tf.Session() as session:
        features, kernels = tf.constant(images), tf.constant(kernels)
        ours = resized.conv2d(features, kernels, size, stride)
        theirs = tf.nn.conv2d(tf.image.resize_images(features, (size, size)), kernels, stride, "SAME")
        gradients = [tf.gradients(tf.nn.l2_loss(answer), [features, kernels]) for answer in (ours, theirs)]
        for ours, theirs in zip(*session.run(gradients)):
            assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
