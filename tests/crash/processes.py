"""Starting the worker, reading its journal, and the states that the journal allows."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .nursery import Child, Nursery
from .plan import Operation, State, after_operations

TESTS = Path(__file__).resolve().parents[1]
# What the tests themselves import from stays in front of what is installed: else the workers may run another Reperio.
_PATHS = [str(TESTS), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(_PATHS),
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",  # beside other tests, threads that spin while they wait double the time
}


@cache
def nursery() -> Nursery:
    """Return the process that forks the workers of this one; it ends with it."""
    begun = Nursery(ENVIRONMENT)
    atexit.register(begun.close)
    return begun


@dataclass
class Run:
    """One life of the worker.

    Attributes:
        seed: of the plan.
        first: number of the first operation.
        stop: number after the last one.
        plan: "random" or "scripted".
        auto: index in the background, as by default.
    """

    directory: Path
    plan: str
    seed: int = 0
    first: int = 0
    stop: int = 10**9
    auto: bool = False
    journal: Path = field(init=False)

    def __post_init__(self) -> None:
        self.journal = self.directory / "journal"
        self.journal.unlink(missing_ok=True)

    @property
    def collection(self) -> Path:
        """Where the collection is."""
        return self.directory / "kb"

    def start(self, *strace: str) -> Child:
        """Start it, traced by strace with these options where there are any; what it prints goes to a file."""
        auto = "auto" if self.auto else "manual"
        numbers = [str(self.seed), str(self.first), str(self.stop)]
        arguments = [str(self.journal), str(self.collection), self.plan, *numbers, auto]
        return nursery().fork("tests.crash.worker", *arguments, output=self.directory / "stderr", strace=strace)

    def stderr(self) -> str:
        """Return what it printed."""
        return (self.directory / "stderr").read_text(errors="replace")

    def lines(self) -> list[list[str]]:
        """Return the journal so far."""
        return [line.split() for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    def position(self) -> tuple[int, int, bool]:
        """Return the operation reached, the steps of it that were acknowledged, and whether it is still going on."""
        return position(self.lines(), self.first)


def position(notes: Iterable[list[str]], first: int = 0) -> tuple[int, int, bool]:
    """Return what `Run.position` does, of the notes of a journal that begins at operation *first*."""
    n, steps, begun = first, 0, False
    for kind, *numbers in notes:
        if kind == "begin":
            n, steps, begun = int(numbers[0]), 0, True
        elif kind == "ack":
            steps = int(numbers[1])
        elif kind == "done":
            n, steps, begun = n + 1, 0, False
    return n, steps, begun


def possible(state: State, done: Iterable[Operation], current: Operation, steps: int, *, begun: bool) -> list[State]:
    """Return the states that may be stored: *steps* of the current operation were acknowledged, one more may be there.

    Args:
        state: at the beginning.
        done: operations that were completed since.
        current: the one that was under way.
        steps: of it, acknowledged.
        begun: whether it was.
    """
    state = after_operations(state, done)
    return [current.after(state, number) for number in range(steps, min(steps + begun, current.steps) + 1)]
