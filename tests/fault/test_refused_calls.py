from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from .refusing import SYNCS, WRITES, Refusal, live, refusals, refuse, refuse_then_kill, touching, wal_syncs

PER_KIND = 3

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Refusal]:
    """Find what can be refused."""
    return refusals(tmp_path_factory.mktemp("refusals") / "life")


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("calls", [WRITES, SYNCS], ids=["writes", "syncs"])
def test_a_refused_call_is_a_typed_error(
    calls: tuple[str, ...], lasting: bool, found: list[Refusal], tmp_path: Path
) -> None:
    """ENOSPC or EIO from a write or sync is StorageFailed; the handle shows the old state, and goes on afterwards."""
    chosen = [refusal for refusal in found if refusal.point.call in calls and refusal.lasting == lasting]
    outcomes = [
        refuse(refusal, tmp_path / str(number))
        for number, refusal in enumerate(random.Random(3).sample(chosen, PER_KIND))
    ]
    assert any("typed error" in kind for outcome in outcomes for kind in outcome)


def test_a_refused_commit_is_not_there_after_a_kill_with_anothers_vectors(found: list[Refusal], tmp_path: Path) -> None:
    """A commit's sync fails, the next batch takes its rows, then comes SIGKILL: no chunk has a foreign vector."""
    syncs = wal_syncs(found, live(tmp_path / "life"))
    for number, sync in enumerate(syncs[:3]):  # of the log's header, and of the first commits
        refuse_then_kill(sync, 2, tmp_path / str(number))


def test_a_refused_incremental_backup_is_a_typed_error(found: list[Refusal], tmp_path: Path) -> None:
    """A refused first incremental backup is StorageFailed, wherever it was, and is made when it is asked for again."""
    theirs = touching(found, live(tmp_path / "life"), r"/kb\.increments/")
    calls = {refusal.point.call: refusal for refusal in theirs[::-1]}  # the first of each
    assert calls.keys() >= {"mkdir", "write", "fsync", "rename"}
    for number, refusal in enumerate([*calls.values(), *random.Random(4).sample(theirs, PER_KIND)]):
        refuse(refusal, tmp_path / str(number))
