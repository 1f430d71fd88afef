"""python -m lab.network.convert IN OUT.npz: AlexNet's weights, from any file that the lab reads, as an .npz.

`np.load` reads it: float32 arrays conv1_W, conv1_b, ..., fc8_W, fc8_b, in the layout of lab.network.weights.SHAPES.
"""

import argparse

import numpy as np

from lab import command_line, files
from lab.files import BadInput
from lab.network import weights


def main(arguments=None):
    parser = command_line.Parser(description="Write AlexNet's weights, from any file that the lab reads, as an .npz.")
    parser.add_argument("source", metavar="IN", type=command_line.existing("builtin"),
                        help=f"a {weights.FORMATS} file, or builtin: the weights that come with the lab")
    parser.add_argument("target", metavar="OUT.npz", type=_npz, help="the file to write, which must not exist yet")
    args = parser.parse_args(arguments)
    files.check_absent(args.target)
    layers = weights.load(args.source)
    with files.replacing(args.target) as file:
        np.savez(file, **{f"{layer}_{kind}": array for layer, pair in layers.items() for kind, array in zip("Wb", pair)})
        file.flush()
        if weights.fingerprint(weights.load(file.name)) != weights.fingerprint(layers):
            raise BadInput(f"{args.target} was not written correctly: the disk may be faulty; try another one")
    command_line.result(args.target)


def _npz(text):
    if not text.endswith(".npz"):
        raise argparse.ArgumentTypeError(f"{text} must end in .npz")
    return text


if __name__ == "__main__":
    command_line.run(main)
