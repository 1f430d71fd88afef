"""The lab's third page: a 43-way layer on AlexNet's fc7 names traffic signs, trained if there is a trained one."""

import time

import command_line


def main(arguments=None):
    parser = command_line.parser("Name traffic signs with AlexNet's features and a layer of 43 classes on top of them.",
                                 photos="a stop sign and road works from images/")
    parser.add_argument("--model", default="model", metavar="DIR",
                        help="the folder with the layer that train_feature_extraction.py has trained (default: model); "
                             "without one the layer is fresh, as on this page of the lab, and guesses")
    parser.add_argument("--plot", type=command_line.png, metavar="PNG",
                        help="also draw each photo with its five most probable signs into this picture")
    args = parser.parse_args(arguments)

    import numpy as np  # here and not above: --help and a wrong file name are answered before TensorFlow's seconds

    import fetch
    import gtsrb
    import model_folder
    import photos
    import weights

    features = np.stack([photos.read_sign(path) for path in args.photos or photos.SAMPLE_SIGNS])
    weights_file = fetch.weights_file(args.weights)
    trained = model_folder.read(args.model)
    if trained:
        model_folder.check_weights(trained, args.model, weights_file)
    else:
        command_line.notice(f"{args.model} holds no trained layer: this one is untrained and only guesses. "
                            "Train one with train_feature_extraction.py.")
    alexnet_weights = weights.load(weights_file)

    with command_line.quiet_import():
        import tensorflow.compat.v1 as tf

        import inference
        import sign_layer
        from alexnet import AlexNet
        from preprocessing import preprocess

    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        resized = tf.cast(preprocess(images), args.precision)
        fc7 = AlexNet(resized, feature_extract=True, weights=alexnet_weights)
        logits = sign_layer.build(fc7)
        probabilities = tf.nn.softmax(logits, name="probabilities")
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            if trained:
                model_folder.restore(session, args.model, trained)
            start = time.time()
            answers = inference.run(session, probabilities, images, features)

    inference.print_top(answers, gtsrb.sign_names(), file_names=args.photos)
    print(f"Time: {time.time() - start:.3f} seconds")
    if args.plot:
        import plots

        plots.answers(args.plot, features, answers, args.photos or None)


if __name__ == "__main__":
    command_line.run(main)
