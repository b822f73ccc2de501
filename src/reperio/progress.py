"""A progress bar with rate and time left, for whatever reports through `types.Progress`."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING

from reperio.types import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_STAGES = {
    "add": ("storing", "chunks"),
    "ingest": ("reading", "bytes"),
    "pull": ("taking over", "chunks"),
    "push": ("copying", "chunks"),
    "import": ("importing", "chunks"),
    "spread": ("reading", "chunks"),
    "fill": ("writing", "shards"),
    "shards": ("working through", "shards"),
    "export": ("exporting", "chunks"),
    "train": ("training", "rows"),
    "index": ("indexing", "rows"),
    "graph": ("building a graph", "rows"),
    "copy": ("copying", "rows"),
    "reembed": ("embedding", "chunks"),
    "answers": ("finding exact answers", "rows"),
    "tune": ("measuring", "runs"),
    "compare": ("comparing", "chunks"),
    "mend": ("mending", "rows"),
    "gate": ("checking", "checks"),
    "ask": ("asking", "questions"),
    "neighbours": ("measuring", "queries"),
}
# Stages that report where they stand before they begin; an index whose build is resumed stands beyond 0.
_REPORTED_FIRST = frozenset({"train", "index", "graph", "answers", "tune"})
# The rate while a stage runs, and so the time left, is that of the last minute: a graph grows slower as it grows.
_RECENT_SECONDS = 60.0
_UNITS = ("B", "kB", "MB", "GB", "TB")
_LINE_SECONDS = 15.0  # between two lines, where no bar can be drawn


@contextmanager
def progress_bar(*, disable: bool = False) -> Iterator[Progress]:
    """Yield a callback that draws a bar per stage on standard error, with rate and time left.

    Without a terminal, as in the log of a job, and in notebooks without ipywidgets, it prints a line now and then: none
    in the first fifteen seconds, so that what is quick prints nothing.

    Args:
        disable: draw and print nothing in any case.

    Example:
        >>> with progress_bar(disable=True) as progress:
        ...     progress("add", 10, 100)
    """
    # Imported here, since few programs draw a bar.
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if disable:  # a disabled bar of older richs ends with an empty line
        yield _draw_nothing
        return
    if not console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is None):
        yield _Lines().report
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}", justify="right"),
        TextColumn("{task.fields[pace]}", style="dim"),
    )
    with Bars(*columns, console=console) as bars:
        stages = _Stages(bars)
        yield stages.report
        stages.finish()


def _draw_nothing(stage: str, done: int, total: int | None) -> None:
    """Take a report where no bar is on display."""


class _Lines:
    """Lines on standard error, where no bar can be drawn."""

    def __init__(self) -> None:
        self._paces: dict[str, _Pace] = {}
        self._last = self._told = monotonic()

    def report(self, stage: str, done: int, total: int | None) -> None:
        label, unit = _STAGES.get(stage, (stage, ""))
        now = monotonic()
        if stage not in self._paces:
            self._paces[stage] = _begun(stage, done, now, self._last)
        self._last = now
        text = self._paces[stage].text(now, done, total, unit)
        if now - self._told < _LINE_SECONDS:
            return
        self._told = now
        line = f"{label}: {_amount(done, total, unit)}{f', {text}' if text else ''}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201  # what a bar would show


class _Stages:
    """The bars on display, one per stage."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._paces: dict[str, _Pace] = {}
        self._last = monotonic()
        # The first batch may take a while.
        self._waiting: TaskID | None = bars.add_task("working  ", total=None, amount="", pace="")

    def report(self, stage: str, done: int, total: int | None) -> None:
        label, unit = _STAGES.get(stage, (stage, ""))
        self._stop_waiting()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(f"{label:<9}", total=total, amount="", pace="")
            self._paces[stage] = _begun(stage, done, monotonic(), self._last)
        self._last = monotonic()
        self._bars.update(
            self._tasks[stage],
            completed=done,
            total=total,
            amount=_amount(done, total, unit),
            pace=self._paces[stage].text(self._last, done, total, unit),
        )

    def finish(self) -> None:
        """Fill the bars whose totals were never known: what was done is all there was."""
        self._stop_waiting()
        for task in self._bars.tasks:
            if task.total is None:
                self._bars.update(task.id, total=task.completed)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._bars.remove_task(self._waiting)
            self._waiting = None


class _Pace:
    """The speed of a stage.

    Args:
        began: when, in seconds of the monotonic clock.
        done: at that time.
    """

    def __init__(self, began: float, done: int) -> None:
        self._began, self._first = began, done
        self._recent = deque([(began, done)])

    def text(self, now: float, done: int, total: int | None, unit: str) -> str:
        """Write the rate, with the time taken or, while that can be told, the time left; nothing before any is done."""
        self._recent.append((now, done))
        while len(self._recent) > 2 and now - self._recent[1][0] >= _RECENT_SECONDS:
            self._recent.popleft()
        running = total is not None and done < total
        since, before = self._recent[0] if running else (self._began, self._first)
        if done <= before or now <= since:
            return ""
        rate = (done - before) / (now - since)
        shown = f"{_size(rate)}/s" if unit == "bytes" else _rate(rate, unit)
        if total is not None and running:
            return f"{shown} · {_clock((total - done) / rate)} left"
        return f"{shown} · {_clock(now - self._began)}"


def _begun(stage: str, done: int, now: float, last: float) -> _Pace:
    """Return the pace of a stage that is reported for the first time; *last*: when the one before was for the last."""
    # Most report when their first batch is done, and began when the one before had its last word.
    return _Pace(now, done) if stage in _REPORTED_FIRST else _Pace(last, 0)


def _amount(done: int, total: int | None, unit: str) -> str:
    """Write how much is done, of how much where that is known."""
    if unit == "bytes":
        return _size(done) if total is None else f"{_size(done)} / {_size(total)}"
    return f"{done:,} {unit}".rstrip() if total is None else f"{done:,} / {total:,} {unit}".rstrip()


def _rate(each_second: float, unit: str) -> str:
    """Write a rate with at least one digit that is not 0: of checks and shards few are done in a second."""
    rate, time = each_second, "s"
    for seconds, longer in ((60, "min"), (3600, "h")):
        if rate < 1:
            rate, time = each_second * seconds, longer
    return f"{rate:,.0f} {unit}/{time}" if rate >= 10 else f"{rate:.1f} {unit}/{time}"


def _size(number: float) -> str:
    power = 0
    while number >= 1000 and power < len(_UNITS) - 1:
        number, power = number / 1000, power + 1
    return f"{number:,.{1 if power else 0}f} {_UNITS[power]}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
