"""What the scripts share: command-line arguments, output, and exit status."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile

from lab import cpu, files, interrupts, schedulers
from lab.files import BadInput, notice


def parser(description, photos=None):
    """An ArgumentParser with --weights, --precision, --cluster and --trust-network.

    photos: str, what the default photos are, for --help; if given, the parser also takes PHOTO ..., --top, --threshold, --csv
    and --jsonl.
    """
    parser = Parser(description=description)
    if photos:
        parser.add_argument("photos", metavar="PHOTO", nargs="*",
                            help="photos to classify: PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF or PPM files, folders of them with "
                                 f"all folders below, and - for names on stdin, one a line (default: {photos})")
        parser.add_argument("--top", type=whole_number(1, 1000), default=5, metavar="N",
                            help="how many classes to name for each photo (default: 5)")
        parser.add_argument("--threshold", type=rate, default=0.0, metavar="P",
                            help="answer \"unknown\" for a photo whose most probable class is less probable than P")
        parser.add_argument("--csv", type=table(".csv"), metavar="FILE",
                            help="write the answers to this file, a photo a row, rather than print them: file, class, "
                                 "probability, class2, probability2 and so on")
        parser.add_argument("--jsonl", type=table(".jsonl"), metavar="FILE",
                            help="write them to this file, a photo a line of JSON; until either file is complete, it is "
                                 "FILE.unfinished")
    parser.add_argument("--weights", type=existing("auto", "builtin"), default="auto", metavar="auto|builtin|PATH",
                        help="AlexNet's weights: a .npy, .npz, .caffemodel or .onnx file; builtin: the compact ones that "
                             "come with the lab; auto (default): the published ones if they are here, else fetched, else "
                             "builtin; LAB_OFFLINE=1 in the environment prevents fetching")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32",
                        help="the type AlexNet computes in: float32 (default), or bfloat16, which is nearly as accurate, "
                             "faster on CPUs with bfloat16 instructions (avx512_bf16, amx_bf16) and slower on others")
    group = parser.add_argument_group("more machines, more GPUs (docs/cluster.md)")
    group.add_argument("--cluster", metavar="ADDRESS",
                       help="let the workers of this Dask scheduler take the photos through AlexNet: tls://HOST:PORT, "
                            "tcp://HOST:PORT, a scheduler file, or dask for the address in Dask's configuration; local: "
                            "processes on this machine, one for each GPU or group of cores")
    group.add_argument("--shards", metavar="DIR",
                       help="let the workers write what they compute to files in this folder, which all of them reach under "
                            "this name, instead of sending it here")
    group.add_argument("--trust-network", action="store_true",
                       help="accept a scheduler on the network without encryption and certificates (tcp://): whoever reaches "
                            "it can run code on its workers")
    return parser


def program():
    """The program as the user calls it: feature_extraction.py, or python -m lab.fetch."""
    module = sys.modules["__main__"].__spec__  # None for a script
    return f"python -m {module.name}" if module else os.path.basename(sys.argv[0])


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises BadInput for a mistake, so that `run` reports it like any other: in one sentence."""

    def __init__(self, **arguments):
        super().__init__(prog=program(), **arguments)

    def parse_args(self, args=None, namespace=None):
        """The arguments. Photos are checked last: in `--topp 5` the mistake is `--topp`, not a missing photo `5`.

        If some exist, the others are left to photos.batches. `cluster` is as schedulers.find returns it, or None.
        """
        args = super().parse_args(args, namespace)
        if getattr(args, "cluster", None):
            args.cluster = schedulers.find(args.cluster, args.trust_network)
        elif getattr(args, "shards", None):
            self.error("--shards is for the workers of a cluster: give --cluster too")
        if getattr(args, "shards", None) and (getattr(args, "csv", None) or getattr(args, "jsonl", None)):
            self.error("--shards takes the place of --csv and --jsonl: choose one of them")
        photos = getattr(args, "photos", ())
        if photos and "-" not in photos and all(map(_missing, photos)):
            raise BadInput(f"{photos[0]} does not exist" + (f", nor do the {len(photos) - 1} others: check the names"
                                                            if len(photos) > 1 else ": check the name"))
        return args

    def error(self, message):
        raise BadInput(f"{message} (see {self.prog} --help)")


def whole_number(smallest, largest=None):
    """An argparse type: a whole number from `smallest` to `largest`, or without an upper limit if that is None."""
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


def _missing(path):
    """Whether `path` does not exist. (os.path.lexists says so of any path on a network drive that is not connected.)"""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # whoever reads it says why not
        pass
    return False


def existing(*words):
    """An argparse type: one of `words`, or an existing path."""
    def parse(text):
        if text not in words and _missing(text):
            raise argparse.ArgumentTypeError(f"{text} does not exist")
        return text

    return parse


def png(text):
    """An argparse type: the name of a PNG file to write."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text} must end in .png")
    return text


def table(suffix):
    """An argparse type: the name of a file to write with files.growing, which ends in `suffix` (str)."""
    def parse(text):
        if not text.lower().endswith(suffix):  # as in --csv *.jpg, which would replace a photo
            raise argparse.ArgumentTypeError(f"{text} must end in {suffix}")
        try:
            files.check_growing(text)
        except BadInput as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return text

    return parse


def rate(text):
    """An argparse type: a learning rate or a probability, above 0 and at most 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0 and up to 1")
    return number


def result(text):
    """Print `text` on stdout. If stdout is closed, as by `| head`, say so on stderr once and keep working."""
    try:
        print(text, flush=True)
    except (OSError, CannotPrint) as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        notice(f"The rest of the results cannot be printed: {getattr(error, 'strerror', None) or error}.")


@contextlib.contextmanager
def quiet_import():
    """A context manager in which to import TensorFlow: it makes the choices that an import reads, and silences its log.

    TensorFlow writes six lines before it reads TF_CPP_MIN_LOG_LEVEL, so file descriptor 2 is redirected as well. If the user
    has set TF_CPP_MIN_LOG_LEVEL to less than 3, nothing is redirected. What a failed import writes is shown.

    Raises BadInput on a CPU without AVX, where the import would abort the process.
    """
    if "avx" not in _cpu_flags():
        raise BadInput("this CPU has no AVX instructions, which TensorFlow's packages need: use another machine")
    _choose()
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        yield
        return
    sys.stderr.flush()
    try:
        held_back = tempfile.TemporaryFile()
    except OSError:  # nowhere to write
        held_back = open(os.devnull, "w+b")
    stderr = os.dup(2)
    try:
        os.dup2(held_back.fileno(), 2)
        yield
    except ImportError:
        held_back.seek(0)
        os.write(stderr, held_back.read())
        raise
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        held_back.close()


# With one of these, TensorFlow switches oneDNN's kernels on by itself (IsMKLEnabled in its util.cc).
_ONEDNN_BY_DEFAULT = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


def _choose():
    """Set what TensorFlow reads from the environment, unless the user has set it."""
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # else TensorFlow takes all memory of a GPU, needed or not
    flags = cpu.flags()
    if "avx2" in flags and not _ONEDNN_BY_DEFAULT & flags:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # faster there: docs/speed.md
    if (cores := cpu.cores()) < cpu.affinity():  # which is what TensorFlow goes by
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(cores))
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(cores))


def _cpu_flags():
    """The CPU's features as Linux names them on x86; "avx" where they are not known."""
    return cpu.flags() or {"avx"}


def run(main):
    """Run a script's `main` and exit with its `exit_status`."""
    status = exit_status(main)
    interrupts.ignore()  # TensorFlow takes a moment to exit, with nothing left to interrupt
    sys.exit(status)


def exit_status(main):
    """Call `main` and return the status that it returns, 0 for None.

    A user's mistake is reported in one sentence, with status 2, and an interrupt with 128 + the signal's number.
    """
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a photo's name may not be valid UTF-8
    os.environ["MPLBACKEND"] = "agg"  # Jupyter exports a backend of its own, whose absence makes `import matplotlib` fail
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns if the home folder cannot be written
    stdout, sys.stdout = sys.stdout, _Stdout(sys.stdout)
    try:
        status = interrupts.interruptible(main)
        sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt as error:
        interrupts.ignore()  # a second Ctrl-C would disturb the exit
        notice(str(error) or "Interrupted.")
        return 128 + getattr(error, "number", signal.SIGINT)  # none if it fell into the flush
    except BadInput as error:
        sentence = str(error)
    except CannotPrint as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # Python flushes it at the exit
        if isinstance(error.__cause__, BrokenPipeError):  # as by `| head`
            return 0
        sentence = f"the results cannot be printed: {error}"
    except OSError as error:
        sentence = f"{error.filename or 'the system reports an error'}: {error.strerror or error}"
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in ("matplotlib", "numpy", "PIL", "scipy", "tensorflow", "tqdm"):
            raise
        sentence = f"the package {error.name} is not installed here: run `make lab` once, then use .venv/bin/python"
    except Exception as error:
        sentence = _tensorflows(error)
        if sentence is None:
            raise
    finally:
        sys.stdout = stdout
    notice(f"{program()}: " + sentence.replace("\n", "\\n"))
    return 2


def _tensorflows(error):
    """A sentence for an `error` of the machine, not of the program, that Python or TensorFlow reports; None for others."""
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":
        return "out of memory: close other programs, or use a machine or a GPU with more"
    if name in ("InternalError", "UnknownError", "UnavailableError") and type(error).__module__.startswith("tensorflow."):
        return f"TensorFlow failed: {str(error).splitlines()[0][:200]}"
    if isinstance(error, ImportError):
        return f"a package that the lab needs cannot be imported: {str(error).strip().splitlines()[-1][:200]}"
    return None


class CannotPrint(Exception):
    """Stdout cannot be written: it is closed, or its disk is full. The cause is the OSError."""


class _Stdout:
    """`stream`, whose errors are told from those of files."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        return self._told(self._stream.write, text)

    def flush(self):
        return self._told(self._stream.flush)

    def _told(self, function, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            raise CannotPrint(error.strerror or str(error)) from error


def _open_standard_streams():
    """Open any that are closed (`>&-`): otherwise the first files that the program opens would take their places."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
    sys.stdin = sys.stdin or open(0, closefd=False)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
