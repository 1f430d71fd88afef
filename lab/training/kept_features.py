"""Keeps what AlexNet makes of photos on disk, so the next training on the same photos starts in seconds.

That is the output of the layer at which AlexNet is cut. The folder holds two files for each set of photos and network:

    kept-fc7-0123456789abcdef.npy        fc7, float32 [N, 4096], at full size from the start; np.load reads it
    kept-fc7-0123456789abcdef.digests    a 32-byte digest of fc7 for each batch of 128 photos, in order; zeros at first

fc6 is kept likewise, and pool5 as float16 [N, 9216]. The name is a digest of everything that the output depends on. A batch's
digest is written after the batch, and every batch is checked when the files are opened: one whose digest does not match,
because it is missing, half-written, damaged or another network's, is computed again. So either file may be incomplete, and the
process may be killed at any moment. kept-fc7-0123456789abcdef.workers.json is there if workers of several kinds computed it.
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
from lab.network import inference
from lab.network.cuts import KEPT
from lab.network.inference import BATCH
from lab.progress import progress

FORMAT = 1  # of the two files: increment it when it changes
HEADER, DIGEST = 128, 32  # bytes

_opened = set()  # the paths of this run's files, which are not to be mentioned as old ones

_MENTIONED = 3  # old files at most, by name
_LARGE = 100_000_000  # bytes, of which the user is told beforehand


def outputs(run_batch, features, folder, network, layer="fc7", description="Photos through AlexNet"):
    """The output of `layer` for all `features`, [N, C], memory-mapped read-only from a file in `folder`, completed first.

    run_batch: a function that computes it, uint8 [128, size, size, 3] to float32 [128, C], or the network on a cluster, as in
        inference.each. The batches are always photos 0 to 127, 128 to 255 and so on, because the last bits may depend on the
        batch. A shorter last batch is filled up with repeated photos, so that code compiled for one batch size is not compiled
        again.
    features: photos, uint8 [N, size, size, 3], N > 0; or an object with a length that reads those of a slice, and that has a
        `pixels_fingerprint` (str) of them all.
    folder: where to keep the output; created when missing. If it is None or cannot be written, it is an array in memory.
    network: the network's fingerprint, from inference.fingerprint.
    layer: "pool5", "flat5", "fc6" or "fc7", which decides the dtype and C: lab.network.cuts.KEPT.
    description: the progress bar's label.

    Raises BadInput if `folder` or a parent of it is a file, and if the output contains NaN or infinite values.
    """
    cut = KEPT[layer]
    answers = None
    if folder is not None:
        path = Path(folder) / f"kept-{layer}-{(key := _key(features, network, cut)).hex():.16}.npy"
        _opened.add(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _mention_old_files(path.parent)
                if (size := _offset(len(features), cut)) > _LARGE:
                    files.notice(f"Keeping {layer} of {len(features):,} photos takes {size / 1e6:,.0f} MB in {path.parent}.")
            with _locked(path):
                answers, missing = _complete(run_batch, features, path, key, cut, description)
                if not missing and len(kinds := getattr(run_batch, "kinds", ())) > 1:
                    files.write_json(path.with_suffix(".workers.json"), kinds)
        except (FileExistsError, NotADirectoryError) as error:
            raise BadInput(f"{folder} is a file, or below a file: choose another folder with --cache") from error
        except OSError as error:
            _warn(path, error)
    if answers is None:
        answers, missing = np.empty((len(features), cut.width), cut.dtype), range(0, len(features), BATCH)
    for start, rows in _compute(run_batch, features, missing, cut, description):
        answers[start:start + BATCH] = rows
    return answers


def _mention_old_files(folder):
    """Print a notice of the files in `folder` that were kept of other photos, another network or by an earlier version."""
    old = [path for path in sorted(folder.glob("*-*.npy"))
           if re.fullmatch(rf"(kept-)?({'|'.join(KEPT)})-[0-9a-f]{{16}}\.npy", path.name) and path not in _opened]
    if old:
        sizes = ", ".join(f"{path} ({path.stat().st_size / 1e6:.0f} MB)" for path in old[:_MENTIONED])
        others = f" and {len(old) - _MENTIONED} others" if len(old) > _MENTIONED else ""
        files.notice(f"Also kept in {folder}, for other photos, another network or an earlier version of the lab: "
                     f"{sizes}{others}. Delete what you do not need, with the .digests file beside it.")


def _complete(run_batch, features, path, key, cut, description):
    """Complete the output in the file `path` and return it, memory-mapped, and [].

    If that fails, return an array instead, and the starts of the batches that are still missing from it.
    """
    computed = {}
    try:
        with _open(path) as data, _open(path.with_suffix(".digests")) as digests:
            missing = _check(features, path, key, cut)
            if missing or _read_at(path, 0, HEADER) != _header(features, cut):
                _allocate(features, cut, data, digests)
            for start, rows in _compute(run_batch, features, missing, cut, description):
                computed = {start: rows}
                _write(data, rows, _offset(start, cut))
                _write(digests, _digest(key, start, rows), DIGEST * (start // BATCH))
        return np.memmap(path, cut.dtype, "r", HEADER, (len(features), cut.width)), []
    except OSError as error:
        _warn(path, error)
        answers = np.empty((len(features), cut.width), cut.dtype)
        for start, rows in computed.items():
            answers[start:start + BATCH] = rows
        missing = [start for start in range(0, len(features), BATCH)
                   if start not in computed and not _read(answers[start:start + BATCH], start, path, key, cut)]
        if error.errno in files.DISK_FULL:  # make room for others
            for file in (path, path.with_suffix(".digests")):
                with contextlib.suppress(OSError):
                    file.unlink()
        return answers, missing


def _compute(run_batch, features, starts, cut, description):
    """Yield the start and the output, [B, C], of the batches at `starts`, with a progress bar that counts photos."""
    if not starts:
        return
    done = len(features) - sum(min(BATCH, len(features) - start) for start in starts)
    # Photos in files are read where they go through the network, which may be another machine.
    part = getattr(features, "part", features.__getitem__)
    batches = (part(slice(start, start + BATCH)) for start in starts)
    with progress(None, description, len(features), initial=done) as shown:
        for number, rows in inference.each(run_batch, batches):
            start = starts[number]
            count = min(BATCH, len(features) - start)
            rows = np.ascontiguousarray(rows, cut.dtype).reshape(count, cut.width)
            if not np.isfinite(rows).all():
                raise BadInput("AlexNet's output contains NaN or infinite values: the weights are far too large or not "
                               "AlexNet's; choose others with --weights")
            yield start, rows
            shown.update(count)


def _check(features, path, key, cut):
    """The starts of the batches whose digest does not match, which are to be computed. Prints a notice of them."""
    def is_right(start):
        return _read(np.empty((min(BATCH, len(features) - start), cut.width), cut.dtype), start, path, key, cut)

    starts = range(0, len(features), BATCH)
    with ThreadPoolExecutor() as threads:  # reading and hashing release the GIL
        right = list(progress(threads.map(is_right, starts), "Checking kept features", len(starts), "batch"))
    missing = [start for start, ok in zip(starts, right) if not ok]
    digests = _read_at(path.with_suffix(".digests"), 0, DIGEST * len(starts))
    damaged = [start for start in missing if any(digests[DIGEST * (start // BATCH):][:DIGEST])]
    if damaged:
        files.notice(f"{path} is damaged: computing {len(damaged)} of {len(starts)} batches again.")
    elif missing and path.stat().st_size:
        files.notice(f"{path} is incomplete: {sum(right)} of {len(starts)} batches are done, computing the rest.")
    return missing


def _read(rows, start, path, key, cut):
    """Read the batch that starts at `start` into the array `rows`, and return whether it matches its digest."""
    try:
        content = _read_at(path, _offset(start, cut), rows.nbytes)
        digest = _read_at(path.with_suffix(".digests"), DIGEST * (start // BATCH), DIGEST)
    except OSError:  # such as a bad sector
        return False
    if len(content) != rows.nbytes:
        return False
    rows[...] = np.frombuffer(content, cut.dtype).reshape(rows.shape)
    return digest == _digest(key, start, rows)


def _read_at(path, offset, size):
    with open(path, "rb") as file:  # each thread its own: a shared one has one position
        file.seek(offset)
        return file.read(size)


def _write(file, content, offset):
    os.lseek(file.fileno(), offset, os.SEEK_SET)
    if os.write(file.fileno(), content) != memoryview(content).nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # Linux writes only a part when the disk is full


def _offset(start, cut):
    return HEADER + np.dtype(cut.dtype).itemsize * cut.width * start


def _header(features, cut):
    """The 128-byte header, version 1.0, of a .npy file of [N, C] (format: numpy.lib.format)."""
    text = f"{{'descr': '{np.dtype(cut.dtype).str}', 'fortran_order': False, 'shape': ({len(features)}, {cut.width}), }}"
    return b"\x93NUMPY\1\0" + (HEADER - 10).to_bytes(2, "little") + text.ljust(HEADER - 11).encode() + b"\n"


def _allocate(features, cut, data, digests):
    """Allocate both files at full size, which keeps their contents, and write the header."""
    if not (data.writable() and digests.writable()):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    for file, size in ((data, _offset(len(features), cut)), (digests, DIGEST * -(-len(features) // BATCH))):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:  # macOS and Windows have none, and not every file system can
            if getattr(error, "errno", None) not in (None, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            os.ftruncate(file.fileno(), max(size, os.fstat(file.fileno()).st_size))
    _write(data, _header(features, cut), 0)


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
    files.notice(f"{path} cannot be written ({files.reason(error)}): AlexNet's output stays in memory and will not be kept.")


def _digest(key, start, rows):
    """BLAKE2b, 32 bytes, of a batch and its start: the fastest of Python's unbroken cryptographic digests.

    For GTSRB's 642 MB of fc7 it takes one core 1.5 to 2 seconds; SHA-256 takes twice as long.
    """
    digest = hashlib.blake2b(start.to_bytes(8, "little"), key=key, digest_size=DIGEST)
    digest.update(rows)
    return digest.digest()


def _key(features, network, cut):
    """SHA-256, 32 bytes, of everything that the output depends on."""
    everything = [FORMAT, network, _photos(features), features.shape, BATCH]
    if cut.dtype != "float32":
        everything.append(cut.dtype)
    return hashlib.sha256(json.dumps(everything).encode()).digest()


def _photos(features):
    """A fingerprint of the photos `features`: their own, or that of their bytes."""
    if not isinstance(features, np.ndarray):
        return features.pixels_fingerprint
    digest = hashlib.sha256()
    for start in range(0, len(features), BATCH):
        digest.update(np.ascontiguousarray(features[start:start + BATCH]))
    return digest.hexdigest()
