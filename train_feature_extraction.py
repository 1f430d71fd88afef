"""The lab's last page: train a new layer on frozen fc7 features; with --finetune, then train all of AlexNet."""

import functools

from lab import command_line
from lab.files import BadInput
from lab.training import options


def main(arguments=None):
    args = options.parse(arguments)

    with command_line.quiet_import():  # TensorFlow takes seconds to import, so the arguments are checked first
        import numpy as np
        import tensorflow.compat.v1 as tf

        from alexnet import AlexNet
        from lab import fetch
        from lab.cluster import shards, workers
        from lab.data import dataset, splits
        from lab.network import devices, fast_layers, inference, new_layer, variables, weights
        from lab.training import checkpoints, export, kept_features, results
        from lab.training.run import Run
        from lab.training.steps import Steps

    devices.announce()

    trained = checkpoints.read(args.model) if args.only_export else None
    if args.only_export and not trained and args.model != "model":
        raise BadInput(f"{args.model} holds no trained layer to export: check the name, or train one there first")
    if trained:
        weights_file = fetch.weights_file(args.weights, trained=trained["weights"])
        alexnet_weights = weights.load(weights_file)
        checkpoints.check_weights(trained, args.model, weights_file, alexnet_weights)
        return export.save(args.export, args.model, trained, AlexNet, alexnet_weights)

    with Run.open(args.model, args.resume, args.overwrite) as run, workers.connected(args.cluster) as cluster:
        options.complete(args, run.state)

        # Load the photos: features are uint8 [N, size, size, 3], labels int64 [N].
        data_path, weights_file = fetch.data_and_weights(args.data, args.weights, run.state and run.state["weights"])
        data = dataset.load(data_path, "train", args.names, args.size, args.cache, args.skip_bad)
        size = data.features.shape[1]
        class_names = data.class_names if args.names or not run.state else run.state["class_names"]  # named once, and kept
        dataset.announce(data)
        test = None
        if args.test:
            test = dataset.load(args.test, "test", args.names, size, args.cache, args.skip_bad, data.class_names)
            splits.check_apart(test, args.test, data)

        # Split them: the rows to train on, and those to validate with (--split given adds these to the data).
        data, training, validation, split = dataset.split(data, args.split, data_path, args.names, args.cache,
                                                         args.skip_bad)

        alexnet_weights = weights.load(weights_file)
        identity = weights.identity(weights_file, alexnet_weights)
        run.begin(options.settings(args) | {"size": size, "split": split}, args.epochs,
                  args.finetune_epochs if args.finetune else 0,
                  splits.identity(data, data_path, split, training), identity, class_names, weights_file)

        answers = {}
        for stage in run.stages:  # "frozen" is feature extraction; with --finetune, "finetuned" comes after it
            last = stage == run.stages[-1]
            with tf.Graph().as_default(), tf.Session() as session:
                images = tf.placeholder(tf.uint8, [None, size, size, 3], name="images")
                labels = tf.placeholder(tf.int64, [None], name="labels")
                steps = Steps(run, stage)

                # AlexNet(tf.image.resize_images(signs, (227, 227)), ...) gives the same fc7, more slowly: a conv1 for signs
                # computes what the plain one does from the resized signs.
                prepared = fast_layers.subtract_mean(images, args.precision)
                if stage == "frozen":
                    fc7 = AlexNet(prepared, feature_extract=args.layer, weights=alexnet_weights,
                                  **fast_layers.for_many(size, args.precision))
                    fc7 = tf.stop_gradient(new_layer.as_kept(fc7, args.layer))  # or fc6, or pool5
                    unchanging, kept = fc7, args.layer
                else:  # the gradient reaches all layers from --finetune-from on
                    with variables.in_float32():
                        fc7 = AlexNet(prepared, feature_extract=args.layer, weights=alexnet_weights, dropout=steps.dropout,
                                      **fast_layers.for_training(size, len(training)))
                    fc7 = new_layer.as_kept(fc7, args.layer)
                    unchanging, kept = steps.unchanging()

                # The new layer, its loss, and the training step.
                logits = new_layer.build(fc7, len(class_names), args.seed, args.hidden, steps.hidden_dropout)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
                if args.class_weights == "balanced":
                    losses *= tf.gather(splits.class_weights(data.labels[training], len(class_names)), labels)
                loss = tf.reduce_mean(losses)
                correct = tf.equal(tf.argmax(logits, axis=1), labels)
                if stage == "frozen":
                    train_step = tf.train.AdamOptimizer(args.learning_rate * steps.pace).minimize(loss)
                else:
                    train_step = steps.minimize(loss)

                session.run(tf.global_variables_initializer())
                inputs, features, test_features = images, data.features, test.features if test and last else None
                if kept:
                    # fc7 never changes: each photo goes through AlexNet once, and from then on the graph is fed its fc7.
                    if cluster:
                        through_alexnet = workers.Network(cluster, session, unchanging, images, identity, alexnet_weights)
                    else:
                        through_alexnet = session.make_callable(unchanging, [images])
                    if args.shards:
                        outputs = functools.partial(shards.outputs, through_alexnet, args.shards, layer=kept)
                    else:
                        network = inference.fingerprint(unchanging, identity["fingerprint"], cluster and through_alexnet.kind)
                        outputs = functools.partial(kept_features.outputs, through_alexnet, folder=args.cache, network=network,
                                                    layer=kept)
                    inputs, features = unchanging, outputs(features=features)
                    if test_features is not None:
                        test_features = outputs(features=test_features, description="Test photos")

                for epoch in run.epochs(session, stage, steps.learned()):  # resumes; each epoch saves and prints
                    for rows in epoch.batches(training):
                        fed = {inputs: features[rows], labels: data.labels[rows]} | steps.feed(epoch)
                        batch_losses, batch_correct, _ = session.run([losses, correct, train_step], fed)
                        epoch.count(batch_losses, batch_correct)
                    answers["validation"] = inference.run(session, logits, inputs, features, "Validation", validation)
                    epoch.validated(answers["validation"], data.labels[validation])

                if run.restore_answering(session) or not answers:  # --keep best kept an earlier epoch, or none were left
                    answers["validation"] = inference.run(session, logits, inputs, features, "Validation", validation)
                if test_features is not None:
                    answers["test"] = inference.run(session, logits, inputs, test_features, "Test photos")

        # Results: loss, accuracy, and what was taken for what.
        shown = {"validation": (data.features, data.labels, validation, answers["validation"])}
        if test:
            shown["test"] = test.features, test.labels, np.arange(len(test.labels)), answers["test"]
        results.show(run.folder, run.state["history"], shown, class_names)
        if args.export:
            export.save(args.export, run.folder, run.state, AlexNet, alexnet_weights)


if __name__ == "__main__":
    command_line.run(main)
