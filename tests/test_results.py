"""What a finished training leaves in its model folder, besides the model."""

import csv
import json
import os
from pathlib import Path

import numpy as np

from lab.training import results

NAMES = ["daisy, white", "a \"rose\"", "\u90c1\u91d1\u9999"]
HISTORY = [{"epoch": 1, "stage": "frozen", "training": {"loss": 1.0, "accuracy": 0.5},
            "validation": {"loss": 1.0, "accuracy": 0.5}}]


class PhotoFiles:
    """Photos that are read one by one."""

    def __init__(self, paths):
        self.paths, self.shape = paths, (len(paths), 227, 227, 3)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        return np.full(self.shape[1:], row, np.uint8)


def logits(answers, confidence):
    return np.eye(3, dtype=np.float32)[answers] * np.array(confidence, np.float32)[:, None]


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_training_leaves_figures_pictures_and_all_misread_photos_for_any_classes(capsys):
    os.mkdir("model")
    photos = PhotoFiles(["a.jpg", "b, c.jpg", "new\nline.jpg", "\u83ca.jpg", "bad \udcff.jpg", "f.jpg"])
    labels = np.array([0, 1, 2, 0, 1, 2])
    answers = {"validation": (photos, labels, np.array([5, 4, 3, 1]), logits([2, 2, 1, 0], [9, 2, 1, 3])),
               "test": (np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 2]), np.arange(2), logits([0, 0], [1, 1]))}
    results.show(Path("model"), HISTORY, answers, NAMES)

    assert sorted(os.listdir("model")) == ["confusion.png", "history.png", "metrics.json", "mistakes.csv", "mistakes.png",
                                           "test-confusion.png", "test-mistakes.csv", "test-mistakes.png"]
    table = read("model/mistakes.csv")
    assert [row[:3] for row in table] == [["file", "class", "read_as"], ["b, c.jpg", NAMES[1], NAMES[0]],
                                          ["bad \\udcff.jpg", NAMES[1], NAMES[2]], ["\u83ca.jpg", NAMES[0], NAMES[1]]]
    softmax = [np.exp(c) / (np.exp(c) + 2) for c in (3, 2, 1)]
    assert np.allclose([float(row[3]) for row in table[1:]], softmax, atol=1e-6)
    assert [row[:3] for row in read("model/test-mistakes.csv")] == [["row", "class", "read_as"], ["1", NAMES[2], NAMES[0]]]
    metrics = json.loads(Path("model/metrics.json").read_text())
    assert [c["name"] for c in metrics["validation"]["classes"]] == NAMES and metrics["validation"]["accuracy"] == 0.25
    assert capsys.readouterr().out.count("accuracy") == 2


def test_a_csv_that_cannot_be_written_is_a_notice(capsys):
    Path("model/mistakes.csv").mkdir(parents=True)
    answers = {"validation": (PhotoFiles(["a.jpg"]), np.array([0]), np.array([0]), logits([1], [1]))}
    results.show(Path("model"), HISTORY, answers, NAMES)
    assert "model/mistakes.csv cannot be written: Is a directory" in capsys.readouterr().err
    assert Path("model/mistakes.png").is_file()
