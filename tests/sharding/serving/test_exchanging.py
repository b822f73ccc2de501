"""Generations and shards are exchanged under questions: none fails, and none is answered from two states of a model."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, EmbeddingContractError, Hit
from reperio.collection.handle import embedder as embedders
from reperio.sharding import merge, split
from reperio.sharding.manifest import ShardLayout, read_manifest
from reperio.sharding.serving import handle as handles
from reperio.sharding.serving.source import ShardSource
from tests.conftest import TrigramEmbedder
from tests.sharding.serving.cluster import Traffic, wait_until
from tests.sharding.serving.made import fill, make_shards, open_to_write

DIMENSION = 16
TEXTS = [f"chapter {number}: of {word}" for number in range(40) for word in ("apples", "pears", "plums")]


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "_AGE", 0.05)


def made(root: Path, shards: int = 3) -> Collection:
    rng = np.random.default_rng(0)
    chunks = [Chunk(f"c{number}", text, {"n": number % 4}) for number, text in enumerate(TEXTS)]
    manifest = make_shards(root, shards, dimension=DIMENSION)
    fill(root, manifest, chunks, rng.standard_normal((len(chunks), DIMENSION)))
    return reperio.open_shards(root)


def known(kb: Collection) -> list[tuple[dict[str, Any], list[Hit]]]:
    rng = np.random.default_rng(3)
    asked: list[dict[str, Any]] = []
    for number in range(6):
        vector = rng.standard_normal(DIMENSION)
        asked += [
            {"vector": vector, "k": 5, "recall": 1.0},
            {"query": f"chapter {number} plums", "mode": "lexical", "k": 4, "where": {"n": {"$gt": 0}}},
            {"query": f"chapter {number} pears", "vector": vector, "mode": "hybrid", "recall": 1.0, "diversity": 0.4},
        ]
    return [(options, kb.search(**options)) for options in asked]


def test_shards_are_compacted_and_optimized_while_they_are_asked(tmp_path: Path) -> None:
    """Rows get other numbers between the steps of a question, which is then asked again."""
    with made(tmp_path / "kb") as kb:
        manifest = read_manifest(tmp_path / "kb")
        for entry in manifest.shards:  # something to leave out, behind all others, so that these keep their order
            with open_to_write(tmp_path / "kb", entry) as shard:
                shard.add([Chunk(f"gone {entry.name}", "gone")], vectors=np.full((1, DIMENSION), -9.0))
                shard.delete(ids=[f"gone {entry.name}"])
        with Traffic(kb, known(kb), clients=4) as traffic:
            traffic.more(20)
            for number, entry in enumerate(manifest.shards * 3):
                with open_to_write(tmp_path / "kb", entry) as shard:
                    shard.compact()
                    if number < len(manifest.shards):
                        shard.optimize(index="HNSW8,Flat")
            traffic.more(20)
        assert not traffic.failed, traffic.failed[0]
        assert not traffic.wrong, traffic.wrong[0]
        index = kb.info().index
        assert index is not None
        assert index.rows == len(TEXTS)


def test_a_question_whose_rows_have_moved_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a shard is compacted at each of its steps: then shards return the chunks with their lists."""
    with made(tmp_path / "kb") as kb:
        (options, expected) = known(kb)[2]
        entry = read_manifest(tmp_path / "kb").shards[0]
        fetched, compacted = ShardSource.chunks, 0

        def compacting(self: ShardSource, rows: Any) -> Any:
            nonlocal compacted
            with open_to_write(tmp_path / "kb", entry) as shard:
                shard.compact()
            compacted += 1
            return fetched(self, rows)

        monkeypatch.setattr(ShardSource, "chunks", compacting)
        del options["diversity"]  # it asks for vectors, which come after the chunks
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ShardSource, "chunks", fetched)
            expected = kb.search(**options)
        assert kb.search(**options) == expected
        assert compacted == 3  # twice in vain


def test_shards_that_are_embedded_again_one_by_one_answer_in_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the old one until all have the new one; whoever opens them in between is told."""
    old, new = TrigramEmbedder(32, name="old", salt="a"), TrigramEmbedder(48, name="new", salt="b")
    models = {each.name: each for each in (old, new)}
    monkeypatch.setattr(embedders, "load_embedder", lambda name, **_: models[name])
    root = tmp_path / "kb"
    manifest = make_shards(root, 3, embedder=old)
    fill(root, manifest, [Chunk(f"c{number}", text) for number, text in enumerate(TEXTS)], None, embedder=old)
    question = "the 7th chapter about a plum"
    asked: list[tuple[str, list[Hit]]] = []
    stop, errors = threading.Event(), list[BaseException]()
    with reperio.open_shards(root) as kb:
        before = [kb.search(question, mode=mode) for mode in ("dense", "hybrid")]

        def ask() -> None:
            try:
                while not stop.is_set():
                    asked.extend((mode, kb.search(question, mode=mode)) for mode in ("dense", "hybrid"))
            except BaseException as error:
                errors.append(error)

        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        for number, entry in enumerate(manifest.shards):
            with open_to_write(root, entry) as shard:
                shard.reembed(new)
            if number == 0:
                with (
                    pytest.raises(EmbeddingContractError, match="different models"),
                    reperio.open_shards(root) as other,
                ):
                    other.search(question)
                assert kb.search(question) == before[0]
        _wait(lambda: asked[-1][1] not in before, asked)
        stop.set()
        for client in clients:
            client.join()
        if errors:
            raise errors[0]
        after = [kb.search(question, mode=mode) for mode in ("dense", "hybrid")]
        assert kb.fingerprint()["embedder"] == "new"
        assert kb.embedder is new
        held = [
            member.replica._shard._generations._kept
            for one in kb._shards.fleet().router.groups
            for member in one.members
        ]
        _wait(lambda: not any(held), held)  # nobody asks for the old generations any more, and they are closed
    with reperio.open_shards(root) as fresh:
        assert [fresh.search(question, mode=mode) for mode in ("dense", "hybrid")] == after
    allowed = {"dense": (before[0], after[0]), "hybrid": (before[1], after[1])}
    assert all(found in allowed[mode] for mode, found in asked)
    assert before[0] != after[0]


def test_shards_are_split_and_merged_while_they_are_asked(tmp_path: Path) -> None:
    """Old shards answer until the new ones are open; what is written then is found by the next search."""
    root = tmp_path / "kb"
    with made(root) as kb:
        # Without words, whose scores are often equal: the order of equals is that of the shards.
        questions = [(options, hits) for options, hits in known(kb) if "mode" not in options]
        first = kb._shards.fleet()
        names = [entry.name for entry in read_manifest(root).shards]
        with Traffic(kb, questions, clients=3) as traffic:
            traffic.more(10)
            split(root, names[0], recall=None)
            traffic.more(10)
            merge(root, names[1:], recall=None)
            traffic.more(10)
        assert not traffic.failed, traffic.failed[0]
        assert not traffic.wrong, traffic.wrong[0]
        assert kb._shards.fleet().size == 3
        merged = merge(root, [entry.name for entry in read_manifest(root).shards][:2], recall=None)
        with reperio.ShardWriter(root) as writer:
            writer.add([Chunk("new", "something new", {})], vectors=np.full((1, DIMENSION), 3.0))
        assert kb.search(vector=np.full(DIMENSION, 3.0), k=1)[0].chunk.id == "new"
        assert kb.info().generation.startswith(next(iter(merged.made)))
        assert kb.count() == len(TEXTS) + 1
        assert "new" in kb
        _wait(lambda: first._closed, "the first shards are closed")


def test_a_shard_that_is_gone_answers_as_it_was(tmp_path: Path) -> None:
    """Files that are open stay readable; so nothing fails between an exchange and the opening of the new shards."""
    with made(tmp_path / "kb") as kb:
        questions = known(kb)
        ids, vectors = kb.ids(where={"n": 1}), kb.vectors(kb.ids())
        for entry in read_manifest(tmp_path / "kb").shards:
            shutil.rmtree(ShardLayout(tmp_path / "kb").shard(entry))
        assert [kb.search(**options) for options, _ in questions] == [hits for _, hits in questions]
        assert kb.ids(where={"n": 1}) == ids
        assert np.array_equal(kb.vectors(kb.ids()), vectors)
        assert kb.count() == len(TEXTS)


def _wait(done: Callable[[], bool], what: Any) -> None:
    wait_until(done, str(what)[:200], 30)
