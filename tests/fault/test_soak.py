from __future__ import annotations

import os
from pathlib import Path

import pytest

from .resources import Sample, Watched, require_bounded
from .soak import soak

SECONDS = float(os.environ.get("REPERIO_SOAK_SECONDS", "60"))
SHORT = 8.0  # compactions and builds of every kind; memory and handles are compared from one half to the other

pytestmark = pytest.mark.crash


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files and memory are read from /proc")
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize(
    "seconds", [pytest.param(SHORT, id="short"), pytest.param(SECONDS, marks=pytest.mark.campaign, id="long")]
)
def test_a_writer_and_many_readers_go_on_and_on(seconds: float, tmp_path: Path) -> None:
    """Readers in four processes and eight threads see each commit, nothing else, and nothing grows meanwhile."""
    tally = soak(seconds, tmp_path / "work")
    assert tally.keys() >= {"add", "delete", "optimize", "compact", "search"}, tally


@pytest.mark.parametrize(("handles", "memory", "log"), [(500, 1 << 30, 0), (9, 1 << 33, 0), (9, 1 << 30, 1 << 40)])
def test_growth_is_noticed(handles: int, memory: int, log: int, tmp_path: Path) -> None:
    """More open files, memory or log than there may be at the end of a soak fail it."""
    watched = Watched([1], tmp_path, [Sample((9,), (1 << 30,), 0)] * 12)
    require_bounded(watched, log_bytes=1 << 20)
    watched.samples.append(Sample((handles,), (memory,), log))
    with pytest.raises(AssertionError):
        require_bounded(watched, log_bytes=1 << 20)
