from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, ReperioError
from reperio.errors import ReperioWarning
from tests.crash.plan import DIMENSION

from .hostile import QUERY, REFUSED, STRINGS, surroundings


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[Collection]:
    """Open a collection of 20 chunks among files of others."""
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "letter.txt").write_text("dear")
    vectors = np.random.default_rng(1).standard_normal((20, DIMENSION), dtype=np.float32)
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, auto_optimize=False) as opened:
        opened.add([Chunk(f"c{n}", f"text {n}", {"n": n}) for n in range(20)], vectors=vectors)
        yield opened


def _stored(kb: Collection) -> list[tuple[str, str, object]]:
    return [(chunk.id, chunk.text, chunk.metadata) for chunk in kb]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_words(name: str, kb: Collection, tmp_path: Path) -> None:
    """A hostile argument is a typed error with a message; nothing is stored, and nothing outside is touched."""
    before, around = _stored(kb), surroundings(tmp_path)
    with pytest.raises(ReperioError) as refused:
        REFUSED[name](kb)
    assert str(refused.value)
    assert len(str(refused.value)) < 2000, "a message is not a copy of what was passed"
    assert _stored(kb) == before
    assert surroundings(tmp_path) == around
    assert kb.check().ok


def test_strings_are_data(kb: Collection, tmp_path: Path) -> None:
    """Whatever is Unicode text is an id, a text, a key and a value; it is found again, and no file is made of it."""
    around = surroundings(tmp_path)
    wanted = [text for text in STRINGS if text]
    chunks = [Chunk(f"{text}", text, {text[:900]: text}) for text in wanted]
    vectors = np.random.default_rng(2).standard_normal((len(wanted), DIMENSION), dtype=np.float32)
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    kb.add(chunks, vectors=vectors)
    for chunk, vector in zip(chunks, vectors, strict=True):
        assert kb.get(chunk.id) == chunk
        hits = kb.search(vector=vector, k=1, recall=1.0)
        assert hits[0].chunk == chunk
        if len(chunk.text) < 1000:
            step = chunk.text.replace("\\", "\\\\").replace(".", "\\.")
            key = f"\\{step}" if step.startswith("$") else step
            assert [found.id for found in kb.get(where={key: {"$eq": chunk.text}})] == [chunk.id]
            if chunk.text.strip():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ReperioWarning)  # some have no words at all
                    assert all(isinstance(hit.score, float) for hit in kb.search(chunk.text, mode="lexical", k=3))
    assert surroundings(tmp_path) == around
    assert kb.check().ok
    assert kb.delete(ids=[chunk.id for chunk in chunks]) == len(chunks)
    assert kb.count() == 20


def test_huge_values_are_kept_or_refused(kb: Collection) -> None:
    """An id of a megabyte, a text and metadata of sixteen: each is stored to the byte, or refused in words."""
    for chunk in (
        Chunk("i" * (1 << 20), "x"),
        Chunk("text", "t" * (16 << 20)),
        Chunk("metadata", "", {"a": "m" * (16 << 20)}),
        Chunk("list", "", {"a": list(range(1 << 18))}),
        Chunk("keys", "", {f"key {n}": n for n in range(1 << 16)}),
    ):
        told = ""
        try:
            kb.add([chunk], vectors=[QUERY])
        except ReperioError as refused:
            told = str(refused)
        assert len(told) < 2000
        assert kb.get(chunk.id) == (None if told else chunk)
    assert kb.check().ok


@pytest.mark.parametrize(
    ("name", "read_only"),
    [
        pytest.param("a\0b", True, id="NUL, as a reader"),
        pytest.param("a\0b", False, id="NUL"),
        *(pytest.param("x" * 5000, only, id=f"long, {only}") for only in (True, False)),
        *(pytest.param("d/" * 3000, only, id=f"deep, {only}") for only in (True, False)),
    ],
)
def test_a_path_that_cannot_be_is_refused(name: str, read_only: bool, tmp_path: Path) -> None:
    """A path with NUL, or one too long, is a typed error; nothing is made of its beginning."""
    with pytest.raises(ReperioError):
        reperio.open(tmp_path / name, dimension=DIMENSION, read_only=read_only)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["sp ace", "per%20cent", "que?ry#x", "quo'te\"", "new\nline", "ünï", "-rf", "a;b", "file:x"]
)
def test_a_path_is_a_path(name: str, tmp_path: Path) -> None:
    """Characters that mean something to shells, URIs or SQL mean nothing in a path."""
    with reperio.open(tmp_path / name, dimension=DIMENSION) as kb:
        kb.add([Chunk("a", "b")], vectors=[QUERY])
        kb.backup(tmp_path / f"{name}.copy")
    with reperio.open(tmp_path / f"{name}.copy", read_only=True) as kb:
        assert kb.search(vector=QUERY)[0].chunk == Chunk("a", "b")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, f"{name}.copy"])


@pytest.mark.parametrize("file", ["chunks.db", "vectors.f32", "collection.json"])
def test_a_link_out_of_the_directory_is_never_written_through(file: str, kb: Collection, tmp_path: Path) -> None:
    """A file replaced by a link to another's file: compact, which writes all anew, leaves the other's bytes alone."""
    kb.close()
    (target,) = (tmp_path / "kb").glob(f"gen-*/{file}")
    outside = tmp_path / "neighbour" / file
    outside.write_bytes(target.read_bytes())
    target.unlink()
    target.symlink_to(outside)
    content = outside.read_bytes()
    try:
        with reperio.open(tmp_path / "kb", auto_optimize=False) as again:
            again.compact()
            assert again.count() == 20
    except ReperioError:
        pass
    assert outside.is_file()
    if file != "chunks.db":  # SQLite follows a link, and the last commit of a generation is made in its database
        assert outside.read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "CURRENT.new",
        "gen-000002",
        "gen-000002.new",
        "gen-000001.old",
        "gen-000001/index/snapshot-000002.faiss.new",
    ],
)
def test_a_planted_link_in_the_place_of_a_temporary_file_is_harmless(name: str, kb: Collection, tmp_path: Path) -> None:
    """A link planted under the name of a temporary file leads no write outside; it is removed, replaced, or refused."""
    victim = tmp_path / "neighbour" / "letter.txt"
    is_file = "CURRENT" in name or "snapshot" in name
    (tmp_path / "kb" / name).symlink_to(victim if is_file else victim.parent)
    for work in (lambda: kb.optimize(index="HNSW8,SQ8"), kb.compact):
        with contextlib.suppress(ReperioError):
            work()
        assert kb.count() == 20
    assert victim.read_text() == "dear"
    assert [entry.name for entry in victim.parent.iterdir()] == ["letter.txt"]


def test_a_handle_is_not_sent_to_another_process(kb: Collection) -> None:
    """Pickling a collection, as a spawned process needs, is refused with the cure: open it there by its path."""
    with pytest.raises(ReperioError, match="open"):
        pickle.dumps(kb)
