"""A training in a model folder: what it resumes, its epochs and batches, and what it saves after each epoch."""

import contextlib
import time

import numpy as np
import tensorflow.compat.v1 as tf

from lab import command_line, files, interrupts
from lab.files import BadInput
from lab.interrupts import Interrupted
from lab.network import new_layer
from lab.progress import progress
from lab.training import checkpoints, evaluation


class Run:
    """A training, from where its model folder stands. The page trains by iterating over it:

        with Run.open("model", resume=True) as run:
            run.begin(settings, frozen=10, finetuned=0, data=..., weights=...)
            ...                                              # the graph, in a session, and its variables that learn
            for epoch in run.epochs(session, "frozen", learned):
                for rows in epoch.batches(training):
                    ...                                      # a training step on these rows
                    epoch.count(losses, correct)
                epoch.validated(logits, labels)

    folder: the model folder, as a Path. state: what checkpoints.read returns, kept up to date; None before `begin` in a
    folder without a model.
    """

    def __init__(self, folder, state):
        self.folder, self.state = folder, state
        self._iterators = contextlib.ExitStack()

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder, resume=False, overwrite=False):
        """Open `folder`, created when missing, and keep other trainings out of it until the end of the `with` block.

        Raises BadInput for a folder that holds a model, unless `resume` or `overwrite` says what to do with it. An
        interrupt leaves the block with a sentence that says what was saved.
        """
        folder = files.make_folder(folder)
        with checkpoints.locked(folder):
            before = None if overwrite else checkpoints.read(folder)
            if before and not resume:
                raise BadInput(f"{folder} holds a trained layer: --resume resumes its training, --overwrite replaces it")
            if resume and not before:
                files.notice(f"{folder} holds no trained layer yet: this is its first training.")
            run = cls(folder, before)
            try:
                with run._iterators:
                    yield run
            except Interrupted as error:
                saved = run.state and run.state["checkpoint"]
                raise Interrupted(error.number, str(error) or (
                    "Interrupted: resume with --resume." if saved else
                    "Interrupted before the first epoch was saved.")) from error

    def begin(self, settings, frozen, finetuned, data, weights):
        """Start the training, or resume it: then raise BadInput, which names the difference, if it was another one.

        The parameters are those of checkpoints.new_state.
        """
        wanted = checkpoints.new_state(settings, frozen, finetuned, data, weights)
        if self.state:
            checkpoints.check_resumable(self.state, wanted, self.folder)
            wanted = self.state | {"epochs": wanted["epochs"], "settings": self.state["settings"] | settings}
        self.state = wanted

    @property
    def stages(self):
        """The stages to go through: "frozen" if it has epochs left, and the last one, "frozen" or "finetuned", in any case."""
        wanted = [stage for stage in checkpoints.STAGES if self.state["epochs"][stage]]
        return [stage for stage in wanted
                if stage == wanted[-1] or checkpoints.epochs_done(self.state, stage) < self.state["epochs"][stage]]

    def epochs(self, session, stage, learned):
        """Iterate over the epochs of `stage` that are left, as Epoch objects.

        learned: the variables that training changes. At the start they get the values that were saved, if any were, and
            after each epoch they are saved with `state`, and the curves and the graph for TensorBoard.

        An interrupt finishes the running step, saves, and raises Interrupted.
        """
        iterator = self._epochs(session, stage, learned)
        self._iterators.callback(iterator.close)  # it handles Ctrl-C until then, also where the loop over it has failed
        return iterator

    def _epochs(self, session, stage, learned):
        done, count = checkpoints.epochs_done(self.state, stage), self.state["epochs"][stage]
        if stage == "finetuned" and done < count:
            checkpoints.make_room(self.folder, self.state, learned)
        if self.state["checkpoint"]:
            saved = learned if self.state["stage"] == stage else new_layer.variables()
            checkpoints.restore(session, self.folder, self.state, saved)
        if self.state["stage"] != stage:
            self.state |= {"stage": stage, "step": 0, "running": [0.0, 0, 0]}
        saver = tf.train.Saver(learned)
        with interrupts.deferred() as interrupted:
            for index in range(done, count):
                yield Epoch(self, session, saver, index, interrupted)


class Epoch:
    """One epoch of a Run.

    index: the number of epochs of this stage before it. number: its number in the whole training, from 1.
    step: the number of steps of this stage before the running one.
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
        steps = -(-len(training) // size)
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
                                          "resume with --resume.")

    def count(self, losses, correct):
        """Add a training step to the epoch's figures. What they say is the mean over steps in which the variables change.

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
        """End the epoch: save, and print what `logits`, float32 [M, classes], are worth for `labels`, int64 [M]."""
        state, folder = self._run.state, self._run.folder
        validation = evaluation.report(logits, labels)
        loss, correct, photos = state["running"]
        state["history"].append({
            "epoch": self.number, "stage": state["stage"],
            "training": {"loss": loss / photos, "accuracy": correct / photos},
            "validation": {"loss": validation["loss"], "accuracy": validation["accuracy"]}})
        state |= {"step": 0, "running": [0.0, 0, 0]}
        checkpoints.save(self._session, self._saver, folder, state)
        _write_events(folder, state["history"][-1], self._session.graph if self.index == 0 else None)
        command_line.result(f"Epoch {self.number}\n"
                            f"Time: {time.time() - self._start:.3f} seconds\n"
                            f"Validation Loss = {validation['loss']:.4f}\n"
                            f"Validation Accuracy = {validation['accuracy']:.4f}\n")
        if number := self._interrupted():
            raise Interrupted(number, f"Interrupted after epoch {self.number}, which is saved: resume with --resume.")


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
