"""AlexNet as a TensorFlow 1 graph, from raw weights.

The network of Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks" (NIPS
2012), in Caffe's version, BVLC AlexNet, as the lab defines it. Read `AlexNet` at the end first.
"""

import numpy as np
import tensorflow.compat.v1 as tf

import resized
import strided
from weights import check as check_weights
from weights import load as load_weights


def conv(features, W, b, stride=1, groups=1, padding="SAME", name="conv"):
    """ReLU(convolution + bias): [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), outputs] if SAME, dtype unchanged.

    W: float32 array [height, width, C / groups, outputs]. b: float32 array [outputs]. Each group of output channels
    sees its own group of input channels only, as on the two GPUs of the paper.
    """
    convolve = tf.nn.conv2d if stride == 1 else strided.conv2d
    with tf.name_scope(name) as scope:
        inputs = tf.split(features, groups, axis=3)
        kernels = tf.split(variable("weights", W, features.dtype), groups, axis=3)
        biases = tf.split(variable("biases", b, features.dtype), groups)
        # Bias and ReLU before the groups are put together: TensorFlow then does all three in one pass over memory.
        outputs = [tf.nn.relu(tf.nn.bias_add(convolve(x, kernel, stride, padding), bias))
                   for x, kernel, bias in zip(inputs, kernels, biases)]
        return tf.concat(outputs, axis=3, name=scope)


def resized_conv(features, W, b, size, stride, name="conv"):
    """What `conv` makes, SAME, of features [N, H, H, C] resized to [N, size, size, C], with far fewer products."""
    with tf.name_scope(name) as scope:
        outputs = resized.conv2d(features, variable("weights", W, features.dtype), size, stride)
        return tf.nn.relu(tf.nn.bias_add(outputs, variable("biases", b, features.dtype)), name=scope)


def lrn(features, name="lrn"):
    """Local response normalisation over channels, x / (1 + alpha * (sum of x^2 over 5 channels))^0.75, shape unchanged.

    Caffe writes alpha = 1e-4 and divides it by the 5 channels; TensorFlow does not divide: 2e-5. (The paper has the
    sum start from 2 instead of 1; BVLC's weights were trained with 1.)
    """
    with tf.name_scope(name) as scope:
        # A 1x1 convolution with a banded matrix and two square roots take less time than TensorFlow's own operation.
        channels = features.shape.as_list()[-1]
        neighbours = tf.linalg.band_part(tf.ones([channels, channels], features.dtype), 2, 2)[None, None]
        total = tf.nn.conv2d(features * features, 1e-4 / 5 * neighbours, strides=1, padding="SAME")
        root = tf.rsqrt(tf.nn.bias_add(total, tf.ones([channels], features.dtype)))
        return tf.multiply(features, root * tf.sqrt(root), name=scope)


def compiled_lrn(features, name="lrn"):
    """What `lrn` makes, in one loop that XLA compiles from these lines: one pass over memory where `lrn` takes six.

    It pays when many batches are run: the first takes a quarter of a second more, as does each other size of a batch.
    """
    with tf.name_scope(name) as scope, tf.xla.experimental.jit_scope():
        channels = features.shape.as_list()[-1]
        squares = tf.pad(features * features, [[0, 0], [0, 0], [0, 0], [2, 2]])
        total = sum(squares[..., i:i + channels] for i in range(5))
        root = tf.rsqrt(1 + 1e-4 / 5 * total)
        return tf.multiply(features, root * tf.sqrt(root), name=scope)


def max_pool(features, name="max_pool"):
    """Maximum over 3x3 windows at stride 2, which overlap, no padding: [N, H, W, C] to [N, (H - 1) // 2, (W - 1) // 2, C]."""
    return tf.nn.max_pool(features, ksize=3, strides=2, padding="VALID", name=name)


def fc(features, W, b, relu=True, name="fc"):
    """ReLU(features times W + b): [N, inputs] to [N, outputs], dtype unchanged; without the ReLU if `relu` is False.

    W: float32 array [inputs, outputs]. b: float32 array [outputs].
    """
    with tf.name_scope(name) as scope:
        outputs = tf.matmul(features, variable("weights", W, features.dtype))
        biases = variable("biases", b, features.dtype)
        if not relu:
            return tf.add(outputs, biases, name=scope)
        return tf.nn.relu(outputs + biases, name=scope)


def dropout(features, rate, seed, name="dropout"):
    """Each number dropped, made 0, with probability `rate`, else divided by 1 - rate; at rate 0 nothing is changed.

    rate: float32 tensor []. seed: int tensor [2]; the same seed drops the same numbers in every run.
    """
    with tf.name_scope(name) as scope:
        kept = tf.random.stateless_uniform(tf.shape(features), seed) >= rate
        return tf.multiply(features, tf.cast(kept, tf.float32) / (1 - rate), name=scope)


def variable(name, value, dtype):
    """A variable of `dtype`, float32 or bfloat16, that the initializer makes a copy of the float32 array `value`.

    A Python function hands the copy over when the initializer is run: as a constant the values would swell the GraphDef
    (to 233 MB for AlexNet), and the array itself, if it happens to be aligned to 64 bytes, would become the variable.
    """
    def initial_value():
        with tf.device("/cpu:0"):  # where Python is
            copy = tf.numpy_function(lambda: np.array(value, order="C"), [], tf.float32)
        return tf.cast(tf.ensure_shape(copy, value.shape), dtype)

    return tf.Variable(initial_value, shape=value.shape, dtype=dtype, name=name, use_resource=True)


def AlexNet(features, feature_extract=False, weights=None, name="alexnet", conv1_padding="SAME",
            dropout_rate=None, dropout_seed=None, compiled=False):
    """Build AlexNet on `features` in the current graph.

    features: a float32 tensor [N, 227, 227, 3], N static or not: RGB, 0 to 255, each image's own mean subtracted
        (preprocessing.preprocess makes it from photos). Or [N, 32, 32, 3], signs that are yet to be resized: conv1 sees to
        that, and the answers are those to the resized signs. Features in bfloat16 make the variables and all layers bfloat16:
        half the memory, and less time where the CPU has instructions for it.
    feature_extract: if True, end the network at fc7 for a new layer to be put there; fc8 is then not built.
    weights: {"conv1": (W, b), ..., "fc8": (W, b)}, float32 arrays of the shapes in weights.SHAPES; None means
        weights.load("auto").
    conv1_padding: "SAME", the lab's, or "VALID", Caffe's, with which BVLC's weights were trained: conv1 and norm1 are then
        [N, 55, 55, 96] and pool1 [N, 27, 27, 96], and from pool2 on all shapes are the same.
    dropout_rate, dropout_seed: what `dropout` takes, after fc6 and fc7, to train these layers; None means no dropout.
    compiled: compute norm1 and norm2 by `compiled_lrn`, for many batches of one size that are not trained on.
    name: the scope. A second call in the same graph gets "alexnet_1" and variables of its own, and so on.

    Returns fc7, float32 [N, 4096], or the softmax probabilities, float32 [N, 1000].

    The variables alexnet/conv1/weights, alexnet/conv1/biases, ... get their values from the arrays, which are never
    written to, when tf.global_variables_initializer() is run. Every output below can be fetched by its name, from
    "alexnet/conv1:0" to "alexnet/probabilities:0".

    Raises TypeError or ValueError for features of another type, dtype or shape and ValueError for weights that do not fit.
    """
    _check_features(features)
    if conv1_padding not in ("SAME", "VALID"):
        raise ValueError(f"conv1_padding must be SAME or VALID, not {conv1_padding!r}")
    if conv1_padding == "VALID" and features.shape[1] == 32:
        raise ValueError("conv1_padding VALID is for features [N, 227, 227, 3]: resize the signs before")
    if weights is None:
        weights = load_weights("auto")
    check_weights(weights)

    norm = compiled_lrn if compiled else lrn
    with tf.name_scope(name):
        if features.shape[1] == 32:
            conv1 = resized_conv(features, *weights["conv1"], size=227, stride=4, name="conv1")
        else:
            conv1 = conv(features, *weights["conv1"], stride=4, padding=conv1_padding, name="conv1")  # [N, 57, 57, 96]
        norm1 = norm(conv1, name="norm1")
        pool1 = max_pool(norm1, name="pool1")                              # [N, 28, 28, 96]
        conv2 = conv(pool1, *weights["conv2"], groups=2, name="conv2")     # [N, 28, 28, 256]
        norm2 = norm(conv2, name="norm2")
        pool2 = max_pool(norm2, name="pool2")                              # [N, 13, 13, 256]
        conv3 = conv(pool2, *weights["conv3"], name="conv3")               # [N, 13, 13, 384]
        conv4 = conv(conv3, *weights["conv4"], groups=2, name="conv4")     # [N, 13, 13, 384]
        conv5 = conv(conv4, *weights["conv5"], groups=2, name="conv5")     # [N, 13, 13, 256]
        pool5 = max_pool(conv5, name="pool5")                              # [N, 6, 6, 256]
        flat5 = tf.reshape(pool5, [-1, 6 * 6 * 256], name="flat5")         # [N, 9216]
        fc6 = fc(flat5, *weights["fc6"], name="fc6")                       # [N, 4096]
        if dropout_rate is not None:
            fc6 = dropout(fc6, dropout_rate, dropout_seed, name="dropout6")
        fc7 = fc(fc6, *weights["fc7"], name="fc7")                         # [N, 4096]
        if dropout_rate is not None:
            fc7 = dropout(fc7, dropout_rate, dropout_seed + [0, 1 << 30], name="dropout7")
        if feature_extract:
            return tf.cast(fc7, tf.float32)
        fc8 = fc(fc7, *weights["fc8"], relu=False, name="fc8")             # [N, 1000]
        return tf.nn.softmax(tf.cast(fc8, tf.float32), name="probabilities")


def _check_features(features):
    if tf.executing_eagerly():
        raise ValueError("AlexNet is built in a graph: call it inside `with tf.Graph().as_default():`")
    if not isinstance(features, (tf.Tensor, tf.Variable)):
        raise TypeError(f"features must be a tensor, not {type(features).__name__}")
    if features.dtype.base_dtype not in (tf.float32, tf.bfloat16):
        raise TypeError(f"features must be float32 or bfloat16, not {features.dtype.name}; preprocessing.preprocess makes "
                        "them float32")
    if features.shape.rank != 4 or features.shape.as_list()[1:] not in ([227, 227, 3], [32, 32, 3]):
        raise ValueError(f"features must have shape [N, 227, 227, 3] or [N, 32, 32, 3], not {features.shape}")
