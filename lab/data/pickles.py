"""Photos in one pickled dict, such as train.p and the course's valid.p and test.p."""

from pathlib import Path

import numpy as np

from lab import files, safe_pickle
from lab.data import photos, tracks
from lab.data.names import CLASSES, sign_names
from lab.data.record import Photos
from lab.files import BadInput
from lab.progress import progress

_MOST_RESIZED = 300_000  # photos: 0.9 GB when they are 32x32, whatever little they take in the file


def load(path):
    path = files.check(path, "GTSRB's photos")
    size = None if isinstance(path, Path) else path.root.getinfo(path.at).file_size
    with files.reading(path) as file:
        data = safe_pickle.load(file, path, size)
    if not isinstance(data, dict) or not {"features", "labels"} <= data.keys():
        raise BadInput(f"{path} is not a GTSRB file like train.p: it holds no dict of features and labels")
    features, labels = data["features"], data["labels"]
    for name, value in (("features", features), ("labels", labels)):
        if not (isinstance(value, (list, tuple)) or isinstance(value, np.ndarray) and value.ndim):
            raise BadInput(f"{path}: {name} must be an array or a list, not {_kind(value)}")
    if len(features) != len(labels):
        raise BadInput(f"{path} has {len(features)} features but {len(labels)} labels: get the file again")
    if not len(labels):
        raise BadInput(f"{path} holds no photos")
    features, labels = _check_features(features, path), _check_labels(labels, path)
    return Photos(features, labels, sign_names(), tracks.in_order(features, labels))


def _kind(value):
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _check_features(features, path):
    """`features`, an array or a list of arrays, as uint8 [N, 32, 32, 3]; photos of other sizes are resized."""
    if isinstance(features, np.ndarray):
        _check_pixels(features, features.shape[1:], f"{path}: features")
        if features.shape[1:] == (32, 32, 3):
            return np.ascontiguousarray(features)
    else:
        for i, photo in enumerate(features):
            if not isinstance(photo, np.ndarray):
                raise BadInput(f"{path}: features[{i}] must be an array, uint8 [height, width, 3], not {_kind(photo)}")
            _check_pixels(photo, photo.shape, f"{path}: features[{i}]")
    if len(features) > _MOST_RESIZED:
        raise BadInput(f"{path} has {len(features):,} photos, too many to resize: save them as uint8 [N, 32, 32, 3]")
    signs = np.empty((len(features), 32, 32, 3), np.uint8)
    for i, photo in enumerate(progress(features, "Resizing photos", unit="photo")):
        signs[i] = photos.as_sign(photo)
    return signs


def _check_pixels(array, shape, name):
    """Raise BadInput, beginning with `name`, unless `array` is uint8 and holds RGB photos, each of `shape`."""
    if len(shape) == 2 or shape[2:] == (1,):
        raise BadInput(f"{name} must be in colour, RGB photos [height, width, 3], not grey ones, {_kind(array)}: save the "
                       "photos before they are made grey")
    if array.dtype != np.uint8 and array.size:
        low, high = float(array.min()), float(array.max())
        advice = "multiply by 255 and round" if 0 <= low and high <= 1 else "save the photos before they are converted"
        raise BadInput(f"{name} must be bytes, uint8 from 0 to 255, not {array.dtype} from {low:.4g} to {high:.4g}: {advice}")
    if len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < photos.SMALLEST:
        raise BadInput(f"{name} must be RGB photos, uint8 [height, width, 3], of {photos.SMALLEST} pixels or more on each "
                       f"side, not {_kind(array)}")


def _check_labels(labels, path):
    """`labels`, an array or a list of whole numbers [N], or [N, 1], or one-hot rows [N, 43], as int64 [N]."""
    wanted = f"{path}: labels must be whole numbers [N] or one-hot rows [N, {CLASSES}]"
    if not isinstance(labels, np.ndarray):
        for i, label in enumerate(labels):
            if not (_is_number(label) or _is_row(label)):
                raise BadInput(f"{wanted}, but labels[{i}] is {_kind(label)}")
        try:
            labels = np.array(labels, np.float64)
        except (OverflowError, ValueError, TypeError) as error:  # an enormous number; both numbers and rows
            raise BadInput(f"{wanted}, from 0 to {CLASSES - 1}") from error
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and labels.shape[1] == CLASSES:
        wrong = np.flatnonzero(((labels != 0) & (labels != 1)).any(axis=1) | (np.count_nonzero(labels, axis=1) != 1))
        if len(wrong):
            raise BadInput(f"{path}: labels[{wrong[0]}] must be a one-hot row, a single 1 among zeros")
        return labels.argmax(axis=1)
    if labels.ndim != 1 or labels.dtype.kind not in "iuf":
        raise BadInput(f"{wanted}, not {_kind(labels)}")
    wrong = np.flatnonzero(~((labels >= 0) & (labels < CLASSES) & (labels == np.floor(labels))))
    if len(wrong):
        raise BadInput(f"{path}: labels[{wrong[0]}] is {labels[wrong[0]]:g}, but GTSRB's classes are 0 to {CLASSES - 1}")
    return labels.astype(np.int64)


def _is_number(label):
    return isinstance(label, (int, float, np.number))


def _is_row(label):
    if isinstance(label, np.ndarray):
        return label.shape in ((1,), (CLASSES,)) and label.dtype.kind in "iufb"
    return isinstance(label, (list, tuple)) and len(label) in (1, CLASSES) and all(map(_is_number, label))
