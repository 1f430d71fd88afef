"""weights.load reads Caffe's and ONNX's files of AlexNet, tells other networks by what they are, and converts them all.

The files are small ones that protobuf_files.py writes. (.ci/test_weights.py has full-size ones, and ONNX Runtime's answers.)
"""

import gzip
import io
import subprocess
import tarfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import protobuf_files
import pytest
from protobuf_files import ALEXNET, CAFFENET, TORCHVISION, caffemodel, field, message, onnx
from samples import small_weights

from lab.files import BadInput
from lab.network import convert, weights

# Two rows and three columns of conv5's 4 channels reach fc6.
SMALL = {"conv1": (3, 2, 3, 6), "conv2": (5, 5, 3, 8), "conv3": (3, 3, 8, 6), "conv4": (3, 3, 3, 6), "conv5": (3, 3, 3, 4),
         "fc6": (2 * 3 * 4, 8), "fc7": (8, 8), "fc8": (8, 10)}


@pytest.fixture
def small(monkeypatch):
    """Small weights, and SHAPES changed to match them."""
    monkeypatch.setattr(weights, "SHAPES", SMALL)
    return small_weights(SMALL)


def written(data, name="w"):
    Path(name).write_bytes(data)
    return name


def assert_same(ours, theirs):
    assert list(ours) == list(theirs)
    for layer in theirs:
        for a, b in zip(ours[layer], theirs[layer]):
            assert a.dtype == b.dtype == np.float32 and a.flags.c_contiguous and np.array_equal(a, b)


FILES = {
    "Caffe, layer": lambda layers: caffemodel(layers),
    "Caffe, layer, old shapes": lambda layers: caffemodel(layers, old_shapes=True),
    "Caffe, layers, old shapes": lambda layers: caffemodel(layers, "layers", old_shapes=True),
    "Caffe, layers": lambda layers: caffemodel(layers, "layers"),
    "ONNX": lambda layers: onnx(layers),
    "ONNX, float_data": lambda layers: onnx(layers, "float_data"),
    "ONNX, float_data not packed": lambda layers: onnx(layers, "float_data, one by one"),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_arrays_are_read_bit_for_bit_whatever_the_files_name(kind, small):
    loaded = weights.load(written(FILES[kind](small), "w.npy"))
    assert_same(loaded, small)
    assert weights.fingerprint(loaded) == weights.fingerprint(small)


def test_the_outputs_come_first_in_the_file_and_fc6_has_channel_row_column(small):
    arrays = {layer: (W, b) for layer, (W, b) in protobuf_files.outputs_first(small).items()}
    conv1, fc6, fc7 = (arrays[layer][0] for layer in ("conv1", "fc6", "fc7"))
    assert conv1.shape == (6, 3, 3, 2) and conv1[5, 2, 1, 0] == small["conv1"][0][1, 0, 2, 5]
    assert fc7[3, 7] == small["fc7"][0][7, 3]
    for channel, row, column in np.ndindex(4, 2, 3):
        assert np.array_equal(fc6[:, (channel * 2 + row) * 3 + column], small["fc6"][0][(row * 3 + column) * 4 + channel])


def wrong_shape(layers):
    W, b = layers["fc8"]
    return layers | {"fc8": (W[:, :7], b[:7])}


def archive(data, mode):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        member = tarfile.TarInfo("bvlcalexnet-12/bvlcalexnet-12.onnx")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def torchvisions(layers):
    rng = np.random.default_rng(0)
    return layers | {"conv1": (rng.standard_normal((11, 11, 3, 64), np.float32), np.zeros(64, np.float32))}


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"6b" * 32 + b"\nsize 243863787\n"

REFUSED = {
    "CaffeNet": (lambda w: caffemodel(w, order=CAFFENET), "is CaffeNet, .* pools before it normalises"),
    "CaffeNet with layers": (lambda w: caffemodel(w, "layers", True, order=CAFFENET), "is CaffeNet"),
    "CaffeNet by a bottom alone": (lambda w: caffemodel(w, bottoms={"norm1": "pool1"}), "is CaffeNet"),
    "CaffeNet in ONNX": (lambda w: onnx(w, order=CAFFENET), "is CaffeNet"),
    "torchvision's": (lambda w: onnx(torchvisions(w), order=TORCHVISION), "is torchvision's AlexNet, whose conv1 has 64"),
    "torchvision's by its names": (lambda w: onnx(w, names="features.1.weight"), "is torchvision's .features.1.weight"),
    "no norms": (lambda w: onnx(w, order=TORCHVISION), "another network than AlexNet .its layers: conv pool conv pool conv"),
    "no norms in Caffe": (lambda w: caffemodel(w, order=TORCHVISION), "is another network than AlexNet"),
    "a network without matrices": (lambda w: caffemodel(w, order=["conv1"]), "its layers: conv"),
    "int8": (lambda w: onnx(w, order=["quantize1", *ALEXNET]), "is an int8 edition"),
    "QDQ": (lambda w: onnx(w, order=[*ALEXNET[:4], "dequantize1", *ALEXNET[4:]]), "is an int8 edition"),
    "external data": (lambda w: onnx(w, "none", extra=[(13, message((1, "location"), (2, "w.data"))), (14, 1)]),
                      "keeps its weights in another file .ONNX's external data.: use bvlcalexnet-12.onnx"),
    "float16": (lambda w: onnx(w, data_type=10), "data type 10, where AlexNet's are float32"),
    "float64": (lambda w: caffemodel(w, extra=[(8, b"\0" * 8)]), "holds float64 numbers"),
    "Caffe's layers.layer": (lambda w: message((1, "AlexNet"), (2, field(1, message((1, "conv1"), (2, "conv"))))),
                      "Caffe's oldest format.* upgrade_net_proto_binary"),
    "a state of Caffe's": (lambda w: message((1, 360000), (2, "bvlc_alexnet.caffemodel"), (3, b"")), "is Caffe's .solverstate"),
    "another fc8": (lambda w: caffemodel(wrong_shape(w)), r"fc8 weights have shape \(7, 8\), where AlexNet's have \(10, 8\)"),
    "no biases": (lambda w: caffemodel(w | {"fc7": w["fc7"][:1]}), "lacks weights or biases of fc7"),
    "NaN": (lambda w: onnx(w | {"fc8": (w["fc8"][0], np.full(10, np.nan, np.float32))}), "fc8 biases contain NaN"),
    "a Git LFS pointer": (lambda w: LFS, "is a Git LFS pointer, .* `git lfs pull`"),
    ".gz": (lambda w: gzip.compress(caffemodel(w)), "`gunzip -c w > w.unpacked`"),
    "a damaged .gz": (lambda w: b"\x1f\x8b\x08 and so on", "is a damaged .gz"),
    ".tar.gz": (lambda w: archive(onnx(w), "w:gz"), "is an archive .* `tar xf w`"),
    ".tar": (lambda w: archive(onnx(w), "w"), "is an archive .* `tar xf w`"),
    ".prototxt": (lambda w: b'name: "AlexNet"\nlayer {\n  name: "data"\n', "is a .prototxt"),
    ".h5": (lambda w: b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
    "a web page": (lambda w: b"\n<!DOCTYPE html><html>\xd0\xa2\xd0\xb5</html>" * 20,
                   "is not a .npy, .npz, .caffemodel or .onnx file"),
    "a frozen graph": (lambda w: message((1, message((1, "x"), (2, "Placeholder"))), (1, b""), (2, b""), (4, b"")),
                       "is not a .npy, .npz"),
    "a SavedModel": (lambda w: message((1, 1), (2, b"")), "is not a .npy, .npz"),
    "a million empty layers": (lambda w: field(100, b"") * 1_000_000, "is damaged or cut short"),
    "a million empty nodes": (lambda w: message((1, 3), (7, field(1, field(4, "")) * 1_000_000)), "has more than"),
    "GoogLeNet's beginning": (lambda w: caffemodel(w, order="conv1 pool1 norm1 conv2 conv3 norm2 pool2".split()),
                              "another network than AlexNet .its layers: conv pool norm conv conv norm pool."),
    "zeros": (lambda w: bytes(1_000_000), "is not a .npy, .npz"),
    "a length beyond the file": (lambda w: message((1, "AlexNet"), (100, b"")) + b"\xa2\x06\xff\xff\xff\xff\x7f", "is damaged"),
    "a number without an end": (lambda w: message((1, "AlexNet"), (100, b"")) + b"\x08" + b"\xff" * 20, "is damaged"),
    "a shape of a thousand numbers": (lambda w: caffemodel(w, extra=[(7, field(1, b"\1" * 1000))]), "is damaged"),
    "data that does not match its shape": (lambda w: onnx(w, extra=[(4, 1.0)]), "is damaged"),
    "no data": (lambda w: onnx(w, "none"), "is damaged"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_anything_else_is_refused_by_what_it_is_quickly_and_in_little_memory(kind, small):
    make, sentence = REFUSED[kind]
    path = written(make(small))
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(BadInput, match=sentence) as refusal:
        weights.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(refusal.value).startswith(path) and "\n" not in str(refusal.value) and len(str(refusal.value)) < 300
    assert peak < 50_000_000 and time.process_time() - start < 5


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_short_is_refused(kind, small):
    whole = FILES[kind](small)
    for length in [1, 2, 3, *range(5, len(whole), len(whole) // 20), len(whole) - 1]:
        with pytest.raises(BadInput):
            weights.load(written(whole[:length]))


def test_the_commands_in_the_messages_unpack_the_file(small):
    for data, name in ((gzip.compress(caffemodel(small)), "my weights"), (archive(onnx(small), "w:gz"), "zoo's.tar.gz")):
        with pytest.raises(BadInput) as refusal:
            weights.load(written(data, name))
        subprocess.run(str(refusal.value).split("`")[1], shell=True, check=True)
    assert_same(weights.load("my weights.unpacked"), small)
    assert_same(weights.load("bvlcalexnet-12/bvlcalexnet-12.onnx"), small)


@pytest.mark.parametrize("kind", FILES)
def test_convert_writes_the_same_arrays_as_an_npz(kind, small, capsys):
    written(FILES[kind](small), "in")
    convert.main(["in", "out.npz"])
    assert capsys.readouterr().out == "out.npz\n"
    with np.load("out.npz") as arrays:
        assert len(arrays) == 16
        for layer, pair in small.items():
            assert all(np.array_equal(arrays[f"{layer}_{letter}"], array) for letter, array in zip("Wb", pair))
    assert_same(weights.load("out.npz"), small)


@pytest.mark.parametrize("source, target, sentence", [
    ("in", "there.npz", "there.npz already exists"),
    ("in", "out.npy", "must end in .npz"),
    ("in", "nowhere/out.npz", "nowhere/out.npz cannot be written"),
    ("nothing", "out.npz", "nothing does not exist"),
    ("bad", "out.npz", "bad is not a .npy"),
])
def test_convert_refuses_and_leaves_everything_as_it_was(source, target, sentence, small):
    for name, data in (("in", onnx(small)), ("there.npz", b"kept"), ("bad", b"text")):
        written(data, name)
    with pytest.raises(BadInput, match=sentence):
        convert.main([source, target])
    assert Path("there.npz").read_bytes() == b"kept" and sorted(map(str, Path().iterdir())) == ["bad", "in", "there.npz"]
