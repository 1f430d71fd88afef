"""What a finished training shows of its layer: figures on the terminal and in metrics.json, and pictures."""

from scipy.special import softmax

from lab import command_line, files
from lab.training import evaluation, plots


def show(folder, history, answers, class_names=None):
    """Print the results, and write them and draw them into the model folder `folder`.

    history: the epochs, as in the state of checkpoints.read.
    answers: {"validation": (features, labels, logits)}, and "test" likewise if there are test photos: uint8 [N, 32, 32, 3],
        int64 [N], float32 [N, 43].
    """
    metrics = {split: evaluation.report(logits, labels) for split, (_, labels, logits) in answers.items()}
    for split in metrics:
        command_line.result(evaluation.describe(split.title(), metrics[split]) + "\n")
    files.write_json(folder / "metrics.json", metrics)
    _draw(plots.history, folder / "history.png", history)
    for split, (features, labels, logits) in answers.items():
        prefix = "" if split == "validation" else "test-"
        _draw(plots.confusion, folder / f"{prefix}confusion.png", labels, logits.argmax(axis=1))
        _draw(plots.mistakes, folder / f"{prefix}mistakes.png", features, labels, softmax(logits, axis=1))
    files.notice(f"The trained layer and its results are in {folder}.")


def _draw(picture, path, *data):
    """Draw a picture. One that cannot be drawn is a notice: it does not fail a finished training."""
    try:
        picture(path, *data)
    except Exception as error:  # matplotlib can fail in many ways: fonts, memory, an odd configuration
        reason = error if isinstance(error, files.BadInput) else f"{path} cannot be drawn: {files.shorten(error)}"
        files.notice(f"{reason}; the model is saved all the same.")
