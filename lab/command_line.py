"""What the scripts' command lines have in common: arguments, notices, and how a run ends."""

import argparse
import contextlib
import os
import signal
import sys

from lab.files import BadInput, notice


def parser(description, photos=None):
    """An ArgumentParser with --weights, and with PHOTO ... if `photos` (str) says which photos are the default."""
    parser = Parser(description=description)
    if photos:
        parser.add_argument("photos", metavar="PHOTO", nargs="*",
                            help=f"photos to classify: PNG, JPEG, WebP, BMP, GIF, TIFF or PPM (default: {photos})")
    parser.add_argument("--weights", type=existing("auto", "builtin"), default="auto", metavar="auto|builtin|PATH",
                        help="AlexNet's weights: a .npy or .npz file; builtin: the compact ones that the lab ships; "
                             "auto (default): bvlc-alexnet.npy if it is here, else fetched, else builtin; with "
                             "LAB_OFFLINE=1 in the environment nothing is fetched")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32",
                        help="what AlexNet computes in: float32 (default), or bfloat16, which is faster on CPUs with "
                             "instructions for it (avx512_bf16, amx_bf16), slower on others, and nearly as accurate")
    return parser


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake as every other one is answered: in one sentence, from `run`."""

    def parse_args(self, args=None, namespace=None):
        """The arguments. Photos are looked for last: of `--topp 5`, `--topp` is what is wrong, and not the photo `5`."""
        args = super().parse_args(args, namespace)
        try:
            for photo in getattr(args, "photos", ()):
                existing()(photo)
        except argparse.ArgumentTypeError as error:
            self.error(str(error))
        return args

    def error(self, message):
        raise BadInput(f"{message} (see {self.prog} --help)")


def whole_number(smallest, largest=None):
    """An argparse type: whole numbers from `smallest` to `largest`."""
    def parse(text):
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < smallest or largest is not None and number > largest:
            limits = f"from {smallest} to {largest}" if largest is not None else f"of {smallest} or more"
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number {limits}")
        return number

    return parse


def existing(*words):
    """An argparse type: one of `words`, or the name of something that exists."""
    def parse(text):
        if text not in words and not os.path.lexists(text):
            raise argparse.ArgumentTypeError(f"{text} does not exist")
        return text

    return parse


def png(text):
    """An argparse type: the name of a PNG file to write."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"the picture is a PNG, and {text} is called otherwise")
    return text


def rate(text):
    """An argparse type: a learning rate, above 0 and at most 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0 and up to 1")
    return number


def result(text):
    """Print `text` on stdout. When nobody can listen any more, as behind `| head`, say so and let the work go on."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        notice(f"The rest of the results cannot be printed: {error.strerror}.")


@contextlib.contextmanager
def quiet_import():
    """Around the import of TensorFlow: keeps its log from the user.

    TF_CPP_MIN_LOG_LEVEL alone leaves six lines of TensorFlow's, written before it has read that variable: file
    descriptor 2 is turned away meanwhile. A TF_CPP_MIN_LOG_LEVEL that the user has set is respected, noise included.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def run(main):
    """Run a script's `main` and end the process with its `exit_status`."""
    status = exit_status(main)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # TensorFlow takes a moment to leave: nothing is left to interrupt
    sys.exit(status)


def exit_status(main):
    """Call `main`: 0 when it is through, 2 after a user's mistake, told in one sentence, and 130 after Ctrl-C."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a photo's name may be no text
    try:
        _interruptible(main)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would spoil the exit
        notice(str(error) or "Interrupted.")
        return 130
    except BadInput as error:
        sentence = str(error)
    except OSError as error:
        sentence = f"{error.filename}: {error.strerror}"
        if error.filename is None:  # it was stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):  # `| head` has seen enough
                return 0
            sentence = f"the results cannot be printed: {error.strerror or error}"
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in ("matplotlib", "numpy", "PIL", "scipy", "tensorflow", "tqdm"):
            raise
        sentence = f"the package {error.name} is not installed here: run `make lab` once and start this with .venv/bin/python"
    notice(f"{os.path.basename(sys.argv[0])}: " + sentence.replace("\n", "\\n"))
    return 2


def _interruptible(main):
    """Call `main`. Whatever it raises once Ctrl-C was pressed becomes a KeyboardInterrupt.

    A KeyboardInterrupt may be raised below compiled code, which turns it into an error of its own (SystemError,
    InvalidArgumentError), or where nothing can be raised, in a `__del__`: the process then ends at once.
    """
    pressed = []

    def interrupt(number, frame):
        pressed.append(number)
        signal.default_int_handler(number, frame)

    def unraisable(event):
        if not pressed:
            return unraisable_before(event)
        notice("Interrupted.")
        os._exit(130)

    interrupt_before, unraisable_before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if interrupt_before is signal.default_int_handler:  # a shell has its background jobs ignore Ctrl-C
        signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = unraisable
    try:
        main()
    except KeyboardInterrupt:
        raise
    except BaseException:
        if pressed:
            raise KeyboardInterrupt from None
        raise
    finally:
        sys.unraisablehook = unraisable_before
        signal.signal(signal.SIGINT, interrupt_before)


@contextlib.contextmanager
def interrupt_noted():
    """Around work that Ctrl-C should not tear: gives a function that tells whether it was pressed.

    A second Ctrl-C interrupts at once, for whoever cannot wait.
    """
    pressed = []

    def note(number, frame):
        signal.signal(signal.SIGINT, interrupt_at_once)
        pressed.append(number)

    interrupt_at_once = signal.getsignal(signal.SIGINT)
    if interrupt_at_once is not signal.SIG_IGN:  # a shell has its background jobs ignore Ctrl-C
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, interrupt_at_once)


def _open_standard_streams():
    """A program may be started without them (`>&-`): then what it opens first would take their places."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
