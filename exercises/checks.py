"""The checks of the exercises, one function each. A check returns None if all is right, or a remark (str); it raises Wrong.

Each takes `student`, a types.SimpleNamespace: `module` is the student's script, loaded; `own` are the functions in it, and
`functions` those to use, which are in `module` too: the student's own where they have passed, and the one that is checked,
else the solution's, so that a mistake counts once; `folder` is a Path, and `load(file)` loads another script in it.
They run in a process of their own, which may change TensorFlow and the lab's modules for the student to be seen at work.
"""

import functools
import inspect
import itertools
import sys

import errors
import numpy as np
import tensorflow.compat.v1 as tf

import alexnet
from lab.data import drawn_signs, photos
from lab.files import BadInput
from lab.network import weights as weight_files

CLASSES, WIDTH = 43, 4096
LN_43 = np.log(CLASSES)
LAB_RESIZE = "; the lab's resize is bilinear, as TensorFlow 1's tf.image.resize_images does it"


class Wrong(Exception):
    """What is wrong with a student's function, in one sentence."""


@functools.cache
def alexnet_weights():
    """Random weights of AlexNet's full size, whose fc7 is about as long (60) as with trained weights."""
    numbers = np.random.default_rng(0).standard_normal(1_000_003, np.float32)  # repeated: fresh ones would take a second
    weights = {}
    for layer, shape in weight_files.SHAPES.items():
        scale = np.sqrt(2 / np.prod(shape[:-1])) / (80 if layer == "fc7" else 1)
        weights[layer] = np.resize(numbers * np.float32(scale), shape), np.zeros(shape[-1], np.float32)
    return weights


class WatchedSession(tf.Session):
    """A Session that remembers its runs: `runs` has (operations, results, fed arrays, graph version) of each."""

    runs = []
    at_exit = None  # a function that is called with the session before it closes

    def run(self, fetches, feed_dict=None, options=None, run_metadata=None):
        version = self.graph.version
        results = super().run(fetches, feed_dict, options, run_metadata)
        operations = [fetch for fetch in tf.nest.flatten(fetches) if isinstance(fetch, tf.Operation)]
        fed = [np.asarray(value) for value in (feed_dict or {}).values()]
        arrays = [result for result in tf.nest.flatten(results) if isinstance(result, np.ndarray)]
        self.runs.append((operations, arrays, fed, version))
        return results

    def __exit__(self, *arguments):
        if self.at_exit and arguments[0] is None:
            self.at_exit()
        return super().__exit__(*arguments)


# What is asked of a tensor


def tensor(value, name, shape, dtype="float32"):
    """Raise Wrong unless `value`, what the student's `name` returned, is a tensor with `shape`, a list, None for unknown."""
    if value is None:
        raise Wrong(f"{name} returns nothing: does it lack its `return`?")
    if isinstance(value, (tuple, list)):
        raise Wrong(f"{name} returns {len(value)} things, but one tensor is wanted")
    if isinstance(value, np.ndarray):
        raise Wrong(f"{name} returns a NumPy array: it was computed outside the graph, where a tensor is wanted")
    if not isinstance(value, (tf.Tensor, tf.Variable)):
        raise Wrong(f"{name} returns an object of type {type(value).__name__}, but a tensor is wanted")
    if value.dtype.base_dtype.name != dtype:
        raise Wrong(f"{name} returns {value.dtype.base_dtype.name}, but {dtype} is wanted")
    if not value.shape.is_compatible_with(shape):
        if value.shape.rank == len(shape) and shape and shape[0] is None and value.shape.as_list()[1:] == shape[1:]:
            raise Wrong(f"{name} gives a fixed number of images, {value.shape[0]}, but any number can come")
        wanted = str(tf.TensorShape(shape)).replace("None", "N")
        raise Wrong(f"{name} returns the shape {str(value.shape).replace('None', 'N')}, but {wanted} is wanted")


def in_python(graph):
    """Raise Wrong if the graph calls Python, with tf.py_func or the like, elsewhere than for AlexNet's weights."""
    if any("PyFunc" in op.type and "alexnet" not in op.name for op in graph.get_operations()):
        raise Wrong("it is computed outside the graph, in Python (tf.py_func or tf.numpy_function): use TensorFlow's functions")


def close(a, b):
    """Whether two arrays are the same up to float32's rounding."""
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-3, atol=2e-4 * max(1e-6, np.abs(b).max()))


def told_apart(value, right, name, candidates, otherwise):
    """Raise Wrong unless `value` is close to `right`: with the sentence of the first of `candidates`, (array, str), that is."""
    if close(value, right):
        return
    for candidate, sentence in candidates:
        if close(value, candidate):
            raise Wrong(sentence)
    if not np.isfinite(value).all():
        raise Wrong(f"{name} gives numbers that are not finite, NaN or infinite")
    raise Wrong(otherwise)


# traffic_sign_inference.py


def lines(kind):
    """The matrix [227, 32] that resizes a line of 32 pixels to 227, written from the definition of each kind."""
    i = np.arange(227)
    place = {"lab": i * 32 / 227, "corners": i * 31 / 226, "half": (i + 0.5) * 32 / 227 - 0.5,
             "nearest": np.floor(i * 32 / 227), "nearest half": np.floor((i + 0.5) * 32 / 227),
             "nearest corners": np.rint(i * 31 / 226)}[kind].clip(0, 31)
    lower = np.floor(place).astype(int)
    matrix = np.zeros((227, 32))
    np.add.at(matrix, (i, lower), 1 - (place - lower))
    np.add.at(matrix, (i, np.minimum(lower + 1, 31)), place - lower)
    return matrix


def resized(images, kind="lab"):
    """`images` [N, 32, 32, 3] at 227x227, float64."""
    return np.einsum("yv,nvuc,xu->nyxc", lines(kind), images.astype(np.float64), lines(kind), optimize=True)


WRONG_RESIZES = {
    "nearest": "it takes the nearest pixel and does not interpolate" + LAB_RESIZE,
    "nearest half": "it takes the nearest pixel and does not interpolate" + LAB_RESIZE,
    "nearest corners": "it takes the nearest pixel and does not interpolate" + LAB_RESIZE,
    "corners": "it aligns the corners (align_corners=True), so that all between them is shifted" + LAB_RESIZE,
    "half": "it has half-pixel centres, which is TensorFlow 2's tf.image.resize" + LAB_RESIZE,
}
SWAPPED = "the channels are swapped to BGR: the lab's are RGB, in training and in inference"


def some_signs():
    """Two random signs, uint8 [2, 32, 32, 3]: one dark and one light, coloured, and lighter towards the bottom."""
    images = np.random.default_rng().integers(0, 256, (2, 32, 32, 3)) * [[[[1.0, 0.8, 0.5]]], [[[0.2, 0.3, 0.4]]]]
    return (images * np.linspace(0.2, 1, 32)[:, None, None]).astype(np.uint8)


def check_resize(student):
    signs = some_signs().astype(np.float32)
    signs -= signs.mean(axis=(1, 2, 3), keepdims=True)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None, 32, 32, 3])
        answer = student.module.resize(placeholder)
        _check_size(answer, "resize")
        tensor(answer, "resize", [None, 227, 227, 3])
        in_python(graph)
        value = session.run(answer, {placeholder: signs})
    right = resized(signs)
    told_apart(value, right, "resize",
               [*((resized(signs, kind), sentence) for kind, sentence in WRONG_RESIZES.items()),
                (right[..., ::-1], SWAPPED), (right / 255, "it divides the pixels by 255: AlexNet takes them from 0 to 255"),
                (right.transpose(0, 2, 1, 3), "it turns rows into columns")],
               "its pixels are others" + LAB_RESIZE)


def _check_size(answer, name):
    if isinstance(answer, tf.Tensor) and answer.shape.rank == 4 and answer.shape[1] != 227 and answer.shape[1] is not None:
        raise Wrong(f"{name} makes {answer.shape[1]}x{answer.shape[2]} pixels, but this AlexNet takes 227x227")


# feature_extraction.py


class WatchedAlexNet:
    """Takes the place of alexnet.AlexNet: does the same, and `calls` has (features, output, weights) of each call."""

    def __init__(self):
        self.calls, self.original = [], alexnet.AlexNet

    def __call__(self, features, *arguments, **options):
        call = inspect.signature(self.original).bind(features, *arguments, **options).arguments
        output = self.original(features, *arguments, **options)
        self.calls.append((features, output, call.get("weights")))
        return output


def wrong_preparations(images):
    """(array [N, 32, 32, 3], sentence) of images as students prepare them."""
    x = images.astype(np.float64)
    own = x.mean(axis=(1, 2, 3), keepdims=True)
    by_255 = "the pixels are divided by 255: AlexNet was trained on 0 to 255"
    return [
        (x, "no mean is subtracted: each image loses its own, in training as in inference"),
        (x - x.mean(), "the mean is that of the whole batch, so that an image's answer depends on its neighbours: subtract "
                       "each image's own (axis=[1, 2, 3], keepdims=True)"),
        (x - x.mean(axis=0), "the mean is taken over the batch (axis 0): subtract each image's own (axis=[1, 2, 3])"),
        (x - x.mean(axis=(1, 2), keepdims=True), "each channel loses a mean of its own: the lab's is one number over pixels "
                                                 "and channels (axis=[1, 2, 3])"),
        (x - [123, 117, 104], "ImageNet's mean is subtracted: the lab's is the image's own"),
        (x - 128, "128 is subtracted: the lab's mean is the image's own"),
        ((x - own) / 255, by_255), (x / 255, by_255), (x / 255 - 0.5, by_255), (x / 127.5 - 1, by_255),
        ((x - own)[..., ::-1], SWAPPED), (x[..., ::-1], SWAPPED),
        ((x - own) / x.std(axis=(1, 2, 3), keepdims=True), "the pixels are divided by their standard deviation: the lab "
                                                           "subtracts the mean only"),
        *(((x - own)[..., [c, 1, c]], "two channels are the same: NumPy's swap a[..., 0], a[..., 2] = a[..., 2], a[..., 0] "
                                      "overwrites one, and the lab's RGB needs no swap") for c in (0, 2)),
    ]


def check_fc7_of(student, function=None, name="fc7_of"):
    images = some_signs()
    watched = alexnet.AlexNet
    watched.calls.clear()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        placeholder = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        fc7 = (function or student.module.fc7_of)(placeholder, alexnet_weights())
        if not watched.calls:
            raise Wrong(f"{name} never calls AlexNet: AlexNet(..., feature_extract=True, weights=weights) gives fc7")
        features, output, weights = watched.calls[-1]
        if output.shape[1] == 1000:
            raise Wrong("AlexNet gives its 1000 probabilities, not fc7: feature_extract=True is forgotten")
        if weights is not alexnet_weights():
            raise Wrong("AlexNet is not given the weights: AlexNet(..., weights=weights)")
        tensor(fc7, name, [None, WIDTH])
        _in_uint8(graph)
        in_python(graph)
        session.run(tf.global_variables_initializer())
        seen, plain, value = session.run([features, output, fc7], {placeholder: images})
        x = images.astype(np.float64)
        right = resized(x - x.mean(axis=(1, 2, 3), keepdims=True))
        remark = None
        if not close(seen, right):
            late = resized(x)
            if close(seen, late - late.mean(axis=(1, 2, 3), keepdims=True)):
                remark = ("the mean is that of the resized image, which weighs the edges less: nearly the same; the lab takes "
                          "it before the resize")
            else:
                candidates = [(resized(prepared), sentence) for prepared, sentence in wrong_preparations(images)]
                own = x - x.mean(axis=(1, 2, 3), keepdims=True)
                candidates += [(resized(own, kind), sentence) for kind, sentence in WRONG_RESIZES.items()]
                told_apart(seen, right, name, candidates,
                           "what goes into AlexNet is not the image less its own mean, resized as the lab does")
        if not close(value, plain):
            raise Wrong("what comes out of AlexNet is changed afterwards: fc7 goes to the new layer as it is")
    return remark


def _in_uint8(graph):
    if any(op.type in ("Sub", "Mean", "Sum") and op.outputs[0].dtype == tf.uint8 for op in graph.get_operations()):
        raise Wrong("the mean is computed or subtracted in uint8, where 3 - 5 is 254: cast the images to tf.float32 first")


def logits_of(student, fc7):
    """The student's new layer on `fc7`, checked for its form, and the variables it has made."""
    before = set(tf.global_variables())
    logits = student.module.new_layer(fc7)
    tensor(logits, "new_layer", [None, CLASSES])
    return logits, [v for v in tf.global_variables() if v not in before]


def some_fc7(count):
    """Random features like fc7, float32 [count, 4096]: not negative, and about as long (40) as those of signs are."""
    return np.abs(0.6 * np.random.default_rng().standard_normal((count, WIDTH), np.float32))


def check_new_layer(student):
    fc7 = some_fc7(64)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None, WIDTH])
        logits, variables = logits_of(student, placeholder)
        in_python(graph)
        learning = [v for v in variables if v.trainable]
        if not learning:
            raise Wrong("the new layer has no variables that training could change: make its weights and biases tf.Variable")
        unused = [v.shape.as_list() for v, gradient in zip(learning, tf.gradients(tf.reduce_sum(logits ** 2), learning))
                  if gradient is None]
        if len(unused) == len(learning):
            raise Wrong("no gradient reaches the layer's variables: a tf.stop_gradient on the logits stops all learning; the "
                        "freeze "
                        "belongs on fc7")
        if unused:
            raise Wrong(f"the variable of shape {unused[0]} is made, but the logits do not depend on it")
        shapes = [v.shape.as_list() for v in learning]
        session.run(tf.global_variables_initializer())
        values, answer = session.run([learning, logits], {placeholder: fc7})

    after = "; the loss applies the softmax itself, the layer gives logits"
    if np.allclose(answer.sum(axis=1), 1, atol=1e-3) and (answer >= 0).all():
        raise Wrong("the layer ends in a softmax" + after)
    if len(learning) == 2 and [CLASSES] in shapes and [WIDTH, CLASSES] in shapes:
        W, b = values if shapes[1] == [CLASSES] else reversed(values)
        plain = fc7 @ W + b
        told_apart(answer, plain, "new_layer", [
            (1 / (1 + np.exp(-plain)), "the layer ends in a sigmoid" + after),
            (plain.clip(0), "the layer ends in a ReLU, which throws half of the logits away" + after),
            (np.tanh(plain), "the layer ends in a tanh" + after)],
            "the logits are not fc7 times the weights, plus the biases")
    elif (answer >= 0).all():
        kind = "sigmoid" if (answer <= 1).all() else "ReLU"
        raise Wrong(f"the layer ends in a {kind}" + after)
    if [CLASSES] not in shapes:
        raise Wrong("the layer has no biases: one number for each of the 43 classes, [43], is added to the product")
    first = cross_entropy(answer, np.arange(64) % CLASSES)
    if first > LN_43 + 1:
        raise Wrong(f"the weights start too large: the untrained layer has a loss of {first:.1f}, and one that knows nothing "
                    "has ln 43 = 3.76; draw them with a standard deviation of 0.01")
    if any(np.ptp(value) == 0 for value, shape in zip(values, shapes) if len(shape) == 2):
        return ("the weights all start with the same number: one linear layer learns from that all the same, two of them would "
                "not, and the lab draws them at random")


def cross_entropy(logits, labels):
    """The mean cross-entropy of logits [N, 43] for labels [N], in float64: an independent, slow form."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def check_freeze(student):
    with tf.Graph().as_default() as graph:
        images, labels, fc7, _, loss = assembled(student, student.functions)
        alexnet_variables, others = by_owner()
        reached = [g is not None for g in tf.gradients(loss, alexnet_variables)]
        learning = [g is not None for g in tf.gradients(loss, others)]
        if not any(learning):
            raise Wrong("no gradient reaches the new layer either, so nothing learns: tf.stop_gradient belongs on fc7, in "
                        "front "
                        "of the layer, not on the logits")
        if not any(reached):
            return None
        if not any(v.trainable for v in alexnet_variables) or _spared(student, loss, alexnet_variables):
            return ("AlexNet is frozen by the choice of variables (var_list): this freezes one optimizer's step, not the "
                    "graph, "
                    "through which gradients still flow; tf.stop_gradient on fc7 freezes it for all")
        unused = any(op.type == "StopGradient" and not op.outputs[0].consumers() for op in graph.get_operations())
    if unused:
        raise Wrong("AlexNet is not frozen: tf.stop_gradient gives back a new tensor, and here its result is not used")
    raise Wrong(f"AlexNet is not frozen: the gradient of the loss reaches {sum(reached)} of its variables; no tf.stop_gradient "
                "is "
                "on the way, which belongs on fc7")


def assembled(student, functions):
    """images, labels, fc7, logits and loss of the lab's training graph, made of `functions`, {name: function}."""
    images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    fc7 = functions["fc7_of"](images, alexnet_weights())
    logits = functions["new_layer"](fc7)
    return images, labels, fc7, logits, functions["loss"](logits, labels)


def by_owner():
    """AlexNet's variables in the graph, and the trainable ones of the new layer."""
    alexnet_variables = [v for v in tf.global_variables() if "alexnet" in v.op.name]
    return alexnet_variables, [v for v in tf.trainable_variables() if "alexnet" not in v.op.name]


def _spared(student, loss, alexnet_variables):
    """Whether the student's train_step, if it is written, leaves AlexNet's variables alone."""
    try:
        step = student.load("train_feature_extraction.py").train_step(loss)
    except Exception:  # not written yet, or wrong: its own check says how
        return False
    handles = {v.handle.op.name for v in alexnet_variables}
    changing, waiting, seen = [], [step if isinstance(step, tf.Operation) else step.op], set()
    while waiting:
        op = waiting.pop()
        if op.name not in seen:
            seen.add(op.name)
            waiting += [*(i.op for i in op.inputs), *op.control_inputs]
            if "Apply" in op.type or op.type.startswith("Assign"):
                changing.append(op.inputs[0].op.name)
    return bool(changing) and not handles & set(changing)


# train_feature_extraction.py


def check_loss(student):
    rng = np.random.default_rng()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        placeholder, labels = tf.placeholder(tf.float32, [None, CLASSES]), tf.placeholder(tf.int64, [None], name="labels")
        answer = student.module.loss(placeholder, labels)
        if isinstance(answer, tf.Tensor) and answer.shape.rank == 1:
            raise Wrong("loss gives one number for each photo: the loss is their mean (tf.reduce_mean)")
        tensor(answer, "loss", [])
        in_python(graph)
        for count in (7, 5):
            x, y = 3 * rng.standard_normal((count, CLASSES)), rng.integers(0, CLASSES, count)
            value = session.run(answer, {placeholder: x, labels: y})
            right = cross_entropy(x, y)
            softmax = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
            one_hot = np.eye(CLASSES)[y]
            twice = "is applied before the loss, which applies the softmax itself"
            binary = np.log1p(np.exp(x)) - x * one_hot
            told_apart(value, right, "loss", [
                (right * count, "the losses of the photos are added up: their mean is wanted, or the step would grow with the "
                                "batch"),
                (cross_entropy(softmax, y), "a softmax " + twice),
                (cross_entropy(1 / (1 + np.exp(-x)), y), "a sigmoid " + twice),
                (cross_entropy(x.clip(0), y), "a ReLU " + twice),
                (-right, "the sign is wrong: such a loss would grow as the layer learns"),
                (right / CLASSES, "the mean is taken over photos and classes: sum over the classes, mean over the photos"),
                (binary.mean(), "this is the sigmoid's cross-entropy, for photos of several signs: each photo shows one, "
                                "softmax"),
                (binary.sum(axis=1).mean(), "this is the sigmoid's cross-entropy, for photos of several signs: each shows one"),
                (((softmax - one_hot) ** 2).mean(), "this is a mean of squares: the lab's loss is the cross-entropy"),
            ], "this is not the mean cross-entropy of the logits' softmax")
        far = session.run(answer, {placeholder: [[300.0, -300.0] + [0.0] * 41], labels: [1]})
        if not np.isclose(far, 600):
            return ("a probability that rounds to 0 breaks it (its logarithm is not finite, or cut off): "
                    "tf.nn.sparse_softmax_cross_entropy_with_logits is safe from that")


def check_train_step(student):
    with tf.Graph().as_default(), tf.Session() as session:
        functions = student.functions
        images, labels, fc7, logits, loss = assembled(student, functions)
        alexnet_variables, others = by_owner()
        step = student.module.train_step(loss)
        if step is None:
            raise Wrong("train_step returns nothing: does it lack its `return`?")
        if not isinstance(step, (tf.Operation, tf.Tensor)):
            raise Wrong(f"train_step returns an object of type {type(step).__name__}: the operation that changes the "
                        f"variables is wanted, as "
                        "optimizer.minimize(loss) gives it")
        learning = [v for v in tf.global_variables() if v not in alexnet_variables]  # Adam's too
        session.run(tf.variables_initializer(learning))
        features, classes = some_fc7(32), np.random.default_rng().integers(0, CLASSES, 32)
        fed = {fc7: features, labels: classes}
        before = session.run(others)
        losses = [session.run(loss, fed)]
        for _ in range(40):
            session.run(step, fed)
            losses.append(session.run(loss, fed))
        after = session.run(others)
    if all(np.array_equal(a, b) for a, b in zip(before, after)):
        raise Wrong("after 40 steps the new layer's variables are what they were: train_step must be the operation that "
                    "changes "
                    "them, as optimizer.minimize(loss) gives it")
    if not np.isfinite(losses).all() or max(losses[1:6]) > 10 * losses[0]:
        raise Wrong(f"the first steps take the loss of a batch from {losses[0]:.1f} to {max(losses[1:6]):.0f}: the steps are "
                    "too "
                    "long, the learning rate too high; Adam's default is 0.001")
    if losses[-1] > losses[0]:
        raise Wrong(f"40 steps on one batch take its loss up, from {losses[0]:.2f} to {losses[-1]:.2f}: minimize the loss "
                    "itself, in "
                    "shorter steps")
    if losses[-1] > 0.95 * losses[0]:
        raise Wrong(f"40 steps on one batch of 32 photos take its loss from {losses[0]:.2f} to {losses[-1]:.2f} only, where "
                    f"Adam at "
                    "its default learning rate, 0.001, knows it by heart: the steps are too short")
    if losses[-1] > losses[0] / 2:
        return (f"40 steps on one batch of 32 photos take its loss from {losses[0]:.2f} to {losses[-1]:.2f}: this learns "
                f"slowly; Adam at "
                "its defaults knows it by heart by then")


def check_accuracy(student):
    rng = np.random.default_rng()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        placeholder, labels = tf.placeholder(tf.float32, [None, CLASSES]), tf.placeholder(tf.int64, [None], name="labels")
        answer = student.module.accuracy(placeholder, labels)
        if isinstance(answer, tf.Tensor) and answer.shape.rank == 1:
            raise Wrong("accuracy gives one answer for each photo: their mean is wanted")
        if isinstance(answer, tf.Tensor) and answer.dtype.is_integer:
            raise Wrong("accuracy is a whole number: cast the right and wrong answers to tf.float32 before the mean, or 0.9 is "
                        "0")
        tensor(answer, "accuracy", [])
        in_python(graph)
        for count in (CLASSES, 7):
            logits, classes = rng.standard_normal((count, CLASSES)), rng.integers(0, CLASSES, count)
            known = rng.permutation(count)[:count // 2 + 1]  # more than half, so that no two candidates agree
            logits[known, classes[known]] += 9
            if count == CLASSES:  # the first photo is of class 0: over the batch, too, not all answers are wrong
                logits[0], classes[0] = 20 * np.eye(CLASSES)[0], 0
            value = session.run(answer, {placeholder: logits, labels: classes})
            hits = logits.argmax(axis=1) == classes
            five = (np.argsort(-logits, axis=1)[:, :5] == classes[:, None]).any(axis=1)
            candidates = [(0, "it is always 0: in the graph, Python's == does not compare the numbers in two tensors; "
                              "tf.equal does"),
                          (100 * hits.mean(), "it is a percentage: the part of the photos, 0 to 1, is wanted"),
                          (hits.sum(), "it counts the right answers: their part, 0 to 1, is wanted"),
                          (1 - hits.mean(), "it is the part of the wrong answers"),
                          (five.mean(), "it takes a label among the five largest logits for right: the largest alone counts")]
            if count == CLASSES:
                over_batch = (logits.argmax(axis=0) == classes).mean()
                candidates.insert(0, (over_batch, "tf.argmax is taken over the batch (axis 0) and not over the classes (axis "
                                                  "1)"))
            told_apart(value, hits.mean(), "accuracy", candidates,
                       "it is not the part of the photos whose largest logit is that of their label")


def check_split(student):
    remark = None
    for count in (101, 300):
        numbers = np.arange(count)
        features = np.stack([numbers, -numbers], axis=1).astype(np.float32)
        labels = numbers * CLASSES // count  # class by class, as in train.p
        parts = student.module.split(features.copy(), labels.copy())
        if parts is None:
            raise Wrong("split returns nothing: does it lack its `return`?")
        if not isinstance(parts, (tuple, list)) or len(parts) != 4:
            raise Wrong("split returns four arrays: features and labels to train on, features and labels to validate with")
        X, y, X_validation, y_validation = map(np.asarray, parts)
        if X.ndim == 2 and y.ndim == 2:
            raise Wrong("the order is scikit-learn's, both features first: here features and labels to train on come first, "
                        "then "
                        "features and labels to validate with")
        if X.ndim != 2 or X_validation.ndim != 2 or y.ndim != 1 or y_validation.ndim != 1:
            raise Wrong("split returns four arrays: features, labels, features, labels, all rows of what it is given")
        training, validation = X[:, 0].astype(int), X_validation[:, 0].astype(int)
        for rows, classes in ((training, y), (validation, y_validation)):
            if len(rows) != len(classes) or not np.isin(rows, numbers).all() or not np.array_equal(labels[rows], classes):
                raise Wrong("photos and labels no longer belong together: both must go through the same permutation")
        if np.intersect1d(training, validation).size:
            raise Wrong("photos that validate are trained on too, so that their accuracy says nothing: the parts must be "
                        "disjoint")
        if len(training) + len(validation) != count:
            raise Wrong(f"of {count} photos {len(training)} train and {len(validation)} validate: some are lost, or come twice")
        held_out = int(np.ceil(0.33 * count))
        order = np.random.RandomState(0).permutation(count)
        if set(training) == set(order[:held_out]):
            raise Wrong("the parts have changed places: the third in front validates, the other two train")
        if len(validation) in (0, count) or not 0.05 < len(validation) / count < 0.6:
            raise Wrong(f"{len(validation)} of {count} photos validate: the lab holds out a third")
        if (np.ptp(validation) + 1 == len(validation) or np.ptp(training) + 1 == len(training)
                or len(set(np.diff(np.sort(validation)))) == 1):
            raise Wrong("the photos are not shuffled before they are split: train.p is class by class, so whole classes would "
                        "be "
                        "missing in training")
        if set(validation) != set(order[:held_out]):
            again = np.asarray(student.module.split(features.copy(), labels.copy())[2])[:, 0].astype(int)
            differs = "" if set(again) == set(validation) else ", and another each time"
            remark = (f"this is another split than the lab's ({len(validation)} of {count} photos validate{differs}): sound, "
                      "but "
                      "its accuracy cannot be compared with the lab's; the rule is in the text of split")
    return remark


def check_batches(student):
    count, size = 103, 16
    numbers = np.arange(count)
    features, labels = np.stack([numbers, -numbers], axis=1).astype(np.float32), numbers % CLASSES
    given = features.copy(), labels.copy()
    orders = []
    for _ in range(2):
        made = student.module.batches(*given, size)
        if made is None:
            raise Wrong("batches gives nothing: yield (features, labels) for each batch")
        if isinstance(made, tuple):
            raise Wrong("batches returns one batch, with which the loop ends: yield it, and the loop goes on")
        pairs = list(itertools.islice(made, 3 * count))
        if len(pairs) == 3 * count:
            raise Wrong("batches does not end: it gives all photos once, then stops")
        if not pairs or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 and np.ndim(pair[0]) == 2
                                and np.ndim(pair[1]) == 1 for pair in pairs):
            raise Wrong("batches yields a pair each time: an array of features [B, ...] and one of labels [B]")
        sizes = [len(y) for _, y in pairs]
        rows, classes = (np.concatenate([np.asarray(pair[i]) for pair in pairs]) for i in (0, 1))
        rows = rows[:, 0].astype(int)
        if len(rows) != len(classes) or not np.isin(rows, numbers).all() or not np.array_equal(labels[rows], classes):
            raise Wrong("photos and labels no longer belong together: take both with the same rows of one permutation")
        if not np.array_equal(given[0], features) or not np.array_equal(given[1], labels):
            raise Wrong("it changes the arrays it is given: shuffle row numbers, not the photos (np.random.shuffle works in "
                        "place)")
        if max(sizes) > size:
            raise Wrong(f"a batch has {max(sizes)} photos where {size} are asked for")
        if len(set(rows)) < len(rows):
            raise Wrong("some photos come twice in one round: take each once, from a permutation, in steps of the size")
        if len(rows) < count:
            lost = "the last, short batch is dropped" if count - len(rows) == count % size else "some are left out"
            raise Wrong(f"{len(rows)} of {count} photos come: {lost}")
        if len(sizes) > -(-count // size):
            return "the batches are smaller than asked for"
        orders.append(rows)
    if any(np.array_equal(rows, numbers) for rows in orders) or all(np.array_equal(np.sort(X[:, 0]), np.arange(
            X[:, 0].min(), X[:, 0].max() + 1)) for X, _ in pairs):
        raise Wrong("the photos are not shuffled: in the order of train.p a batch holds one class only")
    if np.array_equal(*orders):
        return "the order is random, but the same in each epoch: the lab draws a new one each time"


def check_evaluate(student):
    rng = np.random.default_rng()
    batch = getattr(student.module, "BATCH", 128)
    count = 2 * batch + 44
    # Easy photos first, hard ones last: the batches' figures differ, whatever their order.
    labels_given = rng.integers(0, 5, count)
    features_given = np.eye(5)[labels_given] * 4 + rng.standard_normal((count, 5)) * np.linspace(0, 6, count)[:, None]
    features_given = features_given.astype(np.float32)
    with tf.Graph().as_default() as graph, WatchedSession() as session:
        fc7, labels = tf.placeholder(tf.float32, [None, 5], name="fc7"), tf.placeholder(tf.int64, [None], name="labels")
        scale = tf.Variable(0.0)
        logits = fc7 * scale
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        hits = tf.cast(tf.equal(tf.argmax(logits, axis=1), labels), tf.float32)
        measures = tf.reduce_mean(losses), tf.reduce_mean(hits)
        session.run(tf.global_variables_initializer())
        scale.load(1.0, session)
        session.runs.clear()
        version = graph.version
        fed_features, fed_labels = features_given.copy(), labels_given.copy()
        result = student.module.evaluate(session, measures, (fc7, labels), fed_features, fed_labels)
        runs = list(session.runs)
        kept, grown = session.run(scale) == 1, graph.version != version
        feeds = [sorted(fed, key=np.ndim, reverse=True) for _, _, fed, _ in runs if len(fed) == 2]
        each = np.array([session.run(measures, {fc7: X, labels: y}) for X, y in feeds]).reshape(-1, 2)
        right = session.run(measures, {fc7: features_given, labels: labels_given})
    if result is None:
        raise Wrong("evaluate returns nothing: does it lack its `return`?")
    if not kept:
        raise Wrong("evaluate runs the initializer, which throws away what the layer has learned: it belongs before the "
                    "training, "
                    "once")
    if grown:
        raise Wrong("evaluate adds operations to the graph each time it is called, perhaps a new layer that has learned "
                    "nothing: "
                    "build the graph once, before the loop, and only run it here")
    if not feeds:
        raise Wrong("evaluate runs nothing: session.run(measures, {inputs[0]: ..., inputs[1]: ...}) gives a batch's figures")
    try:
        result = np.array([float(value) for value in result])
    except (TypeError, ValueError):
        result = np.zeros(0)
    if result.shape != (2,):
        raise Wrong("evaluate returns two numbers, the loss and the accuracy")
    sizes = np.array([len(y) for _, y in feeds])
    if sum(sizes) < count and np.allclose(result, np.average(each, axis=0, weights=sizes), atol=1e-5):
        raise Wrong(f"{sum(sizes)} of {count} photos are counted: the last, short batch is dropped")
    if np.allclose(result, each[-1], atol=1e-5) and len(each) > 1:
        raise Wrong("these are the figures of the last batch alone: all batches count")
    told_apart(result, np.array(right), "evaluate", [
        (np.array(right)[::-1], "loss and accuracy have changed places: the loss comes first"),
        (each.mean(axis=0), "each batch counts the same, so a photo of the short last one counts more: weigh by the batch's "
                            "size"),
        (each.sum(axis=0), "the figures of the batches are added up: their mean over the photos is wanted"),
        ((each * sizes[:, None]).sum(axis=0) / (len(each) * batch), "the sum is divided by full batches: divide by the photos"),
        (each[0], "these are the figures of the first batch alone: all batches count"),
    ], "these are not the means over all photos of what session.run gives for each batch")
    if max(sizes) > batch:
        return f"{max(sizes)} photos go through at once: more than BATCH = {batch} take ever more memory"


def runs_of_main(student, at_exit=None):
    """Run the student's whole script: what its session ran, as WatchedSession has it."""
    WatchedSession.runs, WatchedSession.at_exit = [], at_exit
    tf.Session = WatchedSession
    weight_files.load = lambda source="auto": alexnet_weights()
    student.module.main([])
    return WatchedSession.runs


def small_alexnet(features, feature_extract=False, weights=None, name="alexnet"):
    """In AlexNet's place where only main is looked at: one random product, [N, 1000] or [N, 4096]."""
    with tf.name_scope(name):
        pixels = tf.reshape(features[:, ::57, ::57], [-1, 48])
        W = tf.Variable(tf.random.normal([48, WIDTH if feature_extract else 1000], stddev=0.01))
        return tf.matmul(pixels, W) if feature_extract else tf.nn.softmax(tf.matmul(pixels, W))


def check_main(student):
    """Run the whole of one of the first two scripts, on the two signs that come with the lab."""
    signs = photos.read_all(photos.SAMPLE_SIGNS, photos.read_sign)
    alexnet.AlexNet = small_alexnet
    for module in sys.modules.values():  # those that have taken it from there by name
        if isinstance(vars(module).get("AlexNet"), WatchedAlexNet):
            module.AlexNet = small_alexnet
    runs = runs_of_main(student)
    if not any(fed for _, _, fed, _ in runs):
        raise Wrong("main runs nothing on the signs: session.run(..., {images: features})")
    _photos_as_given(runs, signs)


def check_training(student):
    """Run the whole of the last script on 43 random signs, on the real network, and look at what it did."""
    rng = np.random.default_rng()
    signs, classes = rng.integers(0, 256, (CLASSES, 32, 32, 3), np.uint8), np.arange(CLASSES)
    drawn_signs.render = lambda *arguments, **options: (signs.copy(), classes.copy())
    if hasattr(student.module, "BATCH"):
        student.module.BATCH = 8
    fc7_of = student.own["fc7_of"]
    if fc7_of.__module__ == student.module.__name__:  # not that of feature_extraction.py, which has a check of its own
        check_fc7_of(student, fc7_of)
        student.module.fc7_of = fc7_of
    changed = []

    def look(session):
        alexnet_variables, _ = by_owner()
        arrays = [array for layer in alexnet_weights().values() for array in layer]
        changed.extend(v.op.name for v, array, value in zip(alexnet_variables, arrays, session.run(alexnet_variables))
                       if not np.array_equal(array, value))

    runs = runs_of_main(student, look)
    training = [i for i, (operations, _, fed, _) in enumerate(runs) if operations and len(fed) == 2]
    if not training:
        raise Wrong("main trains nothing: no step is run with features and labels fed")
    if changed:
        raise Wrong(f"training has changed AlexNet's own variables ({changed[0]} and others): it is not frozen")
    _photos_as_given(runs, signs)
    if any(operations and not fed for operations, _, fed, _ in runs[training[0] + 1:]):
        raise Wrong("the initializer runs again during the training, and throws away what the layer has learned: once, before "
                    "it")
    if runs[-1][3] != runs[training[0]][3]:
        raise Wrong("the graph grows during the training: minimize, a new layer or another operation is built inside the loop, "
                    "each "
                    "time anew; build everything before it, and only run it there")
    true = {row.tobytes(): label for _, arrays, fed, _ in runs for array in arrays if array.shape[1:] == (WIDTH,)
            for row, label in zip(array, _labels_of(fed, signs))}
    trained, validated = set(), set()
    for i, (operations, _, fed, _) in enumerate(runs):
        if len(fed) != 2:
            continue
        X, y = sorted(fed, key=np.ndim, reverse=True)
        for row, label in zip(X, y):
            key = row.tobytes()
            (trained if i in training else validated).add(key)
            if operations and key in true and true[key] != label:
                raise Wrong("photos and labels no longer belong together in the training steps")
    if validated and validated <= trained:
        raise Wrong("the photos that validate are trained on too: their accuracy says nothing")
    if not validated:
        return "main never evaluates the layer on the validation photos"
    return None


def _labels_of(fed, signs):
    known = {sign.tobytes(): label for label, sign in enumerate(signs)}
    return [known.get(np.asarray(image, np.uint8).tobytes(), -1) for image in fed[0]] if fed and fed[0].ndim == 4 else []


def _photos_as_given(runs, signs):
    """Raise Wrong if what was fed as images is not the signs as they are."""
    known = {sign.tobytes() for sign in signs}
    swapped = {sign[..., ::-1].tobytes() for sign in signs}
    for _, _, fed, _ in runs:
        for images in fed:
            if images.ndim != 4:
                continue
            for image in images:
                if np.array_equal(image[..., 0], image[..., 2]):
                    raise Wrong("two channels of the photos are the same: NumPy's swap a[..., 0], a[..., 2] = a[..., 2], "
                                "a[..., 0] "
                                "overwrites one, and the lab's RGB needs no swap")
                key = np.asarray(image, np.uint8).tobytes()
                if key in swapped:
                    raise Wrong("main feeds the photos as BGR: the lab's are RGB, in training and in inference")
                if key not in known:
                    raise Wrong("main changes the photos before it feeds them: the mean and all else is fc7_of's, so that "
                                "training and inference prepare them alike")


LAB_PAGE = "the lab's page, Transfer Learning with TensorFlow, 1. Feature extraction"
CHECKS = {  # in the lab's order: the file, the check, where to read, a hint
    "resize": ("traffic_sign_inference.py", check_resize, "the text of resize; README, 2. Traffic sign inference",
               "tf.image.resize_images(signs, (height, width)) does it, with nothing else given"),
    "inference": ("traffic_sign_inference.py", check_main, "main, which is given, in exercises/traffic_sign_inference.py",
                  "compare main with the one in exercises/traffic_sign_inference.py"),
    "fc7_of": ("feature_extraction.py", check_fc7_of, "the text of fc7_of; README, 3. Feature extraction; AlexNet in "
                                                      "alexnet.py",
               "cast to tf.float32, subtract tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True), resize as before, then "
               "AlexNet(resized, feature_extract=True, weights=weights)"),
    "new_layer": ("feature_extraction.py", check_new_layer, "the text of new_layer; README, 3. Feature extraction",
                  "two variables, tf.truncated_normal([4096, 43], stddev=0.01) and tf.zeros([43]); tf.matmul and + do the "
                  "rest"),
    "freeze": ("feature_extraction.py", check_freeze, "the text of fc7_of; " + LAB_PAGE,
               "fc7_of returns tf.stop_gradient(fc7): from there no gradient goes back"),
    "extraction": ("feature_extraction.py", check_main, "main, which is given, in exercises/feature_extraction.py",
                   "compare main with the one in exercises/feature_extraction.py"),
    "loss": ("train_feature_extraction.py", check_loss, "the text of loss; README, 4. Training the feature extractor",
             "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits), then tf.reduce_mean"),
    "train_step": ("train_feature_extraction.py", check_train_step, "the text of train_step; README, 4. Training the feature "
                   "extractor", "tf.train.AdamOptimizer() has a method minimize(loss), which gives the operation"),
    "accuracy": ("train_feature_extraction.py", check_accuracy, "the text of accuracy; README, 4. Training the feature "
                                                                "extractor",
                 "tf.argmax(logits, axis=1), tf.equal, tf.cast to tf.float32, tf.reduce_mean"),
    "split": ("train_feature_extraction.py", check_split, "the text of split; README, 4. Training the feature extractor",
              "order = np.random.RandomState(0).permutation(len(labels)); order[:K] and order[K:] are rows of both arrays"),
    "batches": ("train_feature_extraction.py", check_batches, "the text of batches",
                "np.random.permutation(len(labels)), and a loop over range(0, len(labels), size) that yields slices of it"),
    "evaluate": ("train_feature_extraction.py", check_evaluate, "the text of evaluate",
                 "for each batch session.run(measures, {inputs[0]: ..., inputs[1]: ...}), times its size; the sum over "
                 "len(labels)"),
    "training": ("train_feature_extraction.py", check_training, "main, which is given, in "
                                                                "exercises/train_feature_extraction.py; "
                 "README, 4. Training the feature extractor", "compare main with the one in "
                                                              "exercises/train_feature_extraction.py"),
}


def verdict(name, student):
    """("right", ""), ("remark", sentence), ("open", sentence) or ("wrong", sentence) for the check `name`."""
    file, check, _, _ = CHECKS[name]
    try:
        if name in student.functions and not callable(getattr(student.module, name, None)):
            raise Wrong(f"the function {name} is missing; exercises/check.py --reset {name} puts it back")
        remark = check(student)
        return ("remark", remark) if remark else ("right", "")
    except Wrong as error:
        return "wrong", str(error)
    except BaseException as error:  # the student's code may raise anything
        sentence = errors.explain(error, student.folder / file, name)
        if isinstance(error, BadInput) and "is still open" in str(error):
            return "open", "fill in its TODO"
        return "wrong", sentence
