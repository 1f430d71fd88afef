"""One bad file among many does not cost the others, and an error of the disk is not a bad file."""

import errno
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import mistake

import feature_extraction
import imagenet_inference
import traffic_sign_inference
import train_feature_extraction
from lab import command_line, files
from lab.data import dataset, photos
from lab.data.record import Photos
from lab.files import BadInput, DiskError
from lab.network import weights
from lab.training import options, plots

PAGES = [imagenet_inference, traffic_sign_inference, feature_extraction]

needs_proc = pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="reads fail with EIO in Linux's /proc")


def grey(name, shade=90):
    Image.new("RGB", (40, 40), (shade,) * 3).save(name)
    return name


def cut_short(name):
    Path(grey(name)).write_bytes(Path(name).read_bytes()[:60])
    return name


def on_a_failing_disk(name):
    """A file whose every read fails with EIO: address 0 of this process is not mapped."""
    os.symlink("/proc/self/mem", name)
    return name


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(files, "_PAUSES", (0, 0, 0))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_each_bad_photo_goes_on_and_ends_with_status_1(call, page):
    status, out, err = call(page, "nowhere.png", grey("1.png"), cut_short("2.png"), grey("3.png", 200), "--weights", "builtin")
    assert status == 1
    assert re.findall("^Image.*", out, re.MULTILINE) == ["Image 1 1.png", "Image 3 3.png"]
    assert err.splitlines()[:2] == ["nowhere.png does not exist: check the name, or put a photo there",
                                    "2.png is damaged or cut short: get the photo again"]
    alone = call(page, "3.png", "--weights", "builtin")[1]
    assert alone.splitlines()[1:6] == out.splitlines()[8:13]  # the answers stand below their own photos


@pytest.mark.parametrize("page", PAGES)
def test_a_page_ends_with_status_2_if_no_photo_can_be_read(call, page):
    status, out, err = call(page, cut_short("1.png"), cut_short("2.png"))
    assert (status, out) == (2, "")
    assert err.splitlines() == ["1.png is damaged or cut short: get the photo again",
                                f"{command_line.program()}: 2.png is damaged or cut short: get the photo again"]


@pytest.mark.parametrize("names, sentence", [
    (["nowhere.png"], "nowhere.png does not exist: check the name"),
    (["a.png", "b.png", "c.png"], "a.png does not exist, nor do the 2 others: check the names"),
])
def test_photos_none_of_which_exists_are_refused_before_tensorflow_is_imported(names, sentence):
    code = "import sys, imagenet_inference as page\ntry: page.main(sys.argv[1:])\nfinally: print('tensorflow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(files.HERE)})
    assert run.stdout == "False\n" and run.stderr.splitlines()[-1] == f"lab.files.BadInput: {sentence}"


def test_a_picture_of_answers_has_the_photos_own_numbers(call, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "answers", lambda *arguments, **named: drawn.append((arguments, named)))
    assert call(feature_extraction, cut_short("0.png"), grey("1.png"), "--plot", "a.png", "--weights", "builtin")[0] == 1
    assert drawn[0][0][4][drawn[0][1]["positions"][0]] == "1.png"


def write_copy(*names):
    """A copy of a class of GTSRB with 6 photos, and what `names` are replaced by: functions that write a file."""
    os.mkdir("00014")
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for frame in range(6):
        Image.new("RGB", (40, 40), (40 * frame,) * 3).save(f"00014/00000_{frame:05}.png")
        rows.append(f"00000_{frame:05}.png;40;40;5;5;35;35;14")
    Path("00014/GT-00014.csv").write_text("\n".join(rows))
    for frame, replace in zip((1, 4), names):
        path = f"00014/00000_{frame:05}.png"
        os.remove(path)
        replace(path)


def test_a_training_refuses_a_copy_with_a_bad_photo_and_names_it(call):
    write_copy(cut_short, lambda path: None)
    status, out, err = call(train_feature_extraction, "--data", "00014")
    assert (status, out) == (2, "")
    assert "00014/00000_00001.png is damaged or cut short" in mistake(err)
    assert "2 of 6 photos in 00014 cannot be used: train_feature_extraction.py --skip-bad leaves them out" in mistake(err)


def test_skip_bad_trains_on_the_others_and_says_how_many_are_left_out(call):
    write_copy(cut_short, lambda path: None)
    status, out, err = call(train_feature_extraction, "--data", "00014", "--epochs", 1, "--skip-bad")
    assert status == 0 and "Validation: 2 photos" in out
    left_out, = [line for line in err.splitlines() if line.startswith("2 of 6 photos in 00014 cannot be used and are left out")]
    assert "00000_00001.png is damaged" in left_out
    data = dataset.load("00014", skip_bad=True)
    assert type(data) is Photos and data.features[:, 0, 0, 0].tolist() == [0, 80, 120, 200]
    assert data.labels.tolist() == [14] * 4 and data.tracks.tolist() == [14000] * 4


def test_a_copy_without_any_good_photo_is_refused_even_with_skip_bad():
    write_copy()
    for path in Path("00014").glob("*.png"):
        cut_short(path)
    with pytest.raises(BadInput, match="GT-00014.csv lists no photo that can be used: 00014/00000_00000.png is damaged"):
        dataset.load("00014", skip_bad=True)


def test_skip_bad_is_no_setting_of_the_training_that_a_resumed_one_must_repeat():
    assert options.settings(options.parse(["--skip-bad"])) == options.settings(options.parse([]))


# An error of the disk or of a network drive


@needs_proc
@pytest.mark.parametrize("read", [
    photos.read, weights.load, files.sha256, lambda path: files.check(path, "a photo"), lambda path: files.reading(path).read(),
])
def test_a_file_on_a_failing_disk_is_not_called_damaged(no_pauses, read):
    with pytest.raises(DiskError, match="mem cannot be read: Input/output error .an error of the disk") as error:
        read(on_a_failing_disk("mem"))
    assert "damaged" not in str(error.value)


@needs_proc
def test_a_page_ends_at_a_failing_disk(call, no_pauses):
    status, out, err = call(imagenet_inference, grey("0.png"), on_a_failing_disk("1.png"), grey("2.png"))
    assert (status, out) == (2, "") and "1.png cannot be read: Input/output error" in mistake(err)


@needs_proc
def test_a_photo_on_a_failing_disk_is_not_skipped(call, no_pauses):
    write_copy(cut_short, on_a_failing_disk)
    status, out, err = call(train_feature_extraction, "--data", "00014", "--skip-bad")
    assert (status, out) == (2, "") and "00000_00004.png cannot be read: Input/output error" in mistake(err)


def failing(call, times, number=errno.EIO):
    """`call`, which fails before it does what it should, `times` times."""
    left = [times]

    def fails(*arguments):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return call(*arguments)

    return fails


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT])
def test_what_a_disk_fails_to_do_is_tried_three_times_more(no_pauses, number):
    data = np.random.default_rng(0).bytes(100_000)
    Path("file").write_bytes(data)
    assert files._persistently(failing(Path("file").read_bytes, 3, number), "file") == data
    with pytest.raises(DiskError, match="file cannot be read"):
        files._persistently(failing(Path("file").read_bytes, 4, number), "file")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EINVAL])
def test_a_fault_of_the_file_is_not_tried_again(number):
    with pytest.raises(OSError) as error:
        files._persistently(failing(int, 1, number), "file")
    assert error.value.errno == number


@pytest.mark.parametrize("look", [lambda: files.check("x.png", "a photo"),
                                  lambda: photos.batches(["x.png"], photos.read_sign, 9),
                                  lambda: command_line.existing()("x.png") and photos.read("x.png")])
def test_a_file_on_a_network_drive_that_is_not_connected_is_not_said_to_be_missing(no_pauses, monkeypatch, look):
    def stat(path, stat=os.stat, **options):
        if str(path) == "x.png":
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), path)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "lstat", stat)
    with pytest.raises(DiskError, match="x.png cannot be read: Transport endpoint is not connected"):
        look()


def test_a_tiff_that_libtiff_cannot_read_from_a_failing_disk_is_not_called_damaged(no_pauses, monkeypatch):
    """libtiff reads by itself, and would only say that it failed; here it fails because the file is damaged."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)).save("a.tif", compression="tiff_lzw")
    whole = Path("a.tif").read_bytes()
    Path("a.tif").write_bytes(whole[:1000] + b"\xff" * 20_000 + whole[21_000:])
    with pytest.raises(BadInput, match="a.tif is damaged or cut short"):
        photos.read("a.tif")
    monkeypatch.setattr(files, "sha256", lambda path: files._persistently(failing(int, 9), path))
    with pytest.raises(DiskError, match="a.tif cannot be read"):
        photos.read("a.tif")


def test_a_pickle_on_a_failing_disk_is_not_called_damaged(no_pauses, monkeypatch):
    Path("train.p").write_bytes(pickle.dumps({"features": np.zeros((9, 32, 32, 3), np.uint8), "labels": np.zeros(9, int)}))
    monkeypatch.setattr(files._Persistent, "readinto", lambda file, buffer: files._persistently(failing(int, 9), file.name))
    with pytest.raises(BadInput, match="train.p cannot be read") as error:
        dataset.load("train.p")
    assert "damaged" not in str(error.value)
