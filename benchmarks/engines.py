"""AlexNet, with the same weights, in each of the engines that bench.py compares.

Every engine is a function (kind, weights, precision, batch) that returns a function from images to answers:

    kind "signs": uint8 [batch, 32, 32, 3] to fc7, float32 [batch, 4096], with the resize to 227x227 in the network
    kind "photos": uint8 [batch, 227, 227, 3] to probabilities, float32 [batch, 1000]

TRAINERS are functions (weights, precision, batch) that return a function from signs, uint8 [batch, 32, 32, 3], and labels,
int64 [batch], to the losses before the training step that it takes, float32 [batch]: all of AlexNet, with Adam.

weights are those of weights.load, and precision is "float32" or "bfloat16". An engine raises ImportError if its package is
not installed, and NotImplementedError for arguments that it does not support.
"""

from types import SimpleNamespace

import numpy as np
import tensorflow.compat.v1 as tf

import alexnet
from lab import cpu
from lab.network import fast_layers, new_layer, preprocessing, variables
from lab.training.steps import Steps

EDGE = {"signs": 32, "photos": 227}
THREADS = cpu.cores()
PACE = 0.0001  # Adam's learning rate
# What a training step needs to know of a run.Run, which has a folder too: all layers are trained, from the first one on.
FINETUNING = SimpleNamespace(state={"settings": {"finetune_from": "conv1", "learning_rate": PACE,
                                                 "pretrained_learning_rate": PACE}, "epochs": {"finetuned": 1}})
NEW_LAYER = np.random.default_rng(0).normal(0, 0.01, (4096, 43)).astype(np.float32)
# stride, padding, groups
CONVOLUTIONS = {"conv1": (4, 4, 1), "conv2": (1, 2, 2), "conv3": (1, 1, 1), "conv4": (1, 1, 2), "conv5": (1, 1, 2)}
NORMALISED, POOLED = ("conv1", "conv2"), ("conv1", "conv2", "conv5")


def lab(kind, weights, precision, batch):
    """The lab's graph of 2016: split and concat, TensorFlow's own LRN, the resize in the graph."""
    if precision != "float32":
        raise NotImplementedError
    return _session(kind, lab_graph(kind, weights))


def lab_graph(kind, weights):
    """That graph, as a function from the tensor of images to the tensor of answers."""
    def graph(images):
        layer = tf.cast(images, tf.float32)
        layer -= tf.reduce_mean(layer, axis=[1, 2, 3], keepdims=True)
        if kind == "signs":
            layer = tf.image.resize_images(layer, (227, 227))
        for name, (stride, _, groups) in CONVOLUTIONS.items():
            W, b = (variables.variable(f"{name}_{part}", array, "float32") for part, array in zip("Wb", weights[name]))
            outputs = [tf.nn.conv2d(x, kernel, [1, stride, stride, 1], "SAME")
                       for x, kernel in zip(tf.split(layer, groups, 3), tf.split(W, groups, 3))]
            layer = tf.nn.relu(tf.nn.bias_add(tf.concat(outputs, 3), b))
            if name in NORMALISED:
                layer = tf.nn.local_response_normalization(layer, depth_radius=2, alpha=2e-5, beta=0.75, bias=1.0)
            if name in POOLED:
                layer = tf.nn.max_pool(layer, [1, 3, 3, 1], [1, 2, 2, 1], "VALID")
        layer = tf.reshape(layer, [-1, 9216])
        for name in ("fc6", "fc7", "fc8")[:2 if kind == "signs" else 3]:
            W, b = (variables.variable(f"{name}_{part}", array, "float32") for part, array in zip("Wb", weights[name]))
            layer = tf.nn.xw_plus_b(layer, W, b)
            layer = tf.nn.softmax(layer) if name == "fc8" else tf.nn.relu(layer)
        return layer

    return graph


def ours(kind, weights, precision, batch):
    """The lab today: a few signs are resized first, as in feature_extraction.py; many are resized by conv1, as in training."""
    def graph(images):
        if kind == "signs" and batch < 32:
            features = tf.cast(tf.image.resize_images(preprocessing.subtract_mean(images), (227, 227)), precision)
        else:
            features = fast_layers.subtract_mean(images, precision)
        layers = fast_layers.for_many(features.shape.as_list()[1], precision, batch)
        return alexnet.AlexNet(features, kind == "signs", weights, **layers)

    return _session(kind, graph)


def onnx_runtime(kind, weights, precision, batch):
    """ONNX Runtime with all optimisations."""
    import onnxruntime

    if precision != "float32":
        raise NotImplementedError
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(_onnx(kind, weights, batch), options, ["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def openvino_latency(kind, weights, precision, batch):
    """OpenVINO with its latency hint: all cores on one batch."""
    request = _openvino("LATENCY", kind, weights, precision, batch).create_infer_request()
    return lambda images: request.infer([images], share_inputs=True)[0]


def openvino_throughput(kind, weights, precision, batch):
    """OpenVINO with its throughput hint: the batch in parallel parts, as many as OpenVINO recommends."""
    import openvino

    probe = _openvino("THROUGHPUT", kind, weights, precision, batch)
    parts = probe.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    if parts == 1 or batch % parts:
        raise NotImplementedError
    queue = openvino.AsyncInferQueue(_openvino("THROUGHPUT", kind, weights, precision, batch // parts), parts)

    def run(images):
        answers = [None] * parts
        queue.set_callback(lambda request, i: answers.__setitem__(i, request.get_output_tensor().data.copy()))
        for i, part in enumerate(np.split(images, parts)):
            queue.start_async([part], i)
        queue.wait_all()
        return np.concatenate(answers)

    return run


def pytorch(kind, weights, precision, batch):
    """PyTorch, channels last, without gradients."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(THREADS)
    dtype = getattr(torch, precision)
    parameters = {name: tuple(torch.tensor(array).to(dtype) for array in pair)
                  for name, pair in _channels_first(weights).items()}
    for name in CONVOLUTIONS:
        W, b = parameters[name]
        parameters[name] = W.contiguous(memory_format=torch.channels_last), b
    resize = torch.from_numpy(resize_matrix()).to(dtype)

    @torch.inference_mode()
    def run(images):
        layer = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32)  # still channels last in memory
        layer = (layer - layer.mean(dim=(1, 2, 3), keepdim=True)).to(dtype)
        if kind == "signs":
            layer = (resize @ layer @ resize.T).contiguous(memory_format=torch.channels_last)
        for name, (stride, padding, groups) in CONVOLUTIONS.items():
            layer = functional.conv2d(layer, *parameters[name], stride, padding, groups=groups).relu_()
            if name in NORMALISED:
                layer = functional.local_response_norm(layer.float(), 5, alpha=1e-4, beta=0.75, k=1.0).to(dtype)
            if name in POOLED:
                layer = functional.max_pool2d(layer, 3, 2)
        layer = layer.flatten(1)
        for name in ("fc6", "fc7"):
            layer = functional.linear(layer, *parameters[name]).relu_()
        if kind == "photos":
            layer = functional.linear(layer, *parameters["fc8"]).softmax(dim=1)
        return layer.float().numpy()

    return run


def litert(kind, weights, precision, batch):
    """LiteRT, TensorFlow Lite's successor, with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    if precision != "float32":
        raise NotImplementedError
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [batch, EDGE[kind], EDGE[kind], 3])
        features = preprocessing.subtract_mean(images)
        if kind == "signs":
            features = tf.image.resize_images(features, (227, 227))
        answers = alexnet.AlexNet(features, kind == "signs", weights)
        session.run(tf.global_variables_initializer())
        converter = tf.lite.TFLiteConverter.from_session(session, [images], [answers])
        interpreter = Interpreter(model_content=converter.convert(), num_threads=THREADS)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(images):
        interpreter.set_tensor(inputs, images.astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(outputs)

    return run


def train_ours(weights, precision, batch):
    """The lab's finetuning today."""
    return _finetuning(weights, precision, **fast_layers.for_training(EDGE["signs"], 1000))


def train_plain(weights, precision, batch):
    """The same with TensorFlow's gradients of the plain layers, all but conv1."""
    return _finetuning(weights, precision, conv1=fast_layers.resized_conv)


def _finetuning(weights, precision, **layers):
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.uint8, [None, 32, 32, 3]), tf.placeholder(tf.int64, [None])
        with variables.in_float32():
            fc7 = alexnet.AlexNet(tf.cast(preprocessing.subtract_mean(images), precision), True, weights, **layers)
        logits = new_layer.build(fc7, NEW_LAYER.shape[1])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        step = Steps(FINETUNING, "finetuned").minimize(tf.reduce_mean(losses))
        session = tf.Session()
        session.run(tf.global_variables_initializer())
        variables.assign(session, new_layer.variables()[0], NEW_LAYER)
    run = session.make_callable([losses, step], [images, labels])
    return lambda images, labels: run(images, labels)[0]


def train_pytorch(weights, precision, batch):
    """PyTorch, channels last, LRN's sums as a convolution, which is faster than its own LRN, and Adam in one pass."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(THREADS)
    parameters = {name: [torch.tensor(array) for array in pair] for name, pair in _channels_first(weights).items()
                  if name != "fc8"}
    for name in CONVOLUTIONS:
        parameters[name][0] = parameters[name][0].contiguous(memory_format=torch.channels_last)
    parameters["signs"] = [torch.tensor(NEW_LAYER.T.copy()), torch.zeros(len(NEW_LAYER.T))]
    learned = [tensor.requires_grad_() for pair in parameters.values() for tensor in pair]
    slots = [[torch.zeros_like(tensor) for tensor in learned] for _ in range(2)]
    steps = [torch.zeros(()) for _ in learned]
    resize = torch.from_numpy(resize_matrix())
    neighbours = {C: torch.ones(C, C).triu(-2).tril(2)[:, :, None, None] for C in (96, 256)}

    def network(images):
        layer = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32)
        layer = resize @ (layer - layer.mean(dim=(1, 2, 3), keepdim=True)) @ resize.T
        layer = layer.contiguous(memory_format=torch.channels_last)
        for name, (stride, padding, groups) in CONVOLUTIONS.items():
            layer = functional.conv2d(layer, *parameters[name], stride, padding, groups=groups).relu_()
            if name in NORMALISED:
                sums = functional.conv2d(layer * layer, neighbours[layer.shape[1]])
                layer = layer * (1 + 2e-5 * sums) ** -0.75
            if name in POOLED:
                layer = functional.max_pool2d(layer, 3, 2)
        layer = layer.flatten(1)
        for name in ("fc6", "fc7"):
            layer = functional.linear(layer, *parameters[name]).relu_()
        return functional.linear(layer, *parameters["signs"]).float()

    def run(images, labels):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            losses = functional.cross_entropy(network(images), torch.from_numpy(labels), reduction="none")
        gradients = torch.autograd.grad(losses.mean(), learned)
        for count in steps:
            count += 1
        # torch.optim.Adam(fused=True) calls this; importing torch.optim crashes in a process with TensorFlow 2.21.
        with torch.no_grad():
            torch._fused_adam_(learned, gradients, *slots, [], steps, lr=PACE, beta1=0.9, beta2=0.999, eps=1e-8,
                               weight_decay=0.0, amsgrad=False, maximize=False)
        return losses.detach().numpy()

    return run


TRAINERS = {"ours": train_ours, "plain layers": train_plain, "PyTorch": train_pytorch}


def matrix_product(precision):
    """A function that multiplies two 2048x2048 matrices, the machine's limit, and its number of floating-point operations."""
    size = 2048
    with tf.Graph().as_default():
        a, b = (tf.Variable(tf.cast(tf.random.stateless_normal([size, size], [0, seed]), precision), use_resource=True)
                for seed in range(2))
        product = tf.matmul(a, b).op
        session = tf.Session()
        session.run(tf.global_variables_initializer())
    return lambda: session.run(product), 2 * size ** 3


def resize_matrix():
    """TensorFlow 1's bilinear resize of a column of 32 pixels, as a matrix, float32 [227, 32]."""
    place = np.arange(227) * np.float32(32 / 227)
    lower = np.floor(place).astype(int)
    matrix = np.zeros((227, 32), np.float32)
    matrix[np.arange(227), lower] += 1 - (place - lower)
    matrix[np.arange(227), np.minimum(lower + 1, 31)] += place - lower
    return matrix


def _session(kind, graph):
    """A function that runs `graph`, which is a function from the tensor of images to the tensor of answers."""
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, EDGE[kind], EDGE[kind], 3])
        answers = graph(images)
        session = tf.Session()
        session.run(tf.global_variables_initializer())
    return session.make_callable(answers, [images])


def _channels_first(weights):
    """The weights for images [channels, height, width]: kernels [outputs, inputs, height, width], fc [outputs, inputs]."""
    convolutions = {name: (weights[name][0].transpose(3, 2, 0, 1), weights[name][1]) for name in CONVOLUTIONS}
    fc6 = weights["fc6"][0].reshape(6, 6, 256, 4096).transpose(2, 0, 1, 3).reshape(9216, 4096)
    return convolutions | {name: (W.T, weights[name][1]) for name, W in
                           (("fc6", fc6), ("fc7", weights["fc7"][0]), ("fc8", weights["fc8"][0]))}


def _openvino(hint, kind, weights, precision, batch):
    import openvino

    settings = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision]}
    core = openvino.Core()
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotImplementedError
    return core.compile_model(core.read_model(_onnx(kind, weights, batch)), "CPU", settings)


_files = {}


def _onnx(kind, weights, batch):
    """The network as the bytes of an ONNX file. The last one is kept: making it takes seconds."""
    if (kind, batch) not in _files:
        _files.clear()
        _files[kind, batch] = _onnx_file(kind, weights, batch)
    return _files[kind, batch]


def _onnx_file(kind, weights, batch):
    from onnx import TensorProto, checker, helper, numpy_helper

    constants, nodes = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(op_type, *inputs, **attributes):
        nodes.append(helper.make_node(op_type, list(inputs), [f"{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    layer = node("Cast", "images", to=TensorProto.FLOAT)
    layer = node("Sub", layer, node("ReduceMean", layer, constant("axes", np.array([1, 2, 3]))))
    layer = node("Transpose", layer, perm=[0, 3, 1, 2])
    if kind == "signs":
        sizes = constant("sizes", np.array([batch, 3, 227, 227]))
        layer = node("Resize", layer, "", "", sizes, mode="linear", coordinate_transformation_mode="asymmetric")
    parameters = _channels_first(weights)
    for name, (stride, padding, groups) in CONVOLUTIONS.items():
        W, b = (constant(f"{name}_{part}", array) for part, array in zip("Wb", parameters[name]))
        layer = node("Conv", layer, W, b, strides=[stride] * 2, pads=[padding] * 4, group=groups)
        layer = node("Relu", layer)
        if name in NORMALISED:
            layer = node("LRN", layer, size=5, alpha=1e-4, beta=0.75, bias=1.0)
        if name in POOLED:
            layer = node("MaxPool", layer, kernel_shape=[3, 3], strides=[2, 2])
    layer = node("Flatten", layer)
    for name in ("fc6", "fc7", "fc8")[:2 if kind == "signs" else 3]:
        W, b = (constant(f"{name}_{part}", array) for part, array in zip("Wb", parameters[name]))
        layer = node("Gemm", layer, W, b, transB=1)
        layer = node("Softmax", layer, axis=1) if name == "fc8" else node("Relu", layer)
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, EDGE[kind], EDGE[kind], 3])
    answers = helper.make_tensor_value_info(layer, TensorProto.FLOAT, [batch, 4096 if kind == "signs" else 1000])
    graph = helper.make_graph(nodes, "AlexNet", [images], [answers], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()
