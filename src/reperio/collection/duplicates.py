"""Find chunks that say the same, by vector or by text, and say which of them to keep."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from reperio.collection.handle.handle import Handle
from reperio.collection.handle.inside import require_inside
from reperio.errors import CollectionDamaged, InvalidInput
from reperio.filters import Filter
from reperio.index import Compared, lead, pairs
from reperio.ranking import plain_text
from reperio.store import Session
from reperio.types import Metric, Progress, Rows
from reperio.vectors import StoredMatrix

Keep: TypeAlias = Literal["oldest", "newest", "longest"]
"""The rules by which one chunk is kept of those that say the same."""

_COSINE = 0.95  # threshold by default
_DIGEST = 16  # bytes
_TEXTS = 1000  # read at once


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A chunk that need not be kept.

    Attributes:
        id: of the chunk.
        score: with the chunk that is kept, higher is better, as of `Hit`; None where texts were compared.
    """

    id: str
    score: float | None


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """A chunk to keep, and those that it stands for.

    Attributes:
        kept: id of the chunk that the rule keeps.
        duplicates: the others, in the order of the rule; each reaches the threshold with the one that is kept.
    """

    kept: str
    duplicates: tuple[Duplicate, ...]


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two chunks that are near each other.

    Attributes:
        first, second: their ids, the one that was written earlier first.
        score: higher is better, as of `Hit`.
    """

    first: str
    second: str
    score: float


def groups(
    handle: Handle,
    tree: Filter | None,
    *,
    threshold: float | None,
    keep: Keep,
    progress: Progress | None,
) -> list[DuplicateGroup]:
    """Return the groups of one committed state: by vector, or by text where *threshold* is None."""
    generation, session, matrix = handle.reading()
    with session:
        rows = generation.matching(tree, session)
        ordered = _ordered(session, rows, keep)
        with handle.admitted(len(rows)):
            if threshold is None:
                of = _same_texts(session, ordered, progress)
                scores = None
            else:
                compared = Compared(matrix, ordered, generation.settings.metric, threshold)
                of, scores = lead(compared, _reporting(progress, len(rows)))
        members: dict[int, list[int]] = {}
        for position in np.flatnonzero(of >= 0).tolist():
            members.setdefault(int(of[position]), []).append(position)
        told = np.array([one for leader, others in members.items() for one in (leader, *others)], dtype=np.int64)
        ids = _ids(handle, session, matrix, ordered[told])
    row = ordered.tolist()
    return [
        DuplicateGroup(
            ids[row[leader]],
            tuple(Duplicate(ids[row[one]], None if scores is None else float(scores[one])) for one in members[leader]),
        )
        for leader in sorted(members)
    ]


def near_pairs(
    handle: Handle, tree: Filter | None, *, threshold: float, progress: Progress | None
) -> Iterator[DuplicatePair]:
    """Yield the pairs of one committed state; the iteration holds a read transaction."""
    generation, session, matrix = handle.reading()
    with session:
        rows = generation.matching(tree, session)
        compared = Compared(matrix, rows, generation.settings.metric, threshold)
        for found in pairs(compared, _reporting(progress, len(rows))):
            ids = _ids(handle, session, matrix, np.concatenate([found.first, found.second]))
            for first, second, score in zip(found.first.tolist(), found.second.tolist(), found.scores, strict=True):
                yield DuplicatePair(ids[first], ids[second], float(score))


def to_threshold(threshold: Any, metric: Metric) -> float:
    """Return the least score of a duplicate, or refuse what no score can reach; None under cosine is 0.95."""
    if threshold is None:
        if metric is Metric.COSINE:
            return _COSINE
        what = "minus the squared distance, e.g. -0.1" if metric is Metric.L2 else "the inner product"
        raise InvalidInput(f"this collection compares by {metric.value}: pass the least score, threshold=…: {what}")
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not math.isfinite(threshold):
        raise InvalidInput(f"threshold is {threshold!r:.80}; pass a number")
    if metric is Metric.COSINE and not -1 <= threshold <= 1:
        raise InvalidInput(f"threshold is {threshold}; a cosine is at most 1 and at least -1: pass e.g. 0.95")
    if metric is Metric.L2 and threshold > 0:
        raise InvalidInput(
            f"threshold is {threshold}; under l2 a score is minus the squared distance: pass e.g. -{threshold:g}"
        )
    return float(threshold)


def to_keep(keep: Any) -> Keep:
    """Return the rule that says what is kept, or refuse what is none."""
    if keep not in ("oldest", "newest", "longest"):
        raise InvalidInput(f"keep is {keep!r:.80}; pass 'oldest', 'newest' or 'longest'")
    return keep  # type: ignore[no-any-return]  # it is one of the three


def _ordered(session: Session, rows: Rows, keep: Keep) -> Rows:
    """Return the rows, those to be kept first."""
    if keep == "oldest":
        return rows
    if keep == "newest":
        return np.ascontiguousarray(rows[::-1])
    lengths = np.zeros(len(rows), dtype=np.int64)
    for row, length in session.lengths(rows.tolist()):
        lengths[np.searchsorted(rows, row)] = length
    return rows[np.argsort(-lengths, kind="stable")]


def _same_texts(session: Session, rows: Rows, progress: Progress | None) -> Rows:
    """Return, per row, the position of the first with the same text, -1 for those that are the first or have none."""
    # A digest of 128 bits, not the text: texts of gigabytes need not fit into memory. No two texts are known to share
    # one, and to find two takes 2⁶⁴ trials.
    of: Rows = np.full(len(rows), -1, dtype=np.int64)
    first: dict[bytes, int] = {}
    report = _reporting(progress, len(rows))
    for low in range(0, len(rows), _TEXTS):
        part = rows[low : low + _TEXTS].tolist()
        texts = dict(session.texts(part))
        for position, row in enumerate(part, start=low):
            plain = plain_text(texts.get(row, ""))
            if plain:
                digest = hashlib.blake2b(plain.encode(), digest_size=_DIGEST).digest()
                leader = first.setdefault(digest, position)
                of[position] = leader if leader != position else -1
        report(low + len(part))
    return of


def _ids(handle: Handle, session: Session, matrix: StoredMatrix, rows: Rows) -> dict[int, str]:
    """Return the ids of rows that are told of, whose chunks were compared with their checksums."""
    distinct = np.unique(rows).tolist()
    session.require_rows(distinct, matrix)
    require_inside(handle, session, matrix, distinct)
    ids = session.ids_of(distinct)
    if len(ids) < len(distinct):
        raise CollectionDamaged(f"{handle.root.root}: live rows hold no chunk; run check(), restore from a backup")
    return dict(zip(distinct, ids, strict=True))


def _reporting(progress: Progress | None, total: int) -> Callable[[int], None]:
    return lambda done: None if progress is None else progress("compare", done, total)
