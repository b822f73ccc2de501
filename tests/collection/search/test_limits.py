"""What one call may ask for: refused beyond, never clamped, and raised by who opens."""

from __future__ import annotations

import threading
import time
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, InvalidChunk, InvalidInput, Limits
from reperio.collection.search import retrieving
from reperio.types import HEAVY

SMALL = Limits(k=5, queries=3, hits=14, question=12, batch=10, text=20, metadata=30)


class Unread(list[str]):
    """Questions of which none may be looked at before they are counted."""

    def __iter__(self) -> Any:
        raise AssertionError


@pytest.fixture
def small(path: Path) -> Any:
    with reperio.open(path, dimension=4, limits=SMALL, auto_optimize=False) as kb:
        kb.add([Chunk(str(i), "a text") for i in range(10)], vectors=np.eye(10, 4) + 0.1, batch_size=10)
        yield kb


def test_what_is_within_the_limits_is_done(small: reperio.Collection) -> None:
    """Each limit is itself allowed."""
    assert len(small.search(vector=np.ones(4), k=5)) == 5
    assert len(small.search(vector=np.ones(4), k=5, candidates=5)) == 5
    assert len(small.search_many(vectors=np.ones((3, 4)), k=4)) == 3
    small.add([Chunk("edge", "x" * 20, {"k": "v" * 22})], vectors=np.ones((1, 4)), batch_size=10)
    assert small.get("edge") is not None


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda kb: kb.search(vector=np.ones(4), k=6), "k is 6; at most 5"),
        (lambda kb: kb.search(vector=np.ones(4), k=2, candidates=6), "between k .2. and 5"),
        (lambda kb: kb.search("a", mode="lexical", k=6), "k is 6; at most 5"),
        (lambda kb: kb.search_many(vectors=np.ones((4, 4)), k=1), r"number of vectors is 4; at most 3.*queries="),
        (lambda kb: kb.search_many(["a"] * 4, mode="lexical"), "k is 10; at most 5"),
        (lambda kb: kb.search_many(["a"] * 4, mode="lexical", k=1), "number of texts is 4; at most 3"),
        (lambda kb: kb.search("a" * 13, k=1), r"characters of the query is 13; at most 12.*question="),
        (lambda kb: kb.search("a" * 13, mode="lexical", k=1), r"characters of the query is 13; at most 12"),
        (lambda kb: kb.search_many(["a", "a" * 13], mode="hybrid", k=1, vectors=np.eye(2, 4)), "is 13; at most 12"),
        (lambda kb: kb.optimize(queries=["a" * 13] * 30), "is 13; at most 12"),
        (lambda kb: kb.search_many(Unread(["a"] * 4), k=1), "number of texts is 4; at most 3"),
        (
            lambda kb: kb.search_many(vectors=np.ones((3, 4)), k=1, mode="dense", candidates=5, diversity=0.5),
            r"hits and candidates is 15; at most 14.*hits=",
        ),
        (lambda kb: kb.add([], batch_size=11), r"batch_size is 11; at most 10.*batch="),
        (lambda kb: kb.add([Chunk("n", "x" * 21)], vectors=np.ones((1, 4)), batch_size=1), "text has 21 characters"),
        (
            lambda kb: kb.add([Chunk("n", "", {"k": "v" * 23})], vectors=np.ones((1, 4)), batch_size=1),
            r"chunk 'n': metadata has 31 characters; at most 30.*Limits\(metadata=",
        ),
    ],
)
def test_what_is_beyond_is_refused(ask: Any, message: str, small: reperio.Collection) -> None:
    """The message has the limit, and how it is raised; nothing is stored."""
    with pytest.raises(InvalidInput, match=message):
        ask(small)
    assert small.get("n") is None
    assert small.count() == 10


def test_limits_can_be_raised(path: Path) -> None:
    """A larger k than the default is searched when it is allowed, and refused in another handle."""
    vectors = np.random.default_rng(0).standard_normal((12_000, 4)).astype(np.float32)
    with reperio.open(path, dimension=4, auto_optimize=False) as kb:
        kb.add([Chunk(str(i)) for i in range(12_000)], vectors=vectors)
        with pytest.raises(InvalidInput, match="at most 10,000"):
            kb.search(vector=vectors[0], k=11_000)
    with reperio.open(path, read_only=True, limits=Limits(k=11_000)) as kb:
        assert len(kb.search(vector=vectors[0], k=11_000)) == 11_000


def test_a_reranker_is_given_no_more_than_the_limit(small: reperio.Collection) -> None:
    """Candidates that nobody named are within the limit as well."""
    seen: list[int] = []

    def score(_query: str, texts: list[str]) -> list[float]:
        seen.append(len(texts))
        return [0.0] * len(texts)

    small.search("a text", vector=np.ones(4), k=2, reranker=reperio.CallableReranker(score))
    assert seen == [5]


@pytest.mark.parametrize("limits", [Limits(k=0), Limits(text=-1), Limits(heavy=0), Limits(idle=True), {"k": 3}])
def test_impossible_limits_are_refused(limits: Any, path: Path) -> None:
    """By name, before anything is created."""
    with pytest.raises(InvalidInput, match="limits"):
        reperio.open(path, dimension=4, limits=limits)
    assert not path.exists()


def test_limits_are_fixed() -> None:
    """They cannot be changed under a handle."""
    with pytest.raises(FrozenInstanceError):
        Limits().k = 3


def test_heavy_searches_take_turns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With heavy=1, of several heavy searches one runs at a time, each is answered, and light ones do not wait."""
    rows, k = 2000, 1000
    questions = np.random.default_rng(1).standard_normal((HEAVY // k + 1, 4)).astype(np.float32)
    running, most, light = [0], [0], []
    real = retrieving.candidates

    def watched(*args: Any) -> Any:
        heavy = args[2] is not None and len(args[2]) > 1
        if heavy:
            running[0] += 1
            most[0] = max(most[0], running[0])
            time.sleep(0.05)  # so that others would come in, if they could
        try:
            return real(*args)
        finally:
            if heavy:
                running[0] -= 1

    monkeypatch.setattr(retrieving, "candidates", watched)
    with reperio.open(path, dimension=4, auto_optimize=False, limits=Limits(heavy=1)) as kb:
        kb.add([Chunk(str(i)) for i in range(rows)], vectors=np.random.default_rng(0).standard_normal((rows, 4)))
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(len(kb.search_many(vectors=questions, k=k)))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            light.append(len(kb.search(vector=questions[0], k=3)))
        assert (found, most[0]) == ([len(questions)] * 4, 1)
        assert light
        assert set(light) == {3}


def test_chunks_beyond_a_limit_name_it(small: reperio.Collection) -> None:
    """As an InvalidChunk, like any other that cannot be stored."""
    with pytest.raises(InvalidChunk):
        small.add([Chunk("n", "x" * 21)], vectors=np.ones((1, 4)), batch_size=1)
