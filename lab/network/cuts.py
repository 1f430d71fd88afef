"""The layers of AlexNet that a new layer can follow, and how the outputs of layers that stay as they are are kept on disk."""

from typing import NamedTuple

LAYERS = "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"  # with weights, below a new layer
CUTS = "fc7", "fc6", "pool5"


class Kept(NamedTuple):
    width: int  # numbers in a photo's output of the layer
    dtype: str


# pool5, the widest cut, is kept in half precision, which loses no accuracy (docs/own-photos.md), and every graph with that cut
# rounds it (new_layer.as_kept). flat5 is pool5 below finetuned layers, where no graph rounds it.
KEPT = {"pool5": Kept(9216, "float16"), "flat5": Kept(9216, "float32"),
        "fc6": Kept(4096, "float32"), "fc7": Kept(4096, "float32")}

# The last layer below a finetuned one, where nothing is random below it and its output is worth keeping.
BELOW = {"fc6": "flat5", "fc7": "fc6"}
