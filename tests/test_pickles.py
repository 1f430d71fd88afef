"""A pickle of photos of any classes: its labels, its names, the size of its photos, and what is refused."""

import hashlib
from pathlib import Path

import copies
import numpy as np
import pytest
from copies import dumped
from PIL import Image

from lab.data import dataset, gtsrb, names, splits
from lab.data.record import Photos
from lab.files import BadInput

RNG = np.random.default_rng(0)
FLOWERS = ["daisy", "dandelion", "rose", "sunflower", "tulip"]


def noise(count, height=32, width=32):
    return RNG.integers(0, 256, (count, height, width, 3), np.uint8)


def written(content, name="names.txt"):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


@pytest.mark.parametrize("labels, count", [
    ([0, 4, 2, 4], 5), ([1, 0, 1, 0], 2), (np.array([0, 1, 1999, 3], np.float32), 2000), (np.eye(4, 12), 12),
    (np.eye(4, 12, dtype=bool).tolist(), 12), (np.array([[0], [1], [6], [3]]), 7),
])
def test_the_labels_tell_how_many_classes_there_are_and_they_are_numbered(labels, count, capsys):
    data = dataset.load(dumped(noise(4), labels))
    assert data.class_names == [f"class {i}" for i in range(count)]
    assert data.labels.tolist() == (np.argmax(labels, axis=1) if np.shape(labels)[1:] == (12,) else np.ravel(labels)).tolist()
    notice, = capsys.readouterr().err.splitlines()
    assert f"class 0 to class {count - 1}: --names FILE" in notice and ("--names gtsrb" in notice) == (count <= 43)


@pytest.mark.parametrize("labels, more, source", [
    (range(43), {}, None), ([0, 41] * 20, {"sizes": 0, "coords": 0}, None), ([0, 41] * 20, {}, "gtsrb"),
    (np.eye(43)[[0, 7]], {}, "gtsrb"),
])
def test_gtsrbs_names_are_given_to_its_keys_to_labels_that_are_all_of_0_to_42_and_on_demand(labels, more, source, capsys):
    assert dataset.load(dumped(noise(len(labels)), list(labels), **more), names=source).class_names == gtsrb.sign_names()
    assert capsys.readouterr().err == ""


def test_a_file_of_names_comes_before_what_keys_and_labels_imply(capsys):
    numbers = written("\n".join(f"number {i}" for i in range(43)))
    for more in ({}, {"sizes": 0, "coords": 0}):
        assert dataset.load(dumped(noise(43), np.arange(43), **more), names=numbers).class_names[42] == "number 42"
    copies.kaggles("kaggle")
    assert dataset.load("kaggle", names=numbers).class_names[3] == "number 3"
    with pytest.raises(BadInput, match="flowers.txt has 5 names, but GTSRB has 43 classes"):
        dataset.load("kaggle", names=written("\n".join(FLOWERS), "flowers.txt"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text, expected", [
    ("daisy\nrose\n", ["daisy", "rose"]),
    (b"\xef\xbb\xbfdaisy\r\nrose\r\n\r\n", ["daisy", "rose"]),
    (" red, or pink \n\"white, or \"\"cream\"\"\"\n\"big\" ones\n雏菊\n$5_%\n",
     ["red, or pink", 'white, or "cream"', '"big" ones', "雏菊", "$5_%"]),
    ('ClassId,SignName\n1,rose\n0,"daisy, wild"\n', ["daisy, wild", "rose"]),
    (b'\xef\xbb\xbf"ClassId";"SignName"\r\n0;G\xc3\xa4nsebl\xc3\xbcmchen\r\n\r\n1;"a ""b"""\r\n', ["Gänseblümchen", 'a "b"']),
    ("Colour,signname,classid\nred,rose,1\nwhite,daisy,0", ["daisy", "rose"]),
])
def test_names_are_read_a_name_a_line_or_from_a_csv_file(text, expected):
    assert names.read_names(written(text)) == expected


@pytest.mark.parametrize("text, sentence", [
    ("", " is empty"),
    ("\n \n", "has no name for class 0"),
    ("daisy\n\nrose\n", "has no name for class 1"),
    ("daisy\nrose\ndaisy\n", "calls both class 0 and class 2 daisy"),
    ("daisy\nro\0se\n", "control characters"),
    ("daisy\n" + "r" * 201, "longer than 200 characters"),
    (b"G\xe4nsebl\xfcmchen\nrose\n", "not text in UTF-8"),
    ("daisy\nrose\n".encode("utf-16"), "not text in UTF-8"),
    ("0,daisy\n1,rose\n", "begin it with the line ClassId,SignName"),
    ("ClassId,Name\n0,daisy\n", "has a column ClassId but none SignName"),
    ("ClassId,SignName\n0,daisy\n0,rose\n", "has the ClassId 0 twice"),
    ("ClassId,SignName\n1,daisy\n2,rose\n", "has the ClassId 2 but not 0"),
    ("ClassId,SignName\n0,daisy\nx,rose\n", "line 3 has the ClassId 'x'"),
    ("ClassId,SignName\n0,daisy\n-1,rose\n", "line 3 has the ClassId '-1'"),
    ("ClassId,SignName\n0,daisy\n1\n", "has no name for class 1"),
    ("ClassId,SignName\n0,daisy\n1,daisy\n", "calls both class 0 and class 1 daisy"),
    ('ClassId,SignName\n0,"daisy\n1,rose\n', "not a csv file"),
    ("ClassId,SignName\n", "holds no names"),
])
def test_a_bad_file_of_names_is_refused_in_one_sentence(text, sentence):
    with pytest.raises(BadInput, match=f"^names.txt.*{sentence}") as refusal:
        names.read_names(written(text))
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


def test_names_that_do_not_fit_the_labels_are_refused():
    flowers = written("\n".join(FLOWERS))
    with pytest.raises(BadInput, match=r"labels\[1\] is 6, but names.txt has names for the classes 0 to 4$"):
        dataset.load(dumped(noise(3), [0, 6, 1]), names=flowers)
    with pytest.raises(BadInput, match=r"labels\[2\] is 5, .* 0 to 4: subtract 1 from all labels"):
        dataset.load(dumped(noise(3), [1, 2, 5]), names=flowers)
    with pytest.raises(BadInput, match=r"one-hot rows \[N, 5\]"):
        dataset.load(dumped(noise(3), np.eye(3, 6)), names=flowers)
    with pytest.raises(BadInput, match="nowhere.txt does not exist"):
        dataset.load(dumped(noise(3), [0, 1, 2]), names="nowhere.txt")


def test_photos_of_one_class_are_nothing_to_learn_from_but_may_be_tested_with():
    one = dumped(noise(3), [2, 2, 2], "test.p")
    with pytest.raises(BadInput, match="photos of one class only, class 2"):
        dataset.load(one)
    assert dataset.load(one, "test", class_names=FLOWERS).class_names == FLOWERS


def test_test_photos_have_trainings_classes_and_no_others(capsys):
    for labels in ([4, 0, 0], np.eye(5)[[4, 0, 0]]):
        data = dataset.load(dumped(noise(3), labels, "test.p", sizes=0, coords=0), "test", class_names=FLOWERS)
        assert data.class_names == FLOWERS and data.labels.tolist() == [4, 0, 0]
    with pytest.raises(BadInput, match=r"^test.p: labels\[1\] is 5, but training's classes are 0 to 4$"):
        dataset.load(dumped(noise(3), [4, 5, 0], "test.p"), "test", class_names=FLOWERS)
    with pytest.raises(BadInput, match=r"^test.p: .*one-hot rows \[N, 5\]"):
        dataset.load(dumped(noise(3), np.eye(3, 7), "test.p"), "test", class_names=FLOWERS)
    copies.kaggles("kaggle")
    with pytest.raises(BadInput, match="^kaggle holds GTSRB's 43 classes, but training has 5"):
        dataset.load("kaggle", "test", class_names=FLOWERS)
    assert capsys.readouterr().err == ""


def middle_square(photo):
    """The largest central square of `photo`, resized by Pillow to 227x227 with Lanczos' filter."""
    height, width = photo.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.asarray(Image.fromarray(photo[top:top + side, left:left + side]).resize((227, 227), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("listed", [True, False])
def test_larger_photos_are_resized_when_they_are_asked_for(listed):
    stored = [*noise(1, 300, 260), *noise(1, 227, 227), *noise(1, 20, 40), *noise(1, 64, 301)] if listed else noise(4, 50, 81)
    features = dataset.load(dumped(stored, [0, 1, 0, 1])).features
    expected = np.stack([middle_square(photo) for photo in stored])
    assert len(features) == 4 and features.shape == expected.shape == (4, 227, 227, 3) and features.dtype == np.uint8
    for rows in (slice(None), slice(1, 3), 2, -1, np.int64(1), np.array([3, 0, 3]), [2, 1], np.array([], int), slice(9, 12),
                 np.array([True, False, True, False])):
        read = features[rows]
        assert np.array_equal(read, expected[rows]) and read.dtype == np.uint8
    with pytest.raises(IndexError):
        features[4]


def test_the_size_is_32_for_small_photos_and_gtsrbs_and_227_for_others_unless_it_is_given():
    for stored, more, size in ((noise(3), {}, 32), (noise(3, 28, 28), {}, 32), (noise(3, 33, 20), {}, 227),
                               (noise(3, 48, 48), {"sizes": 0, "coords": 0}, 32)):
        path = dumped(stored, [0, 1, 2], **more)
        assert dataset.load(path).features.shape == (3, size, size, 3)
        for asked in (32, 227):
            assert dataset.load(path, size=asked).features.shape == (3, asked, asked, 3)


def test_gtsrbs_own_files_are_always_32():
    copies.kaggles("kaggle")
    assert dataset.load("kaggle", size=32).features.shape[1:] == (32, 32, 3)
    with pytest.raises(BadInput, match="^kaggle holds GTSRB's signs, which the lab reads as 32x32: leave --size 227 out$"):
        dataset.load("kaggle", size=227)


def test_photos_that_are_resized_when_asked_for_have_an_identity_and_are_known_again():
    stored, labels = noise(6, 40, 50), np.array([0, 1, 2, 0, 1, 2])
    path = Path(dumped(stored, labels))
    data = dataset.load(path)
    assert splits.identity(data, path) == splits.identity(dataset.load(dumped(list(stored), labels.tolist())), path)
    others = [dataset.load(path, size=32)]
    stored[5, 39, 49, 2] ^= 1  # in a corner that the central square does not have
    others += [dataset.load(dumped(stored, labels)), dataset.load(dumped(np.swapaxes(stored, 1, 2), labels))]
    assert len({splits.identity(each, path)["sha256"] for each in (data, *others)}) == 4
    with pytest.raises(BadInput, match="^test.p: 5 of its 6 photos are byte for byte among the training photos"):
        splits.check_apart(others[1], "test.p", data)


def test_the_identity_of_arrays_is_that_of_earlier_models():
    data = dataset.load(dumped(noise(3), [0, 1, 2]))
    sha256 = hashlib.sha256(data.features.tobytes() + data.labels.tobytes()).hexdigest()
    assert splits.identity(data, Path("train.p")) == {"name": "train.p", "sha256": sha256}


def test_the_given_split_reads_valid_p_at_the_size_and_with_the_classes_of_training():
    stored = noise(5, 40, 50)
    dumped(stored[:3], [0, 1, 4], "data/train.p")
    dumped(stored[3:], [4, 0], "data/valid.p", sizes=0, coords=0)
    for size in (32, 227):
        alone = dataset.load("data", names=written("\n".join(FLOWERS)), size=size)
        data, training, validation, how = dataset.split(alone, "given", Path("data"))
        assert (training.tolist(), validation.tolist(), how) == ([0, 1, 2], [3, 4], "given")
        assert data.features.shape == (5, size, size, 3) and data.class_names == FLOWERS
        assert data.labels.tolist() == [0, 1, 4, 4, 0]
        if size == 227:
            assert np.array_equal(data.features[validation], [middle_square(photo) for photo in stored[3:]])
    dumped(stored[3:], [4, 5], "data/valid.p")
    with pytest.raises(BadInput, match=r"^data/valid.p: labels\[1\] is 5, but training's classes are 0 to 4"):
        dataset.split(alone, "given", Path("data"))


def test_classes_that_a_small_random_split_leaves_nothing_of_to_train_on_are_told(capsys):
    held_out = splits.random_split(4)[1]
    labels = np.full(4, 1)
    labels[held_out] = 0
    data = Photos(noise(4), labels, ["rare", "common"], None)
    dataset.split(data, None, None)
    assert "leaves no photos of these classes to train on: rare." in capsys.readouterr().err


def test_the_classes_and_their_counts_are_told_in_one_line(capsys):
    def announced(counts, class_names):
        labels = np.repeat(np.arange(len(counts)), counts)
        dataset.announce(Photos(np.zeros((len(labels), 0)), labels, class_names, None))
        line, = capsys.readouterr().err.splitlines()
        return line

    assert announced([1200, 0, 2], ["daisy", "rose, wild", "雏菊"]) == (
        "3 classes, 1,202 photos: daisy (1,200), rose, wild (no photos), 雏菊 (2).")
    many = [f"kind {i}" for i in range(300)]
    assert announced([7] * 299 + [3], many) == "300 classes, 2,096 photos: from 3 of kind 299 to 7 of kind 0."
    line = announced([0] * 5 + [4] * 294 + [5], many)
    assert "from 4 of kind 5 to 5 of kind 299; no photos of kind 0, kind 1, kind 2 and 2 others." in line


@pytest.mark.parametrize("folders, source, expected", [
    ([f"{i:05}" for i in range(43)], None, None), ([str(i) for i in range(43)], None, None),
    ([str(i) for i in range(42)], None, [str(i) for i in range(42)]), (["daisy", "rose"], None, ["daisy", "rose"]),
    (["0", "2", "4"], "names.txt", ["daisy", "rose", "tulip"]),
])
def test_numbered_classes_are_gtsrbs_if_they_are_all_of_0_to_42_or_get_the_names_asked_for(folders, source, expected):
    written("\n".join(FLOWERS))
    assert names.names_of_numbers(folders, source) == (expected or gtsrb.sign_names())


def test_names_for_classes_that_have_names_or_other_numbers_are_refused():
    written("\n".join(FLOWERS))
    with pytest.raises(BadInput, match="they have names, such as daisy: leave --names out"):
        names.names_of_numbers(["0", "daisy"], "names.txt")
    with pytest.raises(BadInput, match="names.txt has 5 names, for the classes 0 to 4, but there is a class 5"):
        names.names_of_numbers(["0", "5"], "names.txt")


def test_what_is_gtsrbs_is_told_from_what_only_looks_like_it():
    copies.kaggles("kaggle")
    copies.class_folders("authors/Final_Training/Images")
    copies.courses("course")
    copies.photo("plain/00000/a.png", (1, 2, 3))  # numbered folders, without GTSRB's csv files
    copies.photo("plain/00014/a.png", (1, 2, 3))
    copies.photo("kinds/daisy/a.png", (1, 2, 3))
    Path("kinds/Train.csv").write_text("path,label\ndaisy/a.png,daisy\n")
    for folder in ("kaggle", "authors", "course", "plain", "kinds"):
        for path in (Path(folder), Path(copies.zipped(folder, f"{folder}.zip"))):
            assert gtsrb.is_copy(path) == (folder in ("kaggle", "authors", "course")), path
    for path, ours in (("course/test.p", True), ("kaggle/Test.csv", True), ("kinds/Train.csv", False),
                       ("authors/Final_Training/Images/00014", True),
                       ("authors/Final_Training/Images/00014/GT-00014.csv", True)):
        assert gtsrb.is_copy(Path(path)) == ours, path
    with pytest.raises(BadInput, match="nowhere does not exist"):
        gtsrb.is_copy(Path("nowhere"))
