"""A collection for several writers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import reperio
from reperio import Collection

from .turn_worker import add
from .versions import DIMENSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a collection with 50 chunks."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        add(kb, list(range(50)), 0)
    return tmp_path / "kb"


@pytest.fixture
def kb(path: Path) -> Iterator[Collection]:
    with reperio.open(path, auto_optimize=False, lock_timeout=60) as kb:
        yield kb
