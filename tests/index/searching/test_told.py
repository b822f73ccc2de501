"""Telemetry is told the way that a search really goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reperio import Metric, OperatingPoint, index
from reperio.index import Target, searcher_of
from reperio.index.engines.codes import Packed
from reperio.index.engines.faiss_searcher import FaissSearcher
from reperio.index.library.calling import Caller

N, D = 3000, 16
MATRIX = np.random.default_rng(2).standard_normal((N, D)).astype(np.float32)
EXACT = OperatingPoint(10, 0, 0, 1, 1, 1, 2000, 2000, 500)
INDEXED = OperatingPoint(10, 8, 20, 0.96, 0.95, 0.97, 100, 120, 9000)
SCANNED = OperatingPoint(10, 0, 40, 0.96, 0.95, 0.97, 50, 60, 9000)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which way a search goes."""
    calls: list[str] = []

    def note(owner: Any, name: str, way: str) -> None:
        real = getattr(owner, name)

        def noted(self: Any, *arguments: Any) -> Any:
            calls.append(way)
            return real(self, *arguments)

        monkeypatch.setattr(owner, name, noted)

    note(Caller, "search_one", "index")  # which packed codes call as well, after they are noted themselves
    note(FaissSearcher, "search_lists", "lists")
    note(Packed, "search_one", "codes")
    return calls


@pytest.mark.parametrize(
    ("factory", "recall", "share", "plan"),
    [
        ("IVF16,Flat", 0.9, 1.0, "index"),
        ("IVF16,Flat", 1.0, 1.0, "exact"),
        ("IVF16,Flat", 0.9, 0.3, "lists"),
        ("HNSW8,SQ8,Refine(PQ8x4)", 0.9, 1.0, "codes"),
        ("HNSW8,SQ8,Refine(PQ8x4)", 0.9, 0.5, "codes"),
    ],
)
def test_what_is_told_is_what_is_done(factory: str, recall: float, share: float, plan: str, called: list[str]) -> None:
    """The way and the number of candidates, asked for after the search as before it."""
    points = [EXACT, INDEXED, SCANNED] if "Refine" in factory else [EXACT, INDEXED]
    built = index.build(index.requested(factory), MATRIX, Metric.INNER_PRODUCT, workers=1)
    searcher = searcher_of(built, points, gather=1.0)
    allowed = None if share == 1 else np.packbits(np.arange(N) % 10 < 10 * share, bitorder="little")
    target = Target(MATRIX, Metric.INNER_PRODUCT, int(N * share), allowed, searcher)
    index.search_one(target, MATRIX[5], 10, recall)
    way, candidates = target.told(recall, 10)
    assert (way, called) == (plan, {"exact": [], "codes": ["codes", "index"]}.get(plan, [plan]))
    assert (candidates > 0) == (plan != "exact")
    if plan == "index" and share == 1:
        assert candidates == INDEXED.candidates


def test_nothing_to_be_found_is_told() -> None:
    """A mask that lets nothing through, and a collection without an index: exact, no candidates."""
    assert Target(MATRIX, Metric.COSINE, 0, np.zeros((N + 7) // 8, dtype=np.uint8)).told(0.9, 10) == ("exact", 0)
    assert Target(MATRIX, Metric.COSINE, N).told(0.9, 10) == ("exact", 0)
