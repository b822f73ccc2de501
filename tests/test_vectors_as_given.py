"""Vectors as users have them: lists, columns of data frames, Arrow; and how the scores come back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import reperio
from reperio import Chunk, InvalidVectors, Metric
from reperio.vectors import to_matrix

GOOD = np.array([[3.0, 4.0], [0.0, 5.0]], dtype=np.float32)


def matrix(values: Any) -> Any:
    return to_matrix(values, dimension=2, metric=Metric.L2, what="vectors", first=10)


class Column:
    """What a column of a data frame is to numpy: an array of objects, one per row."""

    def __init__(self, *rows: Any) -> None:
        self._rows = np.empty(len(rows), dtype=object)
        self._rows[:] = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        return Column(*self._rows[key]) if isinstance(key, slice) else self._rows[key]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._rows if dtype is None else self._rows.astype(dtype)


COLUMNS: dict[str, Any] = {
    "lists of integers": [[3, 4], [0, 5]],
    "tuples": ((3, 4), (0, 5)),
    "integers among floats": [[3, 4.0], [0, 5]],
    "wide integers": np.array([[3, 4], [0, 5]]),
    "arrays in a list": [np.array([3.0, 4.0]), np.array([0, 5], dtype=np.float16)],
    "a column of arrays": Column(np.array([3.0, 4.0]), np.array([0.0, 5.0])),
    "a column of lists": Column([3.0, 4.0], [0.0, 5.0]),
    "a column of integers": Column([3, 4], [0, 5]),
    "an array of objects": np.array([[3.0, 4], [0, 5.0]], dtype=object),
    "Arrow lists": pa.array([[3.0, 4.0], [0.0, 5.0]]),
    "Arrow lists of float32": pa.array([[3, 4], [0, 5]], pa.list_(pa.float32())),
    "Arrow lists of integers": pa.array([[3, 4], [0, 5]]),
    "Arrow lists of one size": pa.array([[3.0, 4.0], [0.0, 5.0]], pa.list_(pa.float32(), 2)),
    "a part of them": pa.array([[9.0, 9.0], [3.0, 4.0], [0.0, 5.0], [9.0, 9.0]], pa.list_(pa.float32(), 2))[1:3],
    "Arrow in several pieces": pa.chunked_array([pa.array([[3.0, 4.0]]), pa.array([[0.0, 5.0]])]),
    "Arrow scalars": list(pa.array([[3.0, 4.0], [0.0, 5.0]])),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_whatever_holds_numbers_is_taken(kind: str, tmp_path: Path) -> None:
    """By add in batches, by search_many, and row by row by search; the cure of none is an error of its own."""
    given_vectors = COLUMNS[kind]
    np.testing.assert_array_equal(matrix(given_vectors), GOOD)
    with reperio.open(tmp_path / "kb", dimension=2, metric="l2", auto_optimize=False) as kb:
        kb.add([Chunk("a", "text"), Chunk("b", "text")], vectors=given_vectors, batch_size=1)
        np.testing.assert_array_equal(kb.vectors(["a", "b"]), GOOD)
        assert [[hit.chunk.id for hit in hits] for hits in kb.search_many(vectors=given_vectors, k=1)] == [["a"], ["b"]]
        for row, chunk_id in zip(given_vectors, ("a", "b"), strict=True):
            assert kb.search(vector=row, k=1)[0].chunk.id == chunk_id


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (Column(np.array([3.0, 4.0]), None), "cannot be read as one array .* every vector there, of one length"),
        (Column(np.array([3.0, 4.0]), np.array([1.0])), "cannot be read as one array"),
        (pa.array([[3.0, 4.0], None]), "cannot be read as one array"),
        (pa.array([[3.0, None], [1.0, 2.0]]), "row 10 contains NaN"),
        (Column(b"ab", b"cd"), "but vectors are numbers"),
        ([np.array([1, 2], np.int8)], "dtype int8: quantized"),
        ([[1, 2], [True, False]], "true or false among numbers"),
        ([["1", "2"]], "dtype <U1, but vectors are numbers: pass a list of lists of floats"),
        ({"a": [1.0, 2.0]}, "one dict, but vectors are numbers"),
    ],
)
def test_a_column_of_something_else_is_refused(values: Any, message: str) -> None:
    """Missing vectors, other lengths, bytes, codes and flags."""
    with pytest.raises(InvalidVectors, match=message):
        matrix(values)


@pytest.mark.parametrize("vectors", [{}, {"a": [1.0, 2.0]}, {1.0, 2.0}, "ab", b"ab", 3, object()])
def test_what_has_no_order_is_no_list_of_vectors(vectors: Any, tmp_path: Path) -> None:
    """Nobody could say whose vector each is."""
    with reperio.open(tmp_path / "kb", dimension=2, auto_optimize=False) as kb:
        with pytest.raises(InvalidVectors, match=r"vectors is a .*; pass a list of vectors, or an array"):
            kb.add([Chunk("a", "text")], vectors=vectors)
        assert len(kb) == 0


@pytest.mark.parametrize("metric", list(Metric))
def test_no_score_is_minus_zero(metric: Metric, tmp_path: Path) -> None:
    """A distance of nothing prints 0.0, by whatever path it was found."""
    with reperio.open(tmp_path / "kb", dimension=2, metric=metric, auto_optimize=False) as kb:
        kb.add([Chunk(str(n), "text") for n in range(3)], vectors=[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        zero = reperio.CallableReranker(lambda _query, texts: [-0.0] * len(texts))
        found = [
            kb.search(vector=[0.0, 1.0]),
            kb.search_many(vectors=[[1.0, 0.0]])[0],
            kb.search("text", vector=[0.0, -1.0], mode="hybrid"),
            kb.search("text", vector=[0.0, 1.0], reranker=zero),
            kb.search("text", vector=[0.0, 1.0], mode="hybrid", weight=0.0),
        ]
    scores = [score for hits in found for hit in hits for score in (hit.score, *(hit.scores or {}).values())]
    assert 0.0 in scores
    assert not any(score == 0.0 and math.copysign(1.0, score) < 0 for score in scores)
