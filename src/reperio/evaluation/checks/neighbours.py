"""Does the index, as deployed, find the true nearest neighbours? No labels are needed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reperio.collection import Collection
from reperio.embedding.contract import embed
from reperio.evaluation.asking import drawn
from reperio.evaluation.checks.coverage import uncovered
from reperio.evaluation.statistics.comparing import mean_bounds
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict
from reperio.types import FloatMatrix, Hit, Metric

_EXACT = 1.0  # the recall for which a search compares all vectors
_BLOCK = 100  # queries between two looks at the bounds
_TIE = 1e-6  # relative; scores that near are those of equal neighbours
_DRAWN_K = 10  # the operating points of a report are for these neighbours


class _Queries(NamedTuple):
    """Queries: vectors (n, d), the filter of each, and in words where they come from."""

    vectors: FloatMatrix
    filters: list[Mapping[str, Any] | None]
    origin: str


def neighbours(subject: Subject) -> CheckResult:
    """Measure knn recall@k of `Collection.search` against exact search, with more queries while it is open."""
    collection, limits = subject.require_collection(), subject.limits
    index = collection.info().index
    if index is None:
        told = uncovered(subject)
        line = "every search is exact: there is no index"
        return CheckResult("neighbours", Verdict.WARN if told else Verdict.PASS, (line,), told)
    asked = _queries(subject)
    k = min(limits.k, collection.count())
    shares: npt.NDArray[np.float64] = np.empty(0)
    for start in range(0, len(asked.vectors), _BLOCK):
        shares = np.append(shares, _shares(collection, asked, slice(start, start + _BLOCK), k, limits.recall))
        if subject.progress is not None:
            subject.progress("neighbours", min(start + _BLOCK, len(asked.vectors)), len(asked.vectors))
        if len(shares) >= limits.queries:
            low, high = mean_bounds(shares)
            if not low < limits.recall <= high:
                break
    if subject.progress is not None:
        subject.progress("neighbours", len(shares), len(shares))  # fewer than there were may have told enough
    if not len(shares):
        return CheckResult("neighbours", Verdict.ERROR, ("no filter of the questions matches a chunk",))
    points = [[point.recall, point.p50] for point in index.points if point.k == _DRAWN_K]
    found = _judged(shares, limits.recall, k, asked.origin)
    told = uncovered(subject)
    if told and found.verdict is not Verdict.FAIL:
        found = replace(found, verdict=Verdict.WARN, cause=told)
    return replace(found, figures={**found.figures, "points": points})


def _judged(shares: npt.NDArray[np.float64], target: float, k: int, origin: str) -> CheckResult:
    low, high = mean_bounds(shares)
    mean = float(shares.mean())
    figures = {"k": k, "queries": len(shares), "recall": mean, "low": low, "high": high, "target": target}
    line = f"knn recall@{k} {mean:.4f} (99% bounds {low:.4f} and {high:.4f}) over {len(shares)} queries: {origin}"
    if high < target:
        cause = (
            "the index searches too little for what is stored now, was trained on other vectors, or leaves rows out; "
            "reperio optimize builds and measures it again, best with --queries"
        )
        return CheckResult("neighbours", Verdict.FAIL, (line, f"{target} is required"), cause, (), figures)
    verdict = Verdict.PASS if mean >= target else Verdict.WARN
    note = () if verdict is Verdict.PASS else (f"below {target}, which may be chance",)
    return CheckResult("neighbours", verdict, (line, *note), figures=figures)


def _queries(subject: Subject) -> _Queries:
    """Return the golden set's and the log's questions with their filters, then held-out queries without."""
    collection, most = subject.require_collection(), subject.limits.most_queries
    golden = subject.golden.queries if subject.golden else ()
    questions = [(each.text, each.where) for each in golden]
    questions += [(each.text, each.where) for each in drawn(subject.log, most)]
    questions = list({repr(each): each for each in questions}.values())[:most]
    embedder = collection.embedder if questions else None
    if embedder is None:
        held_out = collection.sample_queries(most)
        return _Queries(held_out, [None] * len(held_out), "held-out queries of the collection")
    asked = embed(embedder, [text for text, _ in questions], Metric.INNER_PRODUCT, queries=True)
    held_out = collection.sample_queries(most - len(asked)) if len(asked) < most else asked[:0]
    origin = f"{len(asked)} questions first, then held-out queries of the collection"
    filters = [where for _, where in questions] + [None] * len(held_out)
    return _Queries(np.concatenate([asked, held_out]), filters, origin)


def _shares(collection: Collection, asked: _Queries, part: slice, k: int, recall: float) -> npt.NDArray[np.float64]:
    """Return the share found of each query's k nearest; queries whose filter matches nothing are left out."""
    by_filter: dict[str, list[int]] = {}
    for at in range(len(asked.vectors))[part]:
        by_filter.setdefault(repr(asked.filters[at]), []).append(at)
    found = []
    for rows in by_filter.values():
        where, vectors = asked.filters[rows[0]], asked.vectors[rows]
        deployed = collection.search_many(vectors=vectors, k=k, recall=recall, where=where)
        exact = collection.search_many(vectors=vectors, k=k, recall=_EXACT, where=where)
        found += [_share(hits, truth) for hits, truth in zip(deployed, exact, strict=True) if truth]
    return np.array(found)


def _share(hits: list[Hit], truth: list[Hit]) -> float:
    # By score and not by id: equal neighbours are interchangeable.
    least = truth[-1].score - _TIE * max(1.0, abs(truth[-1].score))
    return sum(hit.score >= least for hit in hits) / len(truth)
