"""Scan 4-bit codes of the rows where a graph does not lead to the rows asked for.

A walk passes through rows that a mask hides: under a mask of a tenth it takes ten times as long, and where the mask
follows the vectors it may never arrive. Codes of the allowed rows alone, packed together, are scanned 32 at once: what
that costs falls with the mask, and what it finds does not depend on where they lie (0009).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reperio.index.engines import packing
from reperio.index.library.calling import Caller
from reperio.types import FloatMatrix, Rows

_REMEMBERED = 1024  # masks whose use is counted, or whose codes, however few, are kept
_PACKING = 2e-3  # µs per byte of code to pick out and pack: 5 ms for half of 100,000 rows of 48 bytes


class GraphCodes:
    """The codes of all rows, and packed copies of those that masks allow. For any number of threads.

    The copies take at most as much memory as the codes themselves: enough for all parts of a collection, however many
    tenants divide it; those used longest ago go first. A packed copy of all rows is kept besides, if one is asked for.

    Args:
        index: FAISS's `IndexPQ` with 4 bits, behind transforms or not; row r is its r-th code.
        packed: a fast-scan index of all of them, where there is one.
    """

    def __init__(self, index: Any, packed: Any | None = None) -> None:
        self._index = index
        self.rows, self._size = packing.codes_in(index).shape
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, _Use] = OrderedDict()
        self._all = None if packed is None else Packed(Caller(packed), None, self.rows, self.rows * self._size)
        self._bytes = 0

    @property
    def all(self) -> Packed:
        """The codes of all rows, packed at the first use."""
        if self._all is None:
            self._all = self._packed(None)
        return self._all

    def packed(self, key: bytes, count: int, rows: Callable[[], Rows], saving: float) -> Packed | None:
        """Return the packed codes of a mask, once its searches could have saved as much as packing costs.

        Args:
            key: of the mask; the same for the same rows.
            count: rows that it allows.
            rows: returns them, in order.
            saving: µs that the packed codes would save now.
        """
        # So a mask that is searched once is not packed for it, unless that pays at once, and no sequence of searches
        # takes more than twice what it would with foresight.
        with self._lock:
            use = self._known.setdefault(key, _Use())
            self._known.move_to_end(key)
            if use.packed is not None:
                return use.packed
            use.missed += saving
            if use.missed < _PACKING * self._size * count:
                if len(self._known) > _REMEMBERED:
                    self._forget(next(iter(self._known)))
                return None
        made = self._packed(rows())
        with self._lock:
            use = self._known.setdefault(key, _Use())
            if use.packed is None:
                use.packed = made
                self._bytes += made.bytes
            most = self.rows * self._size + packing.BLOCK * self._size
            while (self._bytes > most or len(self._known) > _REMEMBERED) and len(self._known) > 1:
                self._forget(next(each for each in self._known if each != key))
            return use.packed

    def _forget(self, key: bytes) -> None:
        packed = self._known.pop(key).packed
        self._bytes -= packed.bytes if packed is not None else 0

    def _packed(self, rows: Rows | None) -> Packed:
        count = self.rows if rows is None else len(rows)
        return Packed(Caller(packing.packed(self._index, rows)), rows, count, count * self._size)


@dataclass(slots=True)
class _Use:
    """The state of a mask: its codes if packed, and the µs that they would have saved so far."""

    packed: Packed | None = None
    missed: float = 0.0


@dataclass(frozen=True, slots=True)
class Packed:
    """Codes that are scanned as a whole."""

    caller: Caller  # of FAISS's fast-scan index of them
    rows: Rows | None  # whose codes they are, in order; None for all
    count: int  # how many
    bytes: int  # of the codes

    def search(self, queries: FloatMatrix, count: int) -> list[Rows]:
        """Return at most *count* candidate rows per query, on all cores; queries are (n, d)."""
        if not self.count:
            return [np.empty(0, dtype=np.int64)] * len(queries)
        return [self._to_rows(found) for found in self.caller.search(queries, min(count, self.count), None)]

    def search_one(self, query: FloatMatrix, count: int) -> Rows:
        """Return at most *count* candidate rows for one query of shape (d,), on one thread."""
        if not self.count:
            return np.empty(0, dtype=np.int64)
        return self._to_rows(self.caller.search_one(query, min(count, self.count), None))

    def _to_rows(self, found: Rows) -> Rows:
        found = found[found >= 0]
        return found if self.rows is None else self.rows[found]
