"""Checks files before they are read, writes them atomically, and reports what is wrong with them."""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import sys
import time
import unicodedata
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]  # the repository root, with the scripts and the files that come with the lab
PLACES = Path(), HERE  # where the user may put weights and photos
DISK_FULL = errno.ENOSPC, errno.EDQUOT

# Beside names that begin with a dot: of macOS, Windows, the network drives of Synology and QNAP, Linux and Python
_JUNK = {"__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir",
         "@recycle", "#recycle", "lost+found", "__pycache__"}

# In a model folder, in one of kept features, and in an export
_WRITTEN = re.compile(r"model\.json|training\.lock|saved_model\.pb|(kept-\w+|photos)-[0-9a-f]{16}\.np[yz]")

_PAUSES = 0.1, 0.4, 1.5  # seconds before reading is tried again after an error of the disk
# What reading fails with because of the file's name, its permissions or, for the last two, nonsense in it that was taken for a
# position. Any other error (EIO, ENOTCONN, ESTALE, ETIMEDOUT ...) is the disk's or the network drive's.
_FAULTS_OF_THE_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM,
                       errno.EINVAL, errno.EOVERFLOW)


class BadInput(ValueError):
    """A file or an argument that cannot be used. The message is one sentence: which one, what is wrong, what to do."""


class DiskError(BadInput):
    """A file that the disk or the network drive does not deliver. There may be nothing wrong with it: never skip it."""


def notice(text):
    """Print `text`, which is not a result, as one line on stderr."""
    tqdm = sys.modules.get("tqdm")  # if there may be a progress bar, which its `write` keeps below the text
    try:
        (tqdm.tqdm.write if tqdm else print)(text.replace("\n", "\\n"), file=sys.stderr)  # which is always line-buffered
    except OSError:  # stderr is closed or full
        pass


def shorten(value):
    """`value` as text of at most 80 characters, short enough for a message even if a damaged file supplies it."""
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def printable(text):
    """`text`, a name that may contain any characters, as one line: a newline becomes \\n, a terminal's escape \\x1b.

    Spaces of any width stay, and the joiners that Persian, Indian scripts and emoji need.
    """
    return "".join(c if c.isprintable() or c in "\u200c\u200d" or unicodedata.category(c) == "Zs" else ascii(c)[1:-1]
                   for c in str(text))


def reason(error):
    """Why a file could not be written, in a few words for a message. `error` is an OSError or a tf.errors.OpError."""
    full = getattr(error, "errno", None) in DISK_FULL or type(error).__name__ == "ResourceExhaustedError"
    return "the disk is full" if full else getattr(error, "strerror", None) or type(error).__name__


def find(names):
    """The Path of the first of `names` (str) in the working directory, else in the repository root; None if there is none."""
    for folder in PLACES:
        for name in names:
            if (folder / name).exists():
                return folder / name
    return None


def check(path, purpose):
    """Return `path` as a Path, after checking that it is a readable, non-empty file.

    path: str, pathlib.Path, or zipfile.Path for a file in an archive.
    purpose: str, what the file should hold, for the error message.

    Raises BadInput for a missing file, a folder, a device, an empty file, or one that cannot be read.
    """
    path = Path(path) if isinstance(path, (str, os.PathLike)) else path

    def look():
        if isinstance(path, Path):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
                path.stat()  # raises the errors of a network drive, which Python 3.13's is_dir takes for a missing file
        if path.is_dir():
            raise BadInput(f"{path} is a folder, but {purpose} must be one file")
        if not path.is_file():
            state = "is not a regular file" if path.exists() else "does not exist"
            raise BadInput(f"{path} {state}: check the name, or put {purpose} there")
        with path.open("rb") as file:
            if not file.read(1):
                raise BadInput(f"{path} is empty: get the file again")

    try:
        _persistently(look, path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    return path


def reading(path):
    """Open `path` (str, Path, or zipfile.Path) to read bytes, from the start or anywhere.

    After an error of the disk or of a network drive, what failed is tried again for two seconds; then DiskError is raised, a
    BadInput and not an OSError, so that no reader takes the error for a damaged file.
    """
    if isinstance(path, (str, os.PathLike)):
        return io.BufferedReader(_persistently(lambda: _Persistent(path), path))
    return path.open("rb")


class _Persistent(io.FileIO):
    def readinto(self, buffer):
        return _persistently(lambda: super(_Persistent, self).readinto(buffer), self.name)

    read, readall = io.RawIOBase.read, io.RawIOBase.readall  # these call readinto, and FileIO's own do not


def _persistently(call, path):
    """Return `call()`, which reads the file `path`; after an error of the disk try again, and at last raise DiskError."""
    for pause in (*_PAUSES, None):
        try:
            return call()
        except OSError as error:
            if error.errno is None or error.errno in _FAULTS_OF_THE_FILE:
                raise
            if pause is None:
                raise DiskError(f"{path} cannot be read: {error.strerror} (an error of the disk or the network drive, not of "
                                "the file): run this again once that works") from error
        time.sleep(pause)


def counted(count, what):
    """`count` (int) of `what` (str, in the singular): "1 photo", "2,000 photos"."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def written_by_the_lab(names):
    """Whether a folder that holds `names` (of files) is a model folder, one of kept features, or an export."""
    return any(_WRITTEN.fullmatch(name) for name in names)


def is_junk(name):
    """Whether an archiver, a file manager or the system has added the file or folder `name`, and not the user."""
    return name.startswith(".") or name.lower() in _JUNK


def check_absent(path):
    """Raise BadInput if `path` exists, so that writing there overwrites nothing."""
    if os.path.lexists(path):
        raise BadInput(f"{path} already exists: choose another name, or move it away")


def sha256(path):
    """The SHA-256 of the file `path`, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with reading(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_name(path):
    """Raise BadInput if TensorFlow could not save files in a folder named `path`, or could not find them there."""
    special = "*?[" if os.sep == "\\" else "*?[\\"  # Windows' names have backslashes between folders
    if set(str(path)) & set(special):
        raise BadInput(f"{path}: TensorFlow reads {' '.join(special)} in a name as a pattern; name another folder")
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} cannot be written to: its name is not valid UTF-8; name another folder") from error


def make_folder(path):
    """Create the folder `path` if it is missing, check that TensorFlow can save files in it, and return it as a Path.

    Raises BadInput if it cannot, so that a script fails before its work rather than after it.
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
    """Write `value` to `path` as JSON, atomically: a reader sees either the old file or the complete new one."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")


@contextlib.contextmanager
def replacing(path):
    """Write a file atomically: a context manager that yields a binary file and moves it to `path` at the end.

    After an exception `path` is unchanged. Raises BadInput if the file cannot be written.
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


def check_growing(path):
    """Raise BadInput if `growing` could not write the file `path`."""
    if os.path.lexists(path) and not os.path.isfile(path):
        raise BadInput(f"{path} exists and is not a file: choose another name")
    unfinished = _unfinished(path)
    if os.path.lexists(unfinished):
        raise BadInput(f"{unfinished} exists, which another run is writing, or has left: choose another name, or move it away")
    with _telling(path):
        unfinished.open("xb").close()
        unfinished.unlink()


@contextlib.contextmanager
def growing(path):
    """Write a file part by part: a context manager that yields a function, which appends the bytes that it is given.

    They go to the file `path`.unfinished, which must not exist, and which is moved to `path` at the end. After an exception it
    is kept, with whole parts only, unless there are none. Raises BadInput if the file cannot be written.
    """
    unfinished, whole = _unfinished(path), 0

    def append(part):
        nonlocal whole
        left = memoryview(part)
        with _telling(path):
            while left:
                left = left[file.write(left):]
        whole += len(part)

    with _telling(path):
        file = unfinished.open("xb", buffering=0)
    try:
        with file:
            try:
                yield append
            except BaseException:
                file.truncate(whole)  # an interrupt or a full disk may have cut a part short
                raise
            with _telling(path):
                os.fsync(file.fileno())
        with _telling(path):
            unfinished.replace(path)
    except BaseException:
        if not whole:
            unfinished.unlink(missing_ok=True)
        raise


def _unfinished(path):
    return Path(f"{path}.unfinished")


@contextlib.contextmanager
def _telling(path):
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {reason(error)}") from error
