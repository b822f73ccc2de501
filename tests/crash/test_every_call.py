from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from .calls import DURABLE, Point, kill_at, points

SHARES = 4
OTHERS = 24  # of several hundred removals, truncations, new directories and writes; `make torture`: all
SOME = 20

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"),
]


@pytest.mark.timeout(600)
def test_killed_at_some_system_calls(tmp_path: Path) -> None:
    """Killed at the first call of each kind, and at some other syncs and renames, nothing is lost or half there."""
    found = points(tmp_path / "traced")
    firsts = {point.call: point for point in found[::-1]}
    others = [point for point in found if point.call in DURABLE and point.when > 1]
    for number, point in enumerate([*firsts.values(), *random.Random(9).sample(others, SOME)]):
        kill_at(point, tmp_path / str(number))


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_every_system_call(share: int, tmp_path: Path) -> None:
    """Killed at each sync and rename of a scripted life, and at some other calls, nothing is lost or half there."""
    chosen = _chosen(points(tmp_path / "traced"))[share::SHARES]
    assert chosen
    for number, point in enumerate(chosen):
        kill_at(point, tmp_path / str(number))


def _chosen(found: list[Point]) -> list[Point]:
    others = [point for point in found if point.call not in DURABLE]
    always = [point for point in found if point.call in DURABLE]
    assert len(always) > 100
    return always + random.Random(8).sample(others, OTHERS)
