"""The 43 signs as clean flat pictures, drawn by code.

Shapes, colours and pictograms follow the German road traffic regulations (StVO, Anlagen 1 to 3); comments give each
sign's number in the catalogue VzKat. All coordinates are hundredths of the picture's side, x to the right and y down.
Digits and letters are DejaVu Sans, which matplotlib ships.
"""

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lab.data.gtsrb import CLASSES

DESIGNS = ("slim", "wide")  # two variants of every sign: borders, strokes, digits and arrow heads differ

# The regulations specify RAL 3020, 5017, 1023, 9016, 9017, 6024 and 7042. As GTSRB's camera shows them, red is darker
# here, blue more violet and yellow more orange than the sRGB values of these paints.
RED, BLUE, YELLOW, WHITE, BLACK = (180, 28, 30), (24, 60, 155), (245, 165, 10), (241, 240, 234), (42, 41, 42)
GREEN, GREY = (0, 131, 81), (142, 146, 145)


def templates(size):
    """All signs: uint8 [43, 2, size, size, 4], RGBA with straight alpha; the second axis follows DESIGNS.

    A sign fills the width; the pixels outside it are transparent. `size` is in pixels.
    """
    return np.stack([np.stack([_template(label, design == "wide", size) for design in DESIGNS])
                     for label in range(CLASSES)])


def _template(label, wide, size):
    side = 4 * size  # drawn at four times the size, for smooth edges
    pen = _Pen(Image.new("RGBA", (side, side)), wide)
    _SIGNS[label](pen)
    sign = pen.image.crop(pen.image.getchannel("A").getbbox())
    # GTSRB's photos are cropped around the sign and made square, which stretches triangles upwards, though only halfway
    # because of their margin. Shrinking must weight colours by alpha ("RGBa"), or the transparent outside darkens edges.
    height = round(size * (1 + sign.height / sign.width) / 2)
    template = Image.new("RGBa", (size, size))
    template.paste(sign.convert("RGBa").resize((size, height), Image.Resampling.BOX), (0, (size - height) // 2))
    return np.asarray(template.convert("RGBA"))


class _Pen:
    """Draws on `image` in hundredths of its side, moved and scaled by `at`; `wide` selects the second of DESIGNS."""

    def __init__(self, image, wide):
        self.image, self.wide = image, wide
        self.draw = ImageDraw.Draw(image)
        self.x, self.y, self.scale, self.mirrored = 0, 0, 1, False

    def at(self, x, y, scale=1, mirrored=False):
        """From now on, draw with the centre (50, 50) at (x, y), `scale` times as large, mirrored if `mirrored`."""
        self.x, self.y, self.scale, self.mirrored = x - 50 * scale, y - 50 * scale, scale, mirrored

    def _place(self, points):
        unit = self.image.width / 100
        return [((self.x + self.scale * (100 - x if self.mirrored else x)) * unit, (self.y + self.scale * y) * unit)
                for x, y in points]

    def polygon(self, colour, *points, rounding=0):
        placed = self._place(points)
        self.draw.polygon(placed, fill=colour)
        if rounding:
            self._stroke(colour, 2 * rounding, placed + placed[:1], round_ends=True)

    def line(self, colour, width, *points, round_ends=False):
        self._stroke(colour, width, self._place(points), round_ends)

    def _stroke(self, colour, width, placed, round_ends):
        width *= self.scale * self.image.width / 100
        self.draw.line(placed, fill=colour, width=round(width))
        for x, y in placed if round_ends else placed[1:-1]:
            self.draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=colour)

    def disc(self, colour, x, y, radius):
        (left, top), (right, bottom) = self._place([(x - radius, y - radius), (x + radius, y + radius)])
        self.draw.ellipse([min(left, right), top, max(left, right), bottom], fill=colour)

    def ring(self, colour, width, x, y, radius, hole):
        self.disc(colour, x, y, radius)
        self.disc(hole, x, y, radius - width)

    def arrow(self, colour, width, *points, head=15):
        """A line with an arrow head, `head` long, beyond its last point: barbs, or a triangle in the wide design."""
        (x0, y0), (x1, y1) = points[-2:]
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length

        def beside(ahead, side):
            return x1 + dx * ahead - dy * side, y1 + dy * ahead + dx * side

        self.line(colour, width, *points)
        if self.wide:
            self.polygon(colour, beside(head, 0), beside(-1, head), beside(-1, -head))
        else:
            for side in (1, -1):
                self.polygon(colour, beside(head, 0), beside(0, side * head), beside(-width, side * head),
                             beside(-width * 0.2, side * width * 0.2), beside(0, 0))
            self.line(colour, width, (x1, y1), beside(head - width * 0.7, 0))

    def text(self, colour, text, left, top, right, bottom):
        """`text` stretched to fill a box. Letters are equally wide; a 1 is narrow and has no foot, as on signs."""
        width = (right - left) / (len(text) - 0.45 * text.count("1"))
        gap, stroke = width * 0.13, 6.2 if self.wide else 4.8
        for letter in text:
            cell = 0.55 * width if letter == "1" else width
            if letter == "1":
                stem = left + cell - gap / 2 - stroke / 2
                self.line(colour, stroke, (stem, top), (stem, bottom))
                self.polygon(colour, (stem + stroke / 2, top), (stem - stroke / 2, top), (left - gap / 2, top + 8),
                             (left - gap / 2, top + 14), (stem, top + 7))
            else:
                (x0, y0), (x1, y1) = self._place([(left + gap / 2, top), (left + cell - gap / 2, bottom)])
                mask = _letter(letter, round(x1 - x0), round(y1 - y0), stroke * self.scale * self.image.width / 100)
                self.image.paste(colour, (round(x0), round(y0)), Image.fromarray(mask))
            left += cell


def _letter(letter, width, height, stroke):
    """A mask of one letter or digit, `width` by `height` pixels, with strokes of uniform width, as on signs."""
    from scipy.ndimage import distance_transform_edt  # imported late, since importing this module must be quick

    inner = (round(width - stroke), round(height - stroke))
    skeleton = np.asarray(_skeleton(letter).resize(inner, Image.Resampling.BOX))
    row = np.linspace(-1, 1, inner[1])  # raised to the power of 1.5, to flatten a round top
    skeleton = skeleton[np.rint((np.sign(row) * np.abs(row) ** 1.5 + 1) / 2 * (inner[1] - 1)).astype(int)]
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    skeleton = np.pad(skeleton, ((top, height - inner[1] - top), (left, width - inner[0] - left)))
    return np.where(distance_transform_edt(skeleton < 100) <= stroke / 2, 255, 0).astype(np.uint8)


@functools.cache
def _skeleton(letter):
    """A mask of a letter or digit of DejaVu Sans, thinned to the middle of its strokes and cropped."""
    import matplotlib  # for its fonts; imported late, since only text needs it
    from scipy.ndimage import distance_transform_edt

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 400)
    mask = Image.new("L", (600, 600))
    ImageDraw.Draw(mask).text((100, 60), letter, font=font, fill=255)
    thin = Image.fromarray(distance_transform_edt(np.asarray(mask) > 127) > 15)  # half a stroke has 18 pixels
    return thin.crop(thin.getbbox()).convert("L")


def _arc(x, y, radius, start, end, steps=24):
    """Points on a circle, from angle `start` to `end` in degrees, counterclockwise from the right."""
    angles = np.radians(np.linspace(start, end, steps))
    return [(x + radius * math.cos(a), y - radius * math.sin(a)) for a in angles]


# The signs' backgrounds.

def _prohibition(pen):
    pen.disc(WHITE, 50, 50, 49.5)
    pen.ring(RED, 13.5 if pen.wide else 11.5, 50, 50, 48, hole=WHITE)


def _end(pen):
    """The background of signs 278 to 282: white with a thin grey edge."""
    pen.ring(GREY, 1.5, 50, 50, 49.5, hole=WHITE)


def _end_stripes(pen):
    """Five black stripes from the lower left to the upper right, over everything."""
    spread, width = (4.6, 2.9) if pen.wide else (3.7, 2.3)
    for i in range(-2, 3):
        offset = i * spread
        half = math.sqrt(46 ** 2 - offset ** 2) * math.sqrt(0.5)
        x, y = 50 + offset * math.sqrt(0.5), 50 + offset * math.sqrt(0.5)
        pen.line(BLACK, width, (x - half, y + half), (x + half, y - half))


def _danger(pen):
    outer, inner = ((50, 10), (95, 88), (5, 88)), ((50, 26), (84.5, 82.5), (15.5, 82.5))
    if pen.wide:
        inner = ((50, 30), (81, 81), (19, 81))
    pen.polygon(WHITE, *outer, rounding=4.5)
    pen.polygon(RED, *outer, rounding=3.2)
    pen.polygon(WHITE, *inner, rounding=1)


def _mandatory(pen):
    pen.disc(WHITE, 50, 50, 49.5)
    pen.disc(BLUE, 50, 50, 47.5)


# The signs, by class.

def _speed(number):
    def sign(pen):
        _prohibition(pen)
        narrow = 0 if pen.wide else 2.5
        if len(number) == 2:
            pen.text(BLACK, number, 23 + narrow, 28.5, 77 - narrow, 71.5)
        else:
            pen.text(BLACK, number, 20 + 1.6 * narrow, 30, 80 - 1.6 * narrow, 70)
    return sign


def _end_of_speed_limit(pen):  # 278
    _end(pen)
    pen.text(GREY if pen.wide else BLACK, "80", 22, 29, 78, 71)
    _end_stripes(pen)


def _car(pen, colour, x, y):
    """A car seen from behind, 26 wide and 16 high, centred on (x, y)."""
    pen.polygon(colour, (x - 8, y - 8), (x + 8, y - 8), (x + 11, y - 1), (x + 13, y), (x + 13, y + 5), (x - 13, y + 5),
                (x - 13, y), (x - 11, y - 1))
    pen.polygon(WHITE, (x - 6, y - 6), (x + 6, y - 6), (x + 7.5, y - 2), (x - 7.5, y - 2))
    for side in (-9.5, 9.5):
        pen.polygon(colour, (x + side - 3, y + 4), (x + side + 3, y + 4), (x + side + 3, y + 8), (x + side - 3, y + 8))


def _lorry(pen, colour, x, y):
    """A lorry seen from behind, 24 wide and 32 high, centred on (x, y)."""
    pen.polygon(colour, (x - 12, y - 16), (x + 12, y - 16), (x + 12, y + 11), (x - 12, y + 11))
    for side in (-8.5, 8.5):
        pen.polygon(colour, (x + side - 3, y + 10), (x + side + 3, y + 10), (x + side + 3, y + 16), (x + side - 3, y + 16))


def _no_passing(pen):  # 276
    _prohibition(pen)
    _car(pen, RED, 35.5, 51)
    _car(pen, BLACK, 64.5, 51)


def _no_passing_for_lorries(pen):  # 277
    _prohibition(pen)
    _lorry(pen, RED, 36, 46)
    _car(pen, BLACK, 65, 54)


def _end_of_no_passing(pen):  # 280
    _end(pen)
    colour = GREY if pen.wide else BLACK
    _car(pen, colour, 34, 51)
    _car(pen, colour, 66, 51)
    _end_stripes(pen)


def _end_of_no_passing_for_lorries(pen):  # 281
    _end(pen)
    colour = GREY if pen.wide else BLACK
    _lorry(pen, colour, 34, 46)
    _car(pen, colour, 66, 54)
    _end_stripes(pen)


def _no_lorries(pen):  # 253
    _prohibition(pen)
    pen.polygon(BLACK, (40, 36), (77, 36), (77, 58), (40, 58))
    pen.polygon(BLACK, (28, 42), (39, 42), (39, 61), (22, 61), (22, 52))
    pen.polygon(WHITE, (29, 45), (35, 45), (35, 51), (26, 51))
    pen.polygon(BLACK, (22, 57), (77, 57), (77, 61), (22, 61))
    for x in (30, 62, 71):
        pen.disc(BLACK, x, 62, 4.6)


def _no_entry(pen):  # 267
    pen.disc(WHITE, 50, 50, 49.5)
    pen.disc(RED, 50, 50, 48)
    height = 9.5 if pen.wide else 8
    pen.polygon(WHITE, (14, 50 - height), (86, 50 - height), (86, 50 + height), (14, 50 + height))


def _right_of_way(pen):  # 301
    _danger(pen)
    pen.polygon(BLACK, (50, 38), (59, 51), (56, 51), (57, 77), (43, 77), (44, 51), (41, 51))
    pen.polygon(BLACK, (34, 57), (66, 57), (66, 64), (34, 64))


def _priority_road(pen):  # 306
    pen.polygon(BLACK, (50, 5), (95, 50), (50, 95), (5, 50), rounding=4)
    pen.polygon(WHITE, (50, 5), (95, 50), (50, 95), (5, 50), rounding=3)
    reach = 32 if pen.wide else 28
    pen.polygon(BLACK, (50, 50 - reach), (50 + reach, 50), (50, 50 + reach), (50 - reach, 50), rounding=2.5)
    pen.polygon(YELLOW, (50, 50 - reach), (50 + reach, 50), (50, 50 + reach), (50 - reach, 50), rounding=1.5)


def _yield(pen):  # 205
    outer = (50, 90), (95, 12), (5, 12)
    inner = ((50, 67), (75.5, 22.5), (24.5, 22.5)) if pen.wide else ((50, 71), (80, 19.5), (20, 19.5))
    pen.polygon(WHITE, *outer, rounding=4.5)
    pen.polygon(RED, *outer, rounding=3.2)
    pen.polygon(WHITE, *inner, rounding=1.5)


def _stop(pen):  # 206
    for colour, radius in ((WHITE, 53.5), (RED, 50.5)):
        pen.polygon(colour, *_arc(50, 50, radius, 22.5, 337.5, steps=8))
    pen.text(WHITE, "STOP", 10, 30, 90, 70) if pen.wide else pen.text(WHITE, "STOP", 13, 31, 87, 69)


def _general_caution(pen):  # 101
    _danger(pen)
    pen.polygon(BLACK, (45.5, 40), (54.5, 40), (52.5, 65), (47.5, 65), rounding=1)
    pen.disc(BLACK, 50, 73, 4)


def _curve(mirrored):
    def sign(pen):  # 103
        _danger(pen)
        pen.at(50, 50, mirrored=mirrored)
        if pen.wide:
            pen.line(BLACK, 10, (60, 77), (60, 67), *_arc(51, 67, 9, 0, 90), (45, 58))
            pen.polygon(BLACK, (46, 48), (46, 68), (33, 58))
        else:
            pen.line(BLACK, 8.5, (58, 77), (58, 68), *_arc(49, 68, 9, 0, 70), (44, 57.5))
            pen.polygon(BLACK, (48, 50), (42, 66), (34, 53.5))
    return sign


def _double_curve(pen):  # 105-10
    _danger(pen)
    pen.line(BLACK, 9.5 if pen.wide else 8, (56, 77), (56, 63), (46, 61), (46, 51))
    pen.polygon(BLACK, (38, 53), (54, 53), (46, 39)) if pen.wide else pen.polygon(BLACK, (40, 51), (52, 51), (46, 37))


def _bumpy_road(pen):  # 112
    _danger(pen)
    bumps = [(middle + 10 * t, 74 - 11 * math.cos(t * math.pi / 2)) for middle in (40, 60) for t in np.linspace(-1, 1, 15)]
    pen.polygon(BLACK, (28, 74), *bumps, (72, 74), (72, 77), (28, 77))


def _slippery_road(pen):  # 114
    _danger(pen)
    cos, sin = math.cos(math.radians(12)), math.sin(math.radians(12))

    def tilted(*points):
        return ((50 + x * cos - y * sin, 56 + x * sin + y * cos) for x, y in points)

    pen.polygon(BLACK, *tilted((-13, -3), (13, -3), (13, 6), (-13, 6)))
    pen.line(BLACK, 2.2, *tilted((-12, -3), (-8, -9), (8, -9), (12, -3)))
    pen.line(BLACK, 2.2, (40, 62), (35, 66), (40, 70), (34, 75), round_ends=True)
    pen.line(BLACK, 2.2, (59, 66), (50, 69), (54, 74), (72, 76), round_ends=True)


def _road_narrows(pen):  # 121-10
    _danger(pen)
    width = 6.5 if pen.wide else 5.5
    pen.line(BLACK, width, (41.5, 78), (41.5, 43))
    pen.line(BLACK, width, (61, 78), (61, 66), (54.5, 57), (54.5, 43))


def _road_work(pen):  # 123
    _danger(pen)
    pen.disc(BLACK, 46, 43, 3.6)
    pen.line(BLACK, 6.5, (47, 49), (41, 60), round_ends=True)  # back
    pen.line(BLACK, 4.2, (41, 61), (46, 68), (42, 77))  # legs
    pen.line(BLACK, 4.2, (40, 61), (36, 69), (32, 77))
    pen.line(BLACK, 3.4, (47, 50), (52, 57), (47, 61))  # arms
    pen.line(BLACK, 1.8, (42, 58), (57, 70))  # shovel
    pen.polygon(BLACK, (55, 77), (62, 67), (66, 66), (74, 77))


def _traffic_signals(pen):  # 131
    _danger(pen)
    if pen.wide:
        pen.polygon(BLACK, (42.5, 38), (57.5, 38), (57.5, 78), (42.5, 78), rounding=0.5)
    for colour, y in ((RED, 46), (YELLOW, 58.5), (GREEN, 71)):
        pen.disc(colour, 50, y, 5.2)


def _pedestrians(pen):  # 133
    _danger(pen)
    pen.at(50, 57.5, 0.92)
    pen.disc(BLACK, 49, 28, 4.5)
    pen.polygon(BLACK, (46, 33), (53, 33), (55, 52), (47, 52), rounding=1)
    pen.line(BLACK, 4.5, (47, 36), (42, 44), (36, 47))  # arms
    pen.line(BLACK, 4.5, (53, 36), (57, 45), (62, 50))
    pen.line(BLACK, 5.5, (49, 51), (45, 62), (38, 74))  # legs
    pen.line(BLACK, 5.5, (53, 51), (57, 62), (62, 75))


def _children(pen):  # 136
    _danger(pen)
    for x, y, scale in ((38, 63.5, 0.52), (59, 58.5, 0.72)):
        pen.at(x, y, scale)
        pen.disc(BLACK, 50, 29, 5.5)
        pen.line(BLACK, 8.5, (50, 38), (51, 52), round_ends=True)
        pen.line(BLACK, 4.8, (32, 42), (48, 38), (52, 38), (66, 46))  # arms
        pen.line(BLACK, 5.8, (49, 52), (40, 60), (41, 74))  # legs
        pen.line(BLACK, 5.8, (53, 52), (60, 63), (72, 66))


def _bicycles(pen):  # 138
    _danger(pen)
    for x in (38, 62):
        pen.ring(BLACK, 2.8 if pen.wide else 2.1, x, 66, 9, hole=WHITE)
    pen.line(BLACK, 2.4, (38, 66), (44, 54), (57, 54), (50, 66), (38, 66))
    pen.line(BLACK, 2.4, (44, 54), (50, 66))
    pen.line(BLACK, 2.4, (62, 66), (56, 49), (52, 49))
    pen.line(BLACK, 3, (41, 51), (47, 51))


def _snow(pen):  # 113
    _danger(pen)
    width = 3.8 if pen.wide else 3.1
    for k in range(6):
        a = math.radians(60 * k + 30)
        pen.line(BLACK, width, (50, 61), (50 + 15.5 * math.cos(a), 61 + 15.5 * math.sin(a)))
        fork = x, y = 50 + 8.5 * math.cos(a), 61 + 8.5 * math.sin(a)
        for b in (a - math.radians(50), a + math.radians(50)):
            pen.line(BLACK, width * 0.85, fork, (x + 6.5 * math.cos(b), y + 6.5 * math.sin(b)))


def _wild_animals(pen):  # 142
    _danger(pen)
    body = (42, 56), (50, 58), (59, 60), (64, 58), (64, 62), (60, 67), (53, 66), (45, 65), (41, 61)
    pen.polygon(BLACK, *body, rounding=0.8)
    neck_and_head = (41, 60), (47, 57), (45, 51), (40, 48.5), (36, 51.5), (37, 53), (40.5, 54)
    pen.polygon(BLACK, *neck_and_head, rounding=0.4)
    pen.line(BLACK, 2, (43, 50), (46, 45), (44, 40))  # antlers
    pen.line(BLACK, 2, (46, 45), (50, 43))
    pen.line(BLACK, 2.6, (44, 62), (37, 66), (34, 63))  # forelegs
    pen.line(BLACK, 2.6, (46, 64), (40, 69), (36, 68))
    pen.line(BLACK, 2.8, (60, 65), (65, 70), (70, 77))  # hind legs
    pen.line(BLACK, 2.8, (57, 66), (62, 71), (65, 77))


def _end_of_all_limits(pen):  # 282
    _end(pen)
    _end_stripes(pen)


def _turn(mirrored):
    def sign(pen):  # 209-10, 209-20
        _mandatory(pen)
        pen.at(50, 50, mirrored=mirrored)
        width, bend = (12, 10) if pen.wide else (10, 16)
        pen.arrow(WHITE, width, (34, 80), (34, 42 + bend), *_arc(34 + bend, 42 + bend, bend, 175, 95), (66, 42), head=16)
    return sign


def _ahead(pen):  # 209-30
    _mandatory(pen)
    pen.arrow(WHITE, 13 if pen.wide else 10, (50, 86), (50, 31), head=17)


def _ahead_or_turn(mirrored):
    def sign(pen):  # 214
        _mandatory(pen)
        pen.at(50, 50, mirrored=mirrored)
        width = 11 if pen.wide else 9
        pen.arrow(WHITE, width, (39, 84), (39, 29), head=14)
        pen.arrow(WHITE, width, (39, 60), (70, 60), head=14)
    return sign


def _keep(mirrored):
    def sign(pen):  # 222
        _mandatory(pen)
        pen.at(50, 50, mirrored=mirrored)
        pen.arrow(WHITE, 12 if pen.wide else 8.5, (21, 21), (65, 65), head=19)
    return sign


def _roundabout(pen):  # 215
    _mandatory(pen)
    for start in (100, 220, 340):
        pen.arrow(WHITE, 9 if pen.wide else 7.5, *_arc(50, 50, 30, start, start + 68), head=12)


_SIGNS = [
    *map(_speed, ("20", "30", "50", "60", "70", "80")), _end_of_speed_limit, _speed("100"), _speed("120"),  # 274, 278
    _no_passing, _no_passing_for_lorries, _right_of_way, _priority_road, _yield, _stop, _prohibition,  # the last is 250
    _no_lorries, _no_entry, _general_caution, _curve(False), _curve(True), _double_curve, _bumpy_road, _slippery_road,
    _road_narrows, _road_work, _traffic_signals, _pedestrians, _children, _bicycles, _snow, _wild_animals,
    _end_of_all_limits, _turn(False), _turn(True), _ahead, _ahead_or_turn(False), _ahead_or_turn(True), _keep(False),
    _keep(True), _roundabout, _end_of_no_passing, _end_of_no_passing_for_lorries,
]
