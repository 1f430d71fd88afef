"""The layers at which AlexNet can be cut, for a new layer to follow, and how their outputs are kept on disk."""

from typing import NamedTuple

import numpy as np


class Cut(NamedTuple):
    width: int  # numbers in a photo's output of the layer
    dtype: np.dtype  # in which they are kept


# Half precision loses no accuracy for pool5 (docs/accuracy.md), the widest of the three, and halves it.
CUTS = {"pool5": Cut(9216, np.dtype("<f2")), "fc6": Cut(4096, np.dtype("<f4")), "fc7": Cut(4096, np.dtype("<f4"))}
