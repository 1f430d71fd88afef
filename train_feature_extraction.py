"""The lab's last page: train the 43-way layer on GTSRB's photos, with everything up to fc7 frozen."""

import time

import command_line


def main(arguments=None):
    parser = command_line.parser("Train a layer that names 43 traffic signs on top of AlexNet's fc7, which stays frozen.")
    parser.add_argument("--data", default="auto", metavar="auto|builtin|PATH",
                        help="GTSRB's photos: train.p, or a folder or archive of the authors' or Kaggle's copy; builtin: "
                             "signs that the lab draws itself; auto (default): train.p if it is here, else fetched, else builtin")
    parser.add_argument("--test", metavar="PATH",
                        help="photos that training does not see, to test the finished layer on: test.p, or any other copy "
                             "of GTSRB; the result is also written to metrics.json in the model's folder")
    parser.add_argument("--epochs", type=command_line.whole_number(1), default=10, metavar="N",
                        help="how often to go through the training photos (default: 10)")
    parser.add_argument("--batch-size", type=command_line.whole_number(1), default=128, metavar="N",
                        help="training photos to a step (default: 128)")
    parser.add_argument("--seed", type=command_line.whole_number(0, 2**31 - 1), default=0, metavar="N",
                        help="moves the fresh layer and the order of the photos, not the split (default: 0)")
    parser.add_argument("--model", default="model", metavar="DIR",
                        help="the folder to save the trained layer in, for feature_extraction.py (default: model)")
    args = parser.parse_args(arguments)

    import numpy as np  # here and not above: --help and a wrong file name are answered before TensorFlow's seconds
    from tqdm import tqdm

    import fetch
    import files
    import gtsrb
    import signs
    import weights

    patience = fetch.Patience()
    data_path = fetch.data_path(args.data, patience)
    weights_file = fetch.weights_file(args.weights, patience)
    test = gtsrb.load(args.test, prefer="test") if args.test else None
    if data_path:
        data = gtsrb.load(data_path)
    else:
        data = gtsrb.Photos(*signs.render(signs.COUNT, seed=0), tracks=None)
        command_line.notice(f"Training and validating on {len(data.labels)} signs that the lab has drawn, {signs.COUNT} of "
                            "each class: real photos are harder.")
    training, validation = gtsrb.random_split(len(data.labels))
    if not len(training):
        raise files.BadInput(f"{data_path} holds one photo: training and validation need one each")
    model_folder = files.make_folder(args.model)
    weights_identity = weights.identity(weights_file)
    alexnet_weights = weights.load(weights_file)

    with command_line.quiet_import():
        import tensorflow.compat.v1 as tf

        import inference
        import sign_layer
        from alexnet import AlexNet
        from preprocessing import preprocess

    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        resized = preprocess(images)
        fc7 = tf.stop_gradient(AlexNet(resized, feature_extract=True, weights=alexnet_weights))
        logits = sign_layer.build(fc7, args.seed)

        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        train_step = tf.train.AdamOptimizer().minimize(tf.reduce_mean(cross_entropy))
        correct = tf.equal(tf.argmax(logits, axis=1), labels)

        with tf.Session() as session:
            session.run(tf.global_variables_initializer())

            # fc7 never changes, so each photo goes through AlexNet once; from then on the graph is fed its fc7.
            start = time.time()
            remembered = inference.run(session, fc7, images, data.features, "Photos through AlexNet")
            seconds = time.time() - start
            command_line.notice(f"{len(remembered)} photos went through AlexNet, once each: {seconds:.1f} seconds, "
                                f"{len(remembered) / seconds:.0f} photos/s")

            def evaluate(photos_fc7, photos_labels):
                losses, hits = session.run([cross_entropy, correct], {fc7: photos_fc7, labels: photos_labels})
                return {"photos": len(hits), "loss": float(losses.mean()), "accuracy": float(hits.mean())}

            order = np.random.RandomState(args.seed)
            for epoch in range(args.epochs):
                start = time.time()
                shuffled = order.permutation(training)
                for i in tqdm(range(0, len(shuffled), args.batch_size), "Training", disable=None, leave=False):
                    batch = shuffled[i:i + args.batch_size]
                    session.run(train_step, {fc7: remembered[batch], labels: data.labels[batch]})

                metrics = {"validation": evaluate(remembered[validation], data.labels[validation])}
                command_line.result(f"Epoch {epoch + 1}\n"
                                    f"Time: {time.time() - start:.3f} seconds\n"
                                    f"Validation Loss = {metrics['validation']['loss']:.4f}\n"
                                    f"Validation Accuracy = {metrics['validation']['accuracy']:.4f}\n")

            sign_layer.save(session, model_folder, weights_identity)
            files.write_json(model_folder / "metrics.json", metrics)
            command_line.notice(f"The trained layer is in {model_folder}.")

            if test:
                tested = inference.run(session, fc7, images, test.features, "Test photos through AlexNet")
                metrics["test"] = evaluate(tested, test.labels)
                command_line.result(f"Test Loss = {metrics['test']['loss']:.4f}\n"
                                    f"Test Accuracy = {metrics['test']['accuracy']:.4f}\n")
                files.write_json(model_folder / "metrics.json", metrics)


if __name__ == "__main__":
    command_line.run(main)
