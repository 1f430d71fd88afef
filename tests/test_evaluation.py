"""A layer's answers are measured as SciPy and a plain loop measure them, and described in a table that fits the terminal."""

import json

import numpy as np
import pytest
import scipy.special

from lab import files
from lab.data import gtsrb
from lab.training import evaluation

SIGNS = gtsrb.sign_names()


def random_answers(count=500, scale=3):
    """Logits and labels, about half of which agree; some logits are equal."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 43, count)
    logits = (rng.standard_normal((count, 43)) * scale).round().astype(np.float32)
    logits[np.arange(count), labels] += 2 * scale
    return logits, labels


def certain(answers):
    """Logits that leave no doubt about `answers`."""
    return np.eye(43, dtype=np.float32)[answers] * 10


def test_loss_and_accuracies_are_scipys_and_a_plain_loops():
    logits, labels = random_answers()
    report = evaluation.report(logits, labels, SIGNS)

    right = top5 = 0
    photos, hits = dict.fromkeys(range(43), 0), dict.fromkeys(range(43), 0)
    for row, label in zip(logits.tolist(), labels.tolist()):
        ranked = sorted(range(43), key=lambda sign: (-row[sign], sign))
        right += ranked[0] == label
        top5 += label in ranked[:5]
        photos[label] += 1
        hits[label] += ranked[0] == label
    assert 100 < right < top5 < 500
    assert report["photos"] == 500 and report["accuracy"] == right / 500 and report["top5_accuracy"] == top5 / 500
    assert [(c["class"], c["photos"], c["accuracy"]) for c in report["classes"]] \
        == [(sign, photos[sign], hits[sign] / photos[sign]) for sign in range(43)]
    log_softmax = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    assert report["loss"] == pytest.approx(-log_softmax[np.arange(500), labels].mean(), rel=1e-12)


def test_equal_logits_cost_log_43_and_the_first_classes_count_as_the_answers():
    report = evaluation.report(np.full((43, 43), 7, np.float32), np.arange(43), SIGNS)
    assert report["loss"] == pytest.approx(np.log(43), rel=1e-12)
    assert (report["accuracy"], report["top5_accuracy"]) == (1 / 43, 5 / 43)


def test_logits_that_would_overflow_exp_have_an_exact_loss():
    logits = np.zeros((2, 43), np.float32)
    logits[:, 3] = 30000
    assert evaluation.report(logits, np.array([3, 4]), SIGNS)["loss"] == 15000


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_of_a_diverged_training_are_refused_in_one_sentence(value):
    logits, labels = random_answers()
    logits[3, 5] = value
    with pytest.raises(files.BadInput, match="logits are NaN or infinite: its training diverged"):
        evaluation.report(logits, labels, SIGNS)


def test_only_classes_that_occur_are_listed_each_with_its_name():
    report = evaluation.report(certain(np.array([14, 2, 2, 14, 14])), np.array([14, 2, 5, 2, 14]), SIGNS)
    assert report["classes"] == [{"class": 2, "name": "Speed limit (50km/h)", "photos": 2, "accuracy": 0.5},
                                 {"class": 5, "name": "Speed limit (80km/h)", "photos": 1, "accuracy": 0.0},
                                 {"class": 14, "name": "Stop", "photos": 2, "accuracy": 1.0}]


def test_confusions_are_the_most_frequent_first_and_equal_ones_in_the_order_of_classes():
    wrong = {(5, 2): 3, (9, 1): 1, (9, 0): 1, (2, 5): 4, (1, 40): 3, (42, 41): 2}
    labels = np.array([sign for (sign, _), count in wrong.items() for _ in range(count)] + [7] * 50)
    answers = np.array([answer for (_, answer), count in wrong.items() for _ in range(count)] + [7] * 50)
    report = evaluation.report(certain(answers), labels, SIGNS)
    assert [(pair["class"], pair["read_as"], pair["photos"]) for pair in report["confusions"]] \
        == [(2, 5, 4), (1, 40, 3), (5, 2, 3), (42, 41, 2), (9, 0, 1), (9, 1, 1)]
    assert report["confusions"][1]["name"] == "Speed limit (30km/h)"
    assert report["confusions"][1]["read_as_name"] == "Roundabout mandatory"


def test_a_report_has_ten_confusions_and_a_description_five():
    report = evaluation.report(certain(np.roll(np.arange(43), 1)), np.arange(43), SIGNS)
    assert [pair["class"] for pair in report["confusions"]] == list(range(10))
    lines = evaluation.describe("Test", report).splitlines()
    assert [" read as " in line for line in lines][-6:] == [False] + [True] * 5


def test_an_epochs_loss_and_accuracy_are_the_reports():
    logits, labels = random_answers()
    report = evaluation.report(logits, labels, SIGNS)
    assert evaluation.loss_and_accuracy(logits, labels) == {"loss": report["loss"], "accuracy": report["accuracy"]}


@pytest.mark.parametrize("classes, has_top5", [(2, False), (5, False), (6, True)])
def test_a_top_5_accuracy_is_given_only_where_it_can_be_less_than_all(classes, has_top5):
    names = list("abcdef")[:classes]
    report = evaluation.report(-np.eye(classes, dtype=np.float32), np.arange(classes), names)
    assert report["accuracy"] == 0 and ("top5_accuracy" in report) is has_top5
    assert report.get("top5_accuracy", 0) == 0  # its own class is the least probable, the sixth of six
    first, *_, last = evaluation.describe("Test", report).splitlines()
    assert ("top-5" in first) is has_top5 and " read as " in last


def test_mistakes_are_all_the_wrong_answers_the_most_confident_first():
    logits, labels = random_answers(3000)  # more than are looked at in one go
    rows = np.arange(3000) * 7 + 5
    probabilities = scipy.special.softmax(logits.astype(np.float64), axis=1)
    expected = [(row, label, int(answers.argmax()), answers.max())
                for row, label, answers in zip(rows.tolist(), labels.tolist(), probabilities) if answers.argmax() != label]
    found = evaluation.mistakes(logits, labels, rows)
    assert 500 < len(found) < 2500 and sorted(found)[0] == pytest.approx(sorted(expected)[0])
    assert sorted(mistake[:3] for mistake in found) == sorted(mistake[:3] for mistake in expected)
    assert [mistake.probability for mistake in found] == pytest.approx(sorted((p for *_, p in expected), reverse=True))
    assert evaluation.mistakes(certain(labels), labels, rows) == []


def test_of_hundreds_of_classes_the_table_has_the_worst_and_the_report_has_all():
    names = [f"species number {c}" for c in range(1100)]
    labels = np.arange(1100).repeat(2)
    answers = labels.copy()
    answers[[2 * 1099, 2 * 1099 + 1, 2 * 700]] = 3, 4, 1099
    logits = np.zeros((2200, 1100), np.float32)
    logits[np.arange(2200), answers] = 20
    report = evaluation.report(logits, labels, names)
    assert len(report["classes"]) == 1100 and report["accuracy"] == 2197 / 2200
    lines = evaluation.describe("Test", report).splitlines()
    assert max(map(len, lines)) < 100 and len(lines) < 40
    assert lines[3].startswith("1099 species number 1099") and lines[4].startswith(" 700 species number 700")
    assert "  0.0%" in lines[3] and " 50.0%" in lines[4]
    assert any("1,050" in line and "metrics.json" in line for line in lines)


def test_names_of_any_characters_keep_the_table_in_columns_and_the_sentences_in_lines():
    names = ["雏菊", "two\nlines \x1b[31m", "W" * 200, "郁" * 100, "plain", ""]
    report = evaluation.report(np.roll(np.eye(6, dtype=np.float32), 1, axis=0), np.arange(6), names)
    assert [c["name"] for c in report["classes"]] == names  # as they are
    text = evaluation.describe("Test", report)
    assert text.replace("\n", "").isprintable() and "two\\nlines \\x1b[31m read as " in text
    rows = text.split("\n\n")[1].splitlines()[1:]
    columns = [len(row) + sum("\u4e00" <= letter <= "\u9fff" for letter in row) for row in rows]  # those are two columns wide
    assert columns == [99, 99, 99] and len(text.splitlines()[-1]) < 200


def test_a_report_survives_json():
    report = evaluation.report(*random_answers(), SIGNS)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_description_gives_the_figures_and_the_worst_confusions_in_sentences():
    labels = np.array([5] * 13 + [14] * 3 + [1])
    answers = np.array([2] * 12 + [5] + [14] * 3 + [2])
    text = evaluation.describe("Test", evaluation.report(certain(answers), labels, SIGNS))
    loss = np.log(np.exp(10) + 42) - 10 * 4 / 17
    assert text.splitlines()[0] == f"Test: 17 photos, loss {loss:.4f}, accuracy 23.5%, top-5 accuracy 29.4%"
    assert " 5 Speed limit (80km/h)                13   7.7%\n" in text
    assert text.splitlines()[-2:] == ["Speed limit (80km/h) read as Speed limit (50km/h): 12 photos",
                                      "Speed limit (30km/h) read as Speed limit (50km/h): 1 photo"]


def test_without_mistakes_a_description_says_so():
    text = evaluation.describe("Test", evaluation.report(certain(np.array([3])), np.array([3]), SIGNS))
    assert text.endswith("\n\nNo photo was read wrongly.")


@pytest.mark.parametrize("classes", [1, 2, 9, 43])
def test_the_table_has_every_class_once_in_aligned_columns_under_100_characters(classes):
    logits, labels = random_answers(4300)
    some = labels < classes
    text = evaluation.describe("Validation", evaluation.report(logits[some], labels[some], SIGNS))
    table = text.split("\n\n")[1].splitlines()
    half = -(-classes // 2)
    assert len(table) == 1 + half
    assert {len(line) for line in table[1:]} <= {48, 48 + 3 + 48}
    left, right = [line[:48] for line in table[1:]], [line[51:] for line in table[1:] if len(line) > 48]
    assert [int(cell[:2]) for cell in left + right] == list(range(classes))
    for cell, name in zip(left + right, SIGNS):
        shown = cell[3:34].rstrip()
        assert shown == name or shown.endswith("...") and name.startswith(shown[:-3]) and len(shown) > 20
        assert cell.endswith("%") and cell[34] == cell[41] == " "
    assert len({cell[3:34] for cell in left + right}) == classes
