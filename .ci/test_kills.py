"""Killed at random moments of extraction, frozen training, finetuning, export and fetching, the lab loses no finished epoch,
leaves no orphan, and every next run resumes. KILLS=40 in the environment kills more often."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parent / "shared"
sys.path[:0] = [str(HERE), str(HERE / "tests")]
os.environ["LAB_OFFLINE"] = "1"
KILLS = int(os.environ.get("KILLS", "6"))

from samples import saved  # noqa: E402
from server import Server  # noqa: E402

from lab.data import dataset  # noqa: E402
from lab.training import checkpoints  # noqa: E402

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
    photos = dataset.load(SHARED / "gtsrb/train.p")
    random = np.random.default_rng(0)
    for name, count in (("train.p", 5000), ("few.p", 60)):
        some = random.choice(len(photos.features), count, replace=False)
        (tmp_path / name).write_bytes(pickle.dumps({"features": photos.features[some], "labels": photos.labels[some]}))
    (tmp_path / "fetch_it.py").write_text(FETCH)
    server = Server(random.bytes(2_000_000))
    server.spread = 3.0  # seconds for all of it

    def train(options):
        return [HERE / "train_feature_extraction.py", "--weights", "builtin", *options.split()]

    tasks = {  # the command; the file that says that it is at work; the seconds of work in which it is killed; its model folder
        "extraction": (train("--data train.p --epochs 1 --model extracted --cache features --resume"), "features/*.lock", 6,
                       "extracted"),
        "frozen": (train("--data few.p --epochs 300 --batch-size 2 --model frozen --resume"), "frozen/training.lock", 4,
                   "frozen"),
        "finetuning": (train("--data few.p --epochs 1 --finetune --finetune-epochs 9 --finetune-batch-size 16 --model "
                             "finetuned --resume"), "finetuned/training.lock", 10, "finetuned"),
        "own": (train("--data few.p --layer pool5 --hidden 16 --keep best --decay cosine --epochs 60 --batch-size 4 "
                      "--model own --resume"), "own/training.lock", 6, "own"),
        "export": (train("--model whole --export exported"), "exported.lock", 2, "whole"),
        "fetching": (["fetch_it.py", server.address], "fetch.lock", 2, None),
    }

    def start(command):
        return subprocess.Popen([sys.executable, *map(str, command)], cwd=tmp_path, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(HERE)})

    def run(command):
        process = start(command)
        _, err = process.communicate()
        assert process.returncode == 0, err

    run(train("--data few.p --epochs 1 --model whole"))
    uninterrupted = {}
    for name in ("frozen", "finetuning", "own"):
        run([*tasks[name][0][:-1], "--model", f"whole-{name}"])
        uninterrupted[name] = saved(tmp_path / f"whole-{name}")

    for kill in range(KILLS):
        name = list(tasks)[kill % len(tasks)]
        command, at_work, seconds, model = tasks[name]
        before = epochs_done(tmp_path / model) if model else 0
        for path in tmp_path.glob(at_work):  # of a process that was killed: nobody holds it
            path.unlink()
        if name == "export":
            shutil.rmtree(tmp_path / "exported", ignore_errors=True)
        process = start(command)
        while process.poll() is None and not list(tmp_path.glob(at_work)):
            time.sleep(0.01)
        time.sleep(random.uniform(0, seconds))
        ended = process.poll()
        process.kill()
        _, err = process.communicate()
        assert ended in (None, 0) and "Traceback" not in err, err
        after = epochs_done(tmp_path / model) if model else 0
        assert after >= before
        print(f"kill {kill + 1}: {name}, {'had ended' if ended == 0 else 'killed'}, epochs {before} to {after}, "
              f"{len(orphans(tmp_path))} files left over")

    for name, (command, *_) in tasks.items():
        if name != "export" or not (tmp_path / "exported").exists():
            run(command)
    server.close()
    assert orphans(tmp_path) == []
    for name in ("frozen", "finetuning", "own"):
        assert saved(tmp_path / tasks[name][3]) == uninterrupted[name]
    for model in ("extracted", "frozen", "finetuned", "whole"):
        assert len(list((tmp_path / model).glob("checkpoint-*"))) == 2  # one, in two files
    state = checkpoints.read(tmp_path / "own")
    assert {path.stem for path in (tmp_path / "own").glob("*.index")} == {state["checkpoint"], state["best"]["checkpoint"]}
    assert (tmp_path / "exported/saved_model.pb").exists() and (tmp_path / "w.npy").read_bytes() == server.content
