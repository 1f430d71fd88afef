"""The options of the training page."""

import argparse
import re
from pathlib import Path

from lab import command_line, cpu, files
from lab.files import BadInput
from lab.network.cuts import CUTS, LAYERS

# The options that follow the model when it is resumed, and their defaults: those of the lab. The default of dropout depends.
DEFAULTS = {"layer": "fc7", "hidden": [], "dropout": None, "decay": "none", "class_weights": "none", "keep": "last",
            "patience": None, "batch_size": 128, "seed": 0, "learning_rate": 0.001}
FINETUNING = {"finetune_from": "conv1", "finetune_batch_size": 32, "pretrained_learning_rate": 0.0001}
EPOCHS, FINETUNE_EPOCHS = 10, 4


def parse(arguments=None):
    """The options in `arguments`, a list of str, by default the command line's. Raises BadInput for wrong ones.

    Besides the options there are `cache`, the folder as a Path or None, and `only_export`: whether nothing but the export
    of a trained network is asked for.
    """
    parser = command_line.parser("Train a layer that names 43 traffic signs, or whatever your photos show, on top of AlexNet's "
                                 "fc7, which stays frozen.")
    parser.add_argument("--data", type=command_line.existing("auto", "builtin"), default="auto", metavar="auto|builtin|PATH",
                        help="your photos: a folder or zip file with a folder for each class, a csv file with the "
                             "columns path,label, or a pickle like train.p; or GTSRB's: train.p, or a folder or zip file "
                             "of the authors', torchvision's, Kaggle's or the course's copy; builtin: drawn by the lab; "
                             "auto (default): train.p if it is here, else fetched, else builtin")
    parser.add_argument("--names", type=command_line.existing("gtsrb"), metavar="gtsrb|FILE",
                        help="the names of numbered classes: a csv file with the columns ClassId,SignName, or a text file "
                             "with a name a line; gtsrb: those of GTSRB's 43 signs")
    parser.add_argument("--size", type=int, choices=[32, 227],
                        help="the pixels on each side of a photo: 32 for traffic signs, squeezed whole; 227, the size AlexNet "
                             "sees, for all others: the largest square in the middle (default: what fits --data)")
    parser.add_argument("--split", choices=["random", "track", "given"],
                        help="which photos to validate with, instead of training on them: random, a third, as in 2016; track: "
                             "whole tracks, which shows how well signs are read that training never saw; given: those of "
                             "valid.p or of a folder like valid/ (default: given for a folder that has one, else random)")
    parser.add_argument("--test", type=command_line.existing(), metavar="PATH",
                        help="test the finished layer on these photos, of the same classes as --data: anything that --data "
                             "takes; the result is also written to metrics.json in the model's folder")
    parser.add_argument("--skip-bad", action="store_true",
                        help="leave out photo files of --data and --test that are missing or damaged, and say how many they "
                             "are; without this option one of them ends the training before it begins")
    parser.add_argument("--model", default="model", metavar="DIR",
                        help="the folder for the trained layer, saved after every epoch for feature_extraction.py, and for "
                             "pictures of its results (default: model)")
    parser.add_argument("--resume", action="store_true",
                        help="resume the training in --model where it was interrupted, or with more --epochs; if no "
                             "epochs are left, only test, draw and export; what is not given is as in that training, but for "
                             "--data, --test and --precision")
    parser.add_argument("--overwrite", action="store_true", help="train from the start even if --model holds a trained layer")
    parser.add_argument("--cache", metavar="DIR",
                        help="where to keep what the frozen layers make of the photos, for the next run (default: cache, "
                             "next to --model)")
    parser.add_argument("--no-cache", action="store_true", help="keep it in memory only")
    parser.add_argument("--export", metavar="DIR",
                        help="write the trained network to this new folder as a SavedModel, for TensorFlow Serving; "
                             "without any option for training, that of --model; it computes in float32")

    group = parser.add_argument_group("the new layer")
    group.add_argument("--layer", choices=CUTS,
                       help="the layer of AlexNet that the new one follows: fc7 (default), as in the lab; pool5, before the "
                            "layers that know ImageNet's classes, is often better for photos that are unlike ImageNet's")
    group.add_argument("--hidden", type=_sizes, metavar="N[,N...]",
                       help="a small feedforward network instead of one layer: hidden layers of these sizes come first, as in "
                            "512 or 512,256; 0 (default): none")
    group.add_argument("--dropout", type=_fraction, metavar="P",
                       help="the fraction of each hidden layer that training drops at random in each step (default: 0.5)")

    group = parser.add_argument_group("how the layer learns")
    group.add_argument("--epochs", type=command_line.whole_number(1), metavar="N",
                       help="number of passes over the training photos with everything up to --layer frozen (default: 10)")
    group.add_argument("--batch-size", type=command_line.whole_number(1), metavar="N",
                       help="number of training photos in a step (default: 128)")
    group.add_argument("--seed", type=command_line.whole_number(0, 2**31 - 1), metavar="N",
                       help="random seed of the fresh layer and of the order of the photos, not of the split (default: 0)")
    group.add_argument("--learning-rate", type=command_line.rate, metavar="X",
                       help="Adam's learning rate for the new layer (default: 0.001)")

    group.add_argument("--decay", choices=["none", "cosine"],
                       help="cosine: let the learning rate fall to zero over the epochs, along half a cosine (default: none)")
    group.add_argument("--class-weights", choices=["none", "balanced"],
                       help="balanced: photos of rare classes count for more, so that each class counts the same (default: "
                            "none)")
    group.add_argument("--keep", choices=["last", "best"],
                       help="which epoch's layer answers in the end: the last (default), or the one with the lowest validation "
                            "loss")
    group.add_argument("--patience", type=command_line.whole_number(1), metavar="N",
                       help="stop when the validation loss has not fallen for N epochs (default: never)")

    group = parser.add_argument_group("finetuning, the lab's second method")
    group.add_argument("--finetune", action="store_true",
                       help="after the frozen epochs train all of AlexNet too, end to end: slow, and not always better")
    group.add_argument("--finetune-from", choices=LAYERS, metavar="|".join(LAYERS),
                       help="finetune only the layers from this one on (default: conv1, all)")
    group.add_argument("--finetune-epochs", type=command_line.whole_number(1), metavar="N",
                       help="number of passes over the training photos while finetuning (default: 4)")
    group.add_argument("--finetune-batch-size", type=command_line.whole_number(1), metavar="N",
                       help="number of training photos in a finetuning step (default: 32)")
    group.add_argument("--pretrained-learning-rate", type=command_line.rate, metavar="X",
                       help="Adam's learning rate for the pretrained layers while finetuning; it and the new layer's are "
                            "halved after each of these epochs (default: 0.0001)")
    args = parser.parse_args(arguments)
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    args.only_export = args.export is not None and given <= {"export", "model", "weights", "cache"}
    if args.resume and args.overwrite:
        parser.error("--resume resumes a training and --overwrite replaces it: choose one of them")
    if args.cache and args.no_cache:
        parser.error("--cache and --no-cache exclude each other: choose one of them")
    args.cache = None if args.no_cache else Path(args.cache or Path(args.model).parent / "cache")
    if args.export:
        files.check_name(args.export)
        files.check_absent(args.export)
        if Path(args.model).resolve().is_relative_to(Path(args.export).resolve()):
            parser.error(f"--export {args.export} would be the folder of --model, or above it: name another one")
        files.make_folder(Path(args.export).parent)
    return args


def complete(args, state):
    """Set the options in `args` that were not given: to those of the model with `state` (checkpoints.read), which is resumed;
    to the defaults if that is None. The size and the split stay None, which means that they depend on the photos.

    Raises BadInput for options that do not fit together, and if the photos of the model must be named.
    """
    from lab.data import gtsrb  # not above: it imports NumPy, which --help does not need

    settings = state["settings"] if state else {}
    epochs = state["epochs"] if state else {"frozen": EPOCHS, "finetuned": 0}
    if state and args.data == "auto" and state["data"]["name"] not in ("builtin", *gtsrb.TRAINING):
        raise BadInput(f"the model in {args.model} was trained on {state['data']['name']}: name these photos with --data")
    args.finetune = args.finetune or epochs["finetuned"] > 0
    if args.finetune and args.precision == "bfloat16" and not cpu.has_bfloat16():
        raise BadInput("--finetune in bfloat16 needs a CPU with instructions for it (avx512_bf16 or amx_bf16 in "
                       "/proc/cpuinfo), which this one is not known to have, and would be slower than float32: drop "
                       "--precision")
    lone = [name for name in (*FINETUNING, "finetune_epochs") if getattr(args, name) is not None and not args.finetune]
    if lone:
        raise BadInput(f"--{lone[0].replace('_', '-')} is for finetuning: give --finetune too")
    dropout = args.dropout
    for name, default in (DEFAULTS | FINETUNING | {"size": None, "split": None}).items():
        if getattr(args, name) is None:
            setattr(args, name, settings.get(name, default))
    if args.epochs is None:
        args.epochs = epochs["frozen"]
    if args.finetune_epochs is None:
        args.finetune_epochs = epochs["finetuned"] or FINETUNE_EPOCHS
    if not args.hidden:
        if dropout:
            raise BadInput("--dropout is for hidden layers: give --hidden too")
        args.dropout = 0.0
    elif args.dropout is None:
        args.dropout = 0.5
    if args.finetune_from > args.layer.replace("pool", "conv"):  # in alphabetical order, as the layers' names are
        raise BadInput(f"--finetune-from {args.finetune_from} lies behind --layer {args.layer}: name a layer up to that one")


def settings(args):
    """The options that decide what is trained, which must be the same when training resumes: {name: what JSON holds}.

    The page adds "split" and "size", whose defaults depend on the photos.
    """
    names = [*DEFAULTS, "finetune_from", "precision"]
    if args.finetune:
        names += FINETUNING
    chosen = {name: getattr(args, name) for name in names}
    return chosen | {"finetune_precision": args.precision} if args.finetune else chosen


def _sizes(text):
    """An argparse type: the sizes of hidden layers, at most five; "0" for none."""
    sizes = text.split(",")
    if text == "0":
        return []
    if len(sizes) > 5 or not all(re.fullmatch("[1-9][0-9]{0,4}", size) for size in sizes):
        raise argparse.ArgumentTypeError(f"'{text}' is neither 0 nor up to five sizes from 1 to 99999, such as 512 or 512,256")
    return [int(size) for size in sizes]


def _fraction(text):
    """An argparse type: a fraction from 0 up to, but not including, 1."""
    try:
        number = float(text)
    except ValueError:
        number = 1.0
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to below 1")
    return number
