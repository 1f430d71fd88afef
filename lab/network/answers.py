"""Answers for any number of photos, batch by batch: printed, or written to tables, which are csv files and JSON lines."""

import contextlib
import csv
import io
import json
import sys

from lab import files
from lab.network import inference
from lab.progress import progress


def give(batches, class_names, paths, args):
    """Print the answers for `batches` of photos, or write them to the files args.csv and args.jsonl, each batch as it comes.

    batches: an iterator over pairs: probabilities, float32 [N, len(class_names)], and the photos' positions in `paths` (list of
    str or Path), a list of N ints. args: as parsed by command_line.parser; the names of photos that it does not name, the
    page's own, are not printed.

    Returns how many photos have answers, and the first batch.
    Raises BadInput if a table cannot be written; what it has by then stays in FILE.unfinished, and a line on stderr says so.
    """
    count, done, first = 0, 0, None
    with contextlib.ExitStack() as stack:
        tables = [stack.enter_context(_table(path, form, min(args.top, len(class_names))))
                  for path, form in ((args.csv, csv_lines), (args.jsonl, _json_lines)) if path]
        # On a terminal a bar would run through the printed answers, which show how far the work is themselves.
        shown = stack.enter_context(progress(None, "Images", len(paths))) if tables or not sys.stdout.isatty() else None
        for probabilities, positions in batches:
            if tables:
                rows = [(str(paths[position]), inference.best(row, class_names, args.top, args.threshold))
                        for position, row in zip(positions, probabilities)]
                for append in tables:
                    append(rows)
            else:
                inference.print_top(probabilities, class_names, args.top, args.photos and paths, positions, args.threshold)
                sys.stdout.flush()
            if shown:
                shown.update(positions[-1] + 1 - done)
            count, done = count + len(positions), positions[-1] + 1
            first = first or (probabilities, positions)
    return count, first


@contextlib.contextmanager
def _table(path, form, columns):
    """The table `path`, in one of the forms below: a context manager that yields a function, which appends rows to it."""
    count = 0

    def append(rows):
        nonlocal count
        # A name on Linux may hold bytes that are no UTF-8.
        grow(form(rows, columns, first=count == 0).encode("utf-8", "backslashreplace"))
        count += len(rows)

    try:
        with files.growing(path) as grow:
            yield append
    except BaseException:
        if count:
            files.notice(f"{path}.unfinished has the answers for {count:,} photos.")
        raise
    print(f"{path} has the answers for {count:,} photos.")


def csv_lines(rows, columns, first=False):
    """Lines of a csv file as in RFC 4180, a str: a row for each photo, the `first` below one with the names of the columns.

    rows: pairs of a file's name and its answers, as inference.best has them. columns: how many answers a row has room for.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if first:
        writer.writerow(["file", *(name + number for number in ["", *map(str, range(2, columns + 1))]
                                   for name in ("class", "probability"))])
    for file, answers in rows:
        fields = [field for name, probability in answers for field in (name, _shortest(probability))]
        writer.writerow([file, *fields, *[""] * (2 * columns - len(fields))])  # "unknown" stands alone
    return text.getvalue()


def _json_lines(rows, columns, first):
    return "".join(json.dumps({"file": file, "answers": [{"class": name, "probability": _shortest(probability)}
                                                         for name, probability in answers]}, ensure_ascii=False) + "\n"
                   for file, answers in rows)


def _shortest(probability):
    """A float that is written with as many digits as the float32 `probability` needs, 0.1 and not 0.10000000149011612."""
    return float(str(probability))
