"""Photos in one pickled dict, such as train.p and the course's valid.p and test.p: signs, or photos of any other classes."""

import functools
import hashlib
from pathlib import Path

import numpy as np

from lab import files, safe_pickle
from lab.data import photos
from lab.data.names import CLASSES, GTSRB, default_names, read_names, sign_names
from lab.data.record import Photos
from lab.data.tracks import in_order
from lab.files import BadInput
from lab.progress import progress

SMALL, LARGE = 32, 227  # pixels on a side: train.p's photos, and what AlexNet takes

_MOST_RESIZED = 300_000  # photos: 0.9 GB when they are 32x32, whatever little they take in the file
_MOST_CLASSES = 30_000  # all of ImageNet has 21,841


def load(path, names=None, size=None, class_names=None):
    """Load the Photos in the pickle `path`, a dict with `features` and `labels`.

    path: str, Path, or zipfile.Path.
    names: a source of names, as `names.read_names` takes it, or None: then they are GTSRB's if the dict has the keys `sizes`
        and `coords`, as train.p does, or if the labels are all of 0 to 42; otherwise "class 0" and so on, and a notice says
        so.
    size: 32, to which photos are resized whole, as in train.p; 227, to which the largest central square of each photo is
        resized whenever it is asked for, so that `features` are Resized; None for 227 if a photo is larger than 32x32 and
        they are not GTSRB's, else 32.
    class_names: list of str, those of the training photos if the pickle holds photos to validate or test with, which then
        have no other classes; `names` is not used.

    `features` may be an array, uint8 [N, height, width, 3], or a list of such photos of any sizes. `labels` may be an array
    or a list, of whole numbers or whole floats, one-hot rows [N, C], or [N, 1]. A class may have no photos.

    The tracks come from the order of 32x32 photos, if that is GTSRB's order; each class may then lack up to two photos (in
    the original, class 33 lacks one).

    Raises BadInput for a file that is missing, damaged or not such a dict, or that tries to run code; for labels that do not
    fit the names; and for training photos of one class only. Raises DiskError, a BadInput too, if the disk fails.
    """
    path = files.check(path, "the photos")
    in_file = None if isinstance(path, Path) else path.root.getinfo(path.at).file_size
    with files.reading(path) as file:
        data = safe_pickle.load(file, path, in_file)
    if not isinstance(data, dict) or not {"features", "labels"} <= data.keys():
        raise BadInput(f"{path} is not a file like train.p: it holds no dict of features and labels")
    features, labels = data["features"], data["labels"]
    for name, value in (("features", features), ("labels", labels)):
        if not (isinstance(value, (list, tuple)) or isinstance(value, np.ndarray) and value.ndim):
            raise BadInput(f"{path}: {name} must be an array or a list, not {_kind(value)}")
    if len(features) != len(labels):
        raise BadInput(f"{path} has {len(features)} features but {len(labels)} labels: get the file again")
    if not len(labels):
        raise BadInput(f"{path} holds no photos")
    _check_features(features, path)

    if class_names is not None:
        labels, _ = _check_labels(labels, path, len(class_names), "training's classes are")
    else:
        if names is None and {"sizes", "coords"} <= data.keys():
            names = GTSRB
        if names is not None:
            class_names = read_names(names)
            labels, _ = _check_labels(labels, path, len(class_names),
                                      "GTSRB's classes are" if names == GTSRB else f"{names} has names for the classes")
        else:
            labels, count = _check_labels(labels, path)
            class_names = _implied_names(labels, count, path)
        if labels.min() == labels.max():
            held = f"photos of one class only, {class_names[labels[0]]}" if len(labels) > 1 else "one photo"
            raise BadInput(f"{path} holds {held}: training needs photos of two classes or more")

    if size is None:
        sides = [features.shape[1:3]] if isinstance(features, np.ndarray) else [photo.shape[:2] for photo in features]
        size = LARGE if np.max(sides) > SMALL and class_names != sign_names() else SMALL
    if size == LARGE:
        return Photos(Resized(features), labels, class_names, None)
    features = _signs(features, path)
    return Photos(features, labels, class_names, in_order(features, labels))


class Resized:
    """Photos of any sizes, uint8 [height, width, 3], that are resized to 227x227 only when they are asked for.

    features[rows], for an int, a slice, or an int array or list, is a uint8 array [227, 227, 3] or [n, 227, 227, 3]: the
    largest central square of each photo, antialiased (Lanczos). In memory are the photos as they are stored.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, stored):
        """stored: an array, uint8 [N, height, width, 3], or a list of photos."""
        self.stored = stored
        self.shape = len(stored), LARGE, LARGE, 3

    def __len__(self):
        return len(self.stored)

    def __getitem__(self, rows):
        if isinstance(rows, (int, np.integer)):
            return photos.as_imagenet(self.stored[rows])
        rows = np.arange(len(self))[rows]
        resized = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for i, row in enumerate(rows):
            resized[i] = photos.as_imagenet(self.stored[row])
        return resized

    @functools.cached_property
    def digests(self):
        """SHA-256 of each stored photo, its size and its pixels: a list of N bytes objects. No photo is resized for it."""
        return [hashlib.sha256(repr(photo.shape).encode() + photo.tobytes()).digest() for photo in self.stored]

    @property
    def fingerprint(self):
        """What photos these are, in which order and size: 64 hexadecimal digits."""
        return hashlib.sha256(b"%d" % LARGE + b"".join(self.digests)).hexdigest()

    @property
    def pixels_fingerprint(self):
        """What the pixels are, to the last bit: 64 hexadecimal digits, of `fingerprint` and what resizes photos here."""
        return hashlib.sha256(f"{self.fingerprint} {photos.decoder()}".encode()).hexdigest()


def joined(first, second):
    """The Resized with the photos of `first`, then those of `second`."""
    return Resized([*first.stored, *second.stored])


def _kind(value):
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _check_features(features, path):
    """Raise BadInput unless `features` is an array or a list of RGB photos."""
    if isinstance(features, np.ndarray):
        _check_pixels(features, features.shape[1:], f"{path}: features")
        return
    for i, photo in enumerate(features):
        if not isinstance(photo, np.ndarray):
            raise BadInput(f"{path}: features[{i}] must be an array, uint8 [height, width, 3], not {_kind(photo)}")
        _check_pixels(photo, photo.shape, f"{path}: features[{i}]")


def _signs(features, path):
    """`features`, an array or a list of arrays, as uint8 [N, 32, 32, 3]; photos of other sizes are resized."""
    if isinstance(features, np.ndarray) and features.shape[1:] == (SMALL, SMALL, 3):
        return np.ascontiguousarray(features)
    if len(features) > _MOST_RESIZED:
        raise BadInput(f"{path} has {len(features):,} photos, too many to resize: save them as uint8 [N, 32, 32, 3]")
    signs = np.empty((len(features), SMALL, SMALL, 3), np.uint8)
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


def _check_labels(labels, path, count=None, known="classes are whole numbers from"):
    """`labels`, an array or a list of whole numbers [N], or [N, 1], or one-hot rows [N, classes], as int64 [N].

    Returns them and the number of classes. `count` is that number, or None if it is the labels that tell. `known` begins to
    say which numbers are classes.
    """
    wanted = f"{path}: labels must be whole numbers [N] or one-hot rows [N, {count or 'classes'}]"
    most = count or _MOST_CLASSES
    if not isinstance(labels, np.ndarray):
        for i, label in enumerate(labels):
            if not (_is_number(label) or _is_row(label)):
                raise BadInput(f"{wanted}, but labels[{i}] is {_kind(label)}")
        try:
            labels = np.array(labels, np.float64)
        except (OverflowError, ValueError, TypeError) as error:  # an enormous number; both numbers and rows
            raise BadInput(f"{wanted}, from 0 to {most - 1}") from error
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and 1 < labels.shape[1] <= most and labels.shape[1] == (count or labels.shape[1]):
        wrong = np.flatnonzero(((labels != 0) & (labels != 1)).any(axis=1) | (np.count_nonzero(labels, axis=1) != 1))
        if len(wrong):
            raise BadInput(f"{path}: labels[{wrong[0]}] must be a one-hot row, a single 1 among zeros")
        return labels.argmax(axis=1), labels.shape[1]
    if labels.ndim != 1 or labels.dtype.kind not in "iuf":
        raise BadInput(f"{wanted}, not {_kind(labels)}")
    wrong = np.flatnonzero(~((labels >= 0) & (labels < most) & (labels == np.floor(labels))))
    if len(wrong):
        from_1 = ": subtract 1 from all labels, for the first class is 0" if labels.min() == 1 and labels.max() == count else ""
        raise BadInput(f"{path}: labels[{wrong[0]}] is {labels[wrong[0]]:g}, but {known} 0 to {most - 1}{from_1}")
    labels = labels.astype(np.int64)
    return labels, count or int(labels.max()) + 1


def _is_number(label):
    return isinstance(label, (int, float, np.number))


def _is_row(label):
    if isinstance(label, np.ndarray):
        return label.ndim == 1 and label.dtype.kind in "iufb"
    return isinstance(label, (list, tuple)) and all(map(_is_number, label))


def _implied_names(labels, count, path):
    """The names of `count` classes in a pickle that does not tell more of them than `labels`. Says so if they have none."""
    if np.array_equal(np.unique(labels), np.arange(CLASSES)):
        return sign_names()
    signs = ", or --names gtsrb if they are GTSRB's" if count <= CLASSES else ""
    files.notice(f"The classes in {path} have no names, so they are called class 0 to class {count - 1}: --names FILE gives "
                 f"them names, a name a line or a csv ClassId,SignName{signs}.")
    return default_names(count)
