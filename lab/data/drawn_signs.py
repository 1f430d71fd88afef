"""Traffic signs that the lab draws itself: a training set for a machine that has no GTSRB.

`render` turns the flat signs of sign_templates.py into what a moving camera might have seen of them. The recipe is that
of Lopes da Silva and Fernandes, "Bridging the Gap between Real and Synthetic Traffic Sign Repositories", DeLTA 2022
(DOI 10.5220/0011301100003277): plain backgrounds, jittered geometry, blur, Perlin noise, confetti and GTSRB's own law of
brightness, rather than realism. benchmarks/ingredients.py measures what each is worth on real photos.
"""

import functools
import math
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageDraw
from scipy.special import erf
from tqdm import tqdm

from lab import command_line, files
from lab.data import gtsrb, sign_templates

COUNT = 250  # signs of each class that the scripts train on
SIDE = 32  # pixels, of GTSRB's photos in the lab's format

_MARGIN = 3  # pixels more on each side, until all blurring is done
_WIDE = SIDE + 2 * _MARGIN
_TEMPLATE = 56  # pixels: about twice what a sign takes of a photo, so that shrinking it skips nothing
_BATCH = 64  # photos at a time: more do not fit into a core's cache

# The ingredients, in the order in which light meets them. Lengths are parts of the photo's side where nothing else is said.
_SCENERY = (0.5, 0.5, 0.5), (0.95, 1, 1.05), (0.2, 0.2, 0.15), (0.65, 0.55, 0.36), (0.42, 0.33, 0.27), (0.1, 0.1, 0.11)
_CONTRAST = 0.7  # log of how light such a colour is: standard deviation
_LEAVES = 1.0  # how often a second colour is seen between them
_EDGE = 1.0  # how often the background has a straight edge
_BACKLIGHT = 0.1, 0.3  # log of the light behind to the light on the sign: mean and standard deviation
_NATIVE = 24, 44, 0.45  # pixels of the photo's side before it was resized to 32: smallest, median, standard deviation of log
_FIT = 0.02, 0.06  # log of the sign's size to what GTSRB's margins make it: mean and standard deviation
_STRETCH = 0.04  # log of width to height: standard deviation
_SHIFT = 0.015  # of the centre, each way: standard deviation
_ROTATION = 4.0  # degrees: standard deviation
_PERSPECTIVE = 0.06  # how much the far side of a turned sign shrinks, each way: standard deviation
_CONFETTI = 0.4  # how often a coloured blob is on the sign
_SHADE = 0.25  # Perlin noise on the light: at most
_COLOUR = (0.0, 0.0, 0.06), 0.1  # log of each channel's gain: means and standard deviation; GTSRB's camera sees bluish
_SATURATION = 0.3, 1.1  # from, to
_HAZE = 0.3  # part of the light that is scattered: at most, mostly less
_BLUR = 0.2, 0.65  # pixels, standard deviation: from, to
_MOTION = 2.5  # pixels, each way: at most, mostly less
_SHARPEN = 0.6  # the camera's own sharpening: at most
_NOISE = 6.0  # grey levels, standard deviation: at most


def main(arguments=None):
    parser = command_line.Parser(description="Draw traffic signs: a picture of all, or a training set in the lab's format.")
    parser.add_argument("--sheet", type=command_line.png, metavar="PNG",
                        help="draw all 43 signs, and samples of each, into this picture")
    parser.add_argument("--write", metavar="PATH", help="write a set of signs in the format of train.p to this new file")
    parser.add_argument("--count", type=command_line.whole_number(1, 10_000), default=COUNT, metavar="N",
                        help=f"signs of each class to write (default: {COUNT})")
    parser.add_argument("--seed", type=command_line.whole_number(0, 2**31 - 1), default=0, metavar="N",
                        help="another seed draws other samples (default: 0)")
    args = parser.parse_args(arguments)
    if not (args.sheet or args.write):
        parser.error("say --sheet PNG or --write PATH, or both")
    if args.write:
        files.check_absent(args.write)

    if args.sheet:
        with files.replacing(args.sheet) as file:
            _sheet(args.seed).save(file, "PNG", optimize=True)
        files.notice(f"All signs, and samples of each, are in {args.sheet}.")
    if args.write:
        features, labels = render(args.count, args.seed)
        with files.replacing(args.write) as file:
            pickle.dump({"features": features, "labels": labels}, file, protocol=4)
        files.notice(f"{len(labels)} drawn signs are in {args.write}.")


def load():
    """The signs that the lab trains on when there are no photos: gtsrb.Photos of COUNT of each class. Says so on stderr."""
    features, labels = render(COUNT, seed=0)
    files.notice(f"Training and validating on {len(labels)} signs that the lab draws, {COUNT} of each class: real photos are "
                 "harder.")
    return gtsrb.Photos(features, labels, tracks=None)


def render(count_per_class, seed):
    """`count_per_class` drawn photos of each sign: features uint8 [43 * count_per_class, 32, 32, 3] in RGB, labels int64.

    The classes take turns: 0, 1, ..., 42, 0, ... The same `seed` (int, not negative) gives the same bytes on the same kind
    of machine with the same packages, and a larger count begins with a smaller one's photos.
    """
    labels = np.tile(np.arange(gtsrb.CLASSES), count_per_class)
    features = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)

    def render_batch(start):
        rng = np.random.default_rng([seed, start])
        photos = _photos((start + np.arange(_BATCH)) % gtsrb.CLASSES, rng)
        features[start:start + _BATCH] = photos[:len(labels) - start]

    starts = range(0, len(labels), _BATCH)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            for _ in tqdm(threads.map(render_batch, starts), "Drawing signs", len(starts), disable=None, leave=False):
                pass
        except BaseException:
            threads.shutdown(cancel_futures=True)  # or Ctrl-C would wait for all batches
            raise
    return features, labels


def _photos(labels, rng):
    """One photo, uint8 [32, 32, 3], for each of `labels`."""
    count = len(labels)
    native = np.maximum(_NATIVE[0], _NATIVE[1] * np.exp(_normal(rng, _NATIVE[2], count)))
    placements = _placements(native, rng)
    scene = _backgrounds(count, rng)
    signs = _stick_confetti(_signs(placements, labels, rng), rng)
    scene = scene * (1 - signs[..., 3:]) + signs[..., :3]
    return _expose(_light(scene, rng), native, rng)


def _grid():
    """x and y, float32 [1, 38] and [38, 1], of the pixels with their margin, in sides from the photo's centre."""
    line = ((np.arange(_WIDE) + 0.5 - _WIDE / 2) / SIDE).astype(np.float32)
    return line[None, :], line[:, None]


def _uniform(rng, low, high, count, *shape):
    """float32 [count, *shape], uniform from `low` to `high`."""
    return rng.random((count, *shape), np.float32) * (high - low) + low


def _normal(rng, deviation, count, *shape):
    """float32 [count, *shape], normal around 0."""
    return rng.standard_normal((count, *shape), np.float32) * deviation


def _placements(native, rng):
    """Where signs hang: float32 matrices [count, 3, 3] from homogeneous coordinates in the photo to those in a template."""
    count = len(native)
    size = 1 - 2 * np.maximum(5 / native, 1 / 12)  # GTSRB's photos have a margin of 10% of the sign, at least 5 pixels
    size *= np.exp(_FIT[0] + _normal(rng, _FIT[1], count))
    stretch = np.exp(_normal(rng, _STRETCH, count))
    angle = np.radians(_normal(rng, _ROTATION, count))
    x, y = _normal(rng, _SHIFT, 2, count)
    there = np.zeros((count, 3, 3), np.float32)  # the way back: from the photo's centre to the template's
    there[:, 0, 0], there[:, 0, 1] = np.cos(angle) / (size * stretch), np.sin(angle) / (size * stretch)
    there[:, 1, 0], there[:, 1, 1] = -np.sin(angle) / size, np.cos(angle) / size
    there[:, 2, :2] = _normal(rng, _PERSPECTIVE, count, 2)
    there[:, 2, 2] = 1
    shift = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
    shift[:, 0, 2], shift[:, 1, 2] = -x, -y
    return there @ shift


def _signs(placements, labels, rng):
    """The signs as they hang: float32 [N, 38, 38, 4], colours from 0 to 1 already multiplied by the alpha behind them."""
    x, y = _grid()
    x, y, scale = (m[0] * x + m[1] * y + m[2] for m in np.moveaxis(placements, 0, 2)[..., None, None])
    side = _TEMPLATE + 2
    u, v = (((p / scale + 0.5) * _TEMPLATE + 0.5).clip(0, side - 1.001) for p in (x, y))
    left, top = u.astype(np.int32), v.astype(np.int32)
    u, v = (u - left)[..., None], (v - top)[..., None]
    designs = rng.integers(0, 2, len(labels))
    corner = ((labels * 2 + designs).astype(np.int32)[:, None, None] * side + top) * side + left
    upper, lower = (_between(*(_texels().take(corner + row + column, axis=0) for column in (0, 1)), u) for row in (0, side))
    return _between(upper, lower, v)


def _between(a, b, weight):
    """a + (b - a) * weight, in place of b."""
    b -= a
    b *= weight
    b += a
    return b


@functools.cache
def _texels():
    """The templates with a transparent pixel around each, as one list: float32 [43 * 2 * 58 * 58, 4], alpha multiplied in."""
    templates = np.pad(sign_templates.templates(_TEMPLATE), ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float32) / 255
    templates[..., :3] *= templates[..., 3:]
    return templates.reshape(-1, 4)


def _perlin(cells, count, rng):
    """Perlin's gradient noise, float32 [count, 38, 38], about -1 to 1: a lattice of `cells` by `cells`.

    At each lattice point there is a random slope; between four points their planes are mixed by 6t^5 - 15t^4 + 10t^3
    (Perlin, "Improving noise", SIGGRAPH 2002). That is linear in the slopes and separable, hence two matrix products.
    """
    t = np.linspace(0, cells, _WIDE, endpoint=False) + 0.5 * cells / _WIDE
    distance = t[:, None] - np.arange(cells + 1)
    near = np.clip(1 - np.abs(distance), 0, 1)
    fade = (near ** 3 * (near * (near * 6 - 15) + 10)).astype(np.float32)
    slope = (fade * distance).astype(np.float32)
    angle = _uniform(rng, 0, 2 * math.pi, count, cells + 1, cells + 1)
    return 1.5 * (fade @ np.cos(angle) @ slope.T + slope @ np.sin(angle) @ fade.T)


def _backgrounds(count, rng):
    """What is behind the signs, float32 [count, 38, 38, 3], 0 to 5: plain colours, leaves, an edge."""
    x, y = _grid()

    def colours():
        hue = np.float32(_SCENERY)[rng.integers(0, len(_SCENERY), count)][:, None, None]
        return hue * np.exp(_normal(rng, _CONTRAST, count, 1, 1, 1) + _normal(rng, 0.06, count, 1, 1, 3))

    def slanting():
        angle = np.pi / 2 * rng.integers(0, 4, (count, 1, 1)) + _normal(rng, 0.1, count, 1, 1)
        return np.cos(angle) * x + np.sin(angle) * y

    def somewhere(often):
        return rng.random((count, 1, 1)) < often

    scene = colours() * (1 + _normal(rng, 0.3, count, 1, 1, 1) * slanting()[..., None])
    leaves = _perlin(5, count, rng) + _perlin(11, count, rng) + _uniform(rng, -0.5, 0.5, count, 1, 1)
    contrast = somewhere(_LEAVES) * _uniform(rng, 0.5, 2.5, count, 1, 1)
    scene = _paint(scene, (contrast * leaves).clip(0, 1), colours())
    beyond = slanting() > _uniform(rng, 0.1, 0.9, count, 1, 1)
    scene = _paint(scene, beyond & somewhere(_EDGE), colours())
    scene *= np.exp(_BACKLIGHT[0] + _normal(rng, _BACKLIGHT[1], count, 1, 1, 1))
    return scene.clip(0, 5)


def _paint(scene, where, colours):
    """`scene` with `colours` laid over it, as densely as `where` [count, 38, 38] says, 0 to 1."""
    return scene + (colours - scene) * where[..., None].astype(np.float32)


def _stick_confetti(signs, rng):
    """`signs`, some with a coloured blob on them: dirt, a sticker, a leaf in front."""
    x, y = _grid()
    count = len(signs)
    width, height = np.exp(_uniform(rng, math.log(0.015), math.log(0.11), 2, count, 1, 1))
    left, top = _uniform(rng, -0.4, 0.4, 2, count, 1, 1)
    blob = np.clip(2 - 2 * (((x - left) / width) ** 2 + ((y - top) / height) ** 2), 0, 1)
    blob = (blob * (rng.random((count, 1, 1)) < _CONFETTI))[..., None].astype(np.float32)
    colour = np.concatenate([_uniform(rng, 0, 1, count, 1, 1, 3), np.ones((count, 1, 1, 1), np.float32)], axis=3)
    return signs * (1 - blob) + colour * blob


def _light(scene, rng):
    """The light that reaches the camera, float32 like `scene`, its mean drawn from GTSRB's law of brightness, 7 to 255."""
    count = len(scene)
    shade = _uniform(rng, 0, _SHADE, count, 1, 1) * (_perlin(2, count, rng) + _perlin(5, count, rng))
    scene = scene * np.exp(shade[..., None] * 2 + _normal(rng, _COLOUR[1], count, 1, 1, 3) + np.float32(_COLOUR[0]))
    grey = scene @ np.full((3, 1), 1 / 3, np.float32)
    scene = grey + (scene - grey) * _uniform(rng, *_SATURATION, count, 1, 1, 1)
    haze = _HAZE * _uniform(rng, 0, 1, count, 1, 1, 1) ** 3
    scene = scene + haze * (scene.mean(axis=(1, 2), keepdims=True) - scene)
    return scene * (_brightness(count, rng) / scene.mean(axis=(1, 2, 3)))[:, None, None, None]


def _brightness(count, rng):
    """Mean grey levels as in GTSRB's photos, float32 [count]: a Johnson S_B law (see the paper above), at most 255."""
    z = _normal(rng, 1, count)
    return np.minimum(7.099 + 259.904 / (1 + np.exp((0.747 - z) / 0.907)), 255)


def _expose(light, native, rng):
    """Photos, uint8 [N, 32, 32, 3], of `light` [N, 38, 38, 3] by a moving, noisy camera, resized from another size."""
    count = len(light)
    deviation = _uniform(rng, *_BLUR, count)
    motion = 1 + _MOTION * _uniform(rng, 0, 1, 2, count) ** 3
    sharpen = _uniform(rng, 0, _SHARPEN, count)[:, None, None]
    rows, columns = ((1 + sharpen) * _blur(deviation, length) - sharpen * _blur(deviation + 1, length) for length in motion)
    photos = _apply(rows, columns, light)
    photos += _normal(rng, 1, *photos.shape) * _uniform(rng, 0, _NOISE, count, 1, 1, 1)
    resize = _resizers()[np.rint(native).astype(int).clip(max=SIDE) - _NATIVE[0]]
    return np.rint(_apply(resize, resize, photos.clip(0, 255)).clip(0, 255)).astype(np.uint8)


def _apply(rows, columns, images):
    """rows [N, A, a] and columns [N, B, b] applied to both sides of images [N, a, b, 3]: float32 [N, A, B, 3]."""
    half = (rows @ images.reshape(*images.shape[:2], -1)).reshape(len(images), rows.shape[1], -1, 3)
    return columns[:, None] @ half


def _blur(deviation, length):
    """Matrices [N, 32, 38] that blur a line by a Gaussian and by motion over `length` pixels, and cut the margin off.

    deviation, length: float32 [N], in pixels. A box convolved with a Gaussian is a difference of two error functions.
    """
    half, scale = length[:, None] / 2, deviation[:, None] * math.sqrt(2)
    offset = np.arange(-_WIDE, _WIDE, dtype=np.float32)
    kernel = erf((offset + half) / scale) - erf((offset - half) / scale)
    matrices = kernel[:, np.arange(SIDE)[:, None] + _MARGIN - np.arange(_WIDE) + _WIDE]
    return matrices / matrices.sum(axis=2, keepdims=True)


@functools.cache
def _resizers():
    """Matrices [9, 32, 32] that resize a line from 32 pixels to 24, 25, ..., 32 by area and back bilinearly."""
    return np.stack([_bilinear(small, SIDE) @ _area(SIDE, small) for small in range(_NATIVE[0], SIDE + 1)]).astype(np.float32)


def _area(here, there):
    """Matrix [there, here]: each of `there` pixels is the mean of the part of the `here` pixels that it covers."""
    edges = np.arange(there + 1) * here / there
    covered = np.clip(edges[:, None] - np.arange(here), 0, 1)  # of each pixel, up to each edge
    return np.diff(covered, axis=0) * there / here


def _bilinear(here, there):
    """Matrix [there, here]: linear interpolation between pixel centres."""
    position = ((np.arange(there) + 0.5) * here / there - 0.5).clip(0, here - 1)
    return np.clip(1 - np.abs(position[:, None] - np.arange(here)), 0, 1)


def _sheet(seed):
    """A picture of all signs: for each its two designs and six samples, the classes in three columns."""
    tile, columns = 48, 3
    templates = sign_templates.templates(tile)
    features = render(6, seed)[0].reshape(6, gtsrb.CLASSES, SIDE, SIDE, 3)
    rows = -(-gtsrb.CLASSES // columns)
    sheet = Image.new("RGB", (columns * 9 * tile, rows * tile), "white")
    draw = ImageDraw.Draw(sheet)
    for label in range(gtsrb.CLASSES):
        x, y = label // rows * 9 * tile, label % rows * tile
        draw.text((x + tile // 2, y + tile // 2), str(label), fill="black", anchor="mm", font_size=20)
        for i, template in enumerate(templates[label]):
            picture = Image.fromarray(template)
            sheet.paste(picture, (x + (1 + i) * tile, y), picture)
        for i, photo in enumerate(features[:, label]):
            sheet.paste(Image.fromarray(photo).resize((tile, tile), Image.Resampling.BICUBIC), (x + (3 + i) * tile, y))
    return sheet


if __name__ == "__main__":
    command_line.run(main)
