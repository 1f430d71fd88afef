"""Progress of long work on stderr: a bar on a terminal, elsewhere a line every 30 seconds."""

import sys
import time

from tqdm import tqdm

from lab.files import notice

EVERY = 30  # seconds between two lines


def progress(iterable=None, description="", total=None, unit="image", initial=0, unit_scale=False):
    """Show how far the work is. Iterate over it, or use it as a context manager and call `update(count)`.

    iterable: what to iterate over; None for work that calls `update`. total: how many units there are in all; None if that is
    not known. initial: how many of them are done already. unit_scale: whether to show 1.5M rather than 1500000.
    """
    total = len(iterable) if total is None and hasattr(iterable, "__len__") else total
    if sys.stderr is not None and sys.stderr.isatty():
        return tqdm(iterable, description, total, initial=initial, unit=unit, unit_scale=unit_scale, leave=False)
    return _Lines(iterable, description, total, unit, initial, unit_scale)


class _Lines:
    """What a log file gets: nothing of work that takes less than EVERY seconds."""

    def __init__(self, iterable, description, total, unit, initial, unit_scale):
        self._iterable, self._description, self._total, self._unit = iterable, description, total, unit
        self._initial = self._done = initial
        self._count = tqdm.format_sizeof if unit_scale else "{:,}".format
        self._start = self._last = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __iter__(self):
        for item in self._iterable:
            yield item
            self.update(1)

    def update(self, count):
        self._done += count
        now = time.monotonic()
        if now - self._last < EVERY:
            return
        self._last = now
        line = f"{self._description}: {self._count(self._done)}"
        if self._total is not None:
            left = (now - self._start) / max(self._done - self._initial, 1) * (self._total - self._done)
            unit = self._unit if self._unit == "B" else f"{self._unit}s"
            line += f" of {self._count(self._total)} {unit}, about {tqdm.format_interval(left)} left"
        notice(line)
