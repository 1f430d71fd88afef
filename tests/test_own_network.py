"""Where AlexNet is cut, what goes on top, and how it learns are the user's choice, and everything follows that choice."""

import csv
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image
from samples import mistake, saved, served, write_data
from test_training import press_ctrl_c_in_step

import feature_extraction
import train_feature_extraction
from alexnet import AlexNet
from lab.data import photo_files, splits
from lab.network import new_layer, weights
from lab.training import checkpoints, results, steps

FAST = "--batch-size", 16, "--epochs", 2


def train(call, *arguments):
    status, out, err = call(train_feature_extraction, *arguments)
    assert status == 0, err
    return out, err


@pytest.mark.parametrize("cut, tensor, width", [("pool5", "flat5", 9216), ("fc6", "fc6", 4096), ("fc7", "fc7", 4096)])
def test_the_network_ends_at_the_cut_with_that_layers_output(random_weights, cut, tensor, width):
    images = np.random.default_rng(0).uniform(-120, 120, (2, 227, 227, 3)).astype(np.float32)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        features = tf.constant(images)
        output = AlexNet(features, feature_extract=cut, weights=random_weights)
        layers = {name.split("/")[1] for name in (v.op.name for v in tf.trainable_variables())}
        assert output.shape.as_list() == [2, width] and ("fc6" in layers, "fc7" in layers) == (cut != "pool5", cut == "fc7")
        AlexNet(features, weights=random_weights, name="whole")
        session.run(tf.global_variables_initializer())
        answer, whole = session.run([output, graph.get_tensor_by_name(f"whole/{tensor}:0")])
    assert np.array_equal(answer, whole)


def test_another_cut_is_refused(random_weights):
    with tf.Graph().as_default(), pytest.raises(ValueError, match="pool5, fc6 or fc7, not 'pool4'"):
        AlexNet(tf.zeros([1, 227, 227, 3]), feature_extract="pool4", weights=random_weights)


def test_pool5_is_rounded_to_half_precision_in_every_graph_and_its_gradient_is_not():
    rng = np.random.default_rng(0)
    values = (rng.uniform(0, 1, (1, 10_000)) * 10.0 ** rng.uniform(-9, 4.8, (1, 10_000))).astype(np.float32)
    values[0, :4] = 1 / 3, 65504, 1e-7, 0
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.constant(values)
        rounded = new_layer.as_kept(features, "pool5")
        gradient, = tf.gradients(rounded * 1e-9, features)
        got, got_gradient = session.run([rounded, gradient])
        assert new_layer.as_kept(features, "fc6") is features
    assert np.array_equal(got, values.astype(np.float16).astype(np.float32)) and got.dtype == np.float32
    assert np.array_equal(got_gradient, np.full(values.shape, 1e-9, np.float32))


def test_a_hidden_layer_is_relu_of_a_product_drawn_as_he_et_al_say():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((5, 4096)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = new_layer.build(tf.constant(features), 7, seed=3, hidden=[512, 20])
        session.run(tf.global_variables_initializer())
        values = {v.op.name: value for v, value in zip(new_layer.variables(), session.run(new_layer.variables()))}
        answer = session.run(logits)
    hidden = features
    for name in ("head/hidden1", "head/hidden2"):
        hidden = np.maximum(hidden @ values[f"{name}/weights"] + values[f"{name}/biases"], 0)
    np.testing.assert_allclose(answer, hidden @ values["head/weights"] + values["head/biases"], rtol=1e-4, atol=1e-5)
    first = values["head/hidden1/weights"]
    # A normal distribution cut off at two standard deviations has 0.88 of its standard deviation.
    assert first.shape == (4096, 512) and first.std() == pytest.approx(0.8796 * np.sqrt(2 / 4096), rel=0.01)
    assert values["head/weights"].shape == (20, 7) and abs(values["head/weights"]).max() < 0.02


@pytest.mark.parametrize("arguments", [
    ["--layer", "pool5", "--hidden", "32", "--decay", "cosine", "--class-weights", "balanced", "--keep", "best"],
    pytest.param(["--layer", "pool5"], marks=pytest.mark.slow),
    pytest.param(["--layer", "fc6", "--hidden", "32,16"], marks=pytest.mark.slow)])
def test_a_resumed_training_is_bit_identical_with_any_cut_and_head(call, monkeypatch, arguments):
    write_data(60)
    train(call, *FAST, *arguments, "--model", "whole")
    with monkeypatch.context() as patch:
        press_ctrl_c_in_step(2, patch)
        assert call(train_feature_extraction, *FAST, *arguments)[0] == 130
    train(call, *FAST, "--resume")  # the cut, the head and so on are the model's
    assert saved("model") == saved("whole")


@pytest.mark.slow
def test_what_was_trained_on_kept_features_answers_photos_and_is_exported_alike(call):
    features, _ = write_data(30)
    train(call, "--layer", "pool5", "--hidden", 16, "--epochs", 3, "--export", "exported")
    kept, = Path("cache").glob("kept-pool5-*.npy")
    assert np.load(kept).shape == (30, 9216) and np.load(kept).dtype == np.float16
    for i in range(3):
        Image.fromarray(features[i]).save(f"{i}.png")
    _, out, _ = call(feature_extraction, *(f"{i}.png" for i in range(3)))
    answers = served("exported", features[:3])
    for block, probabilities, name in zip(out.split("\n\n"), answers["probabilities"], answers["names"]):
        first = block.splitlines()[1]
        assert first == f"{name.decode()}: {probabilities.max():.3f}"


@pytest.mark.slow
def test_a_model_folder_of_the_version_before_answers_and_resumes(call):
    """It has no cut, no head and no names in model.json, the digest of the weights' file, and other names in its checkpoint."""
    write_data(30)
    train(call, "--epochs", 2, "--model", "whole")
    train(call, "--epochs", 1)
    state = json.loads(Path("model/model.json").read_text())
    new = {"layer", "hidden", "dropout", "size", "decay", "class_weights", "keep", "patience", "finetune_from"}
    state["settings"] = {name: value for name, value in state["settings"].items() if name not in new}
    state |= {"format": 2, "weights": {"name": "builtin", "sha256": hashlib.sha256(weights.BUILTIN.read_bytes()).hexdigest()}}
    del state["class_names"], state["best"]
    Path("model/model.json").write_text(json.dumps(state))
    arrays, _ = saved()
    with tf.Graph().as_default(), tf.Session() as session:
        reader = tf.train.load_checkpoint("model/checkpoint-1")
        old = {name.replace("head/", "signs/"): tf.Variable(reader.get_tensor(name)) for name in arrays}
        session.run(tf.global_variables_initializer())
        tf.train.Saver(old).save(session, "model/checkpoint-1", write_meta_graph=False, write_state=False)

    status, out, err = call(feature_extraction)
    assert status == 0 and "untrained" not in err and "Stop: 0." in out
    train(call, "--epochs", 2, "--resume")
    assert saved("model") == saved("whole")


@pytest.mark.slow
def test_the_best_epoch_answers_and_the_last_one_is_resumed(call):
    features, _ = write_data(60)
    losses = lambda: [epoch["validation"]["loss"] for epoch in checkpoints.read("model")["history"]]  # noqa: E731
    arguments = "--batch-size", 4, "--learning-rate", 0.3, "--keep", "best"
    _, err = train(call, *arguments, "--epochs", 4)
    best = checkpoints.read("model")["best"]
    assert best["epoch"] == 1 + int(np.argmin(losses())) < 4 and f"Epoch {best['epoch']} had the lowest" in err
    assert len(list(Path("model").glob("checkpoint-*.index"))) == 2
    report = json.loads(Path("model/metrics.json").read_text())["validation"]
    assert report["loss"] == min(losses())

    train(call, *arguments, "--epochs", 5, "--resume")
    train(call, *arguments, "--epochs", 5, "--model", "whole")
    assert saved("model") == saved("whole") and checkpoints.read("model")["best"] == checkpoints.read("whole")["best"]


@pytest.mark.slow
def test_patience_ends_a_training_that_no_longer_improves_and_resuming_it_does_not_go_on(call):
    write_data(60)
    arguments = "--batch-size", 4, "--learning-rate", 0.3, "--patience", 2, "--epochs", 30
    _, err = train(call, *arguments)
    losses = [epoch["validation"]["loss"] for epoch in checkpoints.read("model")["history"]]
    assert len(losses) == np.argmin(losses) + 1 + 2 < 30 and "has not fallen for 2 epochs" in err
    before = saved("model")
    for repeated in (arguments, ()):  # the patience is the model's too
        train(call, *repeated, "--resume")
        assert saved("model") == before
    train(call, *arguments[:-4], "--patience", 3, "--epochs", 30, "--resume")
    assert saved("model")[1][:len(losses)] == before[1] and len(saved("model")[1]) > len(losses)


@pytest.mark.slow
def test_the_learning_rate_falls_along_half_a_cosine_and_the_number_of_epochs_is_then_fixed(call):
    write_data(60)
    train(call, *FAST, "--decay", "cosine", "--model", "model")
    status, out, err = call(train_feature_extraction, "--batch-size", 16, "--epochs", 3, "--resume")
    assert (status, out) == (2, "") and "falls over 2 epochs, not 3: resume with --epochs 2" in mistake(err)

    class Run:
        state = {"settings": {"decay": "cosine", "seed": 0, "dropout": 0.0}, "epochs": {"frozen": 4}}

    class Epoch:
        index, steps = 0, 5

    with tf.Graph().as_default():
        training = steps.Steps(Run, "frozen")
        for Epoch.step, pace in ((0, 1), (10, 0.5), (19, (1 + np.cos(np.pi * 0.95)) / 2)):
            assert training.feed(Epoch)[training.pace] == pytest.approx(pace)


def test_balanced_weights_count_each_class_the_same():
    labels = np.repeat([0, 1, 3], [10, 30, 60])
    weights = splits.class_weights(labels, 4)
    np.testing.assert_allclose(weights, [100 / 30, 100 / 90, 0, 100 / 180], rtol=1e-6)
    assert np.bincount(labels, weights[labels], 4).tolist() == pytest.approx([100 / 3, 100 / 3, 0, 100 / 3])


@pytest.mark.slow
@pytest.mark.parametrize("first, kept", [("conv4", None), ("fc6", "flat5"), ("fc7", "fc6")])
def test_finetuning_changes_the_layers_from_the_chosen_one_on_and_no_other(call, builtin_weights, first, kept):
    features, _ = write_data(20)
    train(call, "--epochs", 1, "--finetune", "--finetune-epochs", 1, "--finetune-from", first, "--finetune-batch-size", 8)
    learned = {name.split("/")[1] for name in saved("model")[0] if name.startswith("alexnet/")}
    assert learned == {layer for layer in builtin_weights if first <= layer < "fc8"}
    assert {path.name.split("-")[1] for path in Path("cache").glob("*.npy")} == {"fc7", kept} - {None}
    # The answers are those of the network with the layers below as they were.
    Image.fromarray(features[0]).save("0.png")
    status, out, err = call(feature_extraction, "0.png")
    assert status == 0, err
    layers = json.loads(Path("model/model.json").read_text())["settings"]["finetune_from"]
    assert layers == first


@pytest.mark.parametrize("arguments, problem", [
    (["--layer", "pool5", "--finetune", "--finetune-from", "fc6"], "lies behind --layer pool5"),
    (["--dropout", "0.5"], "--dropout is for hidden layers"),
    (["--hidden", "0,5"], "--hidden"), (["--hidden", "1,2,3,4,5,6"], "--hidden"), (["--dropout", "1"], "--dropout")])
def test_options_that_do_not_fit_are_refused_and_leave_no_folder(call, arguments, problem):
    write_data(20)
    status, out, err = call(train_feature_extraction, *arguments)
    assert (status, out) == (2, "") and problem in err.splitlines()[-1] and not Path("model").exists()


@pytest.mark.slow
def test_another_cut_or_head_than_the_resumed_models_is_named(call):
    write_data(20)
    train(call, "--epochs", 1, "--layer", "fc6", "--hidden", "8")
    for arguments, difference in ((["--layer", "pool5"], "with --layer fc6, not pool5"),
                                  (["--hidden", "0"], "with --hidden 8, not 0")):
        status, _, err = call(train_feature_extraction, "--epochs", 2, "--resume", *arguments)
        assert status == 2 and difference in mistake(err)


@pytest.mark.slow
def test_the_weights_that_a_model_was_trained_on_are_found_among_those_that_are_here(call, builtin_weights):
    arrays = {f"{layer}_{kind}": array for layer, pair in builtin_weights.items() for kind, array in zip("Wb", pair)}
    np.savez("mine.npz", **arrays)
    write_data(20)
    train(call, "--epochs", 1, "--weights", "mine.npz")
    arrays["fc8_b"] = arrays["fc8_b"] + 1
    np.savez("bvlc-alexnet.npy", **arrays)
    os.rename("bvlc-alexnet.npy.npz", "bvlc-alexnet.npy")  # what "auto" would take, and other weights
    status, _, err = call(feature_extraction)
    assert status == 0 and "AlexNet weights: mine.npz, on which the model was trained" in err
    os.rename("mine.npz", "bvlc_alexnet.npy")
    status, _, err = call(feature_extraction)
    assert status == 0 and "AlexNet weights: bvlc_alexnet.npy, on which" in err
    train(call, "--epochs", 2, "--resume")
    os.remove("bvlc_alexnet.npy")
    assert "was trained on mine.npz (fingerprint " in call(feature_extraction)[2].splitlines()[-1]


def write_photos(folder, counts, seed=0):
    """Write PNG photos of 60x80 pixels, noise around a colour for each class: {class: how many} in `folder`."""
    rng = np.random.default_rng(seed)
    for number, (name, count) in enumerate(counts.items()):
        Path(folder, name).mkdir(parents=True)
        colour = np.random.default_rng(number).integers(60, 200, (3, 4, 3)).repeat(20, axis=0).repeat(20, axis=1)
        for i in range(count):
            noise = rng.integers(-50, 51, (60, 80, 3))
            Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(Path(folder, name, f"{i}.png"))


def test_a_folder_of_photos_becomes_a_classifier_that_names_new_ones(call, monkeypatch):
    names = ["Gänse, blümchen", '"Löwen"', "玫瑰"]
    write_photos("photos/train", dict.fromkeys(names, 5))
    write_photos("photos/val", {names[2]: 3, names[0]: 2}, seed=1)
    write_photos("new", dict.fromkeys(names, 1), seed=2)
    arguments = "--data", "photos", "--layer", "pool5", "--learning-rate", 0.0003, "--epochs", 8
    out, err = train(call, *arguments, "--export", "exported")
    assert "no photos" in err  # to validate one of the classes with
    state = checkpoints.read("model")
    assert sorted(state["class_names"]) == sorted(names) and state["settings"]["size"] == 227
    assert state["settings"]["split"] == "given" and "Validation: 5 photos" in out

    new = [str(path) for path in sorted(Path("new").rglob("*.png"))]
    status, _, err = call(feature_extraction, "new", "--csv", "answers.csv")
    assert status == 0, err
    with open("answers.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"]: row["class"] for row in rows} == {path: Path(path).parts[1] for path in new}
    middle = [Image.open(path).crop((10, 0, 70, 60)).resize((227, 227), Image.Resampling.LANCZOS) for path in new]
    answers = served("exported", np.stack([np.asarray(photo) for photo in middle]))
    assert [name.decode() for name in answers["names"]] == [Path(path).parts[1] for path in new]

    # The photos are not decoded for the next training: their features are kept.
    monkeypatch.setattr(photo_files.PhotoFiles, "_read", None)
    monkeypatch.setattr(photo_files, "_look", None)
    monkeypatch.setattr(results, "show", lambda *shown: None)
    train(call, *arguments, "--overwrite", "--seed", 1)


@pytest.mark.slow
def test_the_model_may_be_in_the_folder_of_the_photos(call):
    write_photos(".", {"a": 6, "b": 6})
    for more in (["--export", "exported"], ["--overwrite"]):
        train(call, "--data", ".", "--layer", "pool5", "--epochs", 1, *more)
        assert checkpoints.read("model")["class_names"] == ["a", "b"]


def test_a_training_on_a_folder_is_resumed_on_the_same_photos_only(call):
    write_photos("photos", {"a": 6, "b": 6})
    train(call, "--data", "photos", "--layer", "pool5", "--epochs", 1)
    Path("photos/a/0.png").unlink()
    status, out, err = call(train_feature_extraction, "--data", "photos", "--epochs", 2, "--resume")
    assert (status, out) == (2, "") and "other photos" in err.splitlines()[-1]


@pytest.mark.parametrize("arguments, problem", [
    (["--model", "nosuch", "--export", "exported"], "nosuch holds no trained layer to export"),
    (["--finetune-from", "fc7"], "--finetune-from is for finetuning"),
    (["--finetune-epochs", "2"], "--finetune-epochs is for finetuning")])
def test_what_would_have_no_effect_or_another_one_than_meant_is_refused(call, arguments, problem):
    write_data(20)
    status, out, err = call(train_feature_extraction, *arguments)
    assert (status, out) == (2, "") and problem in mistake(err) and not Path("nosuch").exists()


@pytest.mark.slow
def test_a_resumed_training_follows_its_model_and_asks_for_its_photos(call):
    write_data(30)
    os.rename("train.p", "mine.p")
    arguments = "--data", "mine.p", "--batch-size", 8, "--seed", 3, "--learning-rate", 0.01, "--epochs", 2
    train(call, *arguments, "--model", "whole")
    train(call, *arguments[:-1], 1)
    status, _, err = call(train_feature_extraction, "--resume", "--epochs", 2)
    assert status == 2 and "was trained on mine.p: name these photos with --data" in mistake(err)
    train(call, "--resume", "--epochs", 2, "--data", "mine.p")
    assert saved("model") == saved("whole")
    _, err = train(call, "--resume", "--data", "mine.p")
    assert "No epochs are left" in err and saved("model") == saved("whole")


def test_a_model_of_other_photos_is_not_tried_on_the_labs_signs(call):
    write_photos("photos", {"a": 4, "b": 4})
    train(call, "--data", "photos", "--layer", "pool5", "--epochs", 1)
    status, out, err = call(feature_extraction)
    assert (status, out) == (2, "") and "name photos of yours" in mistake(err)
    assert call(feature_extraction, "photos/a/0.png")[0] == 0


@pytest.mark.slow
def test_names_given_once_stay_with_the_model(call):
    rng = np.random.default_rng(0)
    photos = {"features": rng.integers(0, 256, (20, 32, 32, 3), np.uint8), "labels": np.arange(20) % 2}
    Path("mine.p").write_bytes(pickle.dumps(photos))
    Path("names.txt").write_text("Löwe\nGans\n", encoding="utf-8")
    train(call, "--data", "mine.p", "--names", "names.txt", "--epochs", 1)
    train(call, "--data", "mine.p", "--epochs", 2, "--resume")
    assert checkpoints.read("model")["class_names"] == ["Löwe", "Gans"]
    report = json.loads(Path("model/metrics.json").read_text(encoding="utf-8"))["validation"]
    assert {sign["name"] for sign in report["classes"]} <= {"Löwe", "Gans"}
