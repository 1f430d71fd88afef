"""alexnet.py is BVLC AlexNet: its layers agree with SciPy or NumPy in float64, its shapes with the published table."""

import functools

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import scipy.special
import tensorflow.compat.v1 as tf
from numpy.lib.stride_tricks import sliding_window_view

import alexnet
from alexnet import AlexNet
from lab.network import fast_layers, variables
from lab.network.normalisation import compiled_lrn
from lab.network.preprocessing import subtract_mean
from lab.network.variables import variable
from lab.network.weights import aligned_empty

TABLE = {  # each layer's output shape, as documented for BVLC AlexNet, with a SAME conv1
    "conv1": (57, 57, 96), "norm1": (57, 57, 96), "pool1": (28, 28, 96),
    "conv2": (28, 28, 256), "norm2": (28, 28, 256), "pool2": (13, 13, 256),
    "conv3": (13, 13, 384), "conv4": (13, 13, 384), "conv5": (13, 13, 256), "pool5": (6, 6, 256),
    "fc6": (4096,), "fc7": (4096,), "fc8": (1000,), "probabilities": (1000,),
}


def evaluate(build, *arrays):
    """Initialise the variables of `build(*tensors)` and return its value for `arrays` fed as the tensors."""
    with tf.Graph().as_default(), tf.Session() as session:
        placeholders = [tf.placeholder(tf.float32, array.shape) for array in arrays]
        output = build(*placeholders)
        session.run(tf.global_variables_initializer())
        return session.run(output, dict(zip(placeholders, arrays)))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def same_padding(size, kernel, stride):
    """Zeros before and after: as few as give ceil(size / stride) outputs; an odd one comes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def scipy_conv(x, W, b, stride, groups, same=True):
    """One image's convolution, bias and ReLU: SciPy's correlation of every output channel with its group of inputs."""
    inputs, outputs = W.shape[2], W.shape[3] // groups
    padding = [same_padding(size, kernel, stride) if same else (0, 0) for size, kernel in zip(x.shape[:2], W.shape[:2])]
    x = np.pad(x.astype(np.float64), [*padding, (0, 0)])
    channels = [scipy.signal.correlate(x[:, :, o // outputs * inputs:(o // outputs + 1) * inputs],
                                       W[..., o].astype(np.float64), mode="valid")[::stride, ::stride, 0]
                for o in range(W.shape[3])]
    return np.maximum(np.stack(channels, axis=-1) + b, 0)


def numpy_conv(x, W, b, stride, groups):
    """The same, faster for many channels: a matrix product over sliding windows."""
    padding = [same_padding(size, kernel, stride) for size, kernel in zip(x.shape[:2], W.shape[:2])]
    x = np.pad(x.astype(np.float64), [*padding, (0, 0)])
    halves = []
    for part, kernel in zip(np.split(x, groups, axis=2), np.split(W.astype(np.float64), groups, axis=3)):
        windows = sliding_window_view(part, W.shape[:2], axis=(0, 1))[::stride, ::stride]  # [H, W, C, height, width]
        halves.append(np.tensordot(windows, kernel, axes=([3, 4, 2], [0, 1, 2])))
    return np.maximum(np.concatenate(halves, axis=2) + b, 0)


def scipy_lrn(x):
    """Caffe's formula: local size 5, alpha 1e-4 over the size, beta 0.75, k 1."""
    squares = 5 * scipy.ndimage.uniform_filter1d(x.astype(np.float64) ** 2, 5, axis=-1, mode="constant")
    return x / (1 + 1e-4 / 5 * squares) ** 0.75


def scipy_max_pool(x):
    return scipy.ndimage.maximum_filter(x.astype(np.float64), (3, 3, 1))[1:-1:2, 1:-1:2]


@pytest.mark.parametrize("size, kernel, stride, groups", [
    (227, 11, 4, 1),  # conv1
    (28, 5, 1, 2),    # conv2
    (13, 3, 1, 1),    # conv3
    (13, 3, 1, 2),    # conv4 and conv5
    (14, 3, 2, 2),    # the extra zero of an odd SAME padding comes last
    (14, 4, 4, 1),    # VALID padding ignores the last two pixels
    (15, 3, 2, 1),
])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolution_is_scipys_with_padding_and_groups(size, kernel, stride, groups, padding):
    x, W, b = normal(2, size, size, 6), normal(kernel, kernel, 6 // groups, 4, seed=1), normal(4, seed=2)
    ours = evaluate(lambda features: alexnet.conv(features, W, b, stride, groups, padding), x)
    theirs = np.stack([scipy_conv(image, W, b, stride, groups, padding == "SAME") for image in x])
    assert error(ours, theirs) < 1e-4


@pytest.mark.parametrize("lrn", [alexnet.lrn, compiled_lrn])
def test_local_response_normalisation_is_caffes(lrn):
    x = 100 * normal(2, 7, 7, 16)  # large, so that the sum of squares counts
    ours = evaluate(functools.partial(lrn, **alexnet.LRN), x)
    theirs = np.stack([scipy_lrn(image) for image in x])
    assert error(ours, theirs) < 1e-4
    assert np.abs(theirs / x - 1).max() > 0.1


@pytest.mark.parametrize("size", [57, 28, 13])
def test_pooling_is_the_maximum_of_overlapping_windows(size):
    x = normal(2, size, size, 3)
    assert error(evaluate(alexnet.max_pool, x), np.stack([scipy_max_pool(image) for image in x])) == 0


def test_fully_connected_layer_is_a_matrix_product():
    x, W, b = normal(3, 50), normal(50, 20, seed=1), normal(20, seed=2)
    theirs = x.astype(np.float64) @ W + b
    assert error(evaluate(lambda features: alexnet.fc(features, W, b, relu=False), x), theirs) < 1e-4
    assert error(evaluate(lambda features: alexnet.fc(features, W, b), x), np.maximum(theirs, 0)) < 1e-4


def test_every_layer_at_full_size_computes_the_published_network(random_weights):
    image = 60 * normal(1, 227, 227, 3)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        features = tf.placeholder(tf.float32, [None, 227, 227, 3])
        AlexNet(features, weights=random_weights)
        session.run(tf.global_variables_initializer())
        layers = {name: graph.get_tensor_by_name(f"alexnet/{name}:0") for name in TABLE}
        out = session.run(layers, {features: image})
    assert {name: value.shape[1:] for name, value in out.items()} == TABLE

    W = random_weights
    out = {name: value[0] for name, value in out.items()}
    expected = {
        "conv1": numpy_conv(image[0], *W["conv1"], stride=4, groups=1),
        "norm1": scipy_lrn(out["conv1"]),
        "pool1": scipy_max_pool(out["norm1"]),
        "conv2": numpy_conv(out["pool1"], *W["conv2"], stride=1, groups=2),
        "norm2": scipy_lrn(out["conv2"]),
        "pool2": scipy_max_pool(out["norm2"]),
        "conv3": numpy_conv(out["pool2"], *W["conv3"], stride=1, groups=1),
        "conv4": numpy_conv(out["conv3"], *W["conv4"], stride=1, groups=2),
        "conv5": numpy_conv(out["conv4"], *W["conv5"], stride=1, groups=2),
        "pool5": scipy_max_pool(out["conv5"]),
        "fc6": np.maximum(out["pool5"].ravel() @ W["fc6"][0].astype(np.float64) + W["fc6"][1], 0),
        "fc7": np.maximum(out["fc6"] @ W["fc7"][0].astype(np.float64) + W["fc7"][1], 0),
        "fc8": out["fc7"] @ W["fc8"][0].astype(np.float64) + W["fc8"][1],
    }
    expected["probabilities"] = scipy.special.softmax(out["fc8"].astype(np.float64))
    assert {name: value for name in TABLE if (value := error(out[name], expected[name])) >= 1e-4} == {}


@pytest.mark.parametrize("layers", [fast_layers.for_training(32, 10), fast_layers.for_training(32, 1000),
                                    fast_layers.for_many(32, "float32"), fast_layers.for_many(32, "bfloat16")])
def test_signs_that_conv1_resizes_get_the_answers_of_resized_signs(layers, random_weights):
    photos = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3])
        signs = subtract_mean(images)
        AlexNet(signs, weights=random_weights, name="small", **layers)
        AlexNet(tf.image.resize_images(signs, (227, 227)), weights=random_weights, name="resized")
        session.run(tf.global_variables_initializer())
        layers = {name: [graph.get_tensor_by_name(f"{net}/{name}:0") for net in ("small", "resized")] for name in TABLE}
        out = session.run(layers, {images: photos})
    assert {name: value for name, pair in out.items() if (value := error(*pair)) >= 1e-4} == {}


@pytest.mark.parametrize("side", [227, 32])
def test_in_bfloat16_every_layer_is_nearly_the_same_in_half_the_memory(side, random_weights):
    images = scipy.ndimage.zoom(100 * normal(2, 5, 5, 3), (1, side / 5, side / 5, 1), order=1)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        features = tf.placeholder(tf.float32, [None, side, side, 3])
        layers = fast_layers.for_many(side, "bfloat16") if side == 32 else {}
        exact = AlexNet(features, weights=random_weights, name="exact", **layers)
        coarse = AlexNet(tf.cast(features, tf.bfloat16), weights=random_weights, name="coarse", **layers)
        assert exact.dtype == coarse.dtype == tf.float32
        assert {v.dtype.base_dtype for v in tf.trainable_variables("coarse/")} == {tf.bfloat16}
        session.run(tf.global_variables_initializer())
        layers = {name: [graph.get_tensor_by_name(f"{net}/{name}:0") for net in ("exact", "coarse")] for name in TABLE}
        out = session.run(layers, {features: images})
    distance = {name: np.linalg.norm(a - b.astype(np.float32)) / np.linalg.norm(a) for name, (a, b) in out.items()}
    assert max(distance.values()) < 0.02
    assert 1e-4 < distance["fc7"]  # not float32 under another name


def test_caffes_conv1_is_valid_and_all_shapes_from_pool2_on_are_the_same(random_weights):
    image = 60 * normal(1, 227, 227, 3)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        features = tf.placeholder(tf.float32, [None, 227, 227, 3])
        AlexNet(features, weights=random_weights, conv1=functools.partial(alexnet.conv, padding="VALID"))
        session.run(tf.global_variables_initializer())
        layers = {name: graph.get_tensor_by_name(f"alexnet/{name}:0") for name in TABLE}
        out = session.run(layers, {features: image})
    changed = {"conv1": (55, 55, 96), "norm1": (55, 55, 96), "pool1": (27, 27, 96),
               "conv2": (27, 27, 256), "norm2": (27, 27, 256)}
    assert {name: value.shape[1:] for name, value in out.items()} == TABLE | changed
    W, b = random_weights["conv1"]
    theirs = scipy_conv(image[0], W[..., ::24], b[::24], stride=4, groups=1, same=False)
    assert error(out["conv1"][0, ..., ::24], theirs) < 1e-4


def test_it_has_the_published_number_of_parameters_in_trainable_variables(random_weights):
    with tf.Graph().as_default():
        AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), weights=random_weights)
        variables = tf.trainable_variables()
    assert sum(v.shape.num_elements() for v in variables) == 60_965_224
    assert [v.name for v in variables[:3]] == ["alexnet/conv1/weights:0", "alexnet/conv1/biases:0",
                                               "alexnet/conv2/weights:0"]


def test_the_weights_are_not_stored_in_the_graph(random_weights):
    with tf.Graph().as_default() as graph:
        AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), weights=random_weights)
        assert graph.as_graph_def().ByteSize() < 1_000_000


def test_the_labs_calling_order_works_with_the_built_in_weights():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, (None, 227, 227, 3))
        probs = AlexNet(x)
        sess = tf.Session()
        sess.run(tf.global_variables_initializer())
        output = sess.run(probs, {x: 60 * normal(2, 227, 227, 3)})
        sess.close()
    assert output.shape == (2, 1000)
    np.testing.assert_allclose(output.sum(axis=1), 1, rtol=1e-5)
    assert ((output > 0).sum(axis=1) <= 202).all()


def test_feature_extraction_ends_at_fc7_and_a_second_net_has_variables_of_its_own(random_weights):
    with tf.Graph().as_default() as graph:
        fc7 = AlexNet(tf.placeholder(tf.float32, [5, 227, 227, 3]), feature_extract=True, weights=random_weights)
        assert (fc7.name, fc7.shape.as_list()) == ("alexnet/fc7:0", [5, 4096])
        assert not [op.name for op in graph.get_operations() if "fc8" in op.name or "probabilities" in op.name]
        again = AlexNet(tf.placeholder(tf.float32, [5, 227, 227, 3]), feature_extract=True, weights=random_weights)
        assert again.name == "alexnet_1/fc7:0"
        assert len(tf.global_variables()) == 2 * 14
        assert tf.global_variables()[14].name == "alexnet_1/conv1/weights:0"


def test_training_the_variables_never_writes_to_the_callers_arrays(random_weights):
    before = {layer: [array.copy() for array in pair] for layer, pair in random_weights.items()}
    with tf.Graph().as_default(), tf.Session() as session:
        AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), weights=random_weights)
        session.run(tf.global_variables_initializer())
        session.run([v.assign_add(tf.ones_like(v)) for v in tf.global_variables()])
        moved = session.run(tf.global_variables())
    for (layer, pair), (W, b) in zip(before.items(), zip(moved[::2], moved[1::2])):
        for kept, given, trained in zip(pair, random_weights[layer], (W, b)):
            assert np.array_equal(kept, given)
            assert np.array_equal(given + np.float32(1), trained)


def test_an_array_and_its_variable_do_not_share_memory_unless_nothing_is_trained():
    arrays = [aligned_empty((10, 100), np.dtype("float32")) for _ in range(2)]  # TensorFlow does not copy aligned arrays
    arrays.append(aligned_empty((1001,), np.dtype("float32"))[1:])
    for array in arrays:
        array[...] = 0
    with tf.Graph().as_default(), tf.Session() as session:
        copied = variable("copied", arrays[0], tf.float32)
        with variables.shared():
            shared, unaligned = (variable(f"shared{i}", array, tf.float32) for i, array in enumerate(arrays[1:]))
            rounded = variable("rounded", arrays[1], tf.bfloat16)
        session.run(tf.global_variables_initializer())
        for array in arrays:
            array += 1
        assert not session.run(copied).any() and session.run(shared).all()
        assert not session.run(unaligned).any() and not session.run(rounded).any()


def test_initial_values_come_from_the_cpu_even_if_the_network_is_on_a_gpu(random_weights):
    with tf.Graph().as_default() as graph, tf.device("/gpu:0"):
        AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), weights=random_weights)
    devices = {op.type: op.device for op in graph.get_operations()}
    assert "CPU" in devices["PyFunc"] and "GPU" in devices["Conv2D"]  # PyFunc has no kernel for a GPU


@pytest.mark.parametrize("features, refusal", [
    (lambda: tf.placeholder(tf.float32, [None, 224, 224, 3]), r"\[N, 227, 227, 3\].*224"),
    (lambda: tf.placeholder(tf.float32, [None, 32, 32, 3]), r"\[N, 227, 227, 3\].*32"),
    (lambda: tf.placeholder(tf.float32, [None, 227, 227, 4]), r"\[N, 227, 227, 3\].*4"),
    (lambda: tf.placeholder(tf.float32, [227, 227, 3]), r"\[N, 227, 227, 3\]"),
    (lambda: tf.placeholder(tf.float32, [None, None, None, 3]), r"\[N, 227, 227, 3\]"),
    (lambda: tf.placeholder(tf.float32), r"\[N, 227, 227, 3\].*unknown"),
    (lambda: tf.placeholder(tf.uint8, [None, 227, 227, 3]), "float32 or bfloat16, not uint8"),
    (lambda: np.zeros((1, 227, 227, 3), np.float32), "not ndarray"),
])
def test_other_features_are_refused_when_the_graph_is_built(features, refusal, random_weights):
    with tf.Graph().as_default(), pytest.raises((TypeError, ValueError), match=refusal):
        AlexNet(features(), weights=random_weights)


def test_it_must_be_built_in_a_graph():
    with pytest.raises(ValueError, match="Graph"):
        AlexNet(tf.zeros([1, 227, 227, 3]), weights={})


@pytest.mark.parametrize("change, refusal", [
    (lambda w: w.pop("fc8"), "fc8, not"),
    (lambda w: w.update(conv6=w["conv5"]), "conv6"),
    (lambda w: w.update(conv2=(np.zeros((5, 5, 96, 256), np.float32), w["conv2"][1])),
     r"conv2 weights .*\(5, 5, 96, 256\).*\(5, 5, 48, 256\)"),
    (lambda w: w.update(fc7=(w["fc7"][0], np.zeros(1000, np.float32))), r"fc7 biases .*\(1000,\).*\(4096,\)"),
    (lambda w: w.update(conv1=(w["conv1"][0].astype(np.float64), w["conv1"][1])), "conv1 weights are float64"),
    (lambda w: w.update(conv3=(w["conv3"][0], np.full(384, np.nan, np.float32))), "conv3 biases contain NaN or infinite"),
    (lambda w: w.update(conv3=(w["conv3"][0], np.float32([-np.inf] + [0] * 383))), "conv3 biases contain NaN or infinite"),
    (lambda w: w.update(conv1=w["conv1"][0]), "conv1 must be a pair"),
    (lambda w: w.update(conv1=[[1.0], [2.0]]), "conv1 weights must be an array, not list"),
])
def test_weights_that_do_not_fit_are_refused_with_layer_and_shapes(change, refusal, random_weights):
    wrong = dict(random_weights)
    change(wrong)
    with tf.Graph().as_default(), pytest.raises(ValueError, match=refusal):
        AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), weights=wrong)
