"""Checking a collection that others change meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection
from reperio.collection.upkeep import checking

D = 16

CHANGES: dict[str, Callable[[Collection], object]] = {
    "another index": lambda kb: kb.optimize(index="Flat"),
    "another generation": lambda kb: kb.compact(),
    "no index": lambda kb: kb.optimize(index="exact"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("before", ["verify", "read"])
def test_a_check_is_not_confused_by_what_others_replace(
    before: str, change: Callable[[Collection], object], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that another handle has replaced and removed during the check is no problem."""
    vectors = np.random.default_rng(0).standard_normal((2000, D), dtype=np.float32)
    where = checking.store if before == "verify" else checking.index
    real, changed = getattr(where, before), []
    with (
        reperio.open(path, dimension=D, auto_optimize=False) as kb,
        reperio.open(path, auto_optimize=False) as other,
    ):
        kb.add([Chunk(f"c{n}", f"text {n}") for n in range(2000)], vectors=vectors)
        kb.delete(ids=["c7"])
        kb.optimize(index="SQ8")

        def first(*arguments: Any, **options: Any) -> Any:
            if not changed:
                changed.append(change(other))
            return real(*arguments, **options)

        monkeypatch.setattr(where, before, first)
        report = kb.check()
        assert changed
        assert report.ok, report.problems
        assert report.rows == 1999
