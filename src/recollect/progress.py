"""A progress bar with rate and time left, for whatever reports through `types.Progress`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recollect.types import Progress

_UNITS = {"add": "chunks", "train": "rows", "index": "rows", "copy": "rows", "reembed": "chunks"}


@contextmanager
def progress_bar(*, disable: bool = False) -> Iterator[Progress]:
    """Yield a callback that draws one bar per stage on standard error.

    Example:
        >>> with progress_bar(disable=True) as progress:
        ...     progress("add", 10, 100)

    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", justify="right"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), disable=disable) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, rate="")
            task = bars.tasks[bars.task_ids.index(tasks[stage])]
            rate = f"{done / task.elapsed:,.0f} {_UNITS.get(stage, '')}/s" if task.elapsed else ""
            bars.update(tasks[stage], completed=done, total=total, rate=rate)

        yield report
