"""Helpers: photos to train on, what training has saved, the answers of an export, and the message for a mistake."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from lab.training import checkpoints


def photo(path, seed=0):
    """Write a photo of coarse noise, and return its path."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    Image.fromarray(pixels.repeat(8, axis=0).repeat(8, axis=1)).save(path, "PNG")
    return path


def mistake(err):
    """The last line of `err`, the error message, after checking that only known notices precede it."""
    *notices, sentence = err.splitlines()
    known = ("AlexNet weights", "These weights know", "Preprocessing", "The validation accuracy will be optimistic",
             "If these photos", "43 classes, ", "The classes in", "The random split leaves no photos of these classes")
    assert all(notice.startswith(known) for notice in notices)
    return sentence


def saved(folder="model"):
    """The bytes of each variable in the checkpoint of a model folder, {name: bytes}, and its history."""
    state = checkpoints.read(folder)
    reader = tf.train.load_checkpoint(f"{folder}/{state['checkpoint']}")
    return {name: reader.get_tensor(name).tobytes() for name in reader.get_variable_to_shape_map()}, state["history"]


SERVE = """
import sys
import numpy as np
import tensorflow as tf
folder, photos, answers = sys.argv[1:]
served = tf.saved_model.load(folder).signatures["serving_default"](images=tf.constant(np.load(photos)))
np.savez(answers, **{name: np.array(answer.numpy().tolist()) for name, answer in served.items()})
assert "alexnet" not in sys.modules
"""


def served(folder, photos):
    """The outputs of the SavedModel in `folder` for `photos`, {name: array}, from a process without the lab's code."""
    files = [Path(folder).with_name(name) for name in ("photos.npy", "served.npz")]
    np.save(files[0], photos)
    subprocess.run([sys.executable, "-c", SERVE, folder, *files], check=True, env=os.environ | {"PYTHONPATH": ""})
    return np.load(files[1])


def small_weights(shapes):
    """Random weights of `shapes`, {layer: the shape of W}: {layer: (W, b)} in float32."""
    rng = np.random.default_rng(0)
    return {layer: (rng.standard_normal(shape, np.float32), rng.standard_normal(shape[-1], np.float32))
            for layer, shape in shapes.items()}


def write_data(count=90, path="train.p"):
    """Write a train.p of `count` noisy colour patterns in five classes, easy to learn. Returns its features and labels."""
    rng = np.random.default_rng(0)
    labels = rng.choice([2, 14, 25, 38, 42], count)
    colours = rng.integers(0, 256, (43, 4, 4, 3))[labels] + rng.integers(-20, 21, (count, 4, 4, 3))
    features = np.clip(colours, 0, 255).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    others = {"sizes": np.full((count, 2), 32), "coords": np.tile([0, 0, 32, 32], (count, 1))}  # by which GTSRB's are known
    Path(path).write_bytes(pickle.dumps({"features": features, "labels": labels, **others}, 4))
    return features, labels
