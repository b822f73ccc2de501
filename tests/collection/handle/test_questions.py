"""Questions that are asked again: their vectors are kept, for the embedder that made them alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import reperio
from reperio import Chunk, EmbedderFailed, Metric
from reperio.collection.handle import questions
from reperio.collection.handle.questions import KnownQuestions
from tests.conftest import TrigramEmbedder


class Counting(TrigramEmbedder):
    """Knows what questions it was given, puts a prompt before each, and fails when it is told to."""

    query_prompt = ""
    failing = False

    def __init__(self, dimension: int = 64, *, name: str = "trigrams", salt: str = "") -> None:
        super().__init__(dimension, name=name, salt=salt)
        self.asked: list[str] = []

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked += texts
        if self.failing:
            raise RuntimeError("away")
        return super().embed_queries([self.query_prompt + text for text in texts])


CHUNKS = [Chunk("a", "a loaf of bread"), Chunk("b", "the stock market")]


def test_a_question_that_is_asked_again_is_not_embedded_again(path: Path) -> None:
    """Neither by search nor by search_many nor by their twins; the hits and their scores stay the same."""
    embedder = Counting()
    with reperio.open(path, embedder=embedder) as kb:
        kb.add(CHUNKS)
        embedder.asked.clear()
        first = kb.search("bread", k=2)
        assert kb.search("bread", k=2) == first
        assert kb.search_many(["bread", "market", "bread"], k=2)[0] == first
        assert asyncio.run(kb.asearch("market", k=1))[0].chunk.id == "b"
        assert kb.search_many(["market"], k=1)[0][0].chunk.id == "b"
    assert embedder.asked == ["bread", "market"]


def test_questions_are_embedded_ahead(path: Path) -> None:
    """`embed` gives what a search would go by, and the search does not make it again; a question is a text."""
    embedder = Counting()
    with reperio.open(path, embedder=embedder, limits=reperio.Limits(question=20, queries=2)) as kb:
        kb.add(CHUNKS)
        embedder.asked.clear()
        vectors = kb.embed(["bread", "market"])
        assert (vectors == asyncio.run(kb.aembed(["bread", "market"]))).all()
        assert kb.search(vector=vectors[0], k=2) == kb.search("bread", k=2)
        assert embedder.asked == ["bread", "market"]
        assert kb.embed([]).shape == (0, 64)
        for refused in ("bread", [""], [3], ["x" * 21], ["a", "b", "c"], None):
            with pytest.raises(reperio.InvalidInput):
                kb.embed(refused)  # type: ignore[arg-type]  # what a user passes by mistake
    with pytest.raises(reperio.CollectionClosed):
        kb.embed(["bread"])
    with reperio.open(":memory:", dimension=4) as kb, pytest.raises(reperio.InvalidInput, match="no embedder"):
        kb.embed(["bread"])


def test_a_new_handle_knows_nothing_of_another(path: Path) -> None:
    """Vectors are kept per open handle."""
    embedder = Counting()
    for _ in range(2):
        with reperio.open(path, embedder=embedder) as kb:
            kb.add(CHUNKS)
            kb.search("bread")
    assert embedder.asked.count("bread") == 2


def test_another_embedder_is_never_served_from_it(path: Path) -> None:
    """After reembed, the new model embeds the question, also one of the same name and dimension."""
    old, new = Counting(), Counting(salt="other")
    with reperio.open(path, embedder=old) as kb:
        kb.add(CHUNKS)
        kb.search("bread")
        kb.reembed(new)
        asked = len(new.asked)
        assert kb.search("a loaf of bread", k=1)[0].score == pytest.approx(1)
        kb.search("bread")
        assert new.asked[asked:] == ["a loaf of bread", "bread"]
        kb.reembed(old)
        kb.search("bread")
    assert old.asked.count("bread") == 2


def test_a_question_that_failed_is_asked_again(path: Path) -> None:
    """What an embedder could not embed is not kept."""
    embedder = Counting()
    with reperio.open(path, embedder=embedder) as kb:
        kb.add(CHUNKS)
        embedder.failing = True
        for _ in range(2):
            with pytest.raises(EmbedderFailed, match="away"):
                kb.search("bread")
        embedder.failing = False
        assert kb.search("bread", k=1)[0].chunk.id == "a"
    assert embedder.asked.count("bread") == 3


def test_a_prompt_that_changes_makes_another_question() -> None:
    """An embedder whose prompt was set again is another origin of vectors, and so is another metric."""
    embedder, known = Counting(), KnownQuestions()
    plain = known.embed(embedder, ["bread"], Metric.L2)
    embedder.query_prompt = "query: "
    assert not np.allclose(known.embed(embedder, ["bread"], Metric.L2), plain)
    assert np.linalg.norm(known.embed(embedder, ["bread"], Metric.COSINE)) == pytest.approx(1)
    assert embedder.asked == ["bread"] * 3


def test_what_is_returned_belongs_to_the_caller() -> None:
    """A caller that changes its array changes nobody else's, neither the first time nor later."""
    embedder, known = Counting(), KnownQuestions()
    expected = embedder.embed_queries(["bread"])
    for _ in range(3):
        found = known.embed(embedder, ["bread"], Metric.L2)
        np.testing.assert_array_equal(found, expected)
        found[:] = 0


def test_the_number_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently asked go first; long questions and huge vectors are not kept at all."""
    embedder, known = Counting(), KnownQuestions()
    texts = [f"question {n}" for n in range(300)]
    assert known.embed(embedder, texts, Metric.L2).shape == (300, 64)
    assert len(known._vectors) == 256
    known.embed(embedder, ["question 44"], Metric.L2)
    known.embed(embedder, ["one more"], Metric.L2)
    assert {"question 44", "one more"} <= known._vectors.keys()
    assert "question 45" not in known._vectors
    known.embed(embedder, ["long " * 1000], Metric.L2)
    assert "long " * 1000 not in known._vectors
    monkeypatch.setattr(questions, "_MOST_NUMBERS", 128)
    known.embed(embedder, ["x"], Metric.L2)
    assert len(known._vectors) == 2


def test_no_questions_have_no_vectors() -> None:
    """An empty list gives a (0, d) array."""
    assert KnownQuestions().embed(Counting(), [], Metric.L2).shape == (0, 64)


def test_threads_share_it() -> None:
    """Threads that ask overlapping questions with two embedders get the vectors of theirs."""
    known = KnownQuestions()
    failures: list[BaseException] = []

    def work(embedder: Counting) -> None:
        try:
            for turn in range(200):
                texts = [f"question {(turn + n) % 300}" for n in range(3)]
                np.testing.assert_array_equal(known.embed(embedder, texts, Metric.L2), embedder.embed_queries(texts))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(Counting(salt=salt),)) for salt in "aabb"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
