"""The power fails after any of the calls of a scripted life; what was acknowledged by then is there."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import reperio
from tests.crash.increments import verify_increments
from tests.crash.plan import DIMENSION, scripted_operations
from tests.crash.processes import position, possible
from tests.crash.verification import check_no_creation_left, verify

from .disk import MODES, Disk
from .recording import Event


def fail_power(
    events: Sequence[Event], recorded: Path, *, number: int, directory: Path, only: Verification | None = None
) -> Counter[str]:
    """Make state *number* of those that the recording may be left in, open it, and require what was acknowledged.

    Args:
        events: from `record`.
        recorded: the directory they were recorded in.
        number: seed of the moment and of what survives; the mode is ``number % len(MODES)``.
        directory: to be made and worked in.
        only: of `VERIFICATIONS`; None for both.
    """
    rng = random.Random(number)
    mode = MODES[number % len(MODES)]
    disk, notes = Disk(recorded), []
    moment = rng.choice([at for at, event in enumerate(events) if event.kind != "note"])
    for event in events[: moment + 1]:
        disk.do(event)
        if event.kind == "note":
            notes += event.path.splitlines()
    pending = disk.pending
    disk.materialise(directory, mode, rng)
    try:
        for one in VERIFICATIONS if only is None else [only]:
            one(directory / "kb", [note.split() for note in notes])
    except BaseException as error:
        error.add_note(f"state {number}: after event {moment} ({events[moment][:2]}), {mode}, {pending} pending")
        raise
    shutil.rmtree(directory)
    return Counter({mode: 1, "with something to lose": bool(pending)})


def verify_collection(path: Path, notes: list[list[str]]) -> None:
    """Require of the collection what was acknowledged, and nothing but that or one step more."""
    if not path.exists():
        assert ["open"] not in notes, "the collection was created, and is gone"
        reperio.open(path, dimension=DIMENSION).close()
    operations = scripted_operations()
    n, steps, begun = position(notes)
    current = operations[min(n, len(operations) - 1)]
    verify(path, possible({}, operations[:n], current, steps, begun=begun))
    check_no_creation_left(path)


def verify_backups(path: Path, notes: list[list[str]]) -> None:
    """Require of the folder of incremental backups those that were acknowledged."""
    operations = scripted_operations()
    n, _, begun = position(notes)
    current = operations[n] if begun else None
    verify_increments(path.with_name("kb.increments"), operations[:n], current)


Verification = Callable[[Path, list[list[str]]], None]
VERIFICATIONS: tuple[Verification, ...] = (verify_collection, verify_backups)
