"""The model folder: what a training has learned so far, so that it can be resumed, tested and used.

It holds a TensorFlow checkpoint, `checkpoint-3.index` and `checkpoint-3.data-...`, and `model.json`, which names it:

    {"format": 4, "checkpoint": "checkpoint-3", "stage": "frozen", "step": 0, "running": [0.0, 0, 0],
     "epochs": {"frozen": 10, "finetuned": 0}, "settings": {"split": "random", ...}, "class_names": ["Stop", ...], "best": null,
     "data": {...}, "weights": {"name": "bvlc-alexnet.npy", "fingerprint": "..."},
     "computer": "TensorFlow 2.21.0, oneDNN by default, Intel(R) Xeon(R) Processor, 2 threads",
     "history": [{"epoch": 1, "stage": "frozen", "precision": "float32", "training": {...}, "validation": {...}}, ...]}

The next save writes checkpoint-4, then model.json, then deletes checkpoint-3, so a process that is killed at any moment leaves
a complete one; meanwhile saving.json names both, and the next run deletes what a killed one has left. In the stage "frozen" a
checkpoint holds the new layer and Adam's slots for it, in the stage "finetuned" AlexNet's trained layers and their slots too.
`step` counts the finished steps of an interrupted epoch, and `running` is the loss and the number of right answers, summed over
that epoch's photos so far, and the number of those photos. `epochs` is how many were asked for. There is no random state
besides settings["seed"]: what is random in a step follows from the seed, the epoch and the step. `computer` (devices.summary)
is what computed the last epochs; older versions did not write it.

With --keep best, "best" is {"checkpoint": "checkpoint-2", "stage": "frozen", "epoch": 2}, the epoch of the lowest validation
loss in its stage, whose checkpoint is kept too: the one that answers, while the last one is resumed.

Up to format 3, there were fewer settings, and no other classes than GTSRB's. Up to format 2, "weights" had the SHA-256 of
their file under "sha256" in place of the fingerprint: such a model works with that very file.
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
from lab.data import names
from lab.files import BadInput
from lab.network import new_layer, variables, weights
from lab.network.cuts import CUTS, LAYERS

FORMAT = 4  # of model.json. One without a format is from before formats were numbered, and has the fields of format 2.
STAGES = "frozen", "finetuned"
# Settings that count from the first epoch of finetuning on, and those that may change whenever training resumes.
FINETUNING_SETTINGS = "finetune_batch_size", "pretrained_learning_rate", "finetune_precision", "finetune_from"
FREE_SETTINGS = ("patience",)
_BEFORE_FORMAT_4 = {"layer": "fc7", "hidden": [], "dropout": 0.0, "size": 32, "decay": "none", "class_weights": "none",
                    "keep": "last", "patience": None, "finetune_from": "conv1", "finetune_precision": "float32"}
# What a finished training leaves beside the checkpoint; out of date as soon as the model changes.
_RESULTS = ("metrics.json", "history.png", "confusion.png", "mistakes.png", "mistakes.csv",
            "test-confusion.png", "test-mistakes.png", "test-mistakes.csv")
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
        if state["format"] < 4:
            state["settings"] = _BEFORE_FORMAT_4 | state["settings"]
            state |= {"class_names": names.sign_names(), "best": None}
        if not _is_complete(state):
            raise ValueError
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
    best, class_names = state["best"], state["class_names"]
    return (all(type(count) is int and 0 <= count < 2 ** 53 for count in counts) and size > 0
            and isinstance(state["history"], list) and all(math.isfinite(number) for number in numbers)
            and all(isinstance(name, str) for name in names)
            and len(running) == 3 and (step - 1) * size < running[2] <= step * size  # photos in so many steps
            and all(re.fullmatch(r"checkpoint-\d+", held["checkpoint"]) and held["stage"] in STAGES
                    for held in ((state, best) if best else (state,)))
            and settings["layer"] in CUTS and settings["size"] in (32, 227) and settings["finetune_from"] in LAYERS
            and isinstance(settings["hidden"], list) and all(type(size) is int and size > 0 for size in settings["hidden"])
            and isinstance(class_names, list) and len(class_names) > 1 and all(isinstance(name, str) for name in class_names)
            and all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in (
                state["data"]["sha256"], state["weights"]["fingerprint" if state["format"] > 2 else "sha256"]))
            and all(epoch["stage"] in STAGES and epoch["epoch"] == i for i, epoch in enumerate(state["history"], 1)))


def epochs_done(state, stage):
    """How many epochs of `stage` are finished."""
    return sum(epoch["stage"] == stage for epoch in state["history"])


def finished(state, stage):
    """Whether `stage` has all its epochs, or the last settings["patience"] of them have not lowered its validation loss."""
    losses = [epoch["validation"]["loss"] for epoch in state["history"] if epoch["stage"] == stage]
    patience = state["settings"]["patience"]
    return len(losses) >= state["epochs"][stage] or bool(patience and losses
                                                         and len(losses) - 1 - losses.index(min(losses)) >= patience)


def answering(state):
    """`state` with the checkpoint and the stage of the model that answers: the best if that was asked for, else the last."""
    return state | {key: state["best"][key] for key in ("checkpoint", "stage")} if state["best"] else state


def check_edition(state, folder, here=None):
    """Raise BadInput when the model of `state` was trained on the built-in weights of edition 1, which the lab has no more.

    here: the weights.identity of the weights that are used now; a copy of edition 1 is accepted.
    """
    if weights.EDITION_1 in state["weights"].values() and weights.EDITION_1 not in (here or {}).values():
        raise BadInput(f"the model in {folder} was trained on the built-in weights of edition 1, which edition 2 has "
                       "replaced: train again, with train_feature_extraction.py --overwrite")


def check_weights(state, folder, weights_file, alexnet_weights):
    """Raise BadInput unless the model of `state` was trained on `alexnet_weights`, which come from `weights_file`."""
    here = weights.identity(weights_file, alexnet_weights)
    check_edition(state, folder, here)
    recognise(state, weights_file, here)
    needed = state["weights"]
    if needed.get("fingerprint") != here["fingerprint"]:
        name = f"another version of {needed['name']}" if needed["name"] == here["name"] else needed["name"]
        raise BadInput(f"the layer in {folder} was trained on {name} ({_digest(needed)}), not on {here['name']}: give those "
                       "weights with --weights, or train again with train_feature_extraction.py --overwrite")


def recognise(state, weights_file, identity):
    """Replace the digest of a weights file in `state` by the `identity` of these weights, if it is that of `weights_file`.

    Only a model.json of an earlier version names such a digest.
    """
    if "sha256" in state["weights"] and state["weights"]["sha256"] == files.sha256(weights_file):
        state["weights"] = identity


def _digest(identity):
    """The digest in the identity of photos or weights, with its name and short enough for a message."""
    kind, digest = ("fingerprint", identity["fingerprint"]) if "fingerprint" in identity else ("SHA-256", identity["sha256"])
    return f"{kind} {digest:.12}..."


@contextlib.contextmanager
def locked(folder):
    """Keep other runs out of `folder` meanwhile. Raises BadInput when one is training there."""
    def busy():
        raise BadInput(f"another run is training in {folder}: wait until it ends, or name another --model")

    with locks.locked(Path(folder) / "training.lock", busy):
        yield


def new_state(settings, frozen, finetuned, data, weights, class_names):
    """The state before the first step.

    settings: from options.settings, a dict of what JSON holds. frozen, finetuned: how many epochs of each stage there will be.
    data, weights: from splits.identity and weights.identity. class_names: a list of str.
    """
    return {"format": FORMAT, "checkpoint": None, "stage": "frozen", "step": 0, "running": [0.0, 0, 0],
            "epochs": {"frozen": frozen, "finetuned": finetuned}, "settings": settings, "data": data,
            "weights": weights, "class_names": class_names, "best": None, "history": []}


def check_resumable(state, wanted, folder):
    """Raise BadInput, naming the difference, unless the run of `state` can be resumed as `wanted`.

    wanted: a `new_state` with what the user asks for now. It may ask for more epochs, and for other settings of a stage that
        has ended or has not begun.
    """
    check_edition(state, folder, wanted["weights"])
    advice = "or start again with --overwrite"
    begun = {stage: epochs_done(state, stage) + (state["stage"] == stage and state["step"] > 0) for stage in STAGES}
    ended = finished(state | {"epochs": wanted["epochs"]}, "frozen")
    for key, value in wanted["settings"].items():
        before = state["settings"].get(key)
        if key in FREE_SETTINGS or key in FINETUNING_SETTINGS and not begun["finetuned"] or before == value:
            continue
        if key == "precision" and wanted["epochs"]["finetuned"]:
            if ended:
                continue  # fc7 is not needed any more
            raise BadInput(f"the frozen epochs in {folder} are computed in {before}: finish them first, with --precision "
                           f"{before} and without --finetune, {advice}")
        flag = "--" + key.replace("_", "-").replace("finetune-precision", "precision")
        before, value = (",".join(map(str, setting)) or "0" if isinstance(setting, list) else setting
                         for setting in (before, value))
        raise BadInput(f"{folder} was trained with {flag} {before}, not {value}: resume with {flag} {before}, {advice}")
    for key, what, digest in (("data", "photos", "sha256"), ("weights", "weights", "fingerprint")):
        before, now = state[key], wanted[key]
        if before.get(digest) != now[digest] and key == "data" and before["name"] == now["name"]:
            raise BadInput(f"{folder} was trained with other photos of that name: some were added, changed or removed since "
                           f"then ({_digest(before)}, now {_digest(now)}): restore {before['name']}, {advice}")
        if before.get(digest) != now[digest]:
            raise BadInput(f"{folder} was trained with other {what} ({before['name']}, {_digest(before)}) than {now['name']} "
                           f"({_digest(now)}): name those with --{key}, {advice}")
    before, now = state["epochs"], wanted["epochs"]
    if before["finetuned"] and not now["finetuned"]:
        raise BadInput(f"{folder} is being finetuned: resume with --finetune, {advice}")
    if state["settings"]["decay"] != "none" and before["frozen"] != now["frozen"]:
        raise BadInput(f"{folder} is trained with a learning rate that falls over {before['frozen']} epochs, not "
                       f"{now['frozen']}: resume with --epochs {before['frozen']}, {advice}")
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
    size = sum(variable.shape.num_elements() * variable.dtype.size for variable in learned)
    needed = (missing + (state["settings"]["keep"] == "best")) * size + 50_000_000
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BadInput(f"{folder}: finetuning saves the layers that it trains, which takes {needed / 1e6:.0f} MB of disk, and "
                       f"{free / 1e6:.0f} MB are free; make room and run the same command with --resume")
    kept = "the last and the best one are kept" if state["settings"]["keep"] == "best" else "the last one is kept"
    files.notice(f"A checkpoint of finetuning takes {size / 1e6:.0f} MB in {folder}; {kept}.")


def save(session, saver, folder, state, best=False):
    """Save the variables of `saver`, a tf.train.Saver, and `state`; the new checkpoint's name goes into state["checkpoint"].

    best: whether the checkpoint is also the best one from now on, which goes into state["best"].

    What this training, or the model that it replaces, has left in the folder and is out of date now, is deleted.

    Raises BadInput when that cannot be done; the model that was there before is then still complete.
    """
    folder = Path(folder)
    numbers = {_number(path.name) for path in folder.iterdir()}
    number = 1 + max(numbers, default=0)
    checkpoint = f"checkpoint-{number}"
    new = state | {"format": FORMAT, "checkpoint": checkpoint}
    if best:
        new["best"] = {"checkpoint": checkpoint, "stage": state["stage"], "epoch": len(state["history"])}
    replaces = not state["checkpoint"] and (folder / "model.json").exists()
    old = _named(state) - _named(new) if state["checkpoint"] else _replaced(folder, numbers) if replaces else set()
    saving = {"new": number, "old": sorted(old), "another_model": replaces}
    try:
        files.write_json(folder / "saving.json", saving)
        saver.save(session, str(folder / checkpoint), write_meta_graph=False, write_state=False)
        for path in folder.glob(f"{checkpoint}.*"):
            with path.open("r+b") as file:  # Windows flushes no file that is open for reading only
                os.fsync(file.fileno())  # after a power cut, model.json must not be there without it
        files.write_json(folder / "model.json", new)
    except (tf.errors.OpError, OSError, BadInput) as error:
        _remove(folder, [number])
        _delete(folder / "saving.json")
        reason = files.reason(error.__cause__ if isinstance(error, BadInput) else error)
        raise BadInput(f"the model could not be saved in {folder}: {reason}; what was saved before is still there") from error
    state |= new
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
    """The numbers of the checkpoints that model.json in `folder` names, a set; all `numbers` where it is damaged."""
    try:
        return _named(read(folder))
    except BadInput:
        return numbers - {0}


def restore(session, folder, state, learned=None):
    """Give the variables `learned` their values in the last checkpoint of `state`.

    Without `learned`, give all variables that training changed their values in the checkpoint that answers.

    A training that is running may have replaced the checkpoint meanwhile: then the newer one is taken, and `state` updated.
    `check_weights` or Run.begin has checked the weights of `state`.

    Raises BadInput if it is missing or damaged.
    """
    held, changed = state, learned
    if learned is None:
        held, changed = answering(state), new_layer.variables()
        if held["stage"] == "finetuned":
            changed += variables.of_alexnet(state["settings"]["finetune_from"])
    checkpoint = str(Path(folder) / held["checkpoint"])
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        names = [name if reader.has_tensor(name := variable.op.name) else name.replace("head/", "signs/")  # before format 4
                 for variable in changed]
        arrays = [(variable, reader.get_tensor(name).astype(variable.dtype.as_numpy_dtype))
                  for variable, name in zip(changed, names)]  # all from one checkpoint, before any is assigned
        for variable, array in arrays:
            variables.assign(session, variable, array)
    except (tf.errors.OpError, ValueError, IndexError) as error:  # IndexError: a file is too short
        newer = read(folder)
        if (newer and answering(newer)["checkpoint"] != held["checkpoint"]
                and newer["weights"].get("fingerprint") == state["weights"]["fingerprint"]):
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


def _named(state):
    """The numbers of the checkpoints that `state` names, a set."""
    return {_last(state), _last(answering(state))} - {0}


def _last(state):
    """The number of the checkpoint of `state`, 0 before the first."""
    return int(state["checkpoint"].removeprefix("checkpoint-")) if state["checkpoint"] else 0
