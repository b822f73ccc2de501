"""Calls that the file system refuses, once or from then on: which there are, and what must hold of such a life."""

from __future__ import annotations

import errno
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import reperio
from tests.crash.calls import Point, strace
from tests.crash.plan import DIMENSION, State, scripted_operations
from tests.crash.processes import nursery
from tests.crash.verification import verify

WRITES = ("write", "pwrite64", "sendfile", "ftruncate", "mkdir", "rename")
SYNCS = ("fsync", "fdatasync")
ATTEMPTS = 3


class Refusal(NamedTuple):
    """A call that fails.

    Attributes:
        point: the call.
        error: its name, ENOSPC or EIO.
        lasting: whether all later calls of its kind fail as well: a disk that stays full.
    """

    point: Point
    error: str
    lasting: bool = False

    @property
    def option(self) -> str:
        """How strace is asked for it."""
        return f"inject={self.point.call}:error={self.error}:when={self.point.when}{'+' if self.lasting else ''}"


class Life(NamedTuple):
    """A directory that a stubborn process has worked in."""

    directory: Path
    status: int
    trace: list[str]

    @property
    def collection(self) -> Path:
        """Where the collection is."""
        return self.directory / "kb"

    @property
    def notes(self) -> list[list[str]]:
        """The journal."""
        return [line.split() for line in (self.directory / "journal").read_text().splitlines()]

    @property
    def stderr(self) -> str:
        """What it printed."""
        return (self.directory / "stderr").read_text(errors="replace")


def live(directory: Path, *options: str, attempts: int = ATTEMPTS) -> Life:
    """Let a stubborn process live in *directory*, below strace, with its *options*."""
    directory.mkdir(parents=True, exist_ok=True)
    arguments = [str(directory / "journal"), str(directory / "kb"), str(attempts)]
    injections = [part for option in options for part in ("-e", option)]
    tracing = strace(directory / "trace", ",".join(WRITES + SYNCS), *injections)
    child = nursery().fork("tests.fault.stubborn", *arguments, output=directory / "stderr", strace=tuple(tracing))
    return Life(directory, child.wait(), (directory / "trace").read_text(errors="replace").splitlines())


def refusals(directory: Path) -> list[Refusal]:
    """Return every write and sync of a life that nothing happens to, with ENOSPC and EIO, once and lasting.

    Calls on what is not in the collection (the standard streams, pipes) are not refused.
    """
    life = live(directory)
    assert life.status == 0, life.stderr
    points = [point for point, line in _calls(life) if f"{directory}/" in line and f"{directory}/stderr>" not in line]
    assert {point.call for point in points} >= {"write", "pwrite64", "fsync", "fdatasync"}
    return [
        Refusal(point, error, lasting) for point in points for error in ("ENOSPC", "EIO") for lasting in (False, True)
    ]


def refuse(refusal: Refusal, directory: Path) -> Counter[str]:
    """Refuse, and require a typed error, the old state, and that all goes on once there is room.

    Returns:
        Which of "typed error" (an operation was refused) and "no harm" (it was done all the same) it came to.
    """
    life = live(directory, refusal.option, attempts=1 if refusal.lasting else ATTEMPTS)
    try:
        assert life.status == 0, f"status {life.status}; {life.stderr}"
        assert any("(INJECTED)" in line for line in life.trace), "the call was not reached"
        refused = [note for note in life.notes if note[0] == "refused"]
        for _, _, _, number in refused:
            assert int(number) in (errno.ENOSPC, errno.EIO), errno.errorcode.get(int(number), number)
        _verify(life, whole=not refusal.lasting)
    except BaseException as error:
        error.add_note(f"{refusal.option}\n{life.notes[-6:]}\n{life.stderr}")
        raise
    shutil.rmtree(directory)
    return Counter({f"{refusal.error} {'typed error' if refused else 'no harm'}": 1})


def refuse_then_kill(sync: Refusal, writes: int, directory: Path) -> Counter[str]:
    """Refuse a sync, go on with other chunks, and be killed at the *writes*-th pwrite64 after it."""
    first = live(directory / "refused", sync.option, attempts=1)
    assert first.status == 0, first.stderr
    at = next(number for number, line in enumerate(first.trace) if "(INJECTED)" in line)
    before = _writes(first._replace(trace=first.trace[:at]))
    kill = f"inject=pwrite64:signal=SIGKILL:when={before + writes}"
    life = live(directory / "killed", sync.option, kill, attempts=1)
    killed = life.status == -signal.SIGKILL
    # One of the last syncs is followed by fewer writes than that.
    assert killed or (life.status == 0 and _writes(life) < before + writes), life.stderr
    try:
        _verify(life, whole=False)
    except BaseException as error:
        error.add_note(f"{sync.option}, then {kill}\n{life.notes[-6:]}\n{life.stderr}")
        raise
    shutil.rmtree(directory)
    return Counter({"refused, then killed" if killed else "refused, nothing written after it": 1})


def _writes(life: Life) -> int:
    return sum(" pwrite64(" in line for line in life.trace)


def wal_syncs(found: Sequence[Refusal], life: Life) -> list[Refusal]:
    """Return those of *found* that refuse, once, the sync of the log of a collection in use."""
    return [refusal for refusal in touching(found, life, r"/kb/gen-\d+/chunks\.db-wal>") if refusal.point.call in SYNCS]


def touching(found: Sequence[Refusal], life: Life, path: str) -> list[Refusal]:
    """Return those of *found* that refuse, with EIO and once, a call on what *path*, a pattern, is found in."""
    points = {point for point, line in _calls(life) if re.search(path, line)}
    return [refusal for refusal in found if refusal.point in points and refusal.error == "EIO" and not refusal.lasting]


def _calls(life: Life) -> Iterator[tuple[Point, str]]:
    """Yield each call of the thread that writes, with its line of the trace."""
    writers = {line.split()[0] for line in life.trace if str(life.directory) in line}
    # strace counts per thread: all of these must come from one for `when` to reach each of them.
    assert len(writers) == 1
    counts: Counter[str] = Counter()
    for line in life.trace:
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found is not None and found[1] in writers:
            counts[found[2]] += 1
            yield Point(found[2], counts[found[2]]), line


def _verify(life: Life, *, whole: bool) -> None:
    """Open what is left where nothing is refused any more; *whole*: every operation came to be done in the end."""
    allowed: list[State] = [{}]
    for n, operation in enumerate(scripted_operations()):
        steps, over = _steps(life.notes, n)
        allowed = _distinct([operation.after(state, number) for state in allowed for number in range(steps, over + 1)])
    if whole:
        assert len(allowed) == 1, "an operation was never done"
        assert not [note for note in life.notes if note[0] == "unreadable"]
    if not (life.collection / "CURRENT").exists():
        assert ["done", "0"] not in life.notes
        reperio.open(life.collection, dimension=DIMENSION).close()
    verify(life.collection, allowed)


def _steps(notes: list[list[str]], n: int) -> tuple[int, int]:
    """Return the steps of operation *n* that were acknowledged, and those that may be stored.

    A refused step may be: a sync that fails leaves what was written.
    """
    operation = scripted_operations()[n]
    mine = [note for note in notes if len(note) > 1 and note[1] == str(n)]
    if ["done", str(n)] in mine:
        return operation.steps, operation.steps
    acknowledged = max((int(note[2]) for note in mine if note[0] in ("ack", "refused")), default=0)
    return acknowledged, min(acknowledged + bool(mine), operation.steps)


def _distinct(states: list[State]) -> list[State]:
    kept: list[State] = []
    for state in states:
        if state not in kept:
            kept.append(state)
    return kept
