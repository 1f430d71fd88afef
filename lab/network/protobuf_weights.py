"""Reads AlexNet's weights from Caffe's and ONNX's files, which are protocol buffers. It needs neither of them, nor protobuf.

A protocol buffer (https://protobuf.dev/programming-guides/encoding/) is a sequence of numbered fields, each of which says how
long it is. So this module finds the arrays, and checks what they are and how large, before it reads any of them.

The numbers of the fields are those of caffe/src/caffe/proto/caffe.proto and onnx/onnx/onnx.proto.
"""

import collections
import math
import os

import numpy as np

from lab.files import BadInput, DiskError, shorten

CAFFE, ONNX = "bvlc_alexnet.caffemodel", "bvlcalexnet-12.onnx"  # the published files, which messages name

# The layers in the order in which the features pass them, which is their order in a file too.
_ALEXNET = "conv norm pool conv norm pool conv conv conv pool fc fc fc".split()
_CAFFENET = "conv pool norm conv pool norm conv conv conv pool fc fc fc".split()
_CAFFE_KINDS = {4: "conv", 14: "fc", 15: "norm", 17: "pool",  # the types of `layers`, and of `layer`
                "Convolution": "conv", "InnerProduct": "fc", "LRN": "norm", "Pooling": "pool"}
_ONNX_KINDS = {"Conv": "conv", "Gemm": "fc", "LRN": "norm", "MaxPool": "pool"}
_ONNX_FLOAT = 1  # TensorProto.DataType.FLOAT

# Limits, since every field takes time and memory. AlexNet has about a thousand fields; 244 MB have room for 100 million.
_MOST_FIELDS = 20_000
_LONGEST_NAME = 1000  # bytes
_LONGEST_SHAPE = 50  # bytes

# A layer: `kind` is a word of _ALEXNET or None, `inputs` and `outputs` are names, `arrays` are _Arrays.
_Layer = collections.namedtuple("_Layer", "kind inputs outputs arrays")

# An array in the file: its shape, the spans of its float32 numbers, and why it cannot be read, else None.
_Array = collections.namedtuple("_Array", "shape spans flaw")


def read(file, path, shapes):
    """The weights in the binary `file`: {"conv1": (W, b), ...}, or None if it is neither Caffe's nor ONNX's.

    path: the file's name, for errors. shapes: {"conv1": the shape of W, ...}, as lab.network.weights.SHAPES.

    W and b are float32 arrays in C order and in the lab's layout: kernels [height, width, inputs of a group, outputs], and
    matrices [inputs, outputs], where the inputs of fc6 are in the order (row, column, channel). In the files the outputs come
    first and the inputs of fc6 are in the order (channel, row, column).

    Raises BadInput for a file that is damaged, or that does not hold AlexNet as Berkeley published it, in float32.
    """
    messages = _Messages(file)
    try:
        fields, whole = messages.outermost()
        if isinstance(_last(fields, 1), int):  # ModelProto.ir_version
            if whole and not fields[7]:
                if fields[3]:  # SolverState.history
                    raise BadInput(f"is Caffe's .solverstate, which has no weights: use the .caffemodel beside it or {CAFFE}")
                return None
            read_network, published = _read_onnx, ONNX
        elif (fields[2] or fields[100]) and len(fields[1]) < 2:  # NetParameter.layers, layer, and name
            read_network, published = _read_caffe, CAFFE
        else:
            return None
        try:
            if not whole:
                raise _Damaged
            return read_network(messages, fields, shapes)
        except _Damaged as error:
            raise BadInput(f"{str(error) or 'is damaged or cut short'}: get the file again, or use {published}") from error
    except DiskError:
        raise
    except BadInput as error:
        raise BadInput(f"{path} {error}") from error


def _read_caffe(messages, net, shapes):
    """The weights in a NetParameter: in its `layer` (100), or in older files its `layers` (2)."""
    kind, bottom, top, blobs = (2, 3, 4, 7) if net[100] else (5, 2, 3, 6)
    layers = []
    for span in net[100] or net[2]:
        fields = messages.fields(span)
        if not net[100] and fields[1]:  # V1LayerParameter.layer, a V0LayerParameter
            raise BadInput(f"is of Caffe's oldest format (layers.layer): use {CAFFE}, or convert it with Caffe's "
                           "upgrade_net_proto_binary")
        name = _last(fields, kind, 0)
        layers.append(_Layer(_CAFFE_KINDS.get(name if isinstance(name, int) else messages.text(name)),
                             messages.texts(fields[bottom]), messages.texts(fields[top]),
                             [_caffe_array(messages, blob) for blob in fields[blobs]]))
    return _weights(messages, layers, shapes, CAFFE)


def _caffe_array(messages, span):
    """The _Array in a BlobProto, whose shape is `shape` (7), or in older files num, channels, height, width (1 to 4)."""
    blob = messages.fields(span)
    shape = messages.numbers(messages.fields(_last(blob, 7))[1] if blob[7] else [_last(blob, i, 0) for i in (1, 2, 3, 4)])
    return _Array(shape, blob[5], f"holds float64 numbers, where AlexNet's are float32: use {CAFFE}" if blob[8] else None)


def _read_onnx(messages, model, shapes):
    """The weights in a ModelProto."""
    graph = messages.fields(_last(model, 7))
    arrays = dict(_onnx_array(messages, span) for span in graph[5])
    layers, operations = [], []
    for span in graph[1]:
        node = messages.fields(span)
        operations.append(messages.text(_last(node, 4)))
        inputs = messages.texts(node[1])
        layers.append(_Layer(_ONNX_KINDS.get(operations[-1]), inputs, messages.texts(node[2]),
                             [arrays[name] for name in inputs[1:] if name in arrays]))
    if any("quantize" in operation.lower() for operation in operations):
        raise BadInput(f"is an int8 edition, whose weights are rounded: use {ONNX}")
    if any(layer.kind == "conv" and layer.arrays and layer.arrays[0].shape == (64, 3, 11, 11) for layer in layers):
        raise BadInput(f"is torchvision's AlexNet, whose conv1 has 64 channels where the lab's has 96: use {ONNX}")
    return _weights(messages, layers, shapes, ONNX)


def _onnx_array(messages, span):
    """The name of a TensorProto and its _Array."""
    tensor = messages.fields(span)
    flaw = None
    if tensor[13] or _last(tensor, 14):
        flaw = f"keeps its weights in another file (ONNX's external data): use {ONNX}, which holds them itself"
    elif _last(tensor, 2) != _ONNX_FLOAT:
        flaw = f"holds weights of ONNX's data type {_last(tensor, 2)}, where AlexNet's are float32: use {ONNX}"
    return messages.text(_last(tensor, 8)), _Array(messages.numbers(tensor[1]), tensor[9] + tensor[4], flaw)


def _weights(messages, layers, shapes, published):
    """The weights of the network that the _Layers `layers` are, as `read` returns them."""
    layers = [layer for layer in layers if layer.kind]
    kinds = [layer.kind for layer in layers]
    pooled = {name for layer in layers if layer.kind == "pool" for name in layer.outputs}
    pools_first = any(layer.kind == "norm" and pooled.intersection(layer.inputs) for layer in layers)
    if kinds == _CAFFENET or kinds == _ALEXNET and pools_first:
        raise BadInput("is CaffeNet, which has AlexNet's shapes but pools before it normalises, so that in AlexNet its "
                       f"answers would be wrong: use {published}")
    if kinds != _ALEXNET:
        raise BadInput(f"is another network than AlexNet (its layers: {shorten(' '.join(kinds)) or 'none'}): "
                       f"use {published}")
    weights, channels = {}, None
    for (name, shape), layer in zip(shapes.items(), [layer for layer in layers if layer.kind in ("conv", "fc")]):
        if len(layer.arrays) != 2:
            raise BadInput(f"lacks weights or biases of {name}: use {published}")
        *inside, inputs, outputs = shape
        W = _numbers(messages, layer.arrays[0], (outputs, inputs, *inside), f"{name} weights", published)
        if layer.kind == "conv":
            W = W.transpose(2, 3, 1, 0)
        else:
            W = W.reshape(outputs, channels, -1).transpose(2, 1, 0)  # fc6: from (channel, place) to (place, channel)
        b = _numbers(messages, layer.arrays[1], (outputs,), f"{name} biases", published)
        weights[name] = _in_c_order(W).reshape(shape), b
        channels = outputs
    return weights


def _in_c_order(array):
    """A copy of `array` in C order. For a transposed matrix of 151 MB this is four times as fast as np.ascontiguousarray."""
    copy = np.empty(array.shape, np.float32)
    for start in range(0, array.shape[-1], 64):  # 64 rows of the file, which fit a cache
        block = ..., slice(start, start + 64)
        copy[block] = array[block]
    return copy


def _numbers(messages, array, shape, name, published):
    """The float32 array [*shape] of the _Array `array`, if that is its shape."""
    if array.flaw:
        raise BadInput(array.flaw)
    given = array.shape
    while len(given) > len(shape) and given[0] == 1:  # Caffe's old blobs always have four axes
        given = given[1:]
    if given != shape:
        raise BadInput(f"is not AlexNet as Berkeley published it: {name} have shape {shorten(given)}, where AlexNet's have "
                       f"{shape} (outputs first): use {published}")
    if sum(end - start for start, end in map(_span, array.spans)) != 4 * math.prod(shape):
        raise _Damaged
    data = b"".join(messages.data(span) for span in array.spans)
    return np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(shape)


class _Damaged(Exception):
    """The bytes are not what they should be. The message, if there is one, says in what way."""


class _Messages:
    """The messages in a binary file.

    The value of a field is an int, or a span: the position of its first byte, and of the byte after its last. Methods that
    take a span raise _Damaged for an int.
    """

    def __init__(self, file):
        self._file, self._left = file, _MOST_FIELDS
        self._size = file.seek(0, os.SEEK_END)

    def outermost(self):
        """The fields of the whole file as in `fields`, and True; or those before the first damage, and False."""
        fields = collections.defaultdict(list)
        try:
            self._collect(fields, 0, self._size)
        except _Damaged:
            return fields, False
        return fields, True

    def fields(self, span):
        """The fields of the message at `span`: {number: [value, ...]}, with an empty list for any that it lacks."""
        fields = collections.defaultdict(list)
        self._collect(fields, *_span(span))
        return fields

    def data(self, span):
        """The bytes at `span`."""
        start, end = _span(span)
        self._file.seek(start)
        data = self._file.read(end - start)
        if len(data) != end - start:  # the file has become shorter
            raise _Damaged
        return data

    def text(self, span):
        """The text at `span`."""
        return self.data(_span(span, _LONGEST_NAME)).decode("latin1")

    def texts(self, spans):
        """The texts at `spans`."""
        return [self.text(span) for span in spans]

    def numbers(self, values):
        """The tuple of whole numbers in `values`, each of which is one number, or the span of several."""
        numbers = []
        for value in values:
            if isinstance(value, int):
                numbers.append(value)
                continue
            start, end = _span(value, _LONGEST_SHAPE)
            self._file.seek(start)
            while self._file.tell() < end:
                numbers.append(self._varint())
        return tuple(numbers)

    def _collect(self, fields, start, end):
        """Add the fields in the bytes from `start` to `end` to `fields`."""
        while start < end:
            self._left -= 1
            if self._left < 0:
                raise _Damaged(f"has more than {_MOST_FIELDS} fields, and AlexNet has fewer")
            self._file.seek(start)
            tag = self._varint()
            wire_type = tag & 7
            if wire_type not in (0, 1, 2, 5):
                raise _Damaged
            value = self._varint() if wire_type in (0, 2) else {1: 8, 5: 4}[wire_type]
            start = self._file.tell()
            if wire_type != 0:
                value = start, start + value
                start = value[1]
            if start > end:
                raise _Damaged
            fields[tag >> 3].append(value)

    def _varint(self):
        """The whole number at the file's position: seven bits a byte, the lowest first; the last byte is below 128."""
        number = 0
        for shift in range(0, 70, 7):
            byte = self._file.read(1)
            if not byte:
                raise _Damaged
            number |= (byte[0] & 127) << shift
            if byte[0] < 128:
                return number
        raise _Damaged


def _last(fields, number, default=None):
    """The value of a field that is not repeated. If it is there several times, the last one counts."""
    return fields[number][-1] if fields[number] else default


def _span(value, longest=None):
    if not isinstance(value, tuple) or longest is not None and value[1] - value[0] > longest:
        raise _Damaged
    return value
