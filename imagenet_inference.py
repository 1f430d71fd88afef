"""The lab's first page: photos go through AlexNet, which names what is in them out of ImageNet's 1000 classes."""

import time

import command_line
from files import BadInput


def main(arguments=None):
    parser = command_line.parser("Name what is in photos, out of ImageNet's 1000 classes, with AlexNet.",
                                 photos="a cat and a cup of coffee from images/")
    parser.add_argument("--top", type=command_line.whole_number(1, 1000), default=5, metavar="N",
                        help="how many classes to print for each photo (default: 5)")
    parser.add_argument("--preprocess", choices=["lab", "caffe"], default="lab",
                        help="lab (default): the largest square in the middle, RGB, minus the photo's own mean; caffe: as "
                             "bvlc-alexnet.npy was trained, for it alone: warped, BGR, minus ImageNet's mean, conv1 VALID")
    args = parser.parse_args(arguments)

    import numpy as np  # here and not above: --help and a wrong file name are answered before TensorFlow's seconds

    import fetch
    import photos
    import weights

    caffe = args.preprocess == "caffe"
    read = photos.read_caffe if caffe else photos.read_imagenet
    features = np.stack([read(path) for path in args.photos or photos.SAMPLES])
    alexnet_weights = weights.load(fetch.weights_file(args.weights))
    if caffe and weights.known_classes(alexnet_weights) < 1000:
        raise BadInput("--preprocess caffe is for bvlc-alexnet.npy: the built-in weights were trained on the lab's RGB photos")
    weights.warn_of_unknown_classes(alexnet_weights)

    with command_line.quiet_import():
        import tensorflow.compat.v1 as tf

        import inference
        from alexnet import AlexNet
        from caffe_classes import class_names
        from preprocessing import preprocess, preprocess_caffe

    prepare, padding = (preprocess_caffe, "VALID") if caffe else (preprocess, "SAME")
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, *features.shape[1:]], name="images")
        probabilities = AlexNet(tf.cast(prepare(images), args.precision), weights=alexnet_weights, conv1_padding=padding,
                                compiled=len(features) > inference.BATCH)  # pays for itself from the second batch on
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            start = time.time()
            answers = inference.run(session, probabilities, images, features)

    inference.print_top(answers, class_names, args.top, args.photos)
    print(f"Time: {time.time() - start:.3f} seconds")


if __name__ == "__main__":
    command_line.run(main)
