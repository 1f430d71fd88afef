"""Killed at random moments of extraction, frozen training, finetuning, export and fetching, the lab loses no finished epoch,
leaves no orphan, and every next run resumes. KILLS=40 in the environment kills more often."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parent / "shared"
sys.path[:0] = [str(HERE), str(HERE / "tests")]
os.environ["LAB_OFFLINE"] = "1"
KILLS = int(os.environ.get("KILLS", "8"))

from samples import saved  # noqa: E402
from server import Server  # noqa: E402

from lab.data import gtsrb  # noqa: E402

FETCH = """
import sys
from lab import command_line, fetch
source = fetch.Source("w.npy", {sys.argv[1]: None}, lambda path: None)
command_line.run(lambda: fetch.fetch([source], fetch.Patience()) and None)
"""
ORPHAN = re.compile(r".*\.(unfinished|lock)|saving\.json")


def epochs_done(model):
    return len(json.loads((model / "model.json").read_text())["history"]) if (model / "model.json").exists() else 0


def orphans(folder):
    return [path for path in folder.rglob("*") if ORPHAN.fullmatch(path.name)]


def test_kills_at_random_moments_lose_no_epoch_and_leave_no_orphan(tmp_path):
    photos = gtsrb.load(SHARED / "gtsrb/train.p")
    random = np.random.default_rng(0)
    for name, count in (("train.p", 1500), ("few.p", 60)):
        some = random.choice(len(photos.features), count, replace=False)
        (tmp_path / name).write_bytes(pickle.dumps({"features": photos.features[some], "labels": photos.labels[some]}))
    (tmp_path / "fetch_it.py").write_text(FETCH)
    server = Server(random.bytes(2_000_000))
    server.spread = 3.0  # seconds for all of it

    def train(options):
        return [HERE / "train_feature_extraction.py", "--weights", "builtin", *options.split()]

    tasks = {  # the command, and the model folder in which epochs count
        "extraction": (train("--data train.p --epochs 1 --model extracted --cache features --resume"), "extracted"),
        "frozen": (train("--data few.p --epochs 60 --batch-size 2 --model frozen --resume"), "frozen"),
        "finetuning": (train("--data few.p --epochs 1 --finetune --finetune-epochs 4 --finetune-batch-size 16 --model "
                             "finetuned --resume"), "finetuned"),
        "export": (train("--model whole --export exported"), "whole"),
        "fetching": (["fetch_it.py", server.address], None),
    }

    def start(command):
        return subprocess.Popen([sys.executable, *map(str, command)], cwd=tmp_path, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(HERE)})

    def run(command):
        seconds = time.time()
        process = start(command)
        _, err = process.communicate()
        assert process.returncode == 0, err
        return time.time() - seconds

    run(train("--data few.p --epochs 1 --model whole"))
    uninterrupted = {}
    for name in ("frozen", "finetuning"):
        command = tasks[name][0]
        uninterrupted[name] = run([*command[:-1], "--model", f"whole-{name}"]), saved(tmp_path / f"whole-{name}")
    lasts = {"extraction": 25, "frozen": uninterrupted["frozen"][0], "finetuning": uninterrupted["finetuning"][0], "export": 9,
             "fetching": 3.5}

    for kill in range(KILLS):
        name = list(tasks)[kill % len(tasks)]
        command, model = tasks[name]
        before = epochs_done(tmp_path / model) if model else 0
        process = start(command)
        try:
            _, err = process.communicate(timeout=random.uniform(0.1, 1) * lasts[name])
            assert process.returncode == 0 or "already exists" in err, err  # it had ended before
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            _, err = process.communicate()
        assert "Traceback" not in err
        if model:
            assert epochs_done(tmp_path / model) >= before
            print(f"kill {kill + 1}: {name}, {epochs_done(tmp_path / model)} epochs, {len(orphans(tmp_path))} files left over")

    for name, (command, _) in tasks.items():
        if not (name == "export" and (tmp_path / "exported").exists()):
            run(command)
    server.close()
    assert orphans(tmp_path) == []
    for name in ("frozen", "finetuning"):
        model = tmp_path / tasks[name][1]
        assert saved(model) == uninterrupted[name][1]
    for model in ("extracted", "frozen", "finetuned", "whole"):
        assert len(list((tmp_path / model).glob("checkpoint-*"))) == 2  # one, in two files
    assert (tmp_path / "exported/saved_model.pb").exists() and (tmp_path / "w.npy").read_bytes() == server.content
