"""Batches of photos on their way to a worker: pixels, names of files that the worker can read, or what is in the files.

What travels in one message is at most PIECE bytes: more goes in pieces, which are messages of their own.
"""

import hashlib
import os
import pickle
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from lab import files
from lab.data import photo_files, photos
from lab.files import BadInput, DiskError

PIECE = 4_000_000  # bytes
MANIFEST = "manifest.jsonl"  # in a folder of shards


class NotHere(Exception):
    """A file that this machine does not have, or that is another one than on the client."""


class Pixels(NamedTuple):
    """Photos whose pixels travel. shape: of the uint8 array."""

    shape: tuple


class Files(NamedTuple):
    """Photos in files.

    names: list of N str, relative to `folder`. read: the name of a function in lab.data.photos that reads one. checks: what
    each file must be, list of N: its SHA-256 (bytes), or its size and time of modification (a tuple). all_needed: whether one
    that cannot be used is an error. lengths: list of N ints, the bytes of each file, which travel then; None if the worker is
    to read the files. unusable: the BadInput of each photo that the client cannot read, by its position, a dict.
    """

    folder: str
    names: list
    read: str
    checks: list
    all_needed: bool
    lengths: list | None = None
    unusable: dict = {}  # never changed


class File(NamedTuple):
    """Where a worker writes a shard, and what (shards.py).

    path: str. digest: the SHA-256 of the file if it is to be there already, or None. manifest: the first line of the manifest
    beside it, bytes, by which the worker recognises the folder. dtype: of an array. class_names, top, threshold: of answers, as
    in inference.best; class_names is None for an array.
    """

    path: str
    digest: str | None
    manifest: bytes
    dtype: str = None
    class_names: list = None
    top: int = None
    threshold: float = None


class Shard(NamedTuple):
    """Photos whose outputs a worker writes to one file. batches: a list of what `to_send` takes."""

    batches: list
    file: File


def to_send(batch, with_content):
    """What travels of `batch`: Pixels or Files, and a list of pieces, bytes.

    batch: an array, uint8 [N, size, size, 3]; PhotoFiles; or Files without lengths. with_content: whether the bytes of photos
    in files travel. Raises BadInput and DiskError as PhotoFiles does, for a file that is gone or has changed.
    """
    if isinstance(batch, np.ndarray):
        return Pixels(batch.shape), _pieces(np.ascontiguousarray(batch).tobytes())
    if isinstance(batch, photo_files.PhotoFiles):
        form = Files(os.getcwd(), [str(path) for path in batch.paths], batch.reader.__name__, batch.digests, True)
        if not (with_content or any(isinstance(path, photo_files.ZipPhoto) for path in batch.paths)):
            return form, []
        contents = [batch.content(row) for row in range(len(batch))]
    elif with_content:
        unusable, contents = dict(batch.unusable), []
        for position, name in enumerate(batch.names):
            try:
                contents.append(b"" if position in unusable else photo_files.bytes_of(name))
            except DiskError:
                raise
            except BadInput as error:
                unusable[position] = error
                contents.append(b"")
        form = batch._replace(unusable=unusable)
    else:
        return batch, []
    return form._replace(lengths=[len(content) for content in contents]), _pieces(b"".join(contents))


def in_files(paths, read_one):
    """The photos `paths` (list of str or Path), to be read by `read_one`, a function of lab.data.photos: Files."""
    checks, unusable = [_stat(path) for path in paths], {}
    for position, path in enumerate(paths):
        if checks[position] is None:
            try:
                photo_files.bytes_of(path)
            except BadInput as error:  # which says why
                unusable[position] = error
    return Files(os.getcwd(), [str(path) for path in paths], read_one.__name__, checks, False, unusable=unusable)


def read(batch, pieces, threads, guarded=False):
    """The photos of `batch` that can be used: uint8 [N, side, side, 3], or None if there are none.

    batch: Pixels or Files, and pieces, as from `to_send`. threads: int, how many read photos. guarded: whether to read each
    photo in a process of its own first, as after a batch that has taken its worker down: a photo that does so is refused.

    Returns their positions in the batch too, a list of N ints, and the BadInput of the others by their positions, a dict.
    Raises NotHere for a file that is not here, or is another one; BadInput, if all are needed, for one that cannot be used.
    """
    if isinstance(batch, Pixels):
        return np.frombuffer(b"".join(pieces), np.uint8).reshape(batch.shape), list(range(batch.shape[0])), {}
    if batch.lengths is None:
        contents = [b"" if position in batch.unusable else _checked(os.path.join(batch.folder, name), check)
                    for position, (name, check) in enumerate(zip(batch.names, batch.checks))]
    else:
        joined, ends = b"".join(pieces), np.cumsum(batch.lengths)
        contents = [joined[end - length:end] for end, length in zip(ends, batch.lengths)]
    refused = batch.unusable | (_killers(batch, contents) if guarded else {})
    read_one = getattr(photos, batch.read)

    def attempt(position):
        if position in refused:
            return refused[position]
        try:
            return read_one(batch.names[position], contents[position])
        except BadInput as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(attempt, range(len(contents))))
    refused = {position: photo for position, photo in enumerate(found) if isinstance(photo, BadInput)}
    if refused and batch.all_needed:
        raise refused[min(refused)]
    positions = [position for position in range(len(found)) if position not in refused]
    return np.stack([found[position] for position in positions]) if positions else None, positions, refused


def _pieces(content):
    return [content[start:start + PIECE] for start in range(0, len(content), PIECE)]


def _stat(name):
    """The size and the time of modification of the file `name`; None if it is no file, or an empty one."""
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) and status.st_size else None


def _checked(name, check):
    """The bytes of the file `name` if it is what `check` says, as in Files. Raises NotHere if it is not."""
    try:
        if isinstance(check, bytes):
            content = photo_files.bytes_of(name)
            if hashlib.sha256(content).digest() == check:
                return content
        elif check is not None and _stat(name) == tuple(check):
            return photo_files.bytes_of(name)
    except BadInput:  # a DiskError too: the client may be able to read it
        pass
    raise NotHere(name)


# Reads photos one after another, and says at first and after each that it is alive.
_READER = """
import pickle, sys
from lab.data import photos
print(".", end="", flush=True)
for name, content in pickle.load(sys.stdin.buffer):
    try:
        getattr(photos, sys.argv[1])(name, content)
    except ValueError:
        pass
    print(".", end="", flush=True)
"""


def _killers(batch, contents):
    """The photos that kill the process that reads them: the BadInput of each, by its position in the batch (Files)."""
    killers, start = {}, 0
    while start < len(contents):
        left = pickle.dumps(list(zip(batch.names, contents))[start:])
        reader = subprocess.run([sys.executable, "-c", _READER, batch.read], input=left, capture_output=True, cwd=files.HERE)
        if not reader.stdout:  # no photo's fault
            said = reader.stderr.decode(errors="replace").strip()
            raise OSError(f"no process that reads photos can be started: {said[-200:]}")
        start += len(reader.stdout) - 1
        if start < len(contents):
            killers[start] = BadInput(f"{batch.names[start]} kills the process that reads it: leave it out, or save it again")
            start += 1
    return killers
