"""Writes AlexNet as Caffe and the ONNX model zoo write it, field by field, from the published descriptions of the formats.

AlexNet's weights are a dict {"conv1": (W, b), ..., "fc8": (W, b)} in the lab's layout, of any sizes; fc6 follows 6x6 places,
or as many as its inputs are times conv5's outputs.
"""

import struct

import numpy as np

KINDS = {"conv": (4, "Convolution", "Conv"), "relu": (18, "ReLU", "Relu"), "norm": (15, "LRN", "LRN"),
         "pool": (17, "Pooling", "MaxPool"), "reshape": (8, "Flatten", "Reshape"), "fc": (14, "InnerProduct", "Gemm"),
         "drop": (6, "Dropout", "Dropout"), "prob": (20, "Softmax", "Softmax")}
ALEXNET = ("conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 reshape5 fc6 relu6 drop6 "
           "fc7 relu7 drop7 fc8 prob").split()
CAFFENET = ("conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 reshape5 fc6 relu6 drop6 "
            "fc7 relu7 drop7 fc8 prob").split()
TORCHVISION = ("conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 reshape5 fc6 relu6 drop6 "
               "fc7 relu7 drop7 fc8 prob").split()


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
    for name, (W, b) in layers.items():
        if W.ndim == 4:
            W = np.einsum("hwio->oihw", W)
        elif name == "fc6":
            W = np.einsum("pco->ocp", W.reshape(-1, channels, W.shape[1])).reshape(W.shape[::-1])
        else:
            W = W.T
        arrays[name] = np.ascontiguousarray(W), b
    return arrays


def caffemodel(layers, generation="layer", old_shapes=False, order=ALEXNET, extra=()):
    """A NetParameter with `layer`, of 2014 and since, or `layers`, before. ReLU and dropout work in place.

    old_shapes: the blobs have num, channels, height and width. extra: more fields of every blob.
    """
    arrays, new = outputs_first(layers), generation == "layer"
    features, parts = "data", [field(1, "AlexNet")]
    for name in ("data", *order):
        number, kind, _ = KINDS.get(name[:-1] if name != "prob" else name, (5, "Data", None))
        top = features if kind in ("ReLU", "Dropout") else name
        blobs = [blob(array, old_shapes, extra) for array in arrays.get(name, ())]
        bottoms = [] if name == "data" else [features]
        if new:
            body = [(1, name), (2, kind), *((3, bottom) for bottom in bottoms), (4, top), *((7, b) for b in blobs)]
        else:
            body = [*((2, bottom) for bottom in bottoms), (3, top), (4, name), (5, number), *((6, b) for b in blobs)]
        parts.append(field(100 if new else 2, message(*body)))
        features = top
    return b"".join(parts)


def blob(array, old_shapes, extra=()):
    """A BlobProto."""
    if old_shapes:
        shape = [*enumerate((1,) * (4 - array.ndim) + array.shape, 1)]
        return message(*shape, (5, array), *extra)
    return message((5, array), (7, field(1, b"".join(map(varint, array.shape)))), *extra)


def onnx(layers, data="raw_data", order=ALEXNET, extra=(), operation="{}", data_type=1):
    """A ModelProto of the zoo's. extra: more fields of every initializer. operation: how a node's operation is called."""
    arrays, nodes, initializers, features = outputs_first(layers), [], [], "data_0"
    for i, name in enumerate(order):
        inputs = [f"{name}_w_0", f"{name}_b_0"] if name in arrays else ["shape_0"] if name == "reshape5" else []
        kind = KINDS[name[:-1] if name != "prob" else name][2]
        nodes.append(message(*((1, text) for text in (features, *inputs)), (2, f"{name}_{i}"), (4, operation.format(kind)),
                             (5, message((1, "an attribute"), (3, 1)))))
        features = f"{name}_{i}"
    for name, pair in arrays.items():
        for letter, array in zip("wb", pair):
            numbers = {"raw_data": [(9, array)], "float_data": [(4, array)], "none": [],
                       "float_data, one by one": [(4, value) for value in array.ravel().tolist()]}[data]
            initializers.append(message(*((1, size) for size in array.shape), (2, data_type), (8, f"{name}_{letter}_0"),
                                        *numbers, *extra))
    initializers.append(message((1, 2), (2, 7), (8, "shape_0"), (9, struct.pack("<2q", 1, -1))))
    graph = message(*((1, node) for node in nodes), (2, "bvlc_alexnet"), *((5, array) for array in initializers))
    return message((1, 3), (2, "onnx-caffe2"), (7, graph), (8, message((1, ""), (2, 12))))
