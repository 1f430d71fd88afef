"""The lab's first page: photos go through AlexNet, which names what is in them out of ImageNet's 1000 classes."""

import functools
import time

from lab import command_line
from lab.files import BadInput, notice


def main(arguments=None):
    parser = command_line.parser("Name what is in photos, out of ImageNet's 1000 classes, with AlexNet.",
                                 photos="a cat and a cup of coffee from images/")
    parser.add_argument("--preprocess", choices=["lab", "caffe"], default="lab",
                        help="lab (default): the largest square in the middle, RGB, minus the photo's own mean; caffe: as "
                             "the published weights were trained, and for these alone: warped, BGR, minus ImageNet's mean, "
                             "conv1 VALID")
    args = parser.parse_args(arguments)

    with command_line.quiet_import():  # TensorFlow takes seconds to import, so the arguments are checked first
        import tensorflow.compat.v1 as tf

        from alexnet import AlexNet
        from caffe_classes import class_names
        from lab import fetch
        from lab.cluster import workers
        from lab.data import photos
        from lab.network import answers, devices, fast_layers, inference, preprocessing, variables, weights

    devices.announce()
    caffe = args.preprocess == "caffe"
    paths = photos.find(args.photos) or photos.SAMPLES
    read_one = photos.read_caffe if caffe else photos.read_imagenet
    batches = None if args.cluster else photos.batches(paths, read_one, inference.BATCH)
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

    with tf.Graph().as_default(), tf.Session() as session, variables.shared():
        side = 256 if caffe else 227
        images = tf.placeholder(tf.uint8, [None, side, side, 3], name="images")
        many = len(paths) > inference.BATCH
        if many and not caffe:
            prepared = fast_layers.subtract_mean(images, args.precision)
        else:
            prepared = preprocessing.caffe(images) if caffe else preprocessing.subtract_mean(images)
        # AlexNet(prepared, weights=...) is the same network, with slower layers.
        layers = fast_layers.for_many(227, args.precision) if many else fast_layers.for_few(args.precision)
        layers["conv1"] = functools.partial(fast_layers.strided_conv, padding="VALID" if caffe else "SAME")
        probabilities = AlexNet(tf.cast(prepared, args.precision), weights=alexnet_weights, **layers)

        session.run(tf.global_variables_initializer())
        start = time.time()
        with workers.connected(args.cluster) as cluster:
            if cluster:
                identity = weights.identity(weights_file, alexnet_weights)
                network = workers.Network(cluster, session, probabilities, images, identity, alexnet_weights)
                answered, _ = network.give(paths, read_one, class_names, args)
            else:
                given = ((session.run(probabilities, {images: features}), positions) for features, positions in batches)
                answered, _ = answers.give(given, class_names, paths, args)
    print(f"Time: {time.time() - start:.3f} seconds")
    return 1 if answered < len(paths) else 0


if __name__ == "__main__":
    command_line.run(main)
