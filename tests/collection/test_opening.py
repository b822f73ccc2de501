"""Opening, the contract, the handle's life."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import reperio
from reperio import (
    Chunk,
    Collection,
    CollectionClosed,
    CollectionLocked,
    CollectionNotFound,
    CollectionReadOnly,
    EmbedderFailed,
    EmbeddingContractError,
    InvalidInput,
    InvalidVectors,
    MissingDependency,
    NotACollection,
    UnsupportedFormat,
)
from reperio.layout import FORMAT_VERSION
from tests.conftest import TrigramEmbedder


def test_opening_creates_and_opens_again(path: Path, embedder: TrigramEmbedder) -> None:
    """What one handle stored, the next one finds, with the metric it was created with."""
    with reperio.open(path, embedder=embedder, metric="l2") as kb:
        kb.add([Chunk("a", "some text", {"n": 1})])
    with reperio.open(str(path), embedder=TrigramEmbedder()) as kb:
        assert kb.info().metric == "l2"
        hit = kb.search("some text")[0]
        assert (hit.chunk, hit.score, hit.rank) == (Chunk("a", "some text", {"n": 1}), 0.0, 1)


def test_the_directory_is_the_documented_one(kb: Collection, path: Path) -> None:
    """On disk lies exactly the scheme of the README."""
    kb.add([Chunk("a", "text")])
    assert {entry.name for entry in path.iterdir()} == {"CURRENT", "LOCK", "MAINTENANCE", "gen-000001"}
    assert (path / "CURRENT").read_text() == "gen-000001\n"
    names = {entry.name for entry in (path / "gen-000001").iterdir()}
    assert names - {"chunks.db-wal", "chunks.db-shm"} == {"collection.json", "chunks.db", "vectors.f32", "index"}
    assert (path / "gen-000001" / "vectors.f32").stat().st_size == 64 * 4


def test_a_path_that_is_no_collection_is_left_alone(tmp_path: Path) -> None:
    """A directory with other things, and a file, are refused; nothing is created in or beside them."""
    (tmp_path / "notes.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(NotACollection):
            reperio.open(target, dimension=3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_reader_does_not_create(tmp_path: Path) -> None:
    """Opening nothing read-only says how to create it."""
    with pytest.raises(CollectionNotFound, match=r"create it with reperio\.open"):
        reperio.open(tmp_path / "kb", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    """An embedder that fails while the contract is drawn up leaves no directory."""

    class Broken(TrigramEmbedder):
        def embed_passages(self, texts: Any) -> Any:
            return super().embed_passages(texts)[:-1]

    with pytest.raises(EmbedderFailed, match="returned 7 vectors for 8 texts"):
        reperio.open(tmp_path / "kb", embedder=Broken())
    assert list(tmp_path.iterdir()) == []


def test_an_exclusive_writer_and_any_number_of_readers(kb: Collection, path: Path) -> None:
    """Other writers are told who holds the collection; readers come and go; after close the lock is free."""
    kb.close()
    kb = reperio.open(path, exclusive=True)
    for options in ({"exclusive": True}, {"trust_index": False}):
        with pytest.raises(CollectionLocked, match=f"process {os.getpid()} .*exclusive=True"):
            reperio.open(path, lock_timeout=0, **options)
    with reperio.open(path, lock_timeout=0) as other, pytest.raises(CollectionLocked, match="exclusive=True"):
        other.delete(ids="a")
    with reperio.open(path, read_only=True), reperio.open(path, read_only=True) as reader:
        with pytest.raises(CollectionReadOnly, match="open it without, to write"):
            reader.add([Chunk("a", "b")])
        for write in (lambda: reader.delete(ids="a"), reader.compact, reader.optimize, lambda: reader.reembed("x")):
            with pytest.raises(CollectionReadOnly):
                write()
    kb.close()
    kb.close()
    reperio.open(path).close()


def test_a_closed_handle_says_so(kb: Collection) -> None:
    """Every call on a closed handle raises CollectionClosed."""
    kb.add([Chunk("a", "text")])
    kb.search("text")
    kb.close()
    calls = [lambda: kb.search("text"), lambda: kb.add([Chunk("b", "x")]), lambda: kb.get("a"), lambda: list(kb)]
    for call in (*calls, kb.count, kb.info, kb.check, kb.compact, lambda: kb.embedder):
        with pytest.raises(CollectionClosed, match="open it again"):
            call()


def test_what_is_fixed_cannot_be_changed_by_opening(path: Path) -> None:
    """Another metric or dimension on an existing collection is refused, not ignored; the lock is released."""
    reperio.open(path, dimension=3, metric="l2").close()
    for options in ({"metric": "cosine"}, {"dimension": 4}):
        with pytest.raises(InvalidInput, match="fixed when it was created"):
            reperio.open(path, **options)
    reperio.open(path, dimension=3, metric=reperio.Metric.L2).close()


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "cos"},
        {"dimension": 0},
        {"dimension": 2.5},
        {"dimension": 10**6},
        {"embedder": 7},
        {"embedder": object()},
    ],
)
def test_bad_options_are_refused_before_anything_is_created(tmp_path: Path, options: dict[str, Any]) -> None:
    """Options that cannot be are named; no directory appears."""
    with pytest.raises(InvalidInput):
        reperio.open(tmp_path / "kb", **({"dimension": 3} | options))
    assert list(tmp_path.iterdir()) == []


def test_a_newer_format_is_refused_with_the_cure(kb: Collection, path: Path) -> None:
    """A collection written by a newer version is not touched."""
    kb.close()
    settings = path / "gen-000001" / "collection.json"
    settings.write_bytes(orjson.dumps(orjson.loads(settings.read_bytes()) | {"format_version": FORMAT_VERSION + 1}))
    wrong = f"format version {FORMAT_VERSION + 1}, and this Reperio reads up to {FORMAT_VERSION}; upgrade"
    with pytest.raises(UnsupportedFormat, match=wrong):
        reperio.open(path)


def test_the_same_embedder_is_recognised_by_its_canaries(kb: Collection, path: Path) -> None:
    """Another instance with the same vectors is accepted, whatever its name; it finds what the first one stored."""
    kb.add([Chunk("a", "some text")])
    kb.close()
    with reperio.open(path, embedder=TrigramEmbedder(name="renamed")) as again:
        assert again.search("some text", k=1)[0].score == pytest.approx(1.0, abs=1e-6)


def test_the_canaries_are_embedded_once_at_creation(path: Path) -> None:
    """Once as passages and once as questions; and again at each later opening, where they are compared."""

    class Counting(TrigramEmbedder):
        calls = 0

        def embed_passages(self, texts: Any) -> Any:
            self.calls += 1
            return super().embed_passages(texts)

        def embed_queries(self, texts: Any) -> Any:
            self.calls += 1
            return super().embed_queries(texts)

    for _ in range(2):
        counting = Counting()
        with reperio.open(path, embedder=counting) as kb:
            assert counting.calls == 2
            assert kb.embedder is counting
            kb.add([Chunk("a", f"some text, {counting.calls}")])
            assert kb.search("some text")[0].chunk.id == "a"


def test_an_embedder_of_too_many_dimensions_creates_nothing(path: Path) -> None:
    """As a dimension that is too large; before, there was a collection that could not be opened."""
    with pytest.raises(InvalidInput, match="the dimension of trigrams is 70000; at most 65,536"):
        reperio.open(path, embedder=TrigramEmbedder(70_000))
    assert not path.exists()


def test_a_handle_says_whether_it_only_reads(kb: Collection, path: Path) -> None:
    """By `Collection.read_only`."""
    assert not kb.read_only
    with reperio.open(path, read_only=True) as reader:
        assert reader.read_only


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (TrigramEmbedder(salt="other"), "has cosine"),
        (TrigramEmbedder(32), "32 dimensions, not 64"),
        (TrigramEmbedder(scale=2.0), "times the recorded length"),
    ],
)
def test_another_embedder_is_refused_with_what_differs(
    kb: Collection, path: Path, other: TrigramEmbedder, difference: str
) -> None:
    """Other directions, dimensions or lengths break the contract; the message names the command that re-embeds."""
    kb.close()
    with pytest.raises(EmbeddingContractError, match=difference) as caught:
        reperio.open(path, embedder=other)
    assert f"reperio reembed {path} --embedder trigrams" in str(caught.value)
    reperio.open(path).close()


def test_an_embedder_that_differs_only_for_queries_is_refused(kb: Collection, path: Path) -> None:
    """A forgotten query prompt is caught: canaries are compared as passages and as queries."""
    kb.close()

    class Prompted(TrigramEmbedder):
        query_prompt = "query: "

        def embed_queries(self, texts: Any) -> Any:
            return super().embed_queries([self.query_prompt + text for text in texts])

    with pytest.raises(EmbeddingContractError, match=r"embedded as queries.*query_prompt 'query: ' instead of ''"):
        reperio.open(path, embedder=Prompted())


def test_a_recorded_embedder_that_cannot_be_loaded_is_explained(kb: Collection, path: Path) -> None:
    """Without embedder=, a collection of a custom embedder can be read by vector, and says what a text would need.

    So it is whether sentence-transformers is installed or not.
    """
    kb.add([Chunk("a", "text")])
    kb.close()
    with reperio.open(path) as again:
        assert again.search(vector=np.ones(64, np.float32))[0].chunk.id == "a"
        told = r"was embedded with 'trigrams'.*pass the same model with embedder="
        with pytest.raises((EmbedderFailed, MissingDependency), match=told):
            again.search("text")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_what_an_embedder_returns_is_checked(path: Path, bad: float) -> None:
    """A NaN, an infinity or a zero vector from an embedder is refused with the row named, and nothing is stored."""

    class Sick(TrigramEmbedder):
        def embed_passages(self, texts: Any) -> Any:
            vectors = super().embed_passages(texts)
            vectors[[i for i, text in enumerate(texts) if text == "sick"]] = bad
            return vectors

    with reperio.open(path, embedder=Sick()) as kb:
        with pytest.raises(InvalidVectors, match="vectors from trigrams: row 1"):
            kb.add([Chunk("a", "well"), Chunk("b", "sick")])
        assert kb.count() == 0
