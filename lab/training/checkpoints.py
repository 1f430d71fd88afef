"""The model folder: what a training has learned so far, so that it can be resumed, tested and used.

It holds a TensorFlow checkpoint, `checkpoint-3.index` and `checkpoint-3.data-...`, and `model.json`, which names it:

    {"format": 2, "checkpoint": "checkpoint-3", "stage": "frozen", "step": 0, "running": [0.0, 0, 0],
     "epochs": {"frozen": 10, "finetuned": 0}, "settings": {"split": "random", ...},
     "data": {...}, "weights": {"name": "bvlc-alexnet.npy", "sha256": "..."},
     "history": [{"epoch": 1, "stage": "frozen", "training": {...}, "validation": {...}}, ...]}

The next save writes checkpoint-4, then model.json, then deletes checkpoint-3, so a process that is killed at any moment leaves
a complete one. In the stage "frozen" a checkpoint holds the new layer and Adam's slots for it, in the stage "finetuned" all of
AlexNet and its slots too. `step` counts the finished steps of an interrupted epoch, and `running` is the loss and the number of
right answers, summed over that epoch's photos so far, and the number of those photos. `epochs` is how many were asked for.
There is no random state besides settings["seed"]: what is random in a step follows from the seed, the epoch and the step.
"""

import contextlib
import json
import math
import os
import re
import shutil
from pathlib import Path

import tensorflow.compat.v1 as tf

from lab import files, locks
from lab.files import BadInput
from lab.network import new_layer, variables, weights

FORMAT = 2  # of model.json. One without a format is from the version before formats were numbered, and has the same fields.
STAGES = "frozen", "finetuned"
FROZEN_SETTINGS = "split", "batch_size", "seed", "learning_rate", "precision"  # the others are those of finetuning
# What a finished training leaves beside the checkpoint; out of date as soon as the model changes.
_RESULTS = "metrics.json", "history.png", "confusion.png", "mistakes.png", "test-confusion.png", "test-mistakes.png"
_EVENTS = "events.out.tfevents." + 6 * "[0-9]"


def read(folder):
    """The state in model.json, the dict shown at the top of this module; None when `folder` holds no model.

    Raises BadInput for a damaged model.json, for one of a later version, and for a file in the folder's place.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: --model needs the folder that train_feature_extraction.py has written")
    manifest = folder / "model.json"
    if not manifest.exists():
        return None
    try:
        state = json.loads(manifest.read_text(encoding="utf-8"))
        version = state.setdefault("format", 1)
        if isinstance(version, int) and version > FORMAT:
            raise BadInput(f"{manifest} was written by a later version of the lab: use that version, or another --model")
        whole = (re.fullmatch(r"checkpoint-\d+", state["checkpoint"]) and state["stage"] in STAGES
                 and isinstance(state["step"], int) and state["step"] >= 0
                 and all(math.isfinite(number) for number in state["running"]) and len(state["running"]) == 3
                 and (state["step"] > 0) == (state["running"][2] > 0)
                 and all(re.fullmatch(r"[0-9a-f]{64}", state[key]["sha256"]) and isinstance(state[key]["name"], str)
                         for key in ("data", "weights"))
                 and all(isinstance(state["epochs"][stage], int) for stage in STAGES)
                 and isinstance(state["settings"], dict) and isinstance(state["history"], list)
                 and all(epoch["stage"] in STAGES and epoch["epoch"] == i and math.isfinite(epoch[split][key])
                         for i, epoch in enumerate(state["history"], 1)
                         for split in ("training", "validation") for key in ("loss", "accuracy")))
        if not whole:
            raise ValueError
    except OSError as error:
        raise BadInput(f"{manifest} cannot be read: {error.strerror}") from error
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{manifest} is damaged: train again, with --overwrite") from error
    return state


def epochs_done(state, stage):
    """How many epochs of `stage` are finished."""
    return sum(epoch["stage"] == stage for epoch in state["history"])


def check_weights(state, folder, weights_file):
    """Raise BadInput when the model of `state` was trained on other weights than those in `weights_file`."""
    needed, here = state["weights"], weights.identity(weights_file)
    if needed["sha256"] != here["sha256"]:
        name = f"another version of {needed['name']}" if needed["name"] == here["name"] else needed["name"]
        raise BadInput(f"the layer in {folder} was trained on {name} (SHA-256 {needed['sha256']:.12}...), not on "
                       f"{here['name']}: give those weights with --weights, or train again")


@contextlib.contextmanager
def locked(folder):
    """Keep other trainings out of `folder` meanwhile. Raises BadInput when one is running there."""
    def busy():
        raise BadInput(f"another training is running in {folder}: wait until it ends, or name another --model")

    with locks.locked(Path(folder) / "training.lock", busy):
        yield


def new_state(settings, frozen, finetuned, data, weights_identity):
    """The state before the first step.

    settings: a dict of numbers and strings. frozen, finetuned: how many epochs of each stage there will be.
    data, weights_identity: {"name", "sha256"}.
    """
    return {"format": FORMAT, "checkpoint": None, "stage": "frozen", "step": 0, "running": [0.0, 0, 0],
            "epochs": {"frozen": frozen, "finetuned": finetuned}, "settings": settings, "data": data,
            "weights": weights_identity, "history": []}


def check_resumable(state, wanted, folder):
    """Raise BadInput, which names the difference, unless the training of `state` can be resumed as a `wanted` one.

    wanted: a `new_state` with what the user asks for now. More epochs than were asked for before are no difference, nor is a
        setting of a stage that has ended or has not begun.
    """
    advice = "or start again with --overwrite"
    begun = {stage: epochs_done(state, stage) + (state["stage"] == stage and state["step"] > 0) for stage in STAGES}
    ended = epochs_done(state, "frozen") >= wanted["epochs"]["frozen"]
    for key, value in wanted["settings"].items():
        before = state["settings"].get(key, value)
        if key == "precision" and ended and wanted["epochs"]["finetuned"]:
            continue  # fc7 is not needed any more
        if before != value and (key in FROZEN_SETTINGS or begun["finetuned"]):
            flag = "--" + key.replace("_", "-")
            raise BadInput(f"{folder} was trained with {flag} {before}, not {value}: resume with {flag} {before}, {advice}")
    for key, what in (("data", "photos"), ("weights", "weights")):
        before, now = state[key], wanted[key]
        if before["sha256"] != now["sha256"]:
            raise BadInput(f"{folder} was trained with other {what} ({before['name']}, SHA-256 {before['sha256']:.12}...) than "
                           f"{now['name']} (SHA-256 {now['sha256']:.12}...): name those with --{key}, {advice}")
    before, now = state["epochs"], wanted["epochs"]
    if before["finetuned"] and not now["finetuned"]:
        raise BadInput(f"{folder} is being finetuned: resume with --finetune, {advice}")
    if before["frozen"] > now["frozen"] or begun["finetuned"] and before["frozen"] < now["frozen"]:
        raise BadInput(f"{folder} was started for {before['frozen']} frozen epochs, not {now['frozen']}: resume with "
                       f"--epochs {before['frozen']}{'' if begun['finetuned'] else ' or more'}, {advice}")
    if before["finetuned"] > now["finetuned"]:
        raise BadInput(f"{folder} was started for {before['finetuned']} epochs of finetuning, not {now['finetuned']}: resume "
                       f"with --finetune-epochs {before['finetuned']} or more, {advice}")


def make_room(folder, state, learned):
    """Raise BadInput unless `folder` has room for a checkpoint of the variables `learned` beside the one before it.

    What a killed training has left of an unfinished checkpoint is deleted first.
    """
    folder = Path(folder)
    _remove(folder, lambda number: number > _last(state))
    missing = 1 if state["stage"] == "finetuned" else 2  # when finetuning begins, the one before it is yet to come
    needed = missing * sum(variable.shape.num_elements() * variable.dtype.size for variable in learned) + 50_000_000
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BadInput(f"{folder}: finetuning saves all of AlexNet, which takes {needed / 1e6:.0f} MB of disk, and "
                       f"{free / 1e6:.0f} MB are free; make room and resume with --resume")


def save(session, saver, folder, state):
    """Save the variables of `saver`, a tf.train.Saver, and `state`; the new checkpoint's name goes into state["checkpoint"].

    What this training, or the model that it replaces, has left in the folder and is out of date now, is deleted.

    Raises BadInput when that cannot be done; the model that was there before is then still complete.
    """
    folder = Path(folder)
    number = 1 + max((_number(path.name) for path in folder.iterdir()), default=0)
    checkpoint = f"checkpoint-{number}"
    replaces = not state["checkpoint"] and (folder / "model.json").exists()
    try:
        saver.save(session, str(folder / checkpoint), write_meta_graph=False, write_state=False)
        for path in folder.glob(f"{checkpoint}.*"):
            with path.open("r+b") as file:  # Windows flushes no file that is open for reading only
                os.fsync(file.fileno())  # after a power cut, model.json must not be there without it
        files.write_json(folder / "model.json", state | {"format": FORMAT, "checkpoint": checkpoint})
    except (tf.errors.OpError, OSError, BadInput) as error:
        _remove(folder, lambda other: other == number)
        reason = files.reason(error.__cause__ if isinstance(error, BadInput) else error)
        raise BadInput(f"the model could not be saved in {folder}: {reason}; what was saved before is still there") from error
    if state["checkpoint"] or replaces:
        _remove(folder, lambda other: _last(state) <= other < number)
        for pattern in (*_RESULTS, _EVENTS) if replaces else _RESULTS:
            for path in folder.glob(pattern):
                with contextlib.suppress(OSError):
                    path.unlink()
    state["checkpoint"] = checkpoint


def restore(session, folder, state, learned=None):
    """Give the variables `learned`, or all that the training of `state` changed, their values in its checkpoint.

    A training that is running may have replaced the checkpoint meanwhile: then the newer one is taken, and `state` updated.

    Raises BadInput if it is missing or damaged.
    """
    checkpoint = str(Path(folder) / state["checkpoint"])
    changed = new_layer.variables() if state["stage"] == "frozen" else tf.trainable_variables()
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        for variable in changed if learned is None else learned:
            array = reader.get_tensor(variable.op.name).astype(variable.dtype.as_numpy_dtype)
            variables.assign(session, variable, array)
    except (tf.errors.OpError, ValueError, IndexError) as error:  # IndexError: a file is too short
        newer = read(folder)
        if newer and newer["checkpoint"] != state["checkpoint"] and newer["weights"] == state["weights"]:
            state.update(newer)
            return restore(session, folder, state, learned)
        raise BadInput(f"{checkpoint}.* is missing or damaged: train again, with --overwrite") from error


def _remove(folder, which):
    """Delete the files of the checkpoints in `folder` for whose number `which` is true."""
    for path in folder.iterdir():
        if (number := _number(path.name)) and which(number):
            with contextlib.suppress(OSError):
                path.unlink()


def _number(name):
    """The 3 of checkpoint-3.index and checkpoint-3.data-00000-of-00001; 0 for other files' names."""
    match = re.match(r"checkpoint-(\d+)\.(index|data-)", name)
    return int(match[1]) if match else 0


def _last(state):
    """The number of the checkpoint of `state`, 0 before the first."""
    return int(state["checkpoint"].removeprefix("checkpoint-")) if state["checkpoint"] else 0
