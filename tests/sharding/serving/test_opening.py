"""What shards are opened with, what they refuse, and what an index in each of them finds."""

from __future__ import annotations

import inspect
import json
import pickle
import re
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import (
    Chunk,
    Collection,
    CollectionClosed,
    CollectionDamaged,
    CollectionNotFound,
    CollectionReadOnly,
    InvalidInput,
    Limits,
    NotACollection,
    ShardUnavailable,
)
from reperio.collection.methods.comparing import Comparing
from reperio.collection.methods.maintenance import Maintenance
from reperio.collection.methods.writing import Writing
from reperio.errors import ShardBuildFailed
from reperio.exchange import export_collection
from reperio.sharding import ShardManifest, reaching, split
from reperio.sharding.building.on_ray import run_on_ray
from reperio.sharding.serving import opening, replicas
from reperio.sharding.serving.shard import Shard
from tests.sharding.serving.made import fill, make_shards, open_to_write

DIMENSION = 16


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "shards"
    manifest = make_shards(path, 2, dimension=DIMENSION)
    rng = np.random.default_rng(0)
    chunks = [Chunk(f"c{number}", f"text {number}") for number in range(20)]
    fill(path, manifest, chunks, rng.standard_normal((20, DIMENSION)))
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"serve": "serve"}, "serve is 'serve'; choose 'ray'"),
        ({"deadline": -1}, "deadline is -1"),
        ({"hedge": "soon"}, "hedge is 'soon'"),
        ({"replicas": 0}, "replicas is 0"),
        ({"allow_partial": "yes"}, "allow_partial is 'yes'"),
        ({"partial": True}, "no option 'partial'; did you mean 'allow_partial'"),
    ],
)
def test_options_that_cannot_be_are_refused(root: Path, options: dict[str, Any], message: str) -> None:
    """By name, with what may be."""
    with pytest.raises(InvalidInput, match=message):
        reperio.open_shards(root, **options)


def test_what_is_not_shards_is_told(tmp_path: Path) -> None:
    """Nothing, one collection, and an address that is none."""
    with pytest.raises(CollectionNotFound, match="reperio shards build"):
        reperio.open_shards(tmp_path / "nothing")
    reperio.open(tmp_path / "one", dimension=2).close()
    with pytest.raises(NotACollection, match="is one collection, without shards"):
        reperio.open_shards(tmp_path / "one")
    with pytest.raises(InvalidInput, match="no address of shards"):
        reperio.open_shards("ray://host:port/kb")


def test_every_method_of_a_collection_is_served_or_refused(root: Path) -> None:
    """None is inherited that would work on the files of one collection."""
    refused = {name for part in (Writing, Maintenance, Comparing) for name in vars(part) if not name.startswith("_")}
    with reperio.open_shards(root) as kb:
        for name in sorted(refused - {"pull", "apull"}):
            with pytest.raises((CollectionReadOnly, InvalidInput), match=r"served for reading|is sharded"):
                getattr(kb, name)()
        with pytest.raises(InvalidInput, match="keep no ledger"):
            kb.records("mine")
        with pytest.raises(InvalidInput, match=r"reperio\.open_shards"):
            pickle.dumps(kb)
        assert kb.read_only
        assert kb.embedder is None
        assert (kb.scope, bool(kb), repr(kb)) == (None, True, f"<reperio.open_shards({str(root)!r})>")
    public = {name for name, _ in inspect.getmembers(Collection) if not name.startswith("_")}
    own = {name for name in public if getattr(type(kb), name) is not getattr(Collection, name)}
    # What is inherited asks the handle, which is that of the shards.
    assert public - own == {
        *("search", "search_many", "embed", "asearch", "asearch_many", "aembed"),
        *("close", "aclose", "scope", "read_only", "embedder", "fingerprint"),
    }
    with pytest.raises(CollectionClosed):
        kb.search(vector=np.ones(DIMENSION))
    kb.close()
    with pytest.raises(InvalidInput, match="works on one collection"):
        export_collection(kb, root.parent / "export")


def test_shards_that_are_exchanged_at_that_moment_are_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has read the list of shards a moment too early reads it again; what is really missing stays an error."""
    read = opening.read_manifest
    old = read(root)
    seen: list[int] = []

    def reading(path: Path) -> ShardManifest:
        if not seen:
            split(path, old.shards[0].name, recall=None)
        seen.append(1)
        return old if len(seen) == 1 else read(path)

    monkeypatch.setattr(opening, "read_manifest", reading)
    with reperio.open_shards(root) as kb:
        assert kb.count() == 20
        assert [each.name for each in kb.status()] == [entry.name for entry in read(root).shards]
    shutil.rmtree(root / "shards" / read(root).shards[0].name)
    with pytest.raises(CollectionDamaged, match="is missing"):
        reperio.open_shards(root)


def test_where_no_cluster_listens_the_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: Ray itself would try for minutes."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'reperio[ray]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and it does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ShardBuildFailed, match=f"nobody listens at {address}"):
            list(run_on_ray(str, [1]))
        with pytest.raises(ShardUnavailable, match=f"nobody listens at {address}"):
            reperio.open_shards(f"ray://{address}/kb")
        with pytest.raises(ShardUnavailable, match=f"nobody listens at {address}"):
            reperio.open_shards("ray://kb")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_what_is_no_ray_is_told(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, or where it says nothing, soon; also at an address of IPv6."""
    monkeypatch.setattr(reaching, "_ANSWER", 0.2)
    with socket.create_server((host.strip("[]"), 0), family=socket.AF_INET6 if "[" in host else socket.AF_INET) as made:
        address = f"{host}:{made.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=re.escape(f"what listens at {address} is no Ray")):
            reaching.require_reachable(address)


@pytest.mark.parametrize("limit", [0.0, 1e9])
def test_what_is_quick_is_answered_in_the_thread_that_asks(
    root: Path, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first question of its kind; what takes long is answered in several threads at once."""
    monkeypatch.setattr(replicas, "_HANDING", limit)
    answer, names = Shard.answer, list[str]()

    def answering(self: Shard, method: str, request: Any) -> Any:
        if method == "lists":
            names.append(threading.current_thread().name)
        return answer(self, method, request)

    monkeypatch.setattr(Shard, "answer", answering)
    with reperio.open_shards(root) as kb:
        found = [kb.search(vector=np.arange(DIMENSION), k=3) for _ in range(3)]
        assert found[0] == found[1] == found[2]
        with pytest.raises(InvalidInput):
            kb.search("text", k=10_000_000, mode="lexical")
    own = threading.current_thread().name
    assert len(names) == 6
    assert own not in names[:2]
    assert {name == own for name in names[2:]} == {limit > 0}


def test_limits_and_the_log_are_those_of_any_collection(root: Path, tmp_path: Path) -> None:
    """They hold for the whole, and what is asked by text is logged once."""
    with reperio.open_shards(root, limits=Limits(k=3), query_log=tmp_path / "log.jsonl") as kb:
        with pytest.raises(InvalidInput, match="k is 4; at most 3"):
            kb.search(vector=np.ones(DIMENSION), k=4)
        assert len(kb.search("text 7", mode="lexical", k=2)) == 2
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["query"] == "text 7"


def test_at_a_recall_the_whole_has_at_least_that(tmp_path: Path) -> None:
    """Each shard searches its index at the recall, and its nearest are found sooner than its farther ones."""
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((60, DIMENSION))
    vectors = centres[rng.integers(0, 60, 2400)] + 0.5 * rng.standard_normal((2400, DIMENSION))
    queries = centres[rng.integers(0, 60, 200)] + 0.5 * rng.standard_normal((200, DIMENSION))
    manifest = make_shards(tmp_path / "kb", 2, dimension=DIMENSION)
    fill(tmp_path / "kb", manifest, [Chunk(f"c{number}") for number in range(len(vectors))], vectors)
    for entry in manifest.shards:
        with open_to_write(tmp_path / "kb", entry) as shard:
            shard.optimize(index="IVF16,SQ4", queries=queries[:40])
    with reperio.open_shards(tmp_path / "kb") as kb:
        exact = kb.search_many(vectors=queries, k=10, recall=1.0)
        for recall in (0.8, 0.95):
            found = kb.search_many(vectors=queries, k=10, recall=recall)
            shared = [
                len({hit.chunk.id for hit in one} & {hit.chunk.id for hit in other})
                for one, other in zip(found, exact, strict=True)
            ]
            assert np.mean(shared) / 10 >= recall
        assert [hit.score for hit in exact[0]] == sorted((hit.score for hit in exact[0]), reverse=True)
