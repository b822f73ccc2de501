"""A field of a chunk that is not of the type that was stored: one flipped bit of a record's header does that."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, CollectionDamaged
from reperio.exchange import export_collection
from reperio.store.checksums import to_records
from reperio.store.words import lexical

D, ROWS, ROW = 4, 30, 7
VECTORS = np.random.default_rng(3).standard_normal((ROWS, D)).astype(np.float32)
CHUNKS = [Chunk(f"c{i}", f"number {i}", {"n": i, "all": 1}) for i in range(ROWS)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection of 30 chunks."""
    root = tmp_path_factory.mktemp("fields") / "kb"
    with reperio.open(root, dimension=D, auto_optimize=False) as kb:
        kb.add(CHUNKS, vectors=VECTORS)
    return root


FIELDS = ("id", "text", "metadata")


def damage(original: Path, target: Path, column: str, kind: str) -> Path:
    """Copy the collection, and give a field of row 7 another type, in the header of its record."""
    root = Path(shutil.copytree(original, target))
    database = root / "gen-000001" / "chunks.db"
    content = bytearray(database.read_bytes())
    (found,) = re.finditer(rb"\x06\x00(...)(.)c7number 7", bytes(content), flags=re.DOTALL)
    place = found.start(1) + FIELDS.index(column)
    # Text of n bytes has the type 2n + 13, and a blob of as many 2n + 12: one bit. 0 is NULL.
    content[place] = content[place] ^ 1 if kind == "a blob" else 0
    database.write_bytes(content)
    return root


def _among_tenants(kb: Collection) -> object:
    with reperio.open(kb.info().path, scope={"all": 1}, read_only=True) as scoped:
        return list(scoped), scoped.ids(), scoped.get(["c6", "c7"])


CALLS: dict[str, Callable[[Collection], object]] = {
    "dense": lambda kb: kb.search(vector=VECTORS[ROW], k=3),
    "many": lambda kb: kb.search_many(vectors=VECTORS[ROW : ROW + 1], k=ROWS),
    "lexical": lambda kb: kb.search("number 7", mode="lexical", k=ROWS),
    "hybrid": lambda kb: kb.search("number 7", vector=VECTORS[ROW], mode="hybrid", k=ROWS),
    "distinct": lambda kb: kb.search(vector=VECTORS[ROW], k=ROWS, distinct=True),
    "ids of a search": lambda kb: kb.search(vector=VECTORS[ROW], k=3, ids=["c7", "c8"]),
    "diverse": lambda kb: kb.search(vector=VECTORS[ROW], k=3, diversity=0.5),
    "filtered": lambda kb: kb.search(vector=VECTORS[ROW], k=3, where={"n": {"$gt": 5}}),
    "get": lambda kb: kb.get("c7"),
    "get among": lambda kb: kb.get(["c7", "c8"], where={"all": 1}),
    "get by filter": lambda kb: kb.get(where={"all": 1}),
    "ids": lambda kb: kb.ids(),
    "ids by filter": lambda kb: kb.ids(where={"all": 1}),
    "count by filter": lambda kb: kb.count(where={"all": 1}),
    "vectors": lambda kb: kb.vectors(["c7"]).tolist(),
    "iteration": list,
    "scope": _among_tenants,
    "export": lambda kb: export_collection(kb, Path(kb.info().path).with_name("export"), format="jsonl").chunks,
    "backup": lambda kb: kb.backup(Path(kb.info().path).with_name("backup")),
    "compact": lambda kb: kb.compact(),
    "delete by filter": lambda kb: kb.delete(where={"n": ROW}),
}


@pytest.mark.parametrize("column", FIELDS)
def test_a_field_of_another_type_is_named_by_whatever_reads_it(column: str, original: Path, tmp_path: Path) -> None:
    """Each call names the damaged chunk's id or row, or answers as if nothing were; none hands out another type."""
    told: dict[str, str] = {}
    for number, (name, call) in enumerate(CALLS.items()):
        whole = Path(shutil.copytree(original, tmp_path / f"{number}-whole" / "kb"))
        damaged = damage(original, tmp_path / f"{number}" / "kb", column, "a blob")
        with (
            reperio.open(whole, auto_optimize=False) as kb,
            reperio.open(damaged, auto_optimize=False) as other,
        ):
            wanted = call(kb)
            try:
                assert call(other) == wanted, name
            except CollectionDamaged as error:
                told[name] = str(error)
    told.pop("backup")  # which may name what SQLite finds first
    assert len(told) >= 6
    assert all(re.search(r"row 7|'c7'", said) for said in told.values()), told


@pytest.mark.parametrize("column", FIELDS)
def test_a_field_that_is_null_is_damage_to_whatever_needs_it(column: str, original: Path, tmp_path: Path) -> None:
    """NULL in the place of text raises nothing but `CollectionDamaged`."""
    named = 0
    for number, call in enumerate(CALLS.values()):
        with reperio.open(damage(original, tmp_path / f"{number}" / "kb", column, "NULL"), auto_optimize=False) as kb:
            try:
                call(kb)
            except CollectionDamaged:
                named += 1
    assert named >= 15


@pytest.mark.parametrize("column", FIELDS)
def test_mending_takes_a_blob_for_the_text_it_was(column: str, original: Path, tmp_path: Path) -> None:
    """`check` finds the field of another type, and mending loses nothing: the checksum proves the bytes."""
    with reperio.open(damage(original, tmp_path / "kb", column, "a blob"), auto_optimize=False) as kb:
        assert not kb.check().ok
        report = kb.check(fix=True)
        assert (report.ok, report.lost) == (True, [])
        assert list(kb) == CHUNKS


def test_words_of_rows_that_are_not_find_none(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of words that names rows beyond all, or below 0, finds the others as if it did not."""
    monkeypatch.setattr(lexical, "_FEW_ROWS", 10)  # as with many chunks, whose rows are counted in an array of all
    root = Path(shutil.copytree(original, tmp_path / "kb"))
    with apsw.Connection(str(root / "gen-000001" / "chunks.db")) as connection:
        for row in (-5, ROWS, 10**12):
            connection.execute("INSERT INTO lexical(rowid, written_out) VALUES (?, 'number 7')", (row,))
    with reperio.open(root, read_only=True) as kb:
        hits = kb.search("number 7", mode="lexical", k=ROWS)
        assert hits[0].chunk == CHUNKS[ROW]
        assert len(hits) == ROWS


def test_metadata_that_are_no_object_are_damage(original: Path, tmp_path: Path) -> None:
    """A checksum that was forged with them does not make a list, or a number, the metadata of a chunk."""
    for metadata in ("[1]", "5", "null", '"text"'):
        root = Path(shutil.copytree(original, tmp_path / metadata[1:2] / "kb"))
        vector = memoryview((VECTORS[ROW] / np.linalg.norm(VECTORS[ROW])).tobytes())
        [(*_, crc)] = to_records([("c7", "number 7", metadata)], [vector], ROW)
        with apsw.Connection(str(root / "gen-000001" / "chunks.db")) as connection:
            connection.execute("UPDATE chunks SET metadata = ?, crc = ? WHERE row = ?", (metadata, crc, ROW))
        with reperio.open(root, auto_optimize=False) as kb:
            for name in ("dense", "get", "iteration", "hybrid"):
                with pytest.raises(CollectionDamaged):
                    CALLS[name](kb)
            with reperio.open(root, scope={"all": 1}, read_only=True) as scoped:  # what has no fields is in no scope
                assert list(scoped) == scoped.get(where={}) == [chunk for chunk in CHUNKS if chunk.id != "c7"]
                assert scoped.get("c7") is None
            assert not kb.check().ok
