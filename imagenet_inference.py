"""The lab's first page: photos go through AlexNet, which names what is in them out of ImageNet's 1000 classes."""

import functools
import time

from lab import command_line
from lab.files import BadInput, notice


def main(arguments=None):
    parser = command_line.parser("Name what is in photos, out of ImageNet's 1000 classes, with AlexNet.",
                                 photos="a cat and a cup of coffee from images/")
    parser.add_argument("--top", type=command_line.whole_number(1, 1000), default=5, metavar="N",
                        help="how many classes to print for each photo (default: 5)")
    parser.add_argument("--preprocess", choices=["lab", "caffe"], default="lab",
                        help="lab (default): the largest square in the middle, RGB, minus the photo's own mean; caffe: as "
                             "the published weights were trained, and for these alone: warped, BGR, minus ImageNet's mean, "
                             "conv1 VALID")
    args = parser.parse_args(arguments)

    with command_line.quiet_import():  # TensorFlow takes seconds to import, so the arguments are checked first
        import tensorflow.compat.v1 as tf

        from alexnet import AlexNet, lrn
        from caffe_classes import class_names
        from lab import fetch
        from lab.data import photos
        from lab.network import devices, inference, preprocessing, weights
        from lab.network.fast_layers import compiled_lrn, strided_conv

    devices.announce()
    caffe = args.preprocess == "caffe"
    paths = args.photos or photos.SAMPLES
    features, positions = photos.read_usable(paths, photos.read_caffe if caffe else photos.read_imagenet)
    weights_file = fetch.weights_file(args.weights)
    alexnet_weights = weights.load(weights_file)
    if weights.known_classes(alexnet_weights) == len(class_names):
        notice("Preprocessing: caffe (BGR, minus ImageNet's mean, conv1 VALID), as the published weights were trained; "
               "--preprocess lab is for comparing with the lab." if caffe else
               "Preprocessing: lab (RGB, minus the photo's own mean, conv1 SAME), as in the lab; --preprocess caffe, as the "
               "published weights were trained, is for the best answers.")
    elif caffe:
        raise BadInput(f"--preprocess caffe is for the published weights, not for {weights_file}: these weights were trained "
                       "with the lab's preprocessing; drop it, or give bvlc-alexnet.npy with --weights")
    weights.warn_of_unknown_classes(alexnet_weights)

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, *features.shape[1:]], name="images")
        prepared = preprocessing.caffe(images) if caffe else preprocessing.subtract_mean(images)
        # AlexNet(prepared, weights=...) is the same network, with a slower conv1, and slower norms if there are many photos.
        probabilities = AlexNet(tf.cast(prepared, args.precision), weights=alexnet_weights,
                                conv1=functools.partial(strided_conv, padding="VALID" if caffe else "SAME"),
                                norm=compiled_lrn if len(features) > inference.BATCH and not devices.gpu() else lrn)

        session.run(tf.global_variables_initializer())
        start = time.time()
        answers = inference.run(session, probabilities, images, features)

    inference.print_top(answers, class_names, args.top, args.photos, positions)
    print(f"Time: {time.time() - start:.3f} seconds")
    return 1 if len(positions) < len(paths) else 0


if __name__ == "__main__":
    command_line.run(main)
