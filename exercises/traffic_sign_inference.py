"""Exercise 1: traffic signs go through AlexNet, which knows none.

Answer these two questions before you run it:

1. What will the network say of a stop sign, and what of road works?
2. None of its 1000 classes is a traffic sign. How sure will it be of its best answer?
"""

import sys
from pathlib import Path

sys.path.extend(map(str, Path(__file__).resolve().parents))  # alexnet.py and lab/ are in a folder above

from lab import command_line

with command_line.quiet_import():
    import tensorflow.compat.v1 as tf

    from alexnet import AlexNet
    from caffe_classes import class_names
    from lab.data import photos
    from lab.network import inference
    from lab.network import weights as weight_files
    from lab.network.preprocessing import subtract_mean


def resize(signs):
    """AlexNet's input, float32 [N, 227, 227, 3], from `signs`, a float32 tensor [N, 32, 32, 3]: bilinear, in the graph.

    Use TensorFlow 1's resize with its defaults: no aligned corners, no half-pixel centres.
    """
    # TODO: about 2 lines.
    raise command_line.BadInput("resize in traffic_sign_inference.py is still open: fill in its TODO")


def main(arguments=None):
    command_line.Parser(description=__doc__.split("\n")[0]).parse_args(arguments)
    features = photos.read_all(photos.SAMPLE_SIGNS, photos.read_sign)  # uint8 [2, 32, 32, 3]: a stop sign and road works

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        probabilities = AlexNet(resize(subtract_mean(images)), weights=weight_files.load())  # [N, 1000]

        session.run(tf.global_variables_initializer())
        answers = session.run(probabilities, {images: features})

    print("1. What the network says of a stop sign (image 0) and of road works (image 1):\n")
    inference.print_top(answers, class_names)
    print("2. How sure it is of its best answers:", *(f"{best:.0%}" for best in answers.max(axis=1)))


if __name__ == "__main__":
    command_line.run(main)
