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


def print_top(probabilities, names, top=5, file_names=(), positions=None):
    """Print the `top` most probable of `names` for each row of `probabilities` [N, len(names)].

    positions: the images' numbers, N ints, by default from 0 on. file_names: found by these numbers; may be empty.
    """
    for i, row in zip(range(len(probabilities)) if positions is None else positions, probabilities):
        print("Image", i, *file_names[i:i + 1])
        for best in np.argsort(-row, kind="stable")[:top]:
            print(f"{names[best]}: {row[best]:.3f}")
        print()
