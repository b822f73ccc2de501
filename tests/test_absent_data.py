"""What a person sees who has not got the measured texts and embeddings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_absent_data_is_one_line(tmp_path: Path) -> None:
    """However many tests lack it, by whatever way they ask for it."""
    files = [
        "gate/test_faults.py",
        "eval/test_gate_golden.py",
        "ranking/test_evaluation.py",
        "collection/test_dtype.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "benign or golden_set_of or figures or real_"]
        + [f"tests/{file}" for file in files],
        cwd=ROOT, env=os.environ | {"REPERIO_DATA": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    skips = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert len(skips) == 1, done.stdout
    assert "eval/README.md" in skips[0]
    assert int(skips[0].partition("[")[2].partition("]")[0]) >= 4
