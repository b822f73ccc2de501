from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from .disk import MODES, Disk
from .power import Verification, fail_power, verify_backups, verify_collection
from .recording import Event, record

STATES = 24

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """Record a life."""
    directory = tmp_path_factory.mktemp("recording") / "recorded"
    return directory, record(directory)


@pytest.mark.parametrize("only", [verify_collection, verify_backups])
def test_what_was_acknowledged_outlives_the_power(
    only: Verification, recorded: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    """Of the calls since the last syncs any part may be lost, reordered or torn: what was acknowledged is there."""
    directory, events = recorded
    kinds = {event.kind for event in events}
    assert {"create", "write", "rename", "mkdir", "unlink", "sync", "note"} <= kinds
    at_risk = 0
    for number in range(STATES):
        tally = fail_power(events, directory, number=number, directory=tmp_path / str(number), only=only)
        at_risk += tally["with something to lose"]
    assert at_risk > STATES // 2


def test_the_recording_replayed_is_what_was_written(recorded: tuple[Path, list[Event]], tmp_path: Path) -> None:
    """With nothing lost the model gives the very files that the process left: it misses no call."""
    directory, events = recorded
    disk = Disk(directory)
    for event in events:
        disk.do(event)
    disk.materialise(tmp_path / "replayed", "kept", random.Random(0))
    assert _files(tmp_path / "replayed") == _files(directory)


def _files(root: Path) -> dict[str, bytes]:
    known = ("journal", "stderr", "LOCK", "MAINTENANCE")  # two are the test's own; the notes in locks are no promise
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if Path(name).name not in known}


@pytest.mark.parametrize("mode", MODES)
def test_what_was_synced_is_never_lost(mode: str, tmp_path: Path) -> None:
    """The model itself: synced content under a synced name is there in every mode; without a sync it may be gone."""
    root = tmp_path / "disk"
    file = f"{root}/file"
    disk = Disk(root)
    for event in (Event("create", file), Event("write", file, data=b"a" * 600), Event("sync", file)):
        disk.do(event)
    assert disk.pending == 1, "the name"
    disk.do(Event("sync", str(root)))
    disk.do(Event("write", file, at=600, data=b"b" * 600))
    outcomes = set()
    for seed in range(30):
        target = tmp_path / str(seed)
        disk.materialise(target, mode, random.Random(seed))
        outcomes.add((target / "file").read_bytes())
    assert all(content[:600] == b"a" * 600 for content in outcomes)
    whole = b"a" * 600 + b"b" * 600
    expected = {"lost": {whole[:600]}, "kept": {whole}}.get(mode)
    assert outcomes == expected if expected else len(outcomes) > 1
