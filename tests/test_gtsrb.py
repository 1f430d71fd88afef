"""Every common copy of GTSRB yields the same features, labels and tracks; a bad copy is refused in one sentence."""

import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import copies
import numpy as np
import pytest
import python2
from copies import dumped, zipped
from hostile import RunsCode
from PIL import Image

from lab.data import gtsrb, splits
from lab.data.record import Photos
from lab.data.tracks import in_order
from lab.files import BadInput

RNG = np.random.default_rng(0)


def signs(count):
    return RNG.integers(0, 256, (count, 32, 32, 3), np.uint8)


def in_gtsrbs_order(tracks_of_classes):
    """Photos in the order of train.p, class by class: tracks of 30, each of them near copies of one picture."""
    labels, tracks = [], []
    for label, count in tracks_of_classes.items():
        for track in range(count):
            frames = 29 if (label, track) == (33, 19) else 30
            labels += [label] * frames
            tracks += [1000 * label + track] * frames
    pictures = dict(zip(dict.fromkeys(tracks), signs(len(set(tracks))) // 2))
    features = np.stack([pictures[track] + RNG.integers(0, 20, (32, 32, 3), np.uint8) for track in tracks])
    return features, np.array(labels), np.array(tracks)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, list])
def test_a_pickle_is_read_whatever_the_type_of_its_integer_labels(dtype):
    features, labels = signs(5), [3, 1, 4, 1, 42]
    path = dumped(features, labels if dtype is list else np.array(labels, dtype), sizes=np.zeros((5, 2)))
    got_features, got_labels, _, tracks = gtsrb.load(path)
    assert np.array_equal(got_features, features) and got_features.dtype == np.uint8
    assert got_labels.tolist() == labels and got_labels.dtype == np.int64
    assert tracks is None


ONE_HOT = np.eye(43)[[3, 1, 4, 1, 42]]


@pytest.mark.parametrize("labels", [
    np.array([3, 1, 4, 1, 42], np.float32), [3.0, 1.0, 4.0, 1.0, 42.0], [3, 1.0, np.float32(4), np.uint8(1), 42],
    (3, 1, 4, 1, 42), np.array([[3], [1], [4], [1], [42]]), np.array([[3.0], [1], [4], [1], [42]]), [[3], [1], [4], [1], [42]],
    ONE_HOT, ONE_HOT.astype(np.uint8), ONE_HOT.astype(bool), ONE_HOT.tolist(), list(ONE_HOT), ONE_HOT.astype(int).tolist(),
], ids=lambda labels: f"{type(labels).__name__} {getattr(labels, 'dtype', '')} {np.shape(labels)}")
def test_labels_are_read_as_whole_floats_as_one_hot_rows_and_as_a_column(labels):
    read = gtsrb.load(dumped(signs(5), labels)).labels
    assert read.tolist() == [3, 1, 4, 1, 42] and read.dtype == np.int64


@pytest.mark.parametrize("protocol", [2, 4])
def test_features_are_read_as_a_list_of_arrays(protocol):
    features = signs(5)
    for listed in (list(features), tuple(features)):
        Path("train.p").write_bytes(pickle.dumps({"features": listed, "labels": list(range(5))}, protocol))
        read = gtsrb.load("train.p").features
        assert np.array_equal(read, features) and read.dtype == np.uint8


def test_photos_of_other_sizes_in_a_pickle_are_resized_as_files_are():
    sizes = [(32, 32), (8, 300), (60, 40), (15, 15), (32, 33)]
    pictures = [RNG.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    resized = [np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.LANCZOS)) for picture in pictures]
    rows = []
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(f"{i}.png")
        rows.append(f"{i}.png;{i}")
    Path("photos.csv").write_text("\n".join(["Filename;ClassId", *rows]))
    for path, size in ((dumped(pictures, list(range(5))), 32), ("photos.csv", None)):
        assert np.array_equal(gtsrb.load(path, size=size).features, resized)
    batch = RNG.integers(0, 256, (3, 48, 64, 3), np.uint8)
    assert np.array_equal(gtsrb.load(dumped(batch, [0, 1, 2]), size=32).features,
                          [np.asarray(Image.fromarray(photo).resize((32, 32), Image.Resampling.LANCZOS)) for photo in batch])


def test_a_pickle_of_python_2_is_read():
    features, labels = signs(3), np.array([0, 1, 2])
    Path("train.p").write_bytes(python2.dump({"features": features, "labels": labels}))
    assert np.array_equal(gtsrb.load("train.p").features, features)


def test_tracks_are_found_from_the_order_of_the_photos():
    features, labels, tracks = in_gtsrbs_order({7: 2, 33: 23, 0: 1})
    assert np.array_equal(gtsrb.load(dumped(features, labels)).tracks, tracks)
    features, labels, tracks = in_gtsrbs_order({33: 20})
    assert np.array_equal(in_order(features, labels), tracks)


def test_no_tracks_are_claimed_where_every_class_would_have_a_single_one():
    assert in_order(*in_gtsrbs_order({3: 1, 5: 1, 8: 1})[:2]) is None  # 30 photos of each class, of anything


@pytest.mark.parametrize("missing", [[0], [17], [29], [30], [75], [89], [3, 4], [29, 30], [0, 89], [40, 70], [59, 90]])
def test_tracks_are_found_when_a_class_lacks_one_photo_or_two(missing):
    features, labels, tracks = (np.delete(array, missing, axis=0) for array in in_gtsrbs_order({0: 3, 1: 2}))
    assert np.array_equal(gtsrb.load(dumped(features, labels)).tracks, tracks)


def test_the_largest_class_may_lack_two_photos_but_a_larger_one_is_not_gtsrbs():
    features, labels, tracks = (np.delete(array, [700, 1500], axis=0) for array in in_gtsrbs_order({2: 76}))
    assert np.array_equal(in_order(features[:-30], labels[:-30]), tracks[:-30])
    assert in_order(features, labels) is None


@pytest.mark.parametrize("missing", [[5], [35], [65], [5, 35], [5, 80], [35, 36], [60]])
@pytest.mark.parametrize("last", ["like the next sign", "dark, before a dark sign"])
def test_the_last_photo_of_a_track_stays_in_it_even_if_it_is_more_like_the_next_one(last, missing):
    features, labels, tracks = in_gtsrbs_order({0: 4})
    features[60:90] = features[60]  # far away, where photos hardly differ
    if last == "like the next sign":
        features[59] = 0.45 * features[59] + 0.55 * features[60]
    else:
        features[59:] = 0.3 * features[59:]
    step = np.abs(np.diff(features.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert step[58] > 1.1 * step[59]
    features, labels, tracks = (np.delete(array, missing, axis=0) for array in (features, labels, tracks))
    assert np.array_equal(in_order(features, labels), tracks)


@pytest.mark.parametrize("spoil", ["shuffled", "shuffled within the classes", "shuffled, two missing", "three missing"])
def test_no_tracks_are_claimed_when_the_order_does_not_support_them(spoil):
    features, labels, _ = in_gtsrbs_order({0: 3, 1: 3})
    within = np.r_[RNG.permutation(90), 90 + RNG.permutation(90)]
    order = {"shuffled": RNG.permutation(180), "three missing": np.arange(3, 180),
             "shuffled within the classes": within, "shuffled, two missing": within[2:]}[spoil]
    assert gtsrb.load(dumped(features[order], labels[order])).tracks is None


@pytest.fixture
def authors_copy():
    """Two classes of the authors' training photos, and their test photos with the labels from their own archive."""
    copies.class_folders("unpacked/GTSRB/Final_Training/Images")
    copies.test_photos("unpacked-test/GTSRB/Final_Test/Images", "unpacked-test")


@pytest.mark.parametrize("folder", ["unpacked", "unpacked/GTSRB", "unpacked/GTSRB/Final_Training",
                                    "unpacked/GTSRB/Final_Training/Images"])
def test_the_authors_training_photos_are_read_from_any_folder_above_them(authors_copy, folder):
    features, labels, _, tracks = gtsrb.load(folder)
    assert labels.tolist() == [0] * 6 + [14] * 3
    assert tracks.tolist() == [0] * 3 + [1] * 3 + [14000] * 3
    assert features.shape == (9, 32, 32, 3)
    expected = [[label, track % 1000, i % 3] for i, (label, track) in enumerate(zip(labels, tracks))]
    assert features[:, 16, 16].tolist() == expected


def test_the_photos_of_one_class_are_read(authors_copy):
    assert gtsrb.load("unpacked/GTSRB/Final_Training/Images/00014").tracks.tolist() == [14000] * 3


def test_a_class_without_its_csv_file_is_not_skipped(authors_copy):
    os.remove("unpacked/GTSRB/Final_Training/Images/00014/GT-00014.csv")
    with pytest.raises(BadInput, match="GT-00014.csv does not exist"):
        gtsrb.load("unpacked")


@pytest.mark.parametrize("place", ["", "GTSRB", "GTSRB/Final_Test", "GTSRB/Final_Test/Images"])
@pytest.mark.parametrize("by", ["folder", "csv"])
def test_the_authors_test_photos_are_read_with_the_labels_from_the_other_archive(authors_copy, place, by):
    csv = Path("unpacked-test/GT-final_test.csv").rename(Path("unpacked-test", place, "GT-final_test.csv"))
    path = csv if by == "csv" else "unpacked-test"
    features, labels, _, tracks = gtsrb.load(path, "test")
    assert labels.tolist() == [40, 41, 42] and tracks is None
    assert features[:, 0, 0].tolist() == [[200, 0, 0], [200, 1, 1], [200, 2, 2]]


def test_test_photos_without_labels_are_refused_with_advice_where_to_get_them(authors_copy):
    os.remove("unpacked-test/GT-final_test.csv")
    with pytest.raises(BadInput, match="GT-final_test.test.csv has no column ClassId: .*GTSRB_Final_Test_GT.zip"):
        gtsrb.load("unpacked-test/GTSRB/Final_Test/Images", "test")


@pytest.fixture
def kaggles_copy():
    copies.kaggles("kaggle")


def test_kaggles_copy_is_read(kaggles_copy):
    features, labels, _, tracks = gtsrb.load("kaggle")
    assert labels.tolist() == [3, 3, 20, 20] and tracks.tolist() == [3007, 3007, 20007, 20007]
    assert features[:, 9, 9].tolist() == [[3, 7, 0], [3, 7, 1], [20, 7, 0], [20, 7, 1]]
    for path, part in (("kaggle", "test"), ("kaggle/Test.csv", "test"), ("kaggle/Test.csv", "train")):
        features, labels, _, tracks = gtsrb.load(path, part)
        assert labels.tolist() == [16] and tracks is None and features[0, 9, 9].tolist() == [200, 0, 0]


def test_the_authors_archives_are_read_without_unpacking_them(authors_copy):
    os.makedirs("labels")
    os.rename("unpacked-test/GT-final_test.csv", "labels/GT-final_test.csv")
    training = gtsrb.load(zipped("unpacked", gtsrb.TRAIN_ZIP))
    for ours, theirs in zip(training, gtsrb.load("unpacked")):
        assert np.array_equal(ours, theirs)
    zipped("unpacked-test", gtsrb.TEST_ZIP)
    with pytest.raises(BadInput, match="GTSRB_Final_Test_GT.zip does not exist"):
        gtsrb.load(gtsrb.TEST_ZIP, "test")
    zipped("labels", gtsrb.TEST_LABELS_ZIP)
    test = gtsrb.load(gtsrb.TEST_ZIP, "test")
    assert test.labels.tolist() == [40, 41, 42] and test.features[:, 0, 0, 1].tolist() == [0, 1, 2]


def test_a_damaged_archive_is_refused_in_one_sentence(authors_copy):
    whole = Path(zipped("unpacked", "whole.zip")).read_bytes()
    for start in range(0, len(whole), 97):
        Path("photos.zip").write_bytes(whole[:start] + bytes(30) + whole[start + 30:])
        try:
            gtsrb.load("photos.zip")
        except BadInput as error:
            assert "photos.zip" in str(error) and len(str(error)) < 300
    for length in range(1, len(whole), 97):
        Path("photos.zip").write_bytes(whole[:length])
        with pytest.raises(BadInput, match="photos.zip"):
            gtsrb.load("photos.zip")


def test_checking_an_archive_finds_one_wrong_byte_in_a_photo():
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.writestr("00000.ppm", b"P6 pixels")
    gtsrb.check_zip("photos.zip")
    Path("photos.zip").write_bytes(Path("photos.zip").read_bytes().replace(b"pixels", b"pixelz"))
    with pytest.raises(BadInput, match="photos.zip is damaged"):
        gtsrb.check_zip("photos.zip")


def test_a_zip_bomb_is_refused_before_it_is_unpacked():
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Final_Training/Images/00000/GT-00000.csv", bytes(50_000_000))
    with pytest.raises(BadInput, match="50,000,000 bytes"):
        gtsrb.load("bomb.zip")


def test_zip_files_that_only_unpacking_helps_with_say_so(kaggles_copy):
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile("photos.zip", "w", method) as archive:
            archive.writestr("train.p", b"photos")
        with pytest.raises(BadInput, match="photos.zip is encrypted or compressed in an unusual way: unpack it"):
            gtsrb.load("photos.zip")
    zipped("kaggle", "photos.zip")
    data = bytearray(Path("photos.zip").read_bytes())
    entry = data.index(b"PK\1\2")
    data[entry + 8] |= 1  # encrypted
    Path("photos.zip").write_bytes(data)
    with pytest.raises(BadInput, match="photos.zip is encrypted"):
        gtsrb.load("photos.zip")


def test_a_pickle_in_a_zip_may_be_larger_than_a_photo_but_not_without_limit():
    os.mkdir("course")
    features = np.zeros((4000, 32, 32, 3), np.uint8)
    features[:, 0, 0, 0] = RNG.integers(0, 256, 4000)
    dumped(features, np.arange(4000) % 2, "course/train.p")
    assert np.array_equal(gtsrb.load(zipped("course", "course.zip")).features, features)
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("train.p", "w") as file:
        for _ in range(300):
            file.write(bytes(1_000_000))
    with pytest.raises(BadInput, match="bomb.zip holds a file of 300,000,000 bytes, train.p, larger than any of GTSRB's"):
        gtsrb.load("bomb.zip")


@pytest.mark.parametrize("method, claimed", [(zipfile.ZIP_STORED, 18), (zipfile.ZIP_DEFLATED, 22)])  # both sizes, or one
def test_a_pickle_that_is_smaller_than_its_zip_file_says_takes_no_memory_and_is_refused(method, claimed):
    with zipfile.ZipFile("train.zip", "w", method) as archive:
        archive.writestr("train.p", b"\x80\x04\x8e" + (200_000_000).to_bytes(8, "little") + b"photos")
    data = bytearray(Path("train.zip").read_bytes())
    for header, start in ((b"PK\3\4", claimed), (b"PK\1\2", claimed + 2)):
        for place in range(start, 26 if header == b"PK\3\4" else 28, 4):
            data[data.index(header) + place:data.index(header) + place + 4] = (240_000_000).to_bytes(4, "little")
    Path("train.zip").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(BadInput, match="^train.zip.* is damaged"):
        gtsrb.load("train.zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("header", [b"PK\3\4", b"PK\1\2"])
def test_a_name_in_a_zip_that_is_not_the_utf_8_it_is_said_to_be_is_refused_in_one_sentence(header):
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.writestr("\xe9.ppm", b"P6")
    data = bytearray(Path("photos.zip").read_bytes())
    name = data.index("\xe9".encode(), data.index(header))
    data[name:name + 2] = b"\xff\xfe"
    Path("photos.zip").write_bytes(data)
    for read in (gtsrb.check_zip, gtsrb.load):
        with pytest.raises(BadInput, match="^photos.zip (is damaged or cut short|has no training photos)"):
            read("photos.zip")


def test_a_zip_whose_files_would_begin_before_it_is_refused_in_one_sentence():
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.writestr("00000.ppm", b"P6")
    data = bytearray(Path("photos.zip").read_bytes())
    start = data.index(b"PK\5\6") + 16  # where the directory is said to be
    data[start:start + 4] = (int.from_bytes(data[start:start + 4], "little") + 5000).to_bytes(4, "little")
    Path("photos.zip").write_bytes(data)
    for read in (gtsrb.check_zip, gtsrb.load):
        with pytest.raises(BadInput, match="^photos.zip is damaged"):
            read("photos.zip")


def test_test_photos_among_the_training_photos_are_refused_from_one_percent_and_told_below(capsys):
    training = Photos(signs(40), np.zeros(40, int), gtsrb.sign_names(), None)
    for count, shared, refused in ((100, 1, True), (101, 1, False), (250, 3, True), (250, 2, False), (1, 1, True)):
        features = np.concatenate([signs(count - shared), training.features[7:7 + shared]])
        test = Photos(features, np.zeros(count, int), gtsrb.sign_names(), None)
        sentence = f"test.p: {shared} of its {count} photos are byte for byte among the training photos"
        if refused:
            with pytest.raises(BadInput, match=sentence):
                splits.check_apart(test, "test.p", training)
        else:
            splits.check_apart(test, "test.p", training)
        assert capsys.readouterr().err == (f"{sentence}.\n" if shared and not refused else "")


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))
    return "kaggle"


@pytest.mark.parametrize("spoil, sentence", [
    (lambda: edit("kaggle/Train.csv", ",20,Train", ",43,Train"), "Train.csv: .*has class 43, .*0 to 42"),
    (lambda: edit("kaggle/Train.csv", ",20,Train", ",-1,Train"), "has class -1"),
    (lambda: edit("kaggle/Train.csv", "20/00020_00007_00001", "20/00021_00007_00001"), "21_00007_00001.png does not exist"),
    (lambda: edit("kaggle/Train.csv", ",Path", ",Place"), "without a Filename or Path"),
    (lambda: edit("kaggle/Train.csv", Path("kaggle/Train.csv").read_text(), "Width,Path\n"), "lists no photos"),
    (lambda: os.truncate("kaggle/Train.csv", 0) or "kaggle", "Train.csv is empty"),
    (lambda: os.truncate("kaggle/Train.csv", 70) or "kaggle", "without a Filename or Path"),
    (lambda: Path("kaggle/Train.csv").write_bytes(b"\xff\xfe\0" * 9) and "kaggle", "is not a csv file"),
    (lambda: [os.remove(f"kaggle/{part}.csv") for part in ("Train", "Test")] and "kaggle",
     "kaggle has no training photos: .*found Meta, Test, Train: name a copy that has them"),
    (lambda: edit("kaggle/Train.csv", "20/00020_00007_00001", "n" * 5000), "without a Filename or Path"),
    (lambda: edit("kaggle/Train.csv", ",20,Train", f",{'9' * 5000},Train"), "has class 9999"),
    (lambda: os.remove("kaggle/Train.csv") or os.mkdir("kaggle/Train.csv") or "kaggle", "Train.csv is a folder"),
    (lambda: Path("kaggle/Train/3/00003_00007_00001.png").write_text("not a photo") and "kaggle", "00001.png is not a photo"),
])
def test_a_damaged_folder_is_refused_in_one_sentence_that_names_the_file(kaggles_copy, spoil, sentence):
    path = spoil()
    with pytest.raises(BadInput, match=sentence):
        gtsrb.load(path)


def ragged(*arrays):
    array = np.empty(len(arrays), object)
    array[:] = arrays
    return array


def changed(**change):
    return lambda: dumped(**{"features": signs(3), "labels": np.array([0, 1, 2]), **change})


BAD = {
    "missing": (lambda: "nowhere.p", "does not exist"),
    "empty": (lambda: Path("train.p").touch() or "train.p", "is empty"),
    "text": (lambda: Path("train.p").write_text("<html>") and "train.p", "not a pickle"),
    "cut short": (lambda: os.truncate(dumped(signs(3), np.arange(3)), 5000) or "train.p", "cut short"),
    "code": (changed(labels=RunsCode()), "asks to call builtins.exec"),
    "a list": (lambda: Path("train.p").write_bytes(pickle.dumps([1])) and "train.p", "no dict of features and labels"),
    "no labels": (lambda: Path("train.p").write_bytes(pickle.dumps({"features": 1})) and "train.p", "no dict of"),
    "tiny features": (changed(features=np.zeros((3, 7, 40, 3), np.uint8)), r"features must be .*8 pixels or more .*7, 40"),
    "a tiny photo in a list": (changed(features=[*signs(2), signs(1)[0, :5]]), r"features\[2\] must be .*8 pixels or more"),
    "grey features": (changed(features=np.zeros((3, 32, 32), np.uint8)), r"in colour, .* not grey ones, uint8 \(3, 32, 32\)"),
    "grey features [N, 32, 32, 1]": (changed(features=np.zeros((3, 32, 32, 1), np.uint8)), "in colour, .* not grey ones"),
    "a grey photo in a list": (changed(features=[*signs(2), signs(1)[0, :, :, 0]]), r"features\[2\] must be in colour"),
    "float features from 0 to 1": (changed(features=signs(3) / 255), "bytes, .* not float64 from 0.* to 1: multiply by 255"),
    "standardised features": (changed(features=signs(3) / np.float32(70) - 2), "bytes, .* not float32 from -2 to 1.6"),
    "NaN features": (changed(features=np.full((3, 32, 32, 3), np.nan)), "bytes, .* not float64 from nan"),
    "transparent features": (changed(features=np.zeros((3, 32, 32, 4), np.uint8)), r"RGB photos, .* uint8 \(3, 32, 32, 4\)"),
    "channels first": (changed(features=np.zeros((3, 3, 32, 32), np.uint8)), r"RGB photos, .* not uint8 \(3, 3, 32, 32\)"),
    "object features": (changed(features=np.array([None] * 3)), "array of objects"),
    "ragged features": (changed(features=ragged(signs(1)[0], signs(1)[0, :20], signs(1)[0, :, :20])),
                        "array of objects .*as NumPy makes of arrays whose shapes differ: save those as a list"),
    "text for features": (changed(features="photos"), "features must be an array or a list, not str"),
    "text in a list": (changed(features=["photos"] * 3), r"features\[0\] must be an array, .* not str"),
    "a photo again and again": (changed(features=[signs(1)[0]] * 300_001, labels=[0, 1] * 150_000 + [0]),
                                "300,001 photos, too many"),
    "label 43": (changed(labels=np.array([0, 43, 1]), sizes=0, coords=0), r"labels\[1\] is 43, but GTSRB's classes are 0 to 4"),
    "label 30,000": (changed(labels=np.array([0, 30_000, 1])), r"labels\[1\] is 30000, but classes are .* 0 to 29999"),
    "one class": (changed(labels=[7, 7, 7]), "photos of one class only, class 7: training needs photos of two"),
    "label -1": (changed(labels=np.array([0, 2, -1])), r"labels\[2\] is -1"),
    "an enormous label": (changed(labels=[0, 1, 10**30]), r"labels\[2\] is 1e\+30"),
    "a label beyond all floats": (changed(labels=[0, 1, 10**400]), "whole numbers .*from 0 to 29999"),
    "a broken label": (changed(labels=np.array([0.0, 1.5, 2])), r"labels\[1\] is 1.5, but classes are whole numbers from 0"),
    "a label that is no number": (changed(labels=[0, float("nan"), 2]), r"labels\[1\] is nan"),
    "object labels": (changed(labels=np.array([0, 1, None])), "array of objects"),
    "names for labels": (changed(labels=["stop", "yield", "stop"]), r"whole numbers .* but labels\[0\] is str"),
    "true and false for labels": (changed(labels=np.array([True, False, True])), r"whole numbers .* not bool \(3,\)"),
    "one-hot labels of ten signs": (changed(labels=np.eye(3, 10), sizes=0, coords=0),
                                    r"one-hot rows \[N, 43\], not float64 \(3, 10\)"),
    "a row of two ones": (changed(labels=np.eye(3, 43) + np.eye(3, 43, 1)), r"labels\[0\] must be a one-hot row"),
    "a row of zeros": (changed(labels=np.eye(3, 43, -1, dtype=bool)), r"labels\[0\] must be a one-hot row"),
    "probabilities": (changed(labels=np.full((3, 43), 1 / 43)), r"labels\[0\] must be a one-hot row"),
    "numbers and rows": (changed(labels=[0, [1], 2]), "whole numbers .* or one-hot rows"),
    "rows of two lengths": (changed(labels=[[0], [1], np.eye(43)[2]]), "whole numbers .* or one-hot rows"),
    "a single number": (changed(labels=np.array(3)), r"labels must be an array or a list, not int64 \(\)"),
    "a different number of labels": (changed(labels=np.array([0, 1])), "3 features but 2 labels"),
    "nothing": (changed(features=signs(0), labels=np.zeros(0, int)), "holds no photos"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_pickle_is_refused_in_one_sentence_that_names_it(bad):
    make, sentence = BAD[bad]
    path = make()
    with pytest.raises(BadInput, match=sentence) as refusal:
        gtsrb.load(path)
    assert path in str(refusal.value) and "\n" not in str(refusal.value)
    assert not Path("pwned").exists()


def test_auto_is_train_p_and_the_error_says_where_to_put_it():
    with pytest.raises(BadInput, match="train.p"):
        gtsrb.find("auto")
    Path("train.p").touch()
    assert gtsrb.find("auto") == Path("train.p")


def test_the_split_is_the_labs():
    training, validation = splits.random_split(39209)
    assert (len(training), len(validation)) == (26270, 12939)  # as in the original lab's notebook and in scikit-learn
    assert np.array_equal(np.sort(np.r_[training, validation]), np.arange(39209))
    order = np.random.RandomState(0).permutation(39209)
    assert np.array_equal(validation, order[:12939])


def track_numbers(tracks_of_classes, frames=30):
    return np.repeat([1000 * label + track for label, count in tracks_of_classes.items() for track in range(count)], frames)


def test_the_split_by_tracks_holds_out_a_third_of_each_classs_tracks_and_at_least_one():
    tracks = track_numbers({0: 2, 3: 4, 14: 5, 40: 30})
    _, validation = splits.track_split(tracks, "train.p")
    held_out = np.unique(tracks[validation])
    assert [np.sum(held_out // 1000 == label) for label in (0, 3, 14, 40)] == [1, 1, 2, 10]
    assert not np.array_equal(held_out[-10:] % 1000, np.arange(10))  # not simply the first ones


def test_no_track_is_on_both_sides_of_the_split_by_tracks_and_every_photo_is_on_one():
    tracks = RNG.permutation(track_numbers({0: 7, 1: 8, 33: 20})[1:])  # in any order, and one track shorter
    training, validation = splits.track_split(tracks, "train.p")
    assert training.dtype == validation.dtype == np.int64
    assert not set(tracks[training]) & set(tracks[validation])
    assert np.array_equal(np.sort(np.r_[training, validation]), np.arange(len(tracks)))
    assert np.array_equal(training, np.sort(training)) and np.array_equal(validation, np.sort(validation))


def test_the_split_by_tracks_is_always_the_same_whatever_was_drawn_before():
    tracks = track_numbers({0: 7, 1: 8})
    first = splits.track_split(tracks, "train.p")
    np.random.random(5)
    for once, again in zip(first, splits.track_split(tracks, "train.p")):
        assert np.array_equal(once, again)


def test_tracks_that_cannot_be_split_are_refused_in_one_sentence():
    with pytest.raises(BadInput, match="^train.p has only one track of class 7, .*use --split random$"):
        splits.track_split(track_numbers({3: 4, 7: 1, 8: 2}), "train.p")
    with pytest.raises(BadInput, match="^train.p: no tracks found .*use --split random$"):
        splits.track_split(None, "train.p")


def test_there_are_43_names_as_in_signnames_csv():
    names = gtsrb.sign_names()
    assert len(set(names)) == 43
    assert (names[0], names[14], names[25], names[42]) == (
        "Speed limit (20km/h)", "Stop", "Road work", "End of no passing for vehicles over 3.5 metric tons")


def test_arrays_in_fortran_order_hold_the_same_photos():
    features = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    photos = []
    for order in (np.ascontiguousarray, np.asfortranarray):
        Path("train.p").write_bytes(pickle.dumps({"features": order(features), "labels": [0, 1, 2]}))
        photos.append(gtsrb.load("train.p"))
    assert np.array_equal(photos[0].features, photos[1].features)
    assert splits.identity(photos[0], Path("train.p")) == splits.identity(photos[1], Path("train.p"))
