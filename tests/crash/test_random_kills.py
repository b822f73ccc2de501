from __future__ import annotations

import os
from pathlib import Path

import pytest

from .kills import PER_COLLECTION, kill_again_and_again

KILLS = int(os.environ.get("REPERIO_KILLS", "40"))
FEW = 2  # collections: one is indexed in the background, the other is not

pytestmark = pytest.mark.crash


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=pytest.mark.campaign if seed >= FEW else ())
        for seed in range(-(-KILLS // PER_COLLECTION))
    ],
)
def test_nothing_acknowledged_is_lost_by_random_kills(seed: int, tmp_path: Path) -> None:
    """A collection whose writers are killed one after another holds what was acknowledged, or one step more."""
    tally = kill_again_and_again(seed, tmp_path)
    amid = sum(count for moment, count in tally.items() if moment.startswith("amid"))
    assert amid > PER_COLLECTION // 2, "the kills are to land while the worker is at work"
