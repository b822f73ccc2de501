"""Narrow the target of a view by filters, once per filter and commit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reperio.filters import Filter
from reperio.filters.columns.columns import Columns
from reperio.index import Target
from reperio.store import Session

_MOST = 64  # filters remembered per view; what they select is kept beyond that by the columns
_MOST_BYTES = 16 << 20  # of those filters: one may be of a million characters


class Masks:
    """The targets of one committed state under the filters asked of it. For any number of threads.

    A filter asked again costs a look-up in a dictionary. One that the columns know from an earlier commit costs the
    rows that are new. Only a filter on a field not read yet needs a session.

    Args:
        target: of the view, without a filter.
        seq: the commit.
        columns: of the generation.
    """

    def __init__(self, target: Target, seq: int, columns: Columns) -> None:
        self._target = target
        self._seq = seq
        self._columns = columns
        self._lock = threading.Lock()
        self._known: dict[Filter, Target] = {}
        self._bytes = 0

    def known(self, tree: Filter | None) -> Target | None:
        """Return the target narrowed by *tree*, if it can be had without a session."""
        if tree is None:
            return self._target
        found = self._known.get(tree)
        if found is None:
            bits = self._columns.cached(tree, self._seq, len(self._target.matrix))
            found = None if bits is None else self._keep(tree, bits)
        return found

    def at(self, tree: Filter | None, session: Session) -> Target:
        """Return the target narrowed by *tree*; *session* is of the same commit."""
        found = self.known(tree)
        if found is None:
            assert tree is not None  # the target without a filter is always known
            found = self._keep(tree, self._columns.evaluate(tree, session, len(self._target.matrix)))
        return found

    def bits(self, tree: Filter, session: Session) -> np.typing.NDArray[np.uint8]:
        """Return the rows that may be found under *tree*, as bits, also where these are all; as `at`."""
        target = self.at(tree, session)
        if target.allowed is not None:
            return target.allowed
        return np.packbits(np.ones(len(target.matrix), dtype=np.bool_), bitorder="little")

    def _keep(self, tree: Filter, bits: np.typing.NDArray[np.uint8]) -> Target:
        target = self._target
        if target.allowed is not None:
            bits = bits & target.allowed
        count = int(np.bitwise_count(bits).sum())
        # All that may be found at all: then the index need not be told about a mask.
        narrowed = target if count == target.count else replace(target, count=count, allowed=bits)
        with self._lock:
            if tree not in self._known:
                self._bytes += tree.size.bytes
            kept = self._known.setdefault(tree, narrowed)
            while len(self._known) > _MOST or self._bytes > _MOST_BYTES:
                oldest = next(iter(self._known))
                del self._known[oldest]
                self._bytes -= oldest.size.bytes
            return kept


def among(target: Target, rows: Sequence[int]) -> Target:
    """Return the target narrowed to *rows*, of which those that it leaves out stay out. Not remembered."""
    chosen = np.zeros(len(target.matrix), dtype=np.bool_)
    chosen[np.asarray(rows, dtype=np.int64)] = True
    bits = np.packbits(chosen, bitorder="little")
    if target.allowed is not None:
        bits &= target.allowed
    return replace(target, count=int(np.bitwise_count(bits).sum()), allowed=bits)
