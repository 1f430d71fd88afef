"""The German Traffic Sign Recognition Benchmark (GTSRB), found in any of its common copies, and read.

- `train.p`, and the course's `train.p`, `valid.p` and `test.p`, which pickles.py reads, also if their photos show something
  else;
- the authors' folders `Final_Training/Images/000CC/` and `Final_Test/Images/`, with their `GT-*.csv`;
- torchvision's folders `Training/000CC/` and `Final_Test/Images/`, with the same csv files;
- Kaggle's folder with `Train.csv` and `Test.csv`.

Each may be in a folder or in a zip file, which is not unpacked, and there also one folder deeper.
"""

import contextlib
import csv
import functools
import io
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from lab import files
from lab.data import photos, pickles
from lab.data.names import CLASSES, read_names, sign_names
from lab.data.record import Photos
from lab.files import BadInput, DiskError, shorten
from lab.progress import progress

TRAIN_ZIP = "GTSRB_Final_Training_Images.zip"
TEST_ZIP = "GTSRB_Final_Test_Images.zip"
TEST_LABELS_ZIP = "GTSRB_Final_Test_GT.zip"
TRAINING = ("train.p", TRAIN_ZIP)  # what "auto" looks for: the first that exists

_TRAINING_PHOTOS = 39_209

_LARGEST_IN_ZIP = 10_000_000  # bytes: the authors' photos have up to 200,000, the csv files fewer than 3,000,000
_LARGEST_PICKLE_IN_ZIP = 250_000_000  # bytes: train.p has 120 million, in old protocols 180 million

_PARTS = {"train": "training photos", "valid": "validation photos", "test": "test photos"}
_FILES = {"train": ("train.p", "Train.csv"), "valid": ("valid.p",), "test": ("test.p", "Test.csv")}  # the course's, Kaggle's
_LISTS = {"train": ("000CC/GT-000CC.csv",), "valid": (), "test": ("GT-final_test.csv",)}  # the authors' and torchvision's
# Where the authors' and torchvision's files of a part may be below a copy's folder.
_PLACES = ("", "Images", "{part}", "{part}/Images", "GTSRB", "GTSRB/{part}", "GTSRB/{part}/Images")


class _Incomplete(Photos):
    bad = ()  # what is wrong with the photos that are missing here, a sentence each


def find(source="auto"):
    """The Path that `source` names. "auto" finds TRAINING in the working directory or beside the code, or raises BadInput."""
    path = files.find(TRAINING) if source == "auto" else Path(source)
    if path is None:
        raise BadInput("train.p is neither in this folder nor beside the code: put it here, or name your copy of GTSRB")
    return path


def is_copy(path):
    """Whether `path` (a Path) is for `load`: it has any of the layouts above, or is one pickle, or a csv file like GTSRB's.

    Raises BadInput for a file that is missing or empty, and for a damaged zip file.
    """
    with _opened(path, every_photo=False) as folder:
        if folder is None:
            return _is_ours(path)
        return any(_is_ours(place) for part in _PARTS for place, _ in _found(folder, part, path))


def _is_ours(place):
    """Whether what `_found` yields is GTSRB's: always, unless it is a csv file with other columns."""
    if not place.name.lower().endswith(".csv") or place.is_dir():
        return True
    with files.reading(place) as file:
        header = file.read(1000).partition(b"\n")[0]
    return bool({b"ClassId", b"Roi.X1"} & set(re.split(b"[;,]", header.removeprefix(b"\xef\xbb\xbf").strip())))


def renamed(names):
    """The names of GTSRB's classes, a list of 43 str: those in the source `names`, or if that is None, GTSRB's own.

    Raises BadInput for a source as `names.read_names` does, and if it has not 43 names.
    """
    if names is None:
        return sign_names()
    class_names = read_names(names)
    if len(class_names) != CLASSES:
        raise BadInput(f"{names} has {len(class_names)} names, but GTSRB has {CLASSES} classes")
    return class_names


def load(path, part="train", skip_bad=False, names=None, size=None, class_names=None):
    """Load the Photos of one part of the copy at `path`.

    path: a folder or a zip file with a copy of GTSRB (the authors' archive of test photos needs their archive of labels
        beside it); or one pickle, or one csv file with the photos beside it.
    part: "train", "valid" or "test". One pickle or csv file is whatever part it is said to be, except that "valid" then is
        valid.p beside it.
    skip_bad: whether to leave out photo files that cannot be used, and say how many they are.
    names, size, class_names: as `pickles.load` takes them. Photos in files are GTSRB's: 32 is their only size, to which they
        are resized whole, whatever their shape, as in train.p; and they have 43 classes, which `names` may rename.

    The tracks come from the file names of training photos; for a train.p `pickles.load` finds them.

    Raises BadInput for a copy that is missing, damaged, incomplete or not GTSRB, that tries to run code, that lacks the
    part or has it twice, and for what does not fit names, size or class_names; and DiskError, a BadInput too, if the disk
    fails.
    """
    path = Path(path)
    with _opened(path) as folder:
        if folder is not None:
            place, read = _find_part(folder, part, path)
        elif part == "valid":
            place, read = files.check(path.with_name("valid.p"), "the validation photos"), None
        else:
            place, read = path, _csv_reader(path)
        if read is None:
            return pickles.load(place, names, size, class_names)
        if size not in (None, pickles.SMALL):
            raise BadInput(f"{path} holds GTSRB's signs, which the lab reads as 32x32: leave --size {size} out")
        if class_names is None:
            class_names = renamed(names)
        elif len(class_names) != CLASSES:
            raise BadInput(f"{path} holds GTSRB's {CLASSES} classes, but training has {len(class_names)}: name photos of the "
                           "same classes")
        data = read()
    if isinstance(data, _Incomplete):
        count = f"{len(data.bad):,} of {len(data.bad) + len(data.labels):,} photos in {path} cannot be used"
        if not skip_bad:
            raise BadInput(f"{data.bad[0]} ({count}: train_feature_extraction.py --skip-bad leaves them out)")
        files.notice(f"{count} and are left out, the first because {data.bad[0]}.")
    return Photos(data.features, data.labels, class_names, data.tracks)


def _csv_reader(path):
    """What loads the csv file `path`, whose photos are beside it or where test photos are below it; None for a pickle."""
    return functools.partial(_load_photos, [path], path.parent) if path.name.lower().endswith(".csv") else None


@contextlib.contextmanager
def _opened(path, every_photo=True):
    """`path` as a folder: a Path, or a zipfile.Path for a zip file, opened as by `_open_zip`; None for any other file."""
    if path.is_dir():
        yield path
        return
    with files.reading(files.check(path, "the photos")) as file:  # is_zipfile(path) would take an error of the disk for no
        is_zip = zipfile.is_zipfile(file)
    if is_zip:
        with _open_zip(path, every_photo) as archive:
            yield zipfile.Path(archive)
    else:
        yield None


def _find_part(folder, part, path):
    """The place of `part` in `folder`, which is `path` as a folder, and what loads it, as in `_found`."""
    found = _found(folder, part, path)
    if not found:
        others = [f"the {_PARTS[other]} ({where})" for other in _PARTS for where, _ in _found(folder, other, path)]
        names = sorted(item.name for item in folder.iterdir() if not files.is_junk(item.name))
        looked_for = " or ".join(_FILES[part] + _LISTS[part])
        raise BadInput(f"{path} has no {_PARTS[part]}: looked there and one folder deeper for {looked_for}, found "
                       f"{' and '.join(others) or shorten(', '.join(names)) or 'nothing'}: name a copy that has them")
    if len(found) > 1:
        advice = "name one of them" if folder is path else "unpack it, and name one of them"
        raise BadInput(f"{path} has the {_PARTS[part]} twice, {found[0][0]} and {found[1][0]}: {advice}")
    return found[0]


def valid(path):
    """Where valid.p is, as a str: in the copy `path`, or beside it if that is one pickle; None if there is none."""
    with _opened(path) as folder:
        if folder is not None:
            found = _found(folder, "valid", path)
            return str(found[0][0]) if found else None
    beside = path.with_name("valid.p")
    return str(beside) if beside.exists() and beside != path and path.suffix.lower() != ".csv" else None


def _found(folder, part, path):
    """The places of `part` in `folder`, which is `path` as a folder: pairs of the place and a function that loads it.

    The function is None for a pickle.
    """
    found = [(file, _csv_reader(file))
             for copy in _copies(folder) for name in _FILES[part] if (file := copy / name).exists()]
    if part == "train":
        own = folder / f"GT-{folder.name}.csv"
        if re.fullmatch(r"\d{5}", folder.name) and own.exists():  # the folder of one class
            found.append((own, _csv_reader(own)))
        found += [(place, functools.partial(_load_classes, place))
                  for place in _places(folder, "Final_Training", "Training") if _lists(place)]
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
    below = sorted((item for item in folder.iterdir() if not files.is_junk(item.name)), key=lambda item: item.name)
    return _folders([folder, *(item for item in below if not isinstance(item, Path) or os.access(item, os.R_OK | os.X_OK))])


def _folders(paths):
    """Those of `paths` that are folders, each once: a link, or another case in its name, may lead to the same one again."""
    distinct = {}
    for path in paths:
        if path.is_dir():
            distinct.setdefault(os.stat(path)[1:3] if isinstance(path, Path) else str(path), path)
    return list(distinct.values())


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


def _lists(folder):
    """Whether a class folder in `folder` has its csv file: folders of other classes may have such names too."""
    return any((folder / label / f"GT-{label}.csv").exists() for label in _classes(folder))


def check_zip(path):
    """Raise BadInput unless every file in the zip file `path` can be unpacked."""
    with _open_zip(path) as archive:
        if archive.testzip():
            raise zipfile.BadZipFile


@contextlib.contextmanager
def _open_zip(path, every_photo=True):
    """Open the zip file `path`. Raises BadInput for damage, even if found later in the `with` block, and for huge files.

    Unless `every_photo`, the files in it that are no pickles and no csv files may be of any size and kind: they are not read.
    """
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
                if not every_photo and not member.filename.lower().endswith((".p", ".csv")):
                    continue
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
    data = Photos(features[:len(read)], labels.astype(np.int64), None,
                  None if None in tracks else tracks.astype(np.int64))
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
