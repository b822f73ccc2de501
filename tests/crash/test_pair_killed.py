"""Two writers that take turns, one of them killed at each call that makes something durable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .calls import DURABLE
from .pair import WRITERS, PairPoint, kill_one_at, pair_points

SHARES = 4
EVERY = 20

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"),
]


@pytest.mark.timeout(600)
def test_the_other_writer_goes_on_after_some_system_calls(tmp_path: Path) -> None:
    """A writer killed at a sync or a rename leaves what both were told, and the other goes on without opening again."""
    _kill_at(_durable(tmp_path)[EVERY // 2 :: EVERY], tmp_path)


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("share", range(SHARES))
def test_the_other_writer_goes_on_after_every_system_call(share: int, tmp_path: Path) -> None:
    """Whichever of two writers is killed, at whichever sync or rename, nothing that both were told is lost."""
    _kill_at(_durable(tmp_path)[share::SHARES], tmp_path)


def _durable(directory: Path) -> list[PairPoint]:
    found = [where for where in pair_points(directory / "traced") if where.point.call in DURABLE]
    for writer in WRITERS:
        assert sum(where.writer == writer for where in found) > 40
    return found


def _kill_at(chosen: list[PairPoint], directory: Path) -> None:
    assert chosen
    for number, where in enumerate(chosen):
        kill_one_at(where, directory / str(number))
