"""The exercises: made from their solutions, and checked by a program that knows what went wrong. .ci has the long table."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
EXERCISES = HERE / "exercises"
sys.path.append(str(EXERCISES))

import blank  # noqa: E402

MISTAKES = [  # file, what stands there, what a student writes, what they are told
    ("traffic_sign_inference.py", "resize_images(signs, size)", "resize_images(signs, size, align_corners=True)",
     "resize: it aligns the corners"),
    ("feature_extraction.py", "return tf.stop_gradient(fc7)", "tf.stop_gradient(fc7)\n    return fc7",
     "freeze: AlexNet is not frozen: tf.stop_gradient gives back a new tensor, and here its result is not used"),
    ("train_feature_extraction.py", "sums / len(labels)", "sums",
     "evaluate: the sum is not divided"),
]


def checker(*arguments, folder=EXERCISES):
    """Exit status, stdout and stderr of the check.py in `folder`, with a TensorFlow that is as noisy as it is."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    run = subprocess.run([sys.executable, folder / "check.py", *map(str, arguments)], env=environment, capture_output=True,
                         text=True)
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize("file", blank.FILES)
def test_an_exercise_is_its_solution_with_the_gaps_open(file):
    solution = (EXERCISES / "solutions" / file).read_text()
    assert (EXERCISES / file).read_text() == blank.blanked(solution, file), "run `make exercises`"
    assert sum(bool(line.strip()) for line in solution.splitlines()) in range(30, 81)


@pytest.mark.slow
def test_students_are_told_their_first_mistake_and_get_a_point_for_each_check_that_passes():
    shutil.copytree(EXERCISES / "solutions", "anna", ignore=shutil.ignore_patterns("__pycache__"))
    for file, right, wrong, _ in MISTAKES:
        path = Path("anna", file)
        source = path.read_text()
        assert source.count(right) == 1
        path.write_text(source.replace(right, wrong))
    status, out, err = checker("--csv", "anna")
    assert (status, err) == (0, "")
    line, = csv.DictReader(io.StringIO(out))
    points = {name: value for name, value in line.items() if name not in ("folder", "points", "first mistake")}
    assert {name for name in points if points[name] == "0"} == {told.partition(":")[0] for *_, told in MISTAKES}
    assert set(points.values()) == {"0", "1"} and int(line["points"]) == len(points) - len(MISTAKES)
    assert line["folder"] == "anna" and line["first mistake"].startswith(MISTAKES[0][-1])


@pytest.mark.slow
def test_practise_is_made_once_checked_to_the_first_gap_and_reset_without_a_loss():
    for name in ("alexnet.py", "caffe_classes.py", "lab", "exercises"):
        Path(name).symlink_to(HERE / name)
    Path("exercises").unlink()
    shutil.copytree(EXERCISES, "exercises", ignore=shutil.ignore_patterns("__pycache__"))
    here = Path("exercises")

    status, out, err = checker("--hint", folder=here)
    assert status == 1 and err == "The exercises are in practise/: fill in their gaps there, and run this again.\n"
    first, gap, read, hint = out.splitlines()  # and no more: it stops at the first gap that is not right
    assert first == "practise/traffic_sign_inference.py" and gap.startswith("  resize     open: ")
    assert read.strip().startswith("Read: the docstring of resize") and hint.strip().startswith("Hint: tf.image.resize_images")

    mine = Path("practise/train_feature_extraction.py")
    mine.write_text(mine.read_text().replace("# TODO: about 3 lines.", "# mine"))
    status, _, err = checker("--reset", "split", folder=here)
    kept, = Path().glob("practise-????????-??????")
    assert status == 0 and kept.name in err and "# mine" in (kept / mine.name).read_text()
    assert mine.read_text() == (here / mine.name).read_text()


def test_the_sections_of_the_readme_that_students_are_sent_to_exist():
    named = set(re.findall(r"README, (\d\. [^;\"]+)", (EXERCISES / "checks.py").read_text()))
    headings = {line.lstrip("# ") for line in (HERE / "README.md").read_text().splitlines() if line.startswith("#")}
    assert len(named) == 3 and named <= headings


def test_a_mistake_on_the_command_line_is_answered_in_one_sentence():
    for arguments, sentence in [(["nowhere"], "nowhere is no folder"), (["--only", "all"], "invalid choice: 'all'"),
                                (["--reset", "training"], "training is a whole script")]:
        status, out, err = checker(*arguments)
        assert (status, out, err.count("\n")) == (2, "", 1) and sentence in err
