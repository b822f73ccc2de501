"""MaxSim over token vectors: against its definition, and with the real model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from reperio import InvalidInput, SentenceTransformerEmbedder
from reperio.ranking import LateInteractionReranker

Floats = npt.NDArray[np.float32]


class WordVectors:
    """One random vector per word, of any length but zero; a word's question form differs from its passage form."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed_tokens(self, texts: Sequence[str], *, query: bool) -> list[Floats]:
        self.embedded += [] if query else texts
        return [np.array([self.vector(word, query) for word in text.split()]).reshape(-1, 8) for text in texts]

    def vector(self, word: str, query: bool) -> Floats:
        rng = np.random.default_rng([*word.encode(), query])
        return np.asarray(rng.normal(size=8) * rng.uniform(0.1, 10), dtype=np.float32)


def expected(embedder: WordVectors, query: str, text: str) -> float:
    """Write MaxSim out, one pair of words at a time."""
    if not query.split():
        return 0.0
    if not text.split():
        return -1.0
    best = []
    for asked in query.split():
        own = embedder.vector(asked, True)
        others = [embedder.vector(word, False) for word in text.split()]
        best.append(max(own @ other / np.linalg.norm(own) / np.linalg.norm(other) for other in others))
    return float(np.mean(best))


def test_equals_its_definition() -> None:
    """Random questions and texts, empty ones among them, with more texts than are held at once."""
    rng, embedder = np.random.default_rng(1), WordVectors()
    words = [f"w{number}" for number in range(40)]

    def sentence(longest: int) -> str:
        return " ".join(rng.choice(words, rng.integers(0, longest)))

    queries = [sentence(6) for _ in range(30)]
    texts = [[sentence(9) for _ in range(rng.integers(1, 40))] for _ in queries]
    scores = LateInteractionReranker(embedder).score(queries, texts)
    for query, its, own in zip(queries, texts, scores, strict=True):
        assert own == pytest.approx([expected(embedder, query, text) for text in its], abs=1e-5)
    assert any(not query for query in queries)
    assert any(not text for its in texts for text in its)


def test_a_shared_text_is_embedded_once() -> None:
    """Twenty questions with the same candidates cost one embedding of each."""
    embedder = WordVectors()
    scores = LateInteractionReranker(embedder).score(["a"] * 20, [["b", "c", "b"]] * 20)
    assert sorted(embedder.embedded) == ["b", "c"]
    assert scores == [scores[0]] * 20
    assert scores[0][0] == scores[0][2]


def test_nothing_asked_is_nothing_answered() -> None:
    """No queries, and a query without texts."""
    assert LateInteractionReranker(WordVectors()).score([], []) == []
    assert LateInteractionReranker(WordVectors()).score(["a"], [[]]) == [[]]


def test_an_embedder_without_token_vectors_is_refused(embedder: Any) -> None:
    """At construction, with what is missing."""
    with pytest.raises(InvalidInput, match="TrigramEmbedder has no embed_tokens"):
        LateInteractionReranker(embedder)


@pytest.mark.model
def test_the_embedding_models_own_tokens_find_the_answer(minilm: SentenceTransformerEmbedder) -> None:
    """With the real model, the text that answers comes before one that does not, and an empty text last."""
    reranker = LateInteractionReranker(minilm)
    texts = ["The stock market fell sharply today.", "", "Flour, water, salt and yeast make a loaf of bread."]
    (scores,) = reranker.score(["How do I bake bread?"], [texts])
    assert scores[2] > scores[0] > scores[1] == -1.0
    assert scores[2] <= 1.0
    ((same,),) = reranker.score([texts[0]], [[texts[0]]])
    assert same == pytest.approx(1.0, abs=0.01)
