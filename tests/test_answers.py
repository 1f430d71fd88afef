"""The pages answer any number of photos, from folders and from lists, on the terminal and in tables."""

import csv
import io
import json
import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from samples import mistake, photo

import feature_extraction
import imagenet_inference
import traffic_sign_inference
from lab import command_line, files
from lab.data import photos
from lab.files import BadInput
from lab.network import answers, inference
from lab.training import plots

PAGES = [imagenet_inference, traffic_sign_inference, feature_extraction]
CHEAP = [traffic_sign_inference, "--weights", "builtin"]


def printed(out):
    """What a page printed, {file: [(class, probability), ...]}, the probabilities as text."""
    return {block.split("\n")[0]: re.findall(r"^(.*): ([01]\.\d{3})$", block, re.MULTILINE)
            for block in re.split(r"^Image \d+ ", out, flags=re.MULTILINE)[1:]}


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


# Which photos


def test_folders_are_walked_in_a_fixed_order_without_hidden_and_system_entries():
    for name in ("b/2.png", "b/10.PNG", "b/a/x.JPG", "b/ä.jpeg", "b/a/x.heic", "b/a.png/in.tif", "c.dat",
                 "b/.hidden.png", "b/.ipynb_checkpoints/2.png", "b/a/@eaDir/x.jpg", "b/__MACOSX/2.png", "b/Thumbs.db",
                 "b/notes.txt", "b/no-ending"):
        photo(name)
    assert photos.find(["c.dat", "b", "b/2.png"]) == [
        "c.dat", "b/10.PNG", "b/2.png", "b/ä.jpeg", "b/a/x.JPG", "b/a/x.heic", "b/a.png/in.tif", "b/2.png"]


def test_a_link_to_a_folder_is_followed_once():
    photo("elsewhere/1.png")
    photo("b/2.png")
    os.symlink("../elsewhere", "b/link")
    os.symlink("..", "elsewhere/up")
    os.symlink(".", "b/here")
    found = photos.find(["b"])
    assert sorted(map(os.path.realpath, found)) == [os.path.realpath(path) for path in ("b/2.png", "elsewhere/1.png")]


def stdin(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_dash_stands_for_the_lines_of_stdin_which_are_files_and_folders_with_any_bytes(monkeypatch):
    photo("folder/1.png")
    stdin(monkeypatch, b"two words.png\r\n\n \xff.png\nfolder")
    assert photos.find(["0.png", "-", "3.png"]) == ["0.png", "two words.png", " \udcff.png", "folder/1.png", "3.png"]


@pytest.mark.parametrize("page", PAGES)
def test_each_page_takes_a_folder_and_names_as_many_classes_as_top_says(call, page):
    photo("b/2.png", 2)
    photo("b/1.png", 1)
    status, out, _ = call(page, "b", "--top", 2, "--weights", "builtin")
    assert status == 0
    assert re.findall("^Image.*", out, re.MULTILINE) == ["Image 0 b/1.png", "Image 1 b/2.png"]
    assert [len(found) for found in printed(out).values()] == [2, 2]


@pytest.mark.parametrize("prepare, arguments, sentence", [
    (lambda: os.mkdir("empty"), ["empty"], "empty is a folder without photos"),
    (lambda: photo("b/notes.txt"), ["b"], "b is a folder without photos"),
    (lambda: photo("1.png"), ["1.png", "-"], "stdin has no names"),
    (lambda: photo("1.png"), ["1.png", "--csv", "a.txt"], "a.txt must end in .csv"),
    (lambda: photo("1.png"), ["--csv", "1.png"], "1.png must end in .csv"),
    (lambda: os.mkdir("a.csv"), ["--csv", "a.csv"], "a.csv exists and is not a file"),
    (lambda: photo("1.png"), ["--jsonl", "nowhere/a.jsonl"], "nowhere/a.jsonl cannot be written: No such file"),
    (lambda: photo("a.csv.unfinished"), ["--csv", "a.csv"], "a.csv.unfinished exists"),
    (lambda: photo("1.png"), ["--threshold", "1.5"], "'1.5' is not a number above 0 and up to 1"),
    (lambda: photo("1.png"), ["--top", "0"], "'0' is not a whole number"),
])
def test_a_mistake_is_one_sentence_before_the_network_starts(call, monkeypatch, prepare, arguments, sentence):
    prepare()
    stdin(monkeypatch, b"\n")
    before = sorted(os.listdir())
    status, out, err = call(*CHEAP, *arguments)
    assert (status, out) == (2, "") and sentence in mistake(err) and len(err.splitlines()) == 1
    assert sorted(os.listdir()) == before


# Tables


def test_both_tables_hold_the_printed_answers_of_each_photo_that_can_be_read(call):
    odd = photo('a "quoted", name\nof two lines.png', 1)
    paths = [photo("1.png", 2), "missing.png", odd, photo("雪.png", 3)]
    status, out, _ = call(*CHEAP, *paths, "--top", 3)
    assert status == 1
    expected = printed(out)
    assert len(out.split("Image ")) == 4

    status, out, err = call(*CHEAP, *paths, "--top", 3, "--csv", "a.csv", "--jsonl", "a.jsonl")
    assert status == 1 and "missing.png does not exist" in err
    assert re.fullmatch(r"a.jsonl has the answers for 3 photos.\na.csv has the answers for 3 photos.\nTime: \S+ seconds\n", out)
    header, *rows = read_csv("a.csv")
    assert header == ["file", "class", "probability", "class2", "probability2", "class3", "probability3"]
    assert [row[0] for row in rows] == ["1.png", odd, "雪.png"]
    for row in rows:
        pairs = list(zip(row[1::2], (f"{float(number):.3f}" for number in row[2::2])))
        assert pairs == (expected[row[0]] if row[0] != odd else pairs) and len(pairs) == 3
    assert Path("a.csv").read_bytes().count(b"\r\n") == 4  # RFC 4180

    lines = [json.loads(line) for line in Path("a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [[line["file"], *(str(value) for answer in line["answers"] for value in (answer["class"], answer["probability"]))]
            for line in lines] == rows
    assert sorted(os.listdir()) == sorted({*paths, "a.csv", "a.jsonl"} - {"missing.png"})


def test_a_name_that_is_no_utf8_is_escaped_in_tables(call):
    name = os.fsdecode(b"\xff.png")
    try:
        photo(name)
    except OSError:
        pytest.skip("this disk takes names in UTF-8 only")
    assert call(*CHEAP, name, "--csv", "a.csv", "--jsonl", "a.jsonl")[0] == 0
    assert read_csv("a.csv")[1][0] == r"\udcff.png"
    assert json.loads(Path("a.jsonl").read_text(encoding="utf-8"))["file"] == name


def test_a_table_is_replaced_when_the_new_one_is_complete(call):
    Path("a.csv").write_text("old")
    photo("1.png")
    assert call(*CHEAP, "nowhere.png", "--csv", "a.csv")[0] == 2 and Path("a.csv").read_text() == "old"
    Path("bad.png").write_text("no photo")
    assert call(*CHEAP, "bad.png", "--csv", "a.csv")[0] == 2 and Path("a.csv").read_text() == "old"
    assert call(*CHEAP, "1.png", "--csv", "a.csv")[0] == 0 and read_csv("a.csv")[1][0] == "1.png"
    assert sorted(os.listdir()) == ["1.png", "a.csv", "bad.png"]


def test_a_page_says_unknown_below_the_threshold(call):
    status, out, _ = call(*CHEAP, photo("1.png"), "--threshold", 1)
    assert status == 0 and re.match(r"Image 0 1.png\nunknown: 0\.\d{3}\n\nTime", out)


# Many photos


ARGS = SimpleNamespace(photos=["folder"], top=2, threshold=0.0, csv="a.csv", jsonl=None)


def uniform(features):
    return np.full((len(features), 3), 1 / 3, np.float32)


def batches_of_four(run, paths):
    for start in range(0, len(paths), 4):
        yield run(np.zeros((4, 2))), list(range(start, start + 4))


@pytest.mark.parametrize("outputs", [{}, {"csv": "a.csv", "jsonl": "a.jsonl"}])
def test_below_the_threshold_the_answer_is_unknown_and_no_other_is_given(capsys, outputs):
    probabilities = np.array([[0.5, 0.2, 0.3], [0.1, 0.7, 0.2], [0.69, 0.3, 0.01], [0, 0, 1]], np.float32)
    args = SimpleNamespace(**vars(ARGS) | {"top": 100, "threshold": 0.7, "csv": None} | outputs)
    paths = [f"{i}.png" for i in range(4)]
    answers.give(batches_of_four(lambda features: probabilities, paths), ["ant", "bee", "cow"], paths, args)
    first = [[("unknown", 0.5)], [("bee", 0.7), ("cow", 0.2), ("ant", 0.1)], [("unknown", 0.69)],
             [("cow", 1), ("ant", 0), ("bee", 0)]]
    if outputs:
        assert read_csv("a.csv") == [["file", "class", "probability", "class2", "probability2", "class3", "probability3"],
                                     ["0.png", "unknown", "0.5", "", "", "", ""],
                                     ["1.png", "bee", "0.7", "cow", "0.2", "ant", "0.1"],
                                     ["2.png", "unknown", "0.69", "", "", "", ""],
                                     ["3.png", "cow", "1.0", "ant", "0.0", "bee", "0.0"]]
        assert [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()] == [
            {"file": file, "answers": [{"class": name, "probability": probability} for name, probability in pairs]}
            for file, pairs in zip(paths, first)]
    else:
        assert list(printed(capsys.readouterr().out).values()) == [[(name, f"{probability:.3f}") for name, probability in pairs]
                                                                   for pairs in first]


@pytest.mark.parametrize("strike, status", [
    (lambda: signal.raise_signal(signal.SIGINT), 130), (lambda: signal.raise_signal(signal.SIGTERM), 143),
    (lambda: (_ for _ in ()).throw(BadInput("the disk is gone")), 2),
])
def test_what_ends_a_run_leaves_whole_rows_in_the_unfinished_table_and_says_so(capsys, strike, status):
    paths, runs = [f"{i}.png" for i in range(20)], []

    def run(features):
        runs.append(len(features))
        if len(runs) == 4:
            strike()
        return uniform(features)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert command_line.exit_status(lambda: answers.give(batches_of_four(run, paths), "abc", paths, ARGS)) == status
    finally:
        signal.signal(signal.SIGINT, handler)
    rows = read_csv("a.csv.unfinished")
    assert [row[0] for row in rows] == ["file", *paths[:12]] and {len(row) for row in rows} == {5}
    assert "a.csv.unfinished has the answers for 12 photos." in capsys.readouterr().err
    assert os.listdir() == ["a.csv.unfinished"]


def test_a_row_that_a_full_disk_cuts_short_is_taken_back(monkeypatch, capsys):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 200:
                super().write(data[:200 - self.tell()])
                raise OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering=0: Full(path, mode))
    paths = [f"{i}.png" for i in range(20)]
    with pytest.raises(BadInput, match="a.csv cannot be written: the disk is full"):
        answers.give(batches_of_four(uniform, paths), "abc", paths, ARGS)
    assert files.reading("a.csv.unfinished").read()[-2:] == b"\r\n"
    assert [row[0] for row in read_csv("a.csv.unfinished")] == ["file", *paths[:4]]
    assert "has the answers for 4 photos" in capsys.readouterr().err


def test_many_photos_are_read_a_batch_at_a_time_and_no_photo_changes_what_is_beside_others(capsys):
    paths = [photo(f"{i}.png", i) for i in range(7)]
    paths[2:2] = ["missing.png"]
    read = []

    def read_one(path):
        read.append(path)
        return photos.read_sign(path)

    found = photos.batches(paths * 30, read_one, 16)
    first = next(found)
    assert first[1] == [i for i in range(16) if i % 8 != 2] and len(read) <= 64
    rest = list(found)
    assert [len(features) for features, _ in rest] == [14] * 14 and len(read) == 240
    whole = np.concatenate([features for features, _ in [first, *rest]])
    assert np.array_equal(whole, photos.read_all([path for path in paths * 30 if path != "missing.png"], photos.read_sign))
    assert capsys.readouterr().err.count("missing.png does not exist") == 30


def test_the_picture_shows_the_first_photos_of_all_batches_and_counts_the_others(call, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "answers", lambda path, features, *rest, **named: drawn.append((features, rest, named)))
    monkeypatch.setattr(inference, "BATCH", 2)
    paths = [photo(f"{i}.png", i) for i in range(5)]
    assert call(feature_extraction, *paths, "--weights", "builtin", "--plot", "a.png")[0] == 0
    features, (probabilities, _, names), named = drawn[0]
    assert np.array_equal(features, photos.read_all(paths[:2], photos.read_sign)) and probabilities.shape == (2, 43)
    assert names == paths and named == {"positions": [0, 1], "count": 5}


def test_a_batch_has_all_the_photos_that_a_picture_of_answers_shows():
    assert inference.BATCH >= plots.MOST_ANSWERS
