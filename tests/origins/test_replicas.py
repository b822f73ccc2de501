"""Two replicas of one origin, and the one truth that both come to."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import reperio
from reperio import (
    Chunk,
    InvalidInput,
)

from .contents import add, both, contents, vector


def test_a_replica_has_all_of_the_collection_that_the_origin_was_made_of(made: str, tmp_path: Path) -> None:
    """Chunks, metadata, vectors to the bit, records with their times; and the answers."""
    first, second = both(made, tmp_path)
    with first, second:
        assert contents(first) == contents(second)
        for number in range(20):
            left, right = (kb.search(vector=vector(number), k=5) for kb in (first, second))
            assert [(hit.chunk, hit.score) for hit in left] == [(hit.chunk, hit.score) for hit in right]
        assert second.check().ok


def test_what_one_host_writes_is_read_on_another(made: str, tmp_path: Path) -> None:
    """Added, replaced, deleted by id and by filter, put into the ledger and deleted from it."""
    first, second = both(made, tmp_path)
    with first, second:
        add(second, [3, 30], version=1)
        assert second.search(vector=vector(1003), k=1)[0].chunk.text == "text 3 version 1"
        assert first.search(vector=vector(1003), k=1, fresh=True)[0].chunk.text == "text 3 version 1"
        assert first.delete(ids=["c4", "absent"]) == 1
        assert first.delete(where={"n": {"$gte": 19}}) == 2
        first.records("space").put(["b"])
        assert first.records("space").delete(["a"]) == 1
        assert second.get("c4") is not None
        told = second.pull()
        assert second.get("c4") is None
        assert contents(first) == contents(second)
        assert told.commit == told.newest == first.pull().commit
        assert first.check().ok
        assert second.check().ok


def test_a_write_sees_what_others_have_written_before_it(made: str, tmp_path: Path) -> None:
    """An equal chunk that another host has deleted meanwhile is stored again, and one it has changed is replaced."""
    first, second = both(made, tmp_path)
    with first, second:
        second.delete(ids=["c1"])
        add(second, [2], version=7)
        result = first.add([Chunk("c1", "text 1 version 0", {"n": 1, "version": 0})], vectors=vector(1)[None])
        assert result.added == 1
        assert first.get("c2").metadata["version"] == 7  # type: ignore[union-attr]
        assert second.delete(where={"version": 7}) == 1
        first.pull()
        second.pull()
        assert contents(first) == contents(second)


def test_a_turn_begins_with_what_others_have_written(made: str, tmp_path: Path, embedder: reperio.Embedder) -> None:
    """Where another host embeds all again during it, nothing is written: taking that over waits for builds."""
    first, second = both(made, tmp_path)
    with first, second:
        add(second, [30])
        with first.turn():
            assert first.get("c30") is not None
            assert first.delete(ids=["c30"]) == 1
            second.reembed(embedder)
            with pytest.raises(InvalidInput, match="before or after the block"):
                first.delete(ids=["c1"])
        assert first.delete(ids=["c1"]) == 1


@pytest.mark.parametrize("seed", range(4))
def test_random_operations_on_two_hosts_come_to_one_truth(seed: int, made: str, tmp_path: Path) -> None:
    """And to what a dictionary says of it."""
    draw = random.Random(seed)
    kbs = both(made, tmp_path)
    model = {f"c{n}": 0 for n in range(20)}
    for step in range(60):
        kb = kbs[draw.random() < 0.5]
        numbers = draw.sample(range(40), draw.randint(1, 6))
        action = draw.choice(["add", "add", "delete", "where", "pull", "record", "compact"])
        if action == "add":
            add(kb, numbers, version=step)
            model |= {f"c{n}": step for n in numbers}
        elif action == "delete":
            expected = [f"c{n}" for n in numbers if f"c{n}" in model]
            assert kb.delete(ids=[f"c{n}" for n in numbers]) == len(expected)
            model = {key: version for key, version in model.items() if key not in expected}
        elif action == "where":
            version = draw.choice([*model.values(), -1])
            assert kb.delete(where={"version": version}) == sum(one == version for one in model.values())
            model = {key: one for key, one in model.items() if one != version}
        elif action == "pull":
            kb.pull()
        elif action == "record":
            kb.records("space").put([f"r{step}"], values=[step])
        else:
            kb.compact()
    for kb in kbs:
        kb.pull()
        assert {chunk.id: chunk.metadata["version"] for chunk in kb} == model
        assert kb.check().ok
    assert contents(kbs[0]) == contents(kbs[1])
    for kb in kbs:
        kb.close()


def test_others_commits_arrive_by_themselves(made: str, tmp_path: Path) -> None:
    """Without a pull, in a handle that only reads."""
    first, second = both(made, tmp_path, follow=0.1)
    with first, second:
        add(first, [50], version=1)
        until = time.monotonic() + 60
        while second.get("c50") is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert first.get("c50") == second.get("c50")


def test_scopes_hold_on_every_host(made: str, tmp_path: Path) -> None:
    """A tenant's handle neither replaces nor deletes what another host has stored outside of its scope."""
    first, second = both(made, tmp_path)
    with first, second, reperio.open(tmp_path / "first", origin=made, scope={"version": 5}, follow=0) as tenant:
        add(tenant, [60], version=5)
        add(second, [61], version=1)
        with pytest.raises(InvalidInput):
            add(tenant, [61], version=5)
        assert tenant.delete(ids=["c61", "c60"]) == 1
        tenant.records("space").put(["mine"])
        first.pull()
        second.pull()
        assert contents(first) == contents(second)
        assert "mine" not in str(contents(second)["records"])


def test_odd_content_comes_through(made: str, tmp_path: Path) -> None:
    """What the types of a server cannot hold: NUL, keys in an order, numbers in a spelling; and what is very long."""
    odd = [
        Chunk("nul\0id", "text\0with", {"k\0": "v\0\\u0000", "z": 1, "a": 2}),
        Chunk("nul\ufffdid", "another", {"f": 1e16, "g": 1.0, "h": -0.0, "i": 1}),
        Chunk("i" * 5000, "t" * 100_000, {"deep": [[[{"x": None}]]]}),
        Chunk("empty", "", {}),
        Chunk("ünï\u2028", "𝄞 \x1b[31m", {"ключ": "значение"}),
    ]
    first, second = both(made, tmp_path)
    with first, second:
        first.add(odd, vectors=np.stack([vector(n) for n in range(len(odd))]))
        second.pull()
        assert contents(first) == contents(second)
        assert second.get("nul\0id") == odd[0]
        second.delete(ids=["nul\0id", "i" * 5000])
        first.pull()
        assert contents(first) == contents(second)


def test_the_first_embedder_is_recorded_for_every_host(url: str, tmp_path: Path, embedder: reperio.Embedder) -> None:
    """A collection that was created by its dimension learns its embedder on one host, and refuses others on all."""
    reperio.open(tmp_path / "first", dimension=embedder.dimension).close()
    reperio.create_origin(url, tmp_path / "first")
    with (
        reperio.open(tmp_path / "first", origin=url, follow=0, embedder=embedder) as first,
        reperio.open(tmp_path / "second", origin=url, follow=0) as second,
    ):
        first.add([Chunk("a", "hello")])
        second.pull()
        assert second.info().embedder == first.info().embedder is not None
        assert contents(first) == contents(second)


def test_one_host_embeds_again_for_all(made: str, tmp_path: Path, embedder: reperio.Embedder) -> None:
    """A new generation for everyone, with what others have stored meanwhile, and an index like the old one."""
    first, second = both(made, tmp_path)
    with first, second:
        add(first, list(range(1000)))
        second.optimize(index="SQ8")

        class Meanwhile:
            """Another host stores something while the first one is embedding; it embeds no text twice."""

            name, dimension = embedder.name, embedder.dimension
            embedded: ClassVar[list[str]] = []

            def embed_passages(self, texts: list[str]) -> Any:
                if not self.embedded:
                    add(second, [2000], version=1)
                self.embedded.extend(texts)
                return embedder.embed_passages(texts)

            def embed_queries(self, texts: list[str]) -> Any:
                return embedder.embed_queries(texts)

        first.reembed(Meanwhile())
        passages = [text for text in Meanwhile.embedded if text.startswith("text ")]
        assert sorted(passages) == sorted({*passages})
        assert len(passages) == 1001
        info = second.pull()
        assert second.info().embedder == first.info().embedder == embedder.name
        assert second.info().dimension == embedder.dimension
        assert info.commit == first.pull().commit
        assert contents(first) == contents(second)
        assert second.info().index is not None
        query = embedder.embed_queries(["text 77 version 0"])[0]
        assert first.search(vector=query, k=1)[0].chunk.id == second.search(vector=query, k=1)[0].chunk.id == "c77"
        assert reperio.open(tmp_path / "third", origin=made, follow=0, embedder=embedder).count() == 1001
        first.delete(ids=["c1"])
        second.pull()
        assert contents(first) == contents(second)
        assert first.check().ok
        assert second.check().ok


def test_two_hosts_that_embed_again_come_to_one_truth(made: str, tmp_path: Path, embedder: reperio.Embedder) -> None:
    """The second has not heard of the first one's: it takes that over, and embeds again after it."""
    first, second = both(made, tmp_path)
    with first, second:
        first.reembed(embedder)
        second.reembed(type(embedder)(48, name="another", salt="x"))  # type: ignore[call-arg]  # the tests' own
        first.pull()
        assert first.info().embedder == second.info().embedder == "another"
        assert first.info().dimension == 48
        assert contents(first) == contents(second)
        assert first.check().ok
        assert second.check().ok
