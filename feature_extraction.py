"""The lab's third page: a 43-way layer on AlexNet's fc7 names traffic signs, trained if there is a trained one."""

import time

from lab import command_line, files


def main(arguments=None):
    parser = command_line.parser("Name traffic signs with AlexNet's features and a layer of 43 classes on top of them.",
                                 photos="a stop sign and road works from images/")
    parser.add_argument("--model", default="model", metavar="DIR",
                        help="the folder with the layer that train_feature_extraction.py has trained (default: model); "
                             "without one the layer is fresh, as on this page of the lab, and guesses")
    parser.add_argument("--plot", type=command_line.png, metavar="PNG",
                        help="also draw each photo with its five most probable signs into this picture")
    args = parser.parse_args(arguments)

    with command_line.quiet_import():  # TensorFlow takes seconds to import, so the arguments are checked first
        import tensorflow.compat.v1 as tf

        from alexnet import AlexNet
        from lab import fetch
        from lab.data import gtsrb, photos
        from lab.network import devices, inference, new_layer, weights
        from lab.network.fast_layers import strided_conv
        from lab.network.preprocessing import subtract_mean
        from lab.training import checkpoints

    devices.announce()
    paths = args.photos or photos.SAMPLE_SIGNS
    features, positions = photos.read_usable(paths, photos.read_sign)
    weights_file = fetch.weights_file(args.weights)
    trained = checkpoints.read(args.model)
    alexnet_weights = weights.load(weights_file)
    if trained:
        checkpoints.check_weights(trained, args.model, weights_file, alexnet_weights)
    else:
        files.notice(f"{args.model} holds no trained layer: using an untrained one, which only guesses. Train one with "
                     "train_feature_extraction.py.")

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        resized = tf.image.resize_images(subtract_mean(images), (227, 227))
        # AlexNet(resized, feature_extract=True, weights=...) gives the same fc7, with a slower conv1.
        fc7 = AlexNet(tf.cast(resized, args.precision), feature_extract=True, weights=alexnet_weights, conv1=strided_conv)
        logits = new_layer.build(fc7, gtsrb.CLASSES)
        probabilities = tf.nn.softmax(logits, name="probabilities")

        session.run(tf.global_variables_initializer())
        if trained:
            checkpoints.restore(session, args.model, trained)
        start = time.time()
        answers = inference.run(session, probabilities, images, features)

    inference.print_top(answers, gtsrb.sign_names(), file_names=args.photos, positions=positions)
    print(f"Time: {time.time() - start:.3f} seconds")
    if args.plot:
        from lab.training import plots  # matplotlib takes a second, and is needed for this alone

        plots.answers(args.plot, features, answers, args.photos or None, positions=positions)
    return 1 if len(positions) < len(paths) else 0


if __name__ == "__main__":
    command_line.run(main)
