"""Draws a training and a layer's answers as PNG files.

Lengths are in inches, at 100 pixels per inch. Colour-blind people can tell the colours apart too: they are from Okabe and
Ito, "Color Universal Design", 2008 (https://jfly.uni-koeln.de/color/).
"""

import io
import math
import warnings

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from lab import files
from lab.training.lettering import DPI, drawable, fonts, width, wrap

MOST_ANSWERS = 100  # photos in a picture of answers, which is then 17,800 pixels high and takes some seconds

_BLUE, _SKY, _VERMILION, _GREY = "#0072B2", "#56B4E9", "#D55E00", "#DDDDDD"
_MISTAKES = 25  # at most in one picture
_CLASSES = 50  # at most in a confusion matrix: with more, its cells would be too small for numbers


def history(path, epochs):
    """Draw loss (in nats) and accuracy over the `epochs` of a training into the PNG file `path`.

    epochs: a list of {"epoch": int, "stage": "frozen" or "finetuned", "training": {"loss": float, "accuracy": float},
        "validation": the same}, in order; accuracy from 0 to 1.

    Raises BadInput when the file cannot be written.
    """
    figure = Figure((11, 4.5), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    numbers = [epoch["epoch"] for epoch in epochs]
    finetuned = [epoch["epoch"] for epoch in epochs if epoch["stage"] == "finetuned"]
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy")):
        for split, style in (("training", {"color": _BLUE, "marker": "o", "linestyle": "--"}),
                             ("validation", {"color": _VERMILION, "marker": "s"})):
            axes.plot(numbers, [epoch[split][what] for epoch in epochs], label=split, **style)
        if 0 < len(finetuned) < len(epochs):
            axes.axvline(finetuned[0] - 0.5, color="black", linewidth=0.8, linestyle=":", label="finetuning begins")
        axes.set_title(what.capitalize())
        axes.set_xlabel("epoch")
        axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.grid(color=_GREY)
        axes.legend()
    loss, accuracy = figure.axes
    values = [[epoch[split][what] for epoch in epochs for split in ("training", "validation")]
              for what in ("loss", "accuracy")]
    loss.set_ylim(0, 1.08 * max(*values[0], 1e-3))
    accuracy.set_ylim(math.floor(10 * min(values[1])) / 10 - 0.02, 1.02)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    _save(figure, path)


def confusion(path, labels, answers, class_names):
    """Draw the confusion matrix into the PNG file `path`: a row for each class, a column for each answer.

    A cell's colour is its fraction of the row's photos. Its number is how many photos they are; on the diagonal the numbers
    are left out if there are more than 12 classes. Of more than 50 classes the 50 with the most mistakes are drawn.

    labels, answers: int64 [N], 0 to C - 1, N > 0. class_names: a list of C str.

    Raises BadInput when the file cannot be written.
    """
    classes = len(class_names)
    counts = np.bincount(labels * classes + answers, minlength=classes ** 2).reshape(classes, -1)
    names, families = drawable(class_names)
    title = f"{len(labels):,} photos, {np.trace(counts) / len(labels):.1%} of them read right"
    photos, shown = counts.sum(axis=1), np.arange(classes)
    if classes > _CLASSES:
        wrong = np.sum(answers != labels)
        involved = photos + counts.sum(axis=0) - 2 * counts.diagonal()
        shown = np.sort(np.argsort(-involved, kind="stable")[:_CLASSES])
        photos, counts = photos[shown], counts[np.ix_(shown, shown)]
        title += (f"; here the {_CLASSES} of {classes:,} classes with the most mistakes, "
                  f"{counts.sum() - np.trace(counts):,} of {wrong:,} among them")
    parts = np.full(counts.shape, np.nan)
    np.divide(counts, photos[:, None], out=parts, where=photos[:, None] > 0)
    if not photos.all():
        title += "; grey: classes without photos"

    # Lengths in inches: of a cell, of the matrix, and around it.
    cell = min(10.5 / len(shown), max(1, 3 / len(shown)))
    side = cell * len(shown)
    texts = [names[c] if names[c] == f"class {c}" else f"{wrap(names[c], 3.6, 9, families)}  {c}" for c in shown]
    bottom = 0.3 + max(width(text, 9, families) for text in texts)
    left = max(1.2, bottom)
    title = wrap(title, left + side + 1.5, 14, families, lines=4)
    top = (0.9 if classes > 100 else 0.6) + 0.25 * len(title.splitlines())
    size = left + side + 1.7, bottom + side + top

    figure = Figure(size, dpi=DPI)
    axes = figure.add_axes((left / size[0], bottom / size[1], side / size[0], side / size[1]), xticks=[], yticks=[])
    colours = LinearSegmentedColormap.from_list("parts", ["white", _SKY, _BLUE, "#002B45"]).with_extremes(bad=_GREY)
    norm = PowerNorm(0.5, 0, 1)  # the square root: otherwise rare mistakes would look white
    image = axes.imshow(parts, colours, norm)
    enlarged = min(1.6, cell / 0.25)
    for label, answer in np.argwhere(counts):
        if label != answer or len(shown) <= 12:
            text = str(counts[label, answer])
            axes.text(answer, label, text, ha="center", va="center_baseline", fontsize=min(8, 24 / len(text)) * enlarged,
                      color="white" if parts[label, answer] > 0.3 else "black")

    first, last, gap = -0.5, len(shown) - 0.5, 0.073 / cell
    between = np.arange(1, len(shown)) - 0.5
    axes.hlines(between, first, last, "#EEEEEE", linewidth=0.8)
    axes.vlines(between, first, last, "#EEEEEE", linewidth=0.8)
    named = {"fontsize": 9, "fontfamily": families, "parse_math": False}
    for i, text in enumerate(texts):  # the axes' own labels would take twice as long
        colour = "black" if photos[i] else "grey"
        axes.text(first - gap, i, text, ha="right", va="center_baseline", color=colour, **named)
        axes.text(last + gap, i, shown[i], ha="left", va="center_baseline", fontsize=9, color=colour)
        axes.text(i, first - gap, shown[i], ha="center", va="bottom", fontsize=9, rotation=90 * (classes > 100))
        axes.text(i, last + gap, text, ha="center", va="top", rotation=90, **named)
    axes.text(first - 0.12 / cell, last + gap, "read as", ha="right", va="top", fontsize=12)
    axes.text(first - gap, first - gap, "class", ha="right", va="bottom", fontsize=12)
    figure.text(0.5, 1 - 0.15 / size[1], title, ha="center", va="top", fontsize=14)
    bar = figure.colorbar(image, cax=figure.add_axes(((left + side + 0.6) / size[0], bottom / size[1],
                                                      0.2 / size[0], side / size[1])),
                          ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1], format=PercentFormatter(1, 0))
    bar.set_label("of the class's photos")
    _save(figure, path)


def mistakes(path, features, wrong, photos, class_names):
    """Draw the most confident wrong answers, 25 at most, into the PNG file `path`.

    features: uint8 [N, size, size, 3], or anything that returns a photo, uint8 [size, size, 3], for the index of a row.
    wrong: all wrong answers, as from evaluation.mistakes. photos: int, how many were read, right or wrong.
    class_names: a list of str, in the order of the labels.

    Raises BadInput when the file cannot be written.
    """
    names, families = drawable(class_names)
    worst = wrong[:_MISTAKES]
    title = f"Read wrongly: {len(wrong):,} of {photos:,} photos"
    if len(wrong) > len(worst):
        title += f", here the {len(worst)} with the greatest confidence"
    if not wrong:
        title = f"No mistakes: all {photos:,} photos were read right"

    side, height, columns = 2.5, 2.75, 5  # of a cell, in inches
    figure, axes = _sheet(columns * side, 0.8 + height * -(-len(worst) // columns))
    axes.text(0.2, 0.4, title, fontsize=14, va="center")
    named = {"fontsize": 9, "fontfamily": families, "parse_math": False, "ha": "center"}
    for i, mistake in enumerate(worst):
        x, y = i % columns * side, 0.8 + i // columns * height
        _place(figure, features[mistake.photo], x + 0.45, y + 0.4, 1.6)
        axes.text(x + side / 2, y + 0.35, wrap(names[mistake.label], 2.3, 9, families, lines=2), va="bottom", **named)
        answer = wrap(f"read as {names[mistake.read_as]}", 2.3, 9, families, lines=2)
        axes.text(x + side / 2, y + 2.05, f"{answer}\n{mistake.probability:.3f}", va="top", color=_VERMILION, **named)
    _save(figure, path)


def answers(path, features, probabilities, class_names, names=None, top=5, positions=None, count=None):
    """Draw the first 100 photos, one per row, with their `top` most probable classes into the PNG file `path`.

    features: uint8 [N, size, size, 3], or anything with a length that returns a photo, uint8 [size, size, 3], for the index of
        a row; probabilities: float32 [N, C]; class_names: a list of C str.
    positions: the photos' N numbers, by default from 0 on; names: the file names, if any, found by these numbers.
    count: how many photos there are in all, by default N.

    Raises BadInput when the file cannot be written.
    """
    bar, side = 0.256, 1.28  # inches
    height = max(side, min(top, len(class_names)) * bar) + 0.5
    shown = min(len(features), MOST_ANSWERS)
    left_out = (len(features) if count is None else count) - shown
    drawn_names, families = drawable(class_names)
    numbers = (range(len(features)) if positions is None else positions)[:shown]
    titles = [f"Image {number}" if names is None else _title(number, names[number]) for number in numbers]
    titled = {"fontsize": 9, "fontfamily": fonts("".join(titles)), "parse_math": False}
    if titled["fontfamily"] == fonts(""):
        titled["fontweight"] = "bold"  # others may not be there in bold
    figure, axes = _sheet(9.2, height * shown + 0.1 + 0.4 * (left_out > 0))
    for i, title in enumerate(titles):
        y = i * height + 0.4
        axes.text(0.2, y - 0.1, title, va="baseline", **titled)
        _place(figure, features[i], 0.2, y, side)
        best = np.argsort(-probabilities[i], kind="stable")[:top]
        middles = y + bar * (np.arange(len(best)) + 0.5)
        axes.barh(middles, probabilities[i, best] * 3, bar * 0.8, left=5.5, color=[_BLUE] + [_SKY] * (len(best) - 1))
        for answer, middle in zip(best, middles):
            axes.text(5.4, middle, wrap(drawn_names[answer], 3.6, 9, families), ha="right", va="center_baseline", fontsize=9,
                      fontfamily=families, parse_math=False)
            axes.text(5.55 + probabilities[i, answer] * 3, middle, f"{probabilities[i, answer]:.3f}",
                      va="center_baseline", fontsize=9)
    if left_out:
        axes.text(0.2, height * shown + 0.3, f"Photos not shown: {left_out:,}", fontsize=9)
    _save(figure, path)


def _title(number, name):
    title = f"Image {number} {files.printable(name)}"
    if len(title) > 68:  # what fits even if every character is a W
        title = f"Image {number} ...{title[-54:]}"  # the end of a path is the most specific part
    return title


def _sheet(width, height):
    """A Figure, and empty axes that cover it, in inches from its upper left corner."""
    pixels = np.round([width * DPI, height * DPI]) + 0.01  # older matplotlibs would truncate 44.6 inches to 4459 pixels
    figure = Figure(pixels / DPI, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def _place(figure, photo, x, y, side):
    """Put `photo`, uint8 [size, size, 3], at `x` and `y` on a sheet, `side` inches wide.

    The pixels of a small photo become squares if a whole number of them fits.
    """
    pixels = round(side * DPI)
    if pixels % len(photo):
        photo = np.asarray(Image.fromarray(photo).resize((pixels, pixels), Image.Resampling.LANCZOS))
    else:
        photo = photo.repeat(pixels // len(photo), axis=0).repeat(pixels // len(photo), axis=1)
    bottom = round(figure.get_figheight() * DPI) - round(y * DPI) - pixels
    figure.figimage(photo, round(x * DPI), bottom, origin="upper")


def _save(figure, path):
    picture = io.BytesIO()  # writing to the file itself, Pillow would not say why it failed
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # characters missing from the font are drawn as boxes
        figure.savefig(picture, format="png", dpi=DPI)
    with files.replacing(path) as file:
        file.write(picture.getbuffer())
