"""The pictures show what they were given, survive any file name, and are written whole or not at all."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lab import files
from lab.data import gtsrb
from lab.training import plots

VERMILION = 0xD5, 0x5E, 0x00
BLUE = 0x00, 0x72, 0xB2


def read(path):
    """The pixels of a picture, uint8 [H, W, 3], which must be a PNG with blank edges, so that no text is cut off."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    edges = [pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]]
    assert all((edge == 255).all() for edge in edges)
    return pixels


def count(pixels, colour):
    return int((pixels == colour).all(axis=2).sum())


def epoch(number, stage="frozen", accuracy=0.8):
    return {"epoch": number, "stage": stage, "training": {"loss": 1 / number, "accuracy": accuracy},
            "validation": {"loss": 1.5 / number, "accuracy": accuracy - 0.1}}


def some_photos(number):
    """Photos of noise, uint8 [number, 32, 32, 3], and probabilities, float32 [number, 43], with answers 0, 1, 2, ..."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(43), number).astype(np.float32) * 0.3
    probabilities[np.arange(number), np.arange(number) % 43] += np.linspace(0.7, 0.4, number, dtype=np.float32)
    return rng.integers(0, 256, (number, 32, 32, 3)).astype(np.uint8), probabilities


def find(pixels, photo, scale):
    """The corner (y, x) of `photo`, enlarged `scale` times, in a picture; None if it is not there."""
    pattern = np.kron(photo, np.ones((scale, scale, 1), np.uint8))
    side = len(pattern)
    for y, x in np.argwhere((pixels == pattern[0, 0]).all(axis=2)):
        if np.array_equal(pixels[y:y + side, x:x + side], pattern):
            return int(y), int(x)


@pytest.mark.parametrize("epochs", [[epoch(1)], [epoch(i) for i in range(1, 41)],
                                    [epoch(1, accuracy=1.0), epoch(2, "finetuned", 0.1)]])
def test_a_history_of_any_length_shows_both_splits_in_both_panels(epochs):
    plots.history("history.png", epochs)
    pixels = read("history.png")
    assert pixels.shape == (450, 1100, 3)
    for panel in (pixels[30:, :550], pixels[30:, 550:]):
        assert count(panel, BLUE) > 40 and count(panel, VERMILION) > 40


def test_the_epochs_of_a_history_are_whole_numbers(monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: saved.append(figure))
    for number in (1, 2, 3, 100):
        plots.history("history.png", [epoch(i + 1) for i in range(number)])
        for axes in saved[-1].axes:
            ticks = [tick for tick in axes.get_xticks() if 0.5 <= tick <= number + 0.5]
            assert ticks and all(tick == int(tick) for tick in ticks)
            assert number > 3 or ticks == list(range(1, number + 1))


def test_a_line_marks_where_finetuning_begins_if_there_are_two_stages(monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: saved.append(figure))

    def lines(*stages):
        plots.history("history.png", [epoch(i + 1, stage) for i, stage in enumerate(stages)])
        lines = [line for axes in saved[-1].axes for line in axes.lines]
        return [line.get_xdata()[0] for line in lines if line.get_label() == "finetuning begins"]

    assert lines("frozen", "frozen", "finetuned", "finetuned") == [2.5, 2.5]
    assert lines("frozen", "frozen") == lines("finetuned", "finetuned") == []


def cells(pixels):
    """The 43 by 43 cells of a confusion matrix without their borders, uint8 [43, 43, 14, 14, 3]; the longest lines frame it."""
    black = pixels.max(axis=2) < 60
    ys, xs = np.flatnonzero(black.sum(axis=1) > 1000), np.flatnonzero(black.sum(axis=0) > 1000)
    ys, xs = np.linspace(ys[0], ys[-1], 44), np.linspace(xs[0], xs[xs < 1460][-1], 44)  # the colour bar is to the right
    return np.array([[pixels[int(y) + 6:int(y) + 20, int(x) + 6:int(x) + 20] for x in xs[:-1]] for y in ys[:-1]])


def test_a_perfect_confusion_matrix_has_no_ink_off_the_diagonal():
    plots.confusion("confusion.png", np.arange(43), np.arange(43))
    pixels = read("confusion.png")
    assert pixels.shape == (1500, 1600, 3)
    diagonal = np.eye(43, dtype=bool)
    assert (cells(pixels)[~diagonal] == 255).all() and (cells(pixels)[diagonal] == (0, 0x2B, 0x45)).all()


def test_a_confusion_is_in_the_row_of_its_sign_and_coloured_by_its_fraction_of_the_signs_photos():
    counts = np.diag([0, 99, *[9] * 40, 0])
    counts[1, 40] = counts[5, 2] = 1
    plots.confusion("confusion.png", *[side.repeat(counts.ravel()) for side in np.divmod(np.arange(43 * 43), 43)])
    inked = cells(read("confusion.png"))
    assert (inked[[0, 42]] == 0xDD).all()  # no photos: grey
    tinted = (inked != 255).any(axis=(2, 3, 4)) & ~np.eye(43, dtype=bool)
    assert np.argwhere(tinted[1:42]).tolist() == [[0, 40], [4, 2]]
    assert np.median(inked[1, 40]) > np.median(inked[5, 2]) + 20  # one of 100 is paler than one of 10
    number = np.ptp(inked, axis=(2, 3)).max(axis=2) > 100
    assert np.argwhere(number).tolist() == [[1, 40], [5, 2]]  # none on the diagonal


def test_mistakes_shows_only_wrong_answers_pixel_by_pixel_the_most_confident_first():
    features, probabilities = some_photos(8)
    labels = np.arange(8)
    labels[[1, 4, 6]] = [42, 10, 14]
    probabilities[6, 6] = 0.95
    plots.mistakes("mistakes.png", features, labels, probabilities)
    pixels = read("mistakes.png")
    corners = [find(pixels, photo, 5) for photo in features]
    assert [i for i, corner in enumerate(corners) if corner] == [1, 4, 6]
    assert corners[6][1] < corners[1][1] < corners[4][1]
    assert count(pixels, VERMILION) > 50


def test_mistakes_shows_25_photos_at_most():
    features, probabilities = some_photos(26)
    plots.mistakes("mistakes.png", features, np.full(26, 42), probabilities)
    pixels = read("mistakes.png")
    assert pixels.shape == (1455, 1250, 3)
    assert [find(pixels, features[i], 5) is not None for i in (0, 24, 25)] == [True, True, False]


def test_without_mistakes_the_picture_says_so():
    features, probabilities = some_photos(3)
    plots.mistakes("none.png", features, np.arange(3), probabilities)
    pixels = read("none.png")
    assert pixels.shape[0] < 200 and count(pixels, VERMILION) == 0 and (pixels < 100).any()


def test_the_longest_names_fit_into_a_mistakes_cell():
    longest = max(range(43), key=lambda sign: len(gtsrb.sign_names()[sign]))
    probabilities = np.eye(43, dtype=np.float32)[np.full(10, longest)]
    plots.mistakes("mistakes.png", np.zeros((10, 32, 32, 3), np.uint8), np.full(10, 10), probabilities)
    pixels = read("mistakes.png")
    assert (pixels[80:, 245:255] == 255).all() and (pixels[80:, 495:505] == 255).all()  # between columns
    assert (pixels[350:358] == 255).all()  # between rows


def test_answers_shows_each_photo_and_bars_as_long_as_the_probabilities():
    features, _ = some_photos(3)
    probabilities = np.zeros((3, 43), np.float32)
    probabilities[0, 42], probabilities[1, :2], probabilities[2, 10:14] = 1, 0.5, 0.25
    plots.answers("answers.png", features, probabilities)
    pixels = read("answers.png")
    corners = [find(pixels, photo, 4) for photo in features]
    assert corners == sorted(corners) and len({x for _, x in corners}) == 1
    best = [(pixels[y:y + 26] == BLUE).all(axis=2).any(axis=0).sum() for y, _ in corners]
    assert np.allclose(best, [300, 150, 75], atol=2)


def test_the_longest_names_touch_neither_the_photo_nor_the_bars():
    for sign in (10, 42):
        plots.answers("answers.png", np.zeros((1, 32, 32, 3), np.uint8), np.eye(43, dtype=np.float32)[[sign]], top=1)
        pixels = read("answers.png")[40:-12]
        assert (pixels[:, 150:170] == 255).all() and (pixels[:, 542:548] == 255).all()


def test_any_file_name_becomes_a_title_of_one_line():
    names = ["$5 and $x_1$ {.png", "$\\frac{.png", "W" * 300 + ".png", "line\nbreak\t.png", "no text \udcff.png",
             "\u4e2d\u6587.png", Path("of") / "mine.png", ""]
    features, probabilities = some_photos(8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.answers("named.png", features, probabilities, names)
    plots.answers("plain.png", features, probabilities)
    named, plain = read("named.png"), read("plain.png")
    assert named.shape == plain.shape
    rows, lines = np.divmod(np.flatnonzero((named != plain).any(axis=(1, 2))), 178)
    assert set(rows) == set(range(7)) and lines.min() >= 18 and lines.max() <= 38  # all but the empty one


def test_a_dollar_is_drawn_as_a_dollar(monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: saved.append(figure))
    plots.answers("answers.png", *some_photos(1), names=["$x$.png"])
    titles = [text for text in saved[0].axes[0].texts if text.get_text() == "Image 0 $x$.png"]
    assert len(titles) == 1 and not titles[0].get_parse_math()


def test_many_photos_make_a_long_picture_and_those_left_out_are_counted(monkeypatch):
    features, probabilities = some_photos(25)
    plots.answers("many.png", features, probabilities, top=1)
    pixels = read("many.png")
    assert pixels.shape == (25 * 178 + 10, 920, 3) and find(pixels[-178:], features[24], 4)
    monkeypatch.setattr(plots, "MOST_ANSWERS", 2)
    plots.answers("two.png", features, probabilities)
    pixels = read("two.png")
    assert pixels.shape[0] < 500 and find(pixels, features[1], 4) and not find(pixels, features[2], 4)
    assert (pixels[-50:] < 100).any()  # how many are not shown


DRAW = {
    "history": lambda path: plots.history(path, [epoch(1)]),
    "confusion": lambda path: plots.confusion(path, np.arange(43), np.arange(43)),
    "mistakes": lambda path: plots.mistakes(path, some_photos(1)[0], np.array([1]), some_photos(1)[1]),
    "answers": lambda path: plots.answers(path, *some_photos(1)),
}


@pytest.mark.parametrize("picture", DRAW)
def test_a_failed_write_is_reported_in_one_sentence_and_leaves_nothing(picture):
    os.mkdir("taken.png")
    with pytest.raises(files.BadInput, match="taken.png cannot be written: "):
        DRAW[picture]("taken.png")
    assert os.listdir() == ["taken.png"] and os.listdir("taken.png") == []


def test_a_failed_drawing_leaves_the_old_picture():
    Path("history.png").write_bytes(b"old")
    with pytest.raises(KeyError):
        plots.history("history.png", [{"epoch": 1, "stage": "frozen"}])
    assert Path("history.png").read_bytes() == b"old" and os.listdir() == ["history.png"]


def test_the_same_input_makes_the_same_file():
    for path in ("a.png", "b.png"):
        plots.answers(path, *some_photos(1))
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
