"""The lab's second page: traffic signs go through AlexNet, which names something else. Wrong on purpose."""

import time

from lab import command_line


def main(arguments=None):
    parser = command_line.parser("Name traffic signs out of ImageNet's 1000 classes, none of which is a particular "
                                 "sign: the answers are wrong, which is what this page of the lab shows.",
                                 photos="a stop sign and road works from images/")
    args = parser.parse_args(arguments)

    with command_line.quiet_import():  # TensorFlow takes seconds to import, so the arguments are checked first
        import tensorflow.compat.v1 as tf

        from alexnet import AlexNet
        from caffe_classes import class_names
        from lab import fetch
        from lab.cluster import workers
        from lab.data import photos
        from lab.network import answers, devices, inference, weights
        from lab.network.preprocessing import subtract_mean

    devices.announce()
    paths = photos.find(args.photos) or photos.SAMPLE_SIGNS
    batches = None if args.cluster else photos.batches(paths, photos.read_sign, inference.BATCH)
    weights_file = fetch.weights_file(args.weights)
    alexnet_weights = weights.load(weights_file)
    weights.warn_of_unknown_classes(alexnet_weights)

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        resized = tf.image.resize_images(subtract_mean(images), (227, 227))
        probabilities = AlexNet(tf.cast(resized, args.precision), weights=alexnet_weights)

        session.run(tf.global_variables_initializer())
        start = time.time()
        with workers.connected(args.cluster) as cluster:
            if cluster:
                identity = weights.identity(weights_file, alexnet_weights)
                network = workers.Network(cluster, session, probabilities, images, identity, alexnet_weights)
                answered, _ = network.give(paths, photos.read_sign, class_names, args)
            else:
                given = ((session.run(probabilities, {images: features}), positions) for features, positions in batches)
                answered, _ = answers.give(given, class_names, paths, args)
    print(f"Time: {time.time() - start:.3f} seconds")
    return 1 if answered < len(paths) else 0


if __name__ == "__main__":
    command_line.run(main)
