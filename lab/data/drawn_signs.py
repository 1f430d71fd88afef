"""Traffic signs that the lab draws itself: a training set for machines without GTSRB.

`render` turns the flat signs of sign_templates.py into what a moving camera might see. The recipe follows Lopes da Silva
and Fernandes, "Bridging the Gap between Real and Synthetic Traffic Sign Repositories", DeLTA 2022
(DOI 10.5220/0011301100003277): plain backgrounds, jittered geometry, blur, Perlin noise, confetti and GTSRB's own
distribution of brightness, rather than realism. benchmarks/ingredients.py measures each ingredient's effect on real photos.
"""

import functools
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageDraw

from lab import command_line, cpu, files
from lab.data import gtsrb, sign_templates
from lab.data.record import Photos
from lab.progress import progress

COUNT = 250  # signs of each class in the scripts' training set
SIDE = 32  # pixels, as in train.p

_MARGIN = 3  # extra pixels on each side, until all blurring is done
_WIDE = SIDE + 2 * _MARGIN
_TEMPLATE = 56  # pixels: about twice a sign's size in a photo, so that interpolation skips no pixels
_BATCH = 64  # photos at a time: more do not fit into a core's cache

# The ingredients, in the order in which light meets them. Lengths are fractions of the photo's side unless noted.
_SCENERY = (0.5, 0.5, 0.5), (0.95, 1, 1.05), (0.2, 0.2, 0.15), (0.65, 0.55, 0.36), (0.42, 0.33, 0.27), (0.1, 0.1, 0.11)
_CONTRAST = 0.7  # log of the lightness of these colours: standard deviation
_LEAVES = 1.0  # probability of patches of a second colour
_EDGE = 1.0  # probability of a straight edge in the background
_BACKLIGHT = 0.1, 0.3  # log of the ratio of light behind to light on the sign: mean and standard deviation
_NATIVE = 24, 44, 0.45  # pixels on a side before resizing to 32: minimum, median, standard deviation of the log
_FIT = 0.02, 0.06  # log of the sign's size relative to GTSRB's margins: mean and standard deviation
_STRETCH = 0.04  # log of width / height: standard deviation
_SHIFT = 0.015  # of the centre, along each axis: standard deviation
_ROTATION = 4.0  # degrees: standard deviation
_PERSPECTIVE = 0.06  # how much the far side of a turned sign shrinks, along each axis: standard deviation
_CONFETTI = 0.4  # probability of a coloured blob on the sign
_SHADE = 0.25  # Perlin noise on the light: maximum
_COLOUR = (0.0, 0.0, 0.06), 0.1  # log of each channel's gain: means and standard deviation; GTSRB's camera has a blue cast
_SATURATION = 0.3, 1.1  # minimum, maximum
_HAZE = 0.3  # fraction of scattered light: maximum, usually much less
_BLUR = 0.2, 0.65  # pixels, standard deviation: minimum, maximum
_MOTION = 2.5  # pixels, along each axis: maximum, usually much less
_SHARPEN = 0.6  # the camera's own sharpening: maximum
_NOISE = 6.0  # grey levels, standard deviation: maximum


def main(arguments=None):
    parser = command_line.Parser(description="Draw traffic signs: a picture of all, or a training set like train.p.")
    parser.add_argument("--sheet", type=command_line.png, metavar="PNG",
                        help="write a picture of all 43 signs, with samples of each, to this file")
    parser.add_argument("--write", metavar="PATH", help="write a training set in the format of train.p to this new file")
    parser.add_argument("--count", type=command_line.whole_number(1, 10_000), default=COUNT, metavar="N",
                        help=f"signs of each class to write (default: {COUNT})")
    parser.add_argument("--seed", type=command_line.whole_number(0, 2**31 - 1), default=0, metavar="N",
                        help="random seed of the samples (default: 0)")
    args = parser.parse_args(arguments)
    if not (args.sheet or args.write):
        parser.error("choose --sheet PNG or --write PATH, or both")
    if args.write:
        files.check_absent(args.write)

    if args.sheet:
        with files.replacing(args.sheet) as file:
            _sheet(args.seed).save(file, "PNG", optimize=True)
        files.notice(f"All signs, with samples of each, are in {args.sheet}.")
    if args.write:
        features, labels = render(args.count, args.seed)
        with files.replacing(args.write) as file:
            pickle.dump({"features": features, "labels": labels}, file, protocol=4)
        files.notice(f"{len(labels)} drawn signs are in {args.write}.")


def load():
    """The signs that the lab trains on without photos: Photos with COUNT of each class. Says so on stderr."""
    features, labels = render(COUNT, seed=0)
    files.notice(f"Training and validating on {len(labels)} signs that the lab draws, {COUNT} of each class: real photos are "
                 "harder.")
    return Photos(features, labels, gtsrb.sign_names(), tracks=None)


def render(count_per_class, seed):
    """Draw `count_per_class` signs of each class: features uint8 [43 * count_per_class, 32, 32, 3] in RGB, labels int64 [N].

    The classes alternate: 0, 1, ..., 42, 0, ... The same `seed` (int, not negative) yields the same bytes on the same kind
    of machine with the same packages, and a larger set begins with the signs of a smaller one.
    """
    labels = np.tile(np.arange(gtsrb.CLASSES), count_per_class)
    features = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)

    def render_batch(start):
        rng = np.random.default_rng([seed, start])
        photos = _photos((start + np.arange(_BATCH)) % gtsrb.CLASSES, rng)
        features[start:start + _BATCH] = photos[:len(labels) - start]

    starts = range(0, len(labels), _BATCH)
    with ThreadPoolExecutor(cpu.cores()) as threads:
        try:
            for _ in progress(threads.map(render_batch, starts), "Drawing signs", len(starts), "batch"):
                pass
        except BaseException:
            threads.shutdown(cancel_futures=True)  # otherwise Ctrl-C would wait for all batches
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
    """x and y of the pixels, margin included, from the photo's centre, in units of its side: float32 [1, 38] and [38, 1]."""
    line = ((np.arange(_WIDE) + 0.5 - _WIDE / 2) / SIDE).astype(np.float32)
    return line[None, :], line[:, None]


def _uniform(rng, low, high, count, *shape):
    """float32 [count, *shape], uniform from `low` to `high`."""
    return rng.random((count, *shape), np.float32) * (high - low) + low


def _normal(rng, deviation, count, *shape):
    """float32 [count, *shape], normal around 0."""
    return rng.standard_normal((count, *shape), np.float32) * deviation


def _placements(native, rng):
    """Random matrices, float32 [count, 3, 3], from homogeneous coordinates in the photo to those in a template."""
    count = len(native)
    size = 1 - 2 * np.maximum(5 / native, 1 / 12)  # GTSRB's photos have a margin of 10% of the sign, at least 5 pixels
    size *= np.exp(_FIT[0] + _normal(rng, _FIT[1], count))
    stretch = np.exp(_normal(rng, _STRETCH, count))
    angle = np.radians(_normal(rng, _ROTATION, count))
    x, y = _normal(rng, _SHIFT, 2, count)
    to_template = np.zeros((count, 3, 3), np.float32)  # the inverse: from the photo to the template
    to_template[:, 0, 0], to_template[:, 0, 1] = np.cos(angle) / (size * stretch), np.sin(angle) / (size * stretch)
    to_template[:, 1, 0], to_template[:, 1, 1] = -np.sin(angle) / size, np.cos(angle) / size
    to_template[:, 2, :2] = _normal(rng, _PERSPECTIVE, count, 2)
    to_template[:, 2, 2] = 1
    shift = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
    shift[:, 0, 2], shift[:, 1, 2] = -x, -y
    return to_template @ shift


def _signs(placements, labels, rng):
    """The signs in their places: float32 [N, 38, 38, 4], RGBA from 0 to 1, the colours premultiplied by alpha."""
    x, y = _grid()
    x, y, scale = (m[0] * x + m[1] * y + m[2] for m in np.moveaxis(placements, 0, 2)[..., None, None])
    side = _TEMPLATE + 2
    u, v = (((p / scale + 0.5) * _TEMPLATE + 0.5).clip(0, side - 1.001) for p in (x, y))
    left, top = u.astype(np.int32), v.astype(np.int32)
    u, v = (u - left)[..., None], (v - top)[..., None]
    designs = rng.integers(0, 2, len(labels))
    corner = ((labels * 2 + designs).astype(np.int32)[:, None, None] * side + top) * side + left
    upper, lower = (_interpolate(*(_texels().take(corner + row + column, axis=0) for column in (0, 1)), u) for row in (0, side))
    return _interpolate(upper, lower, v)


def _interpolate(a, b, weight):
    """a + (b - a) * weight, computed in place in b."""
    b -= a
    b *= weight
    b += a
    return b


@functools.cache
def _texels():
    """All pixels of the templates, each padded by a transparent one: float32 [43 * 2 * 58 * 58, 4], premultiplied alpha."""
    templates = np.pad(sign_templates.templates(_TEMPLATE), ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float32) / 255
    templates[..., :3] *= templates[..., 3:]
    return templates.reshape(-1, 4)


def _perlin(cells, count, rng):
    """Perlin's gradient noise on a lattice of `cells` by `cells`: float32 [count, 38, 38], about -1 to 1.

    Each lattice point has a random slope; between four points their planes are blended by 6t^5 - 15t^4 + 10t^3
    (Perlin, "Improving noise", SIGGRAPH 2002). This is linear in the slopes and separable, hence two matrix products.
    """
    t = np.linspace(0, cells, _WIDE, endpoint=False) + 0.5 * cells / _WIDE
    distance = t[:, None] - np.arange(cells + 1)
    near = np.clip(1 - np.abs(distance), 0, 1)
    fade = (near ** 3 * (near * (near * 6 - 15) + 10)).astype(np.float32)
    slope = (fade * distance).astype(np.float32)
    angle = _uniform(rng, 0, 2 * math.pi, count, cells + 1, cells + 1)
    return 1.5 * (fade @ np.cos(angle) @ slope.T + slope @ np.sin(angle) @ fade.T)


def _backgrounds(count, rng):
    """Backgrounds, float32 [count, 38, 38, 3], 0 to 5: plain colours, leaves, an edge."""
    x, y = _grid()

    def colours():
        hue = np.float32(_SCENERY)[rng.integers(0, len(_SCENERY), count)][:, None, None]
        return hue * np.exp(_normal(rng, _CONTRAST, count, 1, 1, 1) + _normal(rng, 0.06, count, 1, 1, 3))

    def slanted_axis():
        angle = np.pi / 2 * rng.integers(0, 4, (count, 1, 1)) + _normal(rng, 0.1, count, 1, 1)
        return np.cos(angle) * x + np.sin(angle) * y

    def with_probability(p):
        return rng.random((count, 1, 1)) < p

    scene = colours() * (1 + _normal(rng, 0.3, count, 1, 1, 1) * slanted_axis()[..., None])
    leaves = _perlin(5, count, rng) + _perlin(11, count, rng) + _uniform(rng, -0.5, 0.5, count, 1, 1)
    contrast = with_probability(_LEAVES) * _uniform(rng, 0.5, 2.5, count, 1, 1)
    scene = _paint(scene, (contrast * leaves).clip(0, 1), colours())
    beyond = slanted_axis() > _uniform(rng, 0.1, 0.9, count, 1, 1)
    scene = _paint(scene, beyond & with_probability(_EDGE), colours())
    scene *= np.exp(_BACKLIGHT[0] + _normal(rng, _BACKLIGHT[1], count, 1, 1, 1))
    return scene.clip(0, 5)


def _paint(scene, where, colours):
    """`scene` with `colours` laid over it; `where` [count, 38, 38] is their opacity, 0 to 1."""
    return scene + (colours - scene) * where[..., None].astype(np.float32)


def _stick_confetti(signs, rng):
    """`signs`, some with a coloured blob: dirt, a sticker, a leaf in front."""
    x, y = _grid()
    count = len(signs)
    width, height = np.exp(_uniform(rng, math.log(0.015), math.log(0.11), 2, count, 1, 1))
    left, top = _uniform(rng, -0.4, 0.4, 2, count, 1, 1)
    blob = np.clip(2 - 2 * (((x - left) / width) ** 2 + ((y - top) / height) ** 2), 0, 1)
    blob = (blob * (rng.random((count, 1, 1)) < _CONFETTI))[..., None].astype(np.float32)
    colour = np.concatenate([_uniform(rng, 0, 1, count, 1, 1, 3), np.ones((count, 1, 1, 1), np.float32)], axis=3)
    return signs * (1 - blob) + colour * blob


def _light(scene, rng):
    """The light that reaches the camera, like `scene`, its mean drawn from GTSRB's distribution of brightness, 7 to 255."""
    count = len(scene)
    shade = _uniform(rng, 0, _SHADE, count, 1, 1) * (_perlin(2, count, rng) + _perlin(5, count, rng))
    scene = scene * np.exp(shade[..., None] * 2 + _normal(rng, _COLOUR[1], count, 1, 1, 3) + np.float32(_COLOUR[0]))
    grey = scene @ np.full((3, 1), 1 / 3, np.float32)
    scene = grey + (scene - grey) * _uniform(rng, *_SATURATION, count, 1, 1, 1)
    haze = _HAZE * _uniform(rng, 0, 1, count, 1, 1, 1) ** 3
    scene = scene + haze * (scene.mean(axis=(1, 2), keepdims=True) - scene)
    return scene * (_brightness(count, rng) / scene.mean(axis=(1, 2, 3)))[:, None, None, None]


def _brightness(count, rng):
    """Mean grey levels as in GTSRB's photos, float32 [count], at most 255: a Johnson S_B distribution (see the paper above)."""
    z = _normal(rng, 1, count)
    return np.minimum(7.099 + 259.904 / (1 + np.exp((0.747 - z) / 0.907)), 255)


def _expose(light, native, rng):
    """Photos, uint8 [N, 32, 32, 3], of `light` [N, 38, 38, 3] from a moving, noisy camera, resized from `native` pixels."""
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
    """rows [N, A, a] and columns [N, B, b] applied to the two axes of images [N, a, b, 3]: float32 [N, A, B, 3]."""
    half = (rows @ images.reshape(*images.shape[:2], -1)).reshape(len(images), rows.shape[1], -1, 3)
    return columns[:, None] @ half


def _blur(deviation, length):
    """Matrices [N, 32, 38] that blur a line by a Gaussian and by motion over `length` pixels, and cut off the margin.

    deviation, length: float32 [N], in pixels. A box convolved with a Gaussian is a difference of two error functions.
    """
    from scipy.special import erf  # SciPy takes a tenth of a second to import: pages that name photos do without

    half, scale = length[:, None] / 2, deviation[:, None] * math.sqrt(2)
    offset = np.arange(-_WIDE, _WIDE, dtype=np.float32)
    kernel = erf((offset + half) / scale) - erf((offset - half) / scale)
    matrices = kernel[:, np.arange(SIDE)[:, None] + _MARGIN - np.arange(_WIDE) + _WIDE]
    return matrices / matrices.sum(axis=2, keepdims=True)


@functools.cache
def _resizers():
    """Matrices [9, 32, 32] that shrink a line from 32 pixels to 24, 25, ..., 32 by area and resize it back bilinearly."""
    return np.stack([_bilinear(small, SIDE) @ _area(SIDE, small) for small in range(_NATIVE[0], SIDE + 1)]).astype(np.float32)


def _area(old, new):
    """Matrix [new, old] that resizes a line from `old` to `new` pixels: each is the mean of the part that it covers."""
    edges = np.arange(new + 1) * old / new
    covered = np.clip(edges[:, None] - np.arange(old), 0, 1)  # how much of each old pixel is before each edge
    return np.diff(covered, axis=0) * new / old


def _bilinear(old, new):
    """Matrix [new, old] that resizes a line from `old` to `new` pixels by linear interpolation between pixel centres."""
    position = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    return np.clip(1 - np.abs(position[:, None] - np.arange(old)), 0, 1)


def _sheet(seed):
    """A picture of all signs, in three columns: each class's two designs and six samples."""
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
