"""The lab's second page: traffic signs go through AlexNet, which knows none and names something else. Wrong on purpose."""

import time

import command_line


def main(arguments=None):
    parser = command_line.parser("Name traffic signs out of ImageNet's 1000 classes, among which there are no such "
                                 "signs: the answers are wrong, which is what this page of the lab shows.",
                                 photos="a stop sign and road works from images/")
    args = parser.parse_args(arguments)

    import numpy as np  # here and not above: --help and a wrong file name are answered before TensorFlow's seconds

    import fetch
    import photos
    import weights

    features = np.stack([photos.read_sign(path) for path in args.photos or photos.SAMPLE_SIGNS])
    alexnet_weights = weights.load(fetch.weights_file(args.weights))
    weights.warn_of_unknown_classes(alexnet_weights)

    with command_line.quiet_import():
        import tensorflow.compat.v1 as tf

        import inference
        from alexnet import AlexNet
        from caffe_classes import class_names
        from preprocessing import preprocess

    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        resized = tf.cast(preprocess(images), args.precision)
        probabilities = AlexNet(resized, weights=alexnet_weights)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            start = time.time()
            answers = inference.run(session, probabilities, images, features)

    inference.print_top(answers, class_names, file_names=args.photos)
    print(f"Time: {time.time() - start:.3f} seconds")


if __name__ == "__main__":
    command_line.run(main)
