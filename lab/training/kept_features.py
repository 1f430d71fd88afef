"""Keeps the fc7 of photos on disk, so the next training on the same photos starts in seconds.

The folder holds two files for each set of photos and network:

    kept-fc7-0123456789abcdef.npy        fc7, float32 [N, 4096], at full size from the start; np.load reads it
    kept-fc7-0123456789abcdef.digests    a 32-byte digest of fc7 for each batch of 128 photos, in order; zeros at first

The name is a digest of everything that fc7 depends on. A batch's digest is written after the batch, and every batch is
checked when the files are opened: one whose digest does not match, because it is missing, half-written, damaged or another
network's, is computed again. So either file may be incomplete, and the process may be killed at any moment.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lab import files, locks
from lab.files import BadInput
from lab.network.inference import BATCH
from lab.progress import progress

WIDTH = 4096  # numbers in a photo's fc7
FORMAT = 1  # of the two files: increment it when it changes
HEADER, DIGEST = 128, 32  # bytes


def fingerprint(fc7, alexnet_weights):
    """A fingerprint of what computes the tensor `fc7`, bit for bit: 64 hexadecimal digits.

    It covers the graph from the images to `fc7`, preprocessing included, `alexnet_weights`, the fingerprint in their
    weights.identity, NumPy, which multiplies the factors of the built-in weights, and TensorFlow and the processor
    (devices.kind). It does not depend on the text of any source file.
    """
    from lab.network import devices  # not above: only this function needs TensorFlow

    operations = [fc7.op]
    for operation in operations:
        before = [tensor.op for tensor in operation.inputs] + operation.control_inputs
        operations += [new for new in dict.fromkeys(before) if new not in operations]
    graph = [operation.node_def.SerializeToString(deterministic=True).hex() for operation in operations]
    everything = [graph, alexnet_weights, np.__version__, devices.kind()]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()


def fc7(run_batch, features, folder, network, description="Photos through AlexNet"):
    """fc7 of all `features`, float32 [N, 4096]: memory-mapped read-only from a file in `folder`, which is completed first.

    run_batch: a function that computes fc7, uint8 [128, 32, 32, 3] to float32 [128, 4096]. The batches are always photos 0 to
        127, 128 to 255 and so on, because the last bits of fc7 may depend on the batch. A shorter last batch is filled up
        with repeated photos, so that code compiled for one batch size is not compiled again.
    features: uint8 [N, 32, 32, 3], N > 0.
    folder: where to keep fc7; created when missing. If it is None or cannot be written, fc7 is an array in memory.
    network: the network's fingerprint, from `fingerprint`.
    description: the progress bar's label.

    Raises BadInput if `folder` or a parent of it is a file, and if fc7 contains NaN or infinite values.
    """
    answers = None
    if folder is not None:
        path = Path(folder) / f"kept-fc7-{(key := _key(features, network)).hex():.16}.npy"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _mention_old_files(path.parent)
            with _locked(path):
                answers, missing = _complete(run_batch, features, path, key, description)
        except (FileExistsError, NotADirectoryError) as error:
            raise BadInput(f"{folder} is a file, or below a file: choose another folder with --cache") from error
        except OSError as error:
            _warn(path, error)
    if answers is None:
        answers, missing = np.empty((len(features), WIDTH), np.float32), range(0, len(features), BATCH)
    for start, rows in _compute(run_batch, features, missing, description):
        answers[start:start + BATCH] = rows
    return answers


def _mention_old_files(folder):
    """Print a notice of the files in `folder` that hold fc7 of other photos, of another network or of an earlier version."""
    old = [path for path in sorted(folder.glob("*fc7-*.npy")) if re.fullmatch(r"(kept-)?fc7-[0-9a-f]{16}\.npy", path.name)]
    if old:
        sizes = ", ".join(f"{path} ({path.stat().st_size / 1e6:.0f} MB)" for path in old)
        files.notice(f"Also kept in {folder}, for other photos, another network or an earlier version of the lab: {sizes}. "
                     "Delete what you do not need, with the .digests file beside it.")


def _complete(run_batch, features, path, key, description):
    """Complete the fc7 in the file `path` and return it, memory-mapped, and [].

    If that fails, return an array instead, and the starts of the batches that are still missing from it.
    """
    computed = {}
    try:
        with _open(path) as data, _open(path.with_suffix(".digests")) as digests:
            missing = _check(features, path, key)
            if missing or _read_at(path, 0, HEADER) != _header(features):
                _allocate(features, data, digests)
            for start, rows in _compute(run_batch, features, missing, description):
                computed = {start: rows}
                _write(data, rows, _offset(start))
                _write(digests, _digest(key, start, rows), DIGEST * (start // BATCH))
        return np.memmap(path, "<f4", "r", HEADER, (len(features), WIDTH)), []
    except OSError as error:
        _warn(path, error)
        answers = np.empty((len(features), WIDTH), np.float32)
        for start, rows in computed.items():
            answers[start:start + BATCH] = rows
        missing = [start for start in range(0, len(features), BATCH)
                   if start not in computed and not _read(answers[start:start + BATCH], start, path, key)]
        if error.errno in files.DISK_FULL:  # make room for others
            for file in (path, path.with_suffix(".digests")):
                with contextlib.suppress(OSError):
                    file.unlink()
        return answers, missing


def _compute(run_batch, features, starts, description):
    """Yield the start and fc7, float32 [B, 4096], of the batches at `starts`, with a progress bar that counts photos."""
    if not starts:
        return
    done = len(features) - sum(len(features[start:start + BATCH]) for start in starts)
    with progress(None, description, len(features), initial=done) as shown:
        for start in starts:
            batch = features[start:start + BATCH]
            full = np.resize(batch, (BATCH, *batch.shape[1:]))  # repeats the photos of a shorter last batch
            rows = np.ascontiguousarray(run_batch(full), "<f4").reshape(BATCH, WIDTH)[:len(batch)]
            if not np.isfinite(rows).all():
                raise BadInput("fc7 contains NaN or infinite values: the weights are far too large or not AlexNet's; choose "
                               "others with --weights")
            yield start, rows
            shown.update(len(batch))


def _check(features, path, key):
    """The starts of the batches whose digest does not match, which are to be computed. Prints a notice of them."""
    def is_right(start):
        return _read(np.empty((len(features[start:start + BATCH]), WIDTH), "<f4"), start, path, key)

    starts = range(0, len(features), BATCH)
    with ThreadPoolExecutor() as threads:  # reading and hashing release the GIL
        right = list(progress(threads.map(is_right, starts), "Checking fc7", len(starts), "batch"))
    missing = [start for start, ok in zip(starts, right) if not ok]
    digests = _read_at(path.with_suffix(".digests"), 0, DIGEST * len(starts))
    damaged = [start for start in missing if any(digests[DIGEST * (start // BATCH):][:DIGEST])]
    if damaged:
        files.notice(f"{path} is damaged: computing {len(damaged)} of {len(starts)} batches again.")
    elif missing and path.stat().st_size:
        files.notice(f"{path} is incomplete: {sum(right)} of {len(starts)} batches are done, computing the rest.")
    return missing


def _read(rows, start, path, key):
    """Read the batch that starts at `start` into the array `rows`, and return whether it matches its digest."""
    try:
        content = _read_at(path, _offset(start), rows.nbytes)
        digest = _read_at(path.with_suffix(".digests"), DIGEST * (start // BATCH), DIGEST)
    except OSError:  # such as a bad sector
        return False
    if len(content) != rows.nbytes:
        return False
    rows[...] = np.frombuffer(content, "<f4").reshape(rows.shape)
    return digest == _digest(key, start, rows)


def _read_at(path, offset, size):
    with open(path, "rb") as file:  # each thread its own: a shared one has one position
        file.seek(offset)
        return file.read(size)


def _write(file, content, offset):
    os.lseek(file.fileno(), offset, os.SEEK_SET)
    if os.write(file.fileno(), content) != memoryview(content).nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # Linux writes only a part when the disk is full


def _offset(start):
    return HEADER + 4 * WIDTH * start


def _header(features):
    """The 128-byte header, version 1.0, of a .npy file of float32 [N, 4096] (format: numpy.lib.format)."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(features)}, {WIDTH}), }}"
    return b"\x93NUMPY\1\0" + (HEADER - 10).to_bytes(2, "little") + text.ljust(HEADER - 11).encode() + b"\n"


def _allocate(features, data, digests):
    """Allocate both files at full size, which keeps their contents, and write the header."""
    if not (data.writable() and digests.writable()):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    for file, size in ((data, _offset(len(features))), (digests, DIGEST * -(-len(features) // BATCH))):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:  # macOS and Windows have none, and not every file system can
            if getattr(error, "errno", None) not in (None, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            os.ftruncate(file.fileno(), max(size, os.fstat(file.fileno()).st_size))
    _write(data, _header(features), 0)


@contextlib.contextmanager
def _locked(path):
    """Keep other processes from writing `path` meanwhile: they wait. Nobody can write in a read-only folder."""
    waited = []

    def wait():
        if not waited:
            files.notice(f"Another process is writing {path}: waiting for it.")
        waited.append(True)
        time.sleep(0.1)

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.locked(path.with_suffix(".lock"), wait))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
        yield


def _open(path):
    """Open the file `path` for reading and writing, created when missing, or only for reading if it cannot be written."""
    try:
        return open(path, "r+b", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666))
    except OSError:
        with contextlib.suppress(OSError):
            return open(path, "rb", buffering=0)
        raise


def _warn(path, error):
    files.notice(f"{path} cannot be written ({files.reason(error)}): fc7 stays in memory and will not be kept.")


def _digest(key, start, rows):
    """BLAKE2b, 32 bytes, of a batch and its start: the fastest of Python's unbroken cryptographic digests.

    For GTSRB's 642 MB of fc7 it takes one core 1.5 to 2 seconds; SHA-256 takes twice as long.
    """
    digest = hashlib.blake2b(start.to_bytes(8, "little"), key=key, digest_size=DIGEST)
    digest.update(rows)
    return digest.digest()


def _key(features, network):
    """SHA-256, 32 bytes, of everything that fc7 depends on."""
    photos = hashlib.sha256()
    for start in range(0, len(features), BATCH):
        photos.update(np.ascontiguousarray(features[start:start + BATCH]))
    everything = [FORMAT, network, photos.hexdigest(), features.shape, BATCH]
    return hashlib.sha256(json.dumps(everything).encode()).digest()
