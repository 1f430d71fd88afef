"""The lab's last page: train the 43-way layer on frozen fc7 features; with --finetune, then train all of AlexNet."""

from lab import command_line
from lab.training import options


def main(arguments=None):
    args = options.parse(arguments)

    with command_line.quiet_import():  # TensorFlow takes seconds to import, so the arguments are checked first
        import tensorflow.compat.v1 as tf

        from alexnet import AlexNet, lrn
        from lab import fetch
        from lab.data import drawn_signs, gtsrb
        from lab.network import devices, inference, new_layer, variables, weights
        from lab.network.fast_layers import compiled_lrn, resized_conv, trained_fc, trained_lrn
        from lab.network.preprocessing import subtract_mean
        from lab.training import checkpoints, export, kept_features, results
        from lab.training.finetuning import Finetuning
        from lab.training.run import Run

    devices.announce()

    if args.only_export and (trained := checkpoints.read(args.model)):
        weights_file = fetch.weights_file(args.weights)
        checkpoints.check_weights(trained, args.model, weights_file)
        return export.save(args.export, args.model, trained, AlexNet, weights.load(weights_file))

    with Run.open(args.model, args.resume, args.overwrite) as run:
        # Load the photos: features are uint8 [N, 32, 32, 3], labels int64 [N].
        data_path, weights_file = fetch.data_and_weights(args.data, args.weights)
        data = gtsrb.load(data_path, skip_bad=args.skip_bad) if data_path else drawn_signs.load()
        test = gtsrb.load(args.test, "test", args.skip_bad) if args.test else None
        if test:
            gtsrb.check_apart(test, args.test, data)

        # Split them: the rows to train on, and those to validate with (--split given adds these to the data).
        data, training, validation = gtsrb.split(data, args.split, data_path)

        run.begin(options.settings(args), args.epochs, args.finetune_epochs if args.finetune else 0,
                  gtsrb.identity(data, data_path, training if args.split == "given" else None), weights.identity(weights_file))
        alexnet_weights = weights.load(weights_file)

        answers = {}
        for stage in run.stages:  # "frozen" is feature extraction; with --finetune, "finetuned" comes after it
            last = stage == run.stages[-1]
            with tf.Graph().as_default(), tf.Session() as session:
                images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
                labels = tf.placeholder(tf.int64, [None], name="labels")

                # The resize: AlexNet(tf.image.resize_images(signs, (227, 227)), ...) gives the same fc7, more slowly.
                # resized_conv computes conv1 of the resized signs from the small ones; compiled_lrn is an lrn for CPUs.
                signs = tf.cast(subtract_mean(images), args.precision)
                if stage == "frozen":
                    fc7 = AlexNet(signs, feature_extract=True, weights=alexnet_weights, conv1=resized_conv,
                                  norm=lrn if devices.gpu() else compiled_lrn)
                    fc7 = tf.stop_gradient(fc7)
                else:  # the gradient reaches every layer; trained_lrn and trained_fc are lrn and fc with faster gradients
                    finetuning = Finetuning(args.learning_rate, args.pretrained_learning_rate, args.seed)
                    with variables.in_float32():
                        fc7 = AlexNet(signs, feature_extract=True, weights=alexnet_weights, conv1=resized_conv,
                                      norm=lrn if devices.gpu() else trained_lrn, fc=trained_fc, dropout=finetuning.dropout)

                # The new layer, its loss, and the training step.
                logits = new_layer.build(fc7, gtsrb.CLASSES, args.seed)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
                loss = tf.reduce_mean(losses)
                correct = tf.equal(tf.argmax(logits, axis=1), labels)
                if stage == "frozen":
                    train_step = tf.train.AdamOptimizer(args.learning_rate).minimize(loss)
                else:
                    train_step = finetuning.minimize(loss)

                session.run(tf.global_variables_initializer())
                inputs, features, test_features = images, data.features, test.features if test and last else None
                learned = tf.global_variables()
                if stage == "frozen":
                    # fc7 never changes: each photo goes through AlexNet once, and from then on the graph is fed its fc7.
                    through_alexnet = session.make_callable(fc7, [images])
                    network = kept_features.fingerprint(fc7, alexnet_weights)
                    inputs, features = fc7, kept_features.fc7(through_alexnet, features, args.cache, network)
                    if test_features is not None:
                        test_features = kept_features.fc7(through_alexnet, test_features, args.cache, network, "Test photos")
                    learned = [v for v in tf.global_variables() if not v.op.name.startswith("alexnet/")]  # and Adam's slots

                for epoch in run.epochs(session, stage, learned):  # resumes; each epoch saves and prints
                    for rows in epoch.batches(training):
                        fed = {inputs: features[rows], labels: data.labels[rows]}
                        if stage == "finetuned":
                            fed |= finetuning.feed(epoch)  # dropout, and how far the learning rates have fallen
                        batch_losses, batch_correct, _ = session.run([losses, correct, train_step], fed)
                        epoch.count(batch_losses, batch_correct)
                    answers["validation"] = inference.run(session, logits, inputs, features, "Validation", validation)
                    epoch.validated(answers["validation"], data.labels[validation])

                if not answers:  # no epochs were left
                    answers["validation"] = inference.run(session, logits, inputs, features, "Validation", validation)
                if test_features is not None:
                    answers["test"] = inference.run(session, logits, inputs, test_features, "Test photos")

        # Results: loss, accuracy, and what was taken for what.
        shown = {"validation": (data.features[validation], data.labels[validation], answers["validation"])}
        if test:
            shown["test"] = test.features, test.labels, answers["test"]
        results.show(run.folder, run.state["history"], shown)
        if args.export:
            export.save(args.export, run.folder, run.state, AlexNet, alexnet_weights)


if __name__ == "__main__":
    command_line.run(main)
