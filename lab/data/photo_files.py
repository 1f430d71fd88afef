"""Photos that stay on disk: read when they are asked for, and recognised by what is in their files.

`scan` looks through all photos once and keeps what it has found in a manifest:

    photos-0123456789abcdef.npz    the size, times, SHA-256 and hash of each photo; np.load reads it

The name is a digest of where the photos come from. A photo whose size or times have changed is read again, and so are all if
the manifest is missing or damaged.
"""

import contextlib
import hashlib
import io
import itertools
import os
import struct
import threading
import time
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lab import files
from lab.data import photos
from lab.files import BadInput, DiskError
from lab.progress import progress

FORMAT = 1  # of the manifest: increment it when it changes
NEAR = 4  # bits, of 64, in which near copies may differ: photos saved again at half the size do, and 9 of 10 cropped by 2%

_READERS = {32: photos.read_sign, 227: photos.read_imagenet}
_LARGEST = 250_000_000  # bytes in a file: each thread may hold one
_SAVE_EVERY = 60  # seconds, while the photos are looked through
_COMPARISONS = 4_000_000  # of hashes at a time
_FLAT = 2  # grey levels: a photo of a smaller standard deviation has no structure to compare
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError, struct.error)


class PhotoFiles:
    """Photos in files, used like an array uint8 [N, size, size, 3] in RGB, of which only the rows asked for are in memory.

    paths: list of N Paths or ZipPhotos. digests: list of N bytes, the SHA-256 of each file. size: 32 (photos.read_sign) or 227
        (photos.read_imagenet). hashes: uint64 [N], as `scan` returns them, or None.

    `features[rows]` reads these photos, in several threads; `rows` is an int, a slice, or an array of ints or of N bools. It
    raises BadInput if a photo is not any more what `digests` says, and DiskError as in photos.read.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, paths, digests, size, hashes=None):
        self.paths, self.digests, self.size, self.hashes = list(paths), list(digests), size, hashes

    def __len__(self):
        return len(self.paths)

    @property
    def shape(self):
        return len(self), self.size, self.size, 3

    def __getitem__(self, rows):
        wanted = np.arange(len(self))[rows]
        if not wanted.ndim:
            return self._read(wanted)
        features = np.empty((len(wanted), *self.shape[1:]), np.uint8)

        def read(i):
            features[i] = self._read(wanted[i])

        with photos.threads(len(wanted)) as pool:
            for _ in pool.map(read, range(len(wanted))):  # raises the first error
                pass
        return features

    def part(self, rows):
        """The photos of `rows`, a slice, as PhotoFiles, which are not read yet."""
        return PhotoFiles(self.paths[rows], self.digests[rows], self.size)

    def _read(self, row):
        return self.reader(self.paths[row], self.content(row))

    @property
    def reader(self):
        """The function of lab.data.photos that reads a photo."""
        return _READERS[self.size]

    def content(self, row):
        """The bytes of the file of photo `row`. Raises BadInput and DiskError as reading the photo does."""
        path, content = self.paths[row], None
        try:
            content = bytes_of(path)
        except DiskError:
            raise
        except BadInput:
            pass
        if content is None or hashlib.sha256(content).digest() != self.digests[row]:
            raise BadInput(f"{path} is gone, or has changed, since this run looked through the photos: run this again, and "
                           "leave the photos as they are meanwhile")
        return content

    @property
    def fingerprint(self):
        """What photos these are, in which order and size: 64 hexadecimal digits. It does not depend on names and places."""
        digest = hashlib.sha256(b"%d" % self.size)
        digest.update(b"".join(self.digests))
        return digest.hexdigest()

    @property
    def pixels_fingerprint(self):
        """What the pixels are, to the last bit: 64 hexadecimal digits, of `fingerprint` and what decodes photos here.

        Whatever is computed from the pixels and kept goes by this. Whether a model was trained on the same photos goes by
        `fingerprint`: another version of Pillow does not make them other photos.
        """
        return hashlib.sha256(f"{self.fingerprint} {photos.decoder()}".encode()).hexdigest()


def joined(first, second):
    """The PhotoFiles with the photos of `first`, then those of `second`, which have the same size."""
    if first.size != second.size:
        raise ValueError(f"sizes {first.size} and {second.size}")
    hashes = None if first.hashes is None or second.hashes is None else np.concatenate([first.hashes, second.hashes])
    return PhotoFiles(first.paths + second.paths, first.digests + second.digests, first.size, hashes)


class Zip:
    """The zip file `path`, opened to read photos in several threads. Raises BadInput for a file that cannot be used."""

    def __init__(self, path):
        self.path, self._lock = path, threading.Lock()
        try:
            self._archive = zipfile.ZipFile(files.reading(path))
        except (BadInput, MemoryError):
            raise
        except _DAMAGE as error:
            raise BadInput(f"{path} is damaged or cut short: get it again") from error
        if any(info.flag_bits & 1 for info in self._archive.infolist()):
            raise BadInput(f"{path} is encrypted: unpack it and name the folder")

    def members(self):
        """The names of files and folders, in UTF-8 even if the archive does not say so, and their ZipInfos: {name: ZipInfo}."""
        return {_name(info): info for info in self._archive.infolist()}

    def read(self, info):
        with self._lock:  # ZipFile.open counts the open files without a lock
            return self._archive.read(info)


def _name(info):
    name = info.filename
    if not info.flag_bits & 0x800:  # macOS writes UTF-8 and does not set the flag for it, so zipfile decodes cp437
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")  # some programs on Windows write backslashes


class ZipPhoto(NamedTuple):
    """A photo in a zip file, named as zipfile.Path names it."""

    archive: Zip
    info: zipfile.ZipInfo

    @property
    def name(self):
        return _name(self.info).rpartition("/")[2]

    def __str__(self):
        return f"{self.archive.path}/{_name(self.info)}"

    def read_bytes(self):
        if self.info.file_size > _LARGEST:
            raise BadInput(f"{self} has {self.info.file_size:,} bytes, too many for a photo: leave it out of the archive")
        try:
            return self.archive.read(self.info)
        except DiskError:
            raise
        except _DAMAGE as error:
            raise BadInput(f"{self} is damaged or cut short: get the archive again") from error


def bytes_of(path):
    """The bytes of the photo `path`. Raises BadInput if it cannot be read or is empty, DiskError if the disk fails."""
    if isinstance(path, ZipPhoto):
        content = path.read_bytes()
    else:
        path = files.check(path, "a photo")
        try:
            with files.reading(path) as file:
                if (size := os.fstat(file.fileno()).st_size) > _LARGEST:
                    raise BadInput(f"{path} has {size:,} bytes, too many for a photo: save a smaller copy")
                content = file.read()
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    if not content:
        raise BadInput(f"{path} is empty: get the photo again")
    return content


class Scan(NamedTuple):
    digests: list  # of N bytes, the SHA-256 of each file, or None for a photo that cannot be used
    hashes: np.ndarray  # uint64 [N], alike for photos that look alike: see `near_copies`
    bad: dict  # what is wrong with each photo that cannot be used, {position: BadInput}


def scan(paths, cache=None, source=""):
    """Look through the photos `paths`, a list of N Paths or ZipPhotos: a Scan.

    cache: the folder of the manifest, created when missing; None keeps none.
    source: text that says where the photos come from, such as the folder and the part. Each source has its own manifest.

    A photo that the manifest knows is not read again unless its size or times have changed (in a zip file, its size or CRC).
    Whatever ends the scan, the manifest keeps what has been found by then; if the process is killed, by a minute before.

    Raises DiskError if the disk fails.
    """
    manifest = cache and Path(cache) / f"photos-{hashlib.sha256(os.fsencode(source)).hexdigest():.16}.npz"
    known = _load_manifest(manifest) if manifest else {}
    names, stats = [str(path) for path in paths], [_stat(path) for path in paths]
    found = {i: entry[1] for i, name in enumerate(names) if (entry := known.get(name)) and entry[0] == stats[i] is not None}
    unknown, bad = [i for i in range(len(names)) if i not in found], {}
    changed, saved = bool(unknown) or len(known) > len(found), time.monotonic()

    def save():
        _save_manifest(manifest, [(names[i], stats[i], found[i]) for i in sorted(found) if stats[i]])

    try:
        if unknown:
            with photos.threads(len(unknown)) as pool, progress(description="Looking through the photos", total=len(unknown),
                                                       unit="photo") as bar:
                for i, result in zip(unknown, pool.map(lambda i: _look(paths[i]), unknown)):
                    (bad if isinstance(result, BadInput) else found)[i] = result
                    bar.update(1)
                    if manifest and time.monotonic() - saved > _SAVE_EVERY:
                        save()
                        saved = time.monotonic()
    finally:
        if manifest and changed:
            save()
    digests = [found[i][0] if i in found else None for i in range(len(names))]
    return Scan(digests, np.array([found[i][1] if i in found else 0 for i in range(len(names))], np.uint64), bad)


def _stat(path):
    """What tells that the photo has not changed since, three ints; None if nothing does."""
    if isinstance(path, ZipPhoto):
        return path.info.file_size, path.info.CRC, 0
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _look(path):
    """The digest (bytes) and the hash (int) of one photo, or the BadInput that says why it cannot be used."""
    try:
        content = bytes_of(path)
        digest = hashlib.sha256(content).digest()
        return digest, _hash(photos.read_grey(path, content), digest)
    except DiskError:
        raise
    except BadInput as error:
        return error


def _hash(grey, digest):
    """A 64-bit hash, an int, that is alike for photos that look alike.

    grey: uint8 [32, 32]. digest: bytes, the photo's SHA-256.

    A bit for each of 8x8 low frequencies of the cosine transform: whether its coefficient is above their median, as in pHash
    (C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010). All in integers, so that no rounding
    decides a bit. Photos of nearly one colour are alike only if they are equal: their hash is the beginning of their digest.
    """
    if grey.std() < _FLAT:
        return int.from_bytes(digest[:8], "big")
    frequency, position = np.arange(1, 9)[:, None], np.arange(32)
    cosines = np.rint(1024 * np.cos(np.pi / 64 * frequency * (2 * position + 1))).astype(np.int64)
    coefficients = cosines @ grey.astype(np.int64) @ cosines.T
    return int.from_bytes(np.packbits(coefficients > np.median(coefficients)).tobytes(), "big")


def _load_manifest(path):
    """{name: ((size, times), (digest, hash))} from the manifest `path`; {} if it is missing, damaged or of another decoder."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if str(arrays["made_by"]) != _made_by():
                return {}
            names = arrays["names"].tobytes().decode("utf-8", "surrogateescape").split("\0")
            stats, digests, hashes = (arrays[name] for name in ("stats", "digests", "hashes"))
        if (stats.shape, digests.shape, hashes.shape) != ((len(names), 3), (len(names), 32), (len(names),)):
            return {}
        return {name: (tuple(stat), (digest.tobytes(), hash_))
                for name, stat, digest, hash_ in zip(names, stats.tolist(), digests, hashes.tolist())}
    except Exception:  # whatever a damaged file makes of NumPy: the photos are there to be read again
        return {}


def _save_manifest(path, entries):
    names, stats, found = zip(*entries) if entries else ((), (), ())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as file:
            np.savez(file, made_by=_made_by(), stats=np.array(stats, np.int64).reshape(-1, 3),
                     names=np.frombuffer("\0".join(names).encode("utf-8", "surrogateescape"), np.uint8),
                     digests=np.frombuffer(b"".join(digest for digest, _ in found), np.uint8).reshape(-1, 32),
                     hashes=np.array([hash_ for _, hash_ in found], np.uint64))
    except (BadInput, OSError) as error:
        files.notice(f"{path} cannot be written ({getattr(error, 'strerror', None) or error}), so the next run will look "
                     "through all photos again.")


def _made_by():
    return f"{FORMAT}, {photos.decoder()}"


def near_copies(hashes):
    """Which photos are near copies of each other: for each its group, int64 [N], 0 and up in the order of their first photos.

    hashes: uint64 [N], from `scan`. Two photos are near copies if their hashes differ in at most NEAR bits, or if a chain of
    such photos leads from one to the other, as the frames of a film do.
    """
    distinct, position = np.unique(hashes, return_inverse=True)
    group, pairs, waiting = np.arange(len(distinct)), [], 0
    for bucket in [group] if len(distinct) ** 2 <= _COMPARISONS else _buckets(distinct):
        step = max(1, _COMPARISONS // max(len(bucket), 1))
        for start in range(0, len(bucket) - 1, step):
            rows, columns = bucket[start:start + step], bucket[start + 1:]
            i, j = np.nonzero(_bits(distinct[rows, None] ^ distinct[columns]) <= NEAR)
            pair = group[np.stack([rows[i], columns[j]])]
            pairs.append(pair[:, pair[0] != pair[1]])
            waiting += pairs[-1].shape[1]
            if waiting > _COMPARISONS:
                group, pairs, waiting = _merged(group, pairs), [], 0
    group = _merged(group, pairs)[position]
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


def _buckets(hashes):
    """Positions in `hashes`, arrays of two or more, so that any two hashes that differ in at most NEAR bits share an array."""
    edges = np.linspace(0, 64, NEAR + 2).astype(int)  # of NEAR + 1 bands of bits: such hashes agree in at least one of them
    for low, high in itertools.pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        ends = np.flatnonzero(np.diff(band[order], append=band[order[-1:]] + np.uint64(1))) + 1
        starts = np.append(0, ends[:-1])
        for start, end in zip(starts, ends):
            if end - start > 1:
                yield order[start:end]


def _merged(group, pairs):
    """`group`, int64 [N], after the groups in `pairs`, a list of int64 [2, n], have become one."""
    from scipy.sparse import coo_array  # imported late, since importing this module must be quick
    from scipy.sparse.csgraph import connected_components

    first, second = np.concatenate([np.empty((2, 0), np.int64), *pairs], axis=1)
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), (len(group), len(group)))
    return connected_components(graph.tocsr(), directed=False)[1][group]


def _bits(numbers):
    """How many bits are set in each of `numbers`, uint64."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(numbers)
    return np.unpackbits(numbers[..., None].view(np.uint8), axis=-1).sum(axis=-1, dtype=np.uint8)
