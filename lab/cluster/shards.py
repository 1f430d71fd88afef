"""Shards: what the workers make of very many photos, written by themselves to a folder that all of them and the client reach.

    manifest.jsonl            what the shards are of; then each line is a shard that is done: its file, that file's SHA-256, the
                              photos in it, and those left out, with why
    answers-000000.csv        the answers for up to 2,048 photos, as --csv writes them
    fc7-0123456789abcdef.npy  fc7 of up to 2,048 photos, or the output of another layer at the cut, [N, C]; the name is a digest
                              of the photos

A shard appears whole, or not at all. A second run makes what is missing, has another digest than in the manifest, or is of
photos that have changed.
"""

import contextlib
import functools
import hashlib
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lab import files, locks
from lab.cluster import batches
from lab.cluster.batches import MANIFEST
from lab.files import BadInput, counted, notice
from lab.network.cuts import KEPT
from lab.network.inference import BATCH
from lab.progress import progress

FORMAT = 1  # of the manifest
PHOTOS = 16 * BATCH  # in a shard


def write_answers(network, folder, paths, read_one, class_names, args):
    """Let the workers write the answers for the photos `paths` to shards in `folder`, and print a line that says so.

    network: a workers.Network whose output is probabilities. read_one: a function of lab.data.photos. args: with `top` and
    `threshold`. Returns how many photos have answers. Raises BadInput as workers.Network.each does, and for a folder that
    holds other shards, or cannot be written.
    """
    def shard(start):
        some = [batches.in_files(paths[first:first + BATCH], read_one)
                for first in range(start, min(start + PHOTOS, len(paths)), BATCH)]
        names = [name for batch in some for name in batch.names]
        return some, names, [check for batch in some for check in batch.checks]

    table = {"class_names": class_names, "top": args.top, "threshold": args.threshold}
    written = _write(network, folder, "answers-{number:06d}.csv", shard, len(paths), table, "Images")
    count = sum(photos for _, photos in written)
    if not count:
        raise BadInput(f"no photo of {len(paths):,} can be used: {folder}/{MANIFEST} says why")
    if count < len(paths):
        notice(f"{counted(len(paths) - count, 'photo')} cannot be used: {folder}/{MANIFEST} says which, and why.")
    print(f"{folder} has the answers for {counted(count, 'photo')}, in {counted(len(written), 'shard')}.")
    return count


def outputs(network, folder, features, layer, description="Photos through AlexNet"):
    """Let the workers write the output of `layer` for `features` to shards in `folder`/`layer`: an object like an array [N, C].

    network: a workers.Network. features, layer, description: as in kept_features.outputs. Raises BadInput as `write_answers`.
    """
    part = getattr(features, "part", features.__getitem__)

    def shard(start):
        some = [part(slice(first, first + BATCH)) for first in range(start, min(start + PHOTOS, len(features)), BATCH)]
        if hasattr(features, "paths"):
            rows = slice(start, start + PHOTOS)
            return some, [str(path) for path in features.paths[rows]], [digest.hex() for digest in features.digests[rows]]
        digests = [hashlib.sha256(photo.tobytes()).hexdigest() for batch in some for photo in batch]
        return some, list(range(start, start + len(digests))), digests

    folder = Path(folder) / layer
    written = _write(network, folder, layer + "-{of:.16}.npy", shard, len(features), {"dtype": KEPT[layer].dtype}, description)
    return _Joined([np.load(folder / name, mmap_mode="r").reshape(-1, KEPT[layer].width) for name, _ in written])


class _Joined:
    """Arrays [n, C], of PHOTOS rows each but for the last one, used like one array, of which the rows asked for are read."""

    def __init__(self, arrays):
        self._arrays = arrays
        self.shape = sum(map(len, arrays)), arrays[0].shape[1]
        self.dtype = arrays[0].dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        rows = np.arange(len(self))[rows]
        found = np.empty((*rows.shape, self.shape[1]), self.dtype)
        for number in np.unique(rows // PHOTOS):
            here = rows // PHOTOS == number
            found[here] = self._arrays[number][rows[here] % PHOTOS]
        return found


def _write(network, folder, pattern, shard, count, how, description):
    """Complete the shards in `folder`: their files' names and how many photos each holds, pairs in the order of the photos.

    pattern: of the files' names, with the shard's number and a digest `of` its photos. shard: a function from the number of the
    first photo to its batches, their photos' names, and what each must be. count: how many photos there are. how: fields of
    batches.File. description: the progress bar's label.
    """
    folder = files.make_folder(folder)
    about = {"format": FORMAT, "network": network.fingerprint, "computed_by": network.kind, **how}
    with contextlib.ExitStack() as stack:
        stack.enter_context(locks.locked(folder / "manifest.lock", functools.partial(_refuse, folder)))
        first, known = _read_manifest(folder / MANIFEST, about)
        manifest = stack.enter_context(open(folder / MANIFEST, "ab"))
        shown = stack.enter_context(progress(None, description, count))
        starts, done, waiting = range(0, count, PHOTOS), {}, {}

        def shards():
            for number, start in enumerate(starts):
                some, names, checks = shard(start)
                of = hashlib.sha256(json.dumps([names, checks]).encode()).hexdigest()
                name = pattern.format(number=number, of=of)
                waiting[number] = name, names, of
                before = known.get(name)
                digest = before.sha256 if before and before.of == of else None
                yield batches.Shard(some, batches.File(str(folder.resolve() / name), digest, first, **how))

        for number, answer in network.each(shards()):
            name, names, of = waiting.pop(number)
            if answer.positions is None:  # it was there already
                done[number] = name, known[name].photos
            else:
                line = {"file": name, "sha256": answer.digest, "of": of, "photos": len(answer.positions),
                        "names": [names[position] for position in answer.positions],
                        "left_out": {names[position]: str(error) for position, error in answer.refused.items()}}
                manifest.write(json.dumps(line).encode() + b"\n")
                manifest.flush()
                done[number] = name, len(answer.positions)
            shown.update(len(names))
    return [done[number] for number in range(len(starts))]


def _refuse(folder):
    raise BadInput(f"{folder}: another process is writing shards there: wait for it, or name another folder")


class _Known(NamedTuple):
    """What the manifest says of a shard, but for the names of its photos."""

    sha256: str
    of: str
    photos: int


def _read_manifest(path, about):
    """The first line of the manifest `path` (Path), bytes, and what it knows of its shards, {file: _Known}.

    A manifest that is missing, or has no whole line, is made; the rest of a line that was cut short is taken off. Raises
    BadInput for a manifest of other shards than `about` (dict).
    """
    known, whole, first = {}, 0, b""
    if path.exists():
        with files.reading(path) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                    if first:
                        known[entry["file"]] = _Known(entry["sha256"], entry["of"], entry["photos"])
                    elif {**entry, "made": None} != json.loads(json.dumps({**about, "made": None})):
                        raise BadInput(f"{path.parent} holds shards of another network, of other options or of another kind of "
                                       "worker: name another folder")
                except BadInput:
                    raise
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise BadInput(f"{path} is damaged: delete it, and the workers will compute the shards again") from error
                first = first or line
                whole += len(line)
    if not first:
        first = json.dumps({**about, "made": time.time_ns()}).encode() + b"\n"
        with files.replacing(path) as file:
            file.write(first)
    elif path.stat().st_size > whole:
        os.truncate(path, whole)
    return first, known
