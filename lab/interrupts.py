"""How a script is interrupted: by Ctrl-C, SIGTERM (Slurm, `docker stop`, `timeout`) or SIGHUP (a closed terminal)."""

import contextlib
import os
import signal
import sys

from lab.files import notice

NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows: no SIGHUP


class Interrupted(KeyboardInterrupt):
    """The process was asked to end by the signal `number`. The message, if any, says what was saved."""

    def __init__(self, number, message=""):
        super().__init__(message)
        self.number = number


def interruptible(main):
    """Call `main` and return what it returns. A signal raises Interrupted in it.

    Compiled code may turn that into an error of its own (SystemError, InvalidArgumentError), so any exception after a signal
    leaves as Interrupted. Where an exception cannot propagate, as in a `__del__`, the process ends at once.
    """
    received = []

    def interrupt(number, frame):
        received.append(number)
        raise Interrupted(number)

    def unraisable(event):
        if not received:
            return unraisable_before(event)
        notice("Interrupted.")
        os._exit(128 + received[0])

    handlers = {number: signal.getsignal(number) for number in NUMBERS}
    unraisable_before = sys.unraisablehook
    for number, handler in handlers.items():
        if handler in (signal.default_int_handler, signal.SIG_DFL):  # not ignored, as by `nohup` or a shell's background job
            signal.signal(number, interrupt)
    sys.unraisablehook = unraisable
    try:
        return main()
    except Interrupted:
        raise
    except BaseException as error:
        if received or isinstance(error, KeyboardInterrupt):
            raise Interrupted(received[0] if received else signal.SIGINT) from None
        raise
    finally:
        sys.unraisablehook = unraisable_before
        _set(handlers)


@contextlib.contextmanager
def deferred():
    """A context manager that defers interrupts and yields a function that returns the number of the signal, None before it.

    A second signal interrupts at once.
    """
    received = []

    def note(number, frame):
        _set(handlers)
        received.append(number)

    handlers = {number: handler for number in NUMBERS if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in handlers:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        _set(handlers)


def ignore():
    """Ignore all interrupts from now on: the process is about to end."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)


def _set(handlers):
    for number, handler in handlers.items():
        if handler is not None:  # one that Python did not install cannot be restored
            signal.signal(number, handler)
