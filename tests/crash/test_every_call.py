from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

import recollect

from .plan import DIMENSION, State, after_operations, scripted_operations
from .processes import Run, possible
from .verification import check_no_creation_left, verify

# What makes bytes and names durable, or takes them away: between two of these nothing else changes what is on disk.
CALLS = ["fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "ftruncate"]
WRITES = 40  # of the several hundred pwrite64 to chunks.db, its WAL and vectors.f32: this many, evenly
SHARES = 12

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_every_system_call(share: int, tmp_path: Path) -> None:
    """Killed at each sync, rename, removal and truncation of a scripted life, nothing is lost or half there."""
    points = _points(tmp_path / "traced")[share::SHARES]
    assert points
    for number, (call, when) in enumerate(points):
        directory = tmp_path / str(number)
        directory.mkdir()
        run = Run(directory, "scripted", stop=len(scripted_operations()))
        _kill_at(run, call, when)
        try:
            _verify(run)
        except BaseException as error:
            error.add_note(f"killed at {call} number {when}\n{run.stderr()}")
            raise
        shutil.rmtree(directory)


def _points(directory: Path) -> list[tuple[str, int]]:
    """Run the script once, only traced, and return every call at which to kill it."""
    directory.mkdir()
    run = Run(directory, "scripted", stop=len(scripted_operations()))
    trace = directory / "trace"
    assert run.start(*_strace(trace, ",".join([*CALLS, "pwrite64"]))).wait() == 0, run.stderr()
    found = re.findall(r"^(\d+) +(\w+)\((.*)$", trace.read_text(), re.M)
    # strace counts per thread: all of these must come from one for `when` to reach each of them.
    assert len({thread for thread, _, _ in found}) == 1
    strangers = [arguments for _, _, arguments in found if str(directory) not in arguments]
    assert not strangers, "calls that touch something other than the collection"
    counts = Counter(call for _, call, _ in found)
    assert {"fsync", "fdatasync", "rename", "unlink", "ftruncate", "pwrite64"} <= counts.keys()
    writes = counts.pop("pwrite64")
    points = [(call, when) for call, count in counts.items() for when in range(1, count + 1)]
    return points + [("pwrite64", 1 + i * writes // WRITES) for i in range(WRITES)]


def _strace(output: Path, calls: str, *more: str) -> list[str]:
    return ["strace", "-f", "-y", "-o", str(output), "-e", f"trace={calls}", *more]


def _kill_at(run: Run, call: str, when: int) -> None:
    trace = run.directory / "trace"
    status = run.start(*_strace(trace, call, "-e", f"inject={call}:signal=SIGKILL:when={when}")).wait()
    assert status == -signal.SIGKILL, f"{call} number {when} was not reached\n{run.stderr()}"
    made = [line for line in trace.read_text().splitlines() if f" {call}(" in line]
    assert len(made) == when
    assert made[-1].endswith("= ?") or "<unfinished" in made[-1], "the call itself is not to be made"


def _verify(run: Run) -> None:
    operations = scripted_operations()
    n, steps, begun = run.position()
    if not (run.collection / "CURRENT").exists():
        assert ["open"] not in run.lines()
        assert not run.collection.exists()
        recollect.open(run.collection, dimension=DIMENSION).close()
    current = operations[min(n, len(operations) - 1)]
    state = verify(run.collection, possible({}, operations[:n], current, steps, begun=begun))
    check_no_creation_left(run.collection)
    at_backup = [operation.kind for operation in operations].index("backup")
    if (n, begun) >= (at_backup, True):
        _verify_backup(run, after_operations({}, operations[:at_backup]), state)


def _verify_backup(run: Run, at_backup: State, now: State) -> None:
    """Require that the backup is complete or not there, and that made again it leaves nothing half-made behind."""
    target = run.collection.with_name(run.collection.name + ".backup")
    if target.exists():
        verify(target, [at_backup])
    else:
        with recollect.open(run.collection, read_only=True) as kb:
            kb.backup(target)
        verify(target, [now])
        check_no_creation_left(target)
