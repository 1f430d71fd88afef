"""Fetches the lab's files. No other module contains addresses or uses the network.

A download goes to NAME.XXXXXXXX.part in the same folder, one such file for each address, with the server's ETag or
Last-Modified in a .json beside it: a later run resumes it, unless the file on the server has changed. A file gets its final
name only when it is complete and its content has been checked.
"""

import contextlib
import hashlib
import http.client
import json
import os
import queue
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from lab import command_line, files, locks
from lab.data import gtsrb
from lab.files import BadInput, notice
from lab.network import weights
from lab.progress import progress

PATIENCE = 10  # seconds to wait for answers, in total over all addresses and files of a run
STALL = 30  # seconds over which a download must average SLOWEST bytes per second
SLOWEST = 1000
ATTEMPTS = 100  # connections to one address for one file
BLOCK = 1 << 18  # bytes
SPARE = 50_000_000  # bytes to leave free on the disk

AGENT = "alexnet-transfer-learning-lab"


class NotFetched(Exception):
    """A file could not be fetched from any of its addresses. The message gives the reason for each."""


class Source(NamedTuple):
    name: str  # what the file is called in the working directory
    addresses: dict  # address: its published digest, "sha256:...", "sha1:..." or "md5:...", or None
    check: Callable  # called with the path of the complete file; raises BadInput if the content is wrong
    publisher: str = ""  # of weights, for the notice and the note beside the file (weights.record)
    licence: str = ""


# The same values in each of these files, Caffe's snapshot of iteration 360,000. Those with a published digest come first.
_ZOO = "validated/vision/classification/alexnet/model/bvlcalexnet-12.onnx"
_ZOO_DIGEST = "sha256:6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945"
_OF_CAFFE = "unrestricted use, as Caffe's authors released these weights"
WEIGHTS = (
    Source("bvlc_alexnet.npy", {
        "https://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy":
            "sha256:1294ef51496c52f2e4879ee3b5e1da22c35d61f3240937491b4469403d5428cc",  # published by others who had this file
    }, weights.load, "University of Toronto", _OF_CAFFE),
    Source("bvlcalexnet-12.onnx", {
        f"https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/{_ZOO}": _ZOO_DIGEST,
        f"https://github.com/onnx/models/raw/main/{_ZOO}": _ZOO_DIGEST,
    }, weights.load, "ONNX model zoo", "BSD-3-Clause"),
    Source("bvlc_alexnet.caffemodel", {
        "http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel": "sha1:9116a64c0fbe4459d18f4bb6b56d647b63920377",
    }, weights.load, "Caffe", "unrestricted use"),
    Source("bvlc-alexnet.npy", {
        "https://d17h27t6h515a5.cloudfront.net/topher/2016/October/580d880c_bvlc-alexnet/bvlc-alexnet.npy": None,
        "https://s3.amazonaws.com/video.udacity-data.com/topher/2016/October/580d880c_bvlc-alexnet/bvlc-alexnet.npy": None,
    }, weights.load, "Udacity", _OF_CAFFE),
)

TRAIN = Source("train.p", {
    "https://d17h27t6h515a5.cloudfront.net/topher/2016/October/580a829f_train/train.p": None,
    "https://s3.amazonaws.com/video.udacity-data.com/topher/2016/October/580a829f_train/train.p": None,
}, gtsrb.load)

_ARCHIVE = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
TRAIN_ZIP = Source(gtsrb.TRAIN_ZIP, {f"{_ARCHIVE}/{gtsrb.TRAIN_ZIP}": None}, gtsrb.load)
TEST_LABELS_ZIP = Source(gtsrb.TEST_LABELS_ZIP, {
    f"{_ARCHIVE}/{gtsrb.TEST_LABELS_ZIP}": "md5:fe31e9c9270bbcd7b84b7f21a9d9d9e5"}, gtsrb.check_zip)
TEST_ZIP = Source(gtsrb.TEST_ZIP, {
    f"{_ARCHIVE}/{gtsrb.TEST_ZIP}": "md5:c7e4e6327067d32654124b0fe9e82185"}, gtsrb.check_zip)


class Patience:
    """How many seconds a run may still wait for answers, a budget that all its addresses share."""

    def __init__(self):
        self.left = PATIENCE


def weights_file(source, patience=None):
    """weights.find for the scripts: "auto" also tries to fetch the published weights if they are missing."""
    if source != "auto" or files.find(weights.PUBLISHED) or _offline():
        return weights.find(source)
    try:
        return fetch(WEIGHTS, patience or Patience())
    except NotFetched as error:
        notice(f"AlexNet weights: the built-in ones, since {error}.")
        return weights.BUILTIN


def data_and_weights(data, alexnet_weights):
    """The paths that `data_path` and `weights_file` return for these sources. They share one Patience."""
    patience = Patience()
    return data_path(data, patience), weights_file(alexnet_weights, patience)


def data_path(source, patience):
    """gtsrb.find for the scripts: "auto" also tries to fetch GTSRB's training photos if they are missing.

    None stands for the signs that the lab draws: for "builtin", and for "auto" if there are no photos.
    """
    if source == "builtin":
        return None
    if source != "auto" or files.find(gtsrb.TRAINING):
        return gtsrb.find(source)
    if _offline():
        notice("Traffic signs: drawn by the lab (train.p is not here).")
        return None
    try:
        return fetch([TRAIN, TRAIN_ZIP], patience)
    except NotFetched as error:
        notice(f"Traffic signs: drawn by the lab, since {error}.")
        return None


def _offline():
    return os.environ.get("LAB_OFFLINE", "") not in ("", "0")


def fetch(sources, patience):
    """Fetch the first of `sources` that is available into the working directory and return its Path. Raises NotFetched.

    A line on stderr says which file it is, by which published digest it was verified if there is one, and where it is from.
    """
    name = sources[0].name
    try:
        files.make_folder(Path())
        with _one_process_at_a_time(patience):
            return _fetch(sources, patience)
    except (OSError, BadInput) as error:  # from the folder: `_fetch` handles errors of an address
        raise NotFetched(f"{name} could not be fetched ({_reason(error)})") from error


def _fetch(sources, patience):
    for source in sources:
        if os.path.lexists(source.name):  # another process has just fetched it, or the name is taken
            return files.check(source.name, source.name)
    addresses = [(source, address) for source in sources for address in source.addresses]
    published = {digest for source in sources for digest in source.addresses.values()} - {None}
    hosts = {}  # for each reason why an address failed, the hosts
    for i, (source, address) in enumerate(addresses):
        part = _part(source, address)
        try:
            if patience.left < 0.01:
                raise _Slow(f"not tried: others used up the {PATIENCE} seconds allowed for answers")
            path = _fetch_from(source, address, part, published, patience, share=1 / (len(addresses) - i))
        except (OSError, http.client.HTTPException, ValueError) as error:
            hosts.setdefault(_reason(error), []).append(urlsplit(address).netloc)
            if not _read_state(part):  # it could not be resumed
                _remove(part)
        else:
            for other in addresses:
                _remove(_part(*other))
            return path
    reasons = "; ".join(f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in hosts.items())
    raise NotFetched(f"{sources[0].name} could not be fetched ({reasons})")


class _Slow(OSError):
    """A download that is too slow: the next address is tried."""


class _Cut(OSError):
    """A connection that ended early: the download is resumed."""


def _reason(error):
    """What went wrong, in a few words on one line, whatever the server sent."""
    if isinstance(error, urllib.error.HTTPError):
        reason = f"{error.code} {error.reason}"
    else:
        if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
            error = error.reason
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            reason = "no answer"
    return files.shorten("".join(c if c.isprintable() else " " for c in reason))


@contextlib.contextmanager
def _one_process_at_a_time(patience):
    """Keep other processes from fetching into the working directory meanwhile. Raises OSError if one goes on for too long."""
    deadline = time.monotonic() + patience.left

    def busy():
        if time.monotonic() > deadline:
            raise OSError("another process is fetching files into this folder")
        time.sleep(0.1)

    with locks.locked("fetch.lock", busy):
        yield


def _fetch_from(source, address, part, published, patience, share):
    """Fetch `source` from `address` into `part`, check it, give it its final name and return its Path.

    published: the digests that files of this kind are known to have, a set.

    Raises OSError, http.client.HTTPException or ValueError.
    """
    pace = _Pace()
    for _ in range(ATTEMPTS):
        before = _size(part)
        try:
            _download(address, part, source.name, patience, share, pace)
            break
        except _Cut:
            if _size(part) <= before:  # no progress: give up on this address, but keep the part for a later run
                raise
    else:
        raise _Cut(f"the connection broke {ATTEMPTS} times")

    digests = _digests(part, published)
    needed = source.addresses[address]
    try:
        if _is_pointer(part):
            raise BadInput("the server sent a Git LFS pointer, a few lines that stand for the file, instead of it")
        if needed and needed not in digests:
            raise BadInput("the downloaded file does not match its published digest")
        content = source.check(part)
    except BadInput as error:
        _remove(part)
        raise BadInput(str(error).replace(str(part), "the downloaded file")) from error
    try:
        os.link(part, source.name)  # a rename would overwrite a file created during the download
    except FileExistsError as error:
        raise BadInput(f"another {source.name} appeared during the download and is kept") from error
    except OSError:  # a file system without hard links
        part.rename(source.name)
    _report(source, address, digests, published, content)
    return Path(source.name)


def _report(source, address, digests, published, content):
    """Say what has been fetched, and note of verified weights, which are its `content`, who published them."""
    verified = [digest for digest in digests if digest in published]
    kind, _, digest = (verified or digests)[0].partition(":")
    kind = {"sha256": "SHA-256", "sha1": "SHA-1", "md5": "MD5"}[kind]
    host = urlsplit(address).netloc
    notice(f"{source.name}: {'verified by' if verified else 'content checked,'} {kind} {digest}, from "
           + (f"{source.publisher} ({host}), licence: {source.licence}" if source.publisher else host))
    if verified and source.publisher:
        with contextlib.suppress(OSError, BadInput):  # the file is complete without the note
            weights.record(Path(source.name), source.publisher, kind, content)


def _is_pointer(path):
    """Whether the file `path` is what Git LFS keeps in a repository in place of a large file, which some servers send."""
    start = b"version https://git-lfs.github.com/spec/"
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _download(address, part, name, patience, share, pace):
    """Download the file at `address` into `part`, resuming it if possible. Raises the same errors as `_fetch_from`."""
    state = _read_state(part)
    have = _size(part) if state else 0
    if state and have == state["length"]:
        return
    if state and have > state["length"]:
        _remove(part)
        have = 0
    request = urllib.request.Request(address, headers={"User-Agent": AGENT, "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", state["validator"])
    try:
        response = _open(request, patience, share)
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        unusable = resumed and not (have and _continues(response, have, state))
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        unusable = True
    if unusable and not have:
        raise BadInput("the server sent a range response to a request for the whole file")
    if unusable:  # start over
        _remove(part)
        return _download(address, part, name, patience, share, pace)

    if resumed:
        _check_disk(state["length"] - have)
    else:  # a new download, or the file on the server has changed
        have, state = 0, _start(response, part)
    if have == 0:
        size = f"{state['length'] / 1e6:.1f} MB" if state["length"] else "unknown size"
        notice(f"Fetching {name} ({size}) from {urlsplit(address).netloc}")
    _copy(response, part, have, state["length"], name, pace)


def _continues(response, have, state):
    """Whether a 206 response continues the same file at byte `have`: some servers honour Range but ignore If-Range."""
    length, validator = state["length"], state["validator"]
    return (response.headers.get("Content-Range") == f"bytes {have}-{length - 1}/{length}"
            and validator in (response.headers.get("ETag"), response.headers.get("Last-Modified")))


def _start(response, part):
    """Remove `part` and return the state of a new download, which is also saved beside `part` so that it can be resumed."""
    if response.headers.get_content_type() == "text/html":
        raise BadInput("the server sent a web page instead of the file")
    length = response.headers.get("Content-Length", "")
    if length and not re.fullmatch(r"[0-9]{1,10}", length):
        raise BadInput("the server sent an invalid Content-Length")
    etag = response.headers.get("ETag", "")
    state = {"validator": etag if etag.startswith('"') else response.headers.get("Last-Modified"),
             "length": int(length) if length else None}
    _remove(part)
    _check_disk(state["length"] or 0)
    if state["validator"] and state["length"]:
        files.write_json(_state_path(part), state)
    return state


class _Pace:
    """Measures the speed of a download, over all its connections."""

    def __init__(self):
        self.start, self.bytes = time.monotonic(), 0

    def count(self, size):
        """Count `size` more bytes. Raises _Slow if too few have arrived in the last STALL seconds."""
        self.bytes += size
        elapsed = time.monotonic() - self.start
        if elapsed > STALL:
            if self.bytes < SLOWEST * elapsed:
                raise _Slow(f"only {self.bytes} bytes arrived in {elapsed:.0f} seconds")
            self.start, self.bytes = time.monotonic(), 0


def _copy(response, part, have, length, name, pace):
    """Append the response to `part`. Raises _Cut if it ends early and _Slow if it is too slow."""
    with part.open("ab") as file, progress(None, name, length, "B", initial=have, unit_scale=True) as shown:
        for block in _blocks(response):
            if length is None:
                _check_disk(len(block))
            file.write(block)
            shown.update(len(block))
            have += len(block)
            pace.count(len(block))
            if length is not None and have >= length:
                break
        file.flush()
        os.fsync(file.fileno())
    pace.count(0)
    if length is not None and have < length:
        raise _Cut(f"the connection ended after {have} of {length} bytes")


def _blocks(response):
    """The bytes of the response as they arrive. Raises _Slow if none arrive, _Cut if the connection breaks.

    A thread reads them, because every byte restarts a socket's timeout, even one that carries no content.
    """
    blocks = queue.Queue(maxsize=16)

    def read():
        try:
            with response:
                while block := response.read1(BLOCK):
                    blocks.put(block)
            blocks.put(b"")
        except Exception as error:  # raised below
            blocks.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            block = blocks.get(timeout=STALL)
        except queue.Empty:
            raise _Slow(f"nothing arrived for {STALL} seconds") from None
        if isinstance(block, Exception):
            raise _Cut("the connection broke") from block
        if not block:
            return
        yield block


def _open(request, patience, share):
    """The response to `request`. Raises TimeoutError after `share` (0 to 1) of the patience that is left.

    A thread asks, because a host name lookup has no timeout.
    """
    answers = queue.SimpleQueue()

    def ask():
        try:
            answers.put(urllib.request.build_opener().open(request, timeout=STALL))
        except Exception as error:  # raised below
            answers.put(error)

    start = time.monotonic()
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=patience.left * share)
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, Exception):
        patience.left -= time.monotonic() - start
        raise answer
    return answer


def _check_disk(needed):
    free = shutil.disk_usage(".").free
    if free < needed + SPARE:
        raise BadInput(f"{(needed + SPARE) / 1e6:.0f} MB of disk space is needed, but only {free / 1e6:.0f} MB is free")


def _digests(path, published):
    """The digests of the file `path`, ["sha256:...", ...]: SHA-256, and the kinds that occur in `published`, best first."""
    kinds = {digest.partition(":")[0] for digest in published}
    digests = [hashlib.new(kind, usedforsecurity=False) for kind in ("sha256", "sha1", "md5") if kind in kinds | {"sha256"}]
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            for digest in digests:
                digest.update(block)
    return [f"{digest.name}:{digest.hexdigest()}" for digest in digests]


def _part(source, address):
    """The Path of an unfinished download of `source` from `address`."""
    return Path(f"{source.name}.{hashlib.sha256(address.encode()).hexdigest()[:8]}.part")


def _state_path(part):
    return part.with_name(part.name + ".json")


def _read_state(part):
    """The state that `_start` saved for `part`, or None if the download cannot be resumed."""
    try:
        state = json.loads(_state_path(part).read_text())
        return state if isinstance(state["validator"], str) and isinstance(state["length"], int) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _size(part):
    return part.stat().st_size if part.exists() else 0


def _remove(part):
    for path in (part, _state_path(part)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


# For each word on the command line: the names under which a file may already be here, and where to fetch it from.
FILES = {
    "weights": [(weights.PUBLISHED, WEIGHTS)],
    "train": [(gtsrb.TRAINING, [TRAIN, TRAIN_ZIP])],
    "test": [([source.name], [source]) for source in (TEST_LABELS_ZIP, TEST_ZIP)],
}


def main(arguments=None):
    parser = command_line.Parser(description="Fetch the lab's files into this folder: AlexNet's published weights, "
                                             "GTSRB's training photos, GTSRB's test photos with their labels.")
    parser.add_argument("files", nargs="+", choices=FILES, metavar="weights|train|test", help="what to fetch")
    args = parser.parse_args(arguments)
    if _offline():
        raise BadInput("LAB_OFFLINE is set, which forbids fetching: unset it, or set it to 0")
    patience, failures = Patience(), []
    for names, sources in (entry for name in args.files for entry in FILES[name]):
        try:
            path = files.find(names)
            if path:
                next((source for source in sources if source.name == path.name), sources[0]).check(path)
            else:
                path = fetch(sources, patience)
            command_line.result(path.resolve())
        except NotFetched as error:
            failures.append(str(error))
    if failures:
        raise BadInput(f"{'; '.join(failures)}: try again later")


if __name__ == "__main__":
    command_line.run(main)
