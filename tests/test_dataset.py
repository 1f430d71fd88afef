"""The front door to the photos: each kind of data finds its reader, its names, its size and its split."""

from pathlib import Path

import copies
import numpy as np
import pytest
from PIL import Image

from lab.data import dataset, drawn_signs, gtsrb
from lab.data.names import sign_names
from lab.data.photo_files import PhotoFiles
from lab.data.record import Photos
from lab.files import BadInput

RNG = np.random.default_rng(0)


def picture(path, size=(40, 36)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)).save(path)


def class_folders(root, names, count=3):
    for name in names:
        for i in range(count):
            picture(Path(root, name, f"{i}.png"))
    return root


def test_numbered_folders_of_all_of_gtsrbs_classes_have_its_names_and_the_size_of_signs():
    class_folders("signs/train", map(str, range(43)), 2)
    class_folders("signs/test", ["00014", "7"])
    data = dataset.load("signs")
    assert data.class_names == gtsrb.sign_names() and data.features.shape == (86, 32, 32, 3)
    assert data.labels.tolist() == np.repeat(np.arange(43), 2).tolist()
    assert dataset.load("signs", size=227).features[[0, 5]].shape == (2, 227, 227, 3)
    for number in range(4):  # all of 0 to 42 are not needed in a test part, and the order of the labels is training's
        picture(Path(f"signs/test/{number:03}/0.png"))
    test = dataset.load("signs", "test", size=32, class_names=data.class_names)
    assert test.class_names == data.class_names and test.labels.tolist() == [0, 1, 2, 3] + [7] * 3 + [14] * 3
    class_folders("others/test", ["43", "7"])
    with pytest.raises(BadInput, match="a class that the training photos lack, 43"):
        dataset.load("others", "test", class_names=data.class_names)


def test_names_for_numbered_folders_come_from_a_file_and_other_folders_keep_theirs():
    Path("names.txt").write_text("daisy\nrose\ntulip\n")
    class_folders("numbers", ["2", "0"])
    class_folders("kinds", ["tulip", "daisy"])
    data = dataset.load("numbers", names="names.txt")
    assert data.class_names == ["daisy", "tulip"] and data.labels.tolist() == [0] * 3 + [1] * 3
    assert isinstance(data.features, PhotoFiles) and data.features.shape == (6, 227, 227, 3)
    assert dataset.load("kinds", "test", names="names.txt", class_names=data.class_names).labels.tolist() == [0] * 3 + [1] * 3
    with pytest.raises(BadInput, match="they have names, such as daisy: leave --names out"):
        dataset.load("kinds", names="names.txt")
    class_folders("numbers", ["002"])
    with pytest.raises(BadInput, match="two of the classes 0, 002, 2 are the same one"):
        dataset.load("numbers", names="names.txt")
    assert dataset.load("numbers").class_names == ["0", "002", "2"]


def test_a_validation_folder_is_validated_on_unless_another_split_is_asked_for(capsys):
    class_folders("photos/train", ["daisy", "rose"], 6)
    class_folders("photos/val", ["rose"], 2)
    alone = dataset.load("photos")
    data, training, validation, how = dataset.split(alone, None, "photos")
    assert how == "given" and len(training) == 12 and data.labels[validation].tolist() == [1, 1]
    parts = [path.parent.parent.name for path in data.features.paths]
    assert {parts[row] for row in training} == {"train"} and {parts[row] for row in validation} == {"val"}
    capsys.readouterr()
    data, training, validation, how = dataset.split(alone, "random", "photos")
    assert data is alone and how == "random" and (len(training), len(validation)) == (8, 4)
    assert "validation folder of photos is there and not used" in capsys.readouterr().err


def test_without_a_validation_folder_each_class_is_split():
    data = dataset.load(class_folders("photos", ["daisy", "rose"], 6))
    _, training, validation, how = dataset.split(data, None, Path("photos"))
    assert how == "random" and np.bincount(data.labels[validation]).tolist() == [2, 2] and len(training) == 8
    with pytest.raises(BadInput, match="^photos comes without a folder named val, .*: use --split random$"):
        dataset.split(data, "given", Path("photos"))
    with pytest.raises(BadInput, match="^photos: no tracks found"):
        dataset.split(data, "track", Path("photos"))


def test_the_classes_of_folders_are_told_once(capsys):
    data = dataset.load(class_folders("photos", ["daisy", "rose"]))
    assert "daisy" in capsys.readouterr().err
    dataset.announce(data)
    assert capsys.readouterr().err == ""


def test_a_csv_file_is_read_by_its_columns():
    copies.kaggles("kaggle")
    class_folders("photos", ["daisy", "rose"])
    Path("photos/list.csv").write_text("path,label\ndaisy/0.png,1 white\nrose/0.png,2 red\n")
    assert dataset.load("photos/list.csv").class_names == ["1 white", "2 red"]
    assert dataset.load("kaggle/Train.csv").class_names == gtsrb.sign_names()


def test_drawn_signs_have_gtsrbs_names_or_43_others(monkeypatch):
    photos = Photos(np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 42]), sign_names(), None)
    monkeypatch.setattr(drawn_signs, "load", lambda: photos)
    assert dataset.load(None).class_names == dataset.load(None, names="gtsrb").class_names == sign_names()
    Path("names.txt").write_text("\n".join(f"Schild {i}" for i in range(43)))
    assert dataset.load(None, names="names.txt").class_names[42] == "Schild 42"
    Path("names.txt").write_text("Schild")
    with pytest.raises(BadInput, match="names.txt has 1 names, but GTSRB has 43"):
        dataset.load(None, names="names.txt")
