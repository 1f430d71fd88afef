"""A training run in a model folder: what it resumes, its epochs and batches, and what it saves after each epoch."""

import contextlib
import os
import time
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from lab import command_line, files, interrupts
from lab.files import BadInput
from lab.interrupts import Interrupted
from lab.network import devices
from lab.progress import progress
from lab.training import checkpoints, evaluation


class Run:
    """A training run that starts from what its model folder holds. Call `begin` first, then iterate:

        with Run.open("model", resume=True) as run:
            run.begin(settings, frozen=10, finetuned=0, data=..., weights=..., class_names=..., weights_file=...)
            ...                                              # the graph, in a session, and the variables that training changes
            for epoch in run.epochs(session, "frozen", learned):
                for rows in epoch.batches(training):
                    ...                                      # a training step on these rows
                    epoch.count(losses, correct)
                epoch.validated(logits, labels)
            run.restore_answering(session)

    folder: the model folder, as a Path. state: what checkpoints.read returns, kept up to date; None before the `begin` of a
    run that does not resume.
    """

    def __init__(self, folder, state):
        self.folder, self.state = folder, state
        self._iterators = contextlib.ExitStack()

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder, resume=False, overwrite=False):
        """Open `folder`, created when missing, and keep other runs out of it until the end of the `with` block.

        Raises BadInput for a folder that holds a model, unless `resume` or `overwrite` says what to do with it. An
        interrupt leaves the block with a sentence that says what was saved. A folder in which nothing was saved is removed.
        """
        existed = Path(folder).exists()
        folder = files.make_folder(folder)
        try:
            with checkpoints.locked(folder):
                checkpoints.clean_up(folder)
                before = None if overwrite else checkpoints.read(folder)
                if before and not resume:
                    checkpoints.check_edition(before, folder)
                    raise BadInput(f"{folder} holds a trained layer: --resume trains it further, or only tests and exports it "
                                   "if no epochs are left; --overwrite replaces it")
                if resume and not before:
                    files.notice(f"{folder} holds no trained layer yet: this is its first training run.")
                run = cls(folder, before)
                try:
                    with run._iterators:
                        yield run
                except Interrupted as error:
                    raise Interrupted(error.number, str(error) or run._what_was_saved()) from error
        finally:
            if not existed:
                with contextlib.suppress(OSError):  # it holds something
                    folder.rmdir()

    def _what_was_saved(self):
        if self.state and self.state["checkpoint"]:
            return "Interrupted: run the same command with --resume to resume it."
        unchanged = f"; the model in {self.folder} is still the one from before" * (self.folder / "model.json").exists()
        return f"Interrupted before the first epoch was saved{unchanged}."

    def begin(self, settings, frozen, finetuned, data, weights, class_names, weights_file):
        """Start the run, or resume it. The parameters are those of checkpoints.new_state, and the Path of the weights.

        Raises BadInput, naming the difference, if the run to resume had other settings, photos or weights.
        """
        wanted = checkpoints.new_state(settings, frozen, finetuned, data, weights, class_names)
        if self.state:
            checkpoints.recognise(self.state, weights_file, weights)
            checkpoints.check_resumable(self.state, wanted, self.folder)
            settings = self.state["settings"] | settings
            self._mention_other_computer()
            wanted = self.state | {"epochs": wanted["epochs"], "settings": settings, "class_names": class_names}
            if checkpoints.finished(wanted, "frozen"):
                settings["precision"] = self.state["settings"]["precision"]  # of the frozen layers, which are over
        self.state = wanted | {"computer": devices.summary()}

    def _mention_other_computer(self):
        """Print a notice if the run to resume was computed by something else, whose results have other last bits."""
        before, now = self.state.get("computer"), devices.summary()
        if before is None and os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1":  # which the lab set later than it named computers
            before = "an earlier version of the lab, perhaps without oneDNN"
        if before and before != now:
            files.notice(f"{self.folder} was trained with {before}, and goes on with {now}: the result will not be "
                         "bit-identical to that of an uninterrupted training.")

    @property
    def stages(self):
        """The stages to go through: "frozen" if it has epochs left, and the last one, "frozen" or "finetuned", in any case."""
        wanted = [stage for stage in checkpoints.STAGES if self.state["epochs"][stage]]
        return [stage for stage in wanted
                if stage == wanted[-1] or not checkpoints.finished(self.state, stage)]

    def epochs(self, session, stage, learned):
        """Iterate over the epochs of `stage` that are left, as Epoch objects.

        learned: the variables that training changes. At the start they get the values that were saved, if any were, and
            after each epoch they are saved with `state`, and the curves and the graph for TensorBoard.

        An interrupt finishes the running step, saves, and raises Interrupted.
        """
        iterator = self._epochs(session, stage, learned)
        self._iterators.callback(iterator.close)  # it handles interrupts until it is closed, even if the loop over it failed
        return iterator

    def _epochs(self, session, stage, learned):
        done, count = checkpoints.epochs_done(self.state, stage), self.state["epochs"][stage]
        if stage == "finetuned" and not checkpoints.finished(self.state, stage):
            checkpoints.make_room(self.folder, self.state, learned)
        if self.state["checkpoint"]:
            checkpoints.restore(session, self.folder, self.state, learned if self.state["stage"] == stage else None)
        if self.state["stage"] != stage:
            self.state |= {"stage": stage, "step": 0, "running": [0.0, 0, 0]}
        saver = tf.train.Saver(learned)
        with interrupts.deferred() as interrupted:
            for index in range(done, count):
                if checkpoints.finished(self.state, stage):
                    files.notice(f"The validation loss has not fallen for {self.state['settings']['patience']} epochs: no more "
                                 f"{stage} ones are trained.")
                    break
                yield Epoch(self, session, saver, index, interrupted)
            if number := interrupted():
                raise Interrupted(number)
        if done >= count:
            files.notice(f"No epochs are left to train: all {count} are in {self.folder}.")

    def restore_answering(self, session):
        """Give the variables the values of the best epoch if --keep best asked for it, and return whether they changed."""
        best = self.state["best"]
        if not best or best["checkpoint"] == self.state["checkpoint"]:
            return False
        checkpoints.restore(session, self.folder, self.state)
        files.notice(f"Epoch {best['epoch']} had the lowest validation loss: it is the one that answers.")
        return True


class Epoch:
    """One epoch of a Run.

    index: the number of epochs of this stage before it. number: its number in the whole run, from 1.
    steps: the number of steps in an epoch; step: that of this stage's steps before the running one. `batches` sets both.
    """

    def __init__(self, run, session, saver, index, interrupted):
        self._run, self._session, self._saver, self._interrupted = run, session, saver, interrupted
        self.index, self.number = index, len(run.state["history"]) + 1
        self._start = time.time()

    def batches(self, training):
        """Yield the rows of each batch, int64 [B], out of those of all training photos, int64 [N], in a new random order.

        Steps that were done before an interruption are skipped.
        """
        state = self._run.state
        settings, stage = state["settings"], state["stage"]
        size = settings["batch_size" if stage == "frozen" else "finetune_batch_size"]
        self.steps = steps = -(-len(training) // size)
        random = np.random.RandomState([settings["seed"], checkpoints.STAGES.index(stage), self.index])
        shuffled = random.permutation(training)
        left = range(state["step"], steps)
        for i in progress(left, f"Epoch {self.number}", steps, "step", initial=state["step"]):
            self.step = self.index * steps + i
            yield shuffled[i * size:(i + 1) * size]
            state["step"] = i + 1
            if number := self._interrupted():
                checkpoints.save(self._session, self._saver, self._run.folder, state)
                raise Interrupted(number, f"Interrupted after step {i + 1} of {steps} of epoch {self.number}, which is saved: "
                                          "run the same command with --resume to resume it.")

    def count(self, losses, correct):
        """Add a training step to the epoch's figures, which are means over steps while the variables are still changing.

        losses: float32 [B], of each photo. correct: bool [B], whether it was recognised.

        Raises BadInput when a loss is NaN or infinite.
        """
        state = self._run.state
        if not np.isfinite(losses).all():
            raise BadInput(f"the loss became NaN or infinite at step {state['step'] + 1} of epoch {self.number}: the learning "
                           "rate is too high or the weights are not AlexNet's; what was saved before is still in "
                           f"{self._run.folder}")
        state["running"] = [total + float(new.sum(dtype=np.float64))
                            for total, new in zip(state["running"], (losses, correct, np.ones(len(correct))))]

    def validated(self, logits, labels):
        """End the epoch: save, and print loss and accuracy of `logits`, float32 [M, C], against `labels`, int64 [M]."""
        state, folder = self._run.state, self._run.folder
        validation = evaluation.loss_and_accuracy(logits, labels)
        loss, correct, photos = state["running"]
        state["history"].append({
            "epoch": self.number, "stage": state["stage"],
            "precision": state["settings"]["precision" if state["stage"] == "frozen" else "finetune_precision"],
            "training": {"loss": loss / photos, "accuracy": correct / photos},
            "validation": validation})
        state |= {"step": 0, "running": [0.0, 0, 0]}
        losses = [epoch["validation"]["loss"] for epoch in state["history"] if epoch["stage"] == state["stage"]]
        best = state["settings"]["keep"] == "best" and losses.index(min(losses)) == self.index
        checkpoints.save(self._session, self._saver, folder, state, best)
        _write_events(folder, state["history"][-1], self._session.graph if self.index == 0 else None)
        command_line.result(f"Epoch {self.number}\n"
                            f"Time: {time.time() - self._start:.3f} seconds\n"
                            f"Validation Loss = {validation['loss']:.4f}\n"
                            f"Validation Accuracy = {validation['accuracy']:.4f}\n")
        if number := self._interrupted():
            raise Interrupted(number, f"Interrupted after epoch {self.number}, which is saved: run the same command with "
                                      "--resume to resume it.")


def _write_events(folder, epoch, graph):
    """Write an entry of the history, and the graph if there is one, for TensorBoard: a TFRecord file of Event messages.

    Each epoch has its own file, which training it again replaces. (tf.summary.FileWriter has a thread, which would
    answer a full disk with a traceback.)
    """
    values = [tf.Summary.Value(tag=f"{key}/{split}", simple_value=epoch[split][key])
              for split in ("training", "validation") for key in ("accuracy", "loss")]
    events = [tf.Event(file_version="brain.Event:2"), tf.Event(step=epoch["epoch"], summary=tf.Summary(value=values))]
    if graph:
        events.append(tf.Event(graph_def=graph.as_graph_def().SerializeToString()))
    path = folder / f"events.out.tfevents.{epoch['epoch']:06}"
    try:
        with tf.python_io.TFRecordWriter(str(path)) as file:
            for event in events:
                event.wall_time = time.time()
                file.write(event.SerializeToString())
    except tf.errors.OpError:
        files.notice(f"{path} cannot be written: TensorBoard will not show this epoch.")
