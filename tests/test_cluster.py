"""The cluster: who may be a scheduler, how photos travel, and the same answers as on one machine.

What needs Dask is skipped without it (extras/cluster.txt); .ci/run has it, and tries faults beside.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image
from samples import photo

from lab import schedulers
from lab.cluster import batches, shards, task, workers
from lab.data import photo_files, photos
from lab.files import BadInput

HERE = Path(__file__).resolve().parents[1]
needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="pip install -r extras/cluster.txt")


@pytest.fixture
def dask_is_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)


def test_without_dask_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install -r extras/cluster.txt"):
        schedulers.find("local")


@pytest.mark.parametrize("address", ["tls://10.0.0.1:8786", "tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:8786",
                                     "tls://gpu-7.example.org:443"])
def test_what_is_encrypted_or_on_this_machine_may_be_a_scheduler(address, dask_is_there):
    assert schedulers.find(address) == address
    Path("scheduler.json").write_text(json.dumps({"type": "Scheduler", "address": address}))
    assert schedulers.find("scheduler.json") == address


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "10.0.0.1:8786", "tcp://gpu-7:8786", "tcp://127.0.0.1.evil.org:80",
                                     "tcp://0.0.0.0:8786", "tcp://[2001:db8::1]:8786"])
def test_a_scheduler_on_the_network_without_encryption_must_be_trusted(address, dask_is_there):
    for cluster in (address, "scheduler.json"):
        Path("scheduler.json").write_text(json.dumps({"address": address}))
        with pytest.raises(BadInput, match="run code on its workers.*--trust-network") as refusal:
            schedulers.find(cluster)
        assert "\n" not in str(refusal.value)
        assert schedulers.find(cluster, trust_network=True).endswith(address)


@pytest.mark.parametrize("address", ["", "nothing", "tcp://", "tls://host", "tls://host:port", "tls://host:99999", "http://h:80",
                                     "ws://h:80", "inproc://1/2/3", "tls://user@host:1", "tls://host:1/path", "tcp://[::1:8786"])
def test_what_is_no_address_is_refused_in_a_sentence(address, dask_is_there):
    with pytest.raises(BadInput, match="no address of a Dask scheduler") as refusal:
        schedulers.find(address)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '"text"', "\0" * 200, "[" * 100_000])
def test_a_file_that_is_no_scheduler_file_is_named(content, dask_is_there):
    Path("scheduler.json").write_text(content)
    with pytest.raises(BadInput, match="scheduler.json"):
        schedulers.find("scheduler.json")


def arrived(batch, with_content=False, guarded=False):
    """What a worker reads of `batch`, with what travels."""
    form, pieces = batches.to_send(batch, with_content)
    assert all(len(piece) <= 4_000_000 for piece in pieces)
    return batches.read(form, pieces, 2, guarded), sum(map(len, pieces))


def test_pixels_arrive_as_they_are():
    features = np.random.default_rng(0).integers(0, 256, (40, 227, 227, 3), np.uint8)  # more than one piece
    (found, positions, refused), size = arrived(features)
    assert np.array_equal(found, features) and positions == list(range(40)) and refused == {} and size == features.nbytes


@pytest.mark.parametrize("with_content", [False, True])
def test_photos_in_files_arrive_and_those_that_cannot_be_used_are_named(with_content):
    Path("empty.png").touch()
    Path("text.png").write_text("no photo")
    paths = ["missing.png", photo("1.png", 1), "empty.png", photo("3.png", 3), "text.png"]
    (found, positions, refused), size = arrived(batches.in_files(paths, photos.read_sign), with_content)
    assert positions == [1, 3] and np.array_equal(found, photos.read_all(["1.png", "3.png"], photos.read_sign))
    assert sorted(refused) == [0, 2, 4] and all(str(refused[i]).startswith(paths[i]) for i in refused)
    assert (size > 0) == with_content


def test_a_file_that_is_another_one_here_is_not_read():
    form, _ = batches.to_send(batches.in_files([photo("1.png", 1)], photos.read_sign), False)
    Path("1.png").write_bytes(Path(photo("2.png", 2)).read_bytes())
    os.utime("1.png", (1, 1))
    with pytest.raises(batches.NotHere):
        batches.read(form, [], 1)


def test_photos_of_a_training_are_recognised_by_what_is_in_them():
    paths = [Path(photo(f"{i}.png", i)) for i in range(3)]
    whole = photo_files.PhotoFiles(paths, [hashlib.sha256(path.read_bytes()).digest() for path in paths], 32)
    right = whole[1:]
    form, pieces = batches.to_send(whole.part(slice(1, 3)), True)
    paths[1].write_bytes(paths[0].read_bytes())
    assert np.array_equal(batches.read(form, pieces, 1)[0], right)  # what travels is what was looked through
    form, pieces = batches.to_send(whole.part(slice(1, 3)), False)
    with pytest.raises(batches.NotHere):
        batches.read(form, pieces, 1)
    with pytest.raises(BadInput, match="1.png is gone, or has changed"):
        batches.to_send(whole.part(slice(1, 3)), True)


def test_a_photo_that_kills_its_reader_is_named_and_the_others_are_read(monkeypatch):
    Path("sitecustomize.py").write_text("""
import os
from PIL import Image
def opened(file, *rest, open=Image.open, **more):
    image = open(file, *rest, **more)
    return image if image.size != (13, 13) else os.kill(os.getpid(), 9)
Image.open = opened
""")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    for name, side in (("0.png", 40), ("1.png", 13), ("2.png", 40), ("3.png", 13)):
        Image.new("RGB", (side, side), "red").save(name)
    (found, positions, refused), _ = arrived(batches.in_files([f"{i}.png" for i in range(4)], photos.read_sign), guarded=True)
    assert positions == [0, 2] and len(found) == 2
    assert {position: str(error).split(":")[0] for position, error in refused.items()} == {
        position: f"{position}.png kills the process that reads it" for position in (1, 3)}


W = np.random.default_rng(1).normal(0, 0.1, (32 * 32 * 3, 5)).astype(np.float32)
SQUARE = np.random.default_rng(4).normal(0, 0.5, (5, 5)).astype(np.float32)
ALEXNET = {"fc6": (W, np.zeros(5, np.float32)), "fc7": (SQUARE, np.zeros(5, np.float32))}  # as from weights.load
SIGNS = np.random.default_rng(2).integers(0, 256, (300, 32, 32, 3), np.uint8)


def small_network():
    """A network with two variables of AlexNet's, one as transposed_fc has it, and one that is not AlexNet's."""
    def variable(name, array):
        return tf.get_variable(name, initializer=array, use_resource=True)

    images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
    hidden = tf.reshape(tf.cast(images, tf.float32), [-1, 3072]) / 255 @ variable("alexnet/fc6/weights", W)
    logits = tf.matmul(hidden, variable("alexnet/fc7/transposed_weights", SQUARE.T), transpose_b=True)
    return images, tf.nn.softmax(logits + variable("head/biases", np.arange(5, dtype=np.float32)), name="probabilities")


def closed_form(features, scale=1):
    logits = features.reshape(len(features), -1).astype(np.float64) / 255 @ (scale * W) @ SQUARE + np.arange(5)
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


@pytest.fixture
def workers_of_the_lab(monkeypatch):
    """Two workers of Dask and their scheduler, in this process."""
    from distributed import LocalCluster

    monkeypatch.setattr(shards, "PHOTOS", 128)
    monkeypatch.setattr(task, "_networks", {})
    monkeypatch.chdir(HERE)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, protocol="tcp",
                      dashboard_address="127.0.0.1:0") as cluster:
        with workers.connected(cluster.scheduler_address) as connected:
            yield connected


def on_the_workers(connected, session, scale=1):
    """The small network on the workers `connected`, its first variable multiplied by `scale` since it had AlexNet's weights."""
    images, output = small_network()
    session.run(tf.global_variables_initializer())
    first = tf.global_variables("alexnet/fc6/")[0]
    session.run(first.assign(scale * first))
    return workers.Network(connected, session, output, images, {"name": "small.npz", "fingerprint": "0" * 64}, ALEXNET)


@pytest.fixture
def network(workers_of_the_lab, monkeypatch):
    """The small network on these workers, which have been sent its variables."""
    monkeypatch.setattr(task, "_on_disk", lambda identity: None)
    with tf.Graph().as_default(), tf.Session() as session:
        yield on_the_workers(workers_of_the_lab, session)


@needs_dask
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_layer_that_finetuning_has_changed_is_not_taken_from_the_weights_file(workers_of_the_lab, monkeypatch, on_disk):
    monkeypatch.setattr(task, "_on_disk", lambda identity: ALEXNET if on_disk else None)
    with tf.Graph().as_default(), tf.Session() as session:
        found = dict(on_the_workers(workers_of_the_lab, session, scale=3).each(iter([SIGNS[:50]])))[0]
    np.testing.assert_allclose(found, closed_form(SIGNS[:50], scale=3), atol=1e-5)


@needs_dask
def test_batches_come_back_with_the_numbers_they_went_out_with(network):
    cut = [SIGNS[start:start + 128] for start in range(0, 300, 128)]
    found = dict(network.each(iter(cut)))
    assert sorted(found) == [0, 1, 2]
    for number, features in enumerate(cut):
        np.testing.assert_allclose(found[number], closed_form(features), atol=1e-5)
    assert [number for number, _ in network.each(iter(cut * 5), in_order=True)] == list(range(15))


@needs_dask
def test_a_wrong_answer_is_asked_for_again_and_its_worker_is_not_asked_again(network, monkeypatch, capsys):
    liar, asked = sorted(network._ready)[0], []

    def filled(*arguments, honest=task.filled):
        if task._worker().address != liar:
            return honest(*arguments)
        asked.append(1)
        return honest(*arguments) * np.nan

    monkeypatch.setattr(task, "filled", filled)
    found = np.concatenate([rows for _, rows in network.each((SIGNS[:50] for _ in range(20)), in_order=True)])
    np.testing.assert_allclose(found, np.tile(closed_form(SIGNS[:50]), (20, 1)), atol=1e-5)
    assert 1 <= len(asked) <= 4 and f"The worker {liar} is not used: it gives wrong answers" in capsys.readouterr().err


@needs_dask
def test_what_two_workers_answer_is_believed(network, monkeypatch):
    monkeypatch.setattr(task, "filled", lambda *arguments, honest=task.filled: honest(*arguments) * np.nan)
    assert np.isnan(dict(network.each(iter([SIGNS[:5]])))[0]).all()  # kept_features says that the weights are wrong


ARGS = SimpleNamespace(top=2, threshold=0.0, csv=None, jsonl=None, shards=None, photos=["."])


def answers_for(network, paths, **options):
    args = SimpleNamespace(**vars(ARGS) | options)
    return network.give(paths, photos.read_sign, list("abcde"), args)


@needs_dask
def test_shards_hold_the_answers_of_one_machine_and_a_second_run_makes_what_is_missing(network, tmp_path, monkeypatch):
    paths = [str(photo(tmp_path / f"{i}.png", i)) for i in range(300)]
    paths[7] = str(tmp_path / "missing.png")
    whole, folder = tmp_path / "whole.csv", tmp_path / "shards"
    assert answers_for(network, paths, csv=str(whole))[0] == 299
    assert answers_for(network, paths, shards=str(folder))[0] == 299
    header, *rows = whole.read_bytes().splitlines()

    def in_shards():
        lines = [path.read_bytes().splitlines() for path in sorted(folder.glob("*.csv"))]
        assert all(first == header for first, *_ in lines)
        return [row for _, *rest in lines for row in rest]

    assert in_shards() == rows
    manifest = [json.loads(line) for line in (folder / "manifest.jsonl").read_bytes().splitlines()]
    assert [name for line in manifest[1:] for name in line["names"]].count(paths[0]) == 1
    left_out = {name: why for line in manifest[1:] for name, why in line["left_out"].items()}
    assert list(left_out) == [paths[7]] and "does not exist" in left_out[paths[7]]
    for line in manifest[1:]:
        assert hashlib.sha256((folder / line["file"]).read_bytes()).hexdigest() == line["sha256"]

    made = []
    write = task._write
    monkeypatch.setattr(task, "_write", lambda file, *rest: made.append(Path(file.path).name) or write(file, *rest))
    (folder / "answers-000001.csv").write_text("damaged")
    photo(paths[299], 1000)
    os.utime(paths[299], (1, 1))
    with open(folder / "manifest.jsonl", "ab") as file:
        file.write(b'{"file": "answers-0000')  # a kill has cut this line short
    assert answers_for(network, paths, shards=str(folder))[0] == 299
    assert sorted(made) == ["answers-000001.csv", "answers-000002.csv"]
    assert in_shards()[:-1] == rows[:-1] and in_shards()[-1] != rows[-1]
    with pytest.raises(BadInput, match="holds shards of another network, of other options"):
        answers_for(network, paths, shards=str(folder), top=3)


@needs_dask
def test_features_in_shards_are_used_like_an_array(network, tmp_path):
    from lab.network import cuts

    cuts.KEPT["small"] = cuts.Kept(5, "float32")
    try:
        features = shards.outputs(network, tmp_path, SIGNS, "small")
    finally:
        del cuts.KEPT["small"]
    right = closed_form(SIGNS)
    assert features.shape == (300, 5) and features.dtype == np.float32 and len(list(tmp_path.glob("small/*.npy"))) == 3
    rows = np.random.default_rng(3).permutation(300)
    for some in (rows, rows[:7], slice(100, 200), 299, np.arange(300) % 2 == 0):
        np.testing.assert_allclose(features[some], right[some], atol=1e-5)


@needs_dask
def test_a_worker_that_lacks_something_is_refused_by_name(monkeypatch):
    import distributed

    from lab.cluster import examination

    limits = SimpleNamespace(memory_manager=SimpleNamespace(memory_limit=10**9))
    monkeypatch.setattr(distributed, "get_worker", lambda: limits)
    needed = examination.versions(HERE)
    path = list(sys.path)
    assert examination.examine(needed, 10**9) == [
        f"the lab, of which there is no clone in its working directory {os.getcwd()}"]
    shutil.copytree(HERE / "lab", "lab", ignore=shutil.ignore_patterns("__pycache__"))
    assert examination.examine(needed | {"numpy": "0.1"}, 2 * 10**9) == [
        f"numpy 0.1 (it has {np.__version__})",
        "memory: its limit is 1,000 MB, and the network takes 2,000 MB (start it with a larger --memory-limit)"]
    assert examination.examine(needed, 10**9) == []
    with open("lab/files.py", "a") as file:
        file.write("\n")
    assert examination.examine(needed, 10**9)[0].startswith("the lab ")
    sys.path[:] = path
