"""Draws a training and a layer's answers as PNG files.

Lengths are in inches, at 100 pixels per inch. Colour-blind people can tell the colours apart too: they are from Okabe and
Ito, "Color Universal Design", 2008 (https://jfly.uni-koeln.de/color/).
"""

import io
import math
import textwrap
import warnings

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lab import files
from lab.data import gtsrb

MOST_ANSWERS = 100  # photos in a picture of answers, which is then 17,800 pixels high and takes some seconds

_DPI = 100
_BLUE, _SKY, _VERMILION, _GREY = "#0072B2", "#56B4E9", "#D55E00", "#DDDDDD"
_MISTAKES = 25  # at most in one picture


def history(path, epochs):
    """Draw loss (in nats) and accuracy over the `epochs` of a training into the PNG file `path`.

    epochs: a list of {"epoch": int, "stage": "frozen" or "finetuned", "training": {"loss": float, "accuracy": float},
        "validation": the same}, in order; accuracy from 0 to 1.

    Raises BadInput when the file cannot be written.
    """
    figure = Figure((11, 4.5), dpi=_DPI, layout="constrained")
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


def confusion(path, labels, answers):
    """Draw the confusion matrix into the PNG file `path`: a row for each sign, a column for each answer.

    A cell's colour is its fraction of the row's photos. Off the diagonal, its number is how many photos they are.

    labels, answers: int64 [N], 0 to 42, N > 0. Raises BadInput when the file cannot be written.
    """
    counts = np.bincount(labels * gtsrb.CLASSES + answers, minlength=gtsrb.CLASSES ** 2).reshape(gtsrb.CLASSES, -1)
    photos = counts.sum(axis=1)
    parts = np.full(counts.shape, np.nan)
    np.divide(counts, photos[:, None], out=parts, where=photos[:, None] > 0)

    figure = Figure((16, 15), dpi=_DPI)
    axes = figure.add_axes((3.8 / 16, 3.8 / 15, 10.5 / 16, 10.5 / 15), xticks=[], yticks=[])
    colours = LinearSegmentedColormap.from_list("parts", ["white", _SKY, _BLUE, "#002B45"]).with_extremes(bad=_GREY)
    norm = PowerNorm(0.5, 0, 1)  # the square root: otherwise rare mistakes would look white
    image = axes.imshow(parts, colours, norm)
    for label, answer in np.argwhere(counts):
        if label != answer:
            text = str(counts[label, answer])
            axes.text(answer, label, text, ha="center", va="center_baseline", fontsize=min(8, 24 / len(text)),
                      color="white" if parts[label, answer] > 0.3 else "black")

    first, last = -0.5, gtsrb.CLASSES - 0.5
    between = np.arange(1, gtsrb.CLASSES) - 0.5
    axes.hlines(between, first, last, "#EEEEEE", linewidth=0.8)
    axes.vlines(between, first, last, "#EEEEEE", linewidth=0.8)
    for sign, name in enumerate(gtsrb.sign_names()):  # the axes' own labels would take twice as long
        colour = "black" if photos[sign] else "grey"
        axes.text(first - 0.3, sign, f"{name}  {sign}", ha="right", va="center_baseline", fontsize=9, color=colour)
        axes.text(last + 0.3, sign, sign, ha="left", va="center_baseline", fontsize=9, color=colour)
        axes.text(sign, first - 0.3, sign, ha="center", va="bottom", fontsize=9)
        axes.text(sign, last + 0.3, f"{name}  {sign}", ha="center", va="top", rotation=90, fontsize=9)
    axes.text(first - 1, last + 0.3, "read as", ha="right", va="top", fontsize=12)
    axes.text(first - 0.3, first - 0.3, "sign", ha="right", va="bottom", fontsize=12)
    title = f"{len(labels):,} photos, {np.trace(counts) / len(labels):.1%} of them read right"
    axes.set_title(title + "; grey: signs without photos" * (not photos.all()), fontsize=14, pad=24)
    bar = figure.colorbar(image, cax=figure.add_axes((14.9 / 16, 3.8 / 15, 0.2 / 16, 10.5 / 15)),
                          ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1], format=PercentFormatter(1, 0))
    bar.set_label("of the sign's photos")
    _save(figure, path)


def mistakes(path, features, labels, probabilities):
    """Draw the most confident wrong answers, 25 at most, into the PNG file `path`.

    features: uint8 [N, 32, 32, 3]; labels: int64 [N], 0 to 42; probabilities: float32 [N, 43].

    Raises BadInput when the file cannot be written.
    """
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    worst = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")][:_MISTAKES]
    names = gtsrb.sign_names()
    title = f"Read wrongly: {len(wrong):,} of {len(labels):,} photos"
    if len(wrong) > len(worst):
        title += f", here the {len(worst)} with the greatest confidence"
    if not len(wrong):
        title = f"No mistakes: all {len(labels):,} photos were read right"

    width, height, columns = 2.5, 2.75, 5  # of a cell, in inches
    figure, axes = _sheet(columns * width, 0.8 + height * -(-len(worst) // columns))
    axes.text(0.2, 0.4, title, fontsize=14, va="center")
    for i, photo in enumerate(worst):
        x, y = i % columns * width, 0.8 + i // columns * height
        _place(figure, features[photo], x + 0.45, y + 0.4, 5)
        answer = answers[photo]
        axes.text(x + width / 2, y + 0.35, _wrap(names[labels[photo]]), ha="center", va="bottom", fontsize=9)
        axes.text(x + width / 2, y + 2.05, _wrap(f"read as {names[answer]}") + f"\n{probabilities[photo, answer]:.3f}",
                  ha="center", va="top", fontsize=9, color=_VERMILION)
    _save(figure, path)


def answers(path, features, probabilities, names=None, top=5, positions=None, count=None):
    """Draw the first 100 photos, one per row, with their `top` most probable signs into the PNG file `path`.

    features: uint8 [N, 32, 32, 3]; probabilities: float32 [N, 43]; positions: the photos' N numbers, by default from 0 on;
    names: the file names, if any, found by these numbers; count: how many photos there are in all, by default N.

    Raises BadInput when the file cannot be written.
    """
    bar, side = 0.256, 1.28  # inches
    height = max(side, top * bar) + 0.5
    shown = features[:MOST_ANSWERS]
    left_out = (len(features) if count is None else count) - len(shown)
    sign_names = gtsrb.sign_names()
    figure, axes = _sheet(9.2, height * len(shown) + 0.1 + 0.4 * (left_out > 0))
    for i, photo in enumerate(shown):
        y = i * height + 0.4
        number = i if positions is None else positions[i]
        title = f"Image {number}" if names is None else f"Image {number} {_printable(names[number])}"
        if len(title) > 68:  # what fits even if every character is a W
            title = f"Image {number} ...{title[-54:]}"  # the end of a path is the most specific part
        axes.text(0.2, y - 0.1, title, fontsize=9, fontweight="bold", va="baseline", parse_math=False)
        _place(figure, photo, 0.2, y, 4)
        best = np.argsort(-probabilities[i], kind="stable")[:top]
        middles = y + bar * (np.arange(len(best)) + 0.5)
        axes.barh(middles, probabilities[i, best] * 3, bar * 0.8, left=5.5, color=[_BLUE] + [_SKY] * (len(best) - 1))
        for answer, middle in zip(best, middles):
            axes.text(5.4, middle, sign_names[answer], ha="right", va="center_baseline", fontsize=9)
            axes.text(5.55 + probabilities[i, answer] * 3, middle, f"{probabilities[i, answer]:.3f}",
                      va="center_baseline", fontsize=9)
    if left_out:
        axes.text(0.2, height * len(shown) + 0.3, f"Photos not shown: {left_out:,}", fontsize=9)
    _save(figure, path)


def _sheet(width, height):
    """A Figure, and empty axes that cover it, in inches from its upper left corner."""
    pixels = np.round([width * _DPI, height * _DPI]) + 0.01  # older matplotlibs would truncate 44.6 inches to 4459 pixels
    figure = Figure(pixels / _DPI, dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def _place(figure, photo, x, y, scale):
    """Put `photo`, uint8 [32, 32, 3], at `x` and `y` on a sheet, each of its pixels a square of `scale` pixels."""
    photo = photo.repeat(scale, axis=0).repeat(scale, axis=1)
    bottom = round(figure.get_figheight() * _DPI) - round(y * _DPI) - len(photo)
    figure.figimage(photo, round(x * _DPI), bottom, origin="upper")


def _wrap(text):
    return textwrap.fill(text, 30)


def _printable(name):
    """A file's name, which may contain any characters, as one line of printable text."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(name))


def _save(figure, path):
    picture = io.BytesIO()  # writing to the file itself, Pillow would not say why it failed
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # characters missing from the font are drawn as boxes
        figure.savefig(picture, format="png", dpi=_DPI)
    with files.replacing(path) as file:
        file.write(picture.getbuffer())
