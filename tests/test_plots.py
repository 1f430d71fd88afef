"""The pictures show what they were given, survive any file name, and are written whole or not at all."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from lab import files
from lab.data import gtsrb
from lab.training import evaluation, plots

SIGNS = gtsrb.sign_names()
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


def draw_mistakes(path, features, labels, probabilities, names=SIGNS):
    wrong = evaluation.mistakes(np.log(probabilities + 1e-9), labels, np.arange(len(labels)))
    plots.mistakes(path, features, wrong, len(labels), names)


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
    plots.confusion("confusion.png", np.arange(43), np.arange(43), SIGNS)
    pixels = read("confusion.png")
    assert np.allclose(pixels.shape, (1500, 1600, 3), atol=50)  # the fonts count too
    diagonal = np.eye(43, dtype=bool)
    assert (cells(pixels)[~diagonal] == 255).all() and (cells(pixels)[diagonal] == (0, 0x2B, 0x45)).all()


def test_a_confusion_is_in_the_row_of_its_sign_and_coloured_by_its_fraction_of_the_signs_photos():
    counts = np.diag([0, 99, *[9] * 40, 0])
    counts[1, 40] = counts[5, 2] = 1
    plots.confusion("confusion.png", *[side.repeat(counts.ravel()) for side in np.divmod(np.arange(43 * 43), 43)], SIGNS)
    inked = cells(read("confusion.png"))
    assert (inked[[0, 42]] == 0xDD).all()  # no photos: grey
    tinted = (inked != 255).any(axis=(2, 3, 4)) & ~np.eye(43, dtype=bool)
    assert np.argwhere(tinted[1:42]).tolist() == [[0, 40], [4, 2]]
    assert np.median(inked[1, 40]) > np.median(inked[5, 2]) + 20  # one of 100 is paler than one of 10
    number = np.ptp(inked, axis=(2, 3)).max(axis=2) > 100
    assert np.argwhere(number).tolist() == [[1, 40], [5, 2]]  # none on the diagonal


def test_two_classes_make_a_small_matrix_of_large_cells_with_their_counts():
    plots.confusion("confusion.png", np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 1]), ["cat", "dog"])
    pixels = read("confusion.png")
    assert pixels.shape[0] < 600 and pixels.shape[1] < 800
    assert count(pixels, (0, 0x2B, 0x45)) > 100 * 100  # all three dogs, with the number 3 in it
    assert count(pixels[:, :-200], (255, 255, 255)) > 100 * 100  # no dog was read as a cat


def test_of_hundreds_of_classes_the_ones_with_most_mistakes_are_drawn(monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: saved.append(figure))
    names = [f"species {chr(0x3b1 + c % 20)}{c}" for c in range(300)]
    labels = np.arange(300).repeat(4)
    answers = labels.copy()
    answers[4 * 7], answers[4 * 250: 4 * 250 + 3], answers[4 * 299] = 8, 120, 0
    plots.confusion("confusion.png", labels, answers, names)
    matrix = saved[0].axes[0]
    texts = [text.get_text() for text in matrix.texts]
    assert [sum(text.startswith(f"{names[c]}  {c}") for text in texts) for c in (7, 8, 120, 250, 0, 299)] == [2] * 6
    assert sum(text.startswith("species") for text in texts) == 2 * 50 and texts.count("3") == 2 + 1  # class 3, and a confusion
    assert max(saved[0].get_size_inches()) < 17
    assert any("50 of 300 classes" in text.get_text() and "5 of 5" in text.get_text() for text in saved[0].texts)


def test_names_of_any_characters_and_lengths_can_be_drawn_and_fit():
    names = ["$x_1$", "a_b^c", "\\frac{1}{2}", "100% \\$ {", "two\nlines\t\x1b[0m \udcff", "W" * 200, "words " * 50,
             "\u05e9\u05dc\u05d5\u05dd", "\u0633\u0644\u0627\u0645", ""]
    labels, probabilities = np.arange(10), np.roll(np.eye(10, dtype=np.float32), 1, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.confusion("confusion.png", labels, labels, names)
        draw_mistakes("mistakes.png", some_photos(10)[0], labels, probabilities, names)
        plots.answers("answers.png", some_photos(1)[0], probabilities, names, top=10)
    assert max(read("confusion.png").shape) < 1800
    between = read("mistakes.png")[80:, [246, 247, 497, 498, 747, 748, 997, 998]]
    assert (between == 255).all()
    assert (read("answers.png")[40:, 150:170] == 255).all()


def test_no_name_is_taken_for_a_formula(monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: saved.append(figure))
    plots.confusion("confusion.png", np.array([0]), np.array([1]), ["$x$", "$y$"])
    draw_mistakes("mistakes.png", some_photos(1)[0], np.array([0]), np.array([[0.25, 0.75]]), ["$x$", "$y$"])
    plots.answers("answers.png", some_photos(1)[0], np.array([[0.25, 0.75]]), ["$x$", "$y$"])
    named = [text for figure in saved for text in figure.axes[0].texts if "$" in text.get_text()]
    assert len(named) == 4 + 2 + 2 and not any(text.get_parse_math() for text in named)


@pytest.fixture
def few_fonts(monkeypatch):
    """Only matplotlib's own fonts are installed. Returns a list: paths of fonts that are, and that matplotlib does not know."""
    new = []
    ours = [font for font in font_manager.fontManager.ttflist if "DejaVu" in font.name or "Resort" in font.name]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", ours)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: new)
    return new


def write_font(path, letters):
    """Write a font in which each of `letters` is a black square."""
    pen = TTGlyphPen(None)
    for move, point in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 1000)), (pen.lineTo, (1000, 1000)), (pen.lineTo, (1000, 0))):
        move(point)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(letter): "square" for letter in letters})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular", "fullName": "Squares", "psName": "Squares"})
    font.setupOS2()
    font.setupPost()
    font.save(path)


def black_squares(pixels):
    """How many squares of 8 by 8 black pixels there are, overlapping ones included."""
    black = np.lib.stride_tricks.sliding_window_view((pixels < 40).all(axis=2), (8, 8))
    return int(black.all(axis=(2, 3)).sum())


def test_letters_that_the_usual_font_lacks_are_drawn_in_an_installed_one_that_has_them(few_fonts, capsys):
    write_font("squares.ttf", "\u96cf\u83ca")
    few_fonts.append("squares.ttf")
    plots.answers("answers.png", *some_photos(1), ["\u96cf\u83ca", *SIGNS[1:]], ["a \u83ca.png"], top=1)
    pixels = read("answers.png")
    assert black_squares(pixels[:40]) and black_squares(pixels[40:, 200:540]) and capsys.readouterr().err == ""


def test_a_name_that_no_installed_font_can_write_becomes_its_number_with_one_notice(few_fonts, capsys):
    names = ["cat", "\u8702\u871c", "dog", "a \u871c"]
    plots.answers("names.png", some_photos(1)[0], np.full((1, 4), 0.25, np.float32), names)
    plots.confusion("confusion.png", np.array([0]), np.array([0]), names)
    notice, = capsys.readouterr().err.splitlines()
    assert '2 classes, such as "class 1"' in notice and names[1] in notice
    plots.answers("numbers.png", some_photos(1)[0], np.full((1, 4), 0.25, np.float32), ["cat", "class 1", "dog", "class 3"])
    assert np.array_equal(read("names.png"), read("numbers.png"))


class Reader:
    """Photos of one colour that are made when they are asked for, one by one."""

    def __init__(self, count, size):
        self.shape, self.asked = (count, size, size, 3), []

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, row):
        assert type(row) is int
        self.asked.append(row)
        return np.full(self.shape[1:], (10 * row % 256, 200, 100), np.uint8)


@pytest.mark.parametrize("size", [32, 227])
def test_photos_of_any_size_are_as_large_on_the_picture_and_only_those_drawn_are_read(size, monkeypatch):
    features, labels = Reader(1000, size), np.zeros(1000, int)
    probabilities = np.tile(np.array([0.9, 0.1], np.float32), (1000, 1))
    probabilities[[3, 900]] = [0.2, 0.8], [0.1, 0.9]
    draw_mistakes("mistakes.png", features, labels, probabilities, ["cat", "dog"])
    assert features.asked == [900, 3]
    assert count(read("mistakes.png"), (30, 200, 100)) == 160 * 160
    monkeypatch.setattr(plots, "MOST_ANSWERS", 2)
    plots.answers("answers.png", features, probabilities, ["cat", "dog"])
    assert features.asked == [900, 3, 0, 1] and count(read("answers.png"), (10, 200, 100)) == 128 * 128


def test_mistakes_shows_only_wrong_answers_pixel_by_pixel_the_most_confident_first():
    features, probabilities = some_photos(8)
    labels = np.arange(8)
    labels[[1, 4, 6]] = [42, 10, 14]
    probabilities[6, 6] = 0.95
    draw_mistakes("mistakes.png", features, labels, probabilities)
    pixels = read("mistakes.png")
    corners = [find(pixels, photo, 5) for photo in features]
    assert [i for i, corner in enumerate(corners) if corner] == [1, 4, 6]
    assert corners[6][1] < corners[1][1] < corners[4][1]
    assert count(pixels, VERMILION) > 50


def test_mistakes_shows_25_photos_at_most():
    features, probabilities = some_photos(26)
    draw_mistakes("mistakes.png", features, np.full(26, 42), probabilities)
    pixels = read("mistakes.png")
    assert pixels.shape == (1455, 1250, 3)
    assert [find(pixels, features[i], 5) is not None for i in (0, 24, 25)] == [True, True, False]


def test_without_mistakes_the_picture_says_so():
    features, probabilities = some_photos(3)
    draw_mistakes("none.png", features, np.arange(3), probabilities)
    pixels = read("none.png")
    assert pixels.shape[0] < 200 and count(pixels, VERMILION) == 0 and (pixels < 100).any()


def test_the_longest_names_fit_into_a_mistakes_cell():
    longest = max(range(43), key=lambda sign: len(SIGNS[sign]))
    probabilities = np.eye(43, dtype=np.float32)[np.full(10, longest)]
    draw_mistakes("mistakes.png", np.zeros((10, 32, 32, 3), np.uint8), np.full(10, 10), probabilities)
    pixels = read("mistakes.png")
    assert (pixels[80:, 245:255] == 255).all() and (pixels[80:, 495:505] == 255).all()  # between columns
    assert (pixels[350:358] == 255).all()  # between rows


def test_answers_shows_each_photo_and_bars_as_long_as_the_probabilities():
    features, _ = some_photos(3)
    probabilities = np.zeros((3, 43), np.float32)
    probabilities[0, 42], probabilities[1, :2], probabilities[2, 10:14] = 1, 0.5, 0.25
    plots.answers("answers.png", features, probabilities, SIGNS)
    pixels = read("answers.png")
    corners = [find(pixels, photo, 4) for photo in features]
    assert corners == sorted(corners) and len({x for _, x in corners}) == 1
    best = [(pixels[y:y + 26] == BLUE).all(axis=2).any(axis=0).sum() for y, _ in corners]
    assert np.allclose(best, [300, 150, 75], atol=2)


def test_the_longest_names_touch_neither_the_photo_nor_the_bars():
    for sign in (10, 42):
        plots.answers("answers.png", np.zeros((1, 32, 32, 3), np.uint8), np.eye(43, dtype=np.float32)[[sign]], SIGNS, top=1)
        pixels = read("answers.png")[40:-12]
        assert (pixels[:, 150:170] == 255).all() and (pixels[:, 542:548] == 255).all()


def test_any_file_name_becomes_a_title_of_one_line():
    names = ["$5 and $x_1$ {.png", "$\\frac{.png", "W" * 300 + ".png", "line\nbreak\t.png", "no text \udcff.png",
             "\u4e2d\u6587.png", Path("of") / "mine.png", ""]
    features, probabilities = some_photos(8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.answers("named.png", features, probabilities, SIGNS, names)
    plots.answers("plain.png", features, probabilities, SIGNS)
    named, plain = read("named.png"), read("plain.png")
    assert named.shape == plain.shape
    rows, lines = np.divmod(np.flatnonzero((named != plain).any(axis=(1, 2))), 178)
    assert set(rows) == set(range(7)) and lines.min() >= 18 and lines.max() <= 38  # all but the empty one


def test_a_dollar_is_drawn_as_a_dollar(monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: saved.append(figure))
    plots.answers("answers.png", *some_photos(1), SIGNS, names=["$x$.png"])
    titles = [text for text in saved[0].axes[0].texts if text.get_text() == "Image 0 $x$.png"]
    assert len(titles) == 1 and not titles[0].get_parse_math()


def test_many_photos_make_a_long_picture_and_those_left_out_are_counted(monkeypatch):
    features, probabilities = some_photos(25)
    plots.answers("many.png", features, probabilities, SIGNS, top=1)
    pixels = read("many.png")
    assert pixels.shape == (25 * 178 + 10, 920, 3) and find(pixels[-178:], features[24], 4)
    monkeypatch.setattr(plots, "MOST_ANSWERS", 2)
    plots.answers("two.png", features, probabilities, SIGNS)
    pixels = read("two.png")
    assert pixels.shape[0] < 500 and find(pixels, features[1], 4) and not find(pixels, features[2], 4)
    assert (pixels[-50:] < 100).any()  # how many are not shown


DRAW = {
    "history": lambda path: plots.history(path, [epoch(1)]),
    "confusion": lambda path: plots.confusion(path, np.arange(3), np.arange(3), list("abc")),
    "mistakes": lambda path: draw_mistakes(path, some_photos(1)[0], np.array([1]), some_photos(1)[1]),
    "answers": lambda path: plots.answers(path, *some_photos(1), SIGNS),
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
        plots.answers(path, *some_photos(1), SIGNS)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
