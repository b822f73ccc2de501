"""Choose candidates that are like the query and unlike each other."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.errors import InvalidInput

_Exact: TypeAlias = npt.NDArray[np.float64]

_MOST_MARKS = 30
_MARKS = re.compile(rf"[^\w\s]{{{_MOST_MARKS + 1}}}")  # finds every run of so many accents, and other things


def mmr(query: npt.ArrayLike, vectors: npt.ArrayLike, k: int, *, lambda_mult: float = 0.5) -> list[int]:
    """Choose by maximal marginal relevance: each next one like the query and unlike those chosen before.

    The first is the nearest to the query; then, k times at most, the one that maximises
    lambda_mult · cos(query, candidate) − (1 − lambda_mult) · max cos(candidate, chosen)
    (Carbonell and Goldstein 1998, section 2). Of equals the first candidate is taken. The choice is that of LangChain's
    ``maximal_marginal_relevance``, for the same arguments and also where candidates are equal.

    Similarity is the cosine whatever the metric of the collection, as two scales cannot be weighed against each other
    otherwise: inner products have no upper limit, and negative squared distances no common zero. So under inner
    product the length of a vector, and under L2 its distance beyond its direction, decide which candidates come in and
    not which of them are chosen, and the first chosen need not be the best hit. Under cosine it is. A zero vector has
    the cosine 0 to everything.

    Args:
        query: float (d,).
        vectors: the candidates' own vectors, float (n, d); codes of an index would blur what tells them apart.
        k: how many to choose; all n when there are fewer.
        lambda_mult: from 0, all for variety, to 1, the order by cosine.

    Returns:
        Positions in *vectors* in the order of choice, min(k, n) of them.

    Raises:
        InvalidInput: a lambda_mult beyond [0, 1], a negative k, shapes that do not fit, or values that are not finite.
    """
    if not 0.0 <= lambda_mult <= 1.0:
        raise InvalidInput(f"lambda_mult {lambda_mult!r}: from 0 (variety) to 1 (relevance)")
    if k < 0:
        raise InvalidInput(f"k {k!r}: the number of candidates to choose cannot be negative")
    matrix, target = np.asarray(vectors, dtype=np.float64), np.asarray(query, dtype=np.float64)
    if not matrix.size or not k:
        return []
    if target.ndim != 1 or matrix.shape[1:] != target.shape:
        raise InvalidInput(f"query of shape {target.shape}, vectors of shape {matrix.shape}: pass (d,) and (n, d)")
    if not (np.isfinite(matrix).all() and np.isfinite(target).all()):
        raise InvalidInput("NaN or Inf among the vectors; no cosine can be had of them")
    norms = np.linalg.norm(matrix, axis=1)
    relevance = _cosines(matrix @ target, norms * np.linalg.norm(target))
    return _chosen(matrix, norms, relevance, min(k, len(matrix)), lambda_mult)


def _chosen(matrix: _Exact, norms: _Exact, relevance: _Exact, k: int, lambda_mult: float) -> list[int]:
    chosen = [int(np.argmax(relevance))]
    redundancy = np.full(len(matrix), -np.inf)
    while len(chosen) < k:
        last = chosen[-1]
        # One product per choice: a matrix of all pairs would cost more as soon as k is less than half of n.
        np.maximum(redundancy, _cosines(matrix @ matrix[last], norms * norms[last]), out=redundancy)
        worth = lambda_mult * relevance - (1.0 - lambda_mult) * redundancy
        worth[chosen] = -np.inf
        chosen.append(int(np.argmax(worth)))
    return chosen


def _cosines(products: _Exact, lengths: _Exact) -> _Exact:
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def distinct(texts: Sequence[str]) -> list[int]:
    """Return the positions of texts that say something for the first time, in order.

    Texts are the same when they differ in white space, case or the composition of accents only. They are compared
    themselves, by their hash in a set: no digest stands in for them, so no two different texts are ever taken for
    equal. A text of nothing but white space is always kept: such a chunk consists of its vector or metadata, about
    which the text tells nothing.
    """
    first: dict[str, int] = {}
    kept = []
    for position, text in enumerate(texts):
        plain = plain_text(text)
        if not plain or first.setdefault(plain, position) == position:
            kept.append(position)
    return kept


def plain_text(text: str) -> str:
    """Return what `distinct` compares: *text* without its case, its white space and the composition of its accents.

    A text with more than 30 accents on one letter keeps their composition: sorting them takes Unicode's algorithm time
    that grows with the square of their number, and nobody writes so (Unicode Standard Annex 15, section 13).
    """
    plain = text.isascii()
    if not plain and _MARKS.search(text):  # accents, or other signs
        runs = groupby(text, key=lambda sign: unicodedata.combining(sign) > 0)
        plain = any(marks and len(list(run)) > _MOST_MARKS for marks, run in runs)
    if plain:
        return " ".join(text.casefold().split())
    # Decomposed before and after, as the Unicode standard defines it (section 3.13, D145).
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())
    return " ".join(folded.split())
