"""fc7 kept on disk is the fc7 that would be computed, whatever happens to the files, the disk or the process."""

import errno
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from lab import files
from lab.progress import progress
from lab.training import kept_features

FEATURES = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), np.uint8)  # three batches of 128 and one of 16
PIXELS = np.random.default_rng(1).integers(0, 3072, 4096)
BATCHES = [0, 128, 256, 384]
NETWORK = "0" * 64


def project(batch):
    """A stand-in for fc7 that does not depend on how photos are batched, as the last bits of AlexNet's do."""
    return batch.reshape(len(batch), -1)[:, PIXELS].astype(np.float32)


RIGHT = project(FEATURES)


class Network:
    """A cheap stand-in for AlexNet that records where its batches start; the one at `interrupt` raises KeyboardInterrupt."""

    def __init__(self, features=FEATURES, interrupt=None):
        self.features, self.interrupt, self.starts = features, interrupt, []

    def __call__(self, batch):
        assert len(batch) == 128  # always: a shorter last batch is filled up with repeated photos
        start = next(i for i in range(0, len(self.features), 128)
                     if np.array_equal(self.features[i:i + 128], batch[:len(self.features) - i]))
        if start == self.interrupt:
            raise KeyboardInterrupt
        self.starts.append(start)
        return project(batch)


def computed(folder="cache", right=RIGHT, features=FEATURES, network=NETWORK, **arguments):
    """The starts of the batches that kept_features.fc7 computes; all of fc7 must be `right`."""
    stand_in = Network(features)
    assert np.array_equal(kept_features.outputs(stand_in, features, folder, network, **arguments), right)
    return stand_in.starts


def stored(suffix=".npy"):
    path, = Path("cache").glob("*" + suffix)
    return path


def test_a_second_training_computes_nothing_and_prints_nothing(capsys):
    assert computed() == BATCHES
    assert computed() == []
    assert capsys.readouterr().err == ""


def test_the_answer_is_a_plain_npy_file_mapped_read_only():
    answer = kept_features.outputs(Network(), FEATURES, "new/cache", NETWORK)
    assert isinstance(answer, np.memmap) and not answer.flags.writeable and answer.dtype == np.float32
    path, = Path("new/cache").glob("*.npy")
    assert np.array_equal(np.load(path, mmap_mode="r"), RIGHT)
    assert path.stat().st_size == 128 + RIGHT.nbytes
    assert np.array_equal(answer[[399, 0, 0]], RIGHT[[399, 0, 0]])


def test_without_a_folder_nothing_is_written():
    assert computed(None) == BATCHES == computed(None)
    assert os.listdir() == []


def test_other_photos_or_another_network_get_their_own_files():
    computed()
    other = FEATURES.copy()
    other[399, 31, 31, 2] ^= 1
    assert computed(features=other, right=project(other)) == BATCHES
    assert computed(features=FEATURES[:384], right=RIGHT[:384]) == BATCHES[:3]
    assert computed(network="1" * 64) == BATCHES
    assert len(os.listdir("cache")) == 2 * 4
    assert computed() == []


def zero_weights():
    from lab.network import weights

    return {layer: (np.zeros(shape, np.float32), np.zeros(shape[-1], np.float32)) for layer, shape in weights.SHAPES.items()}


def network(prepare=None, after=lambda fc7: fc7, precision="float32", weights_fingerprint=64 * "0", **layers):
    import tensorflow.compat.v1 as tf  # not above: the processes of other tests import this file and must start fast

    import alexnet
    from lab.network import fast_layers, inference, preprocessing

    prepare = prepare or preprocessing.subtract_mean
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3])
        features = tf.cast(prepare(images), precision)
        layers = fast_layers.for_many(int(features.shape[1]), precision) | layers
        fc7 = alexnet.AlexNet(features, feature_extract=True, weights=zero_weights(), **layers)
        after(fc7)
        return inference.fingerprint(fc7, weights_fingerprint)


def resize(images):
    import tensorflow.compat.v1 as tf

    from lab.network.preprocessing import subtract_mean

    return tf.image.resize_images(subtract_mean(images), (227, 227))


@pytest.mark.slow
def test_a_fingerprint_depends_on_the_graph_up_to_fc7_the_weights_tensorflow_and_the_processor(monkeypatch):
    from lab.network import devices, inference, preprocessing

    mine = network()
    code = "from test_kept_features import network; print(network())"
    elsewhere = subprocess.check_output([sys.executable, "-c", code], text=True,
                                        env=os.environ | {"PYTHONPATH": f"{files.HERE}:{files.HERE}/tests"})
    assert mine == elsewhere.strip() == network(after=lambda fc7: fc7 + 1)  # what comes after fc7 does not change it
    changed = [network(weights_fingerprint=64 * "1"), network(precision="bfloat16"), network(resize),
               network(lambda images: preprocessing.subtract_mean(images) / 255),
               network(pool=lambda features, name: features[:, :-2:2, :-2:2])]
    for module, name, value in ((devices.tf, "__version__", "3.0"), (devices, "_cpu", lambda: "another"),
                                (inference, "np", types.SimpleNamespace(__version__="99.0"))):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            changed.append(network())
    with monkeypatch.context() as patch:
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        changed.append(network())
    assert len({mine, *changed}) == 10 and network() == mine


def test_what_else_is_kept_is_named_once_with_its_size_and_left_alone(capsys):
    Path("cache").mkdir()
    for name in ("fc7-0123456789abcdef.npy", "kept-fc7-0123456789abcdef.npy", "fc7-0123456789abcdef.digests", "fc7-mine.npy"):
        Path("cache", name).write_bytes(bytes(3_000_000))
    assert computed() == BATCHES
    notice = capsys.readouterr().err
    assert "cache/fc7-0123456789abcdef.npy (3 MB), cache/kept-fc7-0123456789abcdef.npy (3 MB). Delete" in notice
    assert computed() == [] and capsys.readouterr().err == ""
    assert len(os.listdir("cache")) == 4 + 2


def test_features_with_equal_bytes_but_another_shape_have_another_key():
    flat = FEATURES.reshape(400, 16, 64, 3)
    fc7 = kept_features.KEPT["fc7"]
    assert kept_features._key(flat, NETWORK, fc7) != kept_features._key(FEATURES, NETWORK, fc7)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def swap_batches():
    for path, header, size in (stored(), 128, 128 * 4096 * 4), (stored(".digests"), 0, 32):
        content = path.read_bytes()
        first, second = content[header:header + size], content[header + size:header + 2 * size]
        path.write_bytes(content[:header] + second + first + content[header + 2 * size:])


def take_another_networks(*suffixes):
    kept_features.outputs(lambda batch: project(batch) + 1, FEATURES, "other", "1" * 64)
    for suffix in suffixes:
        shutil.copy(next(Path("other").glob("*" + suffix)), stored(suffix))


LAST = 128 + RIGHT.nbytes - 1


@pytest.mark.parametrize("damage, again, notice", [
    (lambda: flip(stored(), 128), [0], "damaged: computing 1 of 4"),
    (lambda: flip(stored(), LAST), [384], "damaged: computing 1 of 4"),
    (lambda: [flip(stored(), offset) for offset in (LAST // 2, LAST)], [128, 384], "damaged: computing 2 of 4"),
    (lambda: flip(stored(), 70), [], ""),  # in the header
    (lambda: os.truncate(stored(), LAST - 128 * 4096 * 4), [256, 384], "damaged: computing 2 of 4"),
    (lambda: os.truncate(stored(), 0), BATCHES, "damaged: computing 4 of 4"),
    (lambda: stored().unlink(), BATCHES, "damaged: computing 4 of 4"),
    (lambda: stored().write_bytes(b"no features" * 10**6), BATCHES, "damaged: computing 4 of 4"),
    (lambda: swap_batches(), [0, 128], "damaged: computing 2 of 4"),
    (lambda: flip(stored(".digests"), 40), [128], "damaged: computing 1 of 4"),
    (lambda: os.truncate(stored(".digests"), 2 * 32 + 7), [256, 384], "damaged: computing 1 of 4"),
    (lambda: os.truncate(stored(".digests"), 2 * 32), [256, 384], "incomplete: 2 of 4"),
    (lambda: stored(".digests").unlink(), BATCHES, "incomplete: 0 of 4"),
    (lambda: stored(".digests").write_text("foreign" * 1000), BATCHES, "damaged: computing 4 of 4"),
    (lambda: take_another_networks(".npy"), BATCHES, "damaged: computing 4 of 4"),
    (lambda: take_another_networks(".npy", ".digests"), BATCHES, "damaged: computing 4 of 4"),
])
def test_only_damaged_batches_are_computed_again_and_a_notice_says_so(damage, again, notice, capsys):
    computed()
    damage()
    assert computed() == again
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == bool(notice) and notice in "".join(lines)
    assert np.array_equal(np.load(stored(), mmap_mode="r"), RIGHT)
    assert computed() == []


def test_a_batch_cut_short_does_not_match_even_if_the_buffer_already_holds_it():
    computed()
    os.truncate(stored(), LAST)
    key = kept_features._key(FEATURES, NETWORK, kept_features.KEPT["fc7"])
    assert not kept_features._read(np.array(RIGHT[384:], order="C"), 384, stored(), key, kept_features.KEPT["fc7"])
    assert kept_features._read(np.zeros((128, 4096), np.float32), 256, stored(), key, kept_features.KEPT["fc7"])


def test_a_batch_that_the_disk_cannot_read_is_computed_again(monkeypatch):
    computed()

    def read(path, offset, size, work=kept_features._read_at):
        if offset == 128 + 128 * 4096 * 4:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return work(path, offset, size)

    monkeypatch.setattr(kept_features, "_read_at", read)
    assert computed() == [128]


def test_the_progress_bar_counts_photos_and_starts_with_those_already_computed(monkeypatch):
    computed()
    flip(stored(), 128)
    bars = []
    monkeypatch.setattr(kept_features, "progress", lambda *rest, **options: bars.append((*rest, options)) or progress(*rest))
    computed(description="Signs")
    assert bars[-1] == (None, "Signs", 400, {"initial": 400 - 128})


@pytest.mark.parametrize("k", range(4))
def test_an_interrupted_extraction_resumes_at_its_batch_with_the_same_boundaries(k, capsys):
    network = Network(interrupt=BATCHES[k])
    with pytest.raises(KeyboardInterrupt):
        kept_features.outputs(network, FEATURES, "cache", NETWORK)
    assert network.starts == BATCHES[:k]
    assert computed() == BATCHES[k:]
    assert f"incomplete: {k} of 4 batches are done" in capsys.readouterr().err


def test_fc7_that_is_not_finite_is_refused_and_never_stored():
    def broken(batch):
        rows = project(batch)
        if np.array_equal(batch, FEATURES[256:384]):
            rows[5, 7] = np.nan
        return rows

    for folder in ("cache", None):
        with pytest.raises(files.BadInput, match="output contains NaN or infinite values: the weights are far too large"):
            kept_features.outputs(broken, FEATURES, folder, NETWORK)
    assert computed() == BATCHES[2:]


@pytest.mark.parametrize("folder", ["file", "file/cache"])
def test_a_file_in_the_folders_place_is_reported_in_one_sentence(folder):
    Path("file").touch()
    with pytest.raises(files.BadInput, match=f"{folder} is a file, or below a file"):
        computed(folder)


def failing(monkeypatch, name, code, after=0):
    """Make os.`name` fail with errno `code` after it has worked `after` times."""
    calls, work = [], getattr(os, name)

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        return work(*arguments)

    monkeypatch.setattr(os, name, fail)


@pytest.mark.parametrize("code, call, after", [
    (errno.ENOSPC, "posix_fallocate", 0), (errno.ENOSPC, "posix_fallocate", 1), (errno.ENOSPC, "write", 5),
    (errno.EDQUOT, "write", 6)])
def test_on_a_full_disk_no_files_remain_and_fc7_stays_in_memory_computed_once(monkeypatch, capsys, code, call, after):
    failing(monkeypatch, call, code, after)
    assert computed() == BATCHES
    err = capsys.readouterr().err
    assert "cannot be written (the disk is full)" in err and err.count("\n") == 1
    assert os.listdir("cache") == []


@pytest.mark.parametrize("code, reason", [(errno.EROFS, "Read-only file system"), (errno.EIO, "Input/output error")])
@pytest.mark.parametrize("after", [5, 6])  # the header, two batches with their digests, and the third without its digest
def test_a_disk_that_fails_halfway_keeps_what_was_stored(monkeypatch, capsys, code, reason, after):
    with monkeypatch.context() as patch:
        failing(patch, "write", code, after)
        assert computed() == BATCHES
    err = capsys.readouterr().err
    assert f"cannot be written ({reason})" in err and err.count("\n") == 1
    assert computed() == BATCHES[2:]


def test_a_write_cut_short_is_reported_as_a_full_disk(monkeypatch, capsys):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, bytes(content)[:1000]))
    assert computed() == BATCHES
    assert "the disk is full" in capsys.readouterr().err and os.listdir("cache") == []


def test_on_a_full_disk_the_batches_of_an_earlier_run_are_reused(monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        kept_features.outputs(Network(interrupt=256), FEATURES, "cache", NETWORK)
    failing(monkeypatch, "write", errno.ENOSPC, 1)
    assert computed() == BATCHES[2:]
    assert os.listdir("cache") == []


@pytest.fixture
def read_only(monkeypatch):
    """A function that makes os.open refuse to write, as in another user's folder. (Root may write anywhere.)"""
    def refuse(path, flags, *mode, work=os.open):
        if flags & (os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return work(path, flags, *mode)

    return lambda: monkeypatch.setattr(os, "open", refuse)


def test_a_read_only_folder_is_used_if_it_has_all_batches(read_only, capsys):
    computed()
    read_only()
    answer = kept_features.outputs(None, FEATURES, "cache", NETWORK)
    assert isinstance(answer, np.memmap) and np.array_equal(answer, RIGHT)
    assert capsys.readouterr().err == ""


def test_a_read_only_folder_is_used_for_the_batches_that_it_has(read_only, capsys):
    computed()
    flip(stored(), 128)
    read_only()
    assert computed() == [0] == computed()
    assert "cannot be written (Permission denied)" in capsys.readouterr().err


def process(code):
    """A Python process that runs `code`, which can use the names in this file."""
    return subprocess.Popen([sys.executable, "-c", "import time\nfrom test_kept_features import *\n" + code], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=os.environ | {"PYTHONPATH": f"{files.HERE}:{Path(__file__).parent}"})


SLOW = """
network = Network()
def slow(batch):
    rows = network(batch)
    print(network.starts[-1], flush=True)
    time.sleep({seconds})
    return rows
assert np.array_equal(kept_features.outputs(slow, FEATURES, "cache", NETWORK), RIGHT)
"""


@pytest.mark.slow
def test_kill_9_loses_no_finished_batch():
    child = process(SLOW.format(seconds=0.2))
    for start in BATCHES[:3]:
        assert child.stdout.readline() == f"{start}\n"
    child.kill()
    child.communicate()
    assert computed() == BATCHES[2:]


@pytest.mark.slow
def test_of_two_processes_one_computes_and_the_other_waits():
    children = [process(SLOW.format(seconds=0.1)) for _ in range(2)]
    results = [child.communicate() + (child.returncode,) for child in children]
    assert [status for _, _, status in results] == [0, 0]
    assert sorted(len(out.split()) for out, _, _ in results) == [0, 4]
    waiting = "".join(err for _, err, _ in results)
    assert len(re.findall("Another process is writing cache/kept-fc7-.*.npy: waiting for it.", waiting)) == 1


@pytest.mark.slow
def test_a_process_that_waits_for_files_that_are_then_deleted_makes_new_ones():
    child = process(SLOW.format(seconds=0.5))
    child.stdout.readline()
    waiter = process("assert computed() == BATCHES")
    assert "Another process" in waiter.stderr.readline()
    for name in os.listdir("cache"):
        os.unlink(f"cache/{name}")
    assert (child.wait(), waiter.wait()) == (0, 0)
    assert computed() == []


def test_another_process_may_repair_a_mapped_file():
    answer = kept_features.outputs(Network(), FEATURES, "cache", NETWORK)
    flip(stored(), LAST)
    assert process("assert computed() == [384]").wait() == 0
    assert np.array_equal(answer, RIGHT)
