"""oneDNN's convolution of weights that never change, which TensorFlow has but offers for constants in the GraphDef only.

For weights in a variable, TensorFlow lets oneDNN reorder them to the layout of its kernels in every run. Its own kernels, which
it puts in a graph's place when the graph first runs, have an attribute against that. They are named here.
"""

import functools

import tensorflow.compat.v1 as tf

from lab.network import devices


def has_prepacked(precision="float32"):
    """Whether TensorFlow computes in `precision` with oneDNN's kernels here, and has the one that prepacked_conv2d names."""
    return devices.onednn(precision) and _is_known()


@functools.cache
def _is_known():
    with tf.Graph().as_default():
        features, kernels, biases = (tf.placeholder(tf.float32, [1] * rank) for rank in (4, 4, 1))
        try:
            prepacked_conv2d(features, kernels, biases, 1, "SAME")
        except ValueError:  # another version of TensorFlow
            return False
    return True


def prepacked_conv2d(features, kernels, biases, stride, padding):
    """tf.nn.relu(tf.nn.conv2d(features, kernels, stride, padding) + biases), with the kernels that the first run had.

    features: [N, H, W, C], float32 or bfloat16. kernels: [height, width, C / groups, outputs]. biases: [outputs].
    Returns [N, M, M, outputs] of the dtype of the features. There is no gradient.
    """
    inputs = {"features": features, "kernels": kernels, "biases": biases}
    inputs = {name: tf.convert_to_tensor(tensor) for name, tensor in inputs.items()}
    graph = tf.GraphDef()
    for name, tensor in inputs.items():
        placeholder = graph.node.add(name=name, op="Placeholder")
        placeholder.attr["dtype"].type = tensor.dtype.as_datatype_enum
    node = graph.node.add(name="conv2d", op="_MklNativeFusedConv2D", input=list(inputs))
    node.attr["_kernel"].s = b"MklNameChangeOp"  # the label under which TensorFlow keeps oneDNN's kernels
    node.attr["is_filter_const"].b = True
    node.attr["T"].type = features.dtype.as_datatype_enum
    node.attr["TArgs"].list.type.append(features.dtype.as_datatype_enum)
    node.attr["num_args"].i = 1
    node.attr["fused_ops"].list.s.extend([b"BiasAdd", b"Relu"])
    node.attr["strides"].list.i.extend([1, stride, stride, 1])
    node.attr["padding"].s = padding.encode()
    return tf.import_graph_def(graph, inputs, ["conv2d:0"], name="onednn")[0]
