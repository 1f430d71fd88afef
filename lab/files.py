"""The user's files: checked before they are read, whole when they are written, and what to say of them."""

import contextlib
import errno
import hashlib
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]  # the top level, with the pages and the files that the lab ships
DISK_FULL = errno.ENOSPC, errno.EDQUOT


class BadInput(ValueError):
    """A file or an argument that cannot be used. The message is one sentence: which it is, what is wrong, what to do."""


def notice(text):
    """Tell the user something that is no result: a line on stderr."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # nobody listens
        pass


def shorten(value):
    """`value` as text for a sentence, which stays a sentence whatever a file holds."""
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def reason(error):
    """Why a file could not be written, as words for a sentence: from an OSError, or a tf.errors.OpError."""
    full = getattr(error, "errno", None) in DISK_FULL or type(error).__name__ == "ResourceExhaustedError"
    return "the disk is full" if full else getattr(error, "strerror", None) or type(error).__name__


def find(names):
    """The first of `names` (str) in the working directory, else beside the code, as a Path; None where there is none."""
    for folder in (Path(), HERE):
        for name in names:
            if (folder / name).exists():
                return folder / name
    return None


def check(path, purpose):
    """`path` as a Path if a file that holds something is there. `purpose` (str) says what it should be, for the error.

    path: str, pathlib.Path, or zipfile.Path for a file in an archive.

    Raises BadInput for a missing file, a folder, a device, an empty file, or one that may not be read.
    """
    path = Path(path) if isinstance(path, (str, os.PathLike)) else path
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a folder: {purpose} is one file")
        if not path.is_file():
            state = "is not a regular file" if path.exists() else "does not exist"
            raise BadInput(f"{path} {state}: name a file that holds {purpose}")
        with path.open("rb") as file:
            if not file.read(1):
                raise BadInput(f"{path} is empty: get {purpose} again")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    return path


def check_absent(path):
    """Raise BadInput if anything is at `path`, so that what is written there replaces nothing."""
    if os.path.lexists(path):
        raise BadInput(f"{path} is there already: name a new one, or move that one away")


def sha256(path):
    """The SHA-256 of the file `path`, in 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_name(path):
    """Raise BadInput for the name of a folder in which TensorFlow could not save, or not find, a file."""
    if set(str(path)) & set("*?[\\"):
        raise BadInput(f"{path}: TensorFlow takes *, ?, [ and \\ in a name for a pattern; name another folder")
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} cannot be written to: its name is no text; name another folder") from error


def make_folder(path):
    """`path` as a Path to a folder in which TensorFlow can save and find a file; the folder is created when missing.

    Raises BadInput when it cannot be, so that a script finds out before its work and not after it.
    """
    path = Path(path)
    check_name(path)
    probe = path / f"write-test-{os.getpid()}"
    try:
        if path.exists() and not path.is_dir():
            raise BadInput(f"{path} is a file: name a folder")
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"{path} cannot be written to: {error.strerror}; name another folder") from error
    return path


def write_json(path, value):
    """Write `value` to `path` as JSON, atomically: a reader finds the old file or the whole new one."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")


@contextlib.contextmanager
def replacing(path):
    """A binary file to write in a `with` block, after which it is at `path`, whole; after an error nothing has changed.

    Raises BadInput when it cannot be written.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        try:
            with unfinished.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {reason(error)}") from error
