"""The process whose calls the file system refuses: it notes the refusal, looks at what is stored, and tries again.

Forked from the nursery with JOURNAL COLLECTION ATTEMPTS. The journal and what is told on standard error are written
with ``writev``, which is never refused here: ``begin N``, ``ack N STEPS``, ``refused N STEPS ERRNO``,
``unreadable N``, ``done N``, ``closed``.
Any exception but `StorageFailed` is a traceback and the exit status 1.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import reperio
from reperio import Collection, StorageFailed
from tests.crash import worker
from tests.crash.plan import DIMENSION, Operation, State, scripted_operations
from tests.crash.verification import check_answers, state_of


class Stubborn:
    """One life: the handle, and the state that it must show.

    Args:
        journal: where it writes down what happens.
        path: of the collection.
        attempts: how often an operation is tried; with one, a refusal may last, and reading may be refused as well.
    """

    def __init__(self, journal: int, path: Path, attempts: int) -> None:
        self._journal = journal
        self._path = path
        self._attempts = attempts
        self._kb: Collection | None = None
        self._state: State = {}

    def live(self) -> None:
        """Do the scripted operations, each until it is done or the attempts are used up."""
        for n, operation in enumerate(scripted_operations()):
            for _ in range(self._attempts):
                if self._try(n, operation):
                    break
        if self._kb is not None:
            self._kb.close()
        self._note("closed")

    def _try(self, n: int, operation: Operation) -> bool:
        steps = 0
        self._note(f"begin {n}")

        def acknowledge(done: int) -> None:
            nonlocal steps
            steps = done
            self._note(f"ack {n} {done}")

        try:
            self._do(operation, acknowledge)
        except StorageFailed as error:
            self._note(f"refused {n} {steps} {error.errno}")
            self._look(n, [operation.after(self._state, steps), *self._replaced(operation)])
            return False
        self._state = operation.after(self._state, operation.steps)
        self._note(f"done {n}")
        return True

    def _do(self, operation: Operation, acknowledge: worker.plan.Acknowledge) -> None:
        if operation.kind == "reopen" and self._kb is not None:
            self._kb.close()
            self._kb = None
        if self._kb is None:
            self._kb = reperio.open(self._path, dimension=DIMENSION, auto_optimize=False)
        if operation.kind != "reopen":
            worker.run(self._kb, operation, self._path, acknowledge)

    def _replaced(self, operation: Operation) -> list[State]:
        """Return the state of a generation whose name may have been put in use by the call before the refused one."""
        return [operation.after(self._state, 1)] if operation.kind == "reembed" else []

    def _look(self, n: int, allowed: list[State]) -> None:
        """Require of the same handle, and of a new reader, what was acknowledged and nothing else."""
        self._state = allowed[0]
        if self._kb is None:
            return
        try:
            self._state = state_of(self._kb, allowed)
            if self._attempts > 1:  # what follows takes seconds when it is done after each of many refusals
                check_answers(self._kb, self._state, sample=8)
                with reperio.open(self._path, read_only=True) as reader:
                    check_answers(reader, self._state, sample=4)
        except StorageFailed:
            if self._attempts > 1:
                raise
            self._note(f"unreadable {n}")

    def _note(self, line: str) -> None:
        os.writev(self._journal, [f"{line}\n".encode()])


class _NeverRefused(io.RawIOBase):
    """Standard error. Python ends with the status 120 where that cannot be written."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return os.writev(2, [data])


def main(journal: str, path: str, attempts: str) -> None:
    """Live once."""
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(_NeverRefused()), line_buffering=True)
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    Stubborn(descriptor, Path(path), int(attempts)).live()
