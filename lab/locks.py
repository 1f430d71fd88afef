"""Locks that keep two processes from doing the same work at the same time, where the system and the file system have them."""

import contextlib
import errno
import os

from lab.files import notice

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

_BUSY = errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK  # the last two are Windows'
_UNSUPPORTED = errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, 524  # 524: Linux's NFS


@contextlib.contextmanager
def locked(path, busy):
    """Hold a lock on the file `path`, which is created for that, and deleted at the end.

    busy: a function that is called whenever another process holds the lock. If it returns, the lock is tried again; it may
        wait, or raise.

    The lock ends with the process, even one that is killed. Where there are no locks, a notice says so and the work goes on
    without. Raises OSError when the file cannot be created.
    """
    while True:
        file = open(path, "ab")
        try:
            held = _acquire(file, path)
            if held and _is_at(path, file):  # else the process that held it has deleted the file
                break
        except BaseException:
            file.close()
            raise
        file.close()
        if not held:
            busy()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        file.close()
        if fcntl is None:  # Windows deletes no open file
            with contextlib.suppress(OSError):
                os.unlink(path)


def _acquire(file, path):
    """Lock the open `file` and return True, or False if another process holds the lock."""
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _UNSUPPORTED:
            raise
        notice(f"{path} cannot be locked here ({error.strerror}): make sure that no other process writes to that folder.")
    return True


def _is_at(path, file):
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except OSError:
        return False
