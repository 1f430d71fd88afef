"""weights.load reads the published file, an .npz and the built-in weights, and refuses everything else in one sentence."""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import python2
from hostile import RunsCode
from samples import small_weights

from lab.files import BadInput
from lab.network import weights

SMALL = {"conv1": (3, 3, 3, 4), "fc6": (20, 8), "fc7": (8, 8), "fc8": (8, 1000)}


@pytest.fixture
def small(monkeypatch):
    """Small weights, and SHAPES changed to match them. (.ci/test_long.py reads full-size weights.)"""
    monkeypatch.setattr(weights, "SHAPES", SMALL)
    return small_weights(SMALL)


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for layer in theirs:
        for a, b in zip(ours[layer], theirs[layer]):
            assert a.dtype == b.dtype == np.float32 and np.array_equal(a, b)


def npz(arrays, path="w.npz"):
    np.savez(path, **arrays)
    return path


def flat(layers):
    return {f"{layer}_{kind}": array for layer, pair in layers.items() for kind, array in zip("Wb", pair)}


def test_the_published_file_pickled_by_python_2_is_read(small):
    Path("bvlc-alexnet.npy").write_bytes(python2.npy({layer: list(pair) for layer, pair in small.items()}))
    assert_same(weights.load("bvlc-alexnet.npy"), small)


def test_fortran_order_is_read(small):
    fortran = {layer: [np.asfortranarray(W), b] for layer, (W, b) in small.items()}
    Path("w.npy").write_bytes(python2.npy(fortran))
    assert_same(weights.load("w.npy"), small)
    assert_same(weights.load(npz(flat(fortran))), small)


@pytest.mark.parametrize("pair", [list, tuple])
def test_a_file_saved_by_todays_numpy_is_read(small, pair):
    np.save("w.npy", {layer: pair(arrays) for layer, arrays in small.items()}, allow_pickle=True)
    assert_same(weights.load("w.npy"), small)


def test_an_npz_is_read_whatever_its_name(small):
    Path(npz(flat(small))).rename("weights.dat")
    assert_same(weights.load("weights.dat"), small)


def test_auto_takes_the_published_file_and_says_so(small, capsys):
    assert weights.find("auto") == weights.BUILTIN
    assert "built-in" in capsys.readouterr().err
    for name in reversed(["bvlc-alexnet.npy", "bvlc_alexnet.npy", "bvlcalexnet-12.onnx", "bvlcalexnet-9.onnx",
                          "bvlcalexnet-8.onnx", "bvlcalexnet-7.onnx", "bvlcalexnet-6.onnx", "bvlcalexnet-3.onnx",
                          "bvlc_alexnet.caffemodel"]):  # each is preferred to those before
        Path(name).write_bytes(python2.npy({layer: list(pair) for layer, pair in small.items()}))
        assert_same(weights.load("auto"), small)
        output = capsys.readouterr()
        assert (output.out, output.err) == ("", f"AlexNet weights: {name}\n")


def test_auto_does_not_skip_a_bad_file(small):
    Path("bvlc-alexnet.npy").touch()
    with pytest.raises(BadInput, match="bvlc-alexnet.npy is empty"):
        weights.load("auto")


def test_the_builtin_weights_are_alexnets_and_know_202_classes(capsys):
    built_in = weights.load("builtin")
    assert {layer: (W.shape, b.shape) for layer, (W, b) in built_in.items()} == {
        layer: (shape, shape[-1:]) for layer, shape in weights.SHAPES.items()}
    assert all(array.dtype == np.float32 for pair in built_in.values() for array in pair)
    W, b = built_in["fc8"]
    known = b > -1e4
    assert known.sum() == 202 and not W[:, ~known].any()
    assert np.float32(np.exp(b[~known] + 1000)).max() == 0  # even for a logit of 1000
    weights.warn_of_unknown_classes(built_in)
    assert "202 of the 1000" in capsys.readouterr().err


def test_the_compact_form_is_int8_times_scale_with_two_factors_and_only_some_columns_of_fc8(small):
    rng = np.random.default_rng(1)
    arrays = flat(small)
    for name, shape in {"conv1_W": (3, 3, 3, 4), "fc6_U": (20, 2), "fc6_W": (2, 8), "fc8_W": (8, 3)}.items():
        arrays[name] = rng.integers(-127, 128, shape, np.int8)
        arrays[f"{name}_scale"] = rng.random(shape[-1], np.float32)
    arrays["fc8_b"], arrays["class_index"] = np.float32([1, 2, 3]), np.int16([7, 999, 0])
    loaded = weights.load(npz(arrays))

    def real(name, *index):
        return float(arrays[name][index]) * float(arrays[f"{name}_scale"][index[-1]])

    assert loaded["conv1"][0][2, 1, 0, 3] == pytest.approx(real("conv1_W", 2, 1, 0, 3))
    assert loaded["fc6"][0][19, 7] == pytest.approx(sum(real("fc6_U", 19, k) * real("fc6_W", k, 7) for k in (0, 1)))
    assert loaded["fc8"][0][5, 999] == pytest.approx(real("fc8_W", 5, 1))
    assert loaded["fc8"][1][[7, 999, 0, 1]].tolist() == [1, 2, 3, -1e4]
    assert not loaded["fc8"][0][:, 1].any()


def written(data, name="w.npy"):
    Path(name).write_bytes(data)
    return name


def saved(array, **arguments):
    buffer = io.BytesIO()
    np.save(buffer, array, **arguments)
    return buffer.getvalue()


def zipped(member, size=None):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conv1_W.npy", member if size is None else bytes(size))
    return buffer.getvalue()


def header(shape, dtype="<f4"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00v\x00" + text


BAD = {
    "missing": (lambda: "nowhere.npy", "does not exist"),
    "a folder": (lambda: Path("w.npy").mkdir() or "w.npy", "is a folder"),
    "below a file": (lambda: written(b"1", "file") + "/w.npy", "w.npy"),
    "empty": (lambda: written(b""), "is empty"),
    "text": (lambda: written(b"I am a web page"), "not a .npy, .npz, .caffemodel or .onnx file"),
    "magic only": (lambda: written(b"\x93NUMPY"), "no valid .npy header"),
    "header cut": (lambda: written(saved(np.zeros(3))[:50]), "no valid .npy header"),
    "an array": (lambda: written(saved(np.zeros((3, 4)))), r"shape \(3, 4\) and dtype float64"),
    "an absurd array": (lambda: written(header((10**12,))), "not AlexNet's layers"),
    "an absurd object array": (lambda: written(header((10**12,), "|O")), "not AlexNet's layers"),
    "a list": (lambda: written(python2.npy([1, 2])), "array of objects where numbers belong"),
    "code": (lambda: written(saved(np.array(RunsCode(), object), allow_pickle=True)), "asks to call builtins.exec"),
    "code in a layer": (lambda: written(saved(np.array({"conv1": [RunsCode(), 1]}, object), allow_pickle=True)),
                        "asks to call builtins.exec"),
    "other layers": (lambda: written(python2.npy({"conv": [np.zeros(3, np.float32)] * 2})), "the layers must be"),
    "numbers as layers": (lambda: written(python2.npy({layer: 1 for layer in SMALL})), "must be a pair"),
    "a damaged zip": (lambda: written(b"PK\x03\x04 and so on"), "damaged or cut short"),
    "a zip of text": (lambda: written(zipped(b"hello")), "no valid .npy header"),
    "an absurd header in a zip": (lambda: written(zipped(header((10**12,)))), "does not match its data"),
    "an overflowing header": (lambda: written(zipped(header((2**40, 2**40)))), "does not match its data"),
    "a header that is not Python": (lambda: written(header("(3L,)")), "no valid .npy header|not AlexNet"),
    "a header of odd keys": (lambda: written(header("(), 1: ()")), "no valid .npy header"),
    "a header of minus signs": (lambda: written(b"\x93NUMPY\x01\x00" + b"\x40\x1f" + b"-" * 8000), "no valid .npy header"),
    "a zip bomb": (lambda: written(zipped(b"", 300_000_000)), "unpack to more bytes"),
    "objects in a zip": (lambda: written(zipped(saved(np.array([RunsCode()]), allow_pickle=True))), "holds object where"),
    "a missing layer": (lambda: npz({"conv1_W": np.zeros(SMALL["conv1"], np.float32)}), "lacks conv1_b"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_is_refused_in_one_sentence_that_names_it(bad, small):
    make, sentence = BAD[bad]
    path = make()
    tracemalloc.start()
    with pytest.raises(BadInput, match=sentence) as refusal:
        weights.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path in str(refusal.value) and "\n" not in str(refusal.value) and len(str(refusal.value)) < 300
    assert peak < 5_000_000
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name, array, sentence", [
    ("conv1_W", np.zeros((3, 3, 3, 5), np.float32), r"conv1 weights .*\(3, 3, 3, 5\).*\(3, 3, 3, 4\)"),
    ("conv1_W", np.zeros((3, 3, 3, 4)), "conv1 weights are float64"),
    ("fc8_b", np.full(1000, np.nan, np.float32), "fc8 biases contain NaN or infinite values"),
    ("conv1_W_scale", np.ones(4, np.float32), "do not fit together"),
    ("fc6_U", np.ones((20, 9), np.float32), "fc6_U"),
    ("class_index", np.int16([1, 2]), "class_index does not fit"),
    ("class_index", np.int16([1] * 1000), "class_index does not fit"),
    ("fc8_b", np.array(["a"] * 1000), "where numbers belong"),
])
def test_a_wrong_array_in_an_npz_is_named(name, array, sentence, small):
    with pytest.raises(BadInput, match=sentence):
        weights.load(npz(flat(small) | {name: array}))


def test_a_compact_layer_too_large_for_float32_weights_is_refused_before_it_is_expanded(small):
    arrays = flat(small) | {"conv1_W": np.zeros((50_000_000, 1), np.int8), "conv1_W_scale": np.ones(1, np.float32)}
    np.savez_compressed("w.npz", **arrays)
    with pytest.raises(BadInput, match="conv1_W"):
        weights.load("w.npz")


def test_scales_that_overflow_are_refused_without_a_warning_from_numpy(small, recwarn):
    arrays = flat(small) | {"conv1_W": np.full(SMALL["conv1"], 127, np.int8),
                            "conv1_W_scale": np.full(4, 3e38, np.float32)}
    with pytest.raises(BadInput, match="conv1 weights contain NaN or infinite values"):
        weights.load(npz(arrays))
    assert not recwarn.list


def test_factors_whose_product_would_be_too_large_are_refused_before_they_are_multiplied(small):
    factors = {"fc6_U": np.ones((50_000, 1), np.float32), "fc6_W": np.ones((1, 50_000), np.float32)}
    with pytest.raises(BadInput, match="fc6_U"):
        weights.load(npz(flat(small) | factors))


@pytest.mark.parametrize("name", ["w.npy", "w.npz"])
def test_a_file_cut_short_is_refused(name, small):
    if name == "w.npy":
        Path(name).write_bytes(python2.npy({layer: list(pair) for layer, pair in small.items()}))
    else:
        npz(flat(small), name)
    whole = Path(name).read_bytes()
    for length in [1, 7, *range(10, len(whole), len(whole) // 50)]:
        Path(name).write_bytes(whole[:length])
        with pytest.raises(BadInput, match=name):
            weights.load(name)


def identity(path):
    return weights.identity(Path(path), weights.load(path))


def test_weights_are_identified_by_their_arrays_whichever_file_they_are_in(small):
    Path("python2.npy").write_bytes(python2.npy({layer: list(pair) for layer, pair in small.items()}))
    np.save("today.npy", {layer: (np.asfortranarray(W), b) for layer, (W, b) in small.items()}, allow_pickle=True)
    np.savez_compressed("w.npz", **flat(small))
    expected = hashlib.sha256(b"".join(array.tobytes() for pair in small.values() for array in pair)).hexdigest()
    for name in ("python2.npy", "today.npy", "w.npz"):
        assert identity(name) == {"name": name, "fingerprint": expected}
    small["fc7"][1][3] += 1e-3
    assert identity(npz(flat(small)))["fingerprint"] != expected


def test_weights_stored_as_factors_are_identified_by_their_file_since_a_product_depends_on_the_processor():
    digest = hashlib.sha256(weights.BUILTIN.read_bytes()).hexdigest()
    arrays = {}  # not needed
    assert weights.identity(weights.BUILTIN, arrays) == {"name": "builtin", "fingerprint": digest}
    shutil.copy(weights.BUILTIN, "copy.npz")
    assert weights.identity(Path("copy.npz"), arrays) == {"name": "copy.npz", "fingerprint": digest}


CHANGES = {
    "nothing": (lambda: None, True),
    "a later time": (lambda: os.utime("bvlc-alexnet.npy", (2e9, 2e9)), False),
    "another size": (lambda: Path("bvlc-alexnet.npy").open("ab").write(b"x"), False),
    "another file": (lambda: shutil.copy(npz({}), "bvlc-alexnet.npy"), False),
    "no note": (lambda: os.remove("bvlc-alexnet.npy.json"), False),
    "a damaged note": (lambda: os.truncate("bvlc-alexnet.npy.json", 30), False),
    "a note of something else": (lambda: written(b"[" * 100_000, "bvlc-alexnet.npy.json"), False),
    "a note that is a list": (lambda: written(b"[1]", "bvlc-alexnet.npy.json"), False),
    "a note with escape sequences": (lambda: edit_note(publisher="\33[31m"), False),
    "a note with a long name": (lambda: edit_note(publisher="x" * 1000), False),
    "a note with a number for a name": (lambda: edit_note(publisher=1), False),
}


def edit_note(**changes):
    note = Path("bvlc-alexnet.npy.json")
    note.write_text(json.dumps(json.loads(note.read_text()) | changes))


@pytest.mark.parametrize("change", CHANGES)
def test_the_publisher_of_a_verified_file_is_shown_until_the_file_changes(change, small, capsys):
    Path(npz(flat(small))).rename("bvlc-alexnet.npy")
    weights.record(Path("bvlc-alexnet.npy"), "Some University", "SHA-1", small)
    make, shown = CHANGES[change]
    make()
    weights.find("auto")
    assert capsys.readouterr().err == f"AlexNet weights: bvlc-alexnet.npy{' (Some University, verified by SHA-1)' * shown}\n"


def test_which_weights_a_layer_fits_never_depends_on_the_note(small):
    fingerprint = weights.fingerprint(small)
    npz(flat(small))
    weights.record(Path("w.npz"), "Some University", "SHA-256", small)
    assert identity("w.npz")["fingerprint"] == fingerprint
    status = os.stat("w.npz")
    small["fc7"][0][0, 0] += 1
    npz(flat(small))  # of the same size
    assert identity("w.npz")["fingerprint"] == weights.fingerprint(small) != fingerprint
    os.utime("w.npz", ns=(status.st_atime_ns, status.st_mtime_ns))  # the note seems to hold: as for a disk that has damaged it
    with pytest.raises(BadInput, match="w.npz does not hold what was fetched and verified .w.npz.json"):
        identity("w.npz")


def test_a_dict_of_weights_and_biases_per_layer_is_read_as_caffe_tensorflow_writes_it(small):
    layers = {layer: dict(zip(("weights", "biases"), pair)) for layer, pair in small.items()}
    Path("python2.npy").write_bytes(python2.npy(layers))
    np.save("today.npy", layers, allow_pickle=True)
    for name in ("python2.npy", "today.npy"):
        assert_same(weights.load(name), small)


TORCHVISION = [f"{part}.{i}.{kind}" for part, layers in {"features": (0, 3, 6, 8, 10), "classifier": (1, 4, 6)}.items()
               for i in layers for kind in ("weight", "bias")]


def torch_pickle(names):
    """An OrderedDict of tensors as PyTorch pickles it in protocol 2; a tensor's numbers are elsewhere, known by an id."""
    def text(value):
        return b"X" + struct.pack("<i", len(value)) + value.encode()

    items = b"".join(
        text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(i))
        + text("cpu") + b"K\x01tQK\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR" for i, name in enumerate(names))
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def torch_zip(names, compression=zipfile.ZIP_STORED, path="alexnet.pth"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("alexnet/data.pkl", torch_pickle(names))
        archive.writestr("alexnet/byteorder", "little")
        archive.writestr("alexnet/data/0", bytes(4))
        archive.writestr("alexnet/version", "3\n")
    return path


def torch_old(names):
    header = (0x1950a86a20f9469cfc6c, 1001, {"protocol_version": 1001, "little_endian": True})
    return written(b"".join(pickle.dumps(value, 2) for value in header) + torch_pickle(names), "alexnet.pth")


def ordered(names):
    return OrderedDict((name, np.zeros(1, np.float32)) for name in names)


@pytest.mark.parametrize("write", [
    torch_zip, torch_old,
    lambda names: written(torch_pickle(names)),
    lambda names: written(pickle.dumps(ordered(names))),
    lambda names: written(saved(np.array(dict(ordered(names)), object), allow_pickle=True)),
    lambda names: written(saved(np.array(ordered(names), object), allow_pickle=True)),
    lambda names: npz(ordered(names)),
])
def test_a_state_dict_of_torchvision_is_refused_by_name(write):
    for names in (TORCHVISION, [f"module.{name}" for name in TORCHVISION]):
        path = write(names)
        with pytest.raises(BadInput, match=f"{path} is torchvision's .features.0.weight and so on.*bvlc-alexnet"):
            weights.load(path)


@pytest.mark.parametrize("write", [torch_zip, torch_old, lambda names: torch_zip(TORCHVISION, zipfile.ZIP_DEFLATED)])
def test_any_other_file_of_torch_save_is_named_too(write):
    path = write(["conv1.weight", "conv1.bias"])
    with pytest.raises(BadInput, match=f"{path} was written by PyTorch's torch.save, which the lab does not read: use"):
        weights.load(path)


def test_weights_of_another_net_are_told_by_what_the_file_holds():
    npz({"conv1_1_W": np.zeros((3, 3, 3, 64), np.float32), "conv1_1_b": np.zeros(64, np.float32)}, "vgg16.npz")
    with pytest.raises(BadInput, match="vgg16.npz lacks conv1_W: it holds conv1_1_W, conv1_1_b, which are not AlexNet"):
        weights.load("vgg16.npz")
    np.save("vgg16.npy", {"conv1_1": [np.zeros(1), np.zeros(1)]}, allow_pickle=True)
    with pytest.raises(BadInput, match=r"vgg16.npy: the layers must be conv1, .*, not \['conv1_1'\]"):
        weights.load("vgg16.npy")


def test_a_fingerprint_is_that_of_the_arrays_in_the_order_of_the_layers(random_weights):
    expected = hashlib.sha256()
    for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        for array in random_weights[layer]:
            expected.update(array.tobytes())
    assert weights.fingerprint(random_weights) == expected.hexdigest()
    W, b = random_weights["conv1"]
    turned = dict(reversed(random_weights.items())) | {"conv1": [np.asfortranarray(W), b]}
    assert weights.fingerprint(turned) == expected.hexdigest()
    assert weights.fingerprint(random_weights | {"conv1": (W, b + 1)}) != expected.hexdigest()
