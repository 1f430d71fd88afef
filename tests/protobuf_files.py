"""Writes AlexNet as Caffe and the ONNX model zoo write it, field by field, from the published descriptions of the formats.

AlexNet's weights are a dict {"conv1": (W, b), ..., "fc8": (W, b)} in the lab's layout, of any sizes; fc6 follows 6x6 places,
or as many as its inputs are times conv5's outputs.
"""

import struct

import numpy as np

# V1LayerParameter's type, LayerParameter's type, and ONNX's operation.
KINDS = {"data": (5, "Data", None), "conv": (4, "Convolution", "Conv"), "relu": (18, "ReLU", "Relu"),
         "norm": (15, "LRN", "LRN"), "pool": (17, "Pooling", "MaxPool"),
         "flatten": (8, "Flatten", "Reshape"), "fc": (14, "InnerProduct", "Gemm"),
         "drop": (6, "Dropout", "Dropout"), "prob": (20, "Softmax", "Softmax"),
         "quantize": (None, None, "QuantizeLinear"), "dequantize": (None, None, "DequantizeLinear")}
ALEXNET = ("conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 flatten5 "
           "fc6 relu6 drop6 fc7 relu7 drop7 fc8 prob").split()
CAFFENET = "conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2".split() + ALEXNET[8:]
TORCHVISION = [name for name in ALEXNET if not name.startswith("norm")]


def varint(number):
    low, number = number & 127, number >> 7
    return bytes([low | 128]) + varint(number) if number else bytes([low])


def field(number, value):
    """A field: an int is a varint, a float 4 bytes, and a str, bytes or an array its length and its bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else value.astype("<f4").tobytes()
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(*fields):
    return b"".join(field(number, value) for number, value in fields)


def outputs_first(layers):
    """The arrays with outputs first, and fc6's inputs in the order (channel, row, column)."""
    channels = layers["conv5"][0].shape[-1]
    arrays = {}
    for name, (W, *biases) in layers.items():
        if W.ndim == 4:
            W = np.einsum("hwio->oihw", W)
        elif name == "fc6":
            W = np.einsum("pco->ocp", W.reshape(-1, channels, W.shape[1])).reshape(W.shape[::-1])
        else:
            W = W.T
        arrays[name] = np.ascontiguousarray(W), *biases
    return arrays


def kind(name):
    return KINDS[name.rstrip("0123456789")]


def caffemodel(layers, generation="layer", old_shapes=False, order=ALEXNET, bottoms=(), extra=()):
    """A NetParameter with `layer`, or with `layers` as in older files. ReLU and dropout work in place.

    old_shapes: the blobs have num, channels, height and width. bottoms: a dict of those that differ from the order of the
    layers. extra: more fields of every blob.
    """
    arrays, bottom, net = outputs_first(layers), None, [(1, "AlexNet")]
    for name in ("data", *order):
        number, text, _ = kind(name)
        top = bottom if text in ("ReLU", "Dropout") else name
        inputs = [dict(bottoms).get(name, bottom)] if bottom else []
        blobs = [blob(array, old_shapes, extra) for array in arrays.get(name, ())]
        if generation == "layer":
            net.append((100, message((1, name), (2, text), *((3, blob_name) for blob_name in inputs), (4, top),
                                     *((7, array) for array in blobs))))
        else:
            net.append((2, message(*((2, blob_name) for blob_name in inputs), (3, top), (4, name), (5, number),
                                   *((6, array) for array in blobs))))
        bottom = top
    return message(*net)


def blob(array, old_shapes, extra=()):
    """A BlobProto."""
    if old_shapes:
        return message(*enumerate((1,) * (4 - array.ndim) + array.shape, 1), (5, array), *extra)
    return message((5, array), (7, field(1, b"".join(map(varint, array.shape)))), *extra)


def onnx(layers, data="raw_data", order=ALEXNET, names="{}_{}_0", data_type=1, extra=()):
    """A ModelProto as in the zoo. names: of the initializers. extra: more fields of each initializer."""
    arrays, features, nodes, initializers = outputs_first(layers), "data_0", [], []
    for i, name in enumerate(order):
        inputs = [names.format(name, letter) for letter in "wb"[:len(arrays.get(name, ()))]]
        inputs += ["shape_0"] if name == "flatten5" else []
        nodes.append(message(*((1, text) for text in (features, *inputs)), (2, f"{name}_{i}"), (4, kind(name)[2]),
                             (5, message((1, "an attribute"), (3, 1)))))
        features = f"{name}_{i}"
    for name, pair in arrays.items():
        for letter, array in zip("wb", pair):
            numbers = {"raw_data": [(9, array)], "float_data": [(4, array)], "none": [],
                       "float_data, one by one": [(4, value) for value in array.ravel().tolist()]}[data]
            initializers.append(message(*((1, size) for size in array.shape), (2, data_type), (8, names.format(name, letter)),
                                        *numbers, *extra))
    initializers.append(message((1, 2), (2, 7), (8, "shape_0"), (9, struct.pack("<2q", 1, -1))))
    graph = message(*((1, node) for node in nodes), (2, "bvlc_alexnet"), *((5, array) for array in initializers))
    return message((1, 3), (2, "onnx-caffe2"), (7, graph), (8, message((1, ""), (2, 12))))
