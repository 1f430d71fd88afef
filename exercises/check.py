"""Check what students have written into the gaps of the exercises, gap by gap, and say what is wrong in the lab's words."""

import argparse
import contextlib
import csv
import importlib.util
import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
LAB = HERE.parent
PRACTISE = LAB / "practise"
TIME_LIMIT = 60  # seconds for one check
ORDER = ("resize", "inference", "fc7_of", "new_layer", "freeze", "extraction", "loss", "train_step", "accuracy", "split",
         "batches", "evaluate", "training")
LISTED = """\
  resize, inference (the whole script),
  fc7_of, new_layer, freeze (fc7_of in the whole graph), extraction (the whole script),
  loss, train_step, accuracy, split, batches, evaluate, training (the whole script)"""

sys.path[:0] = [str(HERE), str(LAB)]

import blank  # noqa: E402

from lab import command_line  # noqa: E402
from lab.files import BadInput, notice  # noqa: E402


def main(arguments=None):
    parser = command_line.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                 epilog="The checks, in the lab's order:\n" + LISTED + "\n\nA student's file is "
                                 "code, and is run: docs/teaching.md says how to lock it in.")
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="a student's folder with the three scripts; of several, "
                        "or with --csv, one line of points each is printed (default: practise, which is made when it is "
                        "absent)")
    parser.add_argument("--only", metavar="CHECK", choices=ORDER, help="run this check alone")
    parser.add_argument("--hint", action="store_true", help="give a hint for the first gap that is not right")
    parser.add_argument("--csv", action="store_true", help="run all checks, and print one line a folder: a point for each "
                        "that is right, their sum, and what is wrong first")
    parser.add_argument("--reset", metavar="GAP", nargs="?", const="all", choices=["all", *ORDER], help="begin again, with "
                        "all of practise or with one gap of it; the old folder is kept under a name with the time")
    args = parser.parse_args(arguments)
    folders = [Path(folder) for folder in args.folders] or [PRACTISE]
    for folder in args.folders:
        if not Path(folder).is_dir():
            raise BadInput(f"{folder} is no folder: name one that holds {', '.join(blank.FILES)}")
    if args.reset and args.folders:
        raise BadInput("--reset begins practise again, and no other folder: leave the folder out")
    if args.reset:
        return reset(args.reset)
    if not args.folders and not PRACTISE.exists():
        copy_exercises()
        notice("The exercises are in practise/: fill in their gaps there, and run this again.")

    with command_line.quiet_import():
        import checks
        import watching

    watching.alexnet_weights()  # made before the processes are, which share them
    names = [args.only] if args.only else ORDER
    if args.csv or len(folders) > 1:
        return print_points(folders, names, checks)
    return print_verdicts(folders[0], names, args.hint, checks)


def print_verdicts(folder, names, hint, checks):
    """Print the verdict of each check until one is not right, and what is wrong there. The exit status: 0 if all are right."""
    shown = None
    for name, kind, sentence in verdicts(folder, names, checks, stop=True):
        file, _, where, help = checks.CHECKS[name]
        if file != shown:
            command_line.result(f"{folder.name}/{file}")
            shown = file
        if kind == "wrong" and any(mark in sentence for mark in (checks.errors.CANNOT_BE_READ, checks.errors.CANNOT_BE_LOADED)):
            command_line.result(f"  {_ended(sentence)}")
            return 1
        label = {"right": "right", "remark": "right, with a remark"}.get(kind, kind)
        if name == "fc7_of" and kind == "right" and "freeze" in names:
            label = "right so far (freeze is checked below)"
        command_line.result(f"  {name:10} {label}" + (f": {_ended(sentence)}" if sentence else ""))
        if kind in ("open", "wrong"):
            help = f"Hint: {help}." if hint else "(make practise HINT=1, or --hint, gives a hint.)"
            command_line.result(f"  {'':10} Read: {where}.\n  {'':10} {help}")
            return 1
    if len(names) == len(ORDER):
        command_line.result("\nEverything is right. Now run the three scripts to see the answers to their "
                            "questions. The last one ends at an accuracy near 0.7: 20 drawn signs a class are few.")
    return 0


def _ended(sentence):
    """`sentence` with one mark at its end, a full stop unless it has another."""
    return sentence if sentence[-1] in ".?!" else sentence.rstrip(" :;,") + "."


def print_points(folders, names, checks):
    """Print a line of points for each of `folders` as CSV."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["folder", *names, "points", "first mistake"])
    for folder in folders:
        found = list(verdicts(folder, names, checks))
        points = [int(kind in ("right", "remark")) for _, kind, _ in found]
        mistake = next((f"{name}: {sentence}" for name, kind, sentence in found if kind in ("open", "wrong")), "")
        table.writerow([folder.resolve().name, *points, sum(points), mistake])
        sys.stdout.flush()
    return 0


def verdicts(folder, names, checks, stop=False):
    """Yield (check, kind, sentence) for each of `names`; `stop` ends it at the first that is not right.

    kind is "right", "remark", "open" or "wrong". Each file is loaded and checked in a process of its own, which is killed
    when a check takes TIME_LIMIT. A single check takes all of the student's functions as they are.
    """
    passed, still_open = set(ORDER if len(names) == 1 else ()), set()
    for file in blank.FILES:
        wanted = [name for name in names if checks.CHECKS[name][0] == file]
        for verdict in _verdicts_on_file(folder.resolve(), file, wanted, passed, still_open, checks):
            yield verdict
            if verdict[1] in ("right", "remark"):
                passed.add(verdict[0])
            elif stop:
                return
            if verdict[1] == "open":
                still_open.add(verdict[0])


def _verdicts_on_file(folder, file, names, passed, still_open, checks):
    if not names:
        return
    if not (folder / file).is_file():
        for name in names:
            yield name, "wrong", f"{file} is missing in {folder.name}: copy it from exercises/ again"
        return
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(False)
    process = context.Process(target=_check_in_process, daemon=True,
                              args=(sender, folder, file, names, passed, still_open, checks))
    process.start()
    sender.close()
    ended = None
    try:
        for name in names:
            if ended is None:
                try:
                    if receiver.poll(TIME_LIMIT):
                        yield receiver.recv()
                        continue
                    ended = f"it has not ended after {TIME_LIMIT} seconds: is there a loop without an end?"
                except EOFError:
                    ended = ("the file ends the program by itself (exit, os._exit or a crash): nothing of it could be checked "
                             "from here on")
            yield name, "wrong", ended
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
        process.kill()
        process.join()
        receiver.close()


def _check_in_process(sender, folder, file, names, passed, still_open, checks):
    """Load the student's `file`, and send the verdict of each of the checks `names`. What the student prints is thrown away."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.setpgrp()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    sys.argv = [file]
    solution = {}
    import watching

    import alexnet  # in this process TensorFlow has been imported before

    alexnet.AlexNet = watching.WatchedAlexNet()
    for name in blank.FILES:
        solution.update({gap: getattr(_load(HERE / "solutions" / name), gap)
                         for gap in blank.gaps((HERE / "solutions" / name).read_text("utf-8"))})
    for name in blank.FILES:
        sys.modules.pop(Path(name).stem)
    sys.path.insert(0, str(folder))
    os.chdir(LAB)
    try:
        module = _load(folder / file)
    except BaseException as error:  # the student's code may raise anything
        sentence = checks.errors.explain(error, folder / file, file)
        if checks.errors.CANNOT_BE_READ not in sentence:
            sentence = file + checks.errors.CANNOT_BE_LOADED + sentence.removeprefix(f"{file}, ")
        for name in names:
            sender.send((name, "wrong", sentence))
        os._exit(0)
    own = {gap: getattr(module, gap) for gap in solution if hasattr(module, gap)}
    student = SimpleNamespace(module=module, folder=folder, own=own, load=lambda name: _load(folder / name))
    for name in names:
        right = passed | {name}
        if name == "freeze":
            right |= {"fc7_of"}
        elif name != "fc7_of" and "freeze" not in passed:
            right -= {"fc7_of"}
        student.functions = solution | {gap: function for gap, function in own.items() if gap in right}
        for gap in own:
            setattr(module, gap, student.functions[gap])
        waits_for = [gap for gap in own if gap in still_open] if name in checks.WHOLE else []
        verdict = ("open", f"not checked yet: {waits_for[0]} comes first") if waits_for else checks.verdict(name, student)
        if verdict[0] in ("right", "remark"):
            passed = passed | {name}
        elif verdict[0] == "open":
            still_open = still_open | {name}
        sender.send((name, *verdict))
    os._exit(0)


def _load(path):
    """The module in the file `path`, under the name by which others in its folder import it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_exercises():
    """Copy the exercises to practise/, which must be absent."""
    unfinished = LAB / f"practise-{os.getpid()}.unfinished"
    unfinished.mkdir()
    for file in blank.FILES:
        shutil.copyfile(HERE / file, unfinished / file)
    unfinished.rename(PRACTISE)


def reset(gap):
    """Rename practise/ to practise-YYYYmmdd-HHMMSS and put the exercises, or only the one `gap`, back. Returns 0."""
    gap = {"freeze": "fc7_of"}.get(gap, gap)
    if gap in ("inference", "extraction", "training"):
        raise BadInput(f"{gap} is a whole script and no gap: name a gap, or none to begin all again")
    if not PRACTISE.exists():
        raise BadInput("practise/ is not there yet: run this without --reset, which makes it")
    kept = PRACTISE.with_name(time.strftime("practise-%Y%m%d-%H%M%S"))
    if kept.exists():
        raise BadInput(f"{kept.name} is there already: wait a second")
    if gap != "all":
        file = next(file for file in blank.FILES if gap in blank.gaps((HERE / file).read_text("utf-8")))
        try:
            source = blank.with_gap_again((PRACTISE / file).read_text("utf-8"), gap, (HERE / file).read_text("utf-8"))
        except (SyntaxError, ValueError, OSError) as error:
            raise BadInput(f"practise/{file} cannot be read as Python, so that no gap is found in it: mend its line "
                           f"{getattr(error, 'lineno', None) or 1}, or begin all again with --reset") from error
        shutil.copytree(PRACTISE, kept)
        (PRACTISE / file).write_text(source, "utf-8")
    else:
        PRACTISE.rename(kept)
        copy_exercises()
    notice(f"{'All gaps are' if gap == 'all' else gap + ' is'} open again; the old folder is {kept.name}/.")
    return 0


if __name__ == "__main__":
    command_line.run(main)
