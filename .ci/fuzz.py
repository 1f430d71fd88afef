"""One reader of the lab under atheris, a coverage-guided fuzzer: python .ci/fuzz.py READER RUNS SEED

Every input must be read or refused with BadInput. Anything else, 20 seconds for one input, or a gigabyte more memory than
at the start, ends the process with an error and leaves the input as crash-*, timeout-* or oom-* in the working directory.
"""

import contextlib
import io
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE), str(HERE / "tests")]
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
MEMORY, TIME = 1000, 20  # MB above the start's, seconds

import numpy as np  # noqa: E402
import protobuf_files  # noqa: E402
import python2  # noqa: E402
from hostile import RunsCode  # noqa: E402
from PIL import Image  # noqa: E402

with atheris.instrument_imports(include=["lab"]):
    from lab import safe_pickle
    from lab.data import gtsrb, photos
    from lab.files import BadInput
    from lab.network import weights


def read_pickle(content):
    with Path("train.p").open("rb") as file:
        safe_pickle.load(file, "train.p")
    gtsrb.load("train.p")


def read_weights(content):
    weights.load("train.p")


def read_small_weights(content):
    weights.SHAPES = SMALL
    weights.load("train.p")


def read_zip(content):
    Path("train.p").rename("train.zip")
    gtsrb.load("train.zip")


def read_csv(content):
    Path("train.p").rename("Train.csv")
    gtsrb.load(".")


def read_photo(content):
    photos.read("train.p")


def read_manifest(content):
    from lab.training import checkpoints  # TensorFlow's seconds, for this reader alone

    Path("model").mkdir(exist_ok=True)
    Path("train.p").rename("model/model.json")
    checkpoints.read("model")


def read_kept(content):
    from lab.training import kept_features

    features = np.zeros((3, 32, 32, 3), np.uint8)

    def run_batch(batch):
        return np.ones((128, 4096), np.float32)

    kept_features.fc7(run_batch, features, "cache", "0" * 64)
    for path in Path("cache").glob("kept-*"):  # half of the inputs damage one file, half the other
        if path.suffix == (".npy" if len(content) % 2 else ".digests"):
            path.write_bytes(content)
    assert (kept_features.fc7(run_batch, features, "cache", "0" * 64) == 1).all()


def photo_files():
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    for kind, options in (("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("BMP", {}), ("GIF", {}),
                          ("TIFF", {}), ("PPM", {})):
        yield save(pixels, kind, **options)
    yield save(pixels.convert("RGBA"), "PNG")
    yield save(pixels.convert("P"), "PNG", transparency=3)


def save(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def csv_files():
    yield (b"Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\r\n27,26,5,5,22,20,20,Train/20/00020_00000_00000.png\r\n")
    yield (b"Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n00000_00000.ppm;29;30;5;6;24;25;0\r\n")


def zip_files():
    photo = next(photo_files())
    for names in ({"Train.csv": next(csv_files()), "Train/20/00020_00000_00000.png": photo},
                  {"GTSRB/Final_Training/Images/00000/GT-00000.csv": list(csv_files())[1],
                   "GTSRB/Final_Training/Images/00000/00000_00000.ppm": list(photo_files())[7]},
                  {"train.p": next(pickles())}):
        for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w", compression) as archive:
                for name, content in names.items():
                    archive.writestr(name, content)
            yield file.getvalue()


def pickles():
    data = {"features": np.zeros((2, 32, 32, 3), np.uint8), "labels": np.array([1, 2])}
    for protocol in (2, 3, 4, 5):
        yield pickle.dumps(data, protocol)
    yield python2.dump({"features": data["features"], "labels": [1, 2]})
    yield pickle.dumps({"features": list(data["features"]), "labels": np.eye(43)[:2]}, 4)
    yield pickle.dumps({"features": RunsCode(), "labels": RunsCode(os.system, "touch pwned")}, 4)
    yield pickle.dumps(RunsCode(), 0)


def weight_files():
    small = {"conv1": [np.zeros((2, 2, 3, 4), np.float32), np.zeros(4, np.float32)]}
    yield python2.npy(small)
    file = io.BytesIO()
    np.save(file, np.array(small, object), allow_pickle=True)
    yield file.getvalue()
    file = io.BytesIO()
    np.savez(file, conv1_W=small["conv1"][0], conv1_b=small["conv1"][1])
    yield file.getvalue()
    file = io.BytesIO()
    np.save(file, np.array(RunsCode(), object), allow_pickle=True)
    yield file.getvalue()


SMALL = {"conv1": (1, 1, 1, 2), "conv2": (1, 1, 1, 2), "conv3": (1, 1, 2, 2), "conv4": (1, 1, 1, 2), "conv5": (1, 1, 1, 2),
         "fc6": (4, 2), "fc7": (2, 2), "fc8": (2, 3)}
SMALL_WEIGHTS = {layer: (np.ones(shape, np.float32), np.ones(shape[-1], np.float32)) for layer, shape in SMALL.items()}


def caffe_files():
    for generation in ("layer", "layers"):
        for old_shapes in (False, True):
            yield protobuf_files.caffemodel(SMALL_WEIGHTS, generation, old_shapes)
    yield protobuf_files.caffemodel(SMALL_WEIGHTS, order=protobuf_files.CAFFENET)


def onnx_files():
    for data in ("raw_data", "float_data", "float_data, one by one"):
        yield protobuf_files.onnx(SMALL_WEIGHTS, data)
    yield protobuf_files.onnx(SMALL_WEIGHTS, "none", extra=[(13, protobuf_files.field(2, "w.data")), (14, 1)])


def manifests():
    figures = {"loss": 1.5, "accuracy": 0.5}
    epoch = {"epoch": 1, "stage": "frozen", "training": figures, "validation": figures}
    yield json.dumps({
        "format": 3, "checkpoint": "checkpoint-1", "stage": "frozen", "step": 1, "running": [0.5, 1, 2],
        "epochs": {"frozen": 10, "finetuned": 0}, "history": [epoch],
        "settings": {"split": "random", "batch_size": 128, "seed": 0, "learning_rate": 0.001, "precision": "float32"},
        "data": {"name": "train.p", "sha256": "0" * 64}, "weights": {"name": "builtin", "fingerprint": "0" * 64}}).encode()


def kept_files():
    yield b"\x93NUMPY\1\0" + bytes(5000)
    yield bytes(32)
    yield bytes(33)


READERS = {"pickle": (read_pickle, pickles, 20_000), "weights": (read_weights, weight_files, 5_000),
           "caffe": (read_small_weights, caffe_files, 5_000), "onnx": (read_small_weights, onnx_files, 5_000),
           "zip": (read_zip, zip_files, 10_000), "csv": (read_csv, csv_files, 1_000),
           "photo": (read_photo, photo_files, 10_000),
           "manifest": (read_manifest, manifests, 3_000),
           "kept": (read_kept, kept_files, 60_000)}


def main():
    reader, runs, seed = sys.argv[1:]
    read, seeds, longest = READERS[reader]
    if reader in ("manifest", "kept"):
        with atheris.instrument_imports(include=["lab"]):
            import lab.training.checkpoints
            import lab.training.kept_features  # noqa: F401
    Path("corpus").mkdir()
    for i, content in enumerate(seeds()):
        Path(f"corpus/{i}").write_bytes(content)

    def test_one(content):
        for path in ("train.zip", "Train.csv"):
            Path(path).unlink(missing_ok=True)
        Path("train.p").write_bytes(content)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(BadInput):
            read(content)
        assert not Path("pwned").exists(), "the file's code was run"

    for content in seeds():
        test_one(content)
    at_start = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))) // 1024
    atheris.Setup([sys.argv[0], f"-runs={runs}", f"-seed={seed}", f"-timeout={TIME}", f"-rss_limit_mb={at_start + MEMORY}",
                   f"-max_len={longest}", "-print_final_stats=1", "corpus"], test_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
