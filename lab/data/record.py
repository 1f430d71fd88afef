"""The record that every reader of photos returns."""

from typing import Any, NamedTuple, Optional

import numpy as np


class Photos(NamedTuple):
    features: Any  # uint8 [N, size, size, 3], RGB: an array, or PhotoFiles or Resized, which make the rows that are asked for
    labels: np.ndarray  # int64 [N], 0 to len(class_names) - 1
    class_names: list  # of str, in the order of the labels
    tracks: Optional[np.ndarray]  # int64 [N], 1000 * label + number of the track in its class, or None if unknown
