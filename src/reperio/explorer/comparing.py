"""Put two answers next to each other, and say what moved; keep answers to compare later ones with."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reperio.errors import InvalidInput
from reperio.explorer.asking import Answer, Row

_MOST_KEPT = 20
_PERSISTENCE = 0.9  # of rank-biased overlap: the first ten ranks have most of the weight


@dataclass(frozen=True, slots=True)
class Moved:
    """A hit of one side, and where it is on the other.

    Attributes:
        row: the hit.
        other: its rank there; None where it is not among the hits.
        step: ranks that it stands higher here than there; None where it is not there.
        changed: whether both have a chunk by this id with different texts.
    """

    row: Row
    other: int | None
    step: int | None
    changed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers.

    Attributes:
        left, right: their hits, best first.
        both: hits that both have.
        overlap: rank-biased overlap of the two lists, 1 for equal ones; what is far up counts most.
    """

    left: Sequence[Moved]
    right: Sequence[Moved]
    both: int
    overlap: float


def compare(left: Answer, right: Answer) -> Comparison:
    """Say what moved between two answers."""
    rows = {"left": left.rows, "right": right.rows}
    known = {side: {row.hit.chunk.id: row for row in some} for side, some in rows.items()}
    return Comparison(
        [_moved(row, known["right"].get(row.hit.chunk.id)) for row in left.rows],
        [_moved(row, known["left"].get(row.hit.chunk.id)) for row in right.rows],
        len(known["left"].keys() & known["right"].keys()),
        overlap(list(known["left"]), list(known["right"])),
    )


def overlap(left: Sequence[str], right: Sequence[str]) -> float:
    """Return the rank-biased overlap of two rankings up to their depth (Webber et al., 2010); 1 for equal ones."""
    depth = max(len(left), len(right))
    if not depth:
        return 1.0
    weights = [_PERSISTENCE**place for place in range(depth)]
    shared = [len(set(left[: place + 1]) & set(right[: place + 1])) / (place + 1) for place in range(depth)]
    return sum(weight * part for weight, part in zip(weights, shared, strict=True)) / sum(weights)


def _moved(row: Row, other: Row | None) -> Moved:
    if other is None:
        return Moved(row, None, None, False)
    return Moved(row, other.hit.rank, other.hit.rank - row.hit.rank, row.hit.chunk.text != other.hit.chunk.text)


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was kept, as from before `optimize`."""

    name: str
    answer: Answer


class Shelf:
    """The last answers that were kept, in memory alone."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._number = 0

    def keep(self, answer: Answer) -> Kept:
        """Keep an answer; the oldest goes where there are many."""
        with self._lock:
            self._number += 1
            name = f"kept {self._number}, {answer.setting.mode}, {datetime.now():%H:%M:%S}"
            self._kept[name] = Kept(name, answer)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return self._kept[name]

    def names(self) -> list[str]:
        """Return the names of what is kept, newest first."""
        with self._lock:
            return list(reversed(self._kept))

    def get(self, name: str) -> Answer:
        """Return what is kept by a name."""
        with self._lock:
            if name not in self._kept:
                raise InvalidInput(f"there is no kept answer {name[:80]!r} any more; keep one again on the page Ask")
            return self._kept[name].answer
