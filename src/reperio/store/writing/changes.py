"""Name what is written in one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from reperio.store.ledger import Entry
from reperio.vectors import StoredMatrix


class NewChunk(NamedTuple):
    """A chunk ready to be stored: checked, its metadata as JSON text."""

    id: str
    text: str
    metadata: str


class Elsewhere(NamedTuple):
    """A commit that is made somewhere else, too, as the last step before it is made here.

    Attributes:
        entry: record of where that will be, stored in the same transaction.
        append: makes the commit there; what it raises rolls this one back.
    """

    entry: Entry
    append: Callable[[], None]


class Replacement(NamedTuple):
    """Chunks that are put instead of those with the same ids, or deleted ids, as one step of `Store.take_over`."""

    chunks: Sequence[NewChunk] = ()
    vectors: StoredMatrix | None = None
    deleted: Sequence[str] = ()
    records: Sequence[Entry] = ()
    forgotten: Sequence[tuple[str, str, str]] = ()
