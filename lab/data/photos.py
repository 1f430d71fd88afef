"""Reads photo files into uint8 RGB arrays of the sizes that the lab needs."""

import warnings

import numpy as np
from PIL import Image, ImageOps

from lab import files
from lab.files import BadInput

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SMALLEST = 8  # pixels on each side

# The scripts' default photos; images/README.md gives their sources.
SAMPLES = [files.HERE / "images" / name for name in ("cat.png", "coffee.png")]
SAMPLE_SIGNS = [files.HERE / "images" / name for name in ("stop.png", "road-work.png")]


def read(path):
    """Read the photo `path` (str, Path, or zipfile.Path): uint8 [H, W, 3] in RGB, turned upright according to its EXIF data.

    Formats: PNG, JPEG, WebP, BMP, GIF (the first frame), TIFF and PPM. Grey, palette, CMYK and 16-bit photos are
    converted; an alpha channel is dropped.

    Raises BadInput for a file that is not such a photo, is damaged, has fewer than 8 pixels on a side, or has more
    pixels than Pillow considers safe (Image.MAX_IMAGE_PIXELS, 89 million).
    """
    path = files.check(path, "a photo")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                if min(image.size) < SMALLEST:
                    raise BadInput(f"{path} is {image.width}x{image.height} pixels: a photo needs at least "
                                   f"{SMALLEST} on each side")
                image.load()
                return np.asarray(_to_rgb(_upright(image), path))
    except BadInput:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels: save a smaller copy") from error
    except Image.UnidentifiedImageError as error:
        raise BadInput(f"{path} is not a photo: the lab reads PNG, JPEG, WebP, BMP, GIF, TIFF and PPM") from error
    except Exception as error:  # a damaged photo can fail in any of Pillow's decoders, in any way
        raise BadInput(f"{path} is damaged or cut short: get the photo again") from error


def read_all(paths, read_one):
    """Read the photos `paths` with `read_one`, one of the functions below: uint8 [N, side, side, 3]."""
    return np.stack([read_one(path) for path in paths])


def read_imagenet(path):
    """Read the photo `path` for ImageNet's 1000 classes: uint8 [227, 227, 3].

    The largest central square is resized, antialiased (Lanczos); a photo of 227x227 is left unchanged.
    """
    photo = read(path)
    height, width, _ = photo.shape
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return _resize(photo[top:top + side, left:left + side], 227)


def read_caffe(path):
    """Read the photo `path`, stretched to 256x256 whatever its shape, as Caffe does, antialiased: uint8 [256, 256, 3]."""
    return _resize(read(path), 256)


def read_sign(path):
    """Read the photo `path` as a sign: uint8 [32, 32, 3], the whole photo, resized, antialiased (Lanczos)."""
    return as_sign(read(path))


def as_sign(photo):
    """`photo`, uint8 [H, W, 3], as a sign: uint8 [32, 32, 3], the whole photo, resized, antialiased (Lanczos)."""
    return _resize(photo, 32)


def _resize(photo, side):
    if photo.shape == (side, side, 3):
        return photo
    return np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.LANCZOS))


def _upright(image):
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data are common, and the photo itself is intact
        return image


def _to_rgb(image, path):
    """`image` in 8-bit RGB. Pillow alone would clip 16-bit grey at 255, which turns the photo white."""
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise BadInput(f"{path} has 32-bit pixels: save it with 8 or 16 bits")
        image = Image.fromarray((grey / 257 + 0.5).astype(np.uint8))
    elif image.mode == "F":
        raise BadInput(f"{path} has floating-point pixels: save it with 8 or 16 bits")
    return image.convert("RGB")
