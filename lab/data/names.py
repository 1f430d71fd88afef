"""The names of classes."""

import csv

from lab import files

CLASSES = 43  # of GTSRB


def sign_names():
    """The names of the 43 classes, in order, from signnames.csv."""
    with (files.HERE / "signnames.csv").open(encoding="utf-8", newline="") as file:
        return [row["SignName"] for row in csv.DictReader(file)]
