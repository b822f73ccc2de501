"""Scores are similarities, relevance is in [0, 1], and both put documents in one order, for every metric."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from reperio import CallableReranker, Metric
from reperio.errors import InvalidInput

from langchain_reperio import ReperioVectorStore
from langchain_reperio.conversion.scores import to_relevance
from tests.conftest import TEXTS, TrigramEmbeddings
from tests.running import ROOT

METRICS = ("cosine", "inner_product", "l2")


class Given(Embeddings):
    """Vectors as given, of all lengths and directions; a text names its vector."""

    def __init__(self) -> None:
        rng = np.random.default_rng(11)
        self.vectors = rng.standard_normal((200, 8)) * rng.uniform(0.01, 50, (200, 1))
        self.vectors[0] = self.vectors[1] * 3

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        # Anything but a number, a canary text among them, has a vector of its own.
        at = int(text) if text.isdigit() else sum(text.encode()) % 100 + 100
        return [float(value) for value in self.vectors[at]]


def scores(metric: str, query: Any, vectors: Any) -> Any:
    if metric == "l2":
        return -((vectors - query) ** 2).sum(axis=1)
    products = vectors @ query
    return products if metric == "inner_product" else products / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)


@pytest.fixture(params=METRICS)
def measured(request: pytest.FixtureRequest, path: Path) -> Any:
    given = Given()
    with ReperioVectorStore(given, path, metric=request.param, relevance="reperio") as store:
        store.add_texts([str(number) for number in range(100)])
        yield request.param, given.vectors, store


def test_scores_are_those_of_the_metric_and_higher_is_better(measured: Any) -> None:
    """Cosine is cosine for vectors of any length, an inner product is one, L2 is minus the squared distance."""
    metric, vectors, store = measured
    # Of equal directions the stored unit vectors differ in a last bit, which exact scores tell apart.
    kb = store.collection
    ids = sorted(kb.ids(), key=lambda each: int(kb.get(each).text))
    stored = kb.vectors(ids).astype(np.float64)
    for number in (0, 1, 50):
        found = store.similarity_search_with_score(str(number), k=100)
        expected = scores(metric, stored[number] if metric == "cosine" else vectors[number], stored)
        assert [float(document.page_content) for document, _ in found] == list(np.argsort(-expected, kind="stable"))
        np.testing.assert_allclose([score for _, score in found], np.sort(expected)[::-1], rtol=1e-3, atol=1e-3)
        by_vector = store.similarity_search_with_score_by_vector(list(vectors[number]), k=100)
        assert [document.id for document, _ in by_vector] == [document.id for document, _ in found]


def test_relevance_is_within_bounds_and_in_order(measured: Any) -> None:
    """Neither negative nor inverted: from the best document to the worst it falls, from 1 at most to 0 at least."""
    _, _, store = measured
    for number in range(0, 100, 7):
        found = store.similarity_search_with_relevance_scores(str(number), k=100)
        scored = store.similarity_search_with_score(str(number), k=100)
        relevance = [each for _, each in found]
        assert all(0.0 <= each <= 1.0 for each in relevance)
        assert relevance == sorted(relevance, reverse=True)
        assert [document.id for document, _ in found] == [document.id for document, _ in scored]


async def test_score_threshold_works_on_relevance(measured: Any) -> None:
    """A threshold between two documents keeps exactly those above it, by every way there is to say so."""
    _, _, store = measured
    found = store.similarity_search_with_relevance_scores("50", k=100)
    threshold = (found[9][1] + found[10][1]) / 2
    expected = [document.id for document, _ in found[:10]]
    options = {"k": 100, "score_threshold": threshold}
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs=options)
    assert [each.id for each, _ in store.similarity_search_with_relevance_scores("50", **options)] == expected
    assert [each.id for each, _ in await store.asimilarity_search_with_relevance_scores("50", **options)] == expected
    assert [each.id for each in store.search("50", "similarity_score_threshold", **options)] == expected
    assert [each.id for each in retriever.invoke("50")] == expected
    assert [each.id for each in await retriever.ainvoke("50")] == expected


@pytest.mark.parametrize("metric", METRICS)
def test_the_metric_is_persistent(path: Path, metric: str) -> None:
    """Reopened without saying so, a store scores as before; another metric is refused."""
    given = Given()
    with ReperioVectorStore(given, path, metric=metric) as store:
        store.add_texts([str(number) for number in range(100)])
        before = store.similarity_search_with_relevance_scores("3", k=100)
    with ReperioVectorStore(given, path) as store:
        assert store.similarity_search_with_relevance_scores("3", k=100) == before
    other = next(each for each in METRICS if each != metric)
    with pytest.raises(InvalidInput, match=metric):
        ReperioVectorStore(given, path, metric=other)


OTHERS: dict[str, dict[str, Any]] = {
    "convex": {"mode": "hybrid"},
    "weighted": {"mode": "hybrid", "weight": 0.9},
    "rrf": {"mode": "hybrid", "fusion": "rrf"},
    "lexical": {"mode": "lexical"},
    "reranked": {"reranker": CallableReranker(lambda _, texts: [(len(text) - 42) * 100.0 for text in texts])},
}


@pytest.mark.parametrize("name", OTHERS)
def test_relevance_of_other_searches(filled: ReperioVectorStore, name: str) -> None:
    """Fused, lexical and reranked scores become relevance in their own order, by call and by default."""
    options = OTHERS[name]
    found = filled.similarity_search_with_relevance_scores("fruit of the orchard platform", k=6, **options)
    relevance = [each for _, each in found]
    assert len(set(relevance)) > 1
    assert all(0.0 <= each <= 1.0 for each in relevance)
    assert relevance == sorted(relevance, reverse=True)
    by_default = ReperioVectorStore(collection=filled.collection, **options)
    assert by_default.similarity_search_with_relevance_scores("fruit of the orchard platform", k=6) == found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "how",
    [{}, {"mode": "hybrid"}, {"mode": "hybrid", "fusion": "rrf"}, {"mode": "lexical"}, {"reranked": True}],
    ids=str,
)
def test_the_maps_rise(metric: str, how: dict[str, Any]) -> None:
    """Over the scores that there can be, from the least to the greatest, relevance rises strictly within [0, 1]."""
    low, high = {"cosine": (-1, 1), "inner_product": (-1e6, 1e6), "l2": (-1e6, 0)}[metric]
    if how:
        low, high = {"convex": (0, 1), "rrf": (0, 2 / 61)}[how.get("fusion", "convex")]
        low, high = (0, 100) if how.get("mode") == "lexical" else (-1e6, 1e6) if how.get("reranked") else (low, high)
    relevance = to_relevance(Metric(metric), scale="reperio", **how)
    values = [relevance(score) for score in np.linspace(low, high, 1001).tolist()]
    assert values[0] >= 0.0
    assert values[-1] <= 1.0
    assert all(left < right for left, right in itertools.pairwise(values))


def test_best_and_first_have_the_relevance_one() -> None:
    """What cannot be better has relevance 1: the same direction, no distance, first of both lists."""
    assert to_relevance(Metric.COSINE)(1.0000001) == to_relevance(Metric.L2)(0.0) == 1.0
    assert to_relevance(Metric.COSINE, mode="hybrid")(1.0) == 1.0
    assert to_relevance(Metric.COSINE, mode="hybrid", fusion="rrf")(2 / 61) == 1.0


def test_reciprocal_ranks_are_what_the_map_expects(filled: ReperioVectorStore) -> None:
    """A document that is first of both lists has relevance 1 with fusion="rrf"."""
    (best, relevance), *_ = filled.similarity_search_with_relevance_scores(TEXTS["error"], mode="hybrid", fusion="rrf")
    assert best.id == "error"
    assert relevance == pytest.approx(1.0)


def test_a_relevance_function_of_ones_own(path: Path, embeddings: TrigramEmbeddings) -> None:
    """relevance_score_fn takes scores, not distances; what leaves [0, 1] is refused."""
    with ReperioVectorStore(embeddings, path, relevance_score_fn=lambda score: max(0.0, score)) as store:
        store.add_texts(["one"])
        ((_, relevance),) = store.similarity_search_with_relevance_scores("one")
        assert relevance == pytest.approx(1.0)
        other = ReperioVectorStore(collection=store.collection, relevance_score_fn=lambda score: score - 3)
        with pytest.raises(InvalidInput, match=r"within \[0, 1\]"):
            other.similarity_search_with_relevance_scores("one")


class Directions(Embeddings):
    """Texts that name the cosine that they have to the question."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        try:
            cosine = float(text)
        except ValueError:
            cosine = (sum(text.encode()) % 100) / 100  # a canary
        return [cosine, (1 - cosine * cosine) ** 0.5]


COSINES = (0.9, 0.55, 0.3, 0.1, -0.2)
LANGCHAINS: dict[str, Any] = {
    # What its stores compute of a distance: FAISS by default (squared L2), Chroma with l2 and with cosine, PGVector.
    "l2": lambda cosine: VectorStore._euclidean_relevance_score_fn(2 - 2 * cosine),
    "cosine": lambda cosine: VectorStore._cosine_relevance_score_fn(1 - cosine),
    # Chroma's ip is a distance, 1 - product; of products themselves, as FAISS passes them, the formula is inverted.
    "inner_product": lambda cosine: VectorStore._max_inner_product_relevance_score_fn(1 - cosine),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("threshold", [0.05, 0.25, 0.5, 0.75])
def test_a_threshold_keeps_what_it_keeps_in_langchains_stores(path: Path, metric: str, threshold: float) -> None:
    """For vectors of length 1, relevance is their formula's, cut at 0; at 0.5 one or two of five remain."""
    texts = [str(cosine) for cosine in COSINES]
    with ReperioVectorStore.from_texts(texts, Directions(), path=path, metric=metric) as store:
        found = store.similarity_search_with_relevance_scores("1.0", k=5)
        theirs = {text: LANGCHAINS[metric](float(text)) for text in texts}
        for document, relevance in found:
            assert relevance == pytest.approx(max(0.0, theirs[document.page_content]), abs=1e-6)
        kept = store.similarity_search_with_relevance_scores("1.0", k=5, score_threshold=threshold)
        assert [document.page_content for document, _ in kept] == [text for text in texts if theirs[text] >= threshold]
        ours = ReperioVectorStore(collection=store.collection, relevance="reperio")
        assert len(ours.similarity_search_with_relevance_scores("1.0", k=5, score_threshold=0.25)) >= len(kept)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.8, 0.95])
def test_the_pages_table_of_thresholds(threshold: float) -> None:
    """The formulas that the migration page gives turn a threshold of FAISS's store into one that keeps the same."""
    cosine = 1 - (1 - threshold) / 2**0.5
    assert to_relevance(Metric.L2)(-(2 - 2 * cosine)) == pytest.approx(threshold)
    assert to_relevance(Metric.COSINE)(cosine) == pytest.approx(cosine)
    page = (ROOT / "docs" / "moving-from-langchain-faiss.md").read_text(encoding="utf-8")
    assert f"| {threshold:g} | {threshold:g} | {cosine:.3f} | {cosine:.3f} |" in page


def test_the_best_relevance_is_one_in_both_scales() -> None:
    """And the worst is 0, without a step."""
    for scale in ("langchain", "reperio"):
        assert to_relevance(Metric.COSINE, scale=scale)(1.0) == to_relevance(Metric.L2, scale=scale)(0.0) == 1.0
        assert to_relevance(Metric.COSINE, scale=scale)(-1.0) == 0.0
    assert to_relevance(Metric.L2)(-100.0) == 0.0
