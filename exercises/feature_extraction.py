"""Exercise 2: a new layer of 43 classes on AlexNet's fc7 names traffic signs. It has not learned anything yet.

Answer these two questions before you run it:

1. The new layer is untrained. What probability will it give its best answer, out of 43?
2. How many numbers will training change, and how many does AlexNet hold up to fc7, which stay as they are?
"""

import sys
from pathlib import Path

sys.path.extend(map(str, Path(__file__).resolve().parents))  # alexnet.py and lab/ are in a folder above

from lab import command_line

with command_line.quiet_import():
    import tensorflow.compat.v1 as tf

    from alexnet import AlexNet
    from lab.data import gtsrb, photos
    from lab.network import inference
    from lab.network import weights as weight_files


def fc7_of(images, weights):
    """AlexNet's fc7, float32 [N, 4096], frozen, of `images`, a uint8 tensor [N, 32, 32, 3]; `weights` are AlexNet's.

    From each image subtract its own mean, one number over its pixels and channels; resize; no gradient may reach AlexNet.
    """
    # TODO: about 5 lines.
    raise command_line.BadInput("fc7_of in feature_extraction.py is still open: fill in its TODO")


def new_layer(fc7):
    """The logits, float32 [N, 43], of a new layer on `fc7`, float32 [N, 4096]: fc7 times weights, plus biases.

    The weights start as small random numbers (standard deviation 0.01), the biases as zeros. The softmax comes later.
    """
    # TODO: about 3 lines.
    raise command_line.BadInput("new_layer in feature_extraction.py is still open: fill in its TODO")


def main(arguments=None):
    command_line.Parser(description=__doc__.split("\n")[0]).parse_args(arguments)
    features = photos.read_all(photos.SAMPLE_SIGNS, photos.read_sign)  # uint8 [2, 32, 32, 3]: a stop sign and road works

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        fc7 = fc7_of(images, weight_files.load())
        alexnet_variables = tf.global_variables()
        probabilities = tf.nn.softmax(new_layer(fc7))

        session.run(tf.global_variables_initializer())
        answers = session.run(probabilities, {images: features})
        frozen = sum(v.shape.num_elements() for v in alexnet_variables)
        learning = sum(v.shape.num_elements() for v in tf.global_variables()) - frozen

    print(f"1. What the untrained layer says, where a pure guess would be 1/43 = {1 / 43:.3f}:\n")
    inference.print_top(answers, gtsrb.sign_names())
    print(f"2. The new layer has {learning:,} numbers to train; AlexNet's {frozen:,} stay as they are once fc7 is frozen.")


if __name__ == "__main__":
    command_line.run(main)
