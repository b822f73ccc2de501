"""What a router asks of a shard, and what the shard says: plain records, which Ray carries between processes.

A row is the number that the shard itself has for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio import errors
from reperio.errors import ReperioError
from reperio.store.words.merging import Counting, Listing, Totals
from reperio.types import Chunk, FloatMatrix

Spaces = frozenset[str]
"""Keys of vector spaces that are the same: one model's, as several shards have recorded it."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The chunks that a question may find.

    Attributes:
        where: a filter as `filters.to_dict` writes it, the scope included; None for all.
        scope: the scope alone, within which words are counted; None for the whole.
        ids: only chunks with one of these ids; None for all.
    """

    where: Mapping[str, Any] | None = None
    scope: Mapping[str, Any] | None = None
    ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CountWords:
    """Count the words of questions, for BM25 of the whole."""

    spaces: Spaces
    narrowing: Narrowing
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class AskLists:
    """Retrieve for questions, from one commit.

    Attributes:
        spaces: the vectors of the questions are of these; another space is not searched.
        narrowing: what may be found.
        texts, queries: of each question; None where no list needs them.
        dense, lexical: rows wanted of each list; None for no such list.
        totals: of each question, the words counted in all shards; None without a lexical list.
        recall: knn recall@k of the dense list.
        eager: return the chunks of all rows as well.
        rank: rank what the words find at once; else `RankRows` follows for a part of it.
    """

    spaces: Spaces
    narrowing: Narrowing
    texts: Sequence[str] | None
    queries: FloatMatrix | None
    dense: int | None
    lexical: int | None
    totals: Sequence[Totals] | None
    recall: float
    eager: bool
    rank: bool = True


@dataclass(frozen=True, slots=True)
class RankRows:
    """Rank rows by all words of questions, that the same generation of the shard has listed.

    Attributes:
        token: of that generation.
        texts, rows, totals: of each question.
        chunks: return the chunks of so many, the best of each question.
    """

    token: str
    texts: Sequence[str]
    rows: Sequence[Sequence[int]]
    totals: Sequence[Totals]
    chunks: int


@dataclass(frozen=True, slots=True)
class FetchRows:
    """Read what rows hold, that the same generation of the shard has found.

    Attributes:
        token: of that generation.
        rows: distinct.
        what: "chunks", "texts" or "vectors".
    """

    token: str
    rows: Sequence[int]
    what: str


@dataclass(frozen=True, slots=True)
class Select:
    """Name the chunks that match, in the order of rows: the first *most*, or all for None."""

    narrowing: Narrowing
    most: int | None = None


@dataclass(frozen=True, slots=True)
class ReadIds:
    """Read chunks by id: those that match and exist.

    Attributes:
        narrowing: with ids.
        what: "chunks", "vectors" (of chunks), or "there" for the ids alone.
    """

    narrowing: Narrowing
    what: str = "chunks"


@dataclass(frozen=True, slots=True)
class Counted:
    """The words of questions, as the shard counts them."""

    counts: list[Counting]


@dataclass(frozen=True, slots=True)
class Listed:
    """What a shard retrieves for questions.

    Attributes:
        token: of the generation whose rows these are.
        newest: key of the space that the shard has by now.
        dense: per question rows and scores, not limited to [−1, 1]; None for no such list.
        lexical: per question; None for no such list.
        chunks: by row; empty unless asked for.
    """

    token: str
    newest: str
    dense: list[tuple[list[int], list[float]]] | None
    lexical: list[Listing] | None
    chunks: dict[int, Chunk] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows of each question with their BM25, best first, and some of their chunks."""

    found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]
    chunks: dict[int, Chunk] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What rows hold: chunks or texts by row, or a matrix in the order asked for."""

    chunks: dict[int, Chunk] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    vectors: FloatMatrix | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """The rows that match, in order, and their ids."""

    rows: npt.NDArray[np.int64]
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Read:
    """Chunks by id, with their vectors where asked for."""

    chunks: dict[str, Chunk]
    vectors: dict[str, FloatMatrix] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Described:
    """The spaces that a shard can answer in, the newest first, by key: settings as `Settings.to_json` writes them."""

    spaces: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Moved:
    """The shard has no longer, or not yet, what was asked for: another generation, or another model's vectors."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An error of Reperio, by the name of its class, and its text."""

    kind: str
    text: str


def error_of(failed: Failed) -> ReperioError:
    """Return the error that an answer stands for."""
    kind = getattr(errors, failed.kind, ReperioError)
    known = isinstance(kind, type) and issubclass(kind, ReperioError)
    raised: ReperioError = (kind if known else ReperioError)(failed.text)
    return raised


def weight_of(request: Any) -> Hashable:
    """Return what the time for an answer depends on, the same for questions alike; None where it cannot be told."""
    if isinstance(request, AskLists):
        number = max(0 if asked is None else len(asked) for asked in (request.texts, request.queries))
        lists = _about(request.dense or 0), _about(request.lexical or 0), request.rank, request.eager
        narrowed = request.narrowing.where is not None, request.narrowing.ids is not None
        return (*lists, *narrowed, request.recall >= 1.0, _about(number))
    if isinstance(request, CountWords):
        return request.narrowing.scope is None, _about(len(request.texts))
    if isinstance(request, RankRows):
        return _about(sum(map(len, request.rows)))
    if isinstance(request, FetchRows):
        return request.what, _about(len(request.rows))
    return None


def _about(number: int) -> int:
    return number.bit_length()
