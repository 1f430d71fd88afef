"""Measures a layer's answers: loss, accuracy, the accuracy of each class, and which classes are confused with which."""

import unicodedata
from typing import NamedTuple

import numpy as np

from lab import files
from lab.files import BadInput, counted

_TOP = 5  # with so many classes or fewer, a top-5 accuracy would say nothing: it is 100%
_WORST = 10  # confusions in a report
_WORST_SHOWN = 5  # confusions in a description
_CLASSES_SHOWN = 50  # at most in a description's table, which is then 26 lines high
_NUMBER_AND_NAME = 33  # columns in the table, so that two of its columns stay under 100 characters
_ROWS = 1000  # are in float64 at a time: 16 MB with 2,000 classes


class Mistake(NamedTuple):
    """A photo that was read wrongly."""
    photo: int  # the photo's row in the features
    label: int
    read_as: int
    probability: float  # of `read_as`, 0 to 1


def report(logits, labels, class_names):
    """Measure `logits`, float32 [N, C], against `labels`, int64 [N], N > 0, and return a dict that is ready for JSON:

        {"photos": 12630, "loss": 1.4, "accuracy": 0.67, "top5_accuracy": 0.9,
         "classes": [{"class": 14, "name": "Stop", "photos": 270, "accuracy": 0.9}, ...],
         "confusions": [{"class": 5, "name": "Speed limit (80km/h)", "read_as": 2, "read_as_name": "Speed limit (50km/h)",
                         "photos": 12}, ...]}

    class_names: a list of C str, in the order of the labels.

    loss, accuracy: see `loss_and_accuracy`.
    top5_accuracy: the fraction of photos, 0 to 1, whose label has one of the five largest logits. Equal logits rank in the
        order of classes, as in inference.print_top. Left out when there are only five classes or fewer.
    classes: those that occur in `labels`, in order.
    confusions: the ten most frequent pairs of class and wrong answer, most frequent first, ties in the order of classes.

    Raises BadInput for logits that are NaN or infinite, as after a training whose learning rate was too high.
    """
    figures = loss_and_accuracy(logits, labels)
    if len(class_names) > _TOP:
        own = logits[np.arange(len(labels)), labels][:, None]
        before = (logits > own) | (logits == own) & (np.arange(len(class_names)) < labels[:, None])
        figures["top5_accuracy"] = float(np.mean(before.sum(axis=1) < _TOP))

    answers = logits.argmax(axis=1)
    wrong = answers != labels
    photos = np.bincount(labels, minlength=len(class_names))
    right = np.bincount(labels[~wrong], minlength=len(class_names))
    pairs, counts = np.unique(np.stack([labels[wrong], answers[wrong]], axis=1), axis=0, return_counts=True)
    worst = np.argsort(-counts, kind="stable")[:_WORST]
    return {
        "photos": len(labels),
        **figures,
        "classes": [{"class": int(c), "name": class_names[c], "photos": int(photos[c]), "accuracy": float(right[c] / photos[c])}
                    for c in np.flatnonzero(photos)],
        "confusions": [{"class": c, "name": class_names[c], "read_as": answer, "read_as_name": class_names[answer],
                        "photos": int(count)} for (c, answer), count in zip(pairs[worst].tolist(), counts[worst])],
    }


def loss_and_accuracy(logits, labels):
    """The mean loss and the accuracy of `logits`, float32 [N, C], for `labels`, int64 [N]: {"loss": float, "accuracy": float}.

    loss: the mean over the photos of the cross-entropy in nats, -log(softmax(logits)[label]), computed in float64.
    accuracy: the fraction of photos, 0 to 1, whose label has the largest logit, and of equal ones the first.

    Raises BadInput for logits that are NaN or infinite.
    """
    if not np.isfinite(logits).all():
        raise BadInput("the layer's logits are NaN or infinite: its training diverged; train again with a lower learning rate")
    largest, own = logits.max(axis=1).astype(np.float64), logits[np.arange(len(labels)), labels]
    return {"loss": float((_log_sums(logits) + (largest - own)).mean()),
            "accuracy": float(np.mean(logits.argmax(axis=1) == labels))}


def mistakes(logits, labels, rows):
    """The wrong answers, a list of Mistake, the most confident first and equal ones in the order of `rows`.

    logits: float32 [N, C]. labels: int64 [N]. rows: int64 [N], where the photos stand in the features.
    """
    answers = logits.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    probabilities = np.exp(-_log_sums(logits[wrong]))
    order = np.argsort(-probabilities, kind="stable")
    wrong = wrong[order]
    return [Mistake(*values) for values in zip(rows[wrong].tolist(), labels[wrong].tolist(), answers[wrong].tolist(),
                                               probabilities[order].tolist())]


def _log_sums(logits):
    """log(sum(exp(logits - their maximum))), in float64, for each row."""
    sums = np.empty(len(logits))
    for start in range(0, len(logits), _ROWS):
        block = logits[start:start + _ROWS].astype(np.float64)
        block -= block.max(axis=1, keepdims=True)  # the softmax stays the same, and exp cannot overflow
        sums[start:start + _ROWS] = np.exp(block, out=block).sum(axis=1)
    return np.log(sums)


def describe(title, report):
    """Format a `report` for the terminal under a short `title` (str): a str without a newline at its end.

    A table less than 100 characters wide lists the classes, up to 50; of more it lists the 50 that were read worst. The five
    most frequent confusions are sentences.
    """
    classes = report["classes"]
    others = len(classes) - _CLASSES_SHOWN
    if others > 0:
        classes = sorted(classes, key=lambda c: (c["accuracy"], -c["photos"]))[:_CLASSES_SHOWN]
    digits = max(2, len(str(max(c["class"] for c in classes))))
    width = _NUMBER_AND_NAME - digits
    cells = [f"{c['class']:{digits}} {_fitted(c['name'], width)} {c['photos']:6} {c['accuracy']:6.1%}" for c in classes]
    rows = (len(cells) + 1) // 2
    heading = f"{'':{digits}} {'Class':{width}} photos  right"
    top5 = f", top-5 accuracy {report['top5_accuracy']:.1%}" if "top5_accuracy" in report else ""
    figures = f"loss {report['loss']:.4f}, accuracy {report['accuracy']:.1%}{top5}"
    lines = [f"{title}: {counted(report['photos'], 'photo')}, {figures}",
             "",
             "   ".join([heading] * min(len(cells), 2)),
             *("   ".join(cells[row::rows]) for row in range(rows)),
             ""]
    if others > 0:
        lines[-1:] = [f"These {len(classes)} classes were read worst; metrics.json has the other {others:,} too.", ""]
    if not report["confusions"]:
        return "\n".join([*lines, "No photo was read wrongly."])
    return "\n".join([*lines, "Most often confused:",
                      *(f"{_short(pair['name'])} read as {_short(pair['read_as_name'])}: {counted(pair['photos'], 'photo')}"
                        for pair in report["confusions"][:_WORST_SHOWN])])


def _short(name):
    return files.shorten(files.printable(name))


def _fitted(name, width):
    """`name` in exactly `width` columns of the terminal: filled up with spaces, or cut to end in '...'."""
    name = files.printable(name)
    columns = np.cumsum([_columns(character) for character in name])
    if len(name) and columns[-1] > width:
        name = name[:np.searchsorted(columns, width - 3, side="right")].rstrip() + "..."
    return name + " " * (width - sum(map(_columns, name)))


def _columns(character):
    """How many columns a terminal needs for it: Chinese characters and emoji are two wide, combining marks nothing."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 1 + (unicodedata.east_asian_width(character) in "WF")
