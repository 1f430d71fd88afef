"""Photos of any classes are found where people keep them, and what cannot be told is refused in a sentence."""

import os
import shutil
import sys
import unicodedata
import zipfile
from pathlib import Path

import copies
import numpy as np
import pytest
from PIL import Image
from test_photo_files import picture

from lab.data import class_folders, photo_files, photos
from lab.files import BadInput

SEEDS = iter(range(10 ** 6))  # no two photos are alike


def photo(path, seed=None):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture(next(SEEDS) if seed is None else seed, (24, 20)).save(path)
    return Path(path)


def write(*names, count=2, folder="photos"):
    """Write `count` photos into each of the folders `names` in `folder`."""
    for name in names:
        for number in range(count):
            photo(Path(folder, name, f"{number}.png"))
    return Path(folder)


def zipped(folder="photos"):
    return copies.zipped(folder, f"{folder}.zip")


def counts(path, part="train", **options):
    """{class: number of photos} of what is loaded, after checking that each photo is in the class that its path says."""
    data = class_folders.load(path, part, **options)
    for path, label in zip(data.features.paths, data.labels):
        assert unicodedata.normalize("NFC", data.class_names[label]) in unicodedata.normalize("NFC", str(path)).split("/")
    assert len(data.features) == len(data.labels) and data.labels.dtype == np.int64 and data.tracks is None
    return dict(zip(data.class_names, np.bincount(data.labels, minlength=len(data.class_names)).tolist()))


def refused(path, *words, part="train", **options):
    with pytest.raises(BadInput) as refusal:
        class_folders.load(path, part, **options)
    sentence = str(refusal.value)
    assert all(str(word) in sentence for word in words), sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("place", ["a folder", "a zip file"])
@pytest.mark.parametrize("above", ["", "flowers", "flowers/images"])
def test_each_folder_is_a_class_whatever_folders_are_stepped_through(place, above):
    write("daisy", "roses", count=3, folder=Path("photos", above))
    path = zipped() if place == "a zip file" else "photos"
    data = class_folders.load(path)
    assert counts(path) == {"daisy": 3, "roses": 3} and data.features.shape == (6, 227, 227, 3)
    whole = class_folders.load(path, size=32).features
    assert np.array_equal(whole[4], photos.read_sign(Path("photos", above, "roses/1.png")))
    assert class_folders.has_part(path, "train") and not class_folders.has_part(path, "valid")


@pytest.mark.parametrize("place", ["a folder", "a zip file"])
@pytest.mark.parametrize("train, valid, test", [
    ("train", "val", "test"), ("Training", "VALIDATION", "Testing"), ("TRAIN", "valid", "TEST"), ("x/train", "x/val", "x/test"),
    ("train/images", "val/images", "test"), ("train/train", "val/val", "test/test"), (".", "val", "test"),
])
def test_parts_are_never_classes(place, train, valid, test):
    write(f"{train}/daisy", f"{train}/roses", count=3)
    write(f"{valid}/daisy", f"{valid}/roses", f"{test}/daisy", count=1)
    path = zipped() if place == "a zip file" else "photos"
    assert counts(path) == {"daisy": 3, "roses": 3}
    assert counts(path, "valid", class_names=["daisy", "roses"]) == {"daisy": 1, "roses": 1}
    assert counts(path, "test", class_names=["daisy", "roses"]) == {"daisy": 1, "roses": 0}
    assert all(class_folders.has_part(path, part) for part in ("train", "valid", "test"))


def test_a_folder_without_parts_is_what_it_is_said_to_be_but_it_has_no_validation_photos():
    write("train/daisy", "train/roses", "more/daisy", "more/roses")
    assert counts("photos/train") == counts("photos/more", "test") == {"daisy": 2, "roses": 2}
    refused("photos/train", "no validation photos", part="valid")
    assert not class_folders.has_part("photos/train", "valid")
    assert refused("photos", "no test photos", "photos/train", part="test")


def test_a_part_that_is_there_twice_or_holds_nothing_is_no_part():
    write("train/daisy", "train/roses", "val/daisy", "Validation/daisy")
    refused("photos", "twice", "photos/val", "photos/Validation", part="valid")
    shutil.rmtree("photos/val/daisy")
    assert counts("photos", "valid", class_names=["daisy", "roses"]) == {"daisy": 2, "roses": 0}
    shutil.rmtree("photos/Validation/daisy")
    assert not class_folders.has_part("photos", "valid")


def test_photos_beside_the_parts_are_told(capsys):
    write("train/daisy", "train/roses", "tulips")
    assert counts("photos") == {"daisy": 2, "roses": 2}
    assert "photos/tulips/0.png" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["a folder", "a zip file"])
def test_what_systems_leave_in_folders_is_neither_class_nor_photo(place):
    write("train/daisy", "train/roses", "val/daisy")
    copies.strew_junk("photos")
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN", "#recycle"):
        for above in ("", "train", "train/daisy", "val"):
            photo(Path("photos", above, name, "daisy/1.jpg"))
            photo(Path("photos", above, name, "1.jpg"))
    for name in ("THUMBS.DB", "._1.jpg", ".hidden.png"):
        Path("photos/train/roses", name).write_bytes(b"junk")
    path = zipped() if place == "a zip file" else "photos"
    assert counts(path) == {"daisy": 2, "roses": 2}
    assert counts(path, "valid", class_names=["daisy", "roses"]) == {"daisy": 2, "roses": 0}


def test_numbers_come_in_numeric_order_then_names_in_the_order_of_unicode():
    write("10", "9", "007", "1", "b", "a", "Z", "é", "10a", "雏菊", count=1)
    assert list(counts("photos")) == ["1", "007", "9", "10", "10a", "Z", "a", "b", "é", "雏菊"]


@pytest.mark.parametrize("place", ["a folder", "a zip file"])
def test_names_may_be_anything_that_a_folder_may_be_called(place):
    names = ["雏菊", "two words", "a,b", 'a "quoted" one', "it's", "$x_1$", "a;b", " led", "100%", "трава", "🌻", "new\nline"]
    write(*names)
    path = zipped() if place == "a zip file" else "photos"
    assert counts(path) == dict.fromkeys(sorted(names), 2)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not keep both forms of a name")
def test_names_are_the_same_in_both_forms_of_unicode():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    write(f"train/{decomposed}", "train/roses", f"val/{composed}")
    assert list(counts("photos")) == [composed, "roses"]
    assert counts("photos", "valid", class_names=[composed, "roses"]) == {composed: 2, "roses": 0}
    write(f"train/{composed}")
    refused("photos", "same name", f"photos/train/{decomposed}")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has UTF-8 names only")
def test_a_class_name_that_is_no_text_is_refused():
    write("daisy", os.fsdecode(b"\xff"))
    refused("photos", "UTF-8")


def test_classes_and_counts_are_told_before_the_photos_are_read(capsys, monkeypatch):
    write("daisy", count=3)
    write("roses", count=1)
    monkeypatch.setattr(photo_files, "scan", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        class_folders.load("photos")
    told = capsys.readouterr().err
    assert "4 training photos of 2 classes" in told and "daisy: 3, roses: 1" in told


def test_300_classes_of_which_the_largest_and_the_smallest_are_told(capsys):
    write(*map(str, range(300)), count=1)
    write("7", count=3)
    data = class_folders.load("photos")
    assert data.class_names == list(map(str, range(300))) and np.bincount(data.labels)[7] == 3
    told = capsys.readouterr().err
    assert "302 training photos of 300 classes" in told and len(told) < 1000


@pytest.mark.parametrize("place", ["a folder", "a zip file"])
def test_one_class_only_is_refused(place):
    write("daisy")
    refused(zipped() if place == "a zip file" else "photos", "one class only", "daisy")
    write("other/flowers/daisy", folder="deep")
    refused("deep", "one class only", "daisy")


@pytest.mark.parametrize("place", ["a folder", "a zip file"])
def test_an_empty_class_is_refused_by_name(place):
    write("daisy", "roses")
    Path("photos/tulips").mkdir()
    refused(zipped() if place == "a zip file" else "photos", "photos", "tulips holds no photos")
    Path("photos/tulips/list.txt").touch()
    refused("photos", "photos/tulips holds no photos", "1 .txt")


def test_a_class_whose_photos_are_all_bad_is_refused_by_name():
    write("daisy", "roses")
    for number in range(2):
        Path(f"photos/roses/{number}.png").write_bytes(b"no photo")
    refused("photos", "roses", skip_bad=True)


def test_a_class_without_photos_in_a_part_is_told_and_one_that_training_lacks_is_refused(capsys):
    write("train/daisy", "train/roses", "val/roses")
    Path("photos/val/daisy").mkdir()
    data = class_folders.load("photos", "valid", class_names=["daisy", "roses"])
    assert data.class_names == ["daisy", "roses"] and data.labels.tolist() == [1, 1]
    assert "daisy: no photos" in capsys.readouterr().err
    write("val/Roses")
    refused("photos", "Roses", "training photos lack", part="valid", class_names=["daisy", "roses"])


@pytest.mark.parametrize("names, seems", [
    (["images/daisy", "images/roses", "samples"], "photos/images"),
    (["images/daisy", "images/roses", "images/tulips", "more/daisy", "more/roses"], "photos/images"),
    (["a/images/daisy", "a/images/roses", "b/x"], "photos/a/images"),
    (["x/train/images/daisy", "x/train/images/roses", "x/train/old"], "photos/x/train/images"),
])
@pytest.mark.parametrize("place", ["a folder", "a zip file"])
def test_where_the_levels_do_not_tell_the_classes_the_folder_that_seems_to_hold_them_is_named(place, names, seems):
    write(*names)
    path = zipped() if place == "a zip file" else "photos"
    refused(path, "seems to be " + seems.replace("photos/", f"{path}/"))


def test_folders_beside_a_wrapper_make_it_none():
    write("images/daisy", "images/roses")
    Path("photos/annotations").mkdir()
    Path("photos/annotations/1.xml").touch()
    refused("photos", "seems to be photos/images")
    assert counts("photos/images") == {"daisy": 2, "roses": 2}


def test_parts_below_the_classes_are_refused():
    write("daisy/train", "daisy/val", "roses/train", "roses/val")
    refused("photos", "photos/daisy", "parts must be above the classes")
    write("daisy", "roses", folder="others")
    write("daisy/test", folder="others")
    refused("others", "others/daisy")


def test_folders_below_a_class_folder_with_photos_belong_to_the_class(capsys):
    write("daisy", "daisy/2019", "daisy/2020/may", "roses")
    assert counts("photos") == {"daisy": 6, "roses": 2}
    assert "photos/daisy/2019" in capsys.readouterr().err


def test_photos_in_no_class_folder_are_told_or_refused_if_they_are_many(capsys):
    write("daisy", "roses")
    photo("photos/cover.jpg")
    assert counts("photos") == {"daisy": 2, "roses": 2}
    assert "cover.jpg" in capsys.readouterr().err
    write(".", count=4)
    refused("photos", "5 photos beside its class folders")
    write(".", folder="flat")
    refused("flat", "no class folders")


def test_files_that_are_no_photos_are_counted_by_suffix(capsys):
    write("daisy", "roses")
    for name in ("a.txt", "b.TXT", "c.xml", "LICENSE", "1.png.part"):
        Path("photos/daisy", name).write_text("text")
    Path("photos/README.md").write_text("text")
    assert counts("photos") == {"daisy": 2, "roses": 2}
    told = capsys.readouterr().err
    assert "5 files" in told and "2 .txt" in told and "1 without a suffix" in told


@pytest.mark.parametrize("name, content", [
    ("nothing", None), ("empty.zip", b""), ("photos.txt", b"text"), ("broken.zip", b"PK\3\4" + bytes(50)),
    ("train.p", b"\x80\4."),
])
def test_what_holds_no_photos_is_refused(name, content):
    if content is not None:
        Path(name).write_bytes(content)
    refused(name, name)
    Path("folder/daisy").mkdir(parents=True)
    refused("folder", "folder")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="links")
def test_links_are_followed_but_never_in_circles():
    write("daisy", folder="elsewhere")
    write("roses")
    Path("photos/daisy").symlink_to("../elsewhere/daisy", target_is_directory=True)
    Path("photos/roses/up").symlink_to("..", target_is_directory=True)
    Path("photos/roses/itself").symlink_to("itself")
    Path("photos/loop").symlink_to(".", target_is_directory=True)
    Path("photos/roses/2.png").symlink_to("../../elsewhere/daisy/0.png")
    Path("elsewhere/daisy/0.png").rename("elsewhere/0.png")
    Path("photos/roses/2.png").unlink()
    Path("photos/roses/2.png").symlink_to("../../elsewhere/0.png")
    assert counts("photos") == {"daisy": 1, "roses": 3}
    Path("photos/roses/3.png").symlink_to("nowhere.png")
    refused("photos", "photos/roses/3.png does not exist", "1 of 5 photos")


def test_a_bad_photo_is_refused_or_left_out_with_a_notice(capsys):
    write("daisy", "roses")
    Path("photos/daisy/0.png").write_bytes(Path("photos/daisy/0.png").read_bytes()[:200])
    Path("photos/roses/a.jpg").touch()
    refused("photos", "photos/daisy/0.png is damaged", "2 of 5 photos", "--skip-bad")
    assert counts("photos", skip_bad=True) == {"daisy": 1, "roses": 2}
    assert "2 of 5 photos" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["a folder", "a zip file"])
def test_a_photo_in_two_classes_is_refused_and_both_are_named(place):
    write("daisy", "roses")
    shutil.copy("photos/daisy/1.png", "photos/roses/other.png")
    path = zipped() if place == "a zip file" else "photos"
    refused(path, f"{path}/daisy/1.png", f"{path}/roses/other.png", "two classes, daisy and roses")


def test_a_photo_twice_in_one_class_is_a_near_copy():
    write("daisy", "roses", count=3)
    shutil.copy("photos/daisy/1.png", "photos/daisy/other.png")
    assert counts("photos") == {"daisy": 4, "roses": 3}


def test_a_second_run_reads_no_photo_again(monkeypatch):
    write("train/daisy", "train/roses", "val/daisy")
    for part in ("train", "valid"):
        class_folders.load("photos", part, cache="cache", class_names=["daisy", "roses"])
    monkeypatch.setattr(photo_files, "_look", lambda path: 1 / 0)
    for part in ("train", "valid"):
        class_folders.load("photos", part, cache="cache", class_names=["daisy", "roses"])


# csv files


def listed(text, encoding="utf-8", name="list.csv"):
    Path(name).write_bytes(text.encode(encoding))
    return name


@pytest.mark.parametrize("text, encoding", [
    ("path,label\nphotos/daisy/0.png,daisy\nphotos/roses/0.png,roses\n", "utf-8"),
    ("Label , Path\r\n daisy,photos/daisy/0.png\r\n\r\nroses, photos/roses/0.png\r\n,\r\n", "utf-8-sig"),
    ('path;label;note\nphotos/daisy/0.png;daisy;"a;b"\nphotos/roses/0.png;roses;', "utf-8"),
    ('"path"\t"label"\n"photos/daisy/0.png"\t"daisy"\nphotos\\roses\\0.png\troses', "utf-8"),
    ("path,label\rphotos/daisy/0.png,daisy\rphotos/roses/0.png,roses\r", "utf-8"),
    ("path,label\nphotos/daisy/0.png,daisy\nphotos/x/../roses/0.png,roses\nphotos/daisy/0.png,daisy\n", "utf-8"),
])
def test_a_csv_file_lists_photos_and_labels(text, encoding):
    write("daisy", "roses")
    data = class_folders.load(listed(text, encoding))
    assert data.class_names == ["daisy", "roses"] and data.labels.tolist() == [0, 1]
    assert np.array_equal(data.features[1], photos.read_imagenet("photos/roses/0.png"))


def test_paths_are_relative_to_the_csv_file_or_absolute_and_may_be_named_like_anything():
    write("daisy", "a, b")
    text = f'path,label\ndaisy/0.png,"daisy, white"\n{Path("photos/daisy/1.png").absolute()},"say ""no"""\n"a, b/0.png",雏菊\n'
    data = class_folders.load(listed(text, name="photos/list.csv"))
    assert data.class_names == ["daisy, white", 'say "no"', "雏菊"] and data.labels.tolist() == [0, 1, 2]
    assert not class_folders.has_part("photos/list.csv", "valid")
    refused("photos/list.csv", "no validation photos", part="valid")
    assert class_folders.load("photos/list.csv", "test", class_names=["x", *data.class_names]).labels.tolist() == [1, 2, 3]


@pytest.mark.parametrize("text, words", [
    ("path,label\nphotos/daisy/0.png,\nphotos/roses/0.png,roses\n", ["line 2", "label"]),
    ("path,label\nphotos/roses/0.png,roses\n  ,daisy\n", ["line 3", "path"]),
    ("path,label\nphotos/daisy/0.png,daisy\nphotos/daisy/../daisy/0.png,roses\n", ["line 3", "two labels, daisy and roses"]),
    ("path,label\nphotos/daisy/0.png,daisy\nphotos/roses/0.png,roses, red\n", ["line 3", "3 columns"]),
    ("path,label\nphotos/daisy/0.png\n", ["line 2", "1 columns"]),
    ("path,label\nphotos/daisy/0.png,daisy\nphotos/daisy/gone.png,roses\n", ["gone.png does not exist", "1 of 2 photos"]),
    ("path,label\nphotos/daisy/0.png,daisy\nphotos/daisy/1.png,daisy\n", ["one class only", "daisy"]),
    ('path,label\nphotos/daisy/0.png,"daisy\nphotos/daisy/1.png,roses\n', ["list.csv", "damaged"]),
    ("path,label\n", ["no photos"]), ("photos/daisy/0.png,daisy\n", ["path,label"]), ("name,class\na,b\n", ["path,label"]),
    ("path,label\nphotos/daisy/\0.png,daisy\nphotos/roses/0.png,roses\n", ["list.csv"]),
    ("path,label\n" + 1000 * "x" + ",daisy\nphotos/roses/0.png,roses\n", ["xxx"]),
])
def test_a_csv_file_that_cannot_be_right_is_refused(text, words):
    write("daisy", "roses")
    refused(listed(text), *words)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_csv_file_that_is_not_in_utf_8_is_refused(encoding):
    refused(listed("path,label\na.png,größe\n", encoding), "list.csv", "UTF-8")


# The split


def loaded(**sizes):
    """Photos of classes of these sizes, none a copy of another."""
    for name, count in sizes.items():
        write(name, count=count)
    return class_folders.load("photos")


def test_a_third_of_each_class_is_held_out_at_random_and_always_the_same():
    data = loaded(a=3, b=30, c=10, d=2)
    training, validation = class_folders.split(data)
    assert sorted([*training, *validation]) == list(range(45)) and training.dtype == validation.dtype == np.int64
    assert np.bincount(data.labels[validation]).tolist() == [1, 10, 3, 1]
    assert np.array_equal(class_folders.split(class_folders.load("photos"))[1], validation)
    assert not np.array_equal(np.diff(validation), np.ones(len(validation) - 1))  # no run of neighbours


def test_near_copies_stay_on_one_side_with_a_notice(capsys):
    data = loaded(a=12, b=9)
    for number in range(12):
        image = Image.open(f"photos/a/{number}.png").resize((96, 80))
        for copy in range(number % 3):
            image.save(f"photos/a/copy {copy} of {number}.jpg", quality=90 - 10 * copy)
    data = class_folders.load("photos")
    training, validation = class_folders.split(data)
    assert "12 photos of 33" in capsys.readouterr().err
    trained, held_out = ({data.features.paths[row].stem.split(" of ")[-1] for row in rows if data.labels[row] == 0}
                         for rows in (training, validation))
    assert trained.isdisjoint(held_out) and len(trained | held_out) == 12
    assert np.bincount(data.labels[validation]).tolist() == [8, 3]


@pytest.mark.parametrize("copies_of_one, others, held_out", [(20, 1, 1), (20, 2, 2), (2, 1, 1), (1, 2, 1)])
def test_however_many_copies_there_are_both_sides_get_photos(copies_of_one, others, held_out):
    write("a", count=others)
    write("b", count=3)
    for number in range(copies_of_one):
        photo(f"photos/a/copy{number}.png", seed=10 ** 6)
    data = class_folders.load("photos")
    validation = class_folders.split(data)[1]
    assert np.bincount(data.labels[validation]).tolist() == [held_out, 1]


def test_a_class_of_one_photo_or_of_its_copies_is_refused_by_name():
    data = loaded(a=3, b=1)
    with pytest.raises(BadInput, match="class b has one photo"):
        class_folders.split(data)
    for number in range(4):
        shutil.copy("photos/b/0.png", f"photos/b/copy{number}.png")
    with pytest.raises(BadInput, match="class b has 5 photos, all near copies") as refusal:
        class_folders.split(class_folders.load("photos"))
    assert "val" in str(refusal.value)
    write("val/a", "val/b")  # what the sentence advises
    assert counts("photos") == {"a": 3, "b": 5} and class_folders.has_part("photos", "valid")


def test_a_zip_file_with_a_password_is_refused():
    write("daisy", "roses")
    data = Path(zipped()).read_bytes()
    with zipfile.ZipFile("photos.zip") as archive:
        start = archive.start_dir
    Path("photos.zip").write_bytes(data[:start] + data[start:].replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"))
    refused("photos.zip", "encrypted")
