"""The model folder: what a training has learned so far, so that it can be resumed, tested and used.

It holds a TensorFlow checkpoint, `checkpoint-3.index` and `checkpoint-3.data-...`, and `model.json`, which names it:

    {"format": 2, "checkpoint": "checkpoint-3", "stage": "frozen", "step": 0, "running": [0.0, 0, 0],
     "epochs": {"frozen": 10, "finetuned": 0}, "settings": {"split": "random", ...},
     "data": {...}, "weights": {"name": "bvlc-alexnet.npy", "sha256": "..."},
     "computer": "TensorFlow 2.21.0, oneDNN by default, Intel(R) Xeon(R) Processor, 2 threads",
     "history": [{"epoch": 1, "stage": "frozen", "precision": "float32", "training": {...}, "validation": {...}}, ...]}

The next save writes checkpoint-4, then model.json, then deletes checkpoint-3, so a process that is killed at any moment leaves
a complete one; meanwhile saving.json names both, and the next run deletes what a killed one has left. In the stage "frozen" a
checkpoint holds the new layer and Adam's slots for it, in the stage "finetuned" all of AlexNet and its slots too. `step` counts
the finished steps of an interrupted epoch, and `running` is the loss and the number of right answers, summed over that epoch's
photos so far, and the number of those photos. `epochs` is how many were asked for. There is no random state besides
settings["seed"]: what is random in a step follows from the seed, the epoch and the step. `computer` (devices.summary) is what
computed the last epochs; older versions did not write it.
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
FINETUNING_SETTINGS = "finetune_batch_size", "pretrained_learning_rate", "finetune_precision"  # others count from the start
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
        if state.setdefault("format", 1) > FORMAT:
            raise BadInput(f"{manifest} was written by a later version of the lab: use that version, or another --model")
        if not _is_complete(state):
            raise ValueError
        if "finetune_batch_size" in state["settings"]:  # older versions finetuned in float32 only
            state["settings"].setdefault("finetune_precision", "float32")
    except OSError as error:
        raise BadInput(f"{manifest} cannot be read: {error.strerror}") from error
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{manifest} is damaged: train again, with train_feature_extraction.py --overwrite") from error
    return state


def _is_complete(state):
    """Whether `state` is as shown at the top of this module; it may also raise where it is not."""
    settings, running, step = state["settings"], state["running"], state["step"]
    counts = [state["format"], step, settings["seed"], settings["batch_size"], settings.get("finetune_batch_size", 1),
              *(state["epochs"][stage] for stage in STAGES)]
    numbers = [*running, *(epoch[split][key] for epoch in state["history"]
                           for split in ("training", "validation") for key in ("loss", "accuracy"))]
    names = [settings["split"], settings["precision"], state.get("computer", ""),
             *(state[key]["name"] for key in ("data", "weights"))]
    size = settings["batch_size" if state["stage"] == "frozen" else "finetune_batch_size"]
    return (all(type(count) is int and 0 <= count < 2 ** 53 for count in counts) and size > 0
            and isinstance(state["history"], list) and all(math.isfinite(number) for number in numbers)
            and all(isinstance(name, str) for name in names)
            and len(running) == 3 and (step - 1) * size < running[2] <= step * size  # photos in so many steps
            and re.fullmatch(r"checkpoint-\d+", state["checkpoint"]) and state["stage"] in STAGES
            and all(re.fullmatch(r"[0-9a-f]{64}", state[key]["sha256"]) for key in ("data", "weights"))
            and all(epoch["stage"] in STAGES and epoch["epoch"] == i for i, epoch in enumerate(state["history"], 1)))


def epochs_done(state, stage):
    """How many epochs of `stage` are finished."""
    return sum(epoch["stage"] == stage for epoch in state["history"])


def check_weights(state, folder, weights_file):
    """Raise BadInput when the model of `state` was trained on other weights than those in `weights_file`."""
    needed, here = state["weights"], weights.identity(weights_file)
    if needed["sha256"] != here["sha256"]:
        name = f"another version of {needed['name']}" if needed["name"] == here["name"] else needed["name"]
        raise BadInput(f"the layer in {folder} was trained on {name} (SHA-256 {needed['sha256']:.12}...), not on "
                       f"{here['name']}: give those weights with --weights, or train again with "
                       "train_feature_extraction.py --overwrite")


@contextlib.contextmanager
def locked(folder):
    """Keep other runs out of `folder` meanwhile. Raises BadInput when one is training there."""
    def busy():
        raise BadInput(f"another run is training in {folder}: wait until it ends, or name another --model")

    with locks.locked(Path(folder) / "training.lock", busy):
        yield


def new_state(settings, frozen, finetuned, data, weights):
    """The state before the first step.

    settings: a dict of numbers and strings. frozen, finetuned: how many epochs of each stage there will be.
    data, weights: {"name", "sha256"}, from gtsrb.identity and weights.identity.
    """
    return {"format": FORMAT, "checkpoint": None, "stage": "frozen", "step": 0, "running": [0.0, 0, 0],
            "epochs": {"frozen": frozen, "finetuned": finetuned}, "settings": settings, "data": data,
            "weights": weights, "history": []}


def check_resumable(state, wanted, folder):
    """Raise BadInput, naming the difference, unless the run of `state` can be resumed as `wanted`.

    wanted: a `new_state` with what the user asks for now. It may ask for more epochs, and for other settings of a stage that
        has ended or has not begun.
    """
    advice = "or start again with --overwrite"
    begun = {stage: epochs_done(state, stage) + (state["stage"] == stage and state["step"] > 0) for stage in STAGES}
    ended = epochs_done(state, "frozen") >= wanted["epochs"]["frozen"]
    for key, value in wanted["settings"].items():
        before = state["settings"].get(key)
        if key in FINETUNING_SETTINGS and not begun["finetuned"] or before == value:
            continue
        if key == "precision" and wanted["epochs"]["finetuned"]:
            if ended:
                continue  # fc7 is not needed any more
            raise BadInput(f"the frozen epochs in {folder} are computed in {before}: finish them first, with --precision "
                           f"{before} and without --finetune, {advice}")
        flag = "--" + key.replace("_", "-").replace("finetune-precision", "precision")
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
        raise BadInput(f"{folder} is to have {before['frozen']} frozen epochs, not {now['frozen']}: resume with "
                       f"--epochs {before['frozen']}{'' if begun['finetuned'] else ' or more'}, {advice}")
    if before["finetuned"] > now["finetuned"]:
        raise BadInput(f"{folder} is to have {before['finetuned']} epochs of finetuning, not {now['finetuned']}: resume "
                       f"with --finetune-epochs {before['finetuned']} or more, {advice}")


def clean_up(folder):
    """Delete what a process that was killed has left in `folder`: call it under the lock, before anything else."""
    for name in ("model.json", "saving.json", *_RESULTS):  # and no other's: --model . is the user's own folder
        for path in folder.glob(f"{name}.*.unfinished"):
            _delete(path)
    try:
        saving = json.loads((folder / "saving.json").read_text())
        state = read(folder)
        if state and _last(state) == saving["new"]:
            _remove_replaced(folder, saving)
        else:
            _remove(folder, [saving["new"]])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # nothing was being saved, or nobody knows what
        return
    _delete(folder / "saving.json")


def make_room(folder, state, learned):
    """Raise BadInput unless `folder` has room for a checkpoint of the variables `learned` beside the one before it."""
    folder = Path(folder)
    missing = 1 if state["stage"] == "finetuned" else 2  # the first checkpoint of finetuning must fit beside the next
    needed = missing * sum(variable.shape.num_elements() * variable.dtype.size for variable in learned) + 50_000_000
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BadInput(f"{folder}: finetuning saves all of AlexNet, which takes {needed / 1e6:.0f} MB of disk, and "
                       f"{free / 1e6:.0f} MB are free; make room and run the same command with --resume")


def save(session, saver, folder, state):
    """Save the variables of `saver`, a tf.train.Saver, and `state`; the new checkpoint's name goes into state["checkpoint"].

    What this training, or the model that it replaces, has left in the folder and is out of date now, is deleted.

    Raises BadInput when that cannot be done; the model that was there before is then still complete.
    """
    folder = Path(folder)
    numbers = {_number(path.name) for path in folder.iterdir()}
    number = 1 + max(numbers, default=0)
    checkpoint = f"checkpoint-{number}"
    replaces = not state["checkpoint"] and (folder / "model.json").exists()
    old = [_last(state)] if state["checkpoint"] else _replaced(folder, numbers) if replaces else []
    saving = {"new": number, "old": old, "another_model": replaces}
    try:
        files.write_json(folder / "saving.json", saving)
        saver.save(session, str(folder / checkpoint), write_meta_graph=False, write_state=False)
        for path in folder.glob(f"{checkpoint}.*"):
            with path.open("r+b") as file:  # Windows flushes no file that is open for reading only
                os.fsync(file.fileno())  # after a power cut, model.json must not be there without it
        files.write_json(folder / "model.json", state | {"format": FORMAT, "checkpoint": checkpoint})
    except (tf.errors.OpError, OSError, BadInput) as error:
        _remove(folder, [number])
        _delete(folder / "saving.json")
        reason = files.reason(error.__cause__ if isinstance(error, BadInput) else error)
        raise BadInput(f"the model could not be saved in {folder}: {reason}; what was saved before is still there") from error
    state["checkpoint"] = checkpoint
    _remove_replaced(folder, saving)
    _delete(folder / "saving.json")


def _remove_replaced(folder, saving):
    """Delete what the checkpoint of `saving`, a dict as in saving.json, has made out of date."""
    _remove(folder, saving["old"])
    if saving["old"]:
        for pattern in (*_RESULTS, _EVENTS) if saving["another_model"] else _RESULTS:
            for path in folder.glob(pattern):
                _delete(path)


def _replaced(folder, numbers):
    """The number of the checkpoint that model.json in `folder` names, in a list; all `numbers` where it is damaged."""
    try:
        return [_last(read(folder))]
    except BadInput:
        return sorted(numbers)


def restore(session, folder, state, learned=None):
    """Give the variables `learned`, or all that the training of `state` changed, their values in its checkpoint.

    A training that is running may have replaced the checkpoint meanwhile: then the newer one is taken, and `state` updated.

    Raises BadInput if it is missing or damaged.
    """
    checkpoint = str(Path(folder) / state["checkpoint"])
    changed = new_layer.variables() if state["stage"] == "frozen" else tf.trainable_variables()
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        arrays = [(variable, reader.get_tensor(variable.op.name).astype(variable.dtype.as_numpy_dtype))
                  for variable in (changed if learned is None else learned)]  # all from one checkpoint, before any is assigned
        for variable, array in arrays:
            variables.assign(session, variable, array)
    except (tf.errors.OpError, ValueError, IndexError) as error:  # IndexError: a file is too short
        newer = read(folder)
        if newer and newer["checkpoint"] != state["checkpoint"] and newer["weights"] == state["weights"]:
            state.update(newer)
            return restore(session, folder, state, learned)
        raise BadInput(f"{checkpoint}.* is missing or damaged: train again, with train_feature_extraction.py "
                       "--overwrite") from error


def _remove(folder, numbers):
    """Delete the files of the checkpoints in `folder` with these numbers."""
    for path in folder.iterdir():
        if _number(path.name) in numbers and _number(path.name):
            _delete(path)


def _delete(path):
    with contextlib.suppress(OSError):
        path.unlink()


def _number(name):
    """The 3 of checkpoint-3.index and checkpoint-3.data-00000-of-00001; 0 for other files' names."""
    match = re.match(r"checkpoint-(\d+)\.(index|data-)", name)
    return int(match[1]) if match else 0


def _last(state):
    """The number of the checkpoint of `state`, 0 before the first."""
    return int(state["checkpoint"].removeprefix("checkpoint-")) if state["checkpoint"] else 0
