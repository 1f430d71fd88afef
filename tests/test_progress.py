"""Long work shows how far it is: a bar on a terminal, a line now and then in a log file, nothing for short work."""

import io
import sys

import pytest

from lab import progress as module
from lab.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A function that sets the time, in seconds; it starts at 0."""
    now = [0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_a_log_gets_a_line_every_thirty_seconds_with_what_is_done_and_what_is_left(clock, capsys):
    with progress(None, "Photos", 1000, initial=400) as shown:
        for seconds, count in ((10, 50), (29, 50), (31, 100), (40, 100), (62, 100)):
            clock(seconds)
            shown.update(count)
    assert capsys.readouterr().err.splitlines() == [
        "Photos: 600 of 1,000 images, about 01:02 left",  # 200 in 31 seconds, so 400 in 62
        "Photos: 800 of 1,000 images, about 00:31 left"]  # 400 in 62 seconds, so 200 in 31


def test_bytes_of_an_unknown_number_are_counted_in_large_units(clock, capsys):
    with progress(None, "file", None, "B", unit_scale=True) as shown:
        clock(31)
        shown.update(2_500_000)
    assert capsys.readouterr().err == "file: 2.50M\n"


def test_iterating_counts_each_item_and_short_work_says_nothing(clock, capsys):
    items = progress(range(5), "Steps", unit="step")
    assert list(items) == [0, 1, 2, 3, 4] and capsys.readouterr().err == ""
    for i in progress(range(5), "Steps", unit="step"):
        clock(20 * (i + 1))
    assert capsys.readouterr().err.splitlines()[-1] == "Steps: 4 of 5 steps, about 00:20 left"


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress(None, "Photos", 1000) as shown:
        shown.update(500)
        shown.refresh()
    assert "Photos:  50%" in terminal.getvalue() and "500/1000" in terminal.getvalue()
