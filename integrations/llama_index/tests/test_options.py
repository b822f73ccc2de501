"""The query modes: what each asks for, and that nothing in a query is silently ignored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import reperio

from llama_index.vector_stores.reperio import ReperioVectorStore
from tests.conftest import ask, node

TEXTS = {
    "reset": "reset the password of an account",
    "login": "what to do when the login fails",
    "invoice": "how to pay an invoice by bank transfer",
    "refund": "refund of an invoice that was paid twice",
}


class Longest:
    """A reranker that prefers long texts, and remembers how many it was shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def score(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        del queries
        self.shown += [len(its) for its in texts]
        return [[float(len(text)) for text in its] for its in texts]


@pytest.fixture
def filled(store: ReperioVectorStore) -> ReperioVectorStore:
    """By vector (1, 0) the order is reset, login, invoice, refund; by the word "invoice" the last two."""
    store.add([node(name, (1.0 - i / 4, i / 4), text=text) for i, (name, text) in enumerate(TEXTS.items())])
    return store


def test_default_goes_by_vector(filled: ReperioVectorStore) -> None:
    """And takes no notice of a query text, which retrievers pass always."""
    assert ask(filled, query_str="invoice") == list(TEXTS)
    assert ask(filled, k=2) == ["reset", "login"]


@pytest.mark.parametrize("mode", ["text_search", "sparse"])
def test_lexical_modes_go_by_words_without_an_embedding(filled: ReperioVectorStore, mode: str) -> None:
    """query_str only; sparse_top_k, where given, says how many."""
    assert set(ask(filled, None, mode=mode, query_str="invoice")) == {"invoice", "refund"}
    assert ask(filled, None, mode=mode, query_str="password") == ["reset"]
    assert len(ask(filled, None, mode=mode, query_str="invoice", sparse_top_k=1)) == 1
    assert ask(filled, (1.0,), mode=mode, query_str="password") == ["reset"]


def test_hybrid_from_words_to_vectors(filled: ReperioVectorStore) -> None:
    """Alpha 0 is the order of the words, 1 that of the vectors, 0.5 the default."""
    words = "invoice twice transfer password"
    by_words = ask(filled, None, mode="text_search", query_str=words)
    assert len(by_words) == 3
    assert ask(filled, mode="hybrid", query_str=words, alpha=0)[:2] == by_words[:2]
    assert ask(filled, mode="hybrid", query_str=words, alpha=1) == list(TEXTS)
    assert ask(filled, mode="hybrid", query_str=words) == ask(filled, mode="hybrid", query_str=words, alpha=0.5)


def test_hybrid_top_k_is_how_many_come_back(filled: ReperioVectorStore) -> None:
    """Without it similarity_top_k is."""
    assert len(ask(filled, mode="hybrid", query_str="invoice", k=2)) == 2
    assert len(ask(filled, mode="hybrid", query_str="invoice", k=2, hybrid_top_k=3)) == 3
    assert len(ask(filled, mode="hybrid", query_str="invoice", k=4, hybrid_top_k=1)) == 1


def test_sparse_top_k_is_how_many_of_the_words_list_are_fused(filled: ReperioVectorStore) -> None:
    """With alpha 0 only what is in that list has a score; of two that the words find, one is fused."""
    query: dict[str, Any] = {"mode": "hybrid", "query_str": "invoice", "alpha": 0.0}
    from tests.conftest import to_query

    for count in (1, 2):
        found = filled.query(to_query(sparse_top_k=count, **query))
        assert sum(similarity > 0 for similarity in found.similarities or []) == count


def test_semantic_hybrid_reranks_the_candidates(tmp_path: Path) -> None:
    """Where a reranker is configured; it chooses among more than are wanted, and its scores come back."""
    reranker = Longest()
    store = ReperioVectorStore(tmp_path / "kb", reranker=reranker)
    store.add([node(name, (1.0 - i / 4, i / 4), text=text) for i, (name, text) in enumerate(TEXTS.items())])
    assert ask(store, mode="semantic_hybrid", query_str="password", k=1) == ["refund"]
    assert ask(store, mode="semantic_hybrid", query_str="password", k=3, hybrid_top_k=2) == ["invoice", "reset"]
    assert ask(store, mode="semantic_hybrid", query_str="password", k=1, options={"candidates": 2}) != ["refund"]
    assert reranker.shown == [4, 3, 2]
    assert ask(store, mode="hybrid", query_str="password", k=1) == ["reset"]
    store.close()


def test_semantic_hybrid_without_a_reranker_says_so(filled: ReperioVectorStore) -> None:
    """An error with the cure, not hybrid search under another name."""
    with pytest.raises(ValueError, match="no reranker; pass reranker="):
        ask(filled, mode="semantic_hybrid", query_str="invoice")


@pytest.fixture
def twins(store: ReperioVectorStore) -> ReperioVectorStore:
    """Two near twins close to the query, and one node that is different."""
    store.add([node("a", (1.0, 0.1)), node("twin", (1.0, 0.11)), node("different", (0.6, -0.8))])
    return store


def test_mmr_trades_relevance_for_variety(twins: ReperioVectorStore) -> None:
    """A threshold of 1 is the order by vector; towards 0 the twin gives way to what is different."""
    assert ask(twins, mode="mmr", k=2, mmr_threshold=1.0) == ["a", "twin"]
    assert ask(twins, mode="mmr", k=2, mmr_threshold=0.3) == ["a", "different"]
    assert ask(twins, mode="mmr", k=2) == ["a", "different"]


def test_mmr_threshold_zero_is_a_threshold(twins: ReperioVectorStore) -> None:
    """0 is not taken for "not given": it is all for variety, from the query as from kwargs."""
    many = [node(f"m{i}", (1.0, 0.2 + i / 10)) for i in range(5)]
    twins.add(many)
    assert ask(twins, mode="mmr", k=2, mmr_threshold=0.0, options={"mmr_prefetch_k": 8}) == ["a", "different"]
    assert ask(twins, mode="mmr", k=2, options={"mmr_threshold": 0.0, "mmr_prefetch_k": 8}) == ["a", "different"]


def test_mmr_threshold_of_kwargs_wins(twins: ReperioVectorStore) -> None:
    """Over the query's, 0 among them."""
    assert ask(twins, mode="mmr", k=2, mmr_threshold=0.0, options={"mmr_threshold": 1.0}) == ["a", "twin"]
    assert ask(twins, mode="mmr", k=2, mmr_threshold=1.0, options={"mmr_threshold": 0}) == ["a", "different"]


def test_mmr_prefetch(twins: ReperioVectorStore) -> None:
    """Only what was prefetched can be chosen, by number or by factor; both are an error, and so is too few."""
    assert ask(twins, mode="mmr", k=2, mmr_threshold=0.0, options={"mmr_prefetch_k": 2}) == ["a", "twin"]
    assert ask(twins, mode="mmr", k=2, mmr_threshold=0.0, options={"mmr_prefetch_factor": 1}) == ["a", "twin"]
    assert ask(twins, mode="mmr", k=2, mmr_threshold=0.0, options={"mmr_prefetch_factor": 1.5}) == ["a", "different"]
    for options, message in (
        ({"mmr_prefetch_k": 3, "mmr_prefetch_factor": 2}, "mmr_prefetch_factor and mmr_prefetch_k"),
        ({"mmr_prefetch_k": 1}, "at least similarity_top_k, 2"),
        ({"mmr_prefetch_factor": 0.5}, "from 1 up"),
        ({"mmr_threshold": 2}, "between 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(twins, mode="mmr", k=2, options=options)


@pytest.mark.parametrize("mode", ["default", "hybrid", "mmr"])
def test_a_missing_embedding_is_named(filled: ReperioVectorStore, mode: str) -> None:
    """Modes that go by vector say that they need query_embedding."""
    with pytest.raises(ValueError, match=f"'{mode}' needs query_embedding"):
        ask(filled, None, mode=mode, query_str="invoice")


@pytest.mark.parametrize("mode", ["hybrid", "text_search", "sparse"])
def test_a_missing_text_is_named(filled: ReperioVectorStore, mode: str) -> None:
    """Modes that go by words say that they need query_str."""
    with pytest.raises(ValueError, match=f"'{mode}' needs query_str"):
        ask(filled, mode=mode)


@pytest.mark.parametrize(
    ("mode", "query", "options", "name"),
    [
        ("default", {"alpha": 0.5}, {}, "alpha"),
        ("mmr", {"alpha": 0.5}, {}, "alpha"),
        ("default", {"sparse_top_k": 3}, {}, "sparse_top_k"),
        ("text_search", {"query_str": "a", "hybrid_top_k": 3}, {}, "hybrid_top_k"),
        ("default", {"mmr_threshold": 0.5}, {}, "mmr_threshold"),
        ("default", {}, {"mmr_threshold": 0.5}, "mmr_threshold"),
        ("hybrid", {"query_str": "a"}, {"mmr_prefetch_k": 20}, "mmr_prefetch_k"),
        ("text_search", {"query_str": "a"}, {"recall": 0.9}, "recall"),
        ("default", {"output_fields": ["text"]}, {}, "output_fields"),
        ("default", {"embedding_field": "title"}, {}, "embedding_field"),
    ],
)
def test_what_a_mode_would_ignore_is_refused_by_name(
    filled: ReperioVectorStore, mode: str, query: dict[str, Any], options: dict[str, Any], name: str
) -> None:
    """Nothing is silently ignored."""
    with pytest.raises(ValueError, match=f"^{name} has no effect in query mode '{mode}'"):
        ask(filled, mode=mode, options=options, **query)


def test_a_misspelt_option_names_the_nearest(filled: ReperioVectorStore) -> None:
    """mmr_treshold is not an option; mmr_threshold is."""
    with pytest.raises(reperio.UnknownOption, match="did you mean 'mmr_threshold'"):
        ask(filled, mode="mmr", options={"mmr_treshold": 0.1})


@pytest.mark.parametrize(
    ("query", "message"),
    [({"k": 0}, "k is 0"), ({"k": 10_001}, "10,000"), ({"mode": "hybrid", "query_str": "a", "alpha": 1.5}, "1.5")],
)
def test_impossible_numbers_are_refused(filled: ReperioVectorStore, query: dict[str, Any], message: str) -> None:
    """Not clamped: the message says what is possible."""
    with pytest.raises(ValueError, match=message):
        ask(filled, **query)


def test_recall_is_the_stores_or_the_querys(tmp_path: Path) -> None:
    """A recall of 1 is exact search whatever the index; an impossible one is refused, at either place."""
    with pytest.raises(ValueError, match="recall"):
        ReperioVectorStore(tmp_path / "kb", recall=1.5)
    store = ReperioVectorStore(tmp_path / "kb", recall=0.9)
    store.add([node("a")])
    with pytest.raises(ValueError, match="recall"):
        ask(store, options={"recall": 1.5})
    assert ask(store, options={"recall": 1.0}) == ["a"]
    store.close()


def test_an_explicit_none_is_the_default(filled: ReperioVectorStore) -> None:
    """mmr_threshold=None, as a retriever passes on what it was not given, in every mode, and every other option so."""
    nothing = dict.fromkeys(("mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k", "recall", "candidates"))
    for mode in ("default", "mmr", "text_search", "hybrid"):
        embedding = None if mode == "text_search" else (1.0,)
        query: dict[str, Any] = {} if mode == "mmr" or mode == "default" else {"query_str": "invoice"}
        assert ask(filled, embedding, mode=mode, options=nothing, **query) == ask(filled, embedding, mode=mode, **query)
        if mode == "mmr":
            said = ask(filled, mode=mode, mmr_threshold=0.9)
            assert ask(filled, mode=mode, mmr_threshold=0.9, options={"mmr_threshold": None}) == said
            assert ask(filled, mode=mode, mmr_threshold=None, options={"mmr_threshold": 0.9}) == said
