"""Tests that take long or need ../shared: a full-size weights file, training on real photos, Ctrl-C and kill."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parent / "shared"
SCRIPTS = ["imagenet_inference.py", "traffic_sign_inference.py", "feature_extraction.py", "train_feature_extraction.py"]

sys.path[:0] = [str(HERE), str(HERE / "tests"), str(HERE / "benchmarks"), str(SHARED / "tools")]

os.environ["LAB_OFFLINE"] = "1"

from bench import whole_process  # noqa: E402
from samples import saved, served  # noqa: E402

from lab import cpu  # noqa: E402
from lab.data import dataset, gtsrb  # noqa: E402
from lab.data.tracks import in_order, steps, track_numbers  # noqa: E402
from lab.network import weights  # noqa: E402
from lab.training import kept_features  # noqa: E402


def start(folder, script, *arguments):
    """Start a script in `folder` as a shell would: Ctrl-C reaches it, and TensorFlow's log is not silenced."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.Popen([sys.executable, HERE / script, *map(str, arguments)], cwd=folder, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def run(folder, script, *arguments):
    process = start(folder, script, *arguments)
    out, err = process.communicate()
    return process.returncode, out, err


@contextlib.contextmanager
def small_disk(folder, size):
    """Mount a disk of `size`, as mount spells it, at the new `folder`."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    """A full-size file pickled by Python 2, as bvlc-alexnet.npy is, and the arrays in it."""
    from write_python2_npy import save

    rng = np.random.default_rng(0)
    arrays = {layer: [rng.standard_normal(shape, np.float32) * np.float32(0.01), rng.standard_normal(shape[-1], np.float32)]
              for layer, shape in weights.SHAPES.items()}
    path = tmp_path_factory.mktemp("weights") / "bvlc-alexnet.npy"
    save(path, arrays)
    return path, arrays


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_published_file_is_read_bit_for_bit(order, stand_in):
    path, arrays = stand_in
    if order == "F":
        from write_python2_npy import save

        path = path.with_name("fortran.npy")
        save(path, {layer: [np.asfortranarray(array) for array in pair] for layer, pair in arrays.items()})
    loaded = weights.load(path)
    assert all(ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
               for layer in arrays for ours, theirs in zip(loaded[layer], arrays[layer]))


def test_inference_with_the_published_file_takes_less_than_1500_mb_and_700_more_than_tensorflow(stand_in):
    _, alone = whole_process(["-c", "import tensorflow"])
    _, whole = whole_process([str(HERE / "imagenet_inference.py"), "--weights", str(stand_in[0])])
    print(f"\npeak memory: {whole:.0f} MB, import tensorflow alone {alone:.0f} MB")
    assert whole < 1500 and whole - alone < 700


def test_a_layer_trained_on_real_photos_names_a_real_sign(tmp_path):
    seconds = time.time()
    status, out, err = run(tmp_path, "train_feature_extraction.py", "--data", SHARED / "gtsrb/train.p",
                           "--weights", "builtin", "--epochs", "3")
    print(f"\n{err}{out}{time.time() - seconds:.0f} seconds in all")
    assert status == 0
    assert float(re.findall("Accuracy = (.*)", out)[-1]) > 0.93
    assert "--split track holds out whole tracks" in err

    features, labels, *_ = dataset.load(SHARED / "gtsrb/train.p")
    sign = np.flatnonzero(labels == 14)[29]  # a stop sign in the last photo of its track, the closest one
    Image.fromarray(features[sign]).save(tmp_path / "sign.png")
    status, out, err = run(tmp_path, "feature_extraction.py", "sign.png", "--weights", "builtin")
    assert status == 0 and re.match(r"Image 0 sign.png\nStop: (0\.9|1\.0)", out)
    assert err == ""


def test_a_layer_trained_on_drawn_signs_alone_reads_real_photos_far_better_than_chance(tmp_path):
    import pickle

    photos, tracks = dataset.load(SHARED / "gtsrb/train.p"), np.load(SHARED / "gtsrb/true_tracks.npy")
    some = np.random.default_rng(0).choice(np.flatnonzero(tracks % 2), 1000, replace=False)  # ingredients.py uses even ones
    (tmp_path / "test.p").write_bytes(pickle.dumps({"features": photos.features[some], "labels": photos.labels[some]}))
    status, out, err = run(tmp_path, "train_feature_extraction.py", "--test", "test.p")
    assert status == 0 and "Traffic signs: drawn by the lab (train.p is not here)." in err
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    assert metrics["validation"]["accuracy"] > metrics["test"]["accuracy"] > 0.65 and metrics["test"]["photos"] == 1000
    status, out, _ = run(tmp_path, "feature_extraction.py")
    assert status == 0 and re.match(r"Image 0\nStop: (0\.9|1\.0)", out)


@pytest.mark.parametrize("preprocess", ["lab", "caffe"])
def test_both_conventions_run_with_a_file_of_the_published_kind(preprocess, stand_in, tmp_path):
    status, out, err = run(tmp_path, "imagenet_inference.py", "--preprocess", preprocess, "--weights", stand_in[0])
    assert status == 0 and re.fullmatch(f"Preprocessing: {preprocess} .*\n", err) and out.count("Image") == 2


FETCH = """
import sys
from lab import fetch
from lab.network import weights
fetch.fetch([fetch.Source("bvlc-alexnet.npy", {address: None for address in sys.argv[1:]}, weights.load)], fetch.Patience())
"""


def start_fetch(folder, *addresses):
    return subprocess.Popen([sys.executable, "-c", FETCH, *addresses], cwd=folder, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"PYTHONPATH": str(HERE)})


@pytest.fixture
def server(stand_in):
    from server import Server

    server = Server(stand_in[0].read_bytes())
    yield server
    server.close()


@pytest.mark.parametrize("ranges", [True, False])
def test_the_published_file_is_fetched_over_a_connection_that_breaks_ten_times(ranges, server, stand_in, tmp_path):
    server.ranges = ranges
    server.cut = [15_000_000 + 1_234_567 * i for i in range(10 if ranges else 1)]
    process = start_fetch(tmp_path, server.address)
    _, err = process.communicate()
    assert process.returncode == 0 and "content checked" in err
    assert os.listdir(tmp_path) == ["bvlc-alexnet.npy"]
    assert (tmp_path / "bvlc-alexnet.npy").read_bytes() == server.content
    assert len(server.requests) == (11 if ranges else 2)


def test_a_fetch_killed_ten_times_still_fetches_the_same_file(server, tmp_path):
    server.spread = 2.0  # seconds for the whole file, in 50 pieces
    for kill in range(10):
        process = start_fetch(tmp_path, server.address)
        while not any(part.stat().st_size > 20_000_000 * (kill + 1) for part in tmp_path.glob("*.part")):
            time.sleep(0.001)
        process.kill()
        process.communicate()
        assert not (tmp_path / "bvlc-alexnet.npy").exists()
    process = start_fetch(tmp_path, server.address)
    process.communicate()
    assert process.returncode == 0 and os.listdir(tmp_path) == ["bvlc-alexnet.npy"]
    starts = [int(request.get("Range", "bytes=0-")[6:-1]) for request in server.requests]
    assert len(starts) == 11 and all(start > 20_000_000 * i for i, start in enumerate(starts[1:], 1))
    assert (tmp_path / "bvlc-alexnet.npy").read_bytes() == server.content


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("known_length", [True, False])
def test_a_full_disk_is_given_as_the_reason_and_leaves_no_files(known_length, server, tmp_path):
    if not known_length:  # then the disk space cannot be checked beforehand, and the write fails
        server.headers = {"Content-Length": ""}
    with small_disk(tmp_path / "disk", "100m") as disk:
        process = start_fetch(disk, server.address)
        _, err = process.communicate()
        assert process.returncode != 0 and ("No space left" in err or "MB of disk space is needed" in err)
        assert os.listdir(disk) == []


def test_the_tracks_of_the_real_photos_are_recovered_whichever_photo_is_missing():
    features, labels, _, recovered = dataset.load(SHARED / "gtsrb/train.p")
    tracks = np.load(SHARED / "gtsrb/true_tracks.npy")
    assert np.array_equal(recovered, tracks)
    wrong = []
    for label in range(gtsrb.CLASSES):
        photos, number = features[labels == label], tracks[labels == label] - 1000 * label
        whole = steps(photos)
        for missing in range(len(photos)):  # changes one step and no other
            step = np.delete(whole, min(missing, len(whole) - 1))
            if 0 < missing < len(photos) - 1:
                step[missing - 1] = steps(photos[[missing - 1, missing + 1]])[0]
            if not np.array_equal(track_numbers(step), np.delete(number, missing)):
                wrong.append((label, missing))
    assert not wrong


def test_the_tracks_of_the_real_photos_are_recovered_if_each_class_lacks_one_photo_but_not_if_they_are_shuffled():
    features, labels, *_ = dataset.load(SHARED / "gtsrb/train.p")
    tracks = np.load(SHARED / "gtsrb/true_tracks.npy")
    random = np.random.default_rng(0)
    classes = [np.flatnonzero(labels == label) for label in range(gtsrb.CLASSES)]
    for _ in range(10):
        left = np.delete(np.arange(len(labels)), [random.choice(photos) for photos in classes])
        assert np.array_equal(in_order(features[left], labels[left]), tracks[left])
        for order in (random.permutation(left), np.concatenate([random.permutation(photos) for photos in classes])):
            assert in_order(features[order], labels[order]) is None


def small_data(path, count=200, start=0):
    import pickle

    features, labels, *_ = dataset.load(SHARED / "gtsrb/train.p")
    some = np.random.default_rng(0).permutation(len(features))[start:start + count]
    path.write_bytes(pickle.dumps({"features": features[some], "labels": labels[some]}))


@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_at_any_moment_ends_a_script_in_one_sentence(script, tmp_path):
    small_data(tmp_path / "train.p")
    arguments = ["--epochs", "3", "--overwrite"] if script.startswith("train") else []
    seconds = time.time()
    assert run(tmp_path, script, *arguments)[0] == 0
    whole = time.time() - seconds
    for moment in np.linspace(0.3, whole, 5):
        process = start(tmp_path, script, *arguments)
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err and "Exception" not in err
        last = err.splitlines()[-1] if err else ""
        assert process.returncode == 130 and last.startswith("Interrupted") or process.returncode == 0 and out


def test_a_training_killed_at_any_moment_leaves_the_old_layer_or_the_new_one(tmp_path):
    small_data(tmp_path / "train.p", 60)
    train = ["train_feature_extraction.py", "--epochs", "1", "--overwrite"]
    assert run(tmp_path, *train)[0] == 0
    seconds = time.time()
    assert run(tmp_path, *train)[0] == 0
    whole = time.time() - seconds
    for moment in [0.5 * whole, *np.linspace(0.8 * whole, whole, 4)]:
        process = start(tmp_path, *train)
        time.sleep(moment)
        process.kill()
        process.communicate()
        status, _, err = run(tmp_path, "feature_extraction.py")
        assert status == 0 and "untrained" not in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_reported_in_one_sentence_and_keeps_the_old_layer(tmp_path):
    small_data(tmp_path / "train.p", 60)
    with small_disk(tmp_path / "disk", "3500k") as disk:  # a checkpoint takes 2.1 MB
        train = ["train_feature_extraction.py", "--epochs", "1", "--no-cache", "--model", disk / "model"]
        assert run(tmp_path, *train)[0] == 0
        before = sorted(path.name for path in (disk / "model").iterdir())
        status, _, err = run(tmp_path, *train, "--overwrite")
        assert status == 2
        assert err.splitlines()[-1].endswith("the disk is full; what was saved before is still there")
        assert sorted(path.name for path in (disk / "model").iterdir()) == before
        assert run(tmp_path, "feature_extraction.py", "--model", disk / "model")[0] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_on_a_full_disk_no_files_remain_and_fc7_stays_in_memory(tmp_path, capsys):
    with small_disk(tmp_path / "disk", "8m") as disk:
        features = np.random.default_rng(0).integers(0, 256, (1000, 32, 32, 3), np.uint8)  # 16 MB of fc7

        def run_batch(batch):
            return np.tile(batch.reshape(len(batch), -1)[:, :1024].astype(np.float32), 4)

        fc7 = kept_features.outputs(run_batch, features, disk, "0" * 64)
        assert np.array_equal(fc7, run_batch(features)) and not isinstance(fc7, np.memmap)
        assert "cannot be written (the disk is full)" in capsys.readouterr().err
        assert os.listdir(disk) == []
        kept = kept_features.outputs(run_batch, features[:400], disk, "0" * 64)  # 6.6 MB
        assert np.array_equal(kept, run_batch(features[:400])) and isinstance(kept, np.memmap)
        del kept
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert isinstance(kept_features.outputs(None, features[:400], disk, "0" * 64), np.memmap)  # complete: nothing to write
        assert np.array_equal(kept_features.outputs(run_batch, features[:128], disk, "0" * 64), run_batch(features[:128]))
        assert "cannot be written (Read-only file system)" in capsys.readouterr().err


def epochs_done(model):
    return len(json.loads((model / "model.json").read_text())["history"]) if (model / "model.json").exists() else 0


def strike(folder, train, number, after, wait):
    """Resume a training, send it the signal `number`, `wait` seconds after epoch `after`, and return its status and stderr."""
    process = start(folder, *train, "--model", "interrupted", "--resume")
    while epochs_done(folder / "interrupted") < after:
        time.sleep(0.001)
        assert process.poll() is None
    time.sleep(wait)
    process.send_signal(number)
    _, err = process.communicate()
    assert "Traceback" not in err and process.returncode != 0  # it had not finished yet
    return process.returncode, err


def test_a_training_killed_ten_times_is_bit_identical_to_an_uninterrupted_one(tmp_path):
    small_data(tmp_path / "train.p")
    train = ["train_feature_extraction.py", "--epochs", "80", "--batch-size", "4"]
    assert run(tmp_path, *train, "--model", "uninterrupted")[0] == 0
    random = np.random.default_rng(0)
    before = []
    for kill in range(10):
        wait = random.uniform(0, 0.3)  # seconds: about an epoch and its save
        assert strike(tmp_path, train, signal.SIGKILL, 6 * kill, wait)[0] == -signal.SIGKILL
        before.append(epochs_done(tmp_path / "interrupted"))
    assert before[-1] < 80 and len(set(before)) > 5  # in ten different states
    assert run(tmp_path, *train, "--model", "interrupted", "--resume")[0] == 0
    assert saved(tmp_path / "interrupted") == saved(tmp_path / "uninterrupted")


@pytest.mark.skipif(not cpu.has_bfloat16(), reason="this CPU has no bfloat16 instructions")
def test_a_finetuning_in_bfloat16_is_bit_identical_when_resumed_and_saves_float32(tmp_path):
    small_data(tmp_path / "train.p", 60)
    finetune = ["train_feature_extraction.py", "--epochs", "1", "--finetune", "--precision", "bfloat16"]
    assert run(tmp_path, *finetune, "--finetune-epochs", "2", "--model", "uninterrupted")[0] == 0
    for epochs in ("1", "2"):
        assert run(tmp_path, *finetune, "--finetune-epochs", epochs, "--model", "resumed", "--resume")[0] == 0
    ours, history = saved(tmp_path / "resumed")
    assert (ours, history) == saved(tmp_path / "uninterrupted")
    assert [epoch["precision"] for epoch in history] == ["bfloat16"] * 3
    assert (np.frombuffer(ours["alexnet/fc7/weights"], np.uint32).reshape(4096, 4096) & 0xFFFF).any()  # not bfloat16's 16 bits


def test_a_finetuning_interrupted_and_killed_is_bit_identical_and_names_signs(tmp_path):
    small_data(tmp_path / "train.p", 120)
    small_data(tmp_path / "test.p", 120, start=120)
    finetune = ["train_feature_extraction.py", "--epochs", "2", "--finetune", "--finetune-epochs", "3", "--test", "test.p"]
    assert run(tmp_path, *finetune, "--model", "uninterrupted")[0] == 0
    random = np.random.default_rng(0)
    # A process that finds epoch `after` finished is struck while it starts: Ctrl-C is for those that train that epoch first.
    for after, number in ((2, signal.SIGKILL), (3, signal.SIGINT), (3, signal.SIGKILL), (4, signal.SIGINT)):
        status, err = strike(tmp_path, finetune, number, after, random.uniform(0, 3))  # seconds: about an epoch of three steps
        assert status == (-number if number == signal.SIGKILL else 130)
        assert number == signal.SIGKILL or "run the same command with --resume" in err
    assert run(tmp_path, *finetune, "--model", "interrupted", "--resume")[0] == 0
    ours, history = saved(tmp_path / "interrupted")
    assert (ours, history) == saved(tmp_path / "uninterrupted")
    assert [epoch["stage"] for epoch in history] == ["frozen"] * 2 + ["finetuned"] * 3
    assert len(list((tmp_path / "interrupted").glob("checkpoint-*"))) == 2  # one, in two files
    assert json.loads((tmp_path / "interrupted/metrics.json").read_text())["test"]["photos"] == 120

    alexnet = weights.load("builtin")
    for name, array in ((f"alexnet/{layer}/weights", alexnet[layer][0]) for layer in alexnet if layer != "fc8"):
        assert ours[name] != array.tobytes()  # every layer has learned
    status, _, err = run(tmp_path, "train_feature_extraction.py", "--model", "interrupted", "--resume")
    assert status == 0 and "No epochs are left" in err

    features = dataset.load(tmp_path / "train.p").features[:2]
    for i, photo in enumerate(features):
        Image.fromarray(photo).save(tmp_path / f"{i}.png")
    status, out, err = run(tmp_path, "feature_extraction.py", "0.png", "1.png", "--model", "interrupted")
    assert status == 0 and "untrained" not in err
    assert run(tmp_path, "train_feature_extraction.py", "--model", "interrupted", "--export", "exported")[0] == 0
    answers = served(tmp_path / "exported", features)
    first = [f"{name.decode()}: {row.max():.3f}" for name, row in zip(answers["names"], answers["probabilities"])]
    assert first == re.findall(r"^Image .*\n(.*)$", out, re.MULTILINE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_too_small_for_finetuning_is_reported_before_it_begins(tmp_path):
    small_data(tmp_path / "train.p", 60)
    with small_disk(tmp_path / "disk", "900m") as disk:  # a checkpoint takes 685 MB
        status, _, err = run(tmp_path, "train_feature_extraction.py", "--epochs", "1", "--finetune", "--model", disk / "model")
        assert status == 2 and "finetuning saves the layers that it trains" in err.splitlines()[-1]
        assert run(tmp_path, "feature_extraction.py", "--model", disk / "model")[0] == 0  # the frozen epoch is kept


# Thousands of photos through a page


def many_photos(folder, count):
    """`count` photos of 300x227 in a folder: one file, with as many names."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (227, 300, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "00000.png")
    for i in range(1, count):
        os.link(folder / "00000.png", folder / f"{i:05}.png")


def rows(path):
    return path.read_bytes().count(b"\r\n") - 1 if path.exists() else 0


def test_five_thousand_photos_take_no_more_memory_than_a_thousand_and_sigterm_keeps_whole_rows(tmp_path):
    """All of them, at 227x227, would take 800 MB."""
    count, unfinished = 5200, tmp_path / "a.csv.unfinished"
    many_photos(tmp_path / "photos", count)
    names = [f"photos/{i:05}.png" for i in range(count)]

    def watched(until):
        """A running page, and its anonymous memory in MB, at most, before and after its 1000th row."""
        process, most = start(tmp_path, "imagenet_inference.py", "photos", "--weights", "builtin", "--csv", "a.csv"), [0, 0]
        while process.poll() is None and rows(unfinished) < until:
            with contextlib.suppress(IndexError, FileNotFoundError, ProcessLookupError):
                memory = Path(f"/proc/{process.pid}/status").read_text().split("RssAnon:")[1].split()[0]
                late = rows(unfinished) > 1000
                most[late] = max(most[late], int(memory) / 1000)
            time.sleep(0.05)
        return process, most

    process, _ = watched(300)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    done = rows(unfinished)
    assert process.returncode == 143 and err.splitlines()[-2:] == [f"{unfinished.name} has the answers for {done} photos.",
                                                                   "Interrupted."]
    assert 300 <= done < count and done % 128 == 0
    assert [line.split(",")[0] for line in unfinished.read_text().splitlines()[1:]] == names[:done]
    assert "exists, which another run is writing, or has left" in run(tmp_path, "imagenet_inference.py", "--csv", "a.csv")[2]

    unfinished.unlink()
    process, (early, late) = watched(count + 1)
    out, err = process.communicate()
    print(f"\nanonymous memory: {early:.0f} MB up to the 1000th photo, {late:.0f} MB later")
    assert process.returncode == 0 and out.startswith("a.csv has the answers for 5,200 photos.\n")
    assert late < early + 100
    assert [line.split(",")[0] for line in (tmp_path / "a.csv").read_text().splitlines()[1:]] == names
