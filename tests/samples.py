"""Photos to train on, and what a script may say of a mistake."""

import pickle
from pathlib import Path

import numpy as np


def mistake(err):
    """The sentence behind the notices, which is the only one that a mistake gets."""
    *notices, sentence = err.splitlines()
    assert all(notice.startswith(("AlexNet weights", "These weights know", "The random split", "If these photos")) for notice in notices)
    return sentence


def write_data(count=90, path="train.p"):
    """A train.p of `count` blurred colours, five signs: enough to be learned."""
    rng = np.random.default_rng(0)
    labels = rng.choice([2, 14, 25, 38, 42], count)
    colours = rng.integers(0, 256, (43, 4, 4, 3))[labels] + rng.integers(-20, 21, (count, 4, 4, 3))
    features = np.clip(colours, 0, 255).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    Path(path).write_bytes(pickle.dumps({"features": features, "labels": labels}, 4))
    return features, labels
