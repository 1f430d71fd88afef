"""The lab's third page: a 43-way layer on AlexNet's fc7 names traffic signs, trained if there is a trained one."""

import time

from lab import command_line, files
from lab.files import BadInput


def main(arguments=None):
    parser = command_line.parser("Name traffic signs, or whatever the layer in --model was trained on, with AlexNet's features "
                                 "and that layer on top of them.", photos="a stop sign and road works from images/")
    parser.add_argument("--model", default="model", metavar="DIR",
                        help="the folder with the layer that train_feature_extraction.py has trained (default: model); "
                             "without one the layer is fresh, as on this page of the lab, and guesses")
    parser.add_argument("--plot", type=command_line.png, metavar="PNG",
                        help="also draw each photo with its five most probable classes into this picture")
    args = parser.parse_args(arguments)
    if args.plot and args.shards:
        parser.error("--plot draws answers that --shards leaves to the workers: choose one of them")

    with command_line.quiet_import():  # TensorFlow takes seconds to import, so the arguments are checked first
        import tensorflow.compat.v1 as tf

        from alexnet import AlexNet
        from lab import fetch
        from lab.cluster import workers
        from lab.data import names, photos
        from lab.network import answers, devices, fast_layers, inference, new_layer, variables, weights
        from lab.network.preprocessing import subtract_mean
        from lab.training import checkpoints

    devices.announce()
    paths = photos.find(args.photos) or photos.SAMPLE_SIGNS
    trained = checkpoints.read(args.model)
    settings = trained["settings"] if trained else {"layer": "fc7", "hidden": [], "size": 32}
    class_names, size = trained["class_names"] if trained else names.sign_names(), settings["size"]
    if not args.photos and size > 32:
        raise BadInput(f"the layer in {args.model} was trained on other photos than the lab's own, two traffic signs of 32x32 "
                       "pixels: name photos of yours")
    read_one = photos.read_sign if size == 32 else photos.read_imagenet
    batches = None if args.cluster else photos.batches(paths, read_one, inference.BATCH)
    weights_file = fetch.weights_file(args.weights, trained=trained and trained["weights"])
    alexnet_weights = weights.load(weights_file)
    if trained:
        checkpoints.check_weights(trained, args.model, weights_file, alexnet_weights)
    else:
        files.notice(f"{args.model} holds no trained layer: using an untrained one, which only guesses. Train one with "
                     "train_feature_extraction.py.")

    with tf.Graph().as_default(), tf.Session() as session, variables.shared():
        images = tf.placeholder(tf.uint8, [None, size, size, 3], name="images")
        resized = tf.image.resize_images(subtract_mean(images), (227, 227))
        # AlexNet(resized, feature_extract="fc7", weights=...) gives the same fc7, with slower layers.
        fc7 = AlexNet(tf.cast(resized, args.precision), feature_extract=settings["layer"], weights=alexnet_weights,
                      conv1=fast_layers.strided_conv, **fast_layers.for_few(args.precision))
        fc7 = new_layer.as_kept(fc7, settings["layer"])  # or fc6, or pool5: where the layer was trained
        logits = new_layer.build(fc7, len(class_names), hidden=settings["hidden"])
        probabilities = tf.nn.softmax(logits, name="probabilities")

        session.run(tf.global_variables_initializer())
        if trained:
            checkpoints.restore(session, args.model, trained)
        start = time.time()
        with workers.connected(args.cluster) as cluster:
            if cluster:
                identity = weights.identity(weights_file, alexnet_weights)
                network = workers.Network(cluster, session, probabilities, images, identity, alexnet_weights)
                answered, first = network.give(paths, read_one, class_names, args)
            else:
                given = ((session.run(probabilities, {images: features}), positions) for features, positions in batches)
                answered, first = answers.give(given, class_names, paths, args)
    print(f"Time: {time.time() - start:.3f} seconds")
    if args.plot:
        from lab.training import plots  # matplotlib takes a second, and is needed for this alone

        probabilities, positions = first
        features = photos.read_all([paths[position] for position in positions], read_one)
        plots.answers(args.plot, features, probabilities, class_names, paths if args.photos else None, positions=positions,
                      count=answered)
    return 1 if answered < len(paths) else 0


if __name__ == "__main__":
    command_line.run(main)
