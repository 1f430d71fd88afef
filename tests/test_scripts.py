"""The lab's four scripts do what its pages show, keep what they train, and answer mistakes in one sentence."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hostile import RunsCode
from PIL import Image
from samples import mistake, write_data

import alexnet
import feature_extraction
import imagenet_inference
import traffic_sign_inference
import train_feature_extraction
from caffe_classes import class_names
from lab import command_line, files
from lab.data import gtsrb, splits
from lab.network import new_layer, preprocessing, weights
from lab.training import kept_features

SCRIPTS = [imagenet_inference, traffic_sign_inference, feature_extraction, train_feature_extraction]

IMAGE = r"Image \d+( \S+)?\n([^\n:]+: [01]\.\d{3}\n){5}\n"
EPOCH = r"Epoch \d+\nTime: \d+\.\d{3} seconds\nValidation Loss = \d+\.\d{4}\nValidation Accuracy = [01]\.\d{4}\n\n"


def named(out):
    """The class names that a script printed."""
    return re.findall(r"^(.*): [01]\.\d{3}$", out, re.MULTILINE)


def test_the_first_page_names_the_sample_photos_in_the_published_format(checkout):
    run = subprocess.run([sys.executable, checkout / "imagenet_inference.py"], capture_output=True, text=True,
                         env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"})
    assert run.returncode == 0
    assert re.fullmatch(f"({IMAGE}){{2}}" + r"Time: \d+\.\d{3} seconds\n", run.stdout)
    first = dict(line.split(": ") for line in run.stdout.splitlines() if line.startswith(("espresso", "cougar, ", "tabby, ")))
    # as the program that trained the weights measured them
    assert {name.split(",")[0]: float(value) for name, value in first.items()} == pytest.approx(
        {"espresso": 0.94, "cougar": 0.10, "tabby": 0.09}, abs=0.006)
    assert run.stderr == ("AlexNet weights: the built-in ones (bvlc-alexnet.npy is not here).\n"
                          "These weights know 202 of the 1000 classes: the others get probability 0.\n")


def test_with_weights_of_all_classes_the_first_page_says_which_preprocessing_it_used(call, monkeypatch):
    monkeypatch.setattr(weights, "known_classes", lambda weights: 1000)
    monkeypatch.setattr(weights, "fingerprint", None)  # is not needed
    for used, other in (("lab", "caffe"), ("caffe", "lab")):
        status, out, err = call(imagenet_inference, "--weights", "builtin", "--preprocess", used)
        assert status == 0 and re.fullmatch(f"Preprocessing: {used} .*; --preprocess {other}.*\n", err)


def test_the_users_photos_are_named_and_top_sets_how_many_classes(call):
    Image.fromarray(np.full((300, 400, 3), 90, np.uint8)).save("grey.png")
    status, out, _ = call(imagenet_inference, files.HERE / "images/cat.png", "grey.png", "--top", 2, "--weights", "builtin")
    lines = out.splitlines()
    assert status == 0
    assert lines[0] == f"Image 0 {files.HERE}/images/cat.png" and lines[4] == "Image 1 grey.png"
    assert lines[3] == lines[7] == "" and len(lines) == 9


def test_the_second_page_gives_signs_the_names_of_imagenets_classes(call):
    status, out, err = call(traffic_sign_inference)
    assert status == 0 and re.fullmatch(f"({IMAGE}){{2}}" + r"Time: \d+\.\d{3} seconds\n", out)
    assert set(named(out)) <= set(class_names) and len(named(out)) == 10
    assert "202 of the 1000" in err


def test_the_third_page_guesses_sign_names_and_says_that_it_is_untrained(call):
    status, out, err = call(feature_extraction)
    assert status == 0 and re.fullmatch(f"({IMAGE}){{2}}" + r"Time: \d+\.\d{3} seconds\n", out)
    assert set(named(out)) <= set(gtsrb.sign_names()) and len(named(out)) == 10
    assert "model holds no trained layer: using an untrained one" in err


@pytest.fixture
def seen_by_alexnet(monkeypatch):
    """A list of the number of images in each pass through AlexNet, kept up to date."""
    passes = []

    def counting(features, build=alexnet.AlexNet, **arguments):
        def count(batch):
            passes.append(len(batch))
            return batch

        return build(tf.ensure_shape(tf.numpy_function(count, [features], tf.float32), features.shape), **arguments)

    monkeypatch.setattr(alexnet, "AlexNet", counting)
    return passes


def test_training_sends_each_photo_through_alexnet_once_learns_and_keeps_the_layer(call, seen_by_alexnet, monkeypatch):
    monkeypatch.setattr(kept_features, "BATCH", 128)
    features, labels = write_data(100)
    status, out, err = call(train_feature_extraction, "--epochs", 4, "--batch-size", 16)
    assert status == 0 and re.match(f"({EPOCH}){{4}}Validation: 33 photos, loss", out)
    assert seen_by_alexnet == [128]  # the 100, and some of them again to fill the batch
    assert float(re.findall("Accuracy = (.*)", out)[-1]) > 0.9

    names = sorted(name for name in os.listdir("model") if "tfevents" not in name)
    assert names == ["checkpoint-4.data-00000-of-00001", "checkpoint-4.index", "confusion.png", "history.png", "metrics.json",
                     "mistakes.csv", "mistakes.png", "model.json"]
    saved = [name for name, _ in tf.train.list_variables("model/checkpoint-4")]
    assert saved == ["beta1_power", "beta2_power", *(f"head/{kind}{slot}" for kind in ("biases", "weights")
                                                      for slot in ("", "/Adam", "/Adam_1"))]  # no AlexNet

    photos = [f"{i}.png" for i in range(5)]
    for name, i in zip(photos, np.unique(labels, return_index=True)[1]):
        Image.fromarray(features[i]).save(name)
    status, out, err = call(feature_extraction, *photos)
    assert status == 0 and "untrained" not in err
    assert named(out)[::5] == [gtsrb.sign_names()[label] for label in np.unique(labels)]


@pytest.mark.slow
def test_the_next_training_sends_no_photo_through_alexnet(call, monkeypatch):
    write_data(30)
    assert call(train_feature_extraction, "--epochs", 1)[0] == 0
    computed = []
    monkeypatch.setattr(kept_features, "_compute", lambda run, features, starts, *others: computed.extend(starts) or [])
    assert call(train_feature_extraction, "--epochs", 1, "--overwrite", "--seed", 1)[0] == 0
    assert computed == []
    assert call(train_feature_extraction, "--epochs", 1, "--overwrite", "--precision", "bfloat16")[0] == 0
    assert computed == [0, 16]  # both batches of 16


def test_training_is_adam_on_the_cross_entropy_as_numpy_computes_it(call):
    features, labels = write_data(60)
    status, out, _ = call(train_feature_extraction, "--epochs", 3, "--batch-size", 16, "--seed", 7)
    losses = [float(line.split()[-1]) for line in out.splitlines() if "Loss" in line]
    accuracies = [float(line.split()[-1]) for line in out.splitlines() if "Accuracy" in line]

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3])
        fc7 = alexnet.AlexNet(tf.image.resize_images(preprocessing.subtract_mean(images), (227, 227)), feature_extract=True,
                              weights=weights.load("builtin"))
        new_layer.build(fc7, 43, seed=7)
        session.run(tf.global_variables_initializer())
        x, (W, b) = session.run([fc7, new_layer.variables()], {images: features})
    assert 0.0085 < W.std() < 0.009 and np.abs(W).max() <= 0.02  # truncated at 2 sigma, a normal deviates by 0.88 of sigma
    assert not b.any()

    parameters = [W.astype(np.float64), b.astype(np.float64)]
    m, v, step = [0, 0], [0, 0], 0
    training, validation = splits.random_split(60)

    def softmax(rows):
        logits = x[rows] @ parameters[0] + parameters[1]
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exp / exp.sum(axis=1, keepdims=True)

    for epoch in range(3):
        shuffled = np.random.RandomState([7, 0, epoch]).permutation(training)
        for rows in (shuffled[i:i + 16] for i in range(0, len(shuffled), 16)):
            slope = (softmax(rows) - np.eye(43)[labels[rows]]) / len(rows)
            step += 1
            for i, gradient in enumerate((x[rows].T @ slope, slope.sum(axis=0))):  # Kingma and Ba, algorithm 1
                m[i] = 0.9 * m[i] + 0.1 * gradient
                v[i] = 0.999 * v[i] + 0.001 * gradient ** 2
                rate = 0.001 * np.sqrt(1 - 0.999 ** step) / (1 - 0.9 ** step)
                parameters[i] = parameters[i] - rate * m[i] / (np.sqrt(v[i]) + 1e-8)
        probabilities = softmax(validation)
        assert losses[epoch] == pytest.approx(-np.log(probabilities[range(20), labels[validation]]).mean(), rel=0.01)
        assert accuracies[epoch] == np.mean(probabilities.argmax(axis=1) == labels[validation])


@pytest.mark.slow
def test_only_the_seed_changes_the_training(call):
    write_data(30)
    runs = [re.findall("Loss = (.*)", call(train_feature_extraction, "--epochs", 2, "--batch-size", 8, "--seed", seed,
                                           "--overwrite")[1]) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_a_layer_is_refused_with_other_weights_than_it_was_trained_on(call, trained, random_weights):
    np.savez("other.npz", **{f"{layer}_{kind}": array for layer, pair in random_weights.items()
                             for kind, array in zip("Wb", pair)})
    status, out, err = call(feature_extraction, "--weights", "other.npz", "--model", trained)
    assert (status, out) == (2, "") and re.search("was trained on builtin .* not on other.npz", mistake(err))


@pytest.mark.slow
def test_a_model_trained_on_edition_1_of_the_built_in_weights_is_refused_by_name(call, trained):
    shutil.copytree(trained, "model")
    write_data(30)
    edit_manifest(format=2, weights={"name": "builtin",  # what sha256sum says of the file of edition 1
                                     "sha256": "e46c7faa203953fea04fd4b920cf572fa0d3f690d6296363fe0aea9d8cf6eb6a"})
    for script, *arguments in ((feature_extraction,), (train_feature_extraction,), (train_feature_extraction, "--resume"),
                               (train_feature_extraction, "--export", "exported")):
        status, out, err = call(script, *arguments)
        assert (status, out) == (2, "") and "was trained on the built-in weights of edition 1" in mistake(err)
        assert "--overwrite" in err and not Path("exported").exists()
    assert call(train_feature_extraction, "--overwrite", "--epochs", 1)[0] == 0


def edit_manifest(**changes):
    Path("model/model.json").write_text(json.dumps(json.loads(Path("model/model.json").read_text()) | changes))


@pytest.mark.parametrize("damage, sentence", [
    (lambda: Path("model/model.json").write_text("{"), "model.json is damaged"),
    (lambda: Path("model/model.json").write_text("[]"), "model.json is damaged"),
    (lambda: edit_manifest(checkpoint="../x"), "damaged"),
    (lambda: edit_manifest(weights={"name": 1, "fingerprint": 5}), "damaged"),
    (lambda: edit_manifest(weights={"name": "builtin", "sha256": 64 * "0"}), "damaged"),  # that is format 2
    (lambda: edit_manifest(stage="melted"), "damaged"),
    (lambda: edit_manifest(history=[{"stage": "frozen"}]), "damaged"),
    (lambda: edit_manifest(running=[1, 2]), "damaged"),
    (lambda: edit_manifest(running=[10 ** 400, 0, 0]), "damaged"),
    (lambda: edit_manifest(step=50), "damaged"),
    (lambda: edit_manifest(history={}), "damaged"),
    (lambda: Path("model/model.json").write_text("[" * 200_000), "model.json is damaged"),
    (lambda: os.remove("model/checkpoint-2.index"), "missing or damaged"),
    (lambda: os.truncate("model/checkpoint-2.data-00000-of-00001", 1000), "missing or damaged"),
    (lambda: os.truncate("model/checkpoint-2.index", 50), "missing or damaged"),
])
def test_a_damaged_model_is_one_sentence(call, trained, damage, sentence):
    shutil.copytree(trained, "model")
    damage()
    status, out, err = call(feature_extraction)
    assert (status, out) == (2, "") and sentence in mistake(err)


@pytest.mark.parametrize("script", [imagenet_inference, traffic_sign_inference, feature_extraction])
def test_in_bfloat16_the_most_probable_name_and_nearly_its_probability_are_the_same(call, trained, script):
    shutil.copytree(trained, "model")  # the probabilities of an untrained layer are too much alike to differ in three digits
    answers = []
    for precision in ("float32", "bfloat16"):
        status, out, _ = call(script, "--weights", "builtin", "--precision", precision)
        assert status == 0
        answers.append(dict(line.rsplit(": ", 1) for line in out.splitlines() if re.search(r": [01]\.\d{3}$", line)))
    exact, coarse = answers
    assert all(float(coarse.get(name, -1)) == pytest.approx(float(p), abs=0.02) for name, p in exact.items() if float(p) > 0.1)
    assert exact != coarse


@pytest.mark.slow
def test_training_again_replaces_a_damaged_model(call, trained):
    shutil.copytree(trained, "model")
    Path("model/model.json").write_text("{")
    write_data(10)
    assert "model.json is damaged" in mistake(call(train_feature_extraction, "--epochs", 1)[2])
    assert call(train_feature_extraction, "--epochs", 1, "--overwrite")[0] == 0
    assert call(feature_extraction)[0] == 0


def attack(path):
    if path.endswith(".npy"):
        np.save(path, np.array(RunsCode(), object), allow_pickle=True)
    else:
        Path(path).write_bytes(pickle.dumps({"features": RunsCode(), "labels": RunsCode()}))
    return path


def touch(path):
    Path(path).touch()
    return path


@pytest.mark.parametrize("script, arguments, sentence", [
    (imagenet_inference, lambda: ["nowhere.png"], "nowhere.png does not exist"),
    (imagenet_inference, lambda: ["--top", "0"], "'0' is not a whole number from 1 to 1000"),
    (imagenet_inference, lambda: ["--top", "few"], "'few' is not a whole number"),
    (imagenet_inference, lambda: ["--topp", "5"], "unrecognized arguments"),
    (imagenet_inference, lambda: ["--weights", "nowhere.npy"], "nowhere.npy does not exist"),
    (imagenet_inference, lambda: ["--weights", attack("w.npy")], "w.npy asks to call builtins.exec"),
    (imagenet_inference, lambda: [touch("bvlc-alexnet.npy")] and [], "bvlc-alexnet.npy is empty"),
    (imagenet_inference, lambda: ["--preprocess", "caffe"], "these weights were trained with the lab's"),
    (imagenet_inference, lambda: ["--preprocess", "caffe", "--weights", "builtin"], "these weights were trained"),
    (imagenet_inference, lambda: ["--preprocess", "keras"], "invalid choice: 'keras'"),
    (traffic_sign_inference, lambda: [touch("sign.png")], "sign.png is empty"),
    (traffic_sign_inference, lambda: ["--weights", "."], ". is a folder"),
    (feature_extraction, lambda: [attack("photo.png")], "photo.png is not a photo"),
    (feature_extraction, lambda: ["--model", touch("model")], "model is a file"),
    (train_feature_extraction, lambda: ["--data", attack("train.p")], "train.p asks to call builtins.exec"),
    (train_feature_extraction, lambda: ["--data", "nowhere.p"], "nowhere.p does not exist"),
    (train_feature_extraction, lambda: ["--epochs", "0"], "'0' is not a whole number of 1 or more"),
    (train_feature_extraction, lambda: ["--batch-size", "-1"], "'-1' is not a whole number"),
    (train_feature_extraction, lambda: ["--learning-rate", "0"], "'0' is not a number above 0 and up to 1"),
    (train_feature_extraction, lambda: ["--pretrained-learning-rate", "nan"], "'nan' is not a number above 0"),
    (train_feature_extraction, lambda: ["--resume", "--overwrite"], "choose one of them"),
    (train_feature_extraction, lambda: ["--cache", "x", "--no-cache"], "choose one of them"),
    (train_feature_extraction, lambda: ["--export", touch("file")], "file already exists"),
    (train_feature_extraction, lambda: write_data(5) and ["--cache", touch("file")], "file is a file"),
    (train_feature_extraction, lambda: write_data(5) and ["--split", "track"], "no tracks found"),
    (train_feature_extraction, lambda: ["--seed", "1.5"], "'1.5' is not a whole number"),
    (train_feature_extraction, lambda: write_data(5) and ["--model", touch("file") + "/model"], "file/model cannot be written"),
    (train_feature_extraction, lambda: write_data(5) and ["--model", touch("file")], "file is a file"),
    (train_feature_extraction, lambda: write_data(5) and ["--model", "model [1]"], "name another folder"),
    (train_feature_extraction, lambda: write_data(5) and ["--model", "m\udcff"], "name another folder"),
    (train_feature_extraction, lambda: write_data(1) and [], "train.p holds one photo"),
])
def test_a_mistake_is_one_sentence_and_exit_status_2(call, script, arguments, sentence):
    status, out, err = call(script, *arguments())
    assert (status, out) == (2, "") and sentence in mistake(err)
    assert not Path("pwned").exists()


def python(code):
    """Run `code`, which can import the lab, in a Python process, and return the finished process."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(files.HERE)})


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_imports_need_no_tensorflow_and_write_no_files(script):
    name = script.__name__
    code = (f"import sys, {name}\ntry: {name}.main(['--help'])\n"
            "finally: print(sorted({'tensorflow', 'numpy'} & set(sys.modules)))")
    run = python(code)
    assert run.returncode == 0 and run.stdout.startswith("usage:") and run.stdout.endswith("[]\n") and not run.stderr
    assert "--weights auto|builtin|PATH" in run.stdout
    assert os.listdir() == []


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def press_ctrl_c_below_compiled_code():
    try:
        press_ctrl_c()
    except KeyboardInterrupt as error:
        raise SystemError("returned a result with an exception set") from error


@pytest.mark.parametrize("main", [press_ctrl_c, press_ctrl_c_below_compiled_code])
def test_ctrl_c_is_exit_status_130(main, capsys):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert command_line.exit_status(main) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr().err == "Interrupted.\n"


def test_ctrl_c_where_nothing_can_be_raised_ends_the_process():
    code = """
import signal, time
from lab import command_line
signal.signal(signal.SIGINT, signal.default_int_handler)
class Closing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def main():
    Closing()
    time.sleep(60)
command_line.run(main)
"""
    run = python(code)
    assert (run.returncode, run.stderr) == (130, "Interrupted.\n")


@pytest.mark.slow
@pytest.mark.parametrize("redirection, status", [
    (">&- 2>&-", 0), (">/dev/full", 2), ("--help >&-", 0), ("nowhere.png 2>/dev/full", 2), ("nowhere.png 2>&-", 2),
])
def test_a_script_survives_closed_and_full_streams(redirection, status, checkout):
    command = f"'{sys.executable}' '{checkout}/feature_extraction.py' {redirection}"
    run = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert run.returncode == status and "Traceback" not in run.stderr
    assert ("the results cannot be printed" in run.stderr) == (redirection == ">/dev/full")


@pytest.mark.slow
def test_a_training_is_saved_even_if_nothing_reads_its_output(checkout):
    write_data(10)
    run = subprocess.run(f"'{sys.executable}' '{checkout}/train_feature_extraction.py' --epochs 3 | head -1", shell=True,
                         capture_output=True, text=True)
    assert run.stdout == "Epoch 1\n" and "Traceback" not in run.stderr
    assert len(json.loads(Path("model/model.json").read_text())["history"]) == 3


def test_there_are_1000_class_names_in_wordnets_order():
    assert len(class_names) == 1000
    assert (class_names[0], class_names[999]) == ("tench, Tinca tinca", "toilet tissue, toilet paper, bathroom tissue")
    assert class_names.count("crane") == 2 and len(set(class_names)) == 999
    # Classes that the lab's first page prints for its two photos, by Caffe's indices
    assert {class_names[i] for i in (266, 265, 181, 267)} == {
        "miniature poodle", "toy poodle", "Bedlington terrier", "standard poodle"}
