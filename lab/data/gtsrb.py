"""The German Traffic Sign Recognition Benchmark (GTSRB), read from any of its common copies.

- `train.p`, `valid.p`, `test.p`: pickled dicts with `features` uint8 [N, 32, 32, 3] and `labels` [N];
- the authors' folders `Final_Training/Images/000CC/` and `Final_Test/Images/`, with their `GT-*.csv`;
- Kaggle's folder with `Train.csv` and `Test.csv`;
- the authors' archives, `GTSRB_Final_Training_Images.zip` and so on, without unpacking them.
"""

import contextlib
import csv
import hashlib
import itertools
import re
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from lab import files, safe_pickle
from lab.data import photos
from lab.files import BadInput, DiskError, shorten

CLASSES = 43
TRAIN_ZIP = "GTSRB_Final_Training_Images.zip"
TEST_ZIP = "GTSRB_Final_Test_Images.zip"
TEST_LABELS_ZIP = "GTSRB_Final_Test_GT.zip"
TRAINING = ("train.p", TRAIN_ZIP)  # what "auto" looks for: the first that exists

FRAMES = 30  # photos in a track: frames of one physical sign, filmed while driving towards it

_MOST_TRACKS = 75  # in a class: class 2 has 75
_MOST_MISSING = 2  # photos in a class: class 33 lacks one, and a copy may have lost one more

_LARGEST_IN_ZIP = 10_000_000  # bytes: the authors' photos have up to 200,000, their csv files fewer than 2,000,000

# Where the authors' photos and csv files may be below the folder that the user names.
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


def load(path, prefer="train", skip_bad=False):
    """Load the Photos at `path`.

    path: a train.p, valid.p or test.p; a folder of the authors' or Kaggle's copy; one csv file in such a folder, with
        the photos beside it; or one of the authors' archives (the test photos need the archive of labels beside them).
    prefer: "train" or "test", which to load from a folder that has both.
    skip_bad: whether to leave out photo files that cannot be used, and say how many they are.

    The tracks come from the file names of training photos. For a train.p they come from the order of the photos, if
    that is GTSRB's order; each class may then lack up to two photos (in the original, class 33 lacks one).

    Photo files are resized to 32x32 whole, whatever their shape, as in train.p. Raises BadInput for a copy that is
    missing, damaged, incomplete or not GTSRB, or that tries to run code, and DiskError, a BadInput too, if the disk fails.
    """
    data = _load(Path(path), prefer)
    if isinstance(data, _Incomplete):
        count = f"{len(data.bad):,} of {len(data.bad) + len(data.labels):,} photos in {path} cannot be used"
        if not skip_bad:
            raise BadInput(f"{data.bad[0]} ({count}: train_feature_extraction.py --skip-bad leaves them out)")
        files.notice(f"{count} and are left out, the first because {data.bad[0]}.")
        return Photos(*data)
    return data


def _load(path, prefer):
    if path.is_dir():
        return _load_folder(path, ("test", "train") if prefer == "test" else ("train", "test"))
    path = files.check(path, "GTSRB's photos")
    with files.reading(path) as file:  # by itself, is_zipfile would take an error of the disk for a no
        is_zip = zipfile.is_zipfile(file)
    if is_zip:
        return _load_zip(path)
    return _load_photos([path]) if path.suffix.lower() == ".csv" else _load_pickle(path)


def split(data, how, path):
    """Split `data`, Photos: the indices of the training and of the validation photos, int64 arrays.

    how: "random", the lab's split, or "track". path: the source of the photos, for messages; None for drawn signs.

    Raises BadInput for a single photo, or if `track_split` raises it.
    """
    if how == "track":
        return track_split(data.tracks, path or "builtin")
    training, validation = random_split(len(data.labels))
    if not len(training):
        raise BadInput(f"{path} holds one photo, but training and validation need one each: use more photos")
    if data.tracks is not None:
        files.notice("The validation accuracy will be optimistic: the random split puts frames of the same track, near copies "
                     "of one sign, on both sides. --split track holds out whole tracks.")
    elif path:
        files.notice("If these photos include several frames of one sign, as GTSRB's do, the accuracy of the random split is "
                     "optimistic; their order does not show which frames belong together.")
    return training, validation


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


def identity(data, path):
    """A fingerprint of `data`, Photos read from `path` (None for drawn signs): {"name", "sha256"}."""
    digest = hashlib.sha256(data.features)
    digest.update(data.labels)
    if data.tracks is not None:  # they determine the split by tracks
        digest.update(data.tracks)
    return {"name": path.name if path else "builtin", "sha256": digest.hexdigest()}


def sign_names():
    """The names of the 43 classes, in order, from signnames.csv."""
    with (files.HERE / "signnames.csv").open(encoding="utf-8", newline="") as file:
        return [row["SignName"] for row in csv.DictReader(file)]


def _load_pickle(path):
    with files.reading(path) as file:
        data = safe_pickle.load(file, path)
    if not isinstance(data, dict) or not {"features", "labels"} <= data.keys():
        raise BadInput(f"{path} is not a GTSRB file like train.p: it holds no dict of features and labels")
    features = data["features"]
    if not isinstance(features, np.ndarray) or features.dtype != np.uint8 or features.shape[1:] != (32, 32, 3):
        kind = f"{features.dtype} {features.shape}" if isinstance(features, np.ndarray) else type(features).__name__
        raise BadInput(f"{path}: features must be uint8 [N, 32, 32, 3], not {kind}")
    labels = _check_labels(data["labels"], path)
    if len(features) != len(labels):
        raise BadInput(f"{path} has {len(features)} features but {len(labels)} labels: get the file again")
    features = np.ascontiguousarray(features)
    return Photos(features, labels, _tracks_in_order(features, labels))


def _check_labels(labels, path):
    if isinstance(labels, list) and all(isinstance(label, (int, np.integer)) for label in labels):
        try:
            labels = np.array(labels, np.int64)
        except OverflowError as error:
            raise BadInput(f"{path}: labels hold a number far outside GTSRB's classes, 0 to {CLASSES - 1}") from error
    elif not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.ndim != 1:
        kind = f"{labels.dtype} {labels.shape}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise BadInput(f"{path}: labels must be integers [N], not {kind}")
    if not len(labels):
        raise BadInput(f"{path} holds no photos")
    wrong = np.flatnonzero((labels < 0) | (labels >= CLASSES))
    if len(wrong):
        raise BadInput(f"{path}: labels[{wrong[0]}] is {labels[wrong[0]]}, but GTSRB's classes are 0 to {CLASSES - 1}")
    return labels.astype(np.int64)


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


def _load_folder(folder, parts, root=None):
    """The Photos of the first of `parts`, "train" and "test" in some order, that `folder` has; `root`: see `_load_photos`."""
    for part in parts:
        if (folder / f"{part}.p").exists():
            return _load_pickle(files.check(folder / f"{part}.p", "GTSRB's photos"))
        csv_files = _csv_files(folder, part)
        if csv_files:
            return _load_photos(csv_files, root)
    raise BadInput(f"{folder} holds no copy of GTSRB: no train.p, no GT-*.csv (the authors' copy) and no Train.csv (Kaggle's)")


def _csv_files(folder, part):
    """The csv files that list the photos of one part, "train" or "test", of the copy in `folder`; [] if there are none."""
    kaggle = folder / f"{part.title()}.csv"
    if kaggle.exists():
        return [kaggle]
    if part == "test":
        return [folder / place.format(part="Final_Test") / name
                for name in ("GT-final_test.csv", "GT-final_test.test.csv")  # with labels, without labels
                for place in _PLACES if (folder / place.format(part="Final_Test") / name).exists()][:1]
    own = folder / f"GT-{folder.name}.csv"  # the folder of one class
    if own.exists():
        return [own]
    for place in _PLACES:
        images = folder / place.format(part="Final_Training")
        classes = sorted(path.name for path in images.iterdir() if re.fullmatch(r"\d{5}", path.name)) if images.is_dir() else []
        if classes:
            return [images / label / f"GT-{label}.csv" for label in classes]
    return []


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
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise BadInput(f"{path} is damaged or cut short: get it again") from error
    try:
        with archive:
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in archive.infolist()):
                raise BadInput(f"{path} uses a different compression than GTSRB's archives: get it again")
            huge = next((member for member in archive.infolist() if member.file_size > _LARGEST_IN_ZIP), None)
            if huge:
                raise BadInput(f"{path} holds a file of {huge.file_size:,} bytes, larger than any of GTSRB's: get it again")
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise BadInput(f"{path} is damaged or cut short: get it again") from error


def _load_zip(path):
    """The Photos in one of the authors' archives, read without unpacking it."""
    with _open_zip(path) as archive:
        root = zipfile.Path(archive)
        if not any("Final_Test/" in name for name in archive.namelist()):
            return _load_folder(root, ("train",))
        labels_path = files.check(path.with_name(TEST_LABELS_ZIP), "the labels of GTSRB's test photos")
        with _open_zip(labels_path) as labels:
            return _load_folder(zipfile.Path(labels), ("test",), root)


def _load_photos(csv_files, root=None):
    """The Photos listed in `csv_files`. The photo files are below `root`, or beside each csv file if it is None."""
    rows = [row for path in csv_files for row in _rows(path, root)]
    if not rows:
        raise BadInput(f"{csv_files[0]} lists no photos")
    features = np.empty((len(rows), 32, 32, 3), np.uint8)
    read, bad = [], []
    for row in tqdm(rows, "Reading photos", unit="photo", disable=None, leave=False):
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


def _rows(path, root):
    """Path, label and track (or None) of each photo listed in the csv file `path`."""
    try:
        with files.check(path, "GTSRB's list of photos").open("r", encoding="utf-8-sig", newline="") as file:
            delimiter = ";" if ";" in file.readline() else ","
            file.seek(0)
            rows = [_row(row, path) for row in csv.DictReader(file, delimiter=delimiter)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is not a csv file: get it again") from error
    # The labels of the test photos come in a separate archive; once unpacked, its csv file is above the photos' folder.
    root = root or path.parent
    folders = [root / place.format(part="Final_Test") for place in _PLACES]
    folder = next((folder for folder in folders if rows and (folder / rows[0][0]).exists()), root)
    return [(folder / name, label, track) for name, label, track in rows]


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
