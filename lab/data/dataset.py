"""The front door to the photos: `load` finds the reader for whatever holds them, and `split` holds some of them out."""

from pathlib import Path

import numpy as np

from lab import files
from lab.data import class_folders, drawn_signs, gtsrb, photo_files
from lab.data.names import names_of_numbers
from lab.data.record import Photos
from lab.data.splits import check_apart, random_split, track_split
from lab.files import BadInput, shorten

_FEW = 20  # classes that `announce` lists


def load(path, part="train", names=None, size=None, cache=None, skip_bad=False, class_names=None):
    """Load the Photos of one part of the data at `path`.

    path: a copy of GTSRB as gtsrb.py reads it; a pickle of any classes, or a folder or a zip file with train.p, valid.p and
        test.p; a folder, a zip file or a csv file of any classes as class_folders.py reads it; None for the signs that the lab
        draws.
    part: "train", "valid" or "test". One file is whatever part it is said to be, except that "valid" then is valid.p beside
        it.
    names: a source of class names for a pickle or a copy of GTSRB, as `names.read_names` takes it; None for the names that the
        data have or imply. For class folders `class_names` takes it.
    size: pixels on a side, 32 or 227; None for 32 if the photos are GTSRB's or no larger, else 227.
    cache: the folder for what is kept of photos in folders, a Path, or None.
    skip_bad: whether to leave out photo files that cannot be used, and say how many they are.
    class_names: list of str, those of the training photos, for the other parts, which then have no other classes and the same
        labels; None for training photos.

    Raises BadInput for data that are missing, damaged or incomplete, that try to run code, that lack the part or have it
    twice, or that do not fit names, size or class_names; and DiskError, a BadInput too, if the disk fails.
    """
    if path is None:
        if size not in (None, 32):
            raise BadInput(f"the lab draws its signs 32x32 pixels large: leave --size {size} out, or name photos with --data")
        return drawn_signs.load()
    path = Path(path)
    if gtsrb.is_copy(path):
        return gtsrb.load(path, part, skip_bad, names, size, class_names)
    return class_folders.load(path, part, size or 227, cache, skip_bad, class_names)


def class_names(data, names=None):
    """The names to show for the classes of `data`, in order: a list of str.

    They are data.class_names, but if these are the numbers of class folders, they are GTSRB's for the numbers 0 to 42, and
    otherwise those that `names` gives, a source of names as `names.read_names` takes it. Raises BadInput like
    `names_of_numbers`.
    """
    return names_of_numbers(data.class_names, names) if isinstance(data.features, photo_files.PhotoFiles) else data.class_names


def announce(data):
    """Print which classes the photos of `data` show, and how many each, on stderr; of many classes, the extremes only."""
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    names = [shorten(name) for name in data.class_names]
    if len(names) <= _FEW:
        shown = ", ".join(f"{name} ({count:,})" if count else f"{name} (no photos)" for name, count in zip(names, counts))
    else:
        least, most = np.where(counts, counts, counts.max()).argmin(), counts.argmax()
        shown = f"from {counts[least]:,} of {names[least]} to {counts[most]:,} of {names[most]}"
        if empty := [names[label] for label in np.flatnonzero(counts == 0)]:
            rest = f" and {len(empty) - 3:,} others" if len(empty) > 3 else ""
            shown += f"; no photos of {', '.join(empty[:3])}{rest}"
    files.notice(f"{len(names):,} classes, {len(data.labels):,} photos: {shown}.")


def split(data, how, path, cache=None, skip_bad=False):
    """Split `data`, Photos: the photos, the indices of those for training and of those for validation, int64 arrays, and how.

    how: "random", the lab's split, or that of `class_folders.split` for photos that it has read; "track"; "given": then the
        photos of valid.p, or of a folder like val/, are added to the end of `data`, to validate with; None for "given" if the
        photos are in class folders that have such a part, else "random".
    path, cache, skip_bad: as in `load`.

    Raises BadInput for a single photo, for a valid.p that is not there, has other classes or shares photos with `data`, or if
    `track_split` raises it.
    """
    if isinstance(data.features, photo_files.PhotoFiles):
        return _split_folders(data, how, path, cache, skip_bad)
    how = how or "random"
    valid = path and gtsrb.valid(path)
    if how == "given":
        if not valid:
            raise BadInput(f"{path or 'builtin'} comes without a valid.p, on which --split given validates: use --split random "
                           "or --split track")
        given = load(path, "valid", size=data.features.shape[1], class_names=data.class_names)
        check_apart(given, valid, data)
        return *_joined(data, given), how
    if valid:
        files.notice(f"{valid} is there and not used: --split given validates on it.")
    if how == "track":
        return data, *track_split(data.tracks, path or "builtin"), how
    training, validation = random_split(len(data.labels))
    if not len(training):
        raise BadInput(f"{path} holds one photo, but training and validation need one each: use more photos")
    _tell_untrained(data, training)
    if data.tracks is not None:
        files.notice("The validation accuracy will be optimistic: the random split puts frames of the same track, near copies "
                     "of one sign, on both sides. --split track holds out whole tracks.")
    elif path:
        files.notice("If these photos include several frames of one sign, as GTSRB's do, the accuracy of the random split is "
                     "optimistic; their order does not show which frames belong together.")
    return data, training, validation, how


def _split_folders(data, how, path, cache, skip_bad):
    """`split` of photos in class folders, or in a csv file."""
    given = class_folders.has_part(path, "valid")
    how = how or ("given" if given else "random")
    if how == "track":
        raise BadInput(f"{path}: tracks are known for GTSRB's photos only; use --split random, which keeps near copies on one "
                       "side")
    if how == "random":
        if given:
            files.notice(f"{path} has photos to validate with, which are not used: --split given uses them.")
        return data, *class_folders.split(data), how
    if not given:
        raise BadInput(f"{path} has no photos to validate with, in a folder like val beside train: use --split random")
    valid = class_folders.load(path, "valid", data.features.size, cache, skip_bad, data.class_names)
    check_apart(valid, f"{path}'s validation part", data)
    return *_joined(data, valid), how


def _joined(data, given):
    """The Photos of both, the rows to train on and those to validate with: the ones of `data` and the ones of `given`."""
    features, labels = data.features, np.concatenate([data.labels, given.labels])
    features = (np.concatenate([features, given.features]) if isinstance(features, np.ndarray) else
                features.joined(given.features))
    rows = np.arange(len(labels))
    return Photos(features, labels, data.class_names, None), rows[:len(data.labels)], rows[len(data.labels):]


def _tell_untrained(data, training):
    """Print a notice of the classes that have photos, but none for training."""
    if len(untrained := np.setdiff1d(data.labels, data.labels[training])):
        shown = shorten(", ".join(data.class_names[label] for label in untrained))
        files.notice(f"The random split leaves no photos of these classes to train on: {shown}.")
