"""A training can be relied on: it resumes where it stopped, reports true figures, and can be exported."""

import hashlib
import json
import os
import pickle
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image
from samples import mistake, saved, served, write_data
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import feature_extraction
import train_feature_extraction
from lab import cpu, files
from lab.data import gtsrb, tracks
from lab.network import devices, new_layer, weights
from lab.training import checkpoints, kept_features, options, plots, run, steps


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What a training of three epochs saves, in batches of 16 from `write_data`, if it is not interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_data(path=folder / "train.p")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_features, "BATCH", 16)  # as in `call`: the last bits of fc7 depend on it
        patch.chdir(folder)
        train_feature_extraction.main(["--epochs", "3", "--batch-size", "16"])
    return saved(folder / "model")


def press_ctrl_c_in_step(number, monkeypatch, sent=signal.SIGINT):
    """Press Ctrl-C, or send the process the signal `sent`, during step `number` of an epoch, counted from 1."""
    def steps(iterable, *arguments, **options):
        for i in iterable:
            if i == number - 1:
                signal.raise_signal(sent)
            yield i

    monkeypatch.setattr(run, "progress", steps)
    # A shell's background jobs ignore Ctrl-C, and the tests may be one.
    monkeypatch.setattr(signal, "getsignal", lambda number, work=signal.getsignal:
                        signal.default_int_handler if number == signal.SIGINT else work(number))


@pytest.mark.slow
def test_a_training_resumed_after_ctrl_c_and_with_more_epochs_is_bit_identical(call, uninterrupted, monkeypatch):
    write_data()
    arguments = ["--batch-size", 16, "--resume"]
    with monkeypatch.context() as patch:
        press_ctrl_c_in_step(3, patch)
        status, out, err = call(train_feature_extraction, *arguments, "--epochs", 1)
    assert (status, out) == (130, "")
    assert err.endswith("Interrupted after step 3 of 4 of epoch 1, which is saved: "
                        "run the same command with --resume to resume it.\n")
    assert checkpoints.read("model")["step"] == 3

    assert call(train_feature_extraction, *arguments, "--epochs", 1)[0] == 0
    status, out, _ = call(train_feature_extraction, *arguments, "--epochs", 3)
    assert status == 0 and out.startswith("Epoch 2\n")
    assert saved() == uninterrupted
    assert len(list(Path("model").glob("checkpoint-*"))) == 2  # one, in two files
    assert call(train_feature_extraction, *arguments, "--epochs", 3)[0] == 0  # nothing is left to train
    assert saved() == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_training_told_to_end_saves_its_step_and_resumes(number, status, call, uninterrupted, monkeypatch):
    write_data()
    arguments = ["--batch-size", 16, "--epochs", 3, "--resume"]
    with monkeypatch.context() as patch:
        press_ctrl_c_in_step(2, patch, number)
        assert call(train_feature_extraction, *arguments)[0] == status
    assert checkpoints.read("model")["step"] == 2
    assert call(train_feature_extraction, *arguments)[0] == 0 and saved() == uninterrupted


@pytest.mark.slow
def test_advice_to_resume_is_given_only_where_there_is_something_of_this_training_to_resume(call, monkeypatch, trained):
    shutil.copytree(trained, "model")
    write_data(30)

    def interrupt(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)

    for option, advice in (("--overwrite", False), ("--resume", True)):
        with monkeypatch.context() as patch:
            patch.setattr(tf.train, "Saver", interrupt)
            status, _, err = call(train_feature_extraction, "--epochs", 3, option)
        assert status == 143 and ("--resume" in mistake(err)) == advice
    assert saved() == saved(trained)


@pytest.mark.slow
def test_a_training_that_dies_while_saving_resumes_from_the_previous_save(call, uninterrupted, monkeypatch):
    write_data()
    arguments = ["--batch-size", 16, "--epochs", 3, "--resume"]

    def die(path, value, write=files.write_json):
        if path.name == "model.json" and len(value["history"]) == 2:
            raise KeyboardInterrupt  # the checkpoint of epoch 2 exists, but model.json still names the one of epoch 1
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", die)
        assert call(train_feature_extraction, *arguments)[0] == 130
    assert len(checkpoints.read("model")["history"]) == 1
    assert call(train_feature_extraction, *arguments)[0] == 0
    assert saved() == uninterrupted and len(list(Path("model").glob("checkpoint-*"))) == 2


@pytest.mark.slow
def test_a_model_is_replaced_only_with_overwrite(call):
    write_data(30)
    assert call(train_feature_extraction, "--epochs", 2)[0] == 0
    before = saved()
    status, out, err = call(train_feature_extraction, "--epochs", 1)
    assert (status, out) == (2, "") and "--resume trains it further" in mistake(err)
    assert saved() == before
    assert call(train_feature_extraction, "--epochs", 1, "--overwrite")[0] == 0
    assert len(saved()[1]) == 1 and len(list(Path("model").glob("events.*"))) == 1


def earlier(state, digest):
    """`state` as the version before formats were numbered saved it: with the digest of the weights' file."""
    return {key: value for key, value in state.items() if key != "format"} | {
        "weights": {"name": state["weights"]["name"], "sha256": digest}}


@pytest.mark.slow
def test_a_model_folder_of_an_earlier_version_works_with_its_weights_file_and_the_next_save_names_the_arrays(call, trained):
    shutil.copytree(trained, "model")
    manifest = Path("model/model.json")
    state = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(earlier(state, hashlib.sha256(weights.BUILTIN.read_bytes()).hexdigest())))
    write_data(30)
    assert call(feature_extraction)[2].count("untrained") == 0
    assert call(train_feature_extraction, "--epochs", 2, "--resume", "--export", "saved")[0] == 0
    assert "sha256" in json.loads(manifest.read_text())["weights"]  # nothing was to be saved
    assert call(train_feature_extraction, "--epochs", 3, "--resume")[0] == 0
    now = json.loads(manifest.read_text())
    assert (now["format"], now["weights"]) == (checkpoints.FORMAT, state["weights"]) and len(saved()[1]) == 3


def test_a_model_folder_of_an_earlier_version_is_refused_with_another_weights_file(call, trained):
    shutil.copytree(trained, "model")
    manifest = Path("model/model.json")
    manifest.write_text(json.dumps(earlier(json.loads(manifest.read_text()), 64 * "1")))
    write_data(30)
    assert "was trained on another version of builtin (SHA-256 111111111111...), not on builtin" in mistake(
        call(feature_extraction)[2])
    assert "was trained with other weights (builtin, SHA-256 111111111111...) than builtin (fingerprint " in mistake(
        call(train_feature_extraction, "--epochs", 3, "--resume")[2])


def test_a_model_folder_of_a_later_version_is_refused(call, trained):
    shutil.copytree(trained, "model")
    files.write_json(Path("model/model.json"), checkpoints.read("model") | {"format": checkpoints.FORMAT + 1})
    assert "was written by a later version of the lab" in mistake(call(feature_extraction)[2])


def test_a_layer_is_accepted_with_every_file_of_the_arrays_that_it_was_trained_on(trained, monkeypatch):
    rng = np.random.default_rng(0)
    shapes = {"fc7": (8, 8), "fc8": (8, 1000)}
    monkeypatch.setattr(weights, "SHAPES", shapes)
    arrays = {layer: (rng.random(shape, np.float32), rng.random(shape[-1], np.float32)) for layer, shape in shapes.items()}
    np.save("w.npy", arrays, allow_pickle=True)
    np.savez("w.npz", **{f"{layer}_{kind}": array for layer, pair in arrays.items() for kind, array in zip("Wb", pair)})
    state = checkpoints.read(trained)
    identity = weights.identity(Path("w.npy"), weights.load("w.npy"))

    def works(state, path):
        try:
            checkpoints.check_weights(state, "model", Path(path), weights.load(path))
            training = run.Run(Path("model"), state)
            training.begin(state["settings"], 2, 0, state["data"], weights.identity(Path(path), arrays), state["class_names"],
                           Path(path))
        except files.BadInput:
            return False
        return training.state["weights"]["fingerprint"] == identity["fingerprint"]

    assert works(state | {"weights": identity}, "w.npy") and works(state | {"weights": identity}, "w.npz")
    old = {"name": "w.npy", "sha256": hashlib.sha256(Path("w.npy").read_bytes()).hexdigest()}
    assert works(state | {"weights": old}, "w.npy") and not works(state | {"weights": old}, "w.npz")
    arrays["fc7"][1][0] += 1
    np.save("w.npy", arrays, allow_pickle=True)
    assert not works(state | {"weights": identity}, "w.npy") and not works(state | {"weights": old}, "w.npy")


@pytest.mark.slow
def test_a_training_stopped_early_is_not_resumed_for_fewer_epochs_than_it_was_started_for(call, monkeypatch):
    write_data(30)
    with monkeypatch.context() as patch:
        press_ctrl_c_in_step(1, patch)
        assert call(train_feature_extraction, "--epochs", 3)[0] == 130
    status, _, err = call(train_feature_extraction, "--epochs", 2, "--resume")
    assert status == 2 and "is to have 3 frozen epochs, not 2: resume with --epochs 3 or more" in mistake(err)


def test_two_trainings_do_not_share_a_folder(call):
    write_data(30)
    Path("model").mkdir()
    with checkpoints.locked("model"):
        status, out, err = call(train_feature_extraction, "--overwrite")
    assert (status, out) == (2, "") and "another run is training in model: wait until it ends" in mistake(err)
    assert os.listdir("model") == []


@pytest.mark.slow
def test_a_first_training_deletes_only_what_it_has_written(call):
    write_data(30)
    Path("model").mkdir()
    others = {"checkpoint-500.index", "events.out.tfevents.171.myhost", "notes.txt"}
    for name in others:
        Path("model", name).touch()
    assert call(train_feature_extraction, "--epochs", 3)[0] == 0
    assert others <= set(os.listdir("model"))
    assert sorted(path.name for path in Path("model").glob("checkpoint-50[1-9].index")) == ["checkpoint-503.index"]


def test_a_model_replaced_by_a_training_while_it_is_read_is_read_again(trained):
    shutil.copytree(trained, "model")
    earlier = checkpoints.read("model")
    for path in list(Path("model").glob("checkpoint-2.*")):
        path.rename(str(path).replace("checkpoint-2", "checkpoint-3"))
    files.write_json(Path("model/model.json"), earlier | {"checkpoint": "checkpoint-3"})
    with tf.Graph().as_default(), tf.Session() as session:
        new_layer.build(tf.zeros([1, 4096]), 43)
        checkpoints.restore(session, "model", earlier)
        assert earlier["checkpoint"] == "checkpoint-3"
        weights, biases = session.run(new_layer.variables())
    assert saved()[0]["head/weights"] == weights.tobytes() and saved()[0]["head/biases"] == biases.tobytes()


@pytest.mark.slow
def test_the_metrics_of_an_earlier_model_are_deleted_and_its_curves_are_kept(call, monkeypatch):
    write_data(30)
    write_data(31, "test.p")
    assert call(train_feature_extraction, "--epochs", 1, "--test", "test.p", "--batch-size", 8)[0] == 0
    results = {name for name in os.listdir("model") if not name.startswith(("checkpoint", "events", "model.json"))}
    assert {"metrics.json", "mistakes.csv", "test-mistakes.png"} < results
    with monkeypatch.context() as patch:
        press_ctrl_c_in_step(1, patch)
        assert call(train_feature_extraction, "--resume", "--epochs", 2, "--batch-size", 8)[0] == 130
    left = set(os.listdir("model"))
    assert not results & left and "events.out.tfevents.000001" in left


@pytest.mark.parametrize("arguments, difference", [
    (["--seed", 1], "was trained with --seed 0, not 1: resume with --seed 0, or start again with --overwrite"),
    (["--batch-size", 8], "was trained with --batch-size 128, not 8"),
    (["--learning-rate", 0.01], "was trained with --learning-rate 0.001, not 0.01"),
    (["--precision", "bfloat16"], "was trained with --precision float32, not bfloat16"),
    (["--data", "other.p"], "was trained with other photos (train.p, SHA-256 "),
    (["--weights", "other.npz"], "was trained with other weights (builtin, fingerprint "),
    (["--split", "track", "--epochs", 3], "no tracks found"),
    (["--epochs", 1], "is to have 2 frozen epochs, not 1: resume with --epochs 2 or more"),
])
def test_a_difference_from_the_resumed_training_is_named(arguments, difference, call, trained):
    write_data(30)
    write_data(31, "other.p")
    if "other.npz" in arguments:
        arrays = weights.load("builtin")
        np.savez("other.npz", **{f"{layer}_{kind}": array for layer, pair in arrays.items() for kind, array in zip("Wb", pair)})
    before = saved(trained)
    status, out, err = call(train_feature_extraction, "--resume", "--model", trained, *arguments)
    assert (status, out) == (2, "") and difference in mistake(err)
    assert saved(trained) == before and (trained / "metrics.json").exists()


@pytest.mark.parametrize("computer, onednn, notice", [
    ("this one", None, ""),
    ("TensorFlow 2.16.1, oneDNN 0, Zen, 2 threads", None, "with TensorFlow 2.16.1, oneDNN 0, Zen, 2 threads, and goes on "),
    (None, "0", ""),
    (None, "1", "was trained with an earlier version of the lab, perhaps without oneDNN, and goes on with TensorFlow "),
])
def test_a_training_begun_on_another_computer_resumes_with_a_notice(computer, onednn, notice, trained, capsys, monkeypatch):
    if onednn:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    with run.Run.open(trained, resume=True) as resumed:
        resumed.state.pop("computer")
        if computer:
            resumed.state["computer"] = devices.summary() if computer == "this one" else computer
        resumed.begin(resumed.state["settings"], 2, 0, resumed.state["data"], resumed.state["weights"],
                      resumed.state["class_names"], weights.BUILTIN)
        assert resumed.state["computer"] == devices.summary()
    err = capsys.readouterr().err
    assert notice in err and err.count("\n") == bool(notice)


def test_settings_of_finetuning_may_change_until_it_has_begun(trained):
    state = checkpoints.read(trained)
    state["settings"]["finetune_batch_size"] = 32
    frozen_settings = {key: value for key, value in state["settings"].items() if key not in checkpoints.FINETUNING_SETTINGS}

    def resume(frozen, finetuned, **settings):
        wanted = checkpoints.new_state(frozen_settings | settings, frozen, finetuned, state["data"], state["weights"],
                                       state["class_names"])
        checkpoints.check_resumable(state, wanted, trained)

    resume(2, 4, finetune_batch_size=8, precision="bfloat16")  # and the precision of the finished frozen epochs does not matter
    state["epochs"]["finetuned"] = 4
    with pytest.raises(files.BadInput, match="is being finetuned: resume with --finetune"):
        resume(2, 0)
    with pytest.raises(files.BadInput, match="4 epochs of finetuning, not 3: resume with --finetune-epochs 4 or more"):
        resume(2, 3)
    state |= {"stage": "finetuned", "step": 1}
    with pytest.raises(files.BadInput, match="with --finetune-batch-size 32, not 8"):
        resume(2, 4, finetune_batch_size=8)
    with pytest.raises(files.BadInput, match="2 frozen epochs, not 5: resume with --epochs 2, or"):
        resume(5, 4)
    resume(2, 5, finetune_batch_size=32)


def test_precision_may_change_for_finetuning_only_once_the_frozen_epochs_are_over(trained):
    state = checkpoints.read(trained)
    wanted = checkpoints.new_state(state["settings"] | {"precision": "bfloat16"}, 3, 4, state["data"], state["weights"],
                                   state["class_names"])
    with pytest.raises(files.BadInput, match="finish them first, with --precision float32 and without --finetune"):
        checkpoints.check_resumable(state, wanted, trained)


@pytest.mark.slow
def test_the_record_says_in_which_precision_each_epoch_was_computed(call):
    write_data(30)
    assert call(train_feature_extraction, "--epochs", 1, "--precision", "bfloat16")[0] == 0
    state = checkpoints.read("model")
    assert state["settings"]["precision"] == state["history"][0]["precision"] == "bfloat16"
    training = run.Run(Path("model"), state)
    settings = state["settings"] | {"precision": "float32", "finetune_batch_size": 32}
    training.begin(settings, 1, 4, state["data"], state["weights"], state["class_names"], weights.BUILTIN)
    assert training.stages == ["finetuned"] and training.state["settings"]["precision"] == "bfloat16"


def test_finetuning_in_bfloat16_is_refused_where_the_cpu_would_only_emulate_it(call, monkeypatch):
    for flags, status in (("avx avx2", 2), ("avx avx2 avx512_bf16", 0)):
        monkeypatch.setattr(cpu, "description", lambda: {"flags": flags})
        if status:
            status, out, err = call(train_feature_extraction, "--finetune", "--precision", "bfloat16")
            assert (status, out) == (2, "") and "needs a CPU with instructions for it" in mistake(err)
        else:
            settings = options.settings(options.parse(["--finetune", "--precision", "bfloat16"]))
            assert settings["finetune_precision"] == settings["precision"] == "bfloat16"


def test_finetuning_is_resumed_in_its_own_precision_which_was_float32_before_there_was_a_choice(trained):
    state = checkpoints.read(trained)
    state["settings"] |= {"finetune_batch_size": 32, "pretrained_learning_rate": 0.0001}
    state |= {"format": 3, "stage": "finetuned", "step": 1, "running": [1.0, 1, 32], "epochs": {"frozen": 2, "finetuned": 4}}
    Path("model").mkdir()
    files.write_json(Path("model/model.json"), state)
    state = checkpoints.read("model")
    for precision in ("float32", "bfloat16"):
        wanted = checkpoints.new_state(state["settings"] | {"finetune_precision": precision}, 2, 4, state["data"],
                                       state["weights"], state["class_names"])
        if precision == "float32":
            checkpoints.check_resumable(state, wanted, "model")
            continue
        with pytest.raises(files.BadInput, match="with --precision float32, not bfloat16: resume with --precision float32"):
            checkpoints.check_resumable(state, wanted, "model")


KILLED = {  # where a save is cut off: what is left then, and what the next run makes of it
    "before the checkpoint": (tf.train.Saver, "save"),
    "before model.json": (files, "write_json"),
    "before the old checkpoint is deleted": (checkpoints, "_remove_replaced"),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", KILLED)
def test_the_next_run_deletes_what_a_killed_save_has_left(moment, call, uninterrupted, monkeypatch):
    write_data()
    arguments = ["--batch-size", 16, "--epochs", 3, "--resume"]
    owner, name = KILLED[moment]
    others = {"checkpoint-500.index", "events.out.tfevents.171.myhost", "notes.txt", "notes.unfinished",
              "drawn.p.123.unfinished"}
    Path("model").mkdir()
    for other in others:
        Path("model", other).touch()

    work, calls = getattr(owner, name), []

    def die(*data, **options):
        calls.append(None)
        if len(calls) == {"before model.json": 4}.get(moment, 2):  # of the second epoch
            if name == "write_json":
                Path("model/model.json.999.unfinished").touch()
            raise SystemExit
        return work(*data, **options)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(owner, name, die)
        call(train_feature_extraction, *arguments)
    assert Path("model/saving.json").exists()
    assert call(train_feature_extraction, *arguments)[0] == 0
    assert saved() == uninterrupted
    left = {path.name for path in Path("model").iterdir()} - others
    assert len([name for name in left if name.startswith("checkpoint-")]) == 2
    assert not [name for name in left if "unfinished" in name or name in ("saving.json", "training.lock")]
    assert others <= set(os.listdir("model"))


def test_split_track_holds_out_whole_tracks(call, monkeypatch):
    monkeypatch.setattr(tracks, "FRAMES", 4)
    rng = np.random.default_rng(0)
    signs = rng.integers(0, 256, (6, 1, 4, 4, 3)).repeat(8, axis=2).repeat(8, axis=3)  # six signs, of two classes
    features = np.clip(signs + rng.integers(-3, 4, (6, 4, 32, 32, 3)), 0, 255).astype(np.uint8).reshape(24, 32, 32, 3)
    Path("train.p").write_bytes(pickle.dumps({"features": features, "labels": np.repeat([14, 38], 12)}))
    assert call(train_feature_extraction, "--epochs", 1, "--split", "track")[0] == 0
    metrics = json.loads(Path("model/metrics.json").read_text())["validation"]
    assert [(sign["class"], sign["photos"]) for sign in metrics["classes"]] == [(14, 4), (38, 4)]
    status, _, err = call(train_feature_extraction, "--resume", "--epochs", 2, "--split", "random")
    assert status == 2 and "was trained with --split track, not random" in err


@pytest.mark.slow
def test_an_infinite_loss_ends_the_training_with_the_likely_cause(call, monkeypatch):
    write_data(30)
    assert call(train_feature_extraction, "--epochs", 1)[0] == 0
    before = saved()
    real = tf.nn.sparse_softmax_cross_entropy_with_logits
    monkeypatch.setattr(tf.nn, "sparse_softmax_cross_entropy_with_logits", lambda **arguments: real(**arguments) * np.inf)
    status, _, err = call(train_feature_extraction, "--epochs", 2, "--resume")
    assert status == 2 and "the loss became NaN or infinite at step 1 of epoch 2: the learning rate is too high" in mistake(err)
    assert saved() == before


def test_tensorboard_finds_the_graph_and_both_curves(trained):
    events = [event for path in sorted(trained.glob("events.out.tfevents.*")) for event in tf.train.summary_iterator(str(path))]
    values = {(value.tag, event.step): value.simple_value for event in events for value in event.summary.value}
    history = checkpoints.read(trained)["history"]
    assert values == {(f"{key}/{split}", epoch["epoch"]): np.float32(epoch[split][key]) for epoch in history
                      for split in ("training", "validation") for key in ("loss", "accuracy")}
    graph, = [tf.GraphDef.FromString(event.graph_def) for event in events if event.graph_def]
    assert {"images", "alexnet/fc7", "head/logits"} <= {node.name for node in graph.node}


def test_metrics_and_pictures_are_those_of_the_validation_photos(trained):
    metrics = json.loads((trained / "metrics.json").read_text())["validation"]
    assert metrics["photos"] == 10 == sum(sign["photos"] for sign in metrics["classes"])
    history = checkpoints.read(trained)["history"]
    assert (metrics["loss"], metrics["accuracy"]) == (history[-1]["validation"]["loss"], history[-1]["validation"]["accuracy"])
    assert all((trained / name).stat().st_size for name in ("history.png", "confusion.png", "mistakes.png"))


def test_dropout_keeps_the_mean_and_depends_on_the_seed_alone():
    with tf.Graph().as_default(), tf.Session() as session:
        rate, seed = tf.placeholder(tf.float32, []), tf.placeholder(tf.int32, [2])
        dropped = steps.dropout(tf.ones([100, 4096]), rate, seed)
        half = session.run(dropped, {rate: 0.5, seed: [0, 1]})
        assert set(np.unique(half)) == {0, 2} and abs(half.mean() - 1) < 5 / np.sqrt(half.size)  # five standard deviations
        assert np.array_equal(half, session.run(dropped, {rate: 0.5, seed: [0, 1]}))
        assert abs(np.mean(half == session.run(dropped, {rate: 0.5, seed: [0, 2]})) - 0.5) < 0.01
        assert np.array_equal(session.run(dropped, {rate: 0.0, seed: [0, 1]}), np.ones([100, 4096]))


@pytest.mark.slow
def test_the_exported_network_answers_the_same_without_the_labs_code(call, trained):
    status, out, err = call(train_feature_extraction, "--export", "saved", "--model", trained)
    assert (status, out) == (0, "") and "The network, after 2 frozen epochs, is in saved" in err
    features, _ = write_data(3)
    answers = served("saved", features)
    assert answers["probabilities"].shape == (3, 43) and answers["class_ids"].shape == (3,)

    for i, photo in enumerate(features):
        Image.fromarray(photo).save(f"{i}.png")
    _, out, _ = call(feature_extraction, "0.png", "1.png", "2.png", "--model", trained)
    first = re.findall(r"^Image .*\n(.*): (.*)$", out, re.MULTILINE)
    assert [(name.decode(), f"{row.max():.3f}") for name, row in zip(answers["names"], answers["probabilities"])] == first
    assert [gtsrb.sign_names()[i] for i in answers["class_ids"]] == [name for name, _ in first]

    graph = SavedModel.FromString(Path("saved/saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    assert not {node.op for node in graph.node} & {"PyFunc", "PyFuncStateless", "EagerPyFunc"}  # a server has no Python
    assert graph.ByteSize() < 1_000_000  # the weights are variables


def test_an_export_that_cannot_be_written_leaves_nothing(call, trained):
    Path("file").touch()
    status, _, err = call(train_feature_extraction, "--export", "file/saved", "--model", trained)
    assert status == 2 and "file is a file: name a folder" in mistake(err)
    for name, sentence in (("signs[1]", "as a pattern"), ("signs-\udce4", "is not valid UTF-8"), ("file", "already exists")):
        status, _, err = call(train_feature_extraction, "--export", name, "--model", trained)
        assert status == 2 and sentence in mistake(err)
    status, _, err = call(train_feature_extraction, "--export", "model", "--model", "model/new")
    assert status == 2 and "--export model would be the folder of --model, or above it" in mistake(err)
    assert os.listdir() == ["file"]


@pytest.mark.slow
def test_pictures_that_cannot_be_drawn_do_not_fail_a_finished_training(call, monkeypatch):
    write_data(30)

    def fail(path, *data):
        raise RuntimeError("no font")

    monkeypatch.setattr(plots, "history", fail)
    Path("model/confusion.png").mkdir(parents=True)
    monkeypatch.setattr(plots, "confusion", lambda path, *data: files.write_json(path, None))
    status, out, err = call(train_feature_extraction, "--epochs", 1)
    assert status == 0 and "Validation: 10 photos" in out and Path("model/metrics.json").exists()
    assert "model/history.png cannot be drawn: no font; the model is saved" in err
    assert "model/confusion.png cannot be written: Is a directory; the model is saved" in err


def test_plot_draws_photos_with_their_most_probable_signs(call, trained):
    status, _, _ = call(feature_extraction, "--model", trained, "--plot", "answers.png")
    assert status == 0 and Image.open("answers.png").height > 300
