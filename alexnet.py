"""AlexNet as a TensorFlow 1 graph, from raw weights.

The network of Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks" (NIPS
2012), in Caffe's version, BVLC AlexNet, as the lab defines it. Read `AlexNet`, the last function, first.
"""

import tensorflow.compat.v1 as tf

from lab.network import weights as weight_files
from lab.network.normalisation import power
from lab.network.preprocessing import check_features, check_size
from lab.network.variables import variable

# Local response normalisation. Caffe writes alpha = 1e-4 and divides it by the 5 channels; `lrn` does not divide. The paper
# has a bias of 2; BVLC's weights were trained with 1.
LRN = {"radius": 2, "alpha": 1e-4 / 5, "beta": 0.75, "bias": 1.0}


def conv(features, W, b, stride=1, groups=1, padding="SAME", size=None, name="conv"):
    """ReLU(convolution + bias), dtype unchanged.

    [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), outputs] if SAME; if VALID, without the places at the edges.

    W: float32 array [height, width, C / groups, outputs]. b: float32 array [outputs]. Each group of output channels
    sees its own group of input channels only, as on the two GPUs of the paper.
    size: the height and width that the features must have; None for any. Raises ValueError for others.
    """
    check_size(features, size)
    with tf.name_scope(name) as scope:
        inputs = tf.split(features, groups, axis=3)
        kernels = tf.split(variable("weights", W, features.dtype), groups, axis=3)
        biases = tf.split(variable("biases", b, features.dtype), groups)
        # Bias and ReLU before the groups are concatenated: TensorFlow then does all three in one pass over memory.
        outputs = [tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, padding), bias))
                   for x, kernel, bias in zip(inputs, kernels, biases)]
        return tf.concat(outputs, axis=3, name=scope)


def lrn(features, radius, alpha, beta, bias, name="lrn"):
    """Local response normalisation over the channels of [N, H, W, C], C static; shape and dtype unchanged.

    x / (bias + alpha * sum)^beta, where sum is that of x^2 over the channel itself and `radius` channels on each side.
    """
    with tf.name_scope(name) as scope:
        # The sums are a product with a banded matrix, here a 1x1 convolution: faster than TensorFlow's own LRN.
        channels = features.shape.as_list()[-1]
        neighbours = tf.linalg.band_part(tf.ones([channels, channels], features.dtype), radius, radius)
        sums = tf.nn.conv2d(features * features, alpha * neighbours[None, None], strides=1, padding="SAME")
        sums = tf.nn.bias_add(sums, bias * tf.ones([channels], features.dtype))
        return tf.multiply(features, power(sums, -beta), name=scope)


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


def no_dropout(features, name="dropout"):
    """Return `features` unchanged. Dropout exists only while AlexNet itself is trained: lab.training.steps has it."""
    return features


def AlexNet(features, feature_extract=False, weights=None, conv1=conv, conv=conv, norm=lrn, pool=max_pool, fc=fc,
            dropout=no_dropout, name="alexnet"):
    """Build AlexNet on `features` in the current graph.

    features: float32 tensor [N, 227, 227, 3], N static or not: RGB, 0 to 255, each image's own mean subtracted. With
        bfloat16 features the variables and all layers are bfloat16 too, in half the memory.
    feature_extract: the layer at which the network ends, for a new layer to follow: "pool5", "fc6" or "fc7". True means
        "fc7", as in the lab. What comes after it is not built.
    weights: {"conv1": (W, b), ..., "fc8": (W, b)}, float32 arrays with the shapes in lab.network.weights.SHAPES; None means
        lab.network.weights.load("auto").
    conv1, conv, norm, pool, fc, dropout: functions that build the first convolution, the others, norm1 and norm2, the max
        pools, the fully connected layers, and dropout after fc6 and fc7. They are called as conv1(features, W, b, stride=,
        size=, name=), conv(features, W, b, groups=, name=), norm(features, radius=, alpha=, beta=, bias=, name=),
        pool(features, name=), fc(features, W, b, relu=, name=) and dropout(features, name=). The defaults are the plain
        forms; lab.network.fast_layers has faster ones. A conv1 that resizes, such as fast_layers.resized_conv, takes smaller
        features than 227x227.
    name: the scope. A second call in the same graph gets "alexnet_1" and variables of its own, and so on.

    Returns the softmax probabilities, float32 [N, 1000], or the output of the last layer built, float32: pool5 flattened, row
    by row, [N, 9216], or fc6 or fc7, after dropout if there is any, [N, 4096].

    tf.global_variables_initializer() gives the variables alexnet/conv1/weights, alexnet/conv1/biases, ... copies of the
    arrays. Every layer can be fetched by its name, from "alexnet/conv1:0" to "alexnet/probabilities:0".

    Raises TypeError or ValueError for features of another type, dtype or shape, and ValueError for weights that do not fit and
    for any other value of feature_extract.
    """
    check_features(features)
    if feature_extract not in (False, True, "pool5", "fc6", "fc7"):
        raise ValueError(f"feature_extract must be False, True, pool5, fc6 or fc7, not {feature_extract!r}")
    if weights is None:
        weights = weight_files.load("auto")
    weight_files.check(weights)

    with tf.name_scope(name):
        conv1 = conv1(features, *weights["conv1"], stride=4, size=227, name="conv1")  # [N, 57, 57, 96]
        norm1 = norm(conv1, **LRN, name="norm1")
        pool1 = pool(norm1, name="pool1")                                             # [N, 28, 28, 96]
        conv2 = conv(pool1, *weights["conv2"], groups=2, name="conv2")                # [N, 28, 28, 256]
        norm2 = norm(conv2, **LRN, name="norm2")
        pool2 = pool(norm2, name="pool2")                                             # [N, 13, 13, 256]
        conv3 = conv(pool2, *weights["conv3"], name="conv3")                          # [N, 13, 13, 384]
        conv4 = conv(conv3, *weights["conv4"], groups=2, name="conv4")                # [N, 13, 13, 384]
        conv5 = conv(conv4, *weights["conv5"], groups=2, name="conv5")                # [N, 13, 13, 256]
        pool5 = pool(conv5, name="pool5")                                             # [N, 6, 6, 256]
        flat5 = tf.reshape(pool5, [-1, 6 * 6 * 256], name="flat5")                    # [N, 9216]
        if feature_extract == "pool5":
            return tf.cast(flat5, tf.float32)
        fc6 = fc(flat5, *weights["fc6"], name="fc6")                                  # [N, 4096]
        drop6 = dropout(fc6, name="dropout6")
        if feature_extract == "fc6":
            return tf.cast(drop6, tf.float32)
        fc7 = fc(drop6, *weights["fc7"], name="fc7")                                  # [N, 4096]
        drop7 = dropout(fc7, name="dropout7")
        if feature_extract:
            return tf.cast(drop7, tf.float32)
        fc8 = fc(drop7, *weights["fc8"], relu=False, name="fc8")                      # [N, 1000]
        return tf.nn.softmax(tf.cast(fc8, tf.float32), name="probabilities")
