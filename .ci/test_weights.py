"""Full-size files of AlexNet in each format that the lab reads, of random weights: ONNX Runtime's answers are the lab's, the
arrays are the same bit for bit, and a damaged file takes neither long nor much memory to refuse. Needs onnx and onnxruntime."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parent / "shared"
sys.path[:0] = [str(HERE), str(HERE / "tests"), str(HERE / "benchmarks"), str(SHARED / "tools")]
os.environ["LAB_OFFLINE"] = "1"

import protobuf_files  # noqa: E402
from bench import whole_process  # noqa: E402
from samples import write_data  # noqa: E402

import feature_extraction  # noqa: E402
import imagenet_inference  # noqa: E402
import train_feature_extraction  # noqa: E402
from lab.files import BadInput  # noqa: E402
from lab.network import convert, inference, weights  # noqa: E402

FILES = ["w.onnx", "w.caffemodel", "layers.caffemodel", "w.npy", "w.npz"]


def zoo(layers, pixels):
    """The zoo's model of `layers`, made by the onnx package, for BGR features [N, 3, 227, 227]; fc8 scaled for `pixels`.

    The random network is as good as certain of one class. fc8 is divided by what makes its top probabilities moderate.
    """
    arrays, nodes, initializers = protobuf_files.outputs_first(layers), [], []

    def node(operation, name, *inputs, **attributes):
        nodes.append(helper.make_node(operation, [nodes[-1].output[0] if nodes else "data_0", *inputs], [name], **attributes))

    def names(layer):
        for letter, array in zip("wb", arrays[layer]):
            initializers.append(numpy_helper.from_array(array, f"{layer}_{letter}_0"))
        return f"{layer}_w_0", f"{layer}_b_0"

    def model(output):
        graph = helper.make_graph(nodes, "bvlc_alexnet",
                                  [helper.make_tensor_value_info("data_0", 1, ["N", 3, 227, 227])],
                                  [helper.make_tensor_value_info(output, 1, ["N", 1000])], initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7).SerializeToString()

    for layer, stride, pad, group in (("conv1", 4, 0, 1), ("conv2", 1, 2, 2), ("conv3", 1, 1, 1), ("conv4", 1, 1, 2),
                                      ("conv5", 1, 1, 2)):
        size = list(arrays[layer][0].shape[2:])
        node("Conv", f"{layer}_1", *names(layer), kernel_shape=size, strides=[stride] * 2, pads=[pad] * 4, group=group)
        node("Relu", f"{layer}_2")
        if layer in ("conv1", "conv2"):
            node("LRN", f"norm{layer[-1]}_1", size=5, alpha=1e-4, beta=0.75, bias=1.0)
        if layer in ("conv1", "conv2", "conv5"):
            node("MaxPool", f"pool{layer[-1]}_1", kernel_shape=[3, 3], strides=[2, 2], pads=[0] * 4)
    initializers.append(numpy_helper.from_array(np.int64([-1, 9216]), "shape_0"))
    node("Reshape", "flat_1", "shape_0")
    for layer in ("fc6", "fc7"):
        node("Gemm", f"{layer}_1", *names(layer), transB=1)
        node("Relu", f"{layer}_2")
    node("Gemm", "fc8_1", *names("fc8"), transB=1)
    logits = answers(model("fc8_1"), pixels)
    scales = np.linspace(1, 0, 1000, endpoint=False)[:, None, None]
    odds = np.exp(scales * (logits - logits.max(axis=1, keepdims=True)))
    tops = (odds.max(axis=2) / odds.sum(axis=2))
    scale = np.float32(scales[np.abs(tops - 0.4).max(axis=1).argmin(), 0, 0])
    layers["fc8"] = tuple(array * scale for array in layers["fc8"])
    arrays["fc8"] = protobuf_files.outputs_first(layers)["fc8"]
    del initializers[-2:]
    names("fc8")
    node("Softmax", "prob_1", axis=1)
    return model("prob_1")


def answers(model, pixels):
    """What ONNX Runtime answers to RGB `pixels` [N, 227, 227, 3], 0 to 255."""
    features = pixels[..., ::-1].astype(np.float32) - np.float32([104, 117, 123])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"data_0": np.ascontiguousarray(features.transpose(0, 3, 1, 2))})[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with FILES, two photos of 256x256, and expected.npz: the arrays of the files, and ONNX Runtime's answers."""
    from write_python2_npy import save

    folder = tmp_path_factory.mktemp("full-size")
    pixels = []
    for name in ("cat", "coffee"):
        photo = Image.open(next((HERE / "images").glob(f"{name}*"))).convert("RGB").resize((256, 256))
        photo.save(folder / f"{name}.png")
        pixels.append(np.asarray(photo)[14:241, 14:241])
    rng = np.random.default_rng(0)
    layers = {layer: (rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:-1]))),
                      rng.standard_normal(shape[-1], np.float32)) for layer, shape in weights.SHAPES.items()}
    model = zoo(layers, np.stack(pixels))
    onnx.checker.check_model(model)
    (folder / "w.onnx").write_bytes(model)
    (folder / "w.caffemodel").write_bytes(protobuf_files.caffemodel(layers))
    (folder / "layers.caffemodel").write_bytes(protobuf_files.caffemodel(layers, "layers", old_shapes=True))
    save(folder / "w.npy", layers)
    flat = {f"{layer}_{letter}": array for layer, pair in layers.items() for letter, array in zip("Wb", pair)}
    np.savez(folder / "w.npz", **flat)
    np.savez(folder / "expected.npz", answers=answers(model, np.stack(pixels)), **flat)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_each_format_holds_the_same_arrays_bit_for_bit(name, folder):
    loaded = weights.load(folder / name)
    with np.load(folder / "expected.npz") as expected:
        for layer, pair in loaded.items():
            assert all(np.array_equal(array, expected[f"{layer}_{letter}"]) for letter, array in zip("Wb", pair))
        assert weights.fingerprint(loaded) == weights.fingerprint(
            {layer: [expected[f"{layer}_{letter}"] for letter in "Wb"] for layer in weights.SHAPES})


def test_a_layer_trained_with_one_file_is_accepted_with_each_other(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_data(30)
    train_feature_extraction.main(["--weights", str(folder / "w.npy"), "--epochs", "1"])
    capsys.readouterr()
    answers = set()
    for name in FILES:
        feature_extraction.main(["--weights", str(folder / name)])
        output = capsys.readouterr()
        answers.add(output.out.partition("Time")[0])
        assert output.err == ""
    assert len(answers) == 1
    train_feature_extraction.main(["--weights", str(folder / "w.onnx"), "--epochs", "2", "--resume"])
    with pytest.raises(BadInput, match="was trained on w.npy .fingerprint .* not on builtin"):
        feature_extraction.main(["--weights", "builtin"])


@pytest.mark.parametrize("name", ["w.onnx", "layers.caffemodel", "w.npy"])
def test_the_probabilities_are_onnx_runtimes(name, folder, monkeypatch):
    shown = []
    monkeypatch.setattr(inference, "print_top", lambda probabilities, *_: shown.append(probabilities))
    imagenet_inference.main(["--weights", str(folder / name), "--preprocess", "caffe",
                             str(folder / "cat.png"), str(folder / "coffee.png")])
    expected = np.load(folder / "expected.npz")["answers"]
    difference = np.abs(shown[0] - expected).max()
    print(f"\ntop probabilities {expected.max(axis=1)}, largest difference {difference:.1e}")
    assert (0.1 < expected.max(axis=1)).all() and (expected.max(axis=1) < 0.9).all()
    assert difference < 1e-5


def test_convert_writes_the_arrays_of_a_full_size_file(folder, tmp_path):
    convert.main([str(folder / "w.caffemodel"), str(tmp_path / "out.npz")])
    with np.load(folder / "expected.npz") as expected, np.load(tmp_path / "out.npz") as written:
        assert len(written.files) == 16 and all(np.array_equal(written[name], expected[name]) for name in written.files)


@pytest.mark.parametrize("name", ["w.onnx", "w.caffemodel", "w.npz"])  # .ci/test_long.py has the .npy
def test_inference_takes_at_most_750_mb_more_than_tensorflow_whatever_the_format(name, folder):
    _, alone = whole_process(["-c", "import tensorflow"])
    seconds, whole = whole_process([str(HERE / "imagenet_inference.py"), "--weights", str(folder / name)])
    print(f"\n{name}: {seconds:.1f} s, peak memory {whole:.0f} MB, import tensorflow alone {alone:.0f} MB")
    assert whole - alone < 750


MUTATE = """
import json, os, random, sys, time
from lab.files import BadInput
from lab.network import weights
def peak():  # MB
    return next(int(line.split()[1]) / 1000 for line in open("/proc/self/status") if line.startswith("VmHWM"))

name, positions = sys.argv[1], json.loads(sys.argv[2])
size, chance, longest = os.path.getsize(name), random.Random(0), 0
start = peak()
for i in range(20):
    with open(name, "r+b") as file:
        if i % 5 == 4:
            damaged = [chance.randrange(size)]
            file.truncate(damaged[0])
        else:
            damaged = [min(max(chance.choice(positions) - chance.randint(1, 40), 0), size - 1)
                       for _ in range(chance.randint(1, 4))]
            for position in damaged:
                file.seek(position)
                file.write(bytes([chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])]))
    begin = time.time()
    try:
        weights.load(name)
        print("read")
    except BadInput as error:
        print(error)
    longest = max(longest, time.time() - begin)
    with open(name, "r+b") as file, open(name + ".whole", "rb") as whole:
        for position in damaged:
            for copy in (file, whole):
                copy.seek(position)
            file.write(whole.read(-1 if i % 5 == 4 else 1))
print("at most", longest, "seconds,", peak() - start, "MB")
"""


@pytest.mark.parametrize("name", ["w.onnx", "w.caffemodel", "layers.caffemodel", "w.npy", "w.npz"])
def test_twenty_damaged_files_of_full_size_are_read_or_refused_in_bounded_memory_and_time(name, folder, tmp_path):
    content = (folder / name).read_bytes()
    with np.load(folder / "expected.npz") as expected:
        layers = {layer: [expected[f"{layer}_{letter}"] for letter in "Wb"] for layer in weights.SHAPES}
    starts = [content.find(array.tobytes()[:32]) for arrays in (layers, protobuf_files.outputs_first(layers))
              for pair in arrays.values() for array in pair]
    positions = [0, 1000, 2000, len(content), *(start for start in starts if start >= 0)]
    (tmp_path / name).write_bytes(content)
    (tmp_path / f"{name}.whole").write_bytes(content)
    run = subprocess.run([sys.executable, "-c", MUTATE, name, json.dumps(positions)], cwd=tmp_path, capture_output=True,
                         text=True, env=os.environ | {"PYTHONPATH": str(HERE)})
    print("\n" + run.stdout)
    assert run.returncode == 0, run.stderr
    seconds, memory = map(float, re.search("at most (.*) seconds, (.*) MB", run.stdout).groups())
    assert len(run.stdout.splitlines()) == 21 and "read" not in run.stdout.splitlines()[4]
    assert seconds < 20 and memory < 1000 + len(content) / 1e6
