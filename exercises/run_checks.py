"""Checks of the functions that work on arrays and in a session, split, batches and evaluate, and of the scripts as a whole.

checks.py says what a check takes and gives.
"""

import itertools
import sys

import numpy as np
import tensorflow.compat.v1 as tf
from graph_checks import check_fc7_of
from watching import CLASSES, WIDTH, WatchedAlexNet, WatchedSession, Wrong, alexnet_weights, by_owner, small_alexnet, told_apart

import alexnet
from lab.data import drawn_signs, photos
from lab.network import weights as weight_files


def check_split(student):
    """Split 101 and 300 numbered photos, class by class, and look where the numbers went."""
    remark = None
    for count in (101, 300):
        numbers = np.arange(count)
        features = np.stack([numbers, -numbers], axis=1).astype(np.float32)
        labels = numbers * CLASSES // count  # class by class, as in train.p
        given = features.copy(), labels.copy()
        parts = student.module.split(*given)
        if parts is None:
            raise Wrong("split returns nothing: does it lack its `return`?")
        if not isinstance(parts, (tuple, list)) or len(parts) != 4:
            raise Wrong("split returns four arrays: features and labels to train on, features and labels to validate with")
        if not all(isinstance(part, np.ndarray) for part in parts):
            kind = next(type(part).__name__ for part in parts if not isinstance(part, np.ndarray))
            raise Wrong(f"split returns an object of type {kind} among its four results: each must be a NumPy array")
        if not np.array_equal(given[0], features) or not np.array_equal(given[1], labels):
            raise Wrong("it changes the arrays it is given: shuffle row numbers, not the photos (np.random.shuffle works in "
                        "place)")
        X, y, X_validation, y_validation = parts
        if X.ndim == 3 or X_validation.ndim == 3:
            raise Wrong("the rows are None: np.random.shuffle works in place and returns None; np.random.permutation gives a "
                        "new order")
        if X.ndim == 2 and y.ndim == 2:
            raise Wrong("the order is scikit-learn's, both features first: here features and labels to train on come first, "
                        "then features and labels to validate with")
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
            raise Wrong("the parts are swapped: the first third is for validation, the rest for training")
        if len(validation) in (0, count) or not 0.05 < len(validation) / count < 0.6:
            raise Wrong(f"{len(validation)} of {count} photos validate: the lab holds out a third")
        if (np.ptp(validation) + 1 == len(validation) or np.ptp(training) + 1 == len(training)
                or len(set(np.diff(np.sort(validation)))) == 1):
            raise Wrong("the photos are not shuffled before they are split: train.p is class by class, so whole classes would "
                        "be missing in training")
        if set(validation) != set(order[:held_out]):
            again = np.asarray(student.module.split(features.copy(), labels.copy())[2])[:, 0].astype(int)
            differs = "" if set(again) == set(validation) else ", and another each time"
            remark = (f"this is another split than the lab's ({len(validation)} of {count} photos validate{differs}): sound, "
                      "but its accuracy cannot be compared with the lab's; the rule is in the docstring of split")
    return remark


def check_batches(student):
    """Go through 103 numbered photos twice, 16 at a time."""
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
            raise Wrong("batches returns one batch and stops: use yield instead of return")
        pairs = list(itertools.islice(made, 3 * count))
        if len(pairs) == 3 * count:
            raise Wrong("batches never stops; it should yield every photo once, then stop")
        if not pairs or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            raise Wrong("batches yields a pair each time: an array of features [B, ...] and one of labels [B]")
        if not all(isinstance(part, np.ndarray) for pair in pairs for part in pair):
            kind = next(type(part).__name__ for pair in pairs for part in pair if not isinstance(part, np.ndarray))
            raise Wrong(f"batches yields an object of type {kind}: yield NumPy arrays, rows of features and of labels")
        if all(X.ndim == 1 and y.ndim == 2 for X, y in pairs):
            raise Wrong("the labels come first: yield features, then labels")
        if any(X.ndim != 2 or y.ndim != 1 for X, y in pairs):
            raise Wrong("batches yields a pair each time: an array of features [B, ...] and one of labels [B]")
        sizes = [len(y) for _, y in pairs]
        if 0 in sizes:
            raise Wrong("it yields an empty batch")
        rows, classes = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
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
    if not all(len(y) for _, y in itertools.islice(student.module.batches(features[:96], labels[:96], size), count)):
        raise Wrong("the last batch is empty when the photos divide evenly, as 96 do by 16")
    if np.array_equal(*orders):
        return "the order is random, but the same in each epoch: the lab draws a new one each time"


def check_evaluate(student):
    """Evaluate a small layer on photos of which the later ones are harder, and look at what was fed."""
    rng = np.random.default_rng()
    batch = getattr(student.module, "BATCH", 128)
    count = 2 * batch + 44
    # Easy photos first, hard ones last, and no shuffling: the figures of the batches differ.
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
        student.module.batches = _in_order
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
                    "training, once")
    if grown:
        raise Wrong("evaluate adds operations to the graph each time it is called, perhaps a new layer that has learned "
                    "nothing: build the graph once, before the loop, and only run it here")
    if not feeds:
        raise Wrong("evaluate runs nothing: session.run(measures, {inputs[0]: ..., inputs[1]: ...}) gives a batch's figures")
    try:
        result = np.array([float(value) for value in result])
    except (TypeError, ValueError):
        result = np.zeros(0)
    if result.shape != (2,):
        raise Wrong("evaluate returns two numbers, the loss and the accuracy")
    sizes = np.array([len(y) for _, y in feeds])
    if count - sum(sizes) == count % batch:
        raise Wrong(f"{sum(sizes)} of {count} photos are counted: the last, short batch is dropped")
    if np.allclose(result, each[-1], atol=1e-5) and len(each) > 1:
        raise Wrong("these are the figures of the last batch alone: all batches count")
    total = (each * sizes[:, None]).sum(axis=0)
    told_apart(result, np.array(right), "evaluate", [
        (np.array(right)[::-1], "loss and accuracy are swapped: the loss comes first"),
        (each.mean(axis=0), "each batch counts the same, so a photo of the short last one counts more: weight by the batch's "
         "size"),
        (each.sum(axis=0), "the figures of the batches are added up: their mean over the photos is wanted"),
        (total, "the sum is not divided: divide it by the number of photos"),
        (total / (len(each) * batch), "the sum is divided by full batches: divide by the number of photos"),
        (total / len(each), "the sum is divided by the number of batches: divide it by the number of photos"),
        (each.sum(axis=0) / count, "the batches' means are added up and divided by the number of photos: multiply each by its "
         "batch's size first"),
        (each.sum(axis=0) * batch / count, "each batch is counted as BATCH photos, the short last one too: multiply by its own "
         "size"),
        (each[0], "these are the figures of the first batch alone: all batches count"),
    ], "these are not the means over all photos of what session.run gives for each batch")
    if max(sizes) > batch:
        return f"{max(sizes)} photos go through at once: more than BATCH = {batch} take ever more memory"


def _in_order(features, labels, size):
    return ((features[i:i + size], labels[i:i + size]) for i in range(0, len(labels), size))


def runs_of_main(student, at_exit=None):
    """Run the student's whole script: what its session ran, as WatchedSession has it."""
    WatchedSession.runs, WatchedSession.at_exit = [], at_exit
    tf.Session = WatchedSession
    weight_files.load = lambda source="auto": alexnet_weights()
    student.module.main([])
    return WatchedSession.runs


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
    fc7_of = student.own.get("fc7_of")
    if getattr(fc7_of, "__module__", "") == student.module.__name__:  # feature_extraction.py's has been checked
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
        raise Wrong("the graph grows during the training: minimize, a new layer or another operation is built inside the "
                    "loop, each time anew; build everything before it, and only run it there")
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
                                "a[..., 0] overwrites one, and the lab's RGB needs no swap")
                key = np.asarray(image, np.uint8).tobytes()
                if key in swapped:
                    raise Wrong("main feeds the photos as BGR: the lab's are RGB, in training and in inference")
                if key not in known:
                    raise Wrong("main changes the photos before it feeds them: the mean and all else is fc7_of's, so that "
                                "training and inference prepare them alike")
