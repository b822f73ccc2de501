"""Starting the worker, reading its journal, and the states that the journal allows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .plan import Operation, State, after_operations

TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "2"}


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

    @property
    def command(self) -> list[str]:
        """What to run."""
        auto = "auto" if self.auto else "manual"
        numbers = [str(self.seed), str(self.first), str(self.stop)]
        worker = [sys.executable, "-m", "crash.worker"]
        return [*worker, str(self.journal), str(self.collection), self.plan, *numbers, auto]

    def start(self, *prefix: str) -> subprocess.Popen[bytes]:
        """Start it, below *prefix* where that is given; what it prints goes to a file."""
        with open(self.directory / "stderr", "wb") as stderr:
            return subprocess.Popen([*prefix, *self.command], env=ENVIRONMENT, stdout=stderr, stderr=stderr)

    def stderr(self) -> str:
        """Return what it printed."""
        return (self.directory / "stderr").read_text(errors="replace")

    def lines(self) -> list[list[str]]:
        """Return the journal so far."""
        return [line.split() for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    def position(self) -> tuple[int, int, bool]:
        """Return the operation reached, the steps of it that were acknowledged, and whether it is still going on."""
        n, steps, begun = self.first, 0, False
        for kind, *numbers in self.lines():
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
