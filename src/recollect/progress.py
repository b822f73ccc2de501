"""A progress bar with rate and time left, for whatever reports through `types.Progress`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from recollect.types import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_STAGES = {
    "add": ("storing", "chunks"),
    "train": ("training", "rows"),
    "index": ("indexing", "rows"),
    "copy": ("copying", "rows"),
    "reembed": ("embedding", "chunks"),
}


@contextmanager
def progress_bar(*, disable: bool = False) -> Iterator[Progress]:
    """Yield a callback that draws one bar per stage on standard error, with its rate; hidden where that is no terminal.

    Args:
        disable: draw nothing in any case.

    Example:
        >>> with progress_bar(disable=True) as progress:
        ...     progress("add", 10, 100)

    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}", justify="right"),
        TextColumn("{task.fields[pace]}", style="dim"),
    )
    with Bars(*columns, console=console, disable=disable or not console.is_terminal) as bars:
        stages = _Stages(bars)
        yield stages.report
        stages.finish()


class _Stages:
    """The bars on display, one per stage."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        # A stage reports when its first batch is done; it began when the one before had its last word.
        self._last = monotonic()
        # The first batch may take a while.
        self._waiting: TaskID | None = bars.add_task("working  ", total=None, amount="", pace="")

    def report(self, stage: str, done: int, total: int | None) -> None:
        label, unit = _STAGES.get(stage, (stage, ""))
        self._stop_waiting()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(f"{label:<9}", total=total, amount="", pace="")
            self._began[stage] = self._last
        self._last = monotonic()
        elapsed = self._last - self._began[stage]
        amount = f"{done:,}" if total is None else f"{done:,} / {total:,}"
        self._bars.update(
            self._tasks[stage],
            completed=done,
            total=total,
            amount=f"{amount} {unit}".rstrip(),
            pace=_pace(done, total, elapsed, unit),
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


def _pace(done: int, total: int | None, elapsed: float, unit: str) -> str:
    """Write the rate since the stage began, and the time taken or, while that can be told, the time left."""
    if not done or not elapsed:
        return ""
    rate = done / elapsed
    shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
    if total is None or done >= total:
        return f"{shown} {unit}/s · {_clock(elapsed)}"
    return f"{shown} {unit}/s · {_clock((total - done) / rate)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
