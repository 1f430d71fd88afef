"""What every test needs: the lab's modules on the path, a quiet TensorFlow, and an empty working directory."""

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["LAB_OFFLINE"] = "1"  # the tests of fetching use a local server
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from samples import write_data  # noqa: E402

import train_feature_extraction  # noqa: E402
from lab import command_line, files, interrupts  # noqa: E402
from lab.network import weights  # noqa: E402
from lab.training import kept_features, plots  # noqa: E402

files.PLACES = (Path(),)  # the tests see no weights and no photos that the user has put beside the code


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the lab, without the user's files, to start scripts from."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("lab", "builtin_weights", "images"):
        shutil.copytree(files.HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*files.HERE.glob("*.py"), files.HERE / "signnames.csv"]:
        shutil.copy(path, folder)
    return folder


@contextlib.contextmanager
def signals_restored():
    """An interrupted script ignores all further signals: undo that afterwards."""
    handlers = {number: signal.getsignal(number) for number in interrupts.NUMBERS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def signals():
    with signals_restored():
        yield


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Run each test in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def random_weights():
    """Random full-size weights with He's standard deviation, and nonzero biases."""
    rng = np.random.default_rng(0)
    return {layer: (rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:-1]))),
                    rng.standard_normal(shape[-1], np.float32))
            for layer, shape in weights.SHAPES.items()}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A model folder after two epochs of training."""
    folder = tmp_path_factory.mktemp("trained")
    write_data(30, folder / "train.p")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # not in the user's folder, where there may be weights
        train_feature_extraction.main(["--epochs", "2"])
    return folder / "model"


@pytest.fixture(scope="session")
def builtin_weights():
    arrays = weights.load("builtin")
    for pair in arrays.values():
        for array in pair:
            array.flags.writeable = False
    return arrays


@pytest.fixture
def call(capsys, monkeypatch, builtin_weights):
    """Call a script as from its command line. Returns exit status, stdout and stderr.

    To save time, training draws only empty pictures, the built-in weights are read once, and photos go through AlexNet in
    batches of 16, since most tests have few of them.
    """
    monkeypatch.setattr(kept_features, "BATCH", 16)
    for picture in ("history", "confusion", "mistakes"):
        monkeypatch.setattr(plots, picture, lambda path, *data: Path(path).touch())
    load = weights.load
    monkeypatch.setattr(weights, "load", lambda source="auto": builtin_weights if source == weights.BUILTIN else load(source))

    def call(script, *arguments):
        with signals_restored():
            status = command_line.exit_status(lambda: script.main(list(map(str, arguments))))
        output = capsys.readouterr()
        return status, output.out, output.err

    return call
