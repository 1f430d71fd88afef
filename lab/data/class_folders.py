"""Photos of any classes: a folder with one folder per class, the same in a zip file, or a csv file that lists them.

- `photos/daisy/1.jpg`: the folder's name is the class. Photos in folders below a class folder belong to the class too.
- `photos/train/daisy/1.jpg`, `photos/val/daisy/2.jpg`: parts above the classes. `train` may also be called `training`, `val`
  `valid` or `validation`, and `test` `testing`, in capitals or not. Without a `train`, the class folders beside the other
  parts are the training photos.
- `photos.csv` with the columns path,label, where paths are relative to the csv file.

A folder that holds nothing but one folder is stepped through. What systems and programs leave in folders is never a class nor
a photo.
"""

import collections
import csv
import io
import os
import unicodedata
import zipfile
from pathlib import Path

import numpy as np

from lab import files
from lab.data import photo_files, photos
from lab.data.names import names_of_numbers
from lab.data.record import Photos
from lab.files import BadInput, counted, shorten

_PARTS = {"train": "train", "training": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test",
          "testing": "test"}
_DESCRIPTIONS = {"train": "training photos", "valid": "validation photos", "test": "test photos"}
_MOST_NAMED = 50  # classes in one line

_CSV = "a csv file with the columns path,label"


def load(path, part="train", size=227, cache=None, skip_bad=False, class_names=None, names=None):
    """Load the Photos of one part of `path`: the features are PhotoFiles, which stay on disk.

    path: a folder, a zip file, or a csv file, as above. One without parts is whatever part it is said to be, but not "valid".
    part: "train", "valid" or "test".
    size: 32 for the whole photo, 227 for its largest middle square; both are resized.
    cache: the folder to keep the photos' manifest in, or None. See photo_files.scan.
    skip_bad: whether to leave out photo files that cannot be used, and say how many they are.
    class_names: the training photos' classes, list of str: the labels of another part follow them, by name. None makes the
        classes: numbers come first, in numeric order, then other names, in the order of Unicode.
    names: a source of names for classes that are numbers, as `names.names_of_numbers` takes it, or None.

    Names are compared and returned in Unicode's normal form C, since systems store the same name in different forms. Prints
    on stderr the classes and their counts, before the photos are read, and what is left out.

    Raises BadInput if the classes cannot be told, there are fewer than two, or one has no photos; for a class that
    `class_names` lacks; for one photo in two classes; for a photo that cannot be used, without `skip_bad`; and for a damaged
    zip or csv file. Raises DiskError, a BadInput too, if the disk fails.
    """
    path = Path(path)
    if _is_csv(path):
        if part == "valid":
            raise BadInput(f"{path} has no validation photos: it is one list")
        classes = _listed(path)
    else:
        classes = _class_folders(_tree(path), part, class_names is None)
    numbers = sorted(classes, key=_order)
    named = names_of_numbers(numbers, names, class_names)
    classes = {name: classes[number] for name, number in zip(named, numbers)}
    return _load(classes, path, part, size, cache, skip_bad, class_names)


def has_part(path, part):
    """Whether `path`, as in `load`, has photos of that part: "valid" and "test" in a folder of that name."""
    path = Path(path)
    if _is_csv(path):
        return part == "train"
    parts, rest = _divided(_tree(path))
    return part in parts or part == "train" and rest.holds_photos()


def split(data):
    """Hold out a third of each class of `data`, Photos whose features are PhotoFiles with hashes, at random.

    Near copies (photo_files.near_copies) stay on one side: groups of them are drawn until another one would make more than a
    third of the class, but at least one. One seeded generator draws them, class by class, so the split is always the same.
    Whether photos of different classes are near copies does not matter.

    Returns the indices of the training and of the validation photos, ascending int64 arrays. Raises BadInput for a class that
    has one photo only, or only near copies of one.
    """
    random = np.random.RandomState(0)
    validation, copies = np.zeros(len(data.labels), bool), 0
    for label, name in enumerate(data.class_names):
        rows = np.flatnonzero(data.labels == label)
        group = photo_files.near_copies(data.features.hashes[rows])
        sizes = np.bincount(group)
        copies += len(rows) - len(sizes)
        if len(sizes) < 2:
            what = "has one photo only" if len(rows) < 2 else f"has {len(rows):,} photos, all near copies of each other"
            raise BadInput(f"class {shorten(name)} {what}, but training and validation need different ones: add photos of it, "
                           "or put photos to validate with into a folder named val beside the others")
        order = random.permutation(len(sizes))
        held_out, room = [], max(1, round(len(rows) / 3))
        for number in order:
            if sizes[number] <= room:
                held_out.append(number)
                room -= sizes[number]
        if not held_out:
            held_out = [order[sizes[order].argmin()]]
        validation[rows[np.isin(group, held_out)]] = True
    files.notice(f"About a third of each class is held out to validate with: {counted(int(validation.sum()), 'photo')} of "
                 f"{len(data.labels):,}.")
    if copies:
        files.notice(f"Near copies of another photo in their class, kept on one side of the split with it: "
                     f"{counted(copies, 'photo')} of {len(data.labels):,}.")
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def check_one_class_each(data):
    """Raise BadInput if a photo is, byte for byte, in two classes of `data`, Photos whose features are PhotoFiles."""
    first = {}
    for row, (digest, label) in enumerate(zip(data.features.digests, data.labels.tolist())):
        other = first.setdefault(digest, row)
        if data.labels[other] != label:
            raise BadInput(f"{data.features.paths[other]} and {data.features.paths[row]} are the same photo in two classes, "
                           f"{shorten(data.class_names[data.labels[other]])} and {shorten(data.class_names[label])}: keep it "
                           "in the right one only")


def _load(classes, path, part, size, cache, skip_bad, class_names):
    """The Photos of `classes`, {name: list of paths} in order. The other arguments are those of `load`."""
    own_names = class_names is None
    if own_names:
        class_names = list(classes)
        if len(class_names) < 2:
            raise BadInput(f"{path} holds photos of one class only, {shorten(class_names[0])}: to tell classes apart takes two "
                           "or more")
    else:
        unknown = sorted(set(classes) - set(class_names), key=_order)
        if unknown:
            raise BadInput(f"{path}: the {_DESCRIPTIONS[part]} have a class that the training photos lack, "
                           f"{shorten(unknown[0])}: name it like one of theirs, or move it away")
    paths = [photo for name in class_names for photo in classes.get(name, ())]
    labels = np.repeat(np.arange(len(class_names)), [len(classes.get(name, ())) for name in class_names])
    if not paths:
        raise BadInput(f"{path} has no {_DESCRIPTIONS[part]}")
    files.notice(f"{path}: {len(paths):,} {_DESCRIPTIONS[part]} of {len(class_names):,} classes: "
                 f"{_counts(labels, class_names)}.")

    found = photo_files.scan(paths, cache, f"{path.absolute()}:{part}")
    if found.bad:
        count, first = f"{len(found.bad):,} of {len(paths):,} photos in {path} cannot be used", found.bad[min(found.bad)]
        if not skip_bad:
            raise BadInput(f"{first} ({count}: train_feature_extraction.py --skip-bad leaves them out)")
        files.notice(f"{count} and are left out, the first because {first}.")
    good = [i for i in range(len(paths)) if i not in found.bad]
    labels = labels[good]
    lacking = [class_names[label] for label in np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)]
    if lacking and own_names:
        raise BadInput(f"{path}: none of the photos of class {shorten(lacking[0])} can be used: get them again, or leave the "
                       "class out")
    features = photo_files.PhotoFiles([paths[i] for i in good], [found.digests[i] for i in good], size, found.hashes[good])
    data = Photos(features, labels.astype(np.int64), list(class_names), None)
    check_one_class_each(data)
    return data


def _counts(labels, class_names):
    """Each class and how many photos it has, as text."""
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    named = [f"{shorten(name)}: {count or 'no photos'}" for name, count in zip(class_names, counts)]
    if len(named) <= _MOST_NAMED:
        return ", ".join(named)
    few, many = min(counts), max(counts)
    extremes = ", as many each"
    if few < many:
        extremes = (f"; the fewest has {shorten(class_names[counts.index(few)])}, {few or 'no photos'}, the most "
                    f"{shorten(class_names[counts.index(many)])}, {many:,}")
    return f"{', '.join(named[:_MOST_NAMED // 2])}, and {len(named) - _MOST_NAMED // 2:,} more{extremes}"


def _order(name):
    """The key that sorts class names: numbers by value, then other names."""
    if name.isascii() and name.isdigit():
        digits = name.lstrip("0")
        return 0, len(digits), digits, name
    return 1, 0, "", name


def _is_csv(path):
    return path.suffix.lower() == ".csv" and not path.is_dir()


# Folders


class _Folder:
    """What a folder on disk or in a zip file holds, without junk."""

    def __init__(self, path):
        self.path = path  # as text, for messages
        self.folders, self.photos = {}, []  # {name: _Folder}, in the order of names; Paths or ZipPhotos
        self.others = collections.Counter()  # how many files that are no photos by their names, by suffix

    def below(self):
        """This folder and all below it, in order."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting += reversed(folder.folders.values())

    def holds_photos(self):
        return any(folder.photos for folder in self.below())

    def without(self, names):
        """A copy that lacks the folders `names`."""
        copy = _Folder(self.path)
        copy.folders = {name: folder for name, folder in self.folders.items() if name not in names}
        copy.photos, copy.others = self.photos, self.others
        return copy

    def add(self, name, photo):
        suffix = os.path.splitext(name)[1].lower()
        if suffix in photos.SUFFIXES:
            self.photos.append(photo)
        else:
            self.others[suffix] += 1


def _tree(path):
    """The _Folder of `path`, a folder or a zip file."""
    if path.is_dir():
        return _tree_on_disk(path)
    with files.reading(files.check(path, "your photos")) as file:
        if not zipfile.is_zipfile(file):
            raise BadInput(f"{path} holds no photos of classes: name a folder with a folder for each class, a zip file of one, "
                           f"or {_CSV}")
    return _tree_in_zip(path)


def _tree_on_disk(path):
    root = _Folder(str(path))
    waiting = [(root, (), {}, "")]
    while waiting:
        folder, above, siblings, own_name = waiting.pop()
        try:
            above += (_identity(folder.path),)
            with os.scandir(folder.path) as entries:
                entries = sorted((entry for entry in entries if not files.is_junk(entry.name)),
                                 key=lambda entry: _nfc(entry.name))
        except OSError as error:
            raise BadInput(f"{folder.path} cannot be read: {error.strerror}") from error
        if siblings and files.written_by_the_lab(entry.name for entry in entries):
            siblings.pop(own_name, None)
            continue
        for entry in entries:
            if not _is_folder(entry):
                folder.add(entry.name, Path(entry.path))
            elif not entry.is_symlink() or _identity(entry.path) not in above:  # a link may lead back to a folder above it
                folder.folders[entry.name] = inner = _Folder(entry.path)
                waiting.append((inner, above, folder.folders, entry.name))
    return root


def _identity(path):
    return os.stat(path)[1:3]


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _tree_in_zip(path):
    archive = photo_files.Zip(path)
    root = _Folder(str(path))
    for name, info in sorted(archive.members().items(), key=lambda member: _nfc(member[0])):
        *above, last = [part for part in name.split("/") if part not in ("", ".")] or [""]
        if any(map(files.is_junk, [*above, last])):  # ".." too
            continue
        folder = root
        for part in [*above, last] if name.endswith("/") and last else above:
            folder = folder.folders.setdefault(part, _Folder(f"{folder.path}/{part}"))
        if not name.endswith("/"):
            folder.add(last, photo_files.ZipPhoto(archive, info))
    return root


def _nfc(name):
    return unicodedata.normalize("NFC", name)


def _part(name):
    """The part that a folder of this name holds, or None for any other folder."""
    return _PARTS.get(name.lower())


def _stepped(folder, part=None):
    """`folder`, or the one below it that is reached by stepping through folders that hold one folder and nothing else.

    part: the part that `folder` is in, if any.
    """
    while len(folder.folders) == 1 and not folder.photos:
        (name, inner), = folder.folders.items()
        if inner.photos or not inner.folders or _part(name) not in (None, part):
            break
        folder = inner
    return folder


def _divided(tree):
    """The parts with photos in `tree`, {part: list of _Folders}, and the _Folder of all beside them."""
    folder = _stepped(tree)
    parts = {}
    for name, inner in folder.folders.items():
        if _part(name) and inner.holds_photos():
            parts.setdefault(_part(name), []).append(inner)
    return parts, folder.without([name for name in folder.folders if _part(name)])


def _class_folders(tree, part, every):
    """The classes of one part of `tree`, {name: list of Paths or ZipPhotos}.

    every: whether a class folder without photos is refused.
    """
    parts, rest = _divided(tree)
    if part in parts:
        folder, *more = parts[part]
        if more:
            raise BadInput(f"{tree.path} has the {_DESCRIPTIONS[part]} twice, {folder.path} and {more[0].path}: move one away")
        if part == "train" and rest.holds_photos():
            beside = next(other.photos[0] for other in rest.below() if other.photos)
            files.notice(f"Photos beside {folder.path} are not used, such as {beside}.")
        folder = _stepped(folder, part)
    elif part == "train" and rest.holds_photos() or part == "test" and not parts:
        folder = _stepped(rest)
    else:
        inside = " and ".join(folders[0].path for folders in parts.values())
        raise BadInput(f"{tree.path} has no {_DESCRIPTIONS[part]}: it holds {inside or 'no parts such as train and val'}")
    return _classes(folder, every)


def _classes(folder, every):
    """The classes in `folder`, as above."""
    inner = {name: one for name, one in folder.folders.items() if not _part(name)}
    holding = {name: one for name, one in inner.items() if one.holds_photos()}
    if not holding:
        if folder.photos:
            raise BadInput(f"{folder.path} holds photos and no class folders: put the photos of each class into a folder of "
                           f"its own, or list them in {_CSV}")
        raise BadInput(f"{folder.path} holds no photos{_also(folder)}: name a folder with a folder of photos for each class")
    for one in holding.values():
        nested = next((other for other in one.below() if other is not one and other.photos), None)
        below = next((other for other in one.below() if any(_part(name) and part.holds_photos()
                                                            for name, part in other.folders.items())), None)
        if below:
            raise BadInput(f"{below.path} holds parts such as train and val, but parts must be above the classes: move them, "
                           f"or list the photos in {_CSV}")
        if not one.photos:
            seems = _seems_to_hold_classes(folder)
            if seems == folder.path:
                raise BadInput(f"{nested.path} holds photos, but {one.path} above it, which seems to be a class, holds none of "
                               f"its own: move them up, or list the photos in {_CSV}")
            unpack = "unpack the archive, and " if isinstance(nested.photos[0], photo_files.ZipPhoto) else ""
            raise BadInput(f"{folder.path}: the levels do not tell which folders are the classes, for photos are in "
                           f"{nested.path} but not in {one.path}: {unpack}name the folder that holds the class "
                           f"folders, which seems to be {seems}, or list the photos in {_CSV}")
    classes, distinct = {}, {}
    for name, one in inner.items():
        if one is not holding.get(name):
            if every:
                raise BadInput(f"class folder {one.path} holds no photos{_also(one)}: put photos of that class there, or move "
                               "the folder away")
            continue
        _check_name(name, one.path)
        other = distinct.setdefault(_nfc(name), one)
        if other is not one:
            raise BadInput(f"{other.path} and {one.path} have the same name in different forms of Unicode: move the photos "
                           "into one folder")
        classes[_nfc(name)] = [photo for part in one.below() for photo in part.photos]
    loose, used = len(folder.photos), sum(map(len, classes.values()))
    if loose >= used:
        raise BadInput(f"{folder.path} holds {loose:,} photos beside its class folders, which hold {used:,}: move each photo "
                       f"into the folder of its class, or list all in {_CSV}")
    if loose:
        files.notice(f"Left out, for they are in no class folder but directly in {folder.path}: {counted(loose, 'photo')}, "
                     f"such as {folder.photos[0].name}.")
    deeper = [part.path for one in holding.values() for part in one.below() if part is not one and part.photos]
    if deeper:
        files.notice(f"Photos in folders below class folders count as the class's: {counted(len(deeper), 'folder')}, such as "
                     f"{deeper[0]}.")
    others = sum((part.others for one in holding.values() for part in one.below()), collections.Counter())
    if others:
        files.notice(f"Left out in the class folders of {folder.path}, for they are no photos by their names: "
                     f"{counted(sum(others.values()), 'file')}, {_suffixes(others)}.")
    return classes


def _also(folder):
    """What `folder` and those below it hold that is no photo, in brackets, if anything."""
    others = sum((other.others for other in folder.below()), collections.Counter())
    return f" (but other files: {_suffixes(others)})" if others else ""


def _suffixes(others):
    """How many files there are of each suffix, as text."""
    named = [f"{count:,} {shorten(suffix) or 'without a suffix'}" for suffix, count in others.most_common(5)]
    return ", ".join(named) + (", ..." if len(others) > 5 else "")


def _seems_to_hold_classes(folder):
    """The path of the folder below `folder` that holds most folders of photos."""
    return max(folder.below(), key=lambda one: sum(bool(inner.photos) for inner in one.folders.values())).path


def _check_name(name, where):
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{where} has a class name that is not valid UTF-8: rename it") from error


# csv files


def _listed(path):
    """The classes in the csv file `path`, {label: list of Paths}."""
    path = files.check(path, "a list of photos")
    try:
        with files.reading(path) as file:
            text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not in UTF-8: save it as CSV UTF-8") from error
    labels = {}
    try:
        for line, name, label in _rows(text, path):
            photo = _place(path.parent, name)
            other = labels.setdefault(photo, label)
            if other != label:
                raise BadInput(f"{path}, line {line}: {shorten(name)} has two labels, {shorten(other)} and {shorten(label)}: "
                               "delete the wrong line")
    except csv.Error as error:
        raise BadInput(f"{path} is damaged, or no csv file: {error}") from error
    if not labels:
        raise BadInput(f"{path} lists no photos")
    classes = {}
    for photo, label in labels.items():
        classes.setdefault(label, []).append(photo)
    return classes


def _rows(text, path):
    """The line number, path and label of each photo in the csv file `path`, whose content is `text`."""
    first = (text.splitlines() or [""])[0].strip()
    for delimiter in ",;\t":
        header = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=delimiter), ())]
        if {"path", "label"} <= set(header):
            break
    else:
        raise BadInput(f"{path} does not begin with a line that names the columns path,label: add that line")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    next(rows)
    for row in rows:
        if not any(map(str.strip, row)):
            continue
        if len(row) != len(header):
            raise BadInput(f"{path}, line {rows.line_num}, has {len(row)} columns, but the first line has {len(header)}: put "
                           f"a name that contains {delimiter!r} between double quotes")
        name, label = (row[header.index(column)].strip() for column in ("path", "label"))
        if not name or not label:
            raise BadInput(f"{path}, line {rows.line_num}, has no {'label' if name else 'path'}: add it, or delete the line")
        yield rows.line_num, name, _nfc(label)


def _place(folder, name):
    """The Path of the photo `name` in a csv file in `folder`, whatever system wrote it."""
    place = os.path.join(folder, os.path.normpath(name))
    if not os.path.exists(place):
        for other in (name.replace("\\", "/"), _nfc(name), unicodedata.normalize("NFD", name)):
            if os.path.exists(found := os.path.join(folder, os.path.normpath(other))):
                return Path(found)
    return Path(place)
