"""A script ends when a signal asks it to, with the exit status that a shell expects."""

import os
import signal
import subprocess
import sys

import pytest

from lab import files

SCRIPT = """
import signal, sys, time
{before}
from lab import command_line
def main():
    print("started", flush=True)
    time.sleep(60)
command_line.run(main)
"""


def started(before="", **options):
    """A running script, past its start."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(before=before)], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(files.HERE)}, **options)
    assert process.stdout.readline() == "started\n"
    return process


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_a_script_in_one_word_with_the_shells_exit_status(number, status):
    process = started("signal.signal(signal.SIGINT, signal.default_int_handler)")  # a shell's background jobs ignore it
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (status, "", "Interrupted.\n")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_nohup_and_background_jobs_ignore_stays_ignored(number):
    process = started(f"signal.signal({int(number)}, signal.SIG_IGN)")
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
