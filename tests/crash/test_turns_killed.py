"""Writers of one collection that are killed while the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from .turns import kill_many

pytestmark = pytest.mark.crash


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("count", "kills"), [(2, 6), pytest.param(4, 40, marks=pytest.mark.campaign)])
def test_nothing_acknowledged_is_lost_whoever_is_killed(count: int, kills: int, tmp_path: Path) -> None:
    """Each writer's chunks are as it was told, and of the operation that it was killed in all or nothing is there."""
    killed = kill_many(kills, tmp_path, count=count, kills=kills)
    assert killed["write"] >= kills // 2
