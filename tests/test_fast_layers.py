"""The fast layers compute what SciPy and NumPy do; resized_conv2d needs no resized images to convolve them."""

import numpy as np
import pytest
import scipy.signal
import tensorflow.compat.v1 as tf

import alexnet
from lab import cpu
from lab.network import convolutions, devices, fast_layers, normalisation, onednn, variables

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
        ours = session.run(convolutions.resized_conv2d(features, tf.constant(kernels), stride, size), {features: images})

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
        ours = convolutions.resized_conv2d(features, kernels, stride, size)
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
        ours = session.run(normalisation.power(tf.constant(x), exponent))
    np.testing.assert_allclose(ours, x.astype(np.float64) ** exponent, rtol=1e-5)


def normalised(x):
    """Local response normalisation as AlexNet's paper writes it, with large numbers, in float64."""
    padded = np.pad(np.square(x), [(0, 0)] * 3 + [(2, 2)])
    sums = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=3).sum(axis=-1)
    return x * (1 + 0.1 * sums) ** -0.75


@pytest.mark.parametrize("lrn", [normalisation.trained_lrn, normalisation.compiled_lrn])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_lrn_and_its_gradient_are_those_of_the_formula(lrn, dtype, tolerance):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 2, 3, 3, 8)).astype(tf.as_dtype(dtype).as_numpy_dtype)
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.constant(x)
        layer = lrn(features, radius=2, alpha=0.1, beta=0.75, bias=1.0, name="norm")
        assert layer.name == "norm:0" and layer.dtype == dtype
        ours, gradient = session.run([layer, tf.gradients(layer, features, tf.constant(dy))[0]])
    x, dy, step = x.astype(np.float64), dy.astype(np.float64), 1e-6
    theirs = np.empty_like(x)
    for i in np.ndindex(x.shape):
        more, less = x.copy(), x.copy()
        more[i], less[i] = x[i] + step, x[i] - step
        theirs[i] = (dy * (normalised(more) - normalised(less))).sum() / (2 * step)
    assert np.abs(ours.astype(np.float64) - normalised(x)).max() < tolerance * np.abs(normalised(x)).max()
    assert np.abs(gradient.astype(np.float64) - theirs).max() < tolerance * np.abs(theirs).max()


def test_compiled_lrn_gives_the_same_bits_in_the_first_run_of_each_size_and_later_ones():
    """Else a training that is resumed would not be bit-identical to an uninterrupted one."""
    x, dy = np.random.default_rng(0).standard_normal((2, 5, 9, 9, 24), np.float32)
    runs = []
    for sizes in ((5, 5, 3, 3, 5), (3, 5)):  # a process that goes on, and one that begins with the smaller last batch
        with tf.Graph().as_default(), tf.Session() as session:
            features, changes = (tf.placeholder(tf.float32, [None, 9, 9, 24]) for _ in range(2))
            layer = normalisation.compiled_lrn(features, radius=2, alpha=0.1, beta=0.75, bias=1.0)
            answers = [layer, tf.gradients(layer, features, changes)[0]]
            runs += [[a[:3].tobytes() for a in session.run(answers, {features: x[:n], changes: dy[:n]})] for n in sizes]
    assert len(runs) == 7 and all(run == runs[0] for run in runs)


@pytest.mark.parametrize("fc", [fast_layers.transposed_fc, fast_layers.batched_fc])
@pytest.mark.parametrize("relu", [True, False])
def test_an_fc_of_transposed_weights_is_a_matrix_product(fc, relu):
    rng = np.random.default_rng(0)
    x, W, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 7), (7, 3), (3,)))
    with tf.Graph().as_default(), tf.Session() as session:
        layer = fc(tf.constant(x), W, b, relu, name="fc6")
        assert layer.name == "fc6:0"
        session.run(tf.global_variables_initializer())
        ours = session.run(layer)
    y = x.astype(np.float64) @ W + b
    np.testing.assert_allclose(ours, np.maximum(y, 0) if relu else y, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not devices.onednn(), reason="TensorFlow's other kernels know no groups")
def test_a_grouped_convolution_is_scipys_in_each_group_of_channels():
    rng = np.random.default_rng(0)
    x, dy, W, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 6, 6, 8), (2, 6, 6, 4), (3, 3, 4, 4), (4,)))
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.constant(x)
        layer = fast_layers.grouped_conv(features, W, b, groups=2, name="conv2")
        gradients = tf.gradients(layer, [features, tf.trainable_variables("conv2/weights")[0]], tf.constant(dy))
        session.run(tf.global_variables_initializer())
        ours, to_features, to_weights = session.run([layer, *gradients])

    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    seen = [padded[..., 4 * (o // 2):4 * (o // 2) + 4] for o in range(4)]  # by each output channel
    theirs = np.stack([[scipy.signal.correlate(image, W[..., o], "valid")[..., 0] + b[o] for image in seen[o]]
                       for o in range(4)]).transpose(1, 2, 3, 0)
    np.testing.assert_allclose(ours, np.maximum(theirs, 0), rtol=1e-4, atol=1e-4)
    dy = np.where(theirs > 0, dy, 0)
    for o in range(4):  # the gradient of a kernel: the features that it saw, correlated with what came of them
        kernel = sum(scipy.signal.correlate(image, change[..., o, None], "valid") for image, change in zip(seen[o], dy))
        np.testing.assert_allclose(to_weights[..., o], kernel, rtol=1e-4, atol=1e-4)
    for group in range(2):  # the gradient of the features: what came of them, spread by the kernels
        back = np.stack([sum(scipy.signal.convolve(change[..., o, None], W[..., o]) for o in (2 * group, 2 * group + 1))
                         for change in dy])[:, 1:-1, 1:-1]
        np.testing.assert_allclose(to_features[..., 4 * group:4 * group + 4], back, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not onednn.has_prepacked(), reason="only oneDNN has such a convolution")
@pytest.mark.parametrize("size", [28, 5])
def test_a_prepacked_convolution_has_the_bits_of_the_plain_one_for_every_number_of_images(size):
    rng = np.random.default_rng(0)
    x, W, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, size, size, 96), (5, 5, 48, 256), (256,)))
    for dtype in (tf.float32, tf.bfloat16) if onednn.has_prepacked("bfloat16") else (tf.float32,):
        with tf.Graph().as_default(), tf.Session() as session:
            features = tf.placeholder(dtype, [None, size, size, 96])
            plain, prepacked = (conv(features, W, b, groups=2, name=name) for conv, name in
                                ((alexnet.conv, "plain"), (fast_layers.prepacked_conv, "prepacked")))
            assert prepacked.name == "prepacked:0" and prepacked.shape.as_list() == plain.shape.as_list()
            session.run(tf.global_variables_initializer())
            for count in (4, 1, 4, 3):
                theirs, ours = session.run([plain, prepacked], {features: x[:count].astype(dtype.as_numpy_dtype)})
                assert np.array_equal(ours, theirs) and theirs.any()
            with pytest.raises(LookupError):  # there is no gradient, and so no training of weights that it would not see
                tf.gradients(prepacked, features)


def test_bfloat16_has_the_plain_convolutions_where_onednn_has_none(monkeypatch):
    monkeypatch.setattr(cpu, "flags", lambda: {"avx2"})  # a laptop: oneDNN would fail, and TensorFlow knows no groups itself
    assert fast_layers.for_few("bfloat16") == {} and "conv" not in fast_layers.for_many(32, "bfloat16")
    assert ("conv" in fast_layers.for_few("float32")) == onednn.has_prepacked()


def test_the_mean_of_photos_is_subtracted_in_compiled_loops_too():
    photos = np.random.default_rng(0).integers(0, 256, (3, 227, 227, 3), np.uint8)
    photos[1], photos[2] = 255, photos[2] // 200  # the largest sum, and one in which few pixels count
    expected = photos - photos.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 227, 227, 3])
        for dtype, tolerance in ((tf.float32, 1e-7), (tf.bfloat16, 2 ** -8)):
            features = fast_layers.subtract_mean(images, dtype)
            assert features.dtype == dtype and features.shape.as_list() == images.shape.as_list()
            ours = session.run(features, {images: photos}).astype(np.float64)
            np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=128 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_compiled_conv_of_small_signs_has_the_bits_of_the_other(dtype):
    images, kernels = inputs(32, 11)
    biases = np.float32([0, 1, -2, 3])
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.cast(tf.placeholder_with_default(images, [None, 32, 32, 3]), dtype)
        layers = [layer(features, kernels, biases, stride=4, size=227)
                  for layer in (fast_layers.resized_conv, fast_layers.compiled_resized_conv)]
        session.run(tf.global_variables_initializer())
        plain, compiled = session.run(layers)
    assert layers[0].shape.as_list() == layers[1].shape.as_list() == [None, 57, 57, 4]
    assert np.array_equal(plain, compiled) and (plain == 0).any() and (plain > 0).any()


@pytest.mark.parametrize("relu", [True, False])
def test_trained_fc_and_its_gradients_are_those_of_matrix_products(relu):
    rng = np.random.default_rng(0)
    x, W, b, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 7), (7, 3), (3,), (5, 3)))
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.constant(x)
        layer = fast_layers.trained_fc(features, W, b, relu, name="fc6")
        gradients = tf.gradients(layer, [features, *tf.trainable_variables("fc6")], tf.constant(dy))
        session.run(tf.global_variables_initializer())
        ours = session.run([layer, *gradients])
    y = x.astype(np.float64) @ W + b
    dy = np.where(y > 0, dy, 0) if relu else dy
    for mine, theirs in zip(ours, (np.maximum(y, 0) if relu else y, dy @ W.T, x.T @ dy, dy.sum(axis=0))):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def test_weights_that_are_trained_stay_in_float32_while_the_layer_computes_in_bfloat16():
    W, b = np.float32([[1 + 2 ** -20]]), np.float32([0])
    with tf.Graph().as_default(), tf.Session() as session:
        with variables.in_float32():
            layer = fast_layers.trained_fc(tf.ones([1, 1], tf.bfloat16), W, b, name="fc6")
        weights, biases = tf.trainable_variables()
        session.run(tf.global_variables_initializer())
        assert weights.dtype.base_dtype == tf.float32 and weights.op.name == "fc6/weights" and session.run(weights) == W
        assert layer.dtype == tf.bfloat16 and session.run(layer) == 1
        assert tf.gradients(layer, weights)[0].dtype == tf.float32
