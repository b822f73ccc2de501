"""The benchmark of opening and of many readers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk

READERS = Path(__file__).parents[2] / "eval" / "bench" / "readers.py"


@pytest.mark.skipif(not (READERS.parents[2] / ".git").exists(), reason="no repository to take another commit from")
@pytest.mark.campaign
def test_opening_and_many_readers_are_measured(tmp_path: Path) -> None:
    """Both checkouts open the collection, alone and several at once, and the page has a line for each."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, 16)).astype(np.float32)
    with reperio.open(tmp_path / "kb", dimension=16, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{row}", "text") for row in range(600)], vectors=vectors)
        kb.optimize(index="HNSW8,SQ8")
    np.save(tmp_path / "questions.npy", vectors[:20])
    command = [sys.executable, str(READERS), "HEAD", str(tmp_path / "kb"), "--rounds", "1", "--readers", "2"]
    command += ["--questions", str(tmp_path / "questions.npy"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| 600, `HNSW8,SQ8` |") == 2
    (found,) = json.loads((tmp_path / "out" / "readers.json").read_bytes())["collections"]
    assert found["rows"] == 600
    assert found["now"]["mib_2"] > found["now"]["mib_1"]
