"""Any common photo becomes RGB, upright and 8-bit; files that are not photos, too small or too large are refused."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL.features
import pytest
import tensorflow as tf
from PIL import Image

from lab import files
from lab.data import photos
from lab.files import BadInput

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(np.linspace(0, 255, 60)[None], np.linspace(255, 0, 40)[:, None], 100), -1)
SMOOTH = SMOOTH.astype(np.uint8)


def png(bits, channels, **chunks):
    """Write by hand, since Pillow writes few kinds, a random a.png with `chunks`, {type: bytes}; return its values.

    1 channel is grey, or numbers of colours if there is a chunk PLTE, 3 are RGB, and 2 and 4 have alpha too.
    """
    values = np.random.default_rng(1).integers(0, 2 ** bits, (40, 60, channels))
    colour_type = 3 if "PLTE" in chunks else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    in_bits = (values[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(40, -1)
    rows = np.insert(np.packbits(in_bits, axis=1), 0, 0, axis=1).tobytes()  # 0: unfiltered
    header = struct.pack(">IIBBBBB", 60, 40, bits, colour_type, 0, 0, 0)
    chunks = {"IHDR": header, **chunks, "IDAT": zlib.compress(rows), "IEND": b""}
    Path("a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind.encode() + data + struct.pack(">I", zlib.crc32(kind.encode() + data))
        for kind, data in chunks.items()))
    return values


needs_avif = pytest.mark.skipif(not ("avif" in PIL.features.modules and PIL.features.check("avif")),
                                reason="this Pillow cannot decode AVIF")


@pytest.mark.parametrize("name, options", [
    ("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.tiff", {"compression": "tiff_lzw"}), ("a.ppm", {}),
    ("a.webp", {"lossless": True}),
])
def test_lossless_formats_are_read_unchanged(name, options):
    Image.fromarray(PIXELS).save(name, **options)
    assert np.array_equal(photos.read(name), PIXELS)


@pytest.mark.parametrize("mode, name, tolerance", [
    ("RGB", "a.jpg", 4), ("CMYK", "a.jpg", 4), ("CMYK", "a.tif", 1), ("RGB", "a.gif", 30), ("RGBA", "a.png", 0),
    ("P", "a.png", 60), pytest.param("RGB", "a.avif", 8, marks=needs_avif),
])
def test_other_modes_become_rgb(mode, name, tolerance):
    Image.fromarray(SMOOTH).convert(mode).save(name, **({"quality": 100} if name in ("a.jpg", "a.avif") else {}))
    assert np.abs(photos.read(name).astype(int) - SMOOTH).max() <= tolerance


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", pytest.param("a.avif", marks=needs_avif)])
def test_transparent_pixels_are_laid_over_white(name):
    alpha = np.tile(np.uint8([0, 0, 128, 255, 255, 255]), (40, 10)).repeat(10, axis=0)[:40]
    Image.fromarray(np.dstack([PIXELS, alpha])).save(name, **({"quality": 100} if name == "a.avif" else {"lossless": True}))
    expected = 255 + (PIXELS.astype(float) - 255) * alpha[..., None] / 255
    difference = np.abs(photos.read(name) - expected)
    assert difference[:, ::6].max() == 0  # wholly transparent
    assert name == "a.avif" or difference.max() <= 1 and difference[:, 3::6].max() == 0  # opaque


def test_transparent_grey_is_laid_over_white():
    image = Image.fromarray(PIXELS).convert("LA")
    image.putalpha(0)
    image.save("a.png")
    assert (photos.read("a.png") == 255).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_shade_of_grey_is_white_at_any_depth(bits):
    shade = png(bits, 1)[20, 30, 0]
    values = png(bits, 1, tRNS=struct.pack(">H", shade))[..., 0]
    expected = np.where(values == shade, 255, values * 255 / (2 ** bits - 1))
    assert np.abs(photos.read("a.png") - expected[..., None]).max() < 1


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_is_white(bits):
    colour = png(bits, 3)[20, 30]
    png(bits, 3, tRNS=struct.pack(">HHH", *colour))
    seen = photos.read("a.png")
    assert (seen[20, 30] == 255).all() and (seen == 255).all(axis=2).sum() == 1


def test_transparent_colours_of_a_palette_are_laid_over_white():
    palette = np.random.default_rng(2).integers(0, 256, (4, 3))
    values = png(2, 1, PLTE=bytes(palette.ravel().tolist()), tRNS=bytes([255, 0, 51]))[..., 0]  # the fourth is opaque
    colours = 255 + (palette - 255) * np.array([[1], [0], [0.2], [1]])
    assert np.abs(photos.read("a.png") - colours[values]).max() <= 1

    grey = Image.new("P", (20, 10))
    grey.putpalette([90, 90, 90, 10, 20, 30])
    grey.paste(1, (0, 0, 10, 10))
    grey.save("a.gif", transparency=1)
    seen = photos.read("a.gif")
    assert (seen[:, :10] == 255).all() and (seen[:, 10:] == 90).all()


def test_the_labs_own_photos_are_read_as_tensorflow_reads_them_without_their_alpha_channels():
    for path in photos.SAMPLES + photos.SAMPLE_SIGNS:
        assert np.array_equal(photos.read(path), tf.io.decode_png(path.read_bytes(), channels=3))


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_photos_have_three_equal_channels(mode):
    grey = Image.fromarray(PIXELS).convert(mode)
    grey.save("a.png")
    expected = np.asarray(grey.convert("L"))
    assert np.array_equal(photos.read("a.png"), np.dstack([expected] * 3))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_scaled_not_clipped(channels):
    values = png(16, channels) / 257
    expected = values[..., :channels - 1 + channels % 2]
    if channels in (2, 4):
        expected = 255 + (expected - 255) * values[..., -1:] / 255
    assert np.abs(photos.read("a.png") - expected).max() < (1 if channels in (1, 3) else 2)


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


def test_the_first_of_a_phones_several_photos_in_one_mpo_file_is_read_and_turned():
    exif = Image.Exif()
    exif[0x0112] = 8  # rotate by 90 degrees, counterclockwise
    photo, depth = Image.fromarray(SMOOTH), Image.new("L", (30, 20))
    photo.save("a.jpg", format="MPO", save_all=True, append_images=[depth], quality=100, exif=exif)
    with Image.open("a.jpg") as image:
        assert image.format == "MPO" and image.n_frames == 2
    assert np.abs(photos.read("a.jpg").astype(int) - np.rot90(SMOOTH)).max() <= 4


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


def flat_jpeg(width, height, one_scan):
    """Write by hand a baseline JPEG of grey pixels, 4:4:4, its three components in one scan or in three."""
    def segment(marker, data):
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    blocks = -(-width // 8) * -(-height // 8)  # of 2 bits each: no difference to the block before, and no more coefficients
    tables = [segment(0xDB, bytes([0]) + bytes([1]) * 64)] + [
        segment(0xC4, bytes([kind, 1] + [0] * 15 + [0])) for kind in (0x00, 0x10)]  # one code, of one bit
    frame = segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + b"".join(bytes([i, 0x11, 0]) for i in (1, 2, 3)))
    scans = b""
    for components in [(1, 2, 3)] if one_scan else [(1,), (2,), (3,)]:
        header = bytes([len(components)]) + b"".join(bytes([i, 0]) for i in components) + bytes([0, 63, 0])
        scans += segment(0xDA, header) + bytes(-(-blocks * len(components) // 4))
    Path("flat.jpg").write_bytes(b"\xff\xd8" + b"".join(tables) + frame + scans + b"\xff\xd9")
    return "flat.jpg"


def smooth(name, **options):
    Image.fromarray(SMOOTH).resize((400, 200)).save(name, **options)
    return name


@pytest.mark.parametrize("write, bytes_a_pixel", [
    (lambda: smooth("a.png"), 8), (lambda: smooth("a.bmp"), 8), (lambda: smooth("a.tif"), 8), (lambda: smooth("a.gif"), 8),
    (lambda: smooth("a.tif", compression="tiff_lzw", strip_size=1 << 30), 12),  # its only strip is decoded beside the photo
    (lambda: smooth("a.webp"), 16), pytest.param(lambda: smooth("a.avif"), 16, marks=needs_avif),
    (lambda: smooth("a.jpg"), 2), (lambda: flat_jpeg(400, 200, True), 2), (lambda: flat_jpeg(400, 200, False), 7),
    (lambda: smooth("a.jpg", format="MPO", save_all=True, append_images=[Image.new("L", (9, 9))]), 2),
    (lambda: smooth("a.jpg", progressive=True, subsampling="4:4:4"), 7),  # 3 coefficients of 2 bytes, and a photo at half size
    (lambda: smooth("a.jpg", progressive=True, subsampling="4:2:0"), 4),
])
def test_a_large_photo_is_read_if_its_pixels_and_what_its_decoder_needs_fit_into_memory(monkeypatch, write, bytes_a_pixel):
    """With small limits; the next test measures at real ones."""
    path = write()
    monkeypatch.setattr(photos, "_LARGE", 1000)
    monkeypatch.setattr(photos, "_MEMORY", 400 * 200 * bytes_a_pixel)
    assert photos.read(path).shape == ((100, 200, 3) if path.endswith(".jpg") else (200, 400, 3))
    monkeypatch.setattr(photos, "_MEMORY", 400 * 200 * bytes_a_pixel - 1)
    with pytest.raises(BadInput, match="too many (pixels )?to read in 1 GB of memory"):
        photos.read(path)
    monkeypatch.setattr(photos, "_MEMORY", 10 ** 9)
    monkeypatch.setattr(photos, "_LARGE", 400 * 200)
    assert photos.read(path).shape == (200, 400, 3)


def test_a_large_jpeg_is_halved_by_averaging_and_turned(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth("a.jpg", quality=95, exif=exif)
    whole = photos.read("a.jpg").astype(float)
    assert whole.shape == (400, 200, 3)
    monkeypatch.setattr(photos, "_LARGE", 1000)
    half = photos.read("a.jpg")
    assert np.abs(half - whole.reshape(200, 2, 100, 2, 3).mean(axis=(1, 3))).max() < 4


MEASURE = r"""
import re, sys
from lab.data import photos

def peak():
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1])

photos.read_imagenet(photos.SAMPLES[0])
before = peak()
assert photos.read_imagenet(sys.argv[1]).shape == (227, 227, 3)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory is read from Linux's /proc")
@pytest.mark.parametrize("name, size, options", [
    ("a.jpg", (16384, 12288), {}),  # as 200-megapixel phones take them
    ("a.jpg", (16384, 12288), {"progressive": True, "subsampling": "4:2:0"}),
    ("a.png", (10000, 10000), {"compress_level": 1}),
    ("a.png", (12500, 10000), {"compress_level": 1}),
])
def test_a_photo_of_100_or_200_megapixels_takes_at_most_1_gb_of_memory(name, size, options):
    Image.fromarray(PIXELS).resize(size, Image.Resampling.BILINEAR).save(name, **options)
    run = subprocess.run([sys.executable, "-c", MEASURE, name], capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(files.HERE)})
    assert run.returncode == 0 and int(run.stdout) <= 1_000_000_000


def test_pillows_own_limit_is_as_before_after_a_photo_and_after_a_refusal():
    before = Image.MAX_IMAGE_PIXELS
    photos.read(photos.SAMPLES[0])
    for data in (b"P5 30000 30000 255 ", b"?"):
        with pytest.raises(BadInput):
            photos.read(written(data))
    assert Image.MAX_IMAGE_PIXELS == before


def ftyp(*brands):
    """The first box of a HEIF file, and some of what follows."""
    box = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", len(box) + 4) + box + b"\0\0\0\x08free" * 40


@needs_avif
def test_avif_is_read_by_its_contents_and_refused_by_its_name_where_pillow_cannot_decode_it(monkeypatch):
    Image.fromarray(SMOOTH).save("a.avif")
    Path("a.avif").rename("a.jpg")
    assert photos.read("a.jpg").shape == SMOOTH.shape
    with pytest.raises(BadInput, match="PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF and PPM"):
        photos.read(written(b"not a photo"))
    monkeypatch.setattr(PIL.features, "check", lambda feature: False)
    with pytest.raises(BadInput, match="a.jpg is an AVIF photo, which the Pillow installed here cannot decode: save it as"):
        photos.read("a.jpg")
    with pytest.raises(BadInput, match="PNG, JPEG, WebP, BMP, GIF, TIFF and PPM"):
        photos.read(written(b"not a photo"))


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
    "a decompression bomb": (lambda: image((30000, 30000), "1"), "too many pixels to read in 1 GB"),
    "a smaller bomb": (lambda: image((15000, 10000), "1"), "15000x10000 pixels, too many to read in 1 GB"),
    "an iPhone's photo": (lambda: written(ftyp(b"heic", b"mif1", b"heic")), "is a HEIC photo.*: save it as JPEG"),
    "another HEIC photo": (lambda: written(ftyp(b"mif1", b"heix", b"mif1")), "is a HEIC photo.*: save it as JPEG"),
    "a video": (lambda: written(ftyp(b"isom", b"mp42")), "is not a photo"),
    "a damaged AVIF photo": (lambda: written(ftyp(b"avif", b"mif1")), "is not a photo|is an AVIF photo"),
    "floating point": (lambda: image((20, 20), "F", "a.tif"), "floating-point"),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_unusable_photo_is_refused_in_one_sentence_that_names_it(bad):
    make, sentence = BAD[bad]
    path = make()
    with pytest.raises(BadInput, match=sentence) as refusal:
        photos.read(path)
    assert path in str(refusal.value) and "\n" not in str(refusal.value)
