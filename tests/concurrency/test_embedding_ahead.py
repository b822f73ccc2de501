"""Embedding holds nobody up: other writers write meanwhile, and what they wrote is seen when the batch is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import AddResult, Chunk, Collection
from tests.conftest import TrigramEmbedder

PATIENCE = 60  # seconds after which something waits for what waits for it


class Slow(TrigramEmbedder):
    """Stops at the text "slow" until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def embed_passages(self, texts: Sequence[str]) -> Any:
        if "slow" in texts and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(PATIENCE), "nothing was written meanwhile"
        return super().embed_passages(texts)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def kb(tmp_path: Path, slow: Slow) -> Iterator[Collection]:
    with reperio.open(tmp_path / "kb", embedder=slow) as opened:
        opened.add([Chunk("a", "alpha"), Chunk("b", "beta")])
        slow.embedded.clear()
        yield opened


@contextmanager
def adding(kb: Collection, slow: Slow, *chunks: Chunk) -> Iterator[Callable[[], AddResult]]:
    """Begin an add, and yield while the model is at work; what is yielded lets it go on, and returns its result."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(kb.add, [*chunks, Chunk("s", "slow")])
        try:
            assert slow.reached.wait(PATIENCE)

            def finish() -> AddResult:
                slow.go_on.set()
                return waiting.result(PATIENCE)

            yield finish
        finally:
            slow.go_on.set()


def vector_of(kb: Collection, chunk_id: str) -> Any:
    return kb.vectors([chunk_id])[0]


def holds(kb: Collection, chunk_id: str, embedder: TrigramEmbedder, text: str) -> bool:
    """Say whether a chunk has the vector that *embedder* makes of *text*, at unit length."""
    made = embedder.embed_queries([text])[0]
    return bool(np.allclose(vector_of(kb, chunk_id), made / np.linalg.norm(made), atol=1e-6))


def test_others_write_while_a_model_embeds(kb: Collection, slow: Slow) -> None:
    """Deletes, adds with ready vectors and records do not wait for a model; all of it is there afterwards."""
    with adding(kb, slow) as finish:
        assert kb.delete(ids=["b"]) == 1
        kb.add([Chunk("v", "ready")], vectors=slow.embed_queries(["ready"]))
        kb.records("seen").put(["s"])
        assert sorted(kb.ids()) == ["a", "v"]
        assert finish().added == 1
    assert sorted(kb.ids()) == ["a", "s", "v"]
    assert holds(kb, "s", slow, "slow")


def test_what_was_stored_meanwhile_is_not_stored_again(kb: Collection, slow: Slow) -> None:
    """The same text under the same id, written by another meanwhile: unchanged, and its vector stays."""
    other = slow.embed_queries(["something else"])
    with adding(kb, slow) as finish:
        kb.add([Chunk("s", "slow")], vectors=other)
        assert finish() == AddResult(unchanged=1)
    assert holds(kb, "s", slow, "something else")


def test_what_was_taken_away_meanwhile_is_embedded_after_all(kb: Collection, slow: Slow) -> None:
    """A chunk that seemed unchanged and was deleted meanwhile is new; one that was changed is changed back."""
    with adding(kb, slow, Chunk("a", "alpha"), Chunk("b", "beta")) as finish:
        kb.delete(ids=["a"])
        kb.add([Chunk("b", "beta two")], vectors=slow.embed_queries(["beta two"]))
        assert finish() == AddResult(added=2, updated=1, embedded=3)
    assert slow.embedded == ["slow", "alpha", "beta"]
    for chunk_id, text in (("a", "alpha"), ("b", "beta"), ("s", "slow")):
        assert holds(kb, chunk_id, slow, text)


def test_vectors_of_a_model_that_was_replaced_meanwhile_are_not_stored(kb: Collection, slow: Slow) -> None:
    """`reembed` put another model in use: the batch is embedded by that one."""
    new = TrigramEmbedder(name="another", salt="another")
    with adding(kb, slow) as finish:
        kb.reembed(new)
        assert finish().embedded == 1
    assert new.embedded.count("slow") == 1
    assert holds(kb, "s", new, "slow")


def test_two_chunks_of_one_text_in_a_batch_have_one_vector(kb: Collection) -> None:
    """What is made ahead is known by its text."""
    result = kb.add([Chunk("x", "same"), Chunk("y", "same"), Chunk("z", "other")])
    assert (result.added, result.embedded) == (3, 3)
    assert np.array_equal(vector_of(kb, "x"), vector_of(kb, "y"))
    assert not np.array_equal(vector_of(kb, "x"), vector_of(kb, "z"))
