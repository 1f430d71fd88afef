"""Epochs of training, frozen or finetuned: shuffled, counted, kept after each, and interruptible at every step."""

import contextlib
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
        together with `state`, which is kept up to date, and TensorBoard's events.
    training: int64 [N], the indices of the training photos.
    step: a function that trains on one batch, given its indices, the number of epochs finished in this stage, and that of
        steps. It returns the loss of each photo, float32 [B], and whether it was recognised, bool [B].
    validate: a function that returns the validation photos' logits, float32 [M, 43], and labels, int64 [M].

    What the history says of training is the mean over the epoch's steps, in which the variables change.

    Ctrl-C finishes the running step, saves, and raises KeyboardInterrupt. Raises BadInput when the loss is no number.
    """
    if state["stage"] != stage:
        state |= {"stage": stage, "step": 0, "running": [0.0, 0, 0]}
    batch_size = state["settings"]["batch_size" if stage == "frozen" else "finetune_batch_size"]
    steps = -(-len(training) // batch_size)
    with command_line.interrupt_noted() as interrupted, contextlib.ExitStack() as stack:
        events = None
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
                    model_folder.save(session, variables, model, state)
                    raise KeyboardInterrupt(f"Interrupted after step {i + 1} of {steps} of epoch {number}, and saved: the same "
                                            "command with --resume goes on from there.")

            loss, recognised, photos = state["running"]
            validation = evaluation.report(*validate())
            state["history"].append({
                "epoch": number, "stage": stage, "training": {"loss": loss / photos, "accuracy": recognised / photos},
                "validation": {"loss": validation["loss"], "accuracy": validation["accuracy"]}})
            state |= {"step": 0, "running": [0.0, 0, 0]}
            model_folder.save(session, variables, model, state)
            events = events or stack.enter_context(contextlib.closing(tf.summary.FileWriter(str(model), session.graph)))
            events.add_summary(_summary(state["history"][-1]), number)
            events.flush()
            command_line.result(f"Epoch {number}\n"
                                f"Time: {time.time() - start:.3f} seconds\n"
                                f"Validation Loss = {validation['loss']:.4f}\n"
                                f"Validation Accuracy = {validation['accuracy']:.4f}\n")
            if interrupted():
                raise KeyboardInterrupt(f"Interrupted after epoch {number}, which is saved: the same command with --resume goes "
                                        "on from there.")


def _summary(epoch):
    """One entry of the history for TensorBoard: accuracy/training, accuracy/validation, loss/training, loss/validation."""
    return tf.Summary(value=[tf.Summary.Value(tag=f"{key}/{split}", simple_value=epoch[split][key])
                             for split in ("training", "validation") for key in ("accuracy", "loss")])
