"""What was done so far, in a file: so that a campaign of hours goes on where it was interrupted."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

MOST_TOLD = 20  # failures whose text is kept


@dataclass
class Outcome:
    """One trial: what it met, how long it took, and, where it failed, why."""

    number: int
    tally: Counter[str]
    seconds: float
    tree: str
    error: str = ""


@dataclass
class Progress:
    """One row so far.

    Attributes:
        size: trials in full; 0 before it is known.
        done: ranges of trials that are done, as [first, last + 1], ascending and apart.
        failed: their numbers.
        told: the first of the failures, by number, as text.
        tally: summed over the trials.
        seconds: from beginnings to ends, summed likewise.
        trees: how many trials were done with which state of src/.
    """

    size: int = 0
    done: list[list[int]] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    tally: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    trees: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many trials are done."""
        return sum(stop - start for start, stop in self.done)

    def missing(self, wanted: range) -> Iterable[int]:
        """Yield those of *wanted* that are not done."""
        return (number for number in wanted if not any(start <= number < stop for start, stop in self.done))

    def forget_failed(self) -> None:
        """Let the failed trials be missing again."""
        done = (number for start, stop in self.done for number in range(start, stop) if number not in self.failed)
        self.done = _merged([[number, number + 1] for number in done])
        self.failed, self.told = [], {}

    def take(self, outcome: Outcome) -> None:
        """Note a trial that is done."""
        self.done = _merged([*self.done, [outcome.number, outcome.number + 1]])
        self.seconds += outcome.seconds
        self.tally = dict(Counter(self.tally) + outcome.tally)
        self.trees = dict(Counter(self.trees) + Counter([outcome.tree]))
        if outcome.error:
            self.failed = sorted({*self.failed, outcome.number})
            if len(self.told) < MOST_TOLD:
                self.told[str(outcome.number)] = outcome.error


def _merged(ranges: list[list[int]]) -> list[list[int]]:
    merged: list[list[int]] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(stop, merged[-1][1])
        else:
            merged.append([start, stop])
    return merged


class Results:
    """The file; several campaigns may write it at once, each its own rows.

    Args:
        path: of the JSON.
        afresh: forget what it holds.
    """

    def __init__(self, path: Path, *, afresh: bool = False) -> None:
        self._path = path
        if afresh:
            path.unlink(missing_ok=True)
        self.rows = self._read()
        self._touched: set[str] = set()

    def row(self, name: str, *, again: bool = False) -> Progress:
        """Return the progress of a row, new where nothing was done, or where all of it is to be done *again*."""
        self._touched.add(name)
        if again:
            self.rows[name] = Progress()
        return self.rows.setdefault(name, Progress())

    def save(self) -> None:
        """Write the rows that were asked for beside those that others have written meanwhile."""
        with self._alone():
            self.rows = self._read() | {name: self.rows[name] for name in self._touched}
            content = {"machine": machine(), "rows": {name: asdict(row) for name, row in self.rows.items()}}
            fresh = self._path.with_name(self._path.name + ".new")
            fresh.write_text(json.dumps(content, indent=1) + "\n")
            fresh.rename(self._path)

    def _read(self) -> dict[str, Progress]:
        held = json.loads(self._path.read_text())["rows"] if self._path.exists() else {}
        return {name: Progress(**row) for name, row in held.items()}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def machine() -> dict[str, Any]:
    """Return what the figures were made with."""
    libraries = {name: version(name) for name in ("apsw", "faiss-cpu", "numpy", "hypothesis")}
    return {"system": platform.platform(), "python": platform.python_version(), **libraries}
