"""Measures a layer's answers: loss, accuracy, the accuracy of each class, and which signs are confused with which."""

import textwrap

import numpy as np

from lab.data import gtsrb
from lab.files import BadInput

_WORST = 10  # confusions in a report
_WORST_SHOWN = 5  # confusions in a description
_NAME = 31  # characters of a name in the table, so that two columns stay under 100 characters


def report(logits, labels, class_names=None):
    """Measure `logits`, float32 [N, 43], against `labels`, int64 [N], N > 0, and return a dict that is ready for JSON:

        {"photos": 12630, "loss": 1.4, "accuracy": 0.67, "top5_accuracy": 0.9,
         "classes": [{"class": 14, "name": "Stop", "photos": 270, "accuracy": 0.9}, ...],
         "confusions": [{"class": 5, "name": "Speed limit (80km/h)", "read_as": 2, "read_as_name": "Speed limit (50km/h)",
                         "photos": 12}, ...]}

    loss: the mean over the photos of the cross-entropy in nats, -log(softmax(logits)[label]), computed in float64.
    accuracy, top5_accuracy: the fraction of photos, 0 to 1, whose label has the largest logit, or one of the five largest.
        Equal logits rank in the order of classes, as in inference.print_top.
    classes: those that occur in `labels`, in order.
    confusions: the ten most frequent pairs of sign and wrong answer, most frequent first, ties in the order of classes.

    Raises BadInput for logits that are NaN or infinite, as after a training whose learning rate was too high.
    """
    if not np.isfinite(logits).all():
        raise BadInput("the layer's logits are NaN or infinite: its training diverged; train again with a lower learning rate")
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)  # the softmax stays the same, and exp cannot overflow
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    ranked = np.argsort(-logits, axis=1, kind="stable")
    answers = ranked[:, 0]

    names = gtsrb.sign_names()
    counts = np.bincount(labels * gtsrb.CLASSES + answers, minlength=gtsrb.CLASSES ** 2).reshape(gtsrb.CLASSES, -1)
    photos = counts.sum(axis=1)
    wrong = np.where(np.eye(gtsrb.CLASSES, dtype=bool), 0, counts).ravel()
    worst = [divmod(int(pair), gtsrb.CLASSES) for pair in np.argsort(-wrong, kind="stable")[:_WORST] if wrong[pair]]
    return {
        "photos": len(labels),
        "loss": float(losses.mean()),
        "accuracy": float(np.mean(answers == labels)),
        "top5_accuracy": float(np.mean((ranked[:, :5] == labels[:, None]).any(axis=1))),
        "classes": [{"class": int(c), "name": names[c], "photos": int(photos[c]), "accuracy": float(counts[c, c] / photos[c])}
                    for c in np.flatnonzero(photos)],
        "confusions": [{"class": c, "name": names[c], "read_as": answer, "read_as_name": names[answer],
                        "photos": int(counts[c, answer])} for c, answer in worst],
    }


def describe(title, report):
    """Format a `report` for the terminal under a short `title` (str): a str without a newline at its end.

    All classes are in a table less than 100 characters wide; the five most frequent confusions are sentences.
    """
    cells = [f"{c['class']:2} {textwrap.shorten(c['name'], _NAME, placeholder='...'):{_NAME}} {c['photos']:6} "
             f"{c['accuracy']:6.1%}" for c in report["classes"]]
    rows = (len(cells) + 1) // 2
    heading = f"   {'Sign':{_NAME}} photos  right"
    lines = [f"{title}: {_photos(report['photos'])}, loss {report['loss']:.4f}, "
             + f"accuracy {report['accuracy']:.1%}, top-5 accuracy {report['top5_accuracy']:.1%}",
             "",
             "   ".join([heading] * min(len(cells), 2)),
             *("   ".join(cells[row::rows]) for row in range(rows)),
             ""]
    if not report["confusions"]:
        return "\n".join([*lines, "No photo was read wrongly."])
    return "\n".join([*lines, "Most often confused:",
                      *(f"{pair['name']} read as {pair['read_as_name']}: {_photos(pair['photos'])}"
                        for pair in report["confusions"][:_WORST_SHOWN])])


def _photos(count):
    return f"{count:,} photo{'s' * (count != 1)}"
