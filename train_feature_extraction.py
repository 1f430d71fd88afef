"""The lab's last page: train the 43-way layer on GTSRB's photos, everything up to fc7 frozen; then, if asked, AlexNet too."""

from lab import command_line
from lab.training import options


def main(arguments=None):
    args = options.parse(arguments)

    with command_line.quiet_import():  # takes seconds: --help, and a misspelt option or file, have been answered by now
        import tensorflow.compat.v1 as tf

        from alexnet import AlexNet
        from lab import fetch
        from lab.data import drawn_signs, gtsrb
        from lab.network import inference, new_layer, weights
        from lab.network.fast_layers import compiled_lrn, resized_conv, strided_conv
        from lab.network.preprocessing import subtract_mean
        from lab.training import checkpoints, export, kept_features, results
        from lab.training.finetuning import Finetuning
        from lab.training.run import Run

    def export_network(state, alexnet_weights):
        def fc7_of(images):
            resized = tf.image.resize_images(subtract_mean(images), (227, 227))
            return AlexNet(resized, feature_extract=True, weights=alexnet_weights, conv1=strided_conv)

        export.save(args.export, args.model, state, fc7_of, alexnet_weights)

    if options.only_exports(args) and (trained := checkpoints.read(args.model)):
        weights_file = fetch.weights_file(args.weights)
        checkpoints.check_weights(trained, args.model, weights_file)
        return export_network(trained, weights.load(weights_file))

    with Run.open(args.model, args.resume, args.overwrite) as run:
        # Load: features are uint8 [N, 32, 32, 3], labels int64 [N].
        patience = fetch.Patience()
        data_path = fetch.data_path(args.data, patience)
        weights_file = fetch.weights_file(args.weights, patience)
        data = gtsrb.load(data_path) if data_path else drawn_signs.load()
        test = gtsrb.load(args.test, prefer="test") if args.test else None

        # Split: the rows of the photos to train on, and of those to validate with.
        training, validation = gtsrb.split(data, args.split, data_path)

        run.begin(options.settings(args), args.epochs, args.finetune_epochs if args.finetune else 0,
                  gtsrb.identity(data, data_path), weights.identity(weights_file))
        alexnet_weights = weights.load(weights_file)

        answers = {}
        for stage in run.stages:  # "frozen" is the lab's feature extraction; "finetuned" comes after it if asked for
            with tf.Graph().as_default(), tf.Session() as session:
                images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
                labels = tf.placeholder(tf.int64, [None], name="labels")

                # The resize: AlexNet(tf.image.resize_images(signs, (227, 227)), ...) gives the same fc7, as the lab has it.
                # resized_conv computes conv1 of the resized signs from the small ones, and compiled_lrn is a faster lrn.
                signs = tf.cast(subtract_mean(images), args.precision)
                if stage == "frozen":
                    fc7 = AlexNet(signs, feature_extract=True, weights=alexnet_weights, conv1=resized_conv, norm=compiled_lrn)
                    fc7 = tf.stop_gradient(fc7)
                    optimizer = tf.train.AdamOptimizer(args.learning_rate)
                else:
                    optimizer = Finetuning(args.learning_rate, args.pretrained_learning_rate, args.seed)
                    fc7 = AlexNet(signs, feature_extract=True, weights=alexnet_weights, conv1=resized_conv,
                                  dropout=optimizer.dropout)

                # The new layer, its loss, and the training step.
                logits = new_layer.build(fc7, gtsrb.CLASSES, args.seed)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
                train_step = optimizer.minimize(tf.reduce_mean(losses))
                correct = tf.equal(tf.argmax(logits, axis=1), labels)

                session.run(tf.global_variables_initializer())
                if stage == "frozen":  # fc7 never changes: each photo goes through AlexNet once, and the epochs are fed its fc7
                    network = kept_features.fingerprint(fc7, run.state["weights"]["sha256"])
                    compute = session.make_callable(fc7, [images])
                    learned = [v for v in tf.global_variables() if not v.op.name.startswith("alexnet/")]
                    inputs, feed = fc7, lambda epoch: {}

                    def features_of(photos):
                        return kept_features.fc7(compute, photos.features, args.cache, network)
                else:
                    learned, inputs, feed = tf.global_variables(), images, optimizer.feed

                    def features_of(photos):
                        return photos.features

                features = features_of(data)
                for epoch in run.epochs(session, stage, learned):
                    for rows in epoch.batches(training):
                        fed = {inputs: features[rows], labels: data.labels[rows]} | feed(epoch)
                        epoch.count(*session.run([losses, correct, train_step], fed)[:2])
                    answers["validation"] = inference.run(session, logits, inputs, features, "Validation", validation)
                    epoch.validated(answers["validation"], data.labels[validation])

                if not answers:  # no epoch was left to train
                    answers["validation"] = inference.run(session, logits, inputs, features, "Validation", validation)
                if test and stage == run.stages[-1]:
                    answers["test"] = inference.run(session, logits, inputs, features_of(test), "Test photos")

        shown = {"validation": (data.features[validation], data.labels[validation], answers["validation"])}
        if test:
            shown["test"] = test.features, test.labels, answers["test"]
        results.show(run.folder, run.state["history"], shown)
        if args.export:
            export_network(run.state, alexnet_weights)


if __name__ == "__main__":
    command_line.run(main)
