"""The names of classes: GTSRB's, or those in a file of the user's."""

import csv
import io
import re
import unicodedata

from lab import files
from lab.files import BadInput, shorten

CLASSES = 43  # of GTSRB
GTSRB = "gtsrb"  # as a source of names

_MOST_BYTES = 10_000_000  # of a file of names: 30,000 long ones take a tenth of it


def sign_names():
    """The names of GTSRB's 43 classes, in order, from signnames.csv: a list of str."""
    return read_names(files.HERE / "signnames.csv")


def default_names(count):
    """The names of `count` classes that nobody has named: "class 0", "class 1" and so on."""
    return [f"class {label}" for label in range(count)]


def read_names(source):
    """The names of classes, in the order of their labels, that `source` holds: a list of str.

    source: "gtsrb", for GTSRB's own; or a file (str or Path), in UTF-8: a csv file with the columns ClassId and SignName, in
        any order of rows, delimited by commas or semicolons; or a name a line, the first for class 0. A line that is in
        double quotes as a whole is read without them, as in a csv file. Spaces around a name are left out.

    Raises BadInput for a file that is neither, and for a name that is empty, given twice, or longer than 200 characters or
    that has control characters in it, and if the ClassIds are not 0, 1, 2 and so on, each once.
    """
    if source == GTSRB:
        return sign_names()
    path = files.check(source, "the names of the classes")
    with files.reading(path) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise BadInput(f"{path} is too large for a file of names, more than {_MOST_BYTES // 1_000_000} MB: check the name")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text in UTF-8: save the names in that encoding") from error
    header = text.partition("\n")[0]
    delimiter = ";" if ";" in header else ","
    columns = [column.strip().strip('"').lower() for column in header.split(delimiter)]
    names = _rows(text, delimiter, columns, path) if "classid" in columns else _lines(text, path)
    _check(names, path)
    return names


def _rows(text, delimiter, columns, path):
    """The names in a csv file that has the `columns`, sorted by ClassId."""
    if "signname" not in columns:
        raise BadInput(f"{path} has a column ClassId but none SignName: name its columns ClassId and SignName")
    at, name_at = columns.index("classid"), columns.index("signname")
    names = {}
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        next(reader)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            number = row[at].strip() if at < len(row) else ""
            if not re.fullmatch("[0-9]{1,6}", number):
                raise BadInput(f"{path}: line {reader.line_num} has the ClassId {shorten(repr(number))}, but ClassIds are "
                               "whole numbers from 0 on")
            if int(number) in names:
                raise BadInput(f"{path} has the ClassId {int(number)} twice: give each class one line")
            names[int(number)] = row[name_at].strip() if name_at < len(row) else ""
    except csv.Error as error:
        raise BadInput(f"{path} is not a csv file ({error}): write one line ClassId,SignName for each class") from error
    missing = next((label for label in range(len(names)) if label not in names), None)
    if missing is not None:
        raise BadInput(f"{path} has the ClassId {max(names)} but not {missing}: ClassIds are 0, 1, 2 and so on, without gaps")
    return [names[label] for label in range(len(names))]


def _lines(text, path):
    """The names in a file of a name a line."""
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if len(lines) > 1 and all(re.match(r"[0-9]+\s*[,;\t]", line) for line in lines):
        raise BadInput(f"{path} has a number before each name: begin it with the line ClassId,SignName, or leave them out")
    return [line[1:-1].replace('""', '"').strip() if re.fullmatch('"([^"]|"")*"', line) else line for line in lines]


def _check(names, path):
    first = {}
    for label, name in enumerate(names):
        if not name:
            raise BadInput(f"{path} has no name for class {label}: name every class, without empty lines between them")
        if len(name) > 200 or any(unicodedata.category(character) == "Cc" for character in name):
            raise BadInput(f"{path}: the name of class {label}, {shorten(repr(name))}, is longer than 200 characters or has "
                           "control characters in it: it is not a file of names, or is damaged")
        if name in first:
            raise BadInput(f"{path} calls both class {first[name]} and class {label} {shorten(name)}: give each its own name")
        first[name] = label
    if not names:
        raise BadInput(f"{path} holds no names: write a name a line")


def names_of_numbers(class_names, names=None, training=None):
    """`class_names`, or better names of classes that are numbers, in any spelling such as 00014.

    class_names: list of str. If they are the numbers 0 to 42, in order, they are GTSRB's classes.
    names: a source of names, as `read_names` takes it, or None.
    training: the names of the training photos' classes, for photos to validate or test with, which may have fewer classes and
        be called by either name; None for training photos.

    Raises BadInput if training photos have names already or numbers that `names` has no names for, and for a number twice.
    """
    numbers = [int(name) if re.fullmatch("[0-9]{1,6}", name) else None for name in class_names]
    if names is None and (training == sign_names() or training is None and numbers == list(range(CLASSES))):
        names = GTSRB
    if names is None:
        return class_names
    known = read_names(names)
    renamed = [name if number is None or number >= len(known) else known[number] for name, number in zip(class_names, numbers)]
    if training is None and None in numbers:
        raise BadInput("--names gives names to classes that are numbers, but here they have names, such as "
                       f"{shorten(class_names[numbers.index(None)])}: leave --names out")
    if training is None and max(numbers) >= len(known):
        raise BadInput(f"{names} has {len(known)} names, for the classes 0 to {len(known) - 1}, but there is a class "
                       f"{max(numbers)}")
    if len(set(renamed)) < len(renamed):
        raise BadInput(f"two of the classes {shorten(', '.join(class_names))} are the same one: rename one")
    return renamed
