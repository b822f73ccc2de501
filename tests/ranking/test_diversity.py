"""Maximal marginal relevance against LangChain's and a naive one; near-duplicates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reperio import InvalidInput
from reperio.ranking import distinct, mmr

Floats = npt.NDArray[np.float64]

LAMBDAS = (0.0, 0.25, 0.5, 0.9, 1.0)


def cosine(left: Floats, right: Floats) -> float:
    lengths = math.sqrt(left @ left) * math.sqrt(right @ right)
    return float(left @ right) / lengths if lengths else 0.0


def naive(query: Floats, vectors: Floats, k: int, lambda_mult: float) -> list[int]:
    """Write the definition out, one pair at a time."""
    chosen: list[int] = []
    relevance = [cosine(vector, query) for vector in vectors]
    similarity = [[cosine(vector, other) for other in vectors] for vector in vectors]
    while len(chosen) < min(k, len(vectors)):
        worth = {}
        for at in set(range(len(vectors))) - set(chosen):
            redundancy = max((similarity[at][other] for other in chosen), default=0.0)
            worth[at] = lambda_mult * relevance[at] - (1 - lambda_mult) * redundancy if chosen else relevance[at]
        chosen.append(min(worth, key=lambda at: (-worth[at], at)))
    return chosen


def cases(seed: int) -> tuple[Floats, Floats]:
    """Random directions and lengths, some candidates near copies of others."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 60)), int(rng.integers(2, 48))
    vectors = rng.normal(size=(n, d)) * rng.uniform(0.1, 10, size=(n, 1))
    vectors[: n // 3] = vectors[-1] + 0.05 * rng.normal(size=(n // 3, d))
    return rng.normal(size=d), vectors


@pytest.mark.parametrize("lambda_mult", LAMBDAS)
def test_equals_the_definition(lambda_mult: float) -> None:
    """Forty random cases: the same choice in the same order as one pair at a time."""
    for seed in range(40):
        query, vectors = cases(seed)
        for k in (0, 1, 7, 100):
            assert mmr(query, vectors, k, lambda_mult=lambda_mult) == naive(query, vectors, k, lambda_mult)


@pytest.mark.parametrize("lambda_mult", LAMBDAS)
def test_equals_langchains(lambda_mult: float) -> None:
    """The same choice as langchain-core's function, also among equal candidates and zero vectors."""
    theirs: Any = pytest.importorskip(
        "langchain_core.vectorstores.utils", reason="langchain-core is not installed"
    ).maximal_marginal_relevance
    for seed in range(60):
        query, vectors = cases(seed)
        if seed % 2:  # small whole numbers: products are exact, so that ties are ties in both
            query, vectors = np.sign(query), np.round(vectors)
        if not vectors.any() or not query.any():
            continue  # theirs raises
        for k in (0, 1, 5, 100):
            expected = theirs(query, vectors.tolist(), lambda_mult=lambda_mult, k=k)
            assert mmr(query, vectors, k, lambda_mult=lambda_mult) == expected


def test_equal_candidates_are_taken_in_their_order() -> None:
    """All alike: the order of retrieval; and float32 input is compared without losing what tells two apart."""
    assert mmr([1, 0], [[1, 0]] * 4, 3) == [0, 1, 2]
    near = np.array([[1, 1e-4], [1, 0], [0, 1]], dtype=np.float32)
    assert mmr(np.array([1, 0], dtype=np.float32), near, 3, lambda_mult=1.0) == [1, 0, 2]


def test_length_does_not_count() -> None:
    """Under inner product the longer vector is the better hit; the choice goes by direction alone."""
    assert mmr([1, 0], [[100, 100], [1, 0]], 1) == [1]


def test_zero_vectors_are_like_nothing() -> None:
    """A zero vector has cosine 0 to everything, and nothing is divided by zero."""
    assert mmr([1, 0], [[0, 0], [-1, 0], [1, 0]], 3, lambda_mult=0.7) == [2, 0, 1]
    assert mmr([0, 0], [[1, 0], [0, 1]], 2) == [0, 1]


@pytest.mark.parametrize(
    ("query", "vectors", "k", "lambda_mult", "message"),
    [
        ([1, 0], [[1, 0]], 1, 1.01, "lambda_mult 1.01"),
        ([1, 0], [[1, 0]], 1, math.nan, "lambda_mult nan"),
        ([1, 0], [[1, 0]], -1, 0.5, "k -1"),
        ([1, 0, 0], [[1, 0]], 1, 0.5, r"query of shape \(3,\), vectors of shape \(1, 2\)"),
        ([[1, 0]], [[1, 0]], 1, 0.5, r"query of shape \(1, 2\)"),
        ([1, 0], [[1, math.nan]], 1, 0.5, "NaN or Inf"),
        ([math.inf, 0], [[1, 0]], 1, 0.5, "NaN or Inf"),
    ],
)
def test_what_cannot_be_compared_is_refused(query: Any, vectors: Any, k: int, lambda_mult: float, message: str) -> None:
    """Refused with what is wrong, where LangChain's would answer or raise from numpy."""
    with pytest.raises(InvalidInput, match=message):
        mmr(query, vectors, k, lambda_mult=lambda_mult)


def test_near_duplicates_are_found() -> None:
    """White space, case and the composition of accents make no difference; anything else does."""
    texts = ["Straße  am Café", "STRASSE\tam\ncafe\u0301 ", "Strasse am Cafe", "x²", "x2", "straße am café"]
    assert distinct(texts) == [0, 2, 3, 4]


def test_accents_without_end_are_told_apart_in_linear_time() -> None:
    """A text of 400,000 accents on one letter is compared as it is: Unicode's order of them would take half an hour."""
    accents = "a" + "\u0301\u0327" * 200_000
    assert distinct([accents, accents.upper(), accents + "b", "- - " + "-" * 100_000 + "e\u0301", "É"]) == [0, 2, 3, 4]
    assert distinct(["é" + "-" * 100, "E\u0301" + "-" * 100]) == [0]


def test_texts_of_nothing_are_all_kept() -> None:
    """Chunks stored with a vector and no text are not duplicates of each other."""
    assert distinct(["", " \n", "a", "", "A"]) == [0, 1, 2, 3]
    assert distinct([]) == []


@given(st.lists(st.text("aAbB \t\u00a0éÉ\ud800", max_size=4)))
def test_every_text_left_out_has_one_kept_before_it(texts: list[str]) -> None:
    """Kept positions rise, and what is dropped equals an earlier kept one once cased and spaced alike."""

    def plain(text: str) -> str:
        return " ".join(text.upper().lower().split())

    kept = distinct(texts)
    assert kept == sorted(set(kept))
    for position, text in enumerate(texts):
        before = [plain(texts[at]) for at in kept if at < position]
        assert (position in kept) == (plain(text) not in before or not plain(text))
