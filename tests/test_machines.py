"""The lab runs on machines that lack something: a backend, a home, locks, calls that only Linux has, a working TensorFlow."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from samples import saved, write_data
from server import Server

from lab import command_line, files


def script(name, *arguments, **environment):
    """A finished process of one of the lab's scripts: exit status, stdout, stderr."""
    quiet = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    run = subprocess.run([sys.executable, str(name), *map(str, arguments)], capture_output=True, text=True,
                         env=quiet | environment)
    return run.returncode, run.stdout, run.stderr


@pytest.mark.slow
def test_pictures_are_drawn_in_a_jupyter_shell_and_without_a_home(checkout):
    Path("home").touch()  # a file where the folder belongs
    status, _, err = script(checkout / "feature_extraction.py", "--plot", "answers.png", HOME=os.path.abspath("home"),
                            MPLBACKEND="module://matplotlib_inline.backend_inline")
    assert status == 0 and Path("answers.png").stat().st_size > 1000
    assert len(err.splitlines()) == 2 and "matplotlib" not in err.lower()  # of the weights, and of the untrained layer


def failing(error):
    def main():
        raise error
    return main


def test_an_os_error_is_blamed_on_stdout_only_if_stdout_fails(capsys):
    assert command_line.exit_status(failing(OSError(5, "Input/output error"))) == 2
    assert capsys.readouterr().err.endswith(": the system reports an error: Input/output error\n")
    code = "from lab import command_line; command_line.run(lambda: print('x' * 100_000))"
    run = subprocess.run(f"'{sys.executable}' -c \"{code}\" > /dev/full", shell=True, capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(files.HERE)})
    assert run.returncode == 2 and "the results cannot be printed: No space left on device" in run.stderr


class ResourceExhaustedError(Exception):
    __module__ = "tensorflow.python.framework.errors_impl"


class InternalError(ResourceExhaustedError):
    __module__ = "tensorflow.python.framework.errors_impl"


@pytest.mark.parametrize("error, sentence", [
    (MemoryError(), "out of memory: close other programs"),
    (ResourceExhaustedError("OOM when allocating tensor with shape[128,57,57,96]\nand a dump"), "out of memory"),
    (InternalError("cudaGetDevice() failed. Status: CUDA driver version\nat line 1"), "cudaGetDevice() failed"),
    (ImportError("Traceback ...\nlibcudnn.so.9: cannot open shared object file"), "libcudnn.so.9: cannot open"),
])
def test_a_failure_of_the_machine_is_one_sentence(error, sentence, capsys):
    assert command_line.exit_status(failing(error)) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(AssertionError):
        command_line.exit_status(failing(AssertionError()))


BROKEN = """
import os, sys
from lab import command_line
def main():
    with command_line.quiet_import():
        os.write(2, b"the dynamic linker's own words\\n")
        raise ImportError("libm.so.6: version GLIBC_2.99 not found")
command_line.run(main)
"""


def test_what_a_failed_import_of_tensorflow_writes_is_shown():
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    run = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True,
                         env=environment | {"PYTHONPATH": str(files.HERE)})
    assert run.returncode == 2 and run.stderr.startswith("the dynamic linker's own words\n")
    assert "cannot be imported: libm.so.6: version GLIBC_2.99 not found" in run.stderr and "Traceback" not in run.stderr


def test_a_cpu_without_avx_is_refused_before_tensorflow_would_abort(monkeypatch):
    monkeypatch.setattr(command_line, "_cpu_flags", lambda: ["fpu", "sse2"])
    with pytest.raises(files.BadInput, match="no AVX instructions"), command_line.quiet_import():
        raise AssertionError("imported all the same")


# Names that macOS or Windows lack are taken away, and the lab runs as it would there, up to the paths.
ELSEWHERE = """
import asyncio, errno, multiprocessing.util, os, runpy, signal, subprocess, sys, types  # these ask for msvcrt themselves

flock = __import__("fcntl").flock
def locking(descriptor, mode, count):
    try:
        flock(descriptor, 6)
    except BlockingIOError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error
sys.modules["fcntl"] = None
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
for name in "pread preadv pwrite pwritev posix_fallocate posix_fadvise fdatasync getuid geteuid".split():
    if hasattr(os, name):
        delattr(os, name)
del signal.SIGHUP
def open_(path, flags, *rest, work=os.open, **options):
    if isinstance(path, (str, bytes, os.PathLike)) and os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)
    return work(path, flags, *rest, **options)
os.open = open_
def fsync(file, work=os.fsync):
    number = file if isinstance(file, int) else file.fileno()
    flags = int(open(f"/proc/self/fdinfo/{number}").read().split("flags:")[1].split()[0], 8)
    if flags & 3 == 0:
        raise OSError(errno.EBADF, "open for reading only")
    return work(file)
os.fsync = fsync

program, *sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(program))
sys.argv.insert(0, program)
runpy.run_path(program, run_name="__main__")
"""


@pytest.mark.slow
def test_a_training_its_resumption_and_the_pages_run_without_what_only_linux_has(checkout):
    Path("elsewhere.py").write_text(ELSEWHERE)
    write_data(40)
    train = ["elsewhere.py", checkout / "train_feature_extraction.py", "--batch-size", 16]
    for arguments in (["--epochs", 1], ["--epochs", 2, "--resume", "--export", "exported"]):
        status, _, err = script(*train, *arguments)
        assert status == 0, err
    assert script(checkout / "train_feature_extraction.py", "--batch-size", 16, "--epochs", 2, "--model", "here")[0] == 0
    assert saved("model") == saved("here")
    assert [path.name for path in Path("cache").iterdir() if "lock" in path.name] == []
    for page in ("imagenet_inference.py", "traffic_sign_inference.py", "feature_extraction.py"):
        status, out, err = script("elsewhere.py", checkout / page)
        assert status == 0 and re.match("Image 0\n", out), err


FETCH = """
import sys
from lab import command_line, fetch
source = fetch.Source("w.npy", {sys.argv[1]: None}, lambda path: None)
command_line.run(lambda: fetch.fetch([source], fetch.Patience()) and None)
"""


def test_fetching_runs_without_what_only_linux_has(checkout):
    Path("elsewhere.py").write_text(ELSEWHERE)
    (checkout / "fetch_it.py").write_text(FETCH)
    server = Server(bytes(range(256)) * 1000)
    try:
        status, _, err = script("elsewhere.py", checkout / "fetch_it.py", server.address)
    finally:
        server.close()
    assert status == 0, err
    assert Path("w.npy").read_bytes() == server.content and sorted(os.listdir()) == ["elsewhere.py", "w.npy"]


@pytest.mark.parametrize("path, refused", [
    (r"C:\Users\Ada\model", False), (r"model\new", False), ("model", False), ("signs[1]", True), ("what?", True), ("a*b", True),
])
def test_the_names_of_windows_folders_are_taken_on_windows(path, refused, monkeypatch):
    monkeypatch.setattr(files.os, "sep", "\\")
    if refused:
        with pytest.raises(files.BadInput, match="as a pattern"):
            files.check_name(path)
    else:
        files.check_name(path)


@pytest.mark.slow
def test_no_name_that_the_lab_gives_a_file_breaks_windows_rules(checkout):
    write_data(10)
    status, _, err = script(checkout / "train_feature_extraction.py", "--epochs", 1, "--export", "exported")
    assert status == 0, err
    names = [path.name for folder in ("model", "cache", "exported") for path in Path(folder).rglob("*")]
    assert len(names) > 12
    for name in names:
        assert not set(name) & set('<>:"/\\|?*') and name[-1] not in ". " and name.isprintable()
        assert not re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", name, re.IGNORECASE)
    assert len({name.lower() for name in names}) == len(set(names))
