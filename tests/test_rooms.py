"""The rooms of CONTRIBUTING.md: who may import whom, read off every import statement, also those inside functions."""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
PAGES = {"imagenet_inference", "traffic_sign_inference", "feature_extraction", "train_feature_extraction"}
GROUND_FLOOR = {"lab.cpu", "lab.files", "lab.command_line", "lab.interrupts", "lab.locks", "lab.progress", "lab.safe_pickle",
                "lab.schedulers"}
NETWORKING = {"socket", "ssl", "http", "urllib.request", "urllib3", "requests", "ftplib", "socketserver", "asyncio"}


def module_name(path):
    return ".".join(path.relative_to(HERE).with_suffix("").parts).removesuffix(".__init__")


def imported_by(source):
    """The full names of what `source` (str) imports: of `from lab import files`, lab.files."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name, *packages):
    return any(name == package or name.startswith(package + ".") for package in packages)


def broken_rules(module, imports):
    """What in `imports` (names) a `module` (name) of the lab may not import: a list of sentences."""
    def offending(*packages):
        return sorted(name for name in imports if within(name, *packages))

    rules = []
    if module in GROUND_FLOOR:
        rules.append(("the ground floor imports nothing above it",
                      [name for name in offending("lab", "alexnet", *PAGES) if not within(name, *GROUND_FLOOR)]))
    if within(module, "lab.data"):
        rules.append(("data imports neither the network, nor training, nor TensorFlow",
                      offending("lab.network", "lab.training", "tensorflow", "keras")))
    if within(module, "lab.network"):
        rules.append(("the network imports neither data nor training", offending("lab.data", "lab.training")))
    if within(module, "lab"):
        rules.append(("nothing behind the door imports the door", offending("alexnet", "caffe_classes", *PAGES)))
    if module == "alexnet":
        rules.append(("alexnet imports lab.network only",
                      [name for name in offending("lab") if not within(name, "lab.network")]))
    if module not in PAGES:
        rules.append(("only pages import fetch", offending("lab.fetch")))
    if module not in PAGES and not within(module, "lab.cluster"):
        rules.append(("only pages import the cluster", offending("lab.cluster")))
    if within(module, "lab.cluster"):
        rules.append(("the cluster imports no training", offending("lab.training")))
    if not within(module, "lab.cluster", "lab.schedulers"):
        rules.append(("the cluster alone imports Dask", offending("dask", "distributed", "cloudpickle")))
    if module != "lab.fetch":
        rules.append(("fetch alone opens a socket", offending(*NETWORKING)))
    return [f"{module}: {rule}, but it imports {', '.join(found)}" for rule, found in rules if found]


def test_each_room_imports_only_what_it_may():
    paths = [*HERE.glob("*.py"), *HERE.glob("lab/**/*.py")]
    assert len(paths) > 20 and PAGES | GROUND_FLOOR <= set(map(module_name, paths))
    broken = [sentence for path in paths for sentence in broken_rules(module_name(path), imported_by(path.read_text("utf-8")))]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("module, line", [
    ("lab.files", "from lab.data import photos"),
    ("lab.safe_pickle", "import lab.training.run"),
    ("lab.data.photos", "from lab.network.inference import run"),
    ("lab.data.gtsrb", "def f():\n    import tensorflow.compat.v1 as tf"),
    ("lab.network.new_layer", "from lab.data.gtsrb import CLASSES"),
    ("lab.training.export", "from alexnet import AlexNet"),
    ("lab.training.run", "import train_feature_extraction"),
    ("alexnet", "from lab import files"),
    ("alexnet", "from lab.training import steps"),
    ("lab.training.options", "from lab import fetch"),
    ("lab.data.photos", "from lab.fetch import fetch"),
    ("lab.data.gtsrb", "import urllib.request"),
    ("lab.training.kept_features", "from lab.cluster import workers"),
    ("lab.cluster.task", "from lab.training import checkpoints"),
    ("lab.network.inference", "from distributed import Client"),
    ("feature_extraction", "from http import client"),
])
def test_a_broken_rule_is_noticed(module, line):
    assert len(broken_rules(module, imported_by(line))) == 1
