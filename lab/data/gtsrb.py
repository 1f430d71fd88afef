"""The German Traffic Sign Recognition Benchmark (GTSRB), read from any of its common copies.

- `train.p`, and the course's `train.p`, `valid.p` and `test.p`: pickled dicts with `features` uint8 [N, 32, 32, 3] and
  `labels` [N];
- the authors' folders `Final_Training/Images/000CC/` and `Final_Test/Images/`, with their `GT-*.csv`;
- torchvision's folders `Training/000CC/` and `Final_Test/Images/`, with the same csv files;
- Kaggle's folder with `Train.csv` and `Test.csv`.

Each may be in a folder or in a zip file, which is not unpacked, and there also one folder deeper.
"""

import contextlib
import csv
import functools
import hashlib
import io
import itertools
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from lab import files, safe_pickle
from lab.data import photos
from lab.files import BadInput, DiskError, shorten
from lab.progress import progress

CLASSES = 43
TRAIN_ZIP = "GTSRB_Final_Training_Images.zip"
TEST_ZIP = "GTSRB_Final_Test_Images.zip"
TEST_LABELS_ZIP = "GTSRB_Final_Test_GT.zip"
TRAINING = ("train.p", TRAIN_ZIP)  # what "auto" looks for: the first that exists

FRAMES = 30  # photos in a track: frames of one physical sign, filmed while driving towards it

_MOST_TRACKS = 75  # in a class: class 2 has 75
_MOST_MISSING = 2  # photos in a class: class 33 lacks one, and a copy may have lost one more

_TRAINING_PHOTOS = 39_209
_MOST_RESIZED = 300_000  # photos: 0.9 GB when they are 32x32, whatever little they take in the file

_LARGEST_IN_ZIP = 10_000_000  # bytes: the authors' photos have up to 200,000, the csv files fewer than 3,000,000
_LARGEST_PICKLE_IN_ZIP = 250_000_000  # bytes: train.p has 120 million, in old protocols 180 million

_PARTS = {"train": "training photos", "valid": "validation photos", "test": "test photos"}
_FILES = {"train": ("train.p", "Train.csv"), "valid": ("valid.p",), "test": ("test.p", "Test.csv")}  # the course's, Kaggle's
_LISTS = {"train": ("000CC/GT-000CC.csv",), "valid": (), "test": ("GT-final_test.csv",)}  # the authors' and torchvision's
# Where the authors' and torchvision's files of a part may be below a copy's folder.
_PLACES = ("", "Images", "{part}", "{part}/Images", "GTSRB", "GTSRB/{part}", "GTSRB/{part}/Images")


class Photos(NamedTuple):
    features: np.ndarray  # uint8 [N, 32, 32, 3], RGB
    labels: np.ndarray  # int64 [N], 0 to 42
    tracks: Optional[np.ndarray]  # int64 [N], 1000 * label + number of the track in its class, or None if unknown


class _Incomplete(Photos):
    bad = ()  # what is wrong with the photos that are missing here, a sentence each


def find(source="auto"):
    """The Path that `source` names. "auto" finds TRAINING in the working directory or beside the code, or raises BadInput."""
    path = files.find(TRAINING) if source == "auto" else Path(source)
    if path is None:
        raise BadInput("train.p is neither in this folder nor beside the code: put it here, or name your copy of GTSRB")
    return path


def load(path, part="train", skip_bad=False):
    """Load the Photos of one part of the copy at `path`.

    path: a folder or a zip file with a copy of GTSRB (the authors' archive of test photos needs their archive of labels
        beside it); or one pickle, or one csv file with the photos beside it.
    part: "train", "valid" or "test". One pickle or csv file is whatever part it is said to be, except that "valid" then is
        valid.p beside it.
    skip_bad: whether to leave out photo files that cannot be used, and say how many they are.

    The tracks come from the file names of training photos. For a train.p they come from the order of the photos, if
    that is GTSRB's order; each class may then lack up to two photos (in the original, class 33 lacks one).

    Photos are resized to 32x32 whole, whatever their shape, as in train.p. In a pickle, the features may be a list of
    arrays, and the labels a list, whole floats, one-hot rows [N, 43], or [N, 1].

    Raises BadInput for a copy that is missing, damaged, incomplete or not GTSRB, that tries to run code, that lacks the
    part or has it twice; and DiskError, a BadInput too, if the disk fails.
    """
    data = _load(Path(path), part)
    if isinstance(data, _Incomplete):
        count = f"{len(data.bad):,} of {len(data.bad) + len(data.labels):,} photos in {path} cannot be used"
        if not skip_bad:
            raise BadInput(f"{data.bad[0]} ({count}: train_feature_extraction.py --skip-bad leaves them out)")
        files.notice(f"{count} and are left out, the first because {data.bad[0]}.")
        return Photos(*data)
    return data


def _load(path, part):
    with _opened(path) as folder:
        if folder is not None:
            return _load_part(folder, part, path)
        return _load_file(files.check(path.with_name("valid.p"), "GTSRB's validation photos") if part == "valid" else path)


def split(data, how, path):
    """Split `data`, Photos: the photos, and the indices of those for training and of those for validation, int64 arrays.

    how: "random", the lab's split; "track"; or "given": then the photos of valid.p are added to the end of `data`, to
        validate with.
    path: the copy that the photos come from, as in `load`; None for drawn signs.

    Raises BadInput for a single photo, for a valid.p that is not there or shares photos with `data`, or if `track_split`
    raises it.
    """
    valid = path and _valid(path)
    if how == "given":
        if not valid:
            raise BadInput(f"{path or 'builtin'} comes without a valid.p, on which --split given validates: use --split random "
                           "or --split track")
        given = load(path, "valid")
        check_apart(given, valid, data)
        rows = np.arange(len(data.labels) + len(given.labels))
        data = Photos(np.concatenate([data.features, given.features]), np.concatenate([data.labels, given.labels]), None)
        return data, rows[:-len(given.labels)], rows[-len(given.labels):]
    if valid:
        files.notice(f"{valid} is there and not used: --split given validates on it.")
    if how == "track":
        return data, *track_split(data.tracks, path or "builtin")
    training, validation = random_split(len(data.labels))
    if not len(training):
        raise BadInput(f"{path} holds one photo, but training and validation need one each: use more photos")
    if data.tracks is not None:
        files.notice("The validation accuracy will be optimistic: the random split puts frames of the same track, near copies "
                     "of one sign, on both sides. --split track holds out whole tracks.")
    elif path:
        files.notice("If these photos include several frames of one sign, as GTSRB's do, the accuracy of the random split is "
                     "optimistic; their order does not show which frames belong together.")
    return data, training, validation


def random_split(count):
    """The lab's split of `count` photos: indices of the training and of the validation photos, int64 arrays.

    A third is held out at random, as by scikit-learn's train_test_split(test_size=0.33, random_state=0).
    """
    order = np.random.RandomState(0).permutation(count)
    held_out = int(np.ceil(0.33 * count))
    return order[held_out:], order[:held_out]


def track_split(tracks, path):
    """A split that keeps each track, that is, each physical sign, on one side: a third of each class's tracks held out.

    tracks: int64 [N], 1000 * label + number of the track in its class, as in Photos, or None.
    path: the source of the photos, for messages.

    Of the n tracks of a class, max(1, round(n / 3)) are held out. One seeded generator draws them, class by class, so the
    split is always the same. Returns the indices of the training and of the validation photos, ascending int64 arrays.
    Raises BadInput if tracks is None or a class has only one track.
    """
    if tracks is None:
        raise BadInput(f"{path}: no tracks found in the names or the order of the photos; use --split random")
    random = np.random.RandomState(0)
    held_out = []
    for label in np.unique(tracks // 1000):
        own = np.unique(tracks[tracks // 1000 == label])
        if len(own) < 2:
            raise BadInput(f"{path} has only one track of class {label}, but training and validation need one each: "
                           "use --split random")
        held_out += list(random.permutation(own)[:max(1, round(len(own) / 3))])
    validation = np.isin(tracks, held_out)
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def check_apart(held_out, name, training):
    """Raise BadInput if 1% or more of the Photos `held_out` are byte for byte among those of `training`; tell of fewer.

    name: where the photos `held_out` come from, for messages.
    """
    known = {hashlib.sha256(photo).digest() for photo in training.features}
    shared = sum(hashlib.sha256(photo).digest() in known for photo in held_out.features)
    count = len(held_out.features)
    sentence = f"{name}: {shared:,} of its {count:,} photos are byte for byte among the training photos"
    if 100 * shared >= count:
        raise BadInput(f"{sentence}, so they only test what was memorised: name other photos")
    if shared:
        files.notice(f"{sentence}.")


def identity(data, path, training=None):
    """A fingerprint of `data`, Photos read from `path` (None for drawn signs): {"name", "sha256"}.

    training: int64 [N], the rows to train on if the photos do not determine them, as with a given split.
    """
    digest = hashlib.sha256(data.features)
    digest.update(data.labels)
    if data.tracks is not None:  # they determine the split by tracks
        digest.update(data.tracks)
    if training is not None:
        digest.update(training)
    return {"name": path.name if path else "builtin", "sha256": digest.hexdigest()}


def sign_names():
    """The names of the 43 classes, in order, from signnames.csv."""
    with (files.HERE / "signnames.csv").open(encoding="utf-8", newline="") as file:
        return [row["SignName"] for row in csv.DictReader(file)]


def _load_file(path):
    """The Photos in one file: a pickle, or a csv file, whose photos are beside it or where test photos are below it."""
    return _load_photos([path], path.parent) if path.name.lower().endswith(".csv") else _load_pickle(path)


def _load_pickle(path):
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
    return Photos(features, labels, _tracks_in_order(features, labels))


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


def _tracks_in_order(features, labels):
    """The tracks of photos in GTSRB's own order, class by class and track by track; None for any other order."""
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    if len(starts) != len(np.unique(labels)):
        return None
    tracks = np.empty_like(labels)
    within, between = [], []
    for start, end in zip(starts, [*starts[1:], len(labels)]):
        step = _steps(features[start:end])
        number = _track_numbers(step)
        if number is None:
            return None
        tracks[start:end] = 1000 * labels[start] + number
        within.extend(step[np.diff(number) == 0])
        between.extend(step[np.diff(number) != 0])
    # A shuffled class fits the lengths too, but then neighbours differ within tracks as much as between them.
    return tracks if not between or np.mean(within) < np.mean(between) / 2 else None


def _steps(features):
    """How much photo i + 1 differs from photo i, float32 [N - 1]: the mean absolute difference of their pixels' logarithms.

    Each photo's mean logarithm is subtracted first, which removes most of the effect of exposure. Without that, photos
    of a dark sign hardly differ from each other, or from those of the next dark sign.
    """
    logarithms = np.log(np.arange(256, dtype=np.float32) + 10)  # + 10, or the noise of black pixels would count
    photo = logarithms[features[:, ::2, ::2]].reshape(len(features), -1)
    photo -= photo.mean(axis=1, keepdims=True)
    return np.abs(np.diff(photo, axis=0)).mean(axis=1)


def _track_numbers(step):
    """The track of each photo of a class, 0, 0, ..., 1, 1, ..., given how much neighbours differ; None if unknown.

    If photos are missing, the short tracks are chosen so that the ends of all tracks fall where neighbours differ most.
    """
    count = len(step) + 1
    missing = -count % FRAMES
    tracks = (count + missing) // FRAMES
    if missing > _MOST_MISSING or tracks > _MOST_TRACKS:
        return None
    # The last photos of a track also differ much, because the sign is near. But the first photos of the next track are
    # taken from far away and hardly differ. So a third of the next step is subtracted from each step. Tested on the first
    # eight tracks of each GTSRB class with any one photo removed: 0.25 to 0.4 of the step finds all tracks, 0.2 or 0.45 not.
    contrast = step - np.append(step[1:], 0) / 3
    end = FRAMES * np.arange(1, tracks) - 1  # the last photo of each track except the last track, if none is missing
    candidates = [end - np.sum([np.arange(1, tracks) > track for track in short], axis=0, dtype=int)
                  for short in itertools.combinations_with_replacement(range(tracks), missing)]
    return np.searchsorted(max(candidates, key=lambda end: contrast[end].sum()), np.arange(count))


@contextlib.contextmanager
def _opened(path):
    """`path` as a folder: a Path, or a zipfile.Path for a zip file; None for any other file."""
    if path.is_dir():
        yield path
        return
    with files.reading(files.check(path, "GTSRB's photos")) as file:  # is_zipfile(path) would take an error of the disk for no
        is_zip = zipfile.is_zipfile(file)
    if is_zip:
        with _open_zip(path) as archive:
            yield zipfile.Path(archive)
    else:
        yield None


def _load_part(folder, part, path):
    """The Photos of `part` in `folder`, which is `path` as a folder."""
    found = _found(folder, part, path)
    if not found:
        others = [f"the {_PARTS[other]} ({where})" for other in _PARTS for where, _ in _found(folder, other, path)]
        names = sorted(item.name for item in folder.iterdir() if not _is_junk(item.name))
        looked_for = " or ".join(_FILES[part] + _LISTS[part])
        raise BadInput(f"{path} has no {_PARTS[part]}: looked there and one folder deeper for {looked_for}, found "
                       f"{' and '.join(others) or shorten(', '.join(names)) or 'nothing'}: name a copy that has them")
    if len(found) > 1:
        advice = "name one of them" if folder is path else "unpack it, and name one of them"
        raise BadInput(f"{path} has the {_PARTS[part]} twice, {found[0][0]} and {found[1][0]}: {advice}")
    return found[0][1]()


def _valid(path):
    """Where valid.p is, as a str: in the copy `path`, or beside it if that is one pickle; None if there is none."""
    with _opened(path) as folder:
        if folder is not None:
            found = _found(folder, "valid", path)
            return str(found[0][0]) if found else None
    beside = path.with_name("valid.p")
    return str(beside) if beside.exists() and beside != path and path.suffix.lower() != ".csv" else None


def _found(folder, part, path):
    """The places of `part` in `folder`, which is `path` as a folder: pairs of the place and a function that loads it."""
    found = [(file, functools.partial(_load_file, file))
             for copy in _copies(folder) for name in _FILES[part] if (file := copy / name).exists()]
    if part == "train":
        own = folder / f"GT-{folder.name}.csv"
        if re.fullmatch(r"\d{5}", folder.name) and own.exists():  # the folder of one class
            found.append((own, functools.partial(_load_file, own)))
        found += [(place, functools.partial(_load_classes, place))
                  for place in _places(folder, "Final_Training", "Training") if _classes(place)]
    elif part == "test":
        whole, others = _test_lists(folder, path)
        found += [(file, functools.partial(_load_photos, [file], folder)) for file in whole]
        if others and not found:  # reading one of them says what is missing
            load_other = functools.partial(_load_photos, others[:1], folder)
            if folder is not path and others[0].name == "GT-final_test.test.csv":  # the authors' archive, without labels
                load_other = functools.partial(_load_with_labels, folder, path.with_name(TEST_LABELS_ZIP))
            found = [(others[0], load_other)]
    return found


def _test_lists(folder, path):
    """The csv files of test photos for `folder`, which is `path` as a folder: those with labels and photos, and the others."""
    places = _places(folder, "Final_Test")
    below = [file for place in places if (file := place / "GT-final_test.csv").exists()]
    above = [file for place in (_above(path) if folder is path else []) if (file := place / "GT-final_test.csv").exists()]
    unlabelled = [file for place in places if (file := place / "GT-final_test.test.csv").exists()]
    whole = {}
    for file in below + above:
        listed = _rows(file)
        if _photo_folder(file, listed, folder):
            whole.setdefault(tuple(listed), file)  # some copy the file to its photos as well
    return list(whole.values()), below + unlabelled


def _load_with_labels(photo_folder, labels_path):
    """The Photos in the authors' archive of test photos, `photo_folder`, and in the zip file of their labels, `labels_path`."""
    with _open_zip(files.check(labels_path, "the labels of GTSRB's test photos")) as archive:
        _, labels = _test_lists(zipfile.Path(archive), labels_path)
        if not labels:
            raise BadInput(f"{labels_path} holds no GT-final_test.csv: get it again")
        return _load_photos(labels[:1], photo_folder)


def _copies(folder):
    """The folders in which a copy may begin: `folder` and the folders in it."""
    below = sorted((item for item in folder.iterdir() if not _is_junk(item.name)), key=lambda item: item.name)
    return _folders([folder, *(item for item in below if not isinstance(item, Path) or os.access(item, os.R_OK | os.X_OK))])


def _folders(paths):
    """Those of `paths` that are folders, each once: a link, or another case in its name, may lead to the same one again."""
    distinct = {}
    for path in paths:
        if path.is_dir():
            distinct.setdefault(os.stat(path)[1:3] if isinstance(path, Path) else str(path), path)
    return list(distinct.values())


def _is_junk(name):
    """Whether an archiver or a file manager has added the file or folder `name`, as macOS and Windows do."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _places(folder, *names):
    """The folders below `folder` where a copy may have what the authors have in a folder of one of the `names`."""
    return _folders([copy / place.format(part=name) for copy in _copies(folder) for name in names for place in _PLACES])


def _above(folder):
    """The folders above `folder` where the csv file of its test photos may be: torchvision has it beside the folder GTSRB."""
    folder = folder.absolute()
    while folder.name in ("Images", "Final_Test", "GTSRB"):
        folder = folder.parent
        yield folder


def _classes(folder):
    """The names of the class folders in `folder`, such as "00014"; [] if it has none."""
    if not any((folder / f"{label:05}").is_dir() for label in range(CLASSES)):  # quick, also in a zip file with 50,000 photos
        return []
    return sorted(item.name for item in folder.iterdir() if re.fullmatch(r"\d{5}", item.name))


def check_zip(path):
    """Raise BadInput unless every file in the zip file `path` can be unpacked."""
    with _open_zip(path) as archive:
        if archive.testzip():
            raise zipfile.BadZipFile


@contextlib.contextmanager
def _open_zip(path):
    """Open the zip file `path`. Raises BadInput for damage, even if found later in the `with` block, and for huge files."""
    try:
        archive = zipfile.ZipFile(files.reading(path))
    except DiskError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, struct.error) as error:
        raise BadInput(f"{path} is damaged or cut short: get it again") from error
    try:
        with archive:
            for member in archive.infolist():
                if member.header_offset < 0 or member.header_offset + member.compress_size > os.path.getsize(path):
                    raise zipfile.BadZipFile
                largest = _LARGEST_PICKLE_IN_ZIP if member.filename.endswith(".p") else _LARGEST_IN_ZIP
                if member.file_size > largest:
                    raise BadInput(f"{path} holds a file of {member.file_size:,} bytes, {shorten(member.filename)}, larger "
                                   "than any of GTSRB's: unpack it, if you trust it, and name the folder")
                if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise BadInput(f"{path} is encrypted or compressed in an unusual way: unpack it and name the folder")
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeDecodeError, struct.error) as error:
        raise BadInput(f"{path} is damaged or cut short: get it again") from error


def _load_classes(folder):
    """The Photos in the class folders of `folder`."""
    data = _load_photos([folder / label / f"GT-{label}.csv" for label in _classes(folder)])
    if folder.name == "Training" and len(data.labels) < _TRAINING_PHOTOS:
        files.notice(f"{folder} is torchvision's copy, which has an older training part: {len(data.labels):,} photos, not "
                     f"{_TRAINING_PHOTOS:,}.")
    return data


def _load_photos(csv_files, folder=None):
    """The Photos listed in `csv_files`. The photo files are beside each csv file, or where `folder` has its test photos."""
    rows = []
    for path in csv_files:
        listed = _rows(path)
        beside = _photo_folder(path, listed, folder) or path.parent
        rows += [(beside / name, label, track) for name, label, track in listed]
    if not rows:
        raise BadInput(f"{csv_files[0]} lists no photos")
    features = np.empty((len(rows), 32, 32, 3), np.uint8)
    read, bad = [], []
    for row in progress(rows, "Reading photos", unit="photo"):
        try:
            features[len(read)] = photos.read_sign(row[0])
            read.append(row)
        except DiskError:
            raise
        except BadInput as error:
            bad.append(str(error))
    if not read:
        raise BadInput(f"{csv_files[0]} lists no photo that can be used: {bad[0]}")
    labels, tracks = (np.array(column, object) for column in list(zip(*read))[1:])
    data = Photos(features[:len(read)], labels.astype(np.int64), None if None in tracks else tracks.astype(np.int64))
    if bad:
        data = _Incomplete(*data)
        data.bad = bad
    return data


def _photo_folder(path, listed, folder):
    """The folder of the photos `listed` in the csv file `path`: its own, or one in `folder` for test photos, or None."""
    places = [path.parent, *(_places(folder, "Final_Test") if folder else [])]
    return next((place for place in places if listed and (place / listed[0][0]).exists()), None)


def _rows(path):
    """File name, label and track (or None) of each photo listed in the csv file `path`."""
    try:
        content = files.reading(files.check(path, "GTSRB's list of photos"))
        with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as file:
            delimiter = ";" if ";" in file.readline() else ","
            file.seek(0)
            return [_row(row, path) for row in csv.DictReader(file, delimiter=delimiter)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is not a csv file: get it again") from error


def _row(row, path):
    """File name, label and track (or None) in one `row` of the csv file `path`."""
    name = row.get("Path") or row.get("Filename")
    if not name or len(name) > 250:
        raise BadInput(f"{path} lists a photo without a Filename or Path: it is not one of GTSRB's csv files, or is cut short")
    if "ClassId" not in row:
        raise BadInput(f"{path} has no column ClassId: unpack the labels of the test photos, {TEST_LABELS_ZIP}, beside them")
    label = int(row["ClassId"]) if re.fullmatch(r"\d{1,2}", row["ClassId"] or "") else CLASSES
    if label >= CLASSES:
        raise BadInput(f"{path}: {shorten(name)} has class {shorten(row['ClassId'])}, but GTSRB's classes are 0 to "
                       f"{CLASSES - 1}")
    track = re.fullmatch(r"(?:\d{5}_)?(\d{5})_\d{5}", Path(name).stem)
    return name, label, 1000 * label + int(track[1]) if track else None
