"""Times that are predicted: in words, by machine, and next to what was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import reperio
from reperio import Metric
from reperio.index import Goal, Recipe, advise, this_machine
from reperio.index.recipes.times import Machine, in_words

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "a few seconds"), (9.9, "a few seconds"), (12, "about 10 s"), (54, "about 50 s"), (58, "about 1 min"),
        (330, "about 6 min"), (3560, "about 59 min"), (3600, "about 1 h"), (6395, "about 1 h 45 min"),
        (7190, "about 2 h"), (40_000, "about 11 h"),
    ],
)  # fmt: skip
def test_words(seconds: float, told: str) -> None:
    """A time is told as people say it, and no more precisely than it is known."""
    assert in_words(seconds) == told
    assert Recipe("x", "", seconds=seconds).build_time == told


def test_nothing_to_tell() -> None:
    """Exact search takes no time; what only building tells is unknown."""
    assert Recipe("", "").build_time == "none"
    assert Recipe("", "", seconds=0.0).build_time == "none"
    assert Recipe("IVF256,SQ8", "").build_time == "unknown"


def test_ten_million() -> None:
    """Ten million vectors of 1,024 dimensions on two cores take a quarter of an hour, as they did (802 s)."""
    goal = Goal(memory=128 * 10_000_000)
    recipe, slow = (
        advise(10_000_000, 1024, Metric.COSINE, goal, machine=machine)[0] for machine in (Machine(), Machine(1, 0.1))
    )
    assert recipe.factory == slow.factory == "PCAR448,IVF4096_HNSW32,PQ224x4fs"
    assert 802 / 2 < recipe.seconds < 802 * 2
    assert (recipe.build_class, slow.build_class) == ("minutes", "hours")
    assert " h" in slow.build_time


def test_machines() -> None:
    """More and quicker cores take less time, but not less than what one of them does alone."""
    one, two, many = (
        advise(1_000_000, 384, Metric.COSINE, Goal(), machine=Machine(threads))[0].seconds for threads in (1, 2, 64)
    )
    assert one > two > many > two / 32
    quick = advise(1_000_000, 384, Metric.COSINE, Goal(), machine=Machine(2, speed=2))[0].seconds
    assert quick == pytest.approx(two / 2)


def test_this_machine() -> None:
    """A machine is timed once per process, so that the same question gets the same answer."""
    assert this_machine() is this_machine()
    assert 0.01 < this_machine().speed < 100
    assert reperio.advise(100_000, 384) == reperio.advise(100_000, 384)


def test_within_a_factor_of_two() -> None:
    """What was measured, and is committed with the benchmarks, is predicted within a factor of two."""
    done = subprocess.run(
        [sys.executable, ROOT / "eval" / "bench" / "predicted.py"], capture_output=True, text=True, check=True
    )
    lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| ") and " × " in line]
    factors = [float(cells[-2]) for cells in lines if "÷" not in cells[-2]]
    assert len(factors) >= 12
    assert all(0.5 < factor < 2 for factor in factors)
