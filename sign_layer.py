"""The layer for the 43 signs on top of fc7: fresh, saved, restored.

A model folder holds `layer-1.index` and `layer-1.data-...`, a checkpoint of the layer's two variables, and
`model.json`, which names this checkpoint and the weights that made the fc7 it was trained on:

    {"checkpoint": "layer-1", "weights": {"name": "bvlc-alexnet.npy", "sha256": "..."}}

The next training writes layer-2, then model.json, then deletes layer-1: killed at any moment, it leaves one that is whole.
"""

import errno
import json
import re
from pathlib import Path

import tensorflow.compat.v1 as tf

import files
import weights
from files import BadInput
from gtsrb import CLASSES


def build(fc7, seed=0):
    """The fresh layer's `logits`, float32 [N, 43], on `fc7`, float32 [N, 4096].

    Its variables are signs/weights, drawn from a normal distribution of standard deviation 0.01 cut off at 0.02 as in
    the lab, by `seed` (int), and signs/biases, zero.
    """
    with tf.name_scope("signs"):
        initial = tf.truncated_normal([fc7.shape.as_list()[-1], CLASSES], stddev=0.01, seed=seed)
        W = tf.Variable(initial, name="weights", use_resource=True)
        b = tf.Variable(tf.zeros(CLASSES), name="biases", use_resource=True)
        return tf.nn.xw_plus_b(fc7, W, b, name="logits")


def variables():
    """The layer's two variables in the current graph."""
    return [v for v in tf.global_variables() if v.op.name in ("signs/weights", "signs/biases")]


def save(session, folder, weights_identity):
    """Save the layer in `folder` together with the `weights_identity` (weights.identity) of the fc7 it was trained on.

    Raises BadInput when it cannot be written; the layer that was there before is then still whole.
    """
    folder = Path(folder)
    number = 1 + max((_number(path) for path in folder.iterdir()), default=0)
    checkpoint = f"layer-{number}"
    try:
        tf.train.Saver(variables()).save(session, str(folder / checkpoint), write_meta_graph=False, write_state=False)
        files.write_json(folder / "model.json", {"checkpoint": checkpoint, "weights": weights_identity})
        for path in folder.iterdir():
            if 0 < _number(path) < number and path.is_file():
                path.unlink()
    except (tf.errors.OpError, OSError) as error:
        full = isinstance(error, tf.errors.ResourceExhaustedError) or getattr(error, "errno", None) == errno.ENOSPC
        reason = "the disk is full" if full else getattr(error, "strerror", None) or type(error).__name__
        raise BadInput(f"the trained layer could not be saved in {folder}: {reason}") from error


def find(folder, weights_file):
    """The checkpoint (a str for `restore`) of the trained layer in `folder`, None if there is none.

    Raises BadInput for a damaged model.json, and when the layer was trained on other weights than `weights_file`.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: --model needs the folder that train_feature_extraction.py has written")
    manifest = folder / "model.json"
    if not manifest.exists():
        return None
    try:
        model = json.loads(manifest.read_text(encoding="utf-8"))
        checkpoint, trained_on = model["checkpoint"], model["weights"]
        name, digest = trained_on["name"], trained_on["sha256"]
        if not (re.fullmatch(r"layer-\d+", checkpoint) and re.fullmatch(r"[0-9a-f]{64}", digest) and isinstance(name, str)):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise BadInput(f"{manifest} is damaged: train the layer again") from error
    here = weights.identity(weights_file)
    if digest != here["sha256"]:
        needed = f"another version of {name}" if name == here["name"] else name
        raise BadInput(f"the layer in {folder} was trained on {needed} (SHA-256 {digest:.12}...), not on {here['name']}: "
                       "give those weights with --weights, or train the layer again")
    return str(folder / checkpoint)


def restore(session, checkpoint):
    """Give the layer in `session` the values saved in `checkpoint`, from `find`. Raises BadInput if it is damaged."""
    try:
        tf.train.Saver(variables()).restore(session, checkpoint)
    except (tf.errors.OpError, ValueError) as error:
        raise BadInput(f"{checkpoint}.* is missing or damaged: train the layer again") from error


def _number(path):
    """The 3 of layer-3.index and layer-3.data-00000-of-00001; 0 for other files."""
    match = re.match(r"layer-(\d+)\.(index|data-)", path.name)
    return int(match[1]) if match else 0
