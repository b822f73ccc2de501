"""Incremental backups and the way back: verified, and never at the cost of another backup."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recollect
from recollect import (
    Chunk,
    Collection,
    CollectionDamaged,
    CollectionExists,
    CollectionNotFound,
    InvalidInput,
    NotACollection,
)

D = 32


def content(kb: Collection) -> dict[str, Any]:
    ids = kb.ids()
    records = kb.records("docs").list()
    return {"chunks": list(kb), "vectors": kb.vectors(ids).tobytes() if ids else b"", "records": records}


def content_at(path: Path) -> dict[str, Any]:
    with recollect.open(path, read_only=True) as kb:
        assert kb.check().ok
        return content(kb)


def grow(kb: Collection, first: int, count: int) -> None:
    vectors = np.random.default_rng(first).standard_normal((count, D)).astype(np.float32)
    kb.add([Chunk(f"c{first + i}", f"text {first + i} " * 9, {"i": i}) for i in range(count)], vectors=vectors)
    kb.records("docs").put([f"batch {first}"], values=[count])


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(params=["float32", "float16"])
def kb(request: pytest.FixtureRequest, path: Path) -> Any:
    with recollect.open(path, dimension=D, dtype=request.param, auto_optimize=False) as collection:
        yield collection


def test_each_backup_comes_back(kb: Collection, tmp_path: Path) -> None:
    """Every state restores to what the collection held then: added, replaced, deleted, compacted, with an index."""
    folder, states = tmp_path / "backups", []
    for step in range(6):
        if step == 3:
            kb.delete(ids=[f"c{i}" for i in range(0, 600, 2)])
        elif step == 4:
            kb.compact()
        elif step == 5:
            kb.optimize(index="SQ8")
        else:
            grow(kb, 400 * step, 500)
        states.append(content(kb))
        kb.backup(folder, incremental=True)
    found = recollect.backups(folder)
    assert [backup.number for backup in found] == [1, 2, 3, 4, 5, 6]
    assert [backup.chunks for backup in found] == [len(state["chunks"]) for state in states]
    for number, state in enumerate(states, start=1):
        done = recollect.restore(folder, tmp_path / f"r{number}", number=number)
        assert (done.number, done.chunks) == (number, len(state["chunks"]))
        assert content_at(tmp_path / f"r{number}") == state
    recollect.restore(folder, tmp_path / "newest")
    with recollect.open(tmp_path / "newest", auto_optimize=False) as restored:
        assert restored.info().index is not None
        assert content(restored) == states[-1]
        grow(restored, 9000, 10)
    assert not list(folder.glob(".database-*"))


def test_only_what_is_new_is_written(kb: Collection, tmp_path: Path) -> None:
    """A backup of an unchanged collection takes next to nothing, one of a tenth more a fraction of the first."""
    folder = tmp_path / "backups"
    grow(kb, 0, 5000)
    kb.backup(folder, incremental=True)
    first = size(folder)
    kb.backup(folder, incremental=True)
    assert size(folder) - first < first / 50
    second = size(folder)
    grow(kb, 5000, 100)
    kb.backup(folder, incremental=True)
    assert size(folder) - second < first / 2


def test_retention_keeps_the_newest_whole(kb: Collection, tmp_path: Path) -> None:
    """keep= removes older backups and the blocks that nothing else needs; those that stay restore as before."""
    folder, states = tmp_path / "backups", {}
    for number in range(1, 8):
        grow(kb, 300 * number, 400)
        kb.delete(ids=[f"c{i}" for i in range(300 * number - 250, 300 * number)])
        kb.compact()
        states[number] = content(kb)
        kb.backup(folder, incremental=True, keep=2)
        assert [backup.number for backup in recollect.backups(folder)] == list(range(max(1, number - 1), number + 1))
    assert size(folder) < 2.5 * sum(info.bytes for info in recollect.backups(folder))
    for number in (6, 7):
        recollect.restore(folder, tmp_path / f"r{number}", number=number)
        assert content_at(tmp_path / f"r{number}") == states[number]
    with pytest.raises(InvalidInput, match="no backup 5; there are: 6, 7"):
        recollect.restore(folder, tmp_path / "r5", number=5)


def test_a_damaged_backup_is_refused(kb: Collection, tmp_path: Path) -> None:
    """A flipped or missing byte anywhere that a state needs is told; nothing is left at the destination."""
    folder = tmp_path / "backups"
    grow(kb, 0, 300)
    kb.backup(folder, incremental=True)
    for path in sorted(path for path in folder.rglob("0*") if path.is_file()):
        whole = path.read_bytes()
        for at in (0, len(whole) // 3, len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(CollectionDamaged, match="restore another backup"):
                recollect.restore(folder, tmp_path / "restored")
        path.write_bytes(whole[:-1])
        with pytest.raises(CollectionDamaged, match="restore another backup"):
            recollect.restore(folder, tmp_path / "restored")
        path.write_bytes(whole)
        assert not (tmp_path / "restored").exists()
    assert recollect.restore(folder, tmp_path / "restored").chunks == 300


def test_a_full_backup_is_verified_too(kb: Collection, path: Path, tmp_path: Path) -> None:
    """restore() of a directory of its own copies it when it is whole, and refuses it when a chunk is not."""
    grow(kb, 0, 50)
    kb.backup(tmp_path / "full")
    before = content(kb)
    assert recollect.restore(tmp_path / "full", tmp_path / "restored").chunks == 50
    assert content_at(tmp_path / "restored") == before
    (vectors,) = (tmp_path / "full").glob("gen-*/vectors.*")
    damaged = bytearray(vectors.read_bytes())
    damaged[700] ^= 1
    vectors.write_bytes(damaged)
    with pytest.raises(CollectionDamaged, match="cannot be restored: chunk 'c"):
        recollect.restore(tmp_path / "full", tmp_path / "other")
    with pytest.raises(InvalidInput, match="leave number out"):
        recollect.restore(tmp_path / "full", tmp_path / "other", number=1)
    with pytest.raises(CollectionExists):
        recollect.restore(tmp_path / "full", path)
    with pytest.raises(CollectionNotFound):
        recollect.restore(tmp_path / "absent", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_backup_that_was_killed_disturbs_no_other(kb: Collection, tmp_path: Path) -> None:
    """A pack without a state, and unfinished files, are passed over, and the next backup writes beside them."""
    folder = tmp_path / "backups"
    grow(kb, 0, 100)
    kb.backup(folder, incremental=True)
    grow(kb, 100, 100)
    kb.backup(folder, incremental=True)
    (folder / "states" / "000002.json").unlink()  # as if killed before it was written
    (folder / "packs" / "000003.pack.new").write_bytes(b"half")
    (folder / "packs" / "000004.pack").write_bytes(b"no index yet")
    assert [backup.number for backup in recollect.backups(folder)] == [1]
    kb.backup(folder, incremental=True)
    recollect.restore(folder, tmp_path / "restored")
    assert content_at(tmp_path / "restored") == content(kb)
    kb.backup(folder, incremental=True, keep=1)  # cleans up, too
    assert not [path.name for path in (folder / "packs").iterdir() if path.name.startswith(("000003", "000004"))]
    recollect.restore(folder, tmp_path / "again")
    assert content_at(tmp_path / "again") == content(kb)


def test_other_folders_are_left_alone(kb: Collection, path: Path, tmp_path: Path) -> None:
    """Incremental backups go into a folder of their own; keep= without them is refused."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("x")
    for taken in (tmp_path / "mine", path):
        with pytest.raises(NotACollection, match="something else than backups"):
            kb.backup(taken, incremental=True)
    with pytest.raises(InvalidInput, match="keep= is for incremental"):
        kb.backup(tmp_path / "new", keep=3)
    with pytest.raises(InvalidInput, match="keep is 0"):
        kb.backup(tmp_path / "new", incremental=True, keep=0)
    with pytest.raises(CollectionNotFound):
        recollect.backups(tmp_path / "mine")
    assert not (tmp_path / "new").exists()
    shutil.rmtree(tmp_path / "mine")
