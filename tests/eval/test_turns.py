from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TURNS = Path(__file__).parents[2] / "eval" / "bench" / "turns.py"


@pytest.mark.campaign
def test_writers_that_take_turns_are_measured(tmp_path: Path) -> None:
    """The quick form goes through all that the full one measures, prints the page and writes nothing."""
    done = subprocess.run(
        [sys.executable, str(TURNS), "--quick", "--work", str(tmp_path), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for beginning in ("| 1,000 |", "| 10 |", "| 1,000 | 8 |", "| 10 | 8 |", "| 4 writers without a pause |"):
        assert any(line.startswith(beginning) for line in lines), beginning
    assert list(tmp_path.iterdir()) == []
