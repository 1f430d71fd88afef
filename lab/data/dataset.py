"""The front door to the photos: `load` finds the reader for whatever holds them, and `split` holds some of them out."""

from pathlib import Path

import numpy as np

from lab import files
from lab.data import class_folders, drawn_signs, gtsrb, photo_files, pickles
from lab.data.names import sign_names
from lab.data.photo_files import PhotoFiles
from lab.data.record import Photos
from lab.data.splits import check_apart, random_split, track_split
from lab.files import BadInput, shorten

_FEW = 20  # classes that `announce` lists


def load(path, part="train", names=None, size=None, cache=None, skip_bad=False, class_names=None):
    """Load the Photos of one part of the data at `path`.

    path: a copy of GTSRB as gtsrb.py reads it; a pickle of any classes, or a folder or a zip file with train.p, valid.p and
        test.p; a folder, a zip file or a csv file of any classes as class_folders.py reads it; None for the signs that the lab
        draws.
    part: "train", "valid" or "test". One file is whatever part it is said to be, except that "valid" is valid.p beside a
        pickle.
    names: a source of class names, as `names.read_names` takes it; None for the names that the data have or imply. In
        folders, it names classes that are numbers.
    size: pixels on a side, 32 or 227; None for 32 if the photos are GTSRB's or no larger, else 227.
    cache: the folder for what is kept of photos in folders, or None.
    skip_bad: whether to leave out photo files that cannot be used, and say how many they are.
    class_names: list of str, those of the training photos, for the other parts, which then have no other classes and the same
        labels; None for training photos.

    Raises BadInput for data that are missing, damaged or incomplete, that try to run code, that lack the part or have it
    twice, or that do not fit names, size or class_names; and DiskError, a BadInput too, if the disk fails.
    """
    if path is None:
        if size not in (None, pickles.SMALL):
            raise BadInput(f"the lab draws its signs 32x32 pixels large: leave --size {size} out, or name photos with --data")
        return drawn_signs.load()._replace(class_names=gtsrb.renamed(names))
    path = Path(path)
    if gtsrb.is_copy(path):
        return gtsrb.load(path, part, skip_bad, names, size, class_names)
    data = class_folders.load(path, part, size or pickles.LARGE, cache, skip_bad, class_names, names)
    if size is None and data.class_names == sign_names():
        signs = PhotoFiles(data.features.paths, data.features.digests, pickles.SMALL, data.features.hashes)
        data = data._replace(features=signs)
    return data


def announce(data):
    """Print which classes the photos of `data` show, and how many each, on stderr; of many classes, the extremes only.

    Prints nothing for photos in class folders, of which `load` tells this before it looks through them.
    """
    if isinstance(data.features, PhotoFiles):
        return
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    names = [shorten(name) for name in data.class_names]
    if len(names) <= _FEW:
        shown = ", ".join(f"{name} ({count:,})" if count else f"{name} (no photos)" for name, count in zip(names, counts))
    else:
        least, most = np.where(counts, counts, counts.max()).argmin(), counts.argmax()
        shown = f"from {counts[least]:,} of {names[least]} to {counts[most]:,} of {names[most]}"
        if counts[least] == counts[most]:
            shown = f"{counts[most]:,} of each"
        if empty := [names[label] for label in np.flatnonzero(counts == 0)]:
            rest = f" and {len(empty) - 3:,} others" if len(empty) > 3 else ""
            shown += f"; no photos of {', '.join(empty[:3])}{rest}"
    files.notice(f"{len(names):,} classes, {len(data.labels):,} photos: {shown}.")


def split(data, how, path, names=None, cache=None, skip_bad=False):
    """Split `data`, Photos: the photos, the indices of those for training and of those for validation, int64 arrays, and how.

    how: "random", the lab's split, but for photos in class folders that of class_folders.py; "track"; "given": then the
        photos of valid.p, or of the validation folder, are added to the end of `data`, to validate with; or None for "given"
        if there is a validation folder, else "random".
    path, names, cache, skip_bad: what `data` was loaded with, as in `load`; path is None for drawn signs.

    Raises BadInput for a single photo; for a valid.p or a validation folder that is not there, has other classes or shares
    photos with `data`; and if `track_split` or `class_folders.split` raises it.
    """
    in_files = isinstance(data.features, PhotoFiles)
    if in_files:
        valid = f"The validation folder of {path}" if class_folders.has_part(path, "valid") else None
        how = how or ("given" if valid else "random")
    else:
        valid = path and gtsrb.valid(path)
        how = how or "random"
    if how == "given":
        if not valid:
            lacking, others = ("folder named val", "") if in_files else ("valid.p", " or --split track")
            raise BadInput(f"{path or 'builtin'} comes without a {lacking}, on which --split given validates: use --split "
                           f"random{others}")
        given = load(path, "valid", names, data.features.shape[1], cache, skip_bad, data.class_names)
        check_apart(given, valid, data)
        rows = np.arange(len(data.labels) + len(given.labels))
        labels = np.concatenate([data.labels, given.labels])
        data = Photos(_joined(data.features, given.features), labels, data.class_names, None)
        if in_files:
            class_folders.check_one_class_each(data)
        return data, rows[:-len(given.labels)], rows[-len(given.labels):], how
    if valid:
        files.notice(f"{valid} is there and not used: --split given validates on it.")
    if how == "track":
        return data, *track_split(data.tracks, path or "builtin"), how
    if in_files:
        return data, *class_folders.split(data), how
    training, validation = random_split(len(data.labels))
    if not len(training):
        raise BadInput(f"{path} holds one photo, but training and validation need one each: use more photos")
    _tell_untrained(data, training)
    if data.tracks is not None:
        files.notice("The validation accuracy will be optimistic: the random split puts frames of the same track, near copies "
                     "of one sign, on both sides. --split track holds out whole tracks.")
    elif path and data.class_names == sign_names():
        files.notice("If these photos include several frames of one sign, as GTSRB's do, the accuracy of the random split is "
                     "optimistic; their order does not show which frames belong together.")
    return data, training, validation, how


def _tell_untrained(data, training):
    """Print a notice of the classes that have photos, but none for training."""
    if len(untrained := np.setdiff1d(data.labels, data.labels[training])):
        shown = shorten(", ".join(data.class_names[label] for label in untrained))
        files.notice(f"The random split leaves no photos of these classes to train on: {shown}.")


def _joined(first, second):
    """The features `first`, then the features `second`, which are of the same kind."""
    if isinstance(first, np.ndarray):
        return np.concatenate([first, second])
    return (photo_files if isinstance(first, PhotoFiles) else pickles).joined(first, second)
