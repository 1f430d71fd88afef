"""The checker finds every wrong variant, says what is meant for it, and takes every right one; `-s` prints the table."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from exercise_variants import LAYER, RIGHT, TRAIN, WRONG

HERE = Path(__file__).resolve().parents[1]
os.environ["LAB_OFFLINE"] = "1"
sys.path[:0] = [str(HERE), str(HERE / "exercises")]

import blank  # noqa: E402
import check  # noqa: E402
import checks  # noqa: E402
import watching  # noqa: E402

watching.alexnet_weights()


def written(folder, file, replacements):
    """The solutions in `folder`, one of them with the replacements."""
    for name in blank.FILES:
        source = (HERE / "exercises/solutions" / name).read_text()
        for old, new in replacements.items() if name == file else ():
            assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {name}"
            source = source.replace(old, new)
        (folder / name).write_text(source)
    return folder


def names_of(file):
    return [name for name in check.ORDER if checks.CHECKS[name][0] == file]


@pytest.mark.parametrize("name, file, replacements, found_by, fragment", WRONG, ids=[row[0] for row in WRONG])
def test_what_is_wrong_is_found_and_named(name, file, replacements, found_by, fragment, tmp_path):
    verdicts = list(check.verdicts(written(tmp_path, file, replacements), names_of(file), checks, stop=True))
    print(f"\n| {name} | {verdicts[-1][0]} | {verdicts[-1][1]} | {verdicts[-1][2]} |")
    assert verdicts[-1][:2] == (found_by, "wrong")
    assert any(part in verdicts[-1][2] for part in fragment.split("|"))
    assert all(kind == "right" for _, kind, _ in verdicts[:-1])


@pytest.mark.parametrize("name, file, replacements, remarked_by, fragment", RIGHT, ids=[row[0] for row in RIGHT])
def test_what_is_right_in_another_way_passes(name, file, replacements, remarked_by, fragment, tmp_path):
    verdicts = list(check.verdicts(written(tmp_path, file, replacements), names_of(file), checks))
    remarks = {check: sentence for check, kind, sentence in verdicts if kind == "remark"}
    print(f"\n| {name} | {', '.join(f'remark on {check}: {sentence}' for check, sentence in remarks.items()) or 'right'} |")
    assert [(check, kind, sentence) for check, kind, sentence in verdicts if kind not in ("right", "remark")] == []
    assert list(remarks) == [remarked_by] * bool(remarked_by) and fragment in remarks.get(remarked_by, "")


def test_the_solutions_pass_all_in_order_and_nothing_else_is_said():
    run = subprocess.run([sys.executable, HERE / "exercises/check.py", HERE / "exercises/solutions"], capture_output=True,
                         text=True,
                         env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"})
    assert (run.returncode, run.stderr) == (0, "")
    lines = [line.split() for line in run.stdout.splitlines() if line.startswith("  ")]
    assert [line[:2] for line in lines] == [[name, "right"] for name in check.ORDER] and "Everything is right." in run.stdout
    assert "right so far (freeze is checked below)" in run.stdout


@pytest.mark.parametrize("file", blank.FILES)
def test_a_solution_runs_as_a_script_from_any_folder(file, tmp_path):
    run = subprocess.run([sys.executable, HERE / "exercises/solutions" / file], cwd=tmp_path, capture_output=True, text=True,
                         timeout=300, env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"})
    assert run.returncode == 0 and set(run.stderr.splitlines()) <= {
        "AlexNet weights: the built-in ones (bvlc-alexnet.npy is not here)."}
    assert "\n1. " in "\n" + run.stdout and "\n2. " in run.stdout


@pytest.mark.parametrize("choice", ["tf.trainable_variables()[-2:]", "[v for v in tf.trainable_variables() if 'alexnet' not "
                                    "in v.name]"])
def test_frozen_by_var_list_passes_with_a_remark(choice, tmp_path):
    written(tmp_path, LAYER, {"return tf.stop_gradient(fc7)": "return fc7"})
    source = (tmp_path / TRAIN).read_text()
    (tmp_path / TRAIN).write_text(source.replace("minimize(loss)", f"minimize(loss, var_list={choice})"))
    verdicts = list(check.verdicts(tmp_path, check.ORDER, checks))
    assert {kind for _, kind, _ in verdicts} == {"right", "remark"}
    assert [(name, "not the graph" in sentence) for name, kind, sentence in verdicts if kind == "remark"] == [("freeze", True)]


def test_a_file_that_cannot_be_read_is_said_to_be_so_and_no_gap_is_blamed(tmp_path):
    folder = written(tmp_path, TRAIN, {"return optimizer.minimize(loss)": "return optimizer.minimize(loss"})
    run = subprocess.run([sys.executable, HERE / "exercises/check.py", folder], capture_output=True, text=True)
    *_, file, last = run.stdout.splitlines()
    assert run.returncode == 1 and file.endswith(TRAIN)
    assert last.startswith(f"  {TRAIN} cannot be read: line 38, ") and "Read:" not in run.stdout


def test_a_file_without_an_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "TIME_LIMIT", 3)
    written(tmp_path, TRAIN, {"order = np.random.permutation(len(labels))": "while True:\n        pass"})
    start = time.time()
    *_, last = check.verdicts(tmp_path, ["batches"], checks, stop=True)
    assert last[:2] == ("batches", "wrong") and "a loop without an end" in last[2] and time.time() - start < 60
