"""Any common photo becomes RGB, upright and 8-bit; files that are not photos, too small or malicious are refused."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lab.data import photos
from lab.files import BadInput

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(np.linspace(0, 255, 60)[None], np.linspace(255, 0, 40)[:, None], 100), -1)
SMOOTH = SMOOTH.astype(np.uint8)


def png16(channels):
    """Write 16.png with 16 bits per channel, by hand since Pillow writes only grey ones, and return its values."""
    values = np.random.default_rng(1).integers(0, 65536, (40, 60, channels))
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    Path("16.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 40, 16, colour_type, 0, 0, 0))
                               + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return values


@pytest.mark.parametrize("name, options", [
    ("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.tiff", {"compression": "tiff_lzw"}), ("a.ppm", {}),
    ("a.webp", {"lossless": True}),
])
def test_lossless_formats_are_read_unchanged(name, options):
    Image.fromarray(PIXELS).save(name, **options)
    assert np.array_equal(photos.read(name), PIXELS)


@pytest.mark.parametrize("mode, name, tolerance", [
    ("RGB", "a.jpg", 4), ("CMYK", "a.jpg", 4), ("CMYK", "a.tif", 1), ("RGB", "a.gif", 30), ("RGBA", "a.png", 0),
    ("P", "a.png", 60),
])
def test_other_modes_become_rgb(mode, name, tolerance):
    Image.fromarray(SMOOTH).convert(mode).save(name, **({"quality": 100} if name == "a.jpg" else {}))
    assert np.abs(photos.read(name).astype(int) - SMOOTH).max() <= tolerance


def test_an_alpha_channel_is_dropped_not_blended():
    Image.fromarray(np.dstack([PIXELS, np.zeros((40, 60), np.uint8)])).save("a.png")
    assert np.array_equal(photos.read("a.png"), PIXELS)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_photos_have_three_equal_channels(mode):
    grey = Image.fromarray(PIXELS).convert(mode)
    grey.save("a.png")
    expected = np.asarray(grey.convert("L"))
    assert np.array_equal(photos.read("a.png"), np.dstack([expected] * 3))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_scaled_not_clipped(channels):
    values = png16(channels)
    expected = (values[..., :3] if channels >= 3 else values[..., :1]) / 257
    assert np.abs(photos.read("16.png") - expected).max() < 1


def test_a_gif_shows_its_first_frame():
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    assert photos.read("a.gif").reshape(-1, 3).max(axis=0).tolist() == [255, 0, 0]


def test_a_photo_is_turned_as_its_exif_data_says():
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees, clockwise
    image.save("a.png", exif=exif)
    assert np.array_equal(photos.read("a.png"), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_damaged_exif_data_do_not_damage_the_photo(name):
    Image.fromarray(SMOOTH).save(name, exif=b"Exif\0\0" + bytes(range(200)))
    assert photos.read(name).shape == (40, 60, 3)


def test_imagenet_photos_are_cropped_to_the_central_square_and_unchanged_at_227():
    exact = np.random.default_rng(2).integers(0, 256, (227, 227, 3), np.uint8)
    Image.fromarray(exact).save("exact.png")
    assert np.array_equal(photos.read_imagenet("exact.png"), exact)

    wide = np.zeros((300, 500, 3), np.uint8)
    wide[:, 100:400] = [10, 200, 30]
    Image.fromarray(wide).save("wide.png")
    assert (photos.read_imagenet("wide.png") == [10, 200, 30]).all()
    Image.fromarray(wide.transpose(1, 0, 2)).save("tall.png")
    assert (photos.read_imagenet("tall.png") == [10, 200, 30]).all()


def test_resizing_is_antialiased():
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255  # too fine for the result, which must be grey without stripes
    Image.fromarray(stripes).save("stripes.png")
    for photo in (photos.read_sign("stripes.png"), photos.read_imagenet("stripes.png")):
        assert np.abs(photo[:, 2:-2].astype(int) - 128).max() < 50


def test_a_sign_is_the_whole_photo():
    halves = np.zeros((64, 640, 3), np.uint8)
    halves[:, 320:] = 200
    Image.fromarray(halves).save("sign.png")
    sign = photos.read_sign("sign.png")
    assert sign.shape == (32, 32, 3)
    assert (sign[:, :13] == 0).all() and (sign[:, 19:] == 200).all()


def test_the_sample_photos_can_be_read():
    assert [photos.read_imagenet(path).shape for path in photos.SAMPLES] == [(227, 227, 3)] * 2
    assert [photos.read_sign(path).shape for path in photos.SAMPLE_SIGNS] == [(32, 32, 3)] * 2


def written(data):
    Path("a.png").write_bytes(data)
    return "a.png"


def image(size, mode="RGB", name="a.png"):
    Image.new(mode, size).save(name)
    return name


def random_png():
    Image.fromarray(PIXELS).save("whole.png")
    return Path("whole.png").read_bytes()


BAD = {
    "missing": (lambda: "nowhere.png", "does not exist"),
    "a folder": (lambda: os.mkdir("a.png") or "a.png", "is a folder"),
    "a device": (lambda: "/dev/zero", "not a regular file"),
    "empty": (lambda: written(b""), "is empty"),
    "text": (lambda: written(b"not a photo"), "is not a photo"),
    "a PDF": (lambda: written(b"%PDF-1.4\n"), "is not a photo"),
    "cut short": (lambda: written(random_png()[:2000]), "damaged or cut short"),
    "damaged": (lambda: written(random_png()[:500] + b"?" * 500 + random_png()[1000:]), "damaged or cut short"),
    "tiny": (lambda: image((7, 100)), "7x100 pixels"),
    "a thin strip": (lambda: image((1, 100000)), "1x100000 pixels"),
    "a decompression bomb": (lambda: image((30000, 30000), "1"), "more than 89,478,485 pixels"),
    "a small bomb": (lambda: image((10000, 9000), "1"), "more than 89,478,485 pixels"),
    "floating point": (lambda: image((20, 20), "F", "a.tif"), "floating-point"),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_unusable_photo_is_refused_in_one_sentence_that_names_it(bad):
    make, sentence = BAD[bad]
    path = make()
    with pytest.raises(BadInput, match=sentence) as refusal:
        photos.read(path)
    assert path in str(refusal.value) and "\n" not in str(refusal.value)
