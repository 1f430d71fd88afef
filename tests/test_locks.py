"""A lock keeps other processes out until its holder ends, however that ends, and where there are no locks the work goes on."""

import builtins
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import files, locks

HOLD = """
import sys, time
from lab import locks
with locks.locked("it.lock", None):
    print("held", flush=True)
    time.sleep(60)
"""


class Busy(Exception):
    pass


def busy():
    raise Busy


def holder():
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(files.HERE)})
    assert process.stdout.readline() == "held\n"
    return process


def test_who_finds_it_held_decides_whether_to_wait_and_a_killed_holder_holds_nothing():
    process, asked = holder(), []

    def wait():
        asked.append(True)
        if len(asked) == 3:
            process.kill()
            process.wait()

    with pytest.raises(Busy), locks.locked("it.lock", busy):
        pass
    with locks.locked("it.lock", wait):
        assert len(asked) == 3
    assert os.listdir() == []


def test_a_file_that_is_there_already_is_no_lock_and_the_file_is_gone_afterwards():
    Path("it.lock").touch()  # left by a process that was killed
    with locks.locked("it.lock", busy):
        with pytest.raises(Busy), locks.locked("it.lock", busy):
            pass
        assert Path("it.lock").exists()
    assert os.listdir() == []


def test_an_error_of_the_work_is_not_taken_for_a_lock_that_is_held():
    with pytest.raises(BlockingIOError), locks.locked("it.lock", busy):
        raise BlockingIOError(errno.EAGAIN, "of the work itself")
    assert os.listdir() == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_a_file_system_without_locks_is_a_notice(code, monkeypatch, capsys):
    def flock(file, operation):
        raise OSError(code, "not here")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with locks.locked("it.lock", busy):
        assert "it.lock cannot be locked here (not here)" in capsys.readouterr().err


def test_a_system_without_either_kind_of_lock_is_a_notice(monkeypatch, capsys):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", None)
    with locks.locked("it.lock", busy):
        assert "it.lock cannot be locked here" in capsys.readouterr().err


class Windows:
    """What msvcrt locks with, over the lock that this system has."""

    LK_NBLCK = 2

    @staticmethod
    def locking(descriptor, mode, count, flock=locks.fcntl and locks.fcntl.flock):
        assert (mode, count) == (2, 1)
        try:
            flock(descriptor, 6)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error


def test_windows_locks_keep_others_out_too_and_its_open_files_are_deleted_once_closed(monkeypatch):
    closed, opened = [], []

    def open_(path, mode):
        file = builtins.open(path, mode)
        opened.append(file)
        return file

    def unlink(path, work=os.unlink):
        if not all(file.closed for file in opened):
            raise PermissionError(errno.EACCES, "open in this process")
        closed.append(path)
        work(path)

    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", Windows)
    monkeypatch.setattr(locks, "open", open_, raising=False)
    monkeypatch.setattr(os, "unlink", unlink)
    with locks.locked("it.lock", busy):
        with pytest.raises(Busy), locks.locked("it.lock", busy):
            pass
    assert closed == ["it.lock"] and os.listdir() == []
