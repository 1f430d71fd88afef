"""The record that every reader of photos returns."""

from typing import Any, NamedTuple, Optional

import numpy as np


class Photos(NamedTuple):
    # uint8 [N, size, size, 3], RGB: an array, or an object that makes the rows asked for: it has __len__, shape, __getitem__ of
    # an int, a slice or an int array, and digests, a list of N bytes objects that determine the photos
    features: Any
    labels: np.ndarray  # int64 [N], 0 to len(class_names) - 1
    class_names: list  # of str, in the order of the labels
    tracks: Optional[np.ndarray]  # int64 [N], 1000 * label + number of the track in its class, or None if unknown
