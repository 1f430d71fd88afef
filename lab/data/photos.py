"""Reads photo files into uint8 RGB arrays of the sizes that the lab needs."""

import contextlib
import functools
import io
import itertools
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.features
from PIL import Image, ImageOps

from lab import cpu, files
from lab.files import BadInput, DiskError, notice

SMALLEST = 8  # pixels on each side

# The scripts' default photos; images/README.md gives their sources.
SAMPLES = [files.HERE / "images" / name for name in ("cat.png", "coffee.png")]
SAMPLE_SIGNS = [files.HERE / "images" / name for name in ("stop.png", "road-work.png")]

_MOST_THREADS = 16  # that read photos: each may hold a large one in memory
_LARGE = 89_478_485  # pixels, Pillow's own limit: photos above it are read only if that takes no more than _MEMORY
_MEMORY = 1_000_000_000  # bytes
_BAND = 1 << 20  # pixels that are converted at a time

# What a HEIF file says of itself in its first box, from ISO/IEC 23008-12 and the AV1 Image File Format
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}

SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .mpo .png .webp .avif .bmp .dib .gif .tif .tiff .ppm .pgm .pbm .pnm .heic .heif"
                     .split())  # of photos; the last two are told that they are not read

_JPEG = "JPEG", "MPO"  # MPO: several JPEGs in one file, as some phones take them; the first one is read
_SCAN, _PROGRESSIVE = 0xDA, (0xC2, 0xC6, 0xCA, 0xCE)  # markers in a JPEG, from ISO/IEC 10918-1
_STRIP_ROWS, _TILE_ROWS = 278, 323  # tags in a TIFF

_lock = threading.Lock()
_reading, _restored = 0, None  # how many threads read a photo now; what restores Pillow's limit and the warnings after them


def read(path):
    """Read the photo `path` (str, Path, or zipfile.Path): uint8 [H, W, 3] in RGB, turned upright according to its EXIF data.

    Formats: PNG, JPEG (also the MPO of phones), WebP, AVIF where this Pillow decodes it, BMP, GIF (the first frame), TIFF and
    PPM. Grey, palette, CMYK and 16-bit photos are converted. Transparent pixels are laid over white: the lab of 2016 dropped
    the alpha channel, which shows colours that nobody is meant to see.

    Reading a photo takes at most 1 GB of memory besides its file. That is enough for 125 megapixels in most formats, 62 in
    WebP and AVIF, 140 to 250 in a progressive JPEG in colour, and 500 in a baseline JPEG: above 89 megapixels JPEGs are read at
    half their width and height. Up to 89 megapixels any photo but AVIF is read, at full size, even a WebP that takes 1.5 GB.

    Raises BadInput for a file that is not such a photo, is damaged, has fewer than 8 pixels on a side, or would take more
    memory; DiskError, a BadInput too, if the disk or the network drive fails.
    """
    image = _read(path)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, band in _bands(image):
        pixels[top:top + band.height] = band
    return pixels


def read_all(paths, read_one):
    """Read the photos `paths` with `read_one`, one of the functions below: uint8 [N, side, side, 3]."""
    return np.stack([read_one(path) for path in paths])


def find(arguments):
    """The photos that `arguments` name, a list of str in a fixed order; of no arguments an empty list.

    arguments: a list of str. A file is taken as it is. Of a folder, all photos in it and in the folders below are taken, those
    whose name ends as a photo's does, sorted by name, without hidden files and what the system adds; a link to a folder counts
    as one, but none is read twice. "-" stands for the lines of stdin, each a file or a folder.

    Raises BadInput for a folder without photos or one that cannot be read, and if there are no names on stdin.
    """
    found = []
    for argument in arguments:
        for name in _names_on_stdin() if argument == "-" else [argument]:
            found += _photos_in(name) if os.path.isdir(name) else [name]
    return found


def _names_on_stdin():
    """The lines of stdin that are not empty. They may hold any bytes, as names on Linux do."""
    names = [os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer]
    if not any(names):
        raise BadInput("stdin has no names of photos: give one on each line, as by find photos -name '*.jpg' | ...")
    return list(filter(None, names))


def _photos_in(folder):
    def refuse(error):
        raise BadInput(f"{error.filename} cannot be read: {error.strerror}") from error

    found, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        identity = os.stat(parent)[1:3]
        if identity in seen:  # a link leads to where it stands, or to a folder that is read already
            folders.clear()
            continue
        seen.add(identity)
        if parent != str(folder) and files.written_by_the_lab(names):  # with pictures of a model's results
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not files.is_junk(name))
        found += [os.path.join(parent, name) for name in sorted(names)
                  if os.path.splitext(name)[1].lower() in SUFFIXES and not files.is_junk(name)]
    if not found:
        raise BadInput(f"{folder} is a folder without photos: name one whose files end in .jpg, .png or another photo's ending")
    return found


def batches(paths, read_one, size):
    """Read the photos `paths` with `read_one`, one of the functions below, leaving out those that cannot be used.

    Prints a line on stderr for each of those. Returns an iterator over batches of the others: pairs of features, uint8
    [N, side, side, 3], and their positions in `paths`, a list of N ints. A batch is what can be used of `size` photos in a row,
    so that no photo depends on what another batch holds. The first batch is read at once, the others when they are asked for.

    Raises BadInput if no photo can be used, which says what is wrong with the last one, and DiskError as in `read`, also later.
    """
    later = usable(_read_batches(paths, read_one, size))
    return itertools.chain([next(later)], later)


def usable(batches):
    """Yield the features and the positions of `batches`, leaving out those that are empty, and print what was refused.

    batches: an iterator over features, their positions (list of ints), and the BadInput of each photo that cannot be used, by
    its position (a dict). Raises BadInput if no photo can be used, which says what is wrong with the last one.
    """
    none_yet, refusal = True, None
    for features, positions, refused in batches:
        for position in sorted(refused):
            if refusal:
                notice(str(refusal))
            refusal = refused[position]
        if positions:
            none_yet = False
        if refusal and not none_yet:
            notice(str(refusal))
            refusal = None
        if positions:
            yield features, positions
    if none_yet:
        raise refusal


def _read_batches(paths, read_one, size):
    with threads(len(paths)) as pool:
        for start in range(0, len(paths), size):
            photos = dict(enumerate(pool.map(functools.partial(_attempt, read_one), paths[start:start + size]), start))
            refused = {position: photo for position, photo in photos.items() if isinstance(photo, BadInput)}
            positions = [position for position in photos if position not in refused]
            yield np.stack([photos[position] for position in positions]) if positions else None, positions, refused


def _attempt(read_one, path):
    try:
        return read_one(path)
    except DiskError:
        raise
    except BadInput as error:
        return error


@contextlib.contextmanager
def threads(tasks):
    """A context manager that yields a ThreadPoolExecutor to read photos in, with no more threads than `tasks`.

    One for each core that this process may use: Pillow's decoders run beside each other.
    """
    pool = ThreadPoolExecutor(max(1, min(cpu.cores(), tasks, _MOST_THREADS)))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, the photos that are still waiting are not read


def read_imagenet(path, content=None):
    """Read the photo `path` for ImageNet's 1000 classes: uint8 [227, 227, 3].

    The largest central square is resized, antialiased (Lanczos); a photo of 227x227 is left unchanged.
    content: the bytes of the file, if they have been read already; then `path` is only named in errors.
    """
    return _resize(_central_square(_read(path, content)), 227)


def read_caffe(path, content=None):
    """Read the photo `path`, stretched to 256x256 whatever its shape, as Caffe does, antialiased: uint8 [256, 256, 3].

    content: as in `read_imagenet`.
    """
    return _resize(_read(path, content), 256)


def read_sign(path, content=None):
    """Read the photo `path` as a sign: uint8 [32, 32, 3], the whole photo, resized, antialiased (Lanczos).

    content: as in `read_imagenet`.
    """
    return _resize(_read(path, content), 32)


def read_grey(path, content):
    """A small grey version of the photo `path`, whose bytes are `content`: uint8 [32, 32], the whole photo.

    It takes a fraction of the time of `read`, since JPEGs are decoded at a lower resolution, but fails whenever `read` fails.
    """
    return _resize(_read(path, content, draft=True).convert("L"), 32)


def as_sign(photo):
    """`photo`, uint8 [H, W, 3], as a sign: uint8 [32, 32, 3], the whole photo, resized, antialiased (Lanczos)."""
    return _resize(Image.fromarray(photo), 32)


def as_imagenet(photo):
    """`photo`, uint8 [H, W, 3], for AlexNet: uint8 [227, 227, 3], the largest central square, resized as by `read_imagenet`."""
    return _resize(_central_square(Image.fromarray(photo)), 227)


def _central_square(image):
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image if image.size == (side, side) else image.crop((left, top, left + side, top + side))


def _resize(image, side):
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))  # of this size already, it is left unchanged


def decoder():
    """What decodes photos here, as text: Pillow and its libraries, whose versions may decide the last bits of a pixel."""
    libraries = {"jpg": PIL.features.codecs, "libjpeg_turbo": PIL.features.features, "libtiff": PIL.features.codecs,
                 "webp": PIL.features.modules, "avif": PIL.features.modules}
    versions = [f"{name} {PIL.features.version(name)}" for name, known in libraries.items() if name in known]
    return ", ".join([f"Pillow {PIL.__version__}", *versions])


@contextlib.contextmanager
def _lab_settings():
    """A context manager that sets Pillow's limit to the lab's, and silences warnings of what the lab handles or refuses.

    Both are global, so when several threads read photos the first one sets them and the last one restores them.
    """
    global _reading, _restored
    with _lock:
        if not _reading:
            _restored = _set_globally()
            _restored.__enter__()
        _reading += 1
    try:
        yield
    finally:
        with _lock:
            _reading -= 1
            if not _reading:
                _restored.__exit__(None, None, None)


@contextlib.contextmanager
def _set_globally():
    pillows_limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS = _MEMORY // 4  # Pillow refuses twice as many, more than `_memory` allows in any format
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = pillows_limit


def _read(path, content=None, draft=False):
    """The photo `path` as an upright Image in RGB. Raises BadInput like `read`.

    content: the bytes of the file, or None to read them from `path`. draft: whether a JPEG may be smaller than it is, and grey.
    """
    if content is None:
        path = files.check(path, "a photo")
    try:
        with _lab_settings(), files.reading(path) if content is None else io.BytesIO(content) as file:
            return _to_rgb(_decode(file, path, draft), path)
    except BadInput:
        raise
    except Image.DecompressionBombError as error:
        raise BadInput(f"{path} has too many pixels to read in 1 GB of memory: save a smaller copy") from error
    except Image.UnidentifiedImageError as error:
        *formats, last = _formats()
        raise BadInput(f"{path} is not a photo: the lab reads {', '.join(formats)} and {last}") from error
    except MemoryError as error:
        raise BadInput(f"{path} needs more memory than there is here: save a smaller copy") from error
    except Exception as error:  # a damaged photo can fail in any of Pillow's decoders, in any way
        if content is None and isinstance(path, Path):
            files.sha256(path)  # raises DiskError if the disk is at fault: libtiff reads the file itself and would not tell
        raise BadInput(f"{path} is damaged or cut short: get the photo again") from error


def _formats():
    """The names of the formats that the lab reads with this Pillow."""
    return ["PNG", "JPEG", "WebP", *["AVIF"] * _decodes_avif(), "BMP", "GIF", "TIFF", "PPM"]


def _decodes_avif():
    return "avif" in PIL.features.modules and PIL.features.check("avif")  # an older Pillow would warn of an unknown name


def _decode(file, path, draft):
    """The photo in `file` as an upright Image in its own mode; if `draft`, a JPEG of 64 pixels or more on a side, and grey."""
    brands = _brands(file)
    if brands & _AVIF and not _decodes_avif():
        raise BadInput(f"{path} is an AVIF photo, which the Pillow installed here cannot decode: save it as JPEG or PNG")
    if brands & _HEIF and not brands & _AVIF:
        raise BadInput(f"{path} is a HEIC photo, which the lab does not read: save it as JPEG (an iPhone takes JPEG photos "
                       "after Settings, Camera, Formats, Most Compatible)")

    image = Image.open(file, formats=_formats())
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise BadInput(f"{path} is {width}x{height} pixels: a photo needs at least {SMALLEST} on each side")
    large = width * height > _LARGE
    if (large or image.format == "AVIF") and _memory(image, file) > _MEMORY:
        raise BadInput(f"{path} is {width}x{height} pixels, too many to read in 1 GB of memory: save a smaller copy")
    if image.format in _JPEG and (draft or large):
        image.draft(*(("L", (64, 64)) if draft else (None, (width // 2, height // 2))))
    if image.format == "PNG" and "transparency" in image.info:
        _rescale_transparent_colour(image)
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except DiskError:
        raise
    except Exception:  # damaged EXIF data are common, and the photo itself is intact
        pass
    return image


def _brands(file):
    """The brands in the first box of `file`, which say what a HEIF file holds; empty for any other file."""
    box = file.read(256)
    file.seek(0)
    if box[4:8] != b"ftyp":
        return set()
    size = min(int.from_bytes(box[:4], "big"), len(box))
    return {box[start:start + 4] for start in (8, *range(16, size, 4))}


def _memory(image, file):
    """About how many bytes it takes to decode and convert the large photo `image`, opened from `file` and not yet decoded.

    The sizes of pixels are Pillow's; what its decoders take beside them was measured with Pillow 13.
    """
    pixels = image.width * image.height
    if image.format in _JPEG:
        coefficients = 0
        if not _has_one_scan(file, len(image.layer)):  # then libjpeg keeps the coefficients of all scans, as 16 bits each
            sampling = [(across, down) for _, across, down, _ in image.layer]
            most_across, most_down = map(max, zip(*sampling))
            coefficients = 2 * sum(across * down for across, down in sampling) / (most_across * most_down)
        return pixels * max(coefficients + 1, 2)  # at half size: an Image of 4 bytes a pixel, and a second one later
    own = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    decoder = image.tile[0][0] if image.tile else ""
    extra = 0
    if image.format in ("WEBP", "AVIF"):
        extra = 12
    elif decoder == "libtiff":  # takes up to 8 bytes for each pixel of a strip or a tile, usually small parts of the photo
        rows = image.tag_v2.get(_TILE_ROWS, image.tag_v2.get(_STRIP_ROWS, image.height))
        extra = 8 * min(rows / image.height, 1)
    elif decoder.startswith("ppm"):  # numbers in text, or with another maximum than 255
        extra = 6
    return pixels * max(own + extra, 8)  # 8: the Image in RGB, and a copy of its central square


def _has_one_scan(file, components):
    """Whether the JPEG `file` holds the pixels of all its `components` in one baseline scan, and so is decoded row by row."""
    file.seek(2)
    while True:
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in _PROGRESSIVE:
            return False  # or irregular, and probably not
        if head[1] == _SCAN:
            return file.read(1) == bytes([components])
        file.seek(max(int.from_bytes(head[2:], "big") - 2, 0), os.SEEK_CUR)


def _rescale_transparent_colour(image):
    """Bring a PNG's transparent colour, a number of the file's own bit depth, to the 8 bits of its pixels in Pillow."""
    colour, rawmode = image.info["transparency"], image.tile[0][3]
    if rawmode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    elif rawmode in ("L;2", "L;4"):
        most = 2 ** int(rawmode[2:]) - 1
        image.info["transparency"] = colour * 255 // most


def _bands(image):
    """Parts of `image` that fill its width, from the top down, and the row where each starts."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _to_rgb(image, path):
    """`image` in 8-bit RGB, over white where it is transparent."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F":
        raise BadInput(f"{path} has floating-point pixels: save it with 8 or 16 bits")
    rgb = Image.new("RGB", image.size, "white")
    for top, band in _bands(image):
        if band.mode.startswith("I"):
            band = _to_8_bits(band, path)
        if band.has_transparency_data:
            band = band.convert("RGBA")
            rgb.paste(band, (0, top), band)
        else:
            rgb.paste(band.convert("RGB"), (0, top))
    return rgb


def _to_8_bits(image, path):
    """`image` of 16-bit grey in 8 bits. Pillow alone would clip it at 255, which turns the photo white."""
    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > 65535:
        raise BadInput(f"{path} has 32-bit pixels: save it with 8 or 16 bits")
    scaled = (grey / 257 + 0.5).astype(np.uint8)
    if "transparency" in image.info:
        scaled[grey == image.info["transparency"]] = 255
    return Image.fromarray(scaled)
