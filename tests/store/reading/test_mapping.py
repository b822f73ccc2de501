"""Mapping of databases by readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk
from reperio.store import schema


@pytest.mark.parametrize("large", [False, True])
def test_a_large_database_is_not_mapped(large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system would read megabytes around each page that it takes from the disk; what is found is the same."""
    path = tmp_path / "kb"
    with reperio.open(path, dimension=4, auto_optimize=False) as kb:
        kb.add([Chunk("a", "a word" * 3000), Chunk("b", "another")], vectors=np.eye(2, 4))
    if large:
        monkeypatch.setattr(schema, "_LARGE_BYTES", 10_000)
    [database] = path.glob("gen-*/chunks.db")
    reader = schema.connect(database, read_only=True)
    assert (reader.pragma("mmap_size") == 0) is large
    reader.close()
    with reperio.open(path, read_only=True) as kb:
        assert [hit.chunk.id for hit in kb.search(vector=np.eye(1, 4)[0], k=2)] == ["a", "b"]
