"""Adding: what is stored, what is embedded, what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, InvalidChunk, InvalidInput, InvalidVectors, UnknownOption
from tests.conftest import TrigramEmbedder


def test_new_changed_and_unchanged_chunks_are_told_apart(kb: Collection, embedder: TrigramEmbedder) -> None:
    """Unchanged text is not embedded again, changed metadata alone never re-embeds, no change costs nothing."""
    kb.add([Chunk("a", "alpha", {"n": 1}), Chunk("b", "beta"), Chunk("c", "gamma")])
    embedder.embedded.clear()
    result = kb.add([Chunk("a", "alpha", {"n": 2}), Chunk("b", "beta two"), Chunk("c", "gamma"), Chunk("d", "delta")])
    assert (result.added, result.updated, result.unchanged, result.embedded) == (1, 2, 1, 2)
    assert embedder.embedded == ["beta two", "delta"]
    assert kb.get("a") == Chunk("a", "alpha", {"n": 2})
    assert kb.search("alpha", k=1)[0].chunk.metadata == {"n": 2}
    assert kb.search("alpha", k=1)[0].score == pytest.approx(1.0, abs=1e-6)


def test_key_order_is_no_change_and_the_kind_of_a_number_is(kb: Collection) -> None:
    """Metadata are compared as JSON: {"a":1,"b":2} in any order is one; 1, 1.0 and true are three."""
    kb.add([Chunk("x", "text", {"a": 1, "b": 2})])
    assert kb.add([Chunk("x", "text", {"b": 2, "a": 1})]).unchanged == 1
    for value in (1.0, True, "1"):
        assert kb.add([Chunk("x", "text", {"a": value, "b": 2})]).updated == 1
        assert type(kb.get("x").metadata["a"]) is type(value)


def test_an_endless_iterable_is_consumed_in_durable_batches(path: Path) -> None:
    """Each batch is on disk, for another handle to see, when progress reports it; the iterable is read no further."""
    seen: list[tuple[int, int | None, int]] = []
    taken = 0

    def source() -> Iterator[Chunk]:
        nonlocal taken
        for taken in itertools.count(1):
            yield Chunk(f"c{taken}", "t")

    class Enough(Exception):
        pass

    with reperio.open(path, dimension=2) as kb, reperio.open(path, read_only=True) as reader:

        def progress(stage: str, done: int, total: int | None) -> None:
            assert stage == "add"
            seen.append((done, total, reader.count()))
            if done == 30:
                raise Enough

        with pytest.raises(Enough):
            kb.add(source(), vectors=itertools.repeat([1.0, 2.0]), batch_size=10, progress=progress)
    assert seen == [(10, None, 10), (20, None, 20), (30, None, 30)]
    assert taken == 30


@pytest.mark.parametrize("kind", ["array", "list", "generator", "memmap"])
def test_ready_vectors_come_in_any_container(path: Path, tmp_path: Path, kind: str) -> None:
    """Arrays, lists of arrays, generators and memory maps are taken batch by batch."""
    values = np.random.default_rng(0).standard_normal((25, 4)).astype(np.float32)
    given: Any = {"array": values, "list": list(values), "generator": (row for row in values)}.get(kind)
    if kind == "memmap":
        given = np.memmap(tmp_path / "v", dtype=np.float32, mode="w+", shape=values.shape)
        given[:] = values
    with reperio.open(path, dimension=4, metric="inner_product") as kb:
        assert kb.add([Chunk(str(i)) for i in range(25)], vectors=given, batch_size=7).added == 25
        assert kb.search(vector=values[19], k=25)[0].score == pytest.approx(
            float((values @ values[19]).max()), rel=1e-5
        )


@pytest.mark.parametrize(
    ("chunks", "vectors"),
    [
        ([Chunk("a"), Chunk("b")], np.ones((1, 2), np.float32)),
        ([Chunk("a"), Chunk("b")], np.ones((3, 2), np.float32)),
        (iter([Chunk("a"), Chunk("b")]), np.ones((1, 2), np.float32)),
        ([Chunk("a"), Chunk("b")], iter([[1.0, 1.0]])),
    ],
)
def test_chunks_and_vectors_must_be_as_many(path: Path, chunks: Any, vectors: Any) -> None:
    """Too few or too many vectors are refused; where both lengths are known, before anything is stored."""
    with reperio.open(path, dimension=2) as kb:
        with pytest.raises(InvalidVectors, match="one vector per chunk"):
            kb.add(chunks, vectors=vectors, batch_size=1 if hasattr(vectors, "__len__") else 2)
        assert kb.count() in (0, 1)


def test_surplus_vectors_of_a_generator_are_noticed(path: Path) -> None:
    """A generator that has more vectors than there were chunks is an error, though the chunks are stored."""
    with reperio.open(path, dimension=2) as kb:
        with pytest.raises(InvalidVectors, match="1 chunks, more vectors"):
            kb.add([Chunk("a")], vectors=iter([[1.0, 1.0], [1.0, 1.0]]))
        assert kb.count() == 1


class Odd:
    """Stands for whatever JSON has no notion of."""


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        ("text", r"chunk 1 is a str; pass Chunk\(id=…, text=…, metadata=…\)"),
        (Chunk("", "x"), r"chunk 1 has the id ''; an id is a non-empty string"),
        (Chunk(7, "x"), r"chunk 1 has the id 7"),
        (Chunk("x", None), r"chunk 'x': text is a NoneType"),
        (Chunk("x", "a\ud800"), r"text holds a lone surrogate at position 1"),
        (Chunk("x\ud800", "a"), r"id holds a lone surrogate"),
        (Chunk("x", "a", ["no"]), r"metadata is a list; it must be a JSON object"),
        (Chunk("x", "a", {1: 2}), r"metadata key is 1 \(int\)"),
        (Chunk("x", "a", {"deep": [{"t": (1, 2)}]}), r"metadata\['deep'\]\[0\]\['t'\] is \(1, 2\) \(tuple\)"),
        (Chunk("x", "a", {"when": datetime(2024, 1, 1)}), r"metadata\['when'\] is datetime"),
        (Chunk("x", "a", {"n": float("nan")}), r"metadata\['n'\] is nan"),
        (Chunk("x", "a", {"n": 2**64}), r"metadata\['n'\] is 18446744073709551616"),
        (Chunk("x", "a", {"o": Odd()}), r"\(Odd\), which JSON cannot keep"),
        (Chunk("x", "a", {"s": "\ud800"}), r"metadata\['s'\]"),
        (Chunk("fine", "again"), r"chunks 0 and 1 of one batch have the same id 'fine'"),
        (Chunk("x", "  "), r"chunk 'x' has no text to embed"),
    ],
)
def test_a_bad_chunk_is_refused_and_its_batch_untouched(kb: Collection, chunk: Any, message: str) -> None:
    """Whatever cannot be stored as it is raises with the chunk named, and nothing of the batch is stored."""
    with pytest.raises(InvalidChunk, match=message):
        kb.add([Chunk("fine", "text"), chunk])
    assert kb.count() == 0
    assert kb.add([Chunk("fine", "text")]).added == 1


def test_the_batches_before_a_bad_one_are_stored_and_the_message_says_so(path: Path) -> None:
    """A NaN in the third batch is counted in the whole input; two batches are there."""
    vectors = np.ones((30, 3), np.float32)
    vectors[27, 1] = np.nan
    with reperio.open(path, dimension=3) as kb:
        with pytest.raises(
            InvalidVectors, match=r"row 27 contains NaN.*\[the 20 chunks of the batches before are stored"
        ):
            kb.add([Chunk(str(i)) for i in range(30)], vectors=vectors, batch_size=10)
        assert kb.count() == 20


def test_texts_without_an_embedder_are_refused_with_the_cure(path: Path) -> None:
    """A collection of ready vectors says how to give it an embedder."""
    with reperio.open(path, dimension=3) as kb:
        with pytest.raises(InvalidInput, match="pass vectors=, or open it with embedder="):
            kb.add([Chunk("a", "text")])
        with pytest.raises(InvalidInput, match="search by vector=, or open it with embedder="):
            kb.search("text")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda kb: kb.add([], vector=[]), r"add\(\) has no option 'vector'; did you mean 'vectors'\?"),
        (lambda kb: kb.search("x", top_k=3), r"search\(\) has no option 'top_k'; .*its options are query, vector, k"),
        (lambda kb: kb.delete(ids=[], id="x"), r"delete\(\) has no option 'id'; did you mean 'ids'\?"),
        (lambda kb: kb.optimize(indx="hnsw"), r"did you mean 'index'\?"),
        (lambda kb: kb.search_many(["x"], kk=1), r"search_many\(\) has no option 'kk'"),
        (lambda _: reperio.open("x", embeder="y"), r"open\(\) has no option 'embeder'; did you mean 'embedder'\?"),
    ],
)
def test_an_unknown_option_names_the_nearest(kb: Collection, call: Any, message: str) -> None:
    """A misspelt option is an error, also a TypeError, that says what was probably meant."""
    with pytest.raises(UnknownOption, match=message) as caught:
        call(kb)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "call",
    [
        lambda kb: kb.search("x", k=0),
        lambda kb: kb.search("x", k=-1),
        lambda kb: kb.search("x", k=2.0),
        lambda kb: kb.search("x", k=True),
        lambda kb: kb.search("x", k=10_001),
        lambda kb: kb.search("x", recall=0),
        lambda kb: kb.search("x", recall=1.01),
        lambda kb: kb.search("x", recall="high"),
        lambda kb: kb.search("x", vector=[1.0]),
        lambda kb: kb.search(),
        lambda kb: kb.search(""),
        lambda kb: kb.search(["a list"]),
        lambda kb: kb.search_many("one text"),
        lambda kb: kb.search_many(),
        lambda kb: kb.add([Chunk("a", "b")], batch_size=0),
        lambda kb: kb.add(Chunk("a", "b")),
        lambda kb: kb.add("text"),
        lambda kb: kb.add(7),
        lambda kb: kb.delete(ids=[1]),
        lambda kb: kb.delete(ids=None),
        lambda kb: kb.optimize(recall=2),
        lambda kb: kb.optimize(index=""),
        lambda kb: kb.optimize(index=3),
        lambda kb: kb.reembed(3),
    ],
)
def test_bad_arguments_are_refused_by_name(kb: Collection, call: Any) -> None:
    """Arguments of a wrong type or range raise InvalidInput before anything is touched."""
    with pytest.raises(InvalidInput):
        call(kb)
    assert kb.count() == 0


def test_the_callers_objects_are_neither_kept_nor_changed(kb: Collection) -> None:
    """Changing a chunk's metadata after adding, or a hit's, does not reach the collection."""
    metadata = {"tags": ["a"]}
    kb.add([Chunk("x", "text", metadata)])
    metadata["tags"].append("b")
    hit = kb.search("text", k=1)[0]
    hit.chunk.metadata["tags"].append("c")
    assert kb.get("x").metadata == {"tags": ["a"]}


def test_get_and_delete_take_one_id_or_many(kb: Collection) -> None:
    """One id gives a chunk or None, several a list in the order asked for; deleting what is absent is no error."""
    kb.add([Chunk(key, f"text {key}") for key in "abc"])
    assert kb.get("b") == Chunk("b", "text b")
    assert kb.get("nope") is None
    assert [chunk.id for chunk in kb.get(["c", "nope", "a"])] == ["c", "a"]
    assert kb.delete(ids="a") == 1
    assert kb.delete(ids=["a", "b", "b"]) == 1
    assert [chunk.id for chunk in kb] == ["c"]


def test_more_ids_than_one_statement_takes(path: Path) -> None:
    """Lookups, deletes and searches of thousands of chunks are cut into statements."""
    count = 4000
    values = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
    with reperio.open(path, dimension=4) as kb:
        kb.add([Chunk(str(i), f"t{i}") for i in range(count)], vectors=values, batch_size=count)
        assert len(kb.get([str(i) for i in range(count)])) == count
        assert len({hit.chunk.id for hit in kb.search(vector=values[0], k=count)}) == count
        assert kb.add([Chunk(str(i), f"t{i}") for i in range(count)], vectors=values).unchanged == count
        assert kb.delete(ids=[str(i) for i in range(0, count, 2)]) == count // 2
        assert kb.count() == count // 2


def test_numpy_scalars_in_metadata_become_what_they_are(kb: Collection) -> None:
    """Exactly, at any depth, in records too; filters find them by either kind."""
    scalars = {
        "bool": np.bool_(True), "int": np.int64(-(2**63)), "unsigned": np.uint64(2**64 - 1), "small": np.int8(-1),
        "float": np.float64(0.1), "single": np.float32(0.1), "half": np.float16(0.5), "text": np.str_("é"),
        "deep": [{"n": np.int32(7)}],
    }  # fmt: skip
    kb.add([Chunk("x", "text", scalars)])
    stored = kb.get("x").metadata  # type: ignore[union-attr]  # it is there
    assert stored == {
        "bool": True, "int": -(2**63), "unsigned": 2**64 - 1, "small": -1, "float": 0.1,
        "single": float(np.float32(0.1)), "half": 0.5, "text": "é", "deep": [{"n": 7}],
    }  # fmt: skip
    assert [type(stored[name]) for name in ("bool", "int", "float", "text")] == [bool, int, float, str]
    for name in ("bool", "int", "unsigned", "float", "single", "text"):
        assert kb.ids(where={name: scalars[name]}) == kb.ids(where={name: stored[name]}) == ["x"]
    assert kb.add([Chunk("x", "text", stored)]).unchanged == 1
    kb.records("r").put(["k"], values=[scalars])
    assert kb.records("r").get(["k"])[0].value == stored


@pytest.mark.parametrize(
    "value", [np.float64("nan"), np.float32("inf"), np.datetime64("2024-01-01"), np.complex64(1), np.array([1, 2]),
              np.longdouble(1), np.array(3), [np.float32("nan")]], ids=str
)  # fmt: skip
def test_other_kinds_of_numpy_in_metadata_are_refused_by_name(value: Any, kb: Collection) -> None:
    """What JSON has no value for, and arrays, which would come back as lists."""
    with pytest.raises(InvalidChunk, match=r"^chunk 'x': metadata\['v'\].* which JSON cannot keep as it is"):
        kb.add([Chunk("x", "text", {"v": value})])


def test_a_batch_is_full_by_its_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts make smaller commits, each with its vectors, and never one with more than a text too many."""
    monkeypatch.setattr("reperio.collection.write.batches.MOST_CHARACTERS", 1000)
    done: list[int] = []
    with reperio.open(tmp_path / "kb", dimension=2, auto_optimize=False) as kb:
        chunks = [Chunk(str(i), "x" * (400 if i < 7 else 1)) for i in range(20)]
        vectors = np.arange(1, 41, dtype=np.float32).reshape(20, 2)
        kb.add(iter(chunks), vectors=vectors, progress=lambda _stage, number, _total: done.append(number))
        assert done == [3, 6, 20]
        np.testing.assert_allclose(kb.vectors(["5"])[0], vectors[5] / np.linalg.norm(vectors[5]), rtol=1e-6)
