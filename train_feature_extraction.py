"""The lab's last page: train the 43-way layer on GTSRB's photos, with everything up to fc7 frozen; then, if asked, all of it."""

from pathlib import Path

import command_line


def main(arguments=None):
    args = _arguments(arguments)

    import fetch  # here and not above: --help and a wrong file name are answered before TensorFlow's seconds
    import files
    import model_folder
    import weights

    if args.export:
        files.check_name(args.export)
        files.check_absent(args.export)
        files.make_folder(Path(args.export).parent)
        if not (args.resume or args.overwrite or args.finetune or args.test) and (trained := model_folder.read(args.model)):
            weights_file = fetch.weights_file(args.weights)
            model_folder.check_weights(trained, args.model, weights_file)
            return _export(args, trained, weights.load(weights_file))
    model = files.make_folder(args.model)
    if args.export:
        files.check_absent(args.export)  # it could be the folder of the model, or above it
    with model_folder.locked(model):
        _train(args, model)


def _train(args, model):
    import fetch
    import files
    import gtsrb
    import model_folder
    import signs
    import weights

    before = None if args.overwrite else model_folder.read(model)
    if before and not args.resume:
        raise files.BadInput(f"{model} holds a trained layer: --resume goes on with it, --overwrite replaces it")
    if args.resume and not before:
        command_line.notice(f"{model} holds no trained layer yet: this is its first training.")

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
    if args.split == "track":
        training, validation = gtsrb.track_split(data.tracks, data_path or "builtin")
    else:
        training, validation = gtsrb.random_split(len(data.labels))
    if not len(training):
        raise files.BadInput(f"{data_path} holds one photo: training and validation need one each")

    settings = {"split": args.split, "batch_size": args.batch_size, "seed": args.seed, "learning_rate": args.learning_rate,
                "precision": args.precision}
    if args.finetune:
        settings |= {"finetune_batch_size": args.finetune_batch_size, "pretrained_learning_rate": args.pretrained_learning_rate}
    state = model_folder.new_state(settings, args.epochs, args.finetune_epochs if args.finetune else 0,
                                   gtsrb.identity(data, data_path), weights.identity(weights_file))
    if before:
        model_folder.check_resumable(before, state, model)
        state = before | {"epochs": state["epochs"], "settings": before["settings"] | settings}
    alexnet_weights = weights.load(weights_file)

    with command_line.quiet_import():
        import finetuning

    if args.split == "random" and data.tracks is not None:
        command_line.notice("The random split puts near copies of one sign, frames of the same track, on both sides, which "
                            "flatters the accuracy; --split track holds out whole tracks.")
    elif args.split == "random" and data_path:
        command_line.notice("If these photos are frames of the same signs, as GTSRB's are, the random split flatters the "
                            "accuracy; which belong together cannot be told from their order.")
    with command_line.interrupted_saying("Interrupted: go on with --resume."):
        if not args.finetune or model_folder.epochs(state, "frozen") < args.epochs:
            answers = _train_layer(args, model, state, alexnet_weights, data, training, validation, test)
        if args.finetune:
            answers = finetuning.train(model, state, args.finetune_epochs, alexnet_weights, data, training, validation, test)
        results = {"validation": (data.features[validation], data.labels[validation], answers[0])}
        if test:
            results["test"] = test.features, test.labels, answers[1]
        _show(model, state, results)
    command_line.notice(f"The trained layer, what it is worth (metrics.json) and pictures of that are in {model}.")
    if args.export:
        _export(args, state, alexnet_weights)


def _train_layer(args, model, state, alexnet_weights, data, training, validation, test):
    """Feature extraction: the logits of the validation and of the test photos (None without) by the trained layer."""
    import tensorflow.compat.v1 as tf

    import cache
    import epochs
    import inference
    import model_folder
    import sign_layer
    from alexnet import AlexNet
    from preprocessing import subtract_mean

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        signs = tf.cast(subtract_mean(images), args.precision)
        fc7 = tf.stop_gradient(AlexNet(signs, feature_extract=True, weights=alexnet_weights, compiled=True))
        logits = sign_layer.build(fc7, args.seed)

        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        train_step = tf.train.AdamOptimizer(args.learning_rate).minimize(tf.reduce_mean(cross_entropy))
        correct = tf.equal(tf.argmax(logits, axis=1), labels)
        learned = [v for v in tf.global_variables() if not v.op.name.startswith("alexnet/")]  # the layer, and Adam's slots

        session.run(tf.global_variables_initializer())
        if state["checkpoint"]:
            model_folder.restore(session, model, state, learned)

        # fc7 never changes, so each photo goes through AlexNet once; from then on the graph is fed its fc7.
        folder = None if args.no_cache else Path(args.cache or model.parent / "cache")
        network = cache.network(fc7, state["weights"]["sha256"])

        def through_alexnet(features, description):
            return cache.fc7(lambda batch: session.run(fc7, {images: batch}), features, folder, network, description)

        remembered = through_alexnet(data.features, "Photos through AlexNet")

        def step(rows, epoch, number):
            return session.run([cross_entropy, correct, train_step], {fc7: remembered[rows], labels: data.labels[rows]})[:2]

        def validate():
            return inference.run(session, logits, fc7, remembered, "Validation", validation), data.labels[validation]

        validated = epochs.run(session, learned, model, state, "frozen", args.epochs, training, step, validate)
        if not test or args.finetune:
            return validated, None
        tested = through_alexnet(test.features, "Test photos through AlexNet")
        return validated, inference.run(session, logits, fc7, tested, "Test photos")


def _show(model, state, results):
    """Print, write and draw what the trained layer makes of photos: {"validation": (features, labels, logits), ...}."""
    from scipy.special import softmax

    import evaluation
    import files
    import plots

    metrics = {split: evaluation.report(logits, labels) for split, (_, labels, logits) in results.items()}
    files.write_json(model / "metrics.json", metrics)
    plots.history(model / "history.png", state["history"])
    for split, (features, labels, logits) in results.items():
        command_line.result(evaluation.describe(split.title(), metrics[split]) + "\n")
        prefix = "" if split == "validation" else "test-"
        plots.confusion(model / f"{prefix}confusion.png", labels, logits.argmax(axis=1))
        plots.mistakes(model / f"{prefix}mistakes.png", features, labels, softmax(logits, axis=1))


def _export(args, state, alexnet_weights):
    import model_folder

    with command_line.quiet_import():
        import tensorflow as tf

        import export
    tf.get_logger().setLevel("ERROR")  # it would warn that SavedModels are made otherwise in TensorFlow 2
    export.save(args.export, args.model, state, alexnet_weights)
    trained = " and ".join(f"{model_folder.epochs(state, stage)} {stage}" for stage in model_folder.STAGES
                           if model_folder.epochs(state, stage))
    command_line.notice(f"The network, after {trained or 'no finished'} epochs, is in {args.export}, for TensorFlow Serving or "
                        "tf.saved_model.load.")


def _arguments(arguments):
    parser = command_line.parser("Train a layer that names 43 traffic signs on top of AlexNet's fc7, which stays frozen.")
    parser.add_argument("--data", default="auto", metavar="auto|builtin|PATH",
                        help="GTSRB's photos: train.p, or a folder or archive of the authors' or Kaggle's copy; builtin: "
                             "signs that the lab draws itself; auto (default): train.p if it is here, else fetched, else builtin")
    parser.add_argument("--split", choices=["random", "track"], default="random",
                        help="the third of the photos that training does not see, to validate with: random (default), as in "
                             "the lab, or whole tracks, which tells the truth about signs that were never met")
    parser.add_argument("--test", metavar="PATH",
                        help="photos that training does not see, to test the finished layer on: test.p, or any other copy "
                             "of GTSRB; the result is also written to metrics.json in the model's folder")
    parser.add_argument("--model", default="model", metavar="DIR",
                        help="the folder for the trained layer, saved after every epoch for feature_extraction.py, and for "
                             "pictures of how good it is (default: model)")
    parser.add_argument("--resume", action="store_true",
                        help="go on with the training in --model where it was interrupted, or with more --epochs")
    parser.add_argument("--overwrite", action="store_true", help="train anew even if --model holds a trained layer")
    parser.add_argument("--cache", metavar="DIR",
                        help="where the fc7 of all photos is kept for the next training (default: cache, beside --model)")
    parser.add_argument("--no-cache", action="store_true", help="keep fc7 in memory only")
    parser.add_argument("--export", metavar="DIR",
                        help="write the trained network to this new folder as a SavedModel, for TensorFlow Serving; if "
                             "--model holds a trained layer this is done without training; it computes in float32")

    group = parser.add_argument_group("how the layer learns")
    group.add_argument("--epochs", type=command_line.whole_number(1), default=10, metavar="N",
                       help="how often to go through the training photos with everything up to fc7 frozen (default: 10)")
    group.add_argument("--batch-size", type=command_line.whole_number(1), default=128, metavar="N",
                       help="training photos to a step (default: 128)")
    group.add_argument("--seed", type=command_line.whole_number(0, 2**31 - 1), default=0, metavar="N",
                       help="moves the fresh layer and the order of the photos, not the split (default: 0)")
    group.add_argument("--learning-rate", type=command_line.rate, default=0.001, metavar="X",
                       help="Adam's, for the new layer (default: 0.001)")

    group = parser.add_argument_group("finetuning, the lab's second method")
    group.add_argument("--finetune", action="store_true",
                       help="after the frozen epochs train all of AlexNet too, end to end: slow, and far better")
    group.add_argument("--finetune-epochs", type=command_line.whole_number(1), default=4, metavar="N",
                       help="how often to go through the training photos then (default: 4)")
    group.add_argument("--finetune-batch-size", type=command_line.whole_number(1), default=32, metavar="N",
                       help="training photos to a step then (default: 32)")
    group.add_argument("--pretrained-learning-rate", type=command_line.rate, default=0.0001, metavar="X",
                       help="Adam's, for the pretrained layers then; it and the new layer's are halved after each of these "
                            "epochs (default: 0.0001)")
    args = parser.parse_args(arguments)
    if args.resume and args.overwrite:
        parser.error("--resume goes on with a training and --overwrite replaces it: say one of them")
    if args.finetune and args.precision != "float32":
        parser.error("--finetune trains AlexNet, for which bfloat16 is too coarse: leave --precision away")
    if args.cache and args.no_cache:
        parser.error("--cache and --no-cache exclude each other: say one of them")
    return args


if __name__ == "__main__":
    command_line.run(main)
