"""Every system call of a scripted life that changes what is on disk, and that life cut short at one of them."""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import reperio

from .increments import verify_increments
from .plan import DIMENSION, State, after_operations, scripted_operations
from .processes import Run, possible
from .verification import check_no_creation_left, verify

# What makes bytes and names durable, or takes them away: between two of these nothing else changes what is on disk.
CALLS = ("fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "ftruncate")
DURABLE = ("fsync", "fdatasync", "rename", "renameat", "renameat2")
TRACED = ",".join([*CALLS, "pwrite64"])


class Point(NamedTuple):
    """The *when*-th time that a system call is made, from 1."""

    call: str
    when: int


def strace(output: Path, calls: str, *more: str) -> list[str]:
    """Return the options with which strace writes *calls* to *output*."""
    return ["-f", "-y", "-o", str(output), "-e", f"trace={calls}", *more]


def points(directory: Path) -> list[Point]:
    """Run the script once, only traced, in *directory*, which is made; return every call at which to kill it."""
    directory.mkdir()
    run = Run(directory, "scripted", stop=len(scripted_operations()))
    assert run.start(*strace(directory / "trace", TRACED)).wait() == 0, run.stderr()
    return points_of(directory)


def points_of(directory: Path) -> list[Point]:
    """Return every call of a life that was traced in *directory*."""
    counts = _counted((directory / "trace").read_text(), directory)
    assert {"fsync", "fdatasync", "rename", "unlink", "ftruncate", "pwrite64"} <= counts.keys()
    return [Point(call, when) for call, count in counts.items() for when in range(1, count + 1)]


def _counted(trace: str, directory: Path) -> Counter[str]:
    found = re.findall(r"^(\d+) +(\w+)\((.*)$", trace, re.M)
    # strace counts per thread: all of these must come from one for `when` to reach each of them.
    assert len({thread for thread, _, _ in found}) == 1
    strangers = [arguments for _, _, arguments in found if str(directory) not in arguments]
    assert not strangers, "calls that touch something other than the collection"
    return Counter(call for _, call, _ in found)


def kill_at(point: Point, directory: Path) -> Counter[str]:
    """Kill the script at one call, and require that nothing is lost or half there."""
    directory.mkdir(exist_ok=True)
    run = Run(directory, "scripted", stop=len(scripted_operations()))
    try:
        _kill(run, point)
        _verify(run)
    except BaseException as error:
        error.add_note(f"killed at {point.call} number {point.when}\n{run.stderr()}")
        raise
    shutil.rmtree(directory)
    return Counter({point.call: 1})


def _kill(run: Run, point: Point) -> None:
    trace = run.directory / "trace"
    require_killed(trace, point, run.start(*killing(trace, point)).wait())


def killing(trace: Path, point: Point) -> list[str]:
    """Return the options with which strace kills at a point."""
    return strace(trace, point.call, "-e", f"inject={point.call}:signal=SIGKILL:when={point.when}")


def require_killed(trace: Path, point: Point, status: int) -> None:
    """Require that a process was killed at a point, before the call was made."""
    call, when = point
    assert status == -signal.SIGKILL, f"{call} number {when} was not reached, the status is {status}"
    made = [line for line in trace.read_text().splitlines() if f" {call}(" in line]
    assert len(made) == when
    assert made[-1].endswith("= ?") or "<unfinished" in made[-1], "the call itself is not to be made"


def _verify(run: Run) -> None:
    operations = scripted_operations()
    n, steps, begun = run.position()
    if not (run.collection / "CURRENT").exists():
        assert ["open"] not in run.lines()
        assert not run.collection.exists()
        reperio.open(run.collection, dimension=DIMENSION).close()
    current = operations[min(n, len(operations) - 1)]
    state = verify(run.collection, possible({}, operations[:n], current, steps, begun=begun))
    check_no_creation_left(run.collection)
    verify_increments(run.collection.with_name("kb.increments"), operations[:n], current if begun else None)
    at_backup = [operation.kind for operation in operations].index("backup")
    if (n, begun) >= (at_backup, True):
        _verify_backup(run, after_operations({}, operations[:at_backup]), state)


def _verify_backup(run: Run, at_backup: State, now: State) -> None:
    """Require that the backup is complete or not there, and that made again it leaves nothing half-made behind."""
    target = run.collection.with_name(run.collection.name + ".backup")
    if target.exists():
        verify(target, [at_backup])
    else:
        with reperio.open(run.collection, read_only=True) as kb:
            kb.backup(target)
        verify(target, [now])
        check_no_creation_left(target)
