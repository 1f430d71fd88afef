"""Checks of the functions that build the graph: resize, fc7_of, new_layer, the freeze, loss, train_step and accuracy.

checks.py says what a check takes and gives.
"""

from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from watching import (
    CLASSES,
    WIDTH,
    Wrong,
    alexnet_weights,
    assembled,
    by_owner,
    close,
    cross_entropy,
    in_python,
    some_fc7,
    some_signs,
    tensor,
    told_apart,
)

import alexnet

LN_43 = np.log(CLASSES)
LAB_RESIZE = "; the lab's resize is bilinear, as TensorFlow 1's tf.image.resize_images does it"


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
    "corners": "it aligns the corners (align_corners=True), so everything between them is shifted" + LAB_RESIZE,
    "half": "it has half-pixel centres, which is TensorFlow 2's tf.image.resize" + LAB_RESIZE,
}
SWAPPED = "the channels are swapped to BGR: the lab's are RGB, in training and in inference"


def check_resize(student):
    """Compare with a resize written from its definition, in NumPy, on two random signs."""
    signs = some_signs().astype(np.float32)
    signs -= signs.mean(axis=(1, 2, 3), keepdims=True)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None, 32, 32, 3])
        answer = student.module.resize(placeholder)
        if isinstance(answer, tf.Tensor) and answer.shape.rank == 4 and answer.shape[1] not in (227, None):
            raise Wrong(f"resize makes {answer.shape[1]}x{answer.shape[2]} pixels, but this AlexNet takes 227x227")
        tensor(answer, "resize", [None, 227, 227, 3])
        in_python(graph)
        value = session.run(answer, {placeholder: signs})
    right = resized(signs)
    told_apart(value, right, "resize",
               [*((resized(signs, kind), sentence) for kind, sentence in WRONG_RESIZES.items()),
                (right[..., ::-1], SWAPPED), (right / 255, "it divides the pixels by 255: AlexNet takes them from 0 to 255"),
                (right.transpose(0, 2, 1, 3), "it turns rows into columns")],
               "the pixel values differ" + LAB_RESIZE)


def wrong_preparations(images):
    """(array [N, 32, 32, 3], sentence) of images as students prepare them."""
    x = images.astype(np.float64)
    own = x.mean(axis=(1, 2, 3), keepdims=True)
    by_255 = "the pixels are divided by 255: AlexNet was trained on 0 to 255"
    return [
        (x, "no mean is subtracted: subtract each image's own mean, in training as in inference"),
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


def check_fc7_of(student, function=None):
    """Look at what goes into AlexNet, and that its fc7 comes out, on two random signs. `function` is by default the "
    "student's."""
    images = some_signs()
    watched = alexnet.AlexNet
    watched.calls.clear()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        placeholder = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        fc7 = (function or student.module.fc7_of)(placeholder, alexnet_weights())
        if not watched.calls:
            raise Wrong("fc7_of never calls AlexNet: AlexNet(..., feature_extract=True, weights=weights) gives fc7")
        features, output, weights = watched.calls[-1]
        if output.shape[1] == 1000:
            raise Wrong("AlexNet gives its 1000 probabilities, not fc7: feature_extract=True is missing")
        if weights is not alexnet_weights():
            raise Wrong("AlexNet is not given the weights: AlexNet(..., weights=weights)")
        tensor(fc7, "fc7_of", [None, WIDTH])
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
                remark = ("the mean is that of the resized image, which weights the edges less: nearly the same; the lab takes "
                          "it before the resize")
            else:
                candidates = [(resized(prepared), sentence) for prepared, sentence in wrong_preparations(images)]
                own = x - x.mean(axis=(1, 2, 3), keepdims=True)
                candidates += [(resized(own, kind), sentence) for kind, sentence in WRONG_RESIZES.items()]
                told_apart(seen, right, "fc7_of", candidates,
                           "what goes into AlexNet is not the image less its own mean, resized as the lab does")
        if not close(value, plain):
            raise Wrong("what comes out of AlexNet is changed afterwards: fc7 goes to the new layer as it is")
    return remark


def _in_uint8(graph):
    if any(op.type in ("Sub", "Mean", "Sum") and op.outputs[0].dtype == tf.uint8 for op in graph.get_operations()):
        raise Wrong("the mean is computed or subtracted in uint8, where 3 - 5 is 254: cast the images to tf.float32 first")


def check_new_layer(student):
    """Look at the variables, the form of the logits and the loss of the untrained layer, on random features."""
    fc7 = some_fc7(64)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None, WIDTH])
        logits = student.module.new_layer(placeholder)
        tensor(logits, "new_layer", [None, CLASSES])
        in_python(graph)
        learning = tf.trainable_variables()
        if not learning:
            raise Wrong("the new layer has no variables that training could change: make its weights and biases tf.Variable")
        unused = [v.shape.as_list() for v, gradient in zip(learning, tf.gradients(tf.reduce_sum(logits ** 2), learning))
                  if gradient is None]
        if len(unused) == len(learning):
            raise Wrong("no gradient reaches the layer's variables: a tf.stop_gradient on the logits stops all learning; the "
                        "freeze belongs on fc7")
        if unused:
            raise Wrong(f"the variable of shape {unused[0]} is made, but the logits do not depend on it")
        shapes = [v.shape.as_list() for v in learning]
        fixed = [v for v in tf.global_variables() if v.shape.rank == 2 and not any(v is other for other in learning)]
        if all(len(shape) < 2 for shape in shapes):
            raise Wrong("only the biases are trained: the weights do not change; make them a tf.Variable that is trainable")
        if fixed:
            raise Wrong(f"the weights of shape {fixed[0].shape.as_list()} do not change: make them trainable")
        session.run(tf.global_variables_initializer())
        values, answer = session.run([learning, logits], {placeholder: fc7})
        if not close(answer, session.run(logits, {placeholder: fc7})):
            raise Wrong("the logits differ from run to run: some weights are a plain tensor, drawn anew each time; a "
                        "tf.Variable keeps them")
        keras = any("keras" in Path(frame.filename).parts for frame in logits.op.traceback or ())
        added = logits.op.type in ("Add", "AddV2", "BiasAdd")

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
    if [CLASSES] not in shapes and added:
        raise Wrong("the biases are not 43 trainable numbers: make them a tf.Variable of shape [43]")
    if [CLASSES] not in shapes:
        raise Wrong("the layer has no biases: one number for each of the 43 classes, [43], is added to the product")
    first = cross_entropy(answer, np.arange(64) % CLASSES)
    biases = values[shapes.index([CLASSES])]
    if first > LN_43 + 1 >= cross_entropy(answer - biases, np.arange(64) % CLASSES):
        raise Wrong(f"the biases do not start as zeros: with them the untrained layer has a loss of {first:.1f}, and one that "
                    "knows nothing has ln 43 = 3.76")
    if first > LN_43 + 1:
        raise Wrong(f"the weights start too large: the untrained layer has a loss of {first:.1f}, and one that knows nothing "
                    "has ln 43 = 3.76; draw them with a standard deviation of 0.01")
    if any(np.ptp(value) == 0 for value, shape in zip(values, shapes) if len(shape) == 2):
        return ("the weights all start with the same number: one linear layer learns from that all the same, two of them "
                "would not, and the lab draws them at random")
    if biases.any():
        return "the biases do not start as zeros, as the lab's do"
    if keras:
        return "this layer is made by Keras, which the lab does not use: it takes tf.Variable and tf.matmul"
    return None


def check_freeze(student):
    """Ask for the gradients of the loss on the assembled graph: AlexNet's variables must have none, the new layer's all."""
    with tf.Graph().as_default() as graph:
        *_, loss = assembled(student.functions)
        alexnet_variables, others = by_owner()
        reached = [g is not None for g in tf.gradients(loss, alexnet_variables)]
        learning = [g is not None for g in tf.gradients(loss, others)]
        if not any(learning):
            raise Wrong("no gradient reaches the new layer either, so nothing learns: tf.stop_gradient belongs on fc7, in "
                        "front of the layer, not on the logits")
        if not any(reached):
            return None
        if not any(v.trainable for v in alexnet_variables) or _spared(student, loss, alexnet_variables):
            return ("AlexNet is frozen by the choice of variables (var_list): this freezes one optimizer's step, not the "
                    "graph, through which gradients still flow; tf.stop_gradient on fc7 freezes it for all")
        unused = any(op.type == "StopGradient" and not op.outputs[0].consumers() for op in graph.get_operations())
    if unused:
        raise Wrong("AlexNet is not frozen: tf.stop_gradient gives back a new tensor, and here its result is not used")
    raise Wrong(f"AlexNet is not frozen: the gradient of the loss reaches {sum(reached)} of its variables; no "
                "tf.stop_gradient is on the way, which belongs on fc7")


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


SIGMOID_LOSS = ("this is the sigmoid's cross-entropy, for photos that can show several signs; here each shows one, so use "
                "softmax")


def check_loss(student):
    """Compare with the mean cross-entropy in NumPy, on random logits."""
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
            x[np.arange(3), y[:3]] += 15  # some photos are known well: it shows what a softmax or sigmoid makes of that
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
                (binary.mean(), SIGMOID_LOSS),
                (binary.sum(axis=1).mean(), SIGMOID_LOSS),
                (((softmax - one_hot) ** 2).mean(), "this is a mean of squares: the lab's loss is the cross-entropy"),
            ], "this is not the mean cross-entropy of the logits' softmax")
        far = session.run(answer, {placeholder: [[300.0, -300.0] + [0.0] * 41], labels: [1]})
        if not np.isclose(far, 600):
            return ("a probability that rounds to 0 breaks it (its logarithm is not finite, or cut off): "
                    "tf.nn.sparse_softmax_cross_entropy_with_logits is safe from that")


def check_train_step(student):
    """Take 40 steps on one random batch, on the assembled graph, which the layer must learn completely."""
    with tf.Graph().as_default(), tf.Session() as session:
        _, labels, fc7, loss = assembled(student.functions)
        alexnet_variables, others = by_owner()
        step = student.module.train_step(loss)
        if step is None:
            raise Wrong("train_step returns nothing: does it lack its `return`?")
        if not isinstance(step, (tf.Operation, tf.Tensor)):
            raise Wrong(f"train_step returns an object of type {type(step).__name__}: the operation that changes the "
                        "variables is wanted, as optimizer.minimize(loss) gives it")
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
        lab = [losses[0], *_losses_of_the_lab(session, loss, fed, others, before)]
    if all(np.array_equal(a, b) for a, b in zip(before, after)):
        raise Wrong("after 40 steps the new layer's variables are what they were: train_step must be the operation that "
                    "changes them, as optimizer.minimize(loss) gives it")
    if all(np.array_equal(a, b) for a, b in zip(before, after) if a.ndim == 2):
        raise Wrong("only the biases are trained: the weights do not change; minimize(loss) changes all trainable variables")
    if not np.isfinite(losses).all() or max(losses[1:6]) > 10 * losses[0]:
        raise Wrong(f"the first steps take the loss of a batch from {losses[0]:.1f} to {max(losses[1:6]):.0f}: the steps are "
                    "too long, the learning rate too high; Adam's default is 0.001")
    if losses[-1] > losses[0]:
        raise Wrong(f"40 steps on one batch raise the loss, from {losses[0]:.2f} to {losses[-1]:.2f}: minimize the loss "
                    "itself, in shorter steps")
    if losses[-1] > 0.95 * losses[0]:
        raise Wrong(f"40 steps on one batch of 32 photos take its loss from {losses[0]:.2f} to {losses[-1]:.2f} only, where "
                    "Adam at its default learning rate, 0.001, has learned the batch completely: the steps are too short")
    if not np.allclose(losses, lab, rtol=0.05, atol=0.01):
        slowly = "this learns slowly: " if losses[-1] > losses[0] / 2 else ""
        return (f"{slowly}40 steps on one batch of 32 photos take its loss from {losses[0]:.2f} to {_short(losses[-1])}, where "
                f"the lab's Adam, at its default learning rate, takes it to {_short(lab[-1])}")
    return None


def _short(loss):
    return f"{loss:.2f}" if loss >= 0.01 else "below 0.01"


def _losses_of_the_lab(session, loss, fed, variables, values):
    """The losses after each of 40 steps of the lab's Adam, from the same `values` of the new layer's variables."""
    step = tf.train.AdamOptimizer(name="lab").minimize(loss, var_list=variables)
    session.run(tf.variables_initializer([v for v in tf.global_variables() if "alexnet" not in v.op.name]))
    for variable, value in zip(variables, values):
        variable.load(value, session)
    losses = []
    for _ in range(40):
        session.run(step, fed)
        losses.append(session.run(loss, fed))
    return losses


def check_accuracy(student):
    """Compare with NumPy, on 43 random photos, where photos and classes can be mixed up, and on 7."""
    rng = np.random.default_rng()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        placeholder, labels = tf.placeholder(tf.float32, [None, CLASSES]), tf.placeholder(tf.int64, [None], name="labels")
        answer = student.module.accuracy(placeholder, labels)
        if isinstance(answer, tf.Tensor) and answer.shape.rank == 1:
            raise Wrong("accuracy gives one answer for each photo: their mean is wanted")
        if isinstance(answer, tf.Tensor) and answer.dtype.is_integer:
            raise Wrong("accuracy is a whole number: cast the right and wrong answers to tf.float32 before the mean, or 0.9 "
                        "is 0")
        tensor(answer, "accuracy", [])
        in_python(graph)
        for count in (CLASSES, 7):
            logits, classes = rng.standard_normal((count, CLASSES)), rng.integers(0, CLASSES, count)
            known = rng.permutation(count)[:count // 2 + 1]
            logits[known, classes[known]] += 9
            if count == CLASSES:  # the first photo is of class 0: over the batch, too, not all answers are wrong
                logits[0], classes[0] = 20 * np.eye(CLASSES)[0], 0
            classes[1] = np.argsort(-logits[1])[1]  # the label of the second photo is the second largest
            value = session.run(answer, {placeholder: logits, labels: classes})
            hits = logits.argmax(axis=1) == classes
            five = (np.argsort(-logits, axis=1)[:, :5] == classes[:, None]).any(axis=1)
            candidates = [(0, "it is always 0: in the graph, Python's == does not compare the numbers in two tensors; "
                           "tf.equal does"),
                          (100 * hits.mean(), "it is a percentage: the fraction of the photos, 0 to 1, is wanted"),
                          (hits.sum(), "it counts the right answers: the fraction, 0 to 1, is wanted"),
                          (1 - hits.mean(), "it is the fraction of the wrong answers"),
                          (five.mean(), "it takes a label among the five largest logits for right: the largest alone counts")]
            if count == CLASSES:
                over_batch = (logits.argmax(axis=0) == classes).mean()
                candidates.insert(0, (over_batch, "tf.argmax is taken over the batch (axis 0) and not over the classes (axis "
                                      "1)"))
            told_apart(value, hits.mean(), "accuracy", candidates,
                       "it is not the fraction of the photos whose largest logit is that of their label")
