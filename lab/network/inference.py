"""Runs images through a session in batches, and prints the most probable classes."""

import numpy as np

from lab.progress import progress

BATCH = 128  # images at a time: on a CPU larger batches are no faster and take more memory


def run(session, output, inputs, features, description="Images", rows=None):
    """Feed `features`, or only its `rows`, to the tensor `inputs` in batches, and return the tensor `output` for all of them.

    features: an array [N, ...]. rows: int64 [M], indices into it. Returns an array [M, ...], or [N, ...] without `rows`.
    """
    count = len(features) if rows is None else len(rows)
    with progress(None, description, count) as shown:
        answers = None
        for start in range(0, count, BATCH):
            batch = slice(start, start + BATCH) if rows is None else rows[start:start + BATCH]
            answer = session.run(output, {inputs: features[batch]})
            if answers is None:
                answers = np.empty((count, *answer.shape[1:]), answer.dtype)
            answers[start:start + len(answer)] = answer
            shown.update(len(answer))
    return answers


def best(probabilities, class_names, top=5, threshold=0.0):
    """The `top` most probable classes of one photo, the most probable first: pairs of a class name and its probability.

    probabilities: float32 [len(class_names)]; equal ones rank in the order of the classes. threshold: float; if the most
    probable class has a lower probability, the only pair is "unknown" and that probability.
    """
    order = np.argsort(-probabilities, kind="stable")[:top]
    if probabilities[order[0]] < np.float32(threshold):
        return [("unknown", probabilities[order[0]])]
    return [(class_names[i], probabilities[i]) for i in order]


def print_top(probabilities, class_names, top=5, file_names=(), positions=None, threshold=0.0):
    """Print the `top` most probable of `class_names`, as `best` has them, for each row of `probabilities`.

    probabilities: float32 [N, len(class_names)]. positions: the images' numbers, N ints, by default from 0 on. file_names:
    found by these numbers; may be empty.
    """
    for i, row in zip(range(len(probabilities)) if positions is None else positions, probabilities):
        print("Image", i, *file_names[i:i + 1])
        for name, probability in best(row, class_names, top, threshold):
            print(f"{name}: {probability:.3f}")
        print()
