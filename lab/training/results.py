"""What a finished training shows of its layer: figures on the terminal and in metrics.json, pictures, and misread photos."""

import csv
import io

from lab import command_line, files
from lab.training import evaluation, plots


def show(folder, history, answers, class_names):
    """Print the results, and write them and draw them into the model folder `folder`.

    history: the epochs, as in the state of checkpoints.read.
    answers: {"validation": (features, labels, rows, logits)}, and "test" likewise if there are test photos.
        features: uint8 [N, size, size, 3], or a photo_files.PhotoFiles: only the photos that are drawn are read.
        labels: int64 [N]. rows: int64 [M], which of the N photos were answered. logits: float32 [M, C], their answers.
    class_names: a list of C str, in the order of the labels.
    """
    metrics = {split: evaluation.report(logits, labels[rows], class_names)
               for split, (_, labels, rows, logits) in answers.items()}
    for split in metrics:
        command_line.result(evaluation.describe(split.title(), metrics[split]) + "\n")
    files.write_json(folder / "metrics.json", metrics)
    _leave(plots.history, folder / "history.png", history)
    for split, (features, labels, rows, logits) in answers.items():  # the files' names are in checkpoints._RESULTS too
        prefix = "" if split == "validation" else "test-"
        wrong = evaluation.mistakes(logits, labels[rows], rows)
        _leave(write_mistakes, folder / f"{prefix}mistakes.csv", features, wrong, class_names)
        _leave(plots.confusion, folder / f"{prefix}confusion.png", labels[rows], logits.argmax(axis=1), class_names)
        _leave(plots.mistakes, folder / f"{prefix}mistakes.png", features, wrong, len(rows), class_names)
    files.notice(f"The trained layer and its results are in {folder}.")


def write_mistakes(path, features, wrong, class_names):
    """Write the misread photos into the csv file `path`, UTF-8: file, class, read_as and probability of each, in their order.

    features: its `paths`, a list of N file names, are in the column `file`; if it has none, the column is `row`: the number of
        the row in the features, from 0 on.
    wrong: a list of evaluation.Mistake. class_names: a list of str, in the order of the labels.

    A byte of a file's name that is not UTF-8 becomes \\udc and two hexadecimal digits. Raises BadInput when the file cannot be
    written.
    """
    paths = getattr(features, "paths", None)
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["row" if paths is None else "file", "class", "read_as", "probability"])
    table.writerows([mistake.photo if paths is None else paths[mistake.photo], class_names[mistake.label],
                     class_names[mistake.read_as], f"{mistake.probability:.6f}"] for mistake in wrong)
    with files.replacing(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _leave(write, path, *data):
    """Leave a file with `write`. One that cannot be written is a notice: it does not fail a finished training."""
    try:
        write(path, *data)
    except Exception as error:  # matplotlib can fail in many ways: fonts, memory, an odd configuration
        reason = error if isinstance(error, files.BadInput) else f"{path} cannot be drawn: {files.shorten(error)}"
        files.notice(f"{reason}; the model is saved all the same.")
