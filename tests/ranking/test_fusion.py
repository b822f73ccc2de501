"""Two lists made one: against the definitions, computed row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reperio.ranking import Fused, Ranked, convex, reciprocal_rank

Pairs = list[tuple[int, float]]

FINITE = st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0, 0.5])


@st.composite
def lists(draw: st.DrawFn) -> Pairs:
    """Rows once each, best first; scores repeat now and then."""
    rows = draw(st.lists(st.integers(0, 12), unique=True, max_size=8))
    scores = sorted((draw(FINITE) for _ in rows), reverse=True)
    return list(zip(rows, scores, strict=True))


def ranked(pairs: Pairs) -> Ranked:
    return Ranked([row for row, _ in pairs], [score for _, score in pairs])


def stretched(pairs: Pairs) -> dict[int, float]:
    """Min-max by the book."""
    if not pairs:
        return {}
    best, worst = pairs[0][1], pairs[-1][1]
    return {row: (score - worst) / (best - worst) if best > worst else 1.0 for row, score in pairs}


def check(fused: Fused, expected: dict[int, float], dense: Pairs, lexical: Pairs) -> None:
    """Every row once, with the expected score and the scores it came with, by score, then by row."""
    rows = fused.rows.tolist()
    assert sorted(rows) == sorted(expected)
    assert fused.scores.tolist() == pytest.approx([expected[row] for row in rows], rel=1e-9, abs=1e-12)
    assert rows == [row for _, row in sorted(zip((-fused.scores).tolist(), rows, strict=True))]
    for column, pairs in ((fused.dense, dense), (fused.lexical, lexical)):
        own = dict(pairs)
        assert [None if math.isnan(score) else score for score in column.tolist()] == [own.get(row) for row in rows]


@given(lists(), lists(), st.floats(0, 1))
@example([(1, 5.0)], [], 0.5)
@example([], [], 0.5)
@example([(1, 2.0), (2, 2.0)], [(2, 1.0), (1, 1.0)], 0.5)
@example([(1, 1e308), (2, -1e308)], [], 0.5)
def test_convex_equals_its_definition(dense: Pairs, lexical: Pairs, weight: float) -> None:
    """Each row gets weight · stretched dense + (1 − weight) · stretched lexical, 0 where a list lacks it."""
    left = stretched([(r, s / 4) for r, s in dense])
    right = stretched([(r, s / 4) for r, s in lexical])
    expected = {row: weight * left.get(row, 0.0) + (1 - weight) * right.get(row, 0.0) for row in left | right}
    check(convex(ranked(dense), ranked(lexical), weight=weight), expected, dense, lexical)


@given(lists(), lists(), st.sampled_from([60, 0, 1, 7.5]))
def test_reciprocal_rank_equals_its_definition(dense: Pairs, lexical: Pairs, constant: float) -> None:
    """Each row gets the sum of 1 / (constant + rank) over the lists that hold it."""
    expected: dict[int, float] = {}
    for pairs in (dense, lexical):
        for rank, (row, _) in enumerate(pairs, start=1):
            expected[row] = expected.get(row, 0.0) + 1 / (constant + rank)
    check(reciprocal_rank(ranked(dense), ranked(lexical), constant=constant), expected, dense, lexical)


def test_a_row_in_both_lists_beats_one_at_the_top_of_one() -> None:
    """Row 2, second in both, comes before either list's first; the constant is 60 unless said otherwise."""
    fused = reciprocal_rank(Ranked([1, 2], [0.9, 0.8]), Ranked([3, 2], [7.0, 6.0]))
    assert fused.rows.tolist() == [2, 1, 3]
    assert fused.scores.tolist() == pytest.approx([2 / 62, 1 / 61, 1 / 61])


def test_weights_of_all_and_nothing_keep_one_lists_order() -> None:
    """With weight 1 the dense order stands and what only words found follows, and the other way round."""
    dense, lexical = Ranked([4, 1, 3], [0.9, 0.5, 0.4]), Ranked([9, 3, 8], [3.0, 2.0, 1.0])
    assert convex(dense, lexical, weight=1).rows.tolist() == [4, 1, 3, 8, 9]
    assert convex(dense, lexical, weight=0).rows.tolist() == [9, 3, 1, 4, 8]


@pytest.mark.parametrize("fuse", [convex, reciprocal_rank])
def test_arrays_and_lists_will_do(fuse: type[Fused]) -> None:
    """float32 and int32 arrays, as an index returns them, give int64 rows and float64 scores."""
    fused = fuse(Ranked(np.array([2, 1], np.int32), np.array([0.5, 0.25], np.float32)), Ranked([], []))
    assert (fused.rows.dtype, fused.scores.dtype) == (np.int64, np.float64)
    assert fused.rows.tolist() == [2, 1]
