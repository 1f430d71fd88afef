"""The options of the training page."""

from pathlib import Path

from lab import command_line, files


def parse(arguments=None):
    """The options in `arguments`, a list of str, by default the command line's. Raises BadInput for wrong ones.

    Besides the options there are `cache`, the folder as a Path or None, and `only_export`: whether nothing but the export
    of a trained network is asked for.
    """
    parser = command_line.parser("Train a layer that names 43 traffic signs on top of AlexNet's fc7, which stays frozen.")
    parser.add_argument("--data", type=command_line.existing("auto", "builtin"), default="auto", metavar="auto|builtin|PATH",
                        help="GTSRB's photos: train.p, or a folder or zip file of the authors', torchvision's, Kaggle's or the "
                             "course's copy; builtin: signs that the lab draws; auto (default): train.p if it is here, else "
                             "fetched, else builtin")
    parser.add_argument("--split", choices=["random", "track", "given"], default="random",
                        help="which third of the photos to validate with, instead of training on it: random (default), as in "
                             "2016, or whole tracks, which shows how well signs are read that training never saw; given: "
                             "validate with the photos of valid.p, and train on all others")
    parser.add_argument("--test", type=command_line.existing(), metavar="PATH",
                        help="test the finished layer on these photos: test.p, or any other copy of GTSRB; the result is also "
                             "written to metrics.json in the model's folder")
    parser.add_argument("--skip-bad", action="store_true",
                        help="leave out photo files of --data and --test that are missing or damaged, and say how many they "
                             "are; without this option one of them ends the training before it begins")
    parser.add_argument("--model", default="model", metavar="DIR",
                        help="the folder for the trained layer, saved after every epoch for feature_extraction.py, and for "
                             "pictures of its results (default: model)")
    parser.add_argument("--resume", action="store_true",
                        help="resume the training in --model where it was interrupted, or with more --epochs; if no "
                             "epochs are left, only test, draw and export")
    parser.add_argument("--overwrite", action="store_true", help="train from the start even if --model holds a trained layer")
    parser.add_argument("--cache", metavar="DIR",
                        help="where to keep the fc7 of all photos for the next run (default: cache, next to --model)")
    parser.add_argument("--no-cache", action="store_true", help="keep fc7 in memory only")
    parser.add_argument("--export", metavar="DIR",
                        help="write the trained network to this new folder as a SavedModel, for TensorFlow Serving; "
                             "without any option for training, that of --model; it computes in float32")

    group = parser.add_argument_group("how the layer learns")
    group.add_argument("--epochs", type=command_line.whole_number(1), default=10, metavar="N",
                       help="number of passes over the training photos with everything up to fc7 frozen (default: 10)")
    group.add_argument("--batch-size", type=command_line.whole_number(1), default=128, metavar="N",
                       help="number of training photos in a step (default: 128)")
    group.add_argument("--seed", type=command_line.whole_number(0, 2**31 - 1), default=0, metavar="N",
                       help="random seed of the fresh layer and of the order of the photos, not of the split (default: 0)")
    group.add_argument("--learning-rate", type=command_line.rate, default=0.001, metavar="X",
                       help="Adam's learning rate for the new layer (default: 0.001)")

    group = parser.add_argument_group("finetuning, the lab's second method")
    group.add_argument("--finetune", action="store_true",
                       help="after the frozen epochs train all of AlexNet too, end to end: slow, and not always better")
    group.add_argument("--finetune-epochs", type=command_line.whole_number(1), default=4, metavar="N",
                       help="number of passes over the training photos while finetuning (default: 4)")
    group.add_argument("--finetune-batch-size", type=command_line.whole_number(1), default=32, metavar="N",
                       help="number of training photos in a finetuning step (default: 32)")
    group.add_argument("--pretrained-learning-rate", type=command_line.rate, default=0.0001, metavar="X",
                       help="Adam's learning rate for the pretrained layers while finetuning; it and the new layer's are "
                            "halved after each of these epochs (default: 0.0001)")
    args = parser.parse_args(arguments)
    if args.resume and args.overwrite:
        parser.error("--resume resumes a training and --overwrite replaces it: choose one of them")
    if args.finetune and args.precision != "float32":
        parser.error("--finetune trains AlexNet, for which bfloat16 is too coarse: drop --precision")
    if args.cache and args.no_cache:
        parser.error("--cache and --no-cache exclude each other: choose one of them")
    args.cache = None if args.no_cache else Path(args.cache or Path(args.model).parent / "cache")
    if args.export:
        files.check_name(args.export)
        files.check_absent(args.export)
        if Path(args.model).resolve().is_relative_to(Path(args.export).resolve()):
            parser.error(f"--export {args.export} would be the folder of --model, or above it: name another one")
        files.make_folder(Path(args.export).parent)
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    args.only_export = args.export is not None and given <= {"export", "model", "weights", "cache"}
    return args


def settings(args):
    """The options that decide what is trained, which must be the same when training resumes: {name: number or str}."""
    names = ["split", "batch_size", "seed", "learning_rate", "precision"]
    if args.finetune:
        names += ["finetune_batch_size", "pretrained_learning_rate"]
    return {name: getattr(args, name) for name in names}
