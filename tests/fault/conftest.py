"""Share the fixtures of the tests of hostile directories."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk
from tests.fault.directories import SECRET


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection of 20 chunks with an index and kept queries."""
    path = tmp_path_factory.mktemp("whole") / "kb"
    vectors = np.random.default_rng(1).standard_normal((40, 4), dtype=np.float32)
    with reperio.open(path, dimension=4, auto_optimize=False) as made:
        made.add([Chunk(f"c{n}", f"text {n}") for n in range(20)], vectors=vectors[:20])
        made.optimize(index="SQ8", queries=vectors)
    return path


@pytest.fixture
def kb(whole: Path, tmp_path: Path) -> Path:
    """Copy the collection, beside another one, a secret, and a home with a file of its own."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".bashrc").write_text("# mine\n")
    (tmp_path / "secret").write_text(SECRET)
    shutil.copytree(whole, tmp_path / "other")
    return Path(shutil.copytree(whole, tmp_path / "kb"))
