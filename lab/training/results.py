"""What a finished training shows of its layer: figures on the terminal and in metrics.json, and pictures."""

from scipy.special import softmax

from lab import command_line, files
from lab.training import evaluation, plots


def show(folder, history, answers):
    """Print the results, and write them and draw them into the model folder `folder`.

    history: the epochs, as in the state of checkpoints.read.
    answers: {"validation": (features, labels, logits)}, and "test" likewise if there are test photos: uint8 [N, 32, 32, 3],
        int64 [N], float32 [N, 43].
    """
    metrics = {split: evaluation.report(logits, labels) for split, (_, labels, logits) in answers.items()}
    files.write_json(folder / "metrics.json", metrics)
    plots.history(folder / "history.png", history)
    for split, (features, labels, logits) in answers.items():
        command_line.result(evaluation.describe(split.title(), metrics[split]) + "\n")
        prefix = "" if split == "validation" else "test-"
        plots.confusion(folder / f"{prefix}confusion.png", labels, logits.argmax(axis=1))
        plots.mistakes(folder / f"{prefix}mistakes.png", features, labels, softmax(logits, axis=1))
    files.notice(f"The trained layer, its results (metrics.json) and pictures of them are in {folder}.")
