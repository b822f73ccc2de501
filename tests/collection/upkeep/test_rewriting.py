"""Backups, compaction, another model."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, CollectionExists, EmbeddingContractError, InvalidInput, StorageFailed
from reperio.layout import writing
from tests.conftest import TrigramEmbedder


def test_a_backup_is_a_collection(kb: Collection, tmp_path: Path) -> None:
    """A backup opens like any collection, holds the chunks of its moment, and lives apart from the original."""
    kb.add([Chunk(str(i), f"text number {i}", {"i": i}) for i in range(300)])
    kb.delete(ids=["7"])
    kb.optimize(index="SQ8")
    kb.backup(tmp_path / "copy")
    kb.add([Chunk("later", "added later")])
    with reperio.open(tmp_path / "copy", embedder=TrigramEmbedder()) as copy:
        assert copy.count() == 299
        assert copy.check().ok
        assert copy.info().index is not None
        assert copy.get("7") is None
        assert copy.search("text number 8", k=1)[0].chunk == Chunk("8", "text number 8", {"i": 8})
        copy.add([Chunk("mine", "only in the copy")])
    assert kb.get("mine") is None
    assert kb.get("later") is not None


def test_a_reader_can_take_a_backup(kb: Collection, path: Path, tmp_path: Path) -> None:
    """A backup needs no write access, and goes beside a writer."""
    kb.add([Chunk("a", "text")])
    with reperio.open(path, read_only=True) as reader:
        reader.backup(tmp_path / "copy")
    with reperio.open(tmp_path / "copy", read_only=True) as copy:
        assert [chunk.id for chunk in copy] == ["a"]


def test_a_backup_does_not_overwrite(kb: Collection, tmp_path: Path) -> None:
    """A destination in use is refused and left alone."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    for taken in (tmp_path / "full", tmp_path / "full" / "mine"):
        with pytest.raises(CollectionExists, match="choose a new path"):
            kb.backup(taken)
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["mine"]


def test_compaction_drops_what_was_deleted(kb: Collection, path: Path) -> None:
    """After compact() the files hold live chunks only, the answers are the same, and a reader follows by itself."""
    with reperio.open(path, read_only=True, embedder=TrigramEmbedder()) as reader:
        kb.add([Chunk(str(i), f"text number {i}") for i in range(400)])
        kb.delete(ids=[str(i) for i in range(0, 400, 2)])
        kb.add([Chunk("1", "changed")])
        kb.optimize(index="SQ8")
        before = [hit.chunk.id for hit in kb.search("text number 33", k=30)]
        assert [hit.chunk.id for hit in reader.search("text number 33", k=30)] == before
        assert kb.compact() == 201
        assert kb.info().deleted == 0
        assert kb.info().generation == "gen-000002"
        assert kb.info().index.factory == "SQ8"
        assert {entry.name for entry in path.iterdir()} == {"CURRENT", "LOCK", "MAINTENANCE", "gen-000002"}
        assert (path / "gen-000002" / "vectors.f32").stat().st_size == 200 * 64 * 4
        for handle in (kb, reader):
            assert [hit.chunk.id for hit in handle.search("text number 33", k=30)] == before
            assert handle.count() == 200
            assert handle.check().ok
        kb.add([Chunk("new", "brand new")])
        assert reader.search("brand new", k=1)[0].chunk.id == "new"


def test_reembedding_changes_the_model_in_one_step(kb: Collection, path: Path) -> None:
    """reembed() makes the new embedder the contract; a reader with the old one is told, not misled."""
    kb.add([Chunk(str(i), f"text number {i}", {"i": i}) for i in range(50)])
    with reperio.open(path, read_only=True, embedder=TrigramEmbedder()) as reader:
        assert reader.search("text number 3", k=1)[0].chunk.id == "3"
        kb.reembed(TrigramEmbedder(48, name="narrow", salt="n"))
        assert kb.info().dimension == 48
        assert kb.info().embedder == "narrow"
        assert kb.search("text number 3", k=1)[0].chunk == Chunk("3", "text number 3", {"i": 3})
        with pytest.raises(EmbeddingContractError, match="48"):
            reader.search("text number 3")
    kb.close()
    with reperio.open(path, embedder=TrigramEmbedder(48, salt="n")) as again:
        assert again.count() == 50
        assert again.check().ok


def test_reembedding_without_texts_is_refused_and_changes_nothing(path: Path) -> None:
    """A collection with empty texts cannot be embedded again; it stays as it was."""
    with reperio.open(path, dimension=4) as kb:
        kb.add([Chunk("a", "text"), Chunk("b")], vectors=np.eye(2, 4, dtype=np.float32))
        with pytest.raises(InvalidInput, match="chunk 'b' has no text to embed"):
            kb.reembed(TrigramEmbedder())
        assert kb.search(vector=np.eye(1, 4)[0])[0].chunk.id == "a"
        assert {entry.name for entry in path.iterdir()} == {"CURRENT", "LOCK", "MAINTENANCE", "gen-000001"}


def test_a_model_whose_generation_is_in_use_is_used(
    kb: Collection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sync after CURRENT was replaced is refused: an error, and what embeds belongs to what is in use."""
    kb.add([Chunk(str(i), f"text number {i}") for i in range(20)])
    fresh = TrigramEmbedder(32, name="other", salt="x")
    real = writing.sync_directory

    def refused(directory: Path) -> None:
        if directory == path:
            raise OSError(errno.EIO, "Input/output error")
        real(directory)

    with monkeypatch.context() as patched:
        patched.setattr(writing, "sync_directory", refused)
        with pytest.raises(StorageFailed, match="Input/output error"):
            kb.reembed(fresh)
    assert (kb.info().embedder, kb.embedder) == ("other", fresh)
    kb.add([Chunk("new", "something new")])
    assert kb.search("something new", k=1)[0].chunk.id == "new"
    assert kb.check().ok


def test_compaction_survives_an_index_that_no_longer_can_be_trained(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A requested index that has too few rows left to train on is dropped with a log line; the rest is compacted."""
    with reperio.open(path, dimension=8) as kb:
        kb.add([Chunk(str(i)) for i in range(40)], vectors=np.random.default_rng(0).standard_normal((40, 8)))
        kb.optimize(index="IVF1,PQ4x4fs")
        kb.delete(ids=[str(i) for i in range(30)])
        assert kb.compact() == 30
        assert kb.info().index is None
        assert len(kb.search(vector=np.ones(8), k=20)) == 10
    assert "is searched exactly for now" in caplog.text
