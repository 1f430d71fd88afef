"""Epochs of training, frozen or finetuned: shuffled, counted, kept after each, and interruptible at every step."""

import time

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

import command_line
import evaluation
import model_folder
from files import BadInput


def run(session, variables, model, state, stage, count, training, step, validate):
    """Train until `count` epochs of `stage` (of model_folder.STAGES) are finished, from where `state` stands.

    variables: those of the session's graph that training changes; they are saved in the folder `model` after every epoch,
        together with `state`, which is kept up to date, and the curves for TensorBoard.
    training: int64 [N], the indices of the training photos.
    step: a function that trains on one batch, given its indices, the number of epochs finished in this stage, and that of
        steps. It returns the loss of each photo, float32 [B], and whether it was recognised, bool [B].
    validate: a function that returns the validation photos' logits, float32 [M, 43], and labels, int64 [M].

    Returns the validation photos' logits in the end. What the history says of training is the mean over the epoch's steps,
    in which the variables change.

    Ctrl-C finishes the running step, saves, and raises KeyboardInterrupt. Raises BadInput when the loss is no number.
    """
    if state["stage"] != stage:
        state |= {"stage": stage, "step": 0, "running": [0.0, 0, 0]}
    batch_size = state["settings"]["batch_size" if stage == "frozen" else "finetune_batch_size"]
    steps = -(-len(training) // batch_size)
    saver, logits = tf.train.Saver(variables), None
    with command_line.interrupt_noted() as interrupted:
        for epoch in range(model_folder.epochs(state, stage), count):
            start = time.time()
            number = len(state["history"]) + 1
            order = np.random.RandomState([state["settings"]["seed"], model_folder.STAGES.index(stage), epoch])
            shuffled = order.permutation(training)
            for i in tqdm(range(state["step"], steps), f"Epoch {number}", steps, initial=state["step"], disable=None, leave=False):
                losses, hits = step(shuffled[i * batch_size:(i + 1) * batch_size], epoch, epoch * steps + i)
                if not np.isfinite(losses).all():
                    raise BadInput(f"the loss is no number any more at step {i + 1} of epoch {number}: the learning rate is too "
                                   f"high or the weights are not AlexNet's; {model} still holds what was saved before")
                state["step"] = i + 1
                state["running"] = [total + float(new.sum(dtype=np.float64))
                                    for total, new in zip(state["running"], (losses, hits, np.ones(len(hits))))]
                if interrupted():
                    model_folder.save(session, saver, model, state)
                    raise KeyboardInterrupt(f"Interrupted after step {i + 1} of {steps} of epoch {number}, which is saved: go on "
                                            "with --resume.")

            logits, labels = validate()
            validation = evaluation.report(logits, labels)
            loss, recognised, photos = state["running"]
            state["history"].append({
                "epoch": number, "stage": stage, "training": {"loss": loss / photos, "accuracy": recognised / photos},
                "validation": {"loss": validation["loss"], "accuracy": validation["accuracy"]}})
            state |= {"step": 0, "running": [0.0, 0, 0]}
            model_folder.save(session, saver, model, state)
            _write_events(model, state["history"][-1], session.graph if epoch == 0 else None)
            command_line.result(f"Epoch {number}\n"
                                f"Time: {time.time() - start:.3f} seconds\n"
                                f"Validation Loss = {validation['loss']:.4f}\n"
                                f"Validation Accuracy = {validation['accuracy']:.4f}\n")
            if interrupted():
                raise KeyboardInterrupt(f"Interrupted after epoch {number}, which is saved: go on with --resume.")
    return validate()[0] if logits is None else logits


def _write_events(model, epoch, graph):
    """Write an entry of the history, and the graph if there is one, for TensorBoard: a TFRecord file of Event messages.

    A file for each epoch, so that an epoch that is trained again replaces its own. (tf.summary.FileWriter has a thread, which
    would answer a full disk with a traceback.)
    """
    values = [tf.Summary.Value(tag=f"{key}/{split}", simple_value=epoch[split][key])
              for split in ("training", "validation") for key in ("accuracy", "loss")]
    events = [tf.Event(file_version="brain.Event:2"), tf.Event(step=epoch["epoch"], summary=tf.Summary(value=values))]
    if graph:
        events.append(tf.Event(graph_def=graph.as_graph_def().SerializeToString()))
    path = model / f"events.out.tfevents.{epoch['epoch']:06}"
    try:
        with tf.python_io.TFRecordWriter(str(path)) as file:
            for event in events:
                event.wall_time = time.time()
                file.write(event.SerializeToString())
    except tf.errors.OpError:
        command_line.notice(f"{path} cannot be written: TensorBoard will not show this epoch.")
