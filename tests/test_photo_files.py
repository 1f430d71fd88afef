"""Photos that stay on disk are what they were when they were looked through, and near copies are found."""

import hashlib
import os
import threading
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lab.data import photo_files, photos
from lab.files import BadInput


def picture(seed, size=(60, 50)):
    """A picture of soft coloured blots, different for each seed."""
    blots = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def paths():
    """Five photos on disk, last changed an hour ago."""
    Path("photos").mkdir()
    for seed in range(5):
        picture(seed).save(f"photos/{seed}.jpg")
    return [Path(f"photos/{seed}.jpg") for seed in range(5)]


def zipped(paths):
    """The same photos in a zip file."""
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for path in paths:
            archive.write(path)
    archive = photo_files.Zip(Path("photos.zip"))
    return [photo_files.ZipPhoto(archive, info) for info in archive.members().values()]


def features_of(paths, size=227):
    found = photo_files.scan(paths)
    return photo_files.PhotoFiles(paths, found.digests, size, found.hashes)


@pytest.fixture
def reads(monkeypatch):
    """The names of the photos that have been read from disk since."""
    names, content = [], photo_files.bytes_of
    monkeypatch.setattr(photo_files, "bytes_of", lambda path: names.append(path.name) or content(path))
    return names


@pytest.mark.parametrize("size, read_one", [(32, photos.read_sign), (227, photos.read_imagenet)])
@pytest.mark.parametrize("place", ["a folder", "a zip file"])
def test_the_rows_are_those_of_the_array_of_all_photos(paths, place, size, read_one):
    features = features_of(paths if place == "a folder" else zipped(paths), size)
    array = photos.read_all(paths, read_one)
    assert len(features) == 5 and features.shape == array.shape and features.dtype == array.dtype
    for rows in (2, -1, np.int64(3), slice(1, 4), slice(None, None, -2), [4, 0, 0], np.array([3, 1]), array[:, 0, 0, 0] > 99,
                 np.array([], int)):
        assert np.array_equal(features[rows], array[rows])
    assert np.array_equal(np.stack(list(features)), array)
    with pytest.raises(IndexError):
        features[5]


def test_only_the_photos_asked_for_are_read(paths, reads):
    features = features_of(paths)
    reads.clear()
    features[[3, 1]]
    assert sorted(reads) == ["1.jpg", "3.jpg"]


def test_digests_are_sha_256_and_fingerprints_tell_photos_order_and_size_but_not_places(paths):
    features = features_of(paths)
    assert features.digests == [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    assert features.fingerprint == features_of(zipped(paths)).fingerprint
    others = features_of(paths, 32), features_of(paths[::-1]), features_of(paths[1:])
    assert len({one.fingerprint for one in (features, *others)}) == 4


def test_another_decoder_changes_what_is_kept_of_the_pixels_but_not_which_photos_they_are(paths, monkeypatch):
    features = features_of(paths)
    before = features.fingerprint, features.pixels_fingerprint
    monkeypatch.setattr(photos, "decoder", lambda: "another Pillow")
    assert features.fingerprint == before[0] and features.pixels_fingerprint != before[1]


def test_two_parts_can_be_joined(paths):
    first, second = features_of(paths[:2]), features_of(zipped(paths[2:]))
    both = photo_files.joined(first, second)
    assert both.fingerprint == features_of(paths).fingerprint and both.paths == first.paths + second.paths
    assert np.array_equal(both[:], features_of(paths)[:]) and np.array_equal(both.hashes, features_of(paths).hashes)


@pytest.mark.parametrize("harm", [
    lambda path: path.unlink(), lambda path: picture(9).save(path), lambda path: path.write_bytes(b""),
])
def test_a_photo_that_changes_or_goes_after_the_scan_is_named(paths, harm):
    features = features_of(paths)
    harm(paths[3])
    with pytest.raises(BadInput, match=r"photos/3\.jpg.*run this again"):
        features[1:5]
    assert len(features[:3]) == 3


def test_a_second_scan_reads_only_what_is_new_or_has_changed(paths, reads):
    first = photo_files.scan(paths, "cache", "photos")
    assert len(reads) == 5
    reads.clear()
    second = photo_files.scan(paths, "cache", "photos")
    assert not reads and second.digests == first.digests and np.array_equal(second.hashes, first.hashes)

    picture(7).save("photos/2.jpg")
    picture(8).save("photos/new.jpg")
    changed = photo_files.scan([*paths, Path("photos/new.jpg")], "cache", "photos")
    assert sorted(reads) == ["2.jpg", "new.jpg"]
    assert [i for i in range(5) if changed.digests[i] != first.digests[i]] == [2]


def test_a_photo_of_the_same_size_and_time_that_has_other_bytes_is_read_again(paths, reads):
    before = photo_files.scan(paths, "cache", "photos")
    reads.clear()
    times, content = os.stat(paths[0]), bytearray(paths[0].read_bytes())
    content[-3] ^= 1
    paths[0].write_bytes(content)
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert photo_files.scan(paths, "cache", "photos").digests[0] != before.digests[0] and reads == ["0.jpg"]


def test_photos_in_a_zip_file_are_not_read_again_either(paths, reads):
    photo_files.scan(zipped(paths), "cache", "photos")
    reads.clear()
    picture(7).save("photos/2.jpg")
    photo_files.scan(zipped(paths), "cache", "photos")
    assert reads == ["2.jpg"]


def manifest():
    path, = Path("cache").iterdir()
    return path


@pytest.mark.parametrize("harm", [
    lambda data: b"", lambda data: b"nonsense", lambda data: data[:len(data) // 2],
    lambda data: data[:400] + bytes([data[400] ^ 1]) + data[401:], lambda data: data[:-40] + bytes(40),
])
def test_a_damaged_manifest_is_made_again(paths, reads, harm):
    before = photo_files.scan(paths, "cache", "photos")
    manifest().write_bytes(harm(manifest().read_bytes()))
    assert photo_files.scan(paths, "cache", "photos").digests == before.digests
    reads.clear()
    photo_files.scan(paths, "cache", "photos")
    assert not reads


def test_a_manifest_of_another_decoder_is_made_again(paths, reads, monkeypatch):
    photo_files.scan(paths, "cache", "photos")
    reads.clear()
    monkeypatch.setattr(photos, "decoder", lambda: "another Pillow")
    photo_files.scan(paths, "cache", "photos")
    assert len(reads) == 5


def test_an_interrupted_scan_keeps_what_it_has_found(paths, reads, monkeypatch):
    look = photo_files._look

    def interrupted(path):
        if path.name == "3.jpg":
            raise KeyboardInterrupt
        return look(path)

    with monkeypatch.context() as patch:
        patch.setattr(photo_files, "_look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            photo_files.scan(paths, "cache", "photos")
    reads.clear()
    photo_files.scan(paths, "cache", "photos")
    assert {"3.jpg", "4.jpg"} == set(reads)


def test_without_a_place_for_the_manifest_the_scan_goes_on(paths, capsys):
    Path("file").touch()
    assert photo_files.scan(paths, "file", "photos").digests == photo_files.scan(paths).digests
    assert "file/photos-" in capsys.readouterr().err


BAD = {
    "empty.jpg": b"", "text.jpg": b"no photo", "pixel.ppm": b"P6 1 1 255 abc", "heic.heic": b"\0\0\0\x18ftypheic" + bytes(300),
    "float.tif": None, "cut.jpg": None, "cut.png": None, "missing.jpg": None,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", ["a folder", "a zip file"])
def test_the_scan_finds_what_reading_would_refuse_and_says_the_same(paths, name, place):
    path = Path("photos", name)
    if name == "float.tif":
        Image.fromarray(np.ones((40, 40), np.float32)).save(path)
    elif name.startswith("cut"):
        picture(0).save(path)
        path.write_bytes(path.read_bytes()[:-300])
    elif name != "missing.jpg":
        path.write_bytes(BAD[name])
    elif place == "a zip file":
        pytest.skip("a zip file lists no missing photo")
    everything = [paths[0], path] if place == "a folder" else zipped([paths[0], path])
    found = photo_files.scan(everything, "cache", "photos")
    assert list(found.bad) == [1] and found.digests[1] is None and found.digests[0]
    with pytest.raises(BadInput) as refusal:
        photos.read(path)
    assert str(found.bad[1]).replace("photos.zip/", "").split(":")[0] == str(refusal.value).split(":")[0]


def test_a_file_far_too_large_for_a_photo_is_not_read_into_memory(paths):
    with paths[1].open("ab") as file:
        file.truncate(300_000_000)  # takes no room on disk
    found = photo_files.scan(paths)
    assert list(found.bad) == [1] and "300,000,000 bytes" in str(found.bad[1])


def test_damage_in_a_zip_file_is_a_bad_photo(paths):
    photo = zipped(paths)[2]
    data = bytearray(Path("photos.zip").read_bytes())
    data[photo.info.header_offset + 200] ^= 1
    Path("photos.zip").write_bytes(data)
    archive = photo_files.Zip(Path("photos.zip"))
    found = photo_files.scan([photo_files.ZipPhoto(archive, info) for info in archive.members().values()])
    assert list(found.bad) == [2] and "photos.zip/photos/2.jpg" in str(found.bad[2])


def test_a_file_that_is_no_zip_file_is_refused(paths):
    zipped(paths)
    for data in (b"no zip file", Path("photos.zip").read_bytes()[:-30]):
        Path("bad.zip").write_bytes(data)
        with pytest.raises(BadInput, match="bad.zip"):
            photo_files.Zip(Path("bad.zip"))


def test_names_in_a_zip_file_of_macos_are_utf_8_though_it_does_not_say_so():
    info = zipfile.ZipInfo("xxxxxx/1.jpg")
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.writestr(info, b"x")
    data = Path("photos.zip").read_bytes().replace(b"xxxxxx", "雏菊".encode())
    Path("photos.zip").write_bytes(data)
    assert list(photo_files.Zip(Path("photos.zip")).members()) == ["雏菊/1.jpg"]


class Waiting:
    """A photo whose file is opened, the second time, when `before` is set; then `opened` is set."""

    def __init__(self, path, before, opened):
        self.path, self.before, self.opened, self.times = path, before, opened, 0

    def __getattr__(self, name):
        return getattr(self.path, name)

    def open(self, mode):
        self.times += 1
        if self.times == 2:  # the first time, it is only checked
            self.opened.set()
            assert self.before.wait(10)
        return self.path.open(mode)


def test_threads_that_read_photos_at_the_same_time_leave_pillows_limit_and_the_warnings_as_they_were(paths):
    before = Image.MAX_IMAGE_PIXELS, warnings.filters[:]
    opened, last_opened, first_read = (threading.Event() for _ in range(3))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(photos.read, Waiting(paths[0], last_opened, opened))
        assert opened.wait(10)
        last = pool.submit(photos.read, Waiting(paths[1], first_read, last_opened))
        assert np.array_equal(first.result(), photos.read(paths[0]))
        first_read.set()
        assert np.array_equal(last.result(), photos.read(paths[1]))
    assert (Image.MAX_IMAGE_PIXELS, warnings.filters[:]) == before


def hash_of(image, name="x.jpg", **options):
    image.save(name, **options)
    found = photo_files.scan([Path(name)])
    return found.hashes[0]


def differing(first, second):
    return bin(int(first) ^ int(second)).count("1")


def test_copies_look_alike_and_other_photos_do_not():
    original = Image.open(photos.SAMPLES[0]).convert("RGB")
    seen = hash_of(original)
    copies = [hash_of(original, quality=40), hash_of(original, "x.png"), hash_of(original.convert("L")),
              hash_of(original.resize((original.width // 2, original.height // 2)))]
    assert max(differing(seen, copy) for copy in copies) <= photo_files.NEAR
    others = [hash_of(Image.open(path).convert("RGB")) for path in photos.SAMPLES[1:] + photos.SAMPLE_SIGNS]
    others += [hash_of(picture(seed)) for seed in range(20)]
    assert min(differing(seen, other) for other in others) > 2 * photo_files.NEAR


def test_photos_of_one_colour_are_copies_only_if_they_are_equal():
    red, blue, again = (hash_of(Image.new("RGB", (40, 40), colour)) for colour in ("red", "blue", "red"))
    assert red == again and len(set(photo_files.near_copies(np.array([red, blue], np.uint64)))) == 2


@pytest.mark.parametrize("comparisons", [4_000_000, 10])  # all with all, and in buckets
@pytest.mark.parametrize("numpy", [1, 2])
def test_groups_are_the_chains_of_near_hashes(monkeypatch, comparisons, numpy):
    monkeypatch.setattr(photo_files, "_COMPARISONS", comparisons)
    if numpy == 1:
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    random = np.random.default_rng(0)
    chains = []
    for number in range(40):
        link = int(random.integers(0, 2 ** 64, dtype=np.uint64))
        for _ in range(1 + number % 5):
            chains.append((link, number))
            link ^= sum(1 << int(bit) for bit in random.choice(64, photo_files.NEAR, replace=False))
    order = random.permutation(len(chains))
    hashes, chain = (np.array([chains[i][column] for i in order], np.uint64) for column in (0, 1))
    group = photo_files.near_copies(hashes)
    assert np.array_equal(group[:, None] == group, chain[:, None] == chain)
    assert list(dict.fromkeys(group.tolist())) == list(range(40))
