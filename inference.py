"""Photos through a session in batches, and the answers as the lab prints them."""

import numpy as np
from tqdm import tqdm

BATCH = 128  # images at a time: more is no faster on a CPU, and every 128 take 0.5 GB while they pass


def run(session, output, images, photos, description="Images"):
    """`output` [N, ...] of the graph for all `photos`, an array [N, ...], fed to the placeholder `images` in batches."""
    progress = tqdm(total=len(photos), desc=description, unit="image", disable=None, leave=False)
    with progress:
        answers = None
        for start in range(0, len(photos), BATCH):
            answer = session.run(output, {images: photos[start:start + BATCH]})
            if answers is None:
                answers = np.empty((len(photos), *answer.shape[1:]), answer.dtype)
            answers[start:start + len(answer)] = answer
            progress.update(len(answer))
    return answers


def print_top(probabilities, names, top=5, photos=()):
    """Print the `top` most probable of `names` for each row of `probabilities` [N, len(names)], as the lab does.

    photos: what to print behind the number of each image, if anything.
    """
    for i, row in enumerate(probabilities):
        print("Image", i, *photos[i:i + 1])
        for best in np.argsort(-row, kind="stable")[:top]:
            print(f"{names[best]}: {row[best]:.3f}")
        print()
