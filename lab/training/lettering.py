"""Fits texts into matplotlib's pictures: fonts that have their letters, and lines that are short enough."""

import bisect
import contextlib
import functools
import unicodedata
import warnings

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import RendererAgg

from lab import files

DPI = 100  # pixels per inch

_PLACEHOLDERS = "lastresort", "adobeblank"  # fonts with a box, or nothing, in every letter's place
_LONGEST = 500  # characters of a text: more than fit anywhere


def fonts(text):
    """The fonts to draw `text` with, a list of families for matplotlib's `fontfamily`.

    The first is the usual one. Others follow if it lacks letters that an installed font has.
    """
    return [*_usual(), *_search(_missing(text))[0]]


def drawable(class_names):
    """How to draw `class_names`, a list of str: (names, fonts), a list of as many str, and a list of families.

    Names become one printable line each. A name with a letter that no installed font has becomes "class 17", its number, which
    a notice says; and so does one in Arabic or Hebrew where matplotlib is older than 3.11 and would draw it from the left.
    """
    return _drawable(tuple(class_names))


@functools.lru_cache(maxsize=8)  # a training draws up to four pictures: one notice is enough
def _drawable(class_names):
    names = [files.printable(name) for name in class_names]
    families, lacking = _search(_missing("".join(names)))
    undrawn = [c for c, name in enumerate(names) if not lacking.isdisjoint(name) or _cannot_be_ordered(name)]
    if undrawn:
        first = undrawn[0]
        many = f"the numbers of {len(undrawn):,} classes, such as " if len(undrawn) > 1 else ""
        why = ("no installed font has these letters" if not lacking.isdisjoint(names[first])
               else "matplotlib before 3.11 cannot write from right to left")
        files.notice(f"The pictures show {many}\"class {first}\" for {files.shorten(names[first])}: {why}.")
    for c in undrawn:
        names[c] = f"class {c}"
    return names, [*_usual(), *families]


def _cannot_be_ordered(name):
    return matplotlib.__version_info__ < (3, 11) and any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name)


def wrap(text, inches, size, families, lines=1, weight="normal"):
    """Break `text` into at most `lines` lines, none wider than `inches` in a font of `size` points; "..." ends a cut text."""
    properties = font_manager.FontProperties(family=families, size=size, weight=weight)

    def fitting(ending=""):
        """How many of the first characters fit into a line, before `ending`; 1 at least."""
        return max(1, bisect.bisect(range(1, len(text) + 1), inches, key=lambda n: _width(text[:n] + ending, properties)))

    text = text[:_LONGEST]
    broken = []
    with _without_warnings():
        while _width(text, properties) > inches and len(broken) < lines - 1:
            count = fitting()
            space = text.rfind(" ", 1, count + 1)
            count = space if space > 0 else count
            broken.append(text[:count].rstrip())
            text = text[count:].lstrip()
        if _width(text, properties) > inches:
            text = text[:fitting("...")].rstrip() + "..."
    return "\n".join([*broken, text])


def width(text, size, families):
    """The width of one line of `text`, in inches, in a font of `size` points."""
    with _without_warnings():
        return _width(text, font_manager.FontProperties(family=families, size=size))


@functools.lru_cache(maxsize=1000)  # measuring takes a third of a millisecond
def _width(text, properties):
    return _renderer().get_text_width_height_descent(text, properties, False)[0] / DPI


@functools.cache
def _renderer():
    return RendererAgg(1, 1, DPI)


@contextlib.contextmanager
def _without_warnings():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # in a file's name; a box is as wide as a letter
        yield


def _usual():
    return matplotlib.rcParams["font.family"]  # a list of families


def _missing(text):
    """The letters of `text` that the usual font lacks, a frozenset."""
    return _without(font_manager.findfont(font_manager.FontProperties(family=_usual())), set(text))


def _without(path, letters):
    """Those of `letters` that the font in the file `path` lacks, a frozenset."""
    font = font_manager.get_font(path)
    return frozenset(letter for letter in letters if not font.get_char_index(ord(letter)) and not _is_invisible(letter))


def _is_invisible(letter):
    return unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f"  # joiners, variants


@functools.lru_cache(maxsize=8)
def _search(letters):
    """Installed fonts that have `letters`, a frozenset: (a tuple of families, a frozenset of the letters that none has).

    Each family is looked at once, which takes about a millisecond, and only if letters are missing.
    """
    families, lacking = _choose(letters)
    if lacking:  # matplotlib keeps its list of fonts on disk and does not notice new ones
        known = {font.fname for font in font_manager.fontManager.ttflist}
        for path in sorted(set(font_manager.findSystemFonts()) - known):
            with contextlib.suppress(Exception):  # fonts can be damaged in many ways
                font_manager.fontManager.addfont(path)
        families, lacking = _choose(letters)
    return families, lacking


def _choose(letters):
    """What `_search` returns, from the fonts that matplotlib knows."""
    if not letters:
        return (), letters
    upright = [font for font in font_manager.fontManager.ttflist if font.style == "normal"]
    weights = font_manager.weight_dict
    upright.sort(key=lambda font: (abs(weights.get(font.weight, font.weight) - weights["normal"]), font.name, font.fname))
    lacks = {}
    for font in upright:
        if font.name not in lacks and not font.name.lower().replace(" ", "").startswith(_PLACEHOLDERS):
            with contextlib.suppress(Exception):  # the file may be gone, or damaged
                lacks[font.name] = _without(font.fname, letters)
    families = []
    while lacks:
        best = min(lacks, key=lambda name: (len(lacks[name] & letters), "Sans" not in name))
        if lacks[best] >= letters:
            break
        families.append(best)
        letters &= lacks[best]
    return tuple(families), letters
