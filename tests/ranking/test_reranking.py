"""Hits in a new order: none lost, errors said, scores kept side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reperio import Chunk, Hit, InvalidInput, ReperioError
from reperio.errors import RerankerFailed
from reperio.ranking import CallableReranker, rerank
from reperio.types import Reranker


class Given:
    """A reranker that returns what it was given, and remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Sequence[str], Sequence[Sequence[str]]]] = []

    def score(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> Any:
        self.asked.append((queries, texts))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def found(*texts: str) -> list[Hit]:
    return [Hit(Chunk(f"{text}-{rank}", text), 1 - rank / 10, rank) for rank, text in enumerate(texts, start=1)]


def test_hits_are_ordered_by_the_new_score_and_keep_the_old() -> None:
    """The best comes first with rank 1; the score it was retrieved by stays beside it, under its name."""
    hits = found("a", "b", "c")
    (reranked,) = rerank(Given([[0.1, 3.0, 2.0]]), ["q"], [hits])
    assert [(hit.chunk.text, hit.score, hit.rank) for hit in reranked] == [("b", 3.0, 1), ("c", 2.0, 2), ("a", 0.1, 3)]
    assert reranked[0].scores == {"dense": 0.8, "rerank": 3.0}
    assert hits == found("a", "b", "c")  # what was passed in is as it was
    (lexical,) = rerank(Given([[1, 1, 1]]), ["q"], [hits], retrieved_by="lexical")
    assert lexical[0].scores == {"lexical": 0.9, "rerank": 1.0}


def test_component_scores_stay() -> None:
    """What fusion noted is kept as it is, and not noted twice."""
    hit = Hit(Chunk("a", "a"), 0.7, 1, {"dense": 0.4, "fused": 0.7})
    assert rerank(Given([[5.0]]), ["q"], [[hit]])[0][0].scores == {"dense": 0.4, "fused": 0.7, "rerank": 5.0}
    assert hit.scores == {"dense": 0.4, "fused": 0.7}


def test_all_queries_go_in_one_call_and_those_without_hits_stay_at_home() -> None:
    """A model can fill its batches across queries; it is never asked about nothing."""
    reranker = Given([[1.0], [1.0, 2.0]])
    first, none, last = rerank(reranker, ["p", "q", "r"], [found("a"), [], found("b", "b")])
    assert reranker.asked == [(["p", "r"], [["a"], ["b", "b"]])]
    assert (len(first), none, [hit.chunk.id for hit in last]) == (1, [], ["b-2", "b-1"])
    assert rerank(reranker, ["p"], [[]]) == [[]]
    assert rerank(reranker, [], []) == []
    assert len(reranker.asked) == 1


@given(st.lists(st.lists(st.sampled_from([0.0, -1.5, 2.0, 1e300, -1e-300]), max_size=6), max_size=4))
def test_no_hit_is_lost_and_equals_stay_in_order(scores: list[list[float]]) -> None:
    """Whatever the scores: the same hits, ranks from 1, falling scores, and equals in the order of retrieval."""
    hits = [found(*"abcdef"[: len(own)]) for own in scores]
    reranked = rerank(Given([own for own in scores if own]), ["q"] * len(scores), hits)
    for before, after, own in zip(hits, reranked, scores, strict=True):
        assert [hit.rank for hit in after] == list(range(1, len(before) + 1))
        order = [int(hit.chunk.id[2:]) - 1 for hit in after]
        assert order == [at for _, at in sorted((-score, at) for at, score in enumerate(own))]
        assert [hit.chunk for hit in after] == [before[at].chunk for at in order]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([[1.0, 2.0]], r"scores of shape \(2,\) for 3 texts"),
        ([[1.0, 2.0, 3.0, 4.0]], r"scores of shape \(4,\) for 3 texts"),
        ([[[1.0], [2.0], [3.0]]], r"scores of shape \(3, 1\)"),
        ([1.0], r"scores of shape \(\) for 3 texts"),
        ([[1.0, math.nan, 2.0]], "query 'why': nan for text 1, 'b'"),
        ([[1.0, 2.0, -math.inf]], "-inf for text 2, 'c'"),
        ([["1", "2", "3"]], "dtype <U1"),
        ([[None, 1.0, 2.0]], "dtype object"),
        ([[[1.0], [2.0, 3.0], [1.0]]], "no list of numbers"),
        ([[1.0] * 3] * 2, "scores for 2 queries instead of 1"),
        ([], "scores for 0 queries instead of 1"),
        (None, "raised TypeError"),
        (RuntimeError("out of memory"), "Given raised RuntimeError: out of memory; search without reranker="),
    ],
)
def test_a_useless_answer_is_an_error(answer: Any, message: str) -> None:
    """Wrong counts, numbers that are none, exceptions: said with the query and the text; no hit is lost silently."""
    with pytest.raises(RerankerFailed, match=message) as raised:
        rerank(Given(answer), ["why"], [found("a", "b", "c")])
    if isinstance(answer, Exception):
        assert raised.value.__cause__ is answer


def test_our_own_errors_pass_and_interrupts_too() -> None:
    """An error that already says the cure is not wrapped; Ctrl-C is not an answer."""
    for error in (InvalidInput("as it is"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised:
            rerank(Given(error), ["q"], [found("a")])
        assert raised.value is error
    assert issubclass(RerankerFailed, ReperioError)


def test_queries_and_lists_must_be_as_many() -> None:
    """One list of hits per query."""
    with pytest.raises(InvalidInput, match="2 queries with 1 lists"):
        rerank(Given([]), ["p", "q"], [[]])


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda own: np.array(own, dtype=np.float16)])
def test_any_sequence_of_numbers_will_do(kind: Any) -> None:
    """Lists, tuples, arrays of any float or integer type; Hit.score is a plain float."""
    (reranked,) = rerank(Given([kind([1, 3, 2])]), ["q"], [found("a", "b", "c")])
    assert [hit.chunk.text for hit in reranked] == ["b", "c", "a"]
    assert type(reranked[0].score) is float


def test_a_function_is_called_per_query() -> None:
    """The words shared with the query, as a function, order the hits."""

    def overlap(query: str, texts: Sequence[str]) -> list[int]:
        return [len(set(query.split()) & set(text.split())) for text in texts]

    reranker = CallableReranker(overlap)
    assert isinstance(reranker, Reranker)
    first, second = rerank(reranker, ["red fox", "blue sky"], [found("a cow", "a red fox"), found("sky", "blue sky")])
    assert [hit.chunk.text for hit in first] == ["a red fox", "a cow"]
    assert [hit.score for hit in second] == [2.0, 1.0]


def test_scores_by_position_survive_any_order_and_equal_texts() -> None:
    """A service answers best first by index; two hits of the same text keep a score each."""
    (reranked,) = rerank(CallableReranker(lambda *_: {2: 9.0, 0: 5.0, 1: 7.0}), ["q"], [found("same", "same", "b")])
    assert [(hit.chunk.id, hit.score) for hit in reranked] == [("b-3", 9.0), ("same-2", 7.0), ("same-1", 5.0)]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({0: 1.0, 2: 1.0}, "no score for position 1 of 3 texts"),
        ({0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}, "a score for 3 of 3 texts"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "no score for position 0"),
    ],
)
def test_a_service_that_leaves_texts_out_is_an_error(answer: dict[Any, float], message: str) -> None:
    """The best few are not all: that a hit has no score is said, and how to ask for it."""
    with pytest.raises(RerankerFailed, match=message):
        rerank(CallableReranker(lambda *_: answer), ["q"], [found("a", "b", "c")])


def test_what_cannot_be_called_is_refused() -> None:
    """At construction, not at the first search."""
    with pytest.raises(InvalidInput, match="cannot be called"):
        CallableReranker("a name")
