"""Say what candidates are retrieved from: one commit of a collection, or, in the rooms above, the shards of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from reperio import index
from reperio.index import Target
from reperio.store import Session
from reperio.types import Chunk, FloatMatrix
from reperio.vectors import StoredMatrix, to_float32

RankedRows: TypeAlias = tuple[list[int], list[float]]
"""The rows that one list holds for one question, and their scores: best first, equal scores by row."""

Lists: TypeAlias = tuple["list[RankedRows] | None", "list[RankedRows] | None"]
"""For each question its dense list, and for each its lexical one; None for a kind that was not asked for."""


class CandidateSource(Protocol):
    """Retrieve candidates. Equal scores are ordered by row, and a row names one chunk that never changes."""

    def lists(
        self,
        texts: Sequence[str] | None,
        queries: FloatMatrix | None,
        *,
        dense: int | None,
        lexical: int | None,
        recall: float,
    ) -> Lists:
        """Return the lists of each question, all of one state.

        Args:
            texts, queries: of each question; None where no list needs them.
            dense, lexical: rows wanted of each kind; None for no such list.
            recall: knn recall@k of the dense list.
        """

    def chunks(self, rows: Sequence[int]) -> Mapping[int, Chunk]:
        """Return the chunks of *rows*, distinct, which the last `lists` has returned; a row without one is left out."""

    def texts(self, rows: Sequence[int]) -> Iterable[tuple[int, str]]:
        """Return (row, text) of such rows, in any order."""

    def vectors(self, rows: Sequence[int]) -> FloatMatrix:
        """Return the vectors of such rows, float32 (number of rows, d), in their order."""


class CommitSource:
    """One commit of one collection.

    Args:
        session: of the commit.
        target: what may be found.
    """

    def __init__(self, session: Session, target: Target) -> None:
        self._session = session
        self._target = target

    def lists(
        self,
        texts: Sequence[str] | None,
        queries: FloatMatrix | None,
        *,
        dense: int | None,
        lexical: int | None,
        recall: float,
    ) -> Lists:
        """Search by vector and by words. With nothing to be found, a text is still refused where it would be else."""
        by_vector = by_words = None
        if dense is not None:
            assert queries is not None  # prepared for every mode that needs them
            by_vector = dense_lists(self._target, queries, dense, recall)
        if lexical is not None:
            assert texts is not None  # the facade has seen to it
            found = [self._session.match(text, count=lexical, allowed=self._target.allowed) for text in texts]
            by_words = [(rows.tolist(), scores.tolist()) for rows, scores in found]
        return by_vector, by_words

    def chunks(self, rows: Sequence[int]) -> Mapping[int, Chunk]:
        """Read chunks, and compare each with its checksum."""
        return self._session.fetch(rows, self._target.matrix)

    def texts(self, rows: Sequence[int]) -> Iterable[tuple[int, str]]:
        """Read texts alone."""
        return self._session.texts(rows)

    def vectors(self, rows: Sequence[int]) -> FloatMatrix:
        """Read vectors; the session may have ended."""
        return vectors_of(self._target.matrix, rows)


def dense_lists(target: Target, queries: FloatMatrix, depth: int, recall: float) -> list[RankedRows]:
    """Return the nearest rows of each query; none where nothing may be found."""
    if not target.count:
        return [([], [])] * len(queries)
    return index.search(target, queries, depth, recall)


def vectors_of(matrix: StoredMatrix, rows: Sequence[int]) -> FloatMatrix:
    """Return the vectors of *rows*, float32 (number of rows, d)."""
    return to_float32(matrix[list(rows)] if rows else matrix[:0])
