"""Whatever copy of GTSRB is named twice, as `--data X --test X`, the page reads two disjoint parts of it or refuses it.

`pytest -s tests/test_layouts.py` prints the table of all layouts, what the page has read of each, and its refusals.
"""

import json
from pathlib import Path

import copies
import numpy as np
import pytest
from samples import write_data

import train_feature_extraction
from lab.data import dataset, gtsrb
from lab.files import BadInput


def write_all():
    """Write every layout below the working directory."""
    copies.class_folders("authors/GTSRB/Final_Training/Images")
    copies.test_photos("authors/GTSRB/Final_Test/Images", "authors")
    copies.class_folders("own-folders/GTSRB_Final_Training_Images/GTSRB/Final_Training/Images")
    copies.test_photos("own-folders/GTSRB_Final_Test_Images/GTSRB/Final_Test/Images", "own-folders/GTSRB_Final_Test_GT")
    copies.class_folders("deep-authors/archive/GTSRB/Final_Training/Images")
    copies.test_photos("deep-authors/archive/GTSRB/Final_Test/Images", "deep-authors/archive")
    copies.torchvisions("data")
    copies.kaggles("kaggle")
    copies.kaggles("deep-kaggle/archive")
    copies.courses("course")
    copies.courses("deep-course/traffic-signs-data")
    copies.photo("photos/stop.png", (1, 2, 3))
    folders = [path.name for path in Path().iterdir()]
    for folder in folders:
        copies.strew_junk(folder)
    for folder in folders:
        copies.zipped(folder, f"zips/{folder}.zip")
    copies.zipped("data/gtsrb", "zips/gtsrb.zip")
    for archive in ("GTSRB_Final_Training_Images", "GTSRB_Final_Test_Images", "GTSRB_Final_Test_GT"):
        copies.zipped(f"own-folders/{archive}", f"zips/{archive}.zip")
    Path("fixed").mkdir()
    Path("data/gtsrb/GTSRB/Training").rename("fixed/Training")
    copies.zipped("fixed", "zips/GTSRB-Training_fixed.zip")
    Path("fixed/Training").rename("data/gtsrb/GTSRB/Training")


# What is named, and the numbers of training and of test photos in it.
LAYOUTS = {
    "authors": (9, 3),
    "authors/GTSRB": (9, 3),  # with the labels above it
    "authors/GTSRB/Final_Training": (9, 0),
    "authors/GTSRB/Final_Training/Images": (9, 0),
    "authors/GTSRB/Final_Training/Images/00014": (3, 0),
    "authors/GTSRB/Final_Test": (0, 3),
    "authors/GTSRB/Final_Test/Images": (0, 3),
    "own-folders": (9, 3),
    "deep-authors": (9, 3),
    "zips/authors.zip": (9, 3),
    "zips/own-folders.zip": (9, 3),
    "zips/deep-authors.zip": (9, 3),
    "zips/GTSRB_Final_Training_Images.zip": (9, 0),
    "zips/GTSRB_Final_Test_Images.zip": (0, 3),  # with the archive of labels beside it
    "data": (9, 3),  # torchvision's
    "data/gtsrb": (9, 3),
    "data/gtsrb/GTSRB": (9, 3),
    "data/gtsrb/GTSRB/Training": (9, 0),
    "data/gtsrb/GTSRB/Final_Test": (0, 3),
    "zips/data.zip": (9, 3),
    "zips/gtsrb.zip": (9, 3),
    "zips/GTSRB-Training_fixed.zip": (9, 0),
    "kaggle": (4, 1),
    "deep-kaggle": (4, 1),
    "zips/kaggle.zip": (4, 1),
    "zips/deep-kaggle.zip": (4, 1),
    "course": (5, 3),
    "deep-course": (5, 3),
    "zips/course.zip": (5, 3),  # traffic-signs-data.zip
    "zips/deep-course.zip": (5, 3),
    "photos": (0, 0),
    "zips/photos.zip": (0, 0),
}


@pytest.fixture
def named_twice(call, monkeypatch):
    """Call the page with `--data X --test X` until it has read both. Returns the Photos of each part, and the refusal or ""."""
    load, read = dataset.load, {}

    def note(path, part="train", *more):
        read[part] = load(path, part, *more)
        return read[part]

    def stop(*_):
        raise BadInput("STOP")

    def named_twice(path):
        read.clear()
        status, _, err = call(train_feature_extraction, "--data", path, "--test", path, "--weights", "builtin")
        assert status == 2 and "Traceback" not in err
        refusal = err.splitlines()[-1].partition(": ")[2]
        return dict(read), "" if refusal == "STOP" else refusal

    monkeypatch.setattr(dataset, "load", note)
    monkeypatch.setattr(dataset, "split", stop)
    return named_twice


def test_every_layout_named_twice_gives_two_disjoint_parts_or_is_refused(named_twice, request, capsys):
    write_all()
    table = ["layout | training photos | test photos | refusal", "---|---|---|---"]
    for path, (training, test) in LAYOUTS.items():
        photos, refusal = named_twice(path)
        kinds = {part: {"train" if colour < 100 else "test" if colour == 200 else "neither"
                        for colour in data.features[:, 16, 16, 0].tolist()} for part, data in photos.items()}
        rows = {part: len(data.labels) for part, data in photos.items()}
        assert kinds == {part: {part} for part in photos}, path  # no part is ever read for another
        if training and test:
            assert (rows, refusal) == ({"train": training, "test": test}, ""), path
        else:
            assert rows == ({"train": training} if training else {}), path
            missing = "test" if training else "training"
            expected = f"{path} has no {missing} photos: looked there and one folder deeper"
            assert (expected if training or test else f"{path} holds photos and no class folders") in refusal, path
            if test:
                assert "found the test photos (" in refusal, path
        table.append(f"{path} | {rows.get('train', '')} | {rows.get('test', '')} | {refusal}")
    for path in ("course/test.p", "kaggle/Train.csv", "data/gtsrb/GT-final_test.csv"):  # is whatever the user says it is
        photos, refusal = named_twice(path)
        count = len(photos["train"].labels)
        assert f"{path}: {count} of its {count} photos are byte for byte among the training photos" in refusal
        table.append(f"{path} | {count} | {count} | {refusal}")
    if request.config.getoption("capture") == "no":
        with capsys.disabled():
            print("", *table, sep="\n")


def test_the_archive_of_test_photos_needs_the_archive_of_labels_beside_it(named_twice):
    write_all()
    Path("zips/GTSRB_Final_Test_GT.zip").unlink()
    with pytest.raises(BadInput, match="^zips/GTSRB_Final_Test_GT.zip does not exist"):
        gtsrb.load("zips/GTSRB_Final_Test_Images.zip", "test")


def test_the_same_part_in_two_places_is_refused_and_both_are_named():
    copies.kaggles("both/kaggle")
    copies.class_folders("both/GTSRB/Training")
    with pytest.raises(BadInput, match="^both has the training photos twice, both/kaggle/Train.csv and both/GTSRB/Training: "
                                       "name one of them$"):
        gtsrb.load("both")
    copies.zipped("both", "both.zip")
    with pytest.raises(BadInput, match="both.zip/kaggle/Train.csv and both.zip/GTSRB/Training/: unpack it, and name one"):
        gtsrb.load("both.zip")
    assert gtsrb.load("both", "test").labels.tolist() == [16]
    copies.courses("both")
    with pytest.raises(BadInput, match="twice, both/test.p and both/kaggle/Test.csv"):
        gtsrb.load("both", "test")


def test_a_link_to_a_copy_is_no_second_copy():
    copies.class_folders("data/archive/Training")
    Path("data/link").symlink_to("archive")
    Path("data/Images").symlink_to("archive/Training")
    assert len(gtsrb.load("data").labels) == 9


def test_the_labels_may_be_copied_to_the_test_photos_and_those_of_other_photos_do_not_count():
    copies.torchvisions("data")
    labels = Path("data/gtsrb/GT-final_test.csv").read_text()
    Path("data/gtsrb/GTSRB/Final_Test/Images/GT-final_test.csv").write_text(labels)
    assert gtsrb.load("data", "test").labels.tolist() == [40, 41, 42]
    copies.kaggles("kaggle")
    Path("kaggle/Test/GT-final_test.csv").write_text(labels)
    assert gtsrb.load("kaggle", "test").labels.tolist() == [16]


def test_torchvisions_smaller_training_part_is_told_in_one_line(capsys):
    copies.torchvisions("data")
    for path in ("data", "data/gtsrb/GTSRB/Training"):
        gtsrb.load(path)
        assert capsys.readouterr().err == ("data/gtsrb/GTSRB/Training is torchvision's copy, which has an older training part: "
                                           "9 photos, not 39,209.\n")
    copies.class_folders("GTSRB/Final_Training/Images")
    gtsrb.load("GTSRB")
    assert capsys.readouterr().err == ""


def test_the_names_in_a_folder_without_a_copy_are_told():
    copies.photo("photos/stop.png", (1, 2, 3))
    copies.photo("photos/more/yield.png", (1, 2, 3))
    copies.strew_junk("photos")
    with pytest.raises(BadInput, match="^photos has no training photos: looked there and one folder deeper for train.p or "
                                       "Train.csv or 000CC/GT-000CC.csv, found more, stop.png: name a copy that has them$"):
        gtsrb.load("photos")


@pytest.mark.parametrize("path", ["course", "course/train.p", "deep", "course.zip", "deep.zip"])
def test_the_given_split_trains_on_train_p_and_validates_on_valid_p(path, capsys):
    copies.courses("course")
    copies.courses("deep/traffic-signs-data")
    for folder in ("course", "deep"):
        copies.zipped(folder, f"{folder}.zip")
    alone = gtsrb.load(path)
    assert "have no names, so they are called class 0 to class 4" in capsys.readouterr().err
    data, training, validation, how = dataset.split(alone, "given", Path(path))
    assert data.features[training, 0, 0].tolist() == [[label, 0, 0] for label in range(5)]
    assert data.features[validation, 0, 0].tolist() == [[100, 0, 0], [100, 1, 1]]
    assert how == "given" and data.labels.tolist() == [0, 1, 2, 3, 4, 0, 1] and data.features.dtype == np.uint8
    assert capsys.readouterr().err == ""

    unchanged, training, validation, how = dataset.split(alone, None, Path(path))
    assert unchanged is alone and how == "random" and sorted([*training, *validation]) == list(range(5))
    place, said = capsys.readouterr().err.splitlines()[0].split(" ", 1)
    assert place.startswith(f"{path.removesuffix('/train.p')}/") and place.endswith("valid.p")
    assert said == "is there and not used: --split given validates on it."


def test_the_given_split_is_refused_where_there_is_no_valid_p_or_one_of_training_photos():
    copies.kaggles("kaggle")
    Path("alone").mkdir()
    features, labels = write_data(90, "alone/train.p")
    for path in ("kaggle", "kaggle/Train.csv", "alone", "alone/train.p"):
        with pytest.raises(BadInput, match=f"^{path} comes without a valid.p, on which --split given validates: use --split r"):
            dataset.split(gtsrb.load(path), "given", Path(path))
    with pytest.raises(BadInput, match="^builtin comes without a valid.p"):
        dataset.split(gtsrb.load("kaggle"), "given", None)
    copies.dumped(features[40:], labels[40:], "alone/valid.p")
    with pytest.raises(BadInput, match="^alone/valid.p: 50 of its 50 photos are byte for byte among the training photos"):
        dataset.split(gtsrb.load("alone/train.p"), "given", Path("alone/train.p"))


@pytest.mark.slow
def test_a_training_with_the_given_split_is_resumed_with_the_same_one_only(call):
    features, labels = write_data(90)

    def split_at(count):
        copies.dumped(features[:count], labels[:count], "signs/train.p")
        copies.dumped(features[count:], labels[count:], "signs/valid.p")

    split_at(70)
    first = "--data", "signs", "--weights", "builtin", "--epochs", 1, "--split", "given"
    assert call(train_feature_extraction, *first)[0] == 0
    assert json.loads(Path("model/metrics.json").read_text())["validation"]["photos"] == 20
    for arguments, count, sentence in ((("--split", "random"), 70, "was trained with --split given, not random"),
                                       (("--split", "given"), 80, "was trained with other photos")):
        split_at(count)
        status, _, err = call(train_feature_extraction, "--data", "signs", "--weights", "builtin", "--epochs", 2, "--resume",
                              *arguments)
        assert status == 2 and sentence in err.splitlines()[-1]
