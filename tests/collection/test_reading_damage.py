"""A chunk whose metadata damage has changed is chosen by no filter for good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, CollectionDamaged


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    """Make a collection of which one chunk's metadata says "drop" where "keep" was stored."""
    path = tmp_path / "kb"
    chunks = [Chunk(f"c{i}", "text", {"state": "keep" if i else "drop"}) for i in range(10)]
    with reperio.open(path, dimension=4, auto_optimize=False) as opened:
        opened.add(chunks, vectors=np.eye(10, 4, dtype=np.float32) + 1)
    database = path / "gen-000001" / "chunks.db"
    content = database.read_bytes()
    at = content.index(b'c1text{"state":"keep"}')
    database.write_bytes(content[: at + 16] + b"drop" + content[at + 20 :])
    return path


def test_delete_by_filter_refuses_what_damage_has_chosen(kb: Path) -> None:
    """Nothing is deleted, the chunk is named, and it is still there to be found damaged."""
    with reperio.open(kb, auto_optimize=False) as opened:
        assert opened.count(where={"state": "drop"}) == 2
        for call in (
            lambda: opened.delete(where={"state": "drop"}),
            lambda: opened.delete(ids=["c0", "c1"], where={"state": "drop"}),
            lambda: opened.ids(where={"state": "drop"}),
        ):
            with pytest.raises(CollectionDamaged, match=r"chunk 'c1' \(row 1\) is not what was stored"):
                call()
        assert opened.count() == 10
        assert not opened.check().ok
        assert opened.delete(where={"state": "keep"}) == 8


def test_a_scope_refuses_what_damage_has_moved_into_it(kb: Path) -> None:
    """Through a handle confined to "drop" the chunk is neither listed nor deleted, by its id either."""
    with reperio.open(kb, scope={"state": "drop"}, auto_optimize=False) as opened:
        for call in (lambda: opened.delete(ids=["c1"]), opened.ids):
            with pytest.raises(CollectionDamaged, match="'c1'"):
                call()
        assert opened.delete(ids=["c0", "c5"]) == 1


def test_a_damaged_chunk_can_be_deleted_by_its_id(kb: Path) -> None:
    """Without a filter nothing but the id chooses: deleting is one of the cures."""
    with reperio.open(kb, auto_optimize=False) as opened:
        assert opened.delete(ids="c1") == 1
        assert opened.check().ok
        assert opened.delete(where={"state": "drop"}) == 1
        assert opened.count() == 8
