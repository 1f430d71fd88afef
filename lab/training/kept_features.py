"""The fc7 of a data set, kept on disk: the second training on the same photos starts in seconds.

A cache folder holds two files for each data set and network:

    kept-fc7-0123456789abcdef.npy        fc7, float32 [N, 4096], of its full size from the start; np.load reads it
    kept-fc7-0123456789abcdef.digests    for each batch of 128 photos, in order, the digest of its fc7: 32 bytes, at first zeros

The name comes from all that fc7 depends on. A batch's digest is written after the batch, and when the files are opened
every batch is checked: one without the right digest, be it missing, torn, damaged or another network's, is computed.
So neither file needs to be whole, and no moment is a wrong one to be killed at.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lab import files
from lab.files import BadInput
from lab.network import weights
from lab.network.inference import BATCH

WIDTH = 4096  # numbers in a photo's fc7
FORMAT = 1  # of the two files: count it up when it changes
HEADER, DIGEST = 128, 32  # bytes


def fingerprint(fc7, weights_sha256):
    """What tells the network that computes the tensor `fc7` from all others, in 64 hexadecimal digits.

    It is the graph from the images to `fc7`, preprocessing included, whoever has built it, and the weights: the file's
    SHA-256, and the code that reads it.
    """
    operations = [fc7.op]
    for operation in operations:
        before = [tensor.op for tensor in operation.inputs] + operation.control_inputs
        operations += [new for new in dict.fromkeys(before) if new not in operations]
    graph = [operation.node_def.SerializeToString(deterministic=True).hex() for operation in operations]
    everything = [graph, weights_sha256, files.sha256(weights.__file__)]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()


def fc7(run_batch, features, folder, network, description="Photos through AlexNet"):
    """fc7 of all `features`, float32 [N, 4096]: a file in `folder`, memory-mapped read-only; what it lacks is computed.

    run_batch: the function that computes it, uint8 [128, 32, 32, 3] to float32 [128, 4096]. It gets photos 0 to 127, 128 to
        255 and so on, whatever is there already, and the last, if they are fewer, repeated: the last bits may depend on the
        batch, and code that is compiled for one size of it is not compiled for another.
    features: uint8 [N, 32, 32, 3], N > 0.
    folder: where to keep fc7; created when missing. Where it cannot be written, and for None, fc7 is an array in memory.
    network: the network's fingerprint (`fingerprint`).
    description: of the progress bar.

    Raises BadInput when `folder` is a file, and for an fc7 that is not finite.
    """
    answers = None
    if folder is not None:
        path = Path(folder) / f"kept-fc7-{(key := _key(features, network)).hex():.16}.npy"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _mention_old_files(path.parent)
            with _locked(path.with_suffix(".digests")) as digests, _open(path) as data:
                answers, lacking = _kept(run_batch, features, data, digests, key, description)
        except (FileExistsError, NotADirectoryError) as error:
            raise BadInput(f"{folder} is a file, or below one: name a folder to keep fc7 in") from error
        except OSError as error:
            _warn(path, error)
    if answers is None:
        answers, lacking = np.empty((len(features), WIDTH), np.float32), range(0, len(features), BATCH)
    for start, rows in _compute(run_batch, features, lacking, description):
        answers[start:start + BATCH] = rows
    return answers


def _mention_old_files(folder):
    """Say which files in `folder` an earlier version of the lab has kept and this one cannot use."""
    old = [path for path in sorted(folder.glob("fc7-*.npy")) if re.fullmatch(r"fc7-[0-9a-f]{16}\.npy", path.name)]
    if old:
        sizes = ", ".join(f"{path} ({path.stat().st_size / 1e6:.0f} MB)" for path in old)
        files.notice(f"Kept by an earlier version of the lab, which computed fc7 in another way, and no longer used: {sizes}. "
                     "They can be deleted, with the .digests files beside them.")


def _kept(run_batch, features, data, digests, key, description):
    """The file `data`'s fc7, made complete, and []; if it cannot be, an array, and where the batches start that it lacks."""
    computed = {}
    try:
        lacking = _check(features, data, digests, key)
        if lacking or os.pread(data.fileno(), HEADER, 0) != _header(features):
            _allocate(features, data, digests)
        for start, rows in _compute(run_batch, features, lacking, description):
            computed = {start: rows}
            _write(data, rows, _place(start))
            _write(digests, _digest(key, start, rows), DIGEST * (start // BATCH))
        return np.memmap(data, "<f4", "r", HEADER, (len(features), WIDTH)), []
    except OSError as error:
        _warn(data.name, error)
        answers = np.empty((len(features), WIDTH), np.float32)
        for start, rows in computed.items():
            answers[start:start + BATCH] = rows
        lacking = [start for start in range(0, len(features), BATCH)
                   if start not in computed and not _read(answers[start:start + BATCH], start, data, digests, key)]
        if error.errno in files.DISK_FULL:  # others need the room
            for file in (data, digests):
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
        return answers, lacking


def _compute(run_batch, features, starts, description):
    """Yield start and fc7, float32 [B, 4096], of the batches that start at `starts`, behind a progress bar in photos."""
    if not starts:
        return
    there = len(features) - sum(len(features[start:start + BATCH]) for start in starts)
    with tqdm(total=len(features), initial=there, desc=description, unit="image", disable=None, leave=False) as progress:
        for start in starts:
            batch = features[start:start + BATCH]
            full = np.resize(batch, (BATCH, *batch.shape[1:]))  # the last batch again and again, till it is one
            rows = np.ascontiguousarray(run_batch(full), "<f4").reshape(BATCH, WIDTH)[:len(batch)]
            if not np.isfinite(rows).all():
                raise BadInput("fc7 is not finite: the weights hold NaN or infinite numbers, or are far too large; use others")
            yield start, rows
            progress.update(len(batch))


def _check(features, data, digests, key):
    """Where the batches start that are to be computed, all but those with the right digest; tells the user of them."""
    def is_right(start):
        return _read(np.empty((len(features[start:start + BATCH]), WIDTH), "<f4"), start, data, digests, key)

    starts = range(0, len(features), BATCH)
    with ThreadPoolExecutor() as threads:  # reading and hashing let each other run
        right = list(tqdm(threads.map(is_right, starts), "Checking fc7", len(starts), unit="batch", disable=None, leave=False))
    lacking = [start for start, ok in zip(starts, right) if not ok]
    damaged = [start for start in lacking if any(os.pread(digests.fileno(), DIGEST, DIGEST * (start // BATCH)))]
    if damaged:
        files.notice(f"{data.name} was damaged: {len(damaged)} of {len(starts)} batches are computed again.")
    elif lacking and os.fstat(data.fileno()).st_size:
        files.notice(f"{data.name} goes on: {sum(right)} of {len(starts)} batches are there.")
    return lacking


def _read(rows, start, data, digests, key):
    """Fill the array `rows` with the batch that starts at `start`: False if it does not match its digest."""
    try:
        size = os.preadv(data.fileno(), [rows], _place(start))
        digest = os.pread(digests.fileno(), DIGEST, DIGEST * (start // BATCH))
    except OSError:  # a bad sector, for one
        return False
    return size == rows.nbytes and digest == _digest(key, start, rows)


def _write(file, content, place):
    if os.pwrite(file.fileno(), content, place) != memoryview(content).nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the reason for which Linux writes only a part


def _place(start):
    return HEADER + 4 * WIDTH * start


def _header(features):
    """A .npy file's first 128 bytes, version 1.0, for float32 [N, 4096] (the format: numpy.lib.format)."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(features)}, {WIDTH}), }}"
    return b"\x93NUMPY\1\0" + (HEADER - 10).to_bytes(2, "little") + text.ljust(HEADER - 11).encode() + b"\n"


def _allocate(features, data, digests):
    """Take all the room on the disk at once, which leaves what is there as it is, and write the header."""
    if not (data.writable() and digests.writable()):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    os.posix_fallocate(data.fileno(), 0, _place(len(features)))
    os.posix_fallocate(digests.fileno(), 0, DIGEST * -(-len(features) // BATCH))
    _write(data, _header(features), 0)


def _locked(path):
    """The file `path`, open and locked: other processes wait here until it is closed or this process has ended."""
    while True:
        file = _open(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            files.notice(f"Another process is at work on {path.with_suffix('.npy')}: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:  # else whoever had the lock has deleted the file
            return file
        file.close()


def _open(path):
    """The file `path`, created when missing, open for reading and writing, or only for reading where no more is allowed."""
    try:
        return open(path, "r+b", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666))
    except OSError:
        with contextlib.suppress(OSError):
            return open(path, "rb", buffering=0)
        raise


def _warn(path, error):
    files.notice(f"{path} cannot be written ({files.reason(error)}): fc7 stays in memory and is lost at the end.")


def _digest(key, start, rows):
    """BLAKE2b of a batch in its place, 32 bytes: of Python's cryptographic digests that are unbroken the fastest.

    A core of the lab's takes 1.5 to 2 seconds for GTSRB's 642 MB of fc7, SHA-256 twice that.
    """
    digest = hashlib.blake2b(start.to_bytes(8, "little"), key=key, digest_size=DIGEST)
    digest.update(rows)
    return digest.digest()


def _key(features, network):
    """SHA-256, 32 bytes, of all that fc7 depends on."""
    photos = hashlib.sha256()
    for start in range(0, len(features), BATCH):
        photos.update(np.ascontiguousarray(features[start:start + BATCH]))
    everything = [FORMAT, network, photos.hexdigest(), features.shape, BATCH]
    return hashlib.sha256(json.dumps(everything).encode()).digest()
