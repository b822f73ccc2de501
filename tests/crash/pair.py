"""Two writers that take turns by a script, one of them killed at a call, the other going on at once.

One is a process of its own, traced and killed. The other is this one: it has the collection open all the time, and
does not open it again. Which of the two has the even operations of the script, decides what the killed one does.

The worker is forked from the nursery with COLLECTION WRITER SAID GO: it notes in the pipe SAID what it does, and waits
for the pipe GO before each operation. What was written into a pipe outlives its writer.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import reperio

from . import calls, worker
from .plan import DIMENSION, Operation, State, item
from .processes import nursery, possible
from .verification import check_answers, check_no_creation_left, state_of, verify

WRITERS = (0, 1)
SAMPLE = 10  # chunks that the one left searches at once; all are searched in the end
_PATIENCE = 120  # seconds


class PairPoint(NamedTuple):
    """A call of one of the two writers."""

    writer: int
    point: calls.Point


@cache
def script() -> list[Operation]:
    """Return the operations; writer 0 has the even ones and writer 1 the others, of each kind both."""
    return [
        _add(0, range(48)),
        _add(1, range(30, 70)),
        Operation("delete", ids=("c0003", "c0033", "c0065")),
        Operation("delete", ids=("c0004", "c0034", "c0066")),
        Operation("optimize", index="IVF1,PQ8x4fs"),
        _add(2, range(0, 60, 3)),
        _add(3, range(10, 40)),
        Operation("optimize", index="HNSW8,SQ8"),
        Operation("compact"),
        _add(4, range(60, 80)),
        Operation("delete_where", before=1),
        Operation("compact"),
        _add(5, range(70, 90)),
        Operation("delete_where", before=2),
        Operation("optimize"),
        _add(6, range(5)),
    ]


def _add(version: int, numbers: range) -> Operation:
    return Operation("add", items=tuple(item(5, number, version) for number in numbers))


def pair_points(directory: Path) -> list[PairPoint]:
    """Run the script once for each writer, that one traced; return every call at which to kill it."""
    found = []
    for writer in WRITERS:
        here = directory / str(writer)
        here.mkdir(parents=True)
        status = _play(here, writer, calls.strace(here / "trace", calls.TRACED))
        assert status == 0, _stderr(here)
        found += [PairPoint(writer, point) for point in calls.points_of(here)]
    return found


def kill_one_at(where: PairPoint, directory: Path) -> Counter[str]:
    """Kill one of the two at a call, let the other go on, and require that nothing is lost, foreign or left over."""
    directory.mkdir()
    try:
        status = _play(directory, where.writer, calls.killing(directory / "trace", where.point))
        calls.require_killed(directory / "trace", where.point, status)
    except BaseException as error:
        error.add_note(f"writer {where.writer} killed at {where.point}\n{_stderr(directory)}")
        raise
    shutil.rmtree(directory)
    return Counter({where.point.call: 1})


def _play(directory: Path, writer: int, strace: list[str]) -> int:
    """Run the script with one writer as a traced process; verify, and return the status it ended with."""
    path = directory / "kb"
    reperio.open(path, dimension=DIMENSION).close()
    with reperio.open(path, auto_optimize=False) as kb:
        far = _Far(directory, writer, strace)
        far.step()
        states: list[State] = [{}]
        for n, operation in enumerate(script()):
            if n % 2 != writer:
                worker.run(kb, operation, path, lambda _: None)
                states = [operation.after(state, operation.steps) for state in states]
            elif far.alive:
                steps, begun = far.step()
                states = possible(states[0], [], operation, steps, begun=begun)
                if not far.alive:
                    states = [state_of(kb, states)]
                    check_answers(kb, states[0], sample=SAMPLE)
        status = far.end()
        state = state_of(kb, states)
        check_answers(kb, state, sample=SAMPLE)
        report = kb.check()
        assert report.ok, report.problems
    verify(path, [state])
    check_no_creation_left(path)
    return status


class _Far:
    """The process, as the other writer sees it: it does one step whenever it is told to, until it is killed."""

    def __init__(self, directory: Path, writer: int, strace: list[str]) -> None:
        self.alive = True
        pipes = directory / "said", directory / "go"
        for pipe in pipes:
            os.mkfifo(pipe)
        arguments = (str(directory / "kb"), str(writer), *map(str, pipes))
        self._child = nursery().fork("tests.crash.pair", *arguments, output=directory / "stderr", strace=tuple(strace))
        self._said = pipes[0].open()
        self._go = os.open(pipes[1], os.O_WRONLY)

    def step(self) -> tuple[int, bool]:
        """Let it open, do its next operation or close; return the steps acknowledged, and whether it died during it."""
        steps, begun = 0, False
        with suppress(BrokenPipeError):
            os.write(self._go, b"\n")
        for line in self._said:
            word, *numbers = line.split()
            if word == "done":
                return steps, False
            begun = True
            steps = int(numbers[0]) if numbers else steps
        self.alive = False
        return steps, begun

    def end(self) -> int:
        """Let it close where it lives, and return the status."""
        if self.alive:
            self.step()
        os.close(self._go)
        self._said.close()
        return self._child.wait()


def main(path: str, writer: str, said: str, go: str) -> None:
    """Be the process that may be killed."""
    signal.alarm(_PATIENCE)  # the other one waits for this one
    descriptor = os.open(said, os.O_WRONLY)

    def note(line: str) -> None:
        os.write(descriptor, f"{line}\n".encode())

    with open(go, "rb", buffering=0) as told:
        told.read(1)
        kb = reperio.open(path, auto_optimize=False)
        note("done")
        for operation in script()[int(writer) :: 2]:
            told.read(1)
            note("begin")
            worker.run(kb, operation, Path(path), lambda steps: note(f"ack {steps}"))
            note(f"ack {operation.steps}")
            note("done")
        told.read(1)
        kb.close()
        note("done")


def _stderr(directory: Path) -> str:
    return (directory / "stderr").read_text(errors="replace") if (directory / "stderr").exists() else ""
