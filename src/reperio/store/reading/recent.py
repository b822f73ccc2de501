"""Chunks that searches find again and again, in memory: reading ten from SQLite costs up to a third of a search.

A row is never changed and never reused within a generation (docs/architecture.md), so what is kept never grows stale.
Whether a row is still live is for the caller to know, from the commit that it reads. See docs/decisions/0006.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from sys import getsizeof
from typing import Any, TypeAlias

Payload: TypeAlias = tuple[str, str, bytes, int]
"""Id, text and metadata of a chunk, and the bytes they take here. The metadata is JSON, so that no two callers share a
dictionary; as bytes, because orjson leaves a second copy inside a string that is not ASCII."""

RECENT_BYTES = 64 << 20
"""Most that one open generation keeps: some 50,000 chunks of a thousand bytes. About what a process takes that has
imported numpy and FAISS and holds no vector yet."""

_SIGHTS = 1 << 15  # rows whose first sight is remembered, in 3 MiB at most, in addition to the limit
# What a row takes in addition to its three values: the tuple and its number, the row's number, and a place in a
# dictionary that is a third full.
_OVERHEAD = getsizeof(("", "", b"", 0)) + 2 * getsizeof(1 << 20) + 100


class RecentChunks:
    """Payloads by row, up to a number of bytes. A row is kept when it comes by for the second time.

    Most rows come by once, and keeping those would cost every search that meets nothing known twice what it costs now
    (fresh memory, mostly).

    The youngest of three dictionaries grows to half the limit, then becomes the old one, and the old one the leaving
    one, which is emptied as the youngest grows. What is found in the other two moves to the youngest. So a row that is
    asked for once in a round stays, a hit costs one look-up while everything fits into the youngest, and nothing is
    written down about it.

    Rejected: an OrderedDict, touched at every hit; letting go of the old dictionary as a whole, which is simpler and
    stops all threads for as long as it takes to free some 100,000 strings; keeping parsed metadata and handing out
    copies, which costs what parsing does as soon as there is a list in it.

    Args:
        limit: bytes, with all that Python allocates for a payload.
    """

    def __init__(self, limit: int = RECENT_BYTES) -> None:
        self._half = limit // 2
        self._lock = threading.Lock()  # for changes; looking up goes without
        self._young: dict[int, Payload] = {}
        self._old: dict[int, Payload] = {}
        self._leaving: dict[int, Payload] = {}
        self._young_bytes = self._old_bytes = self._leaving_bytes = 0
        self._seen: set[int] = set()

    def get(self, rows: Sequence[int]) -> list[Payload | None]:
        """Return what is kept of *rows*, in their order; None for what is not."""
        found = list(map(self._young.get, rows))
        if self._old and None in found:
            self._promote(rows, found)
        return found

    def offer(self, rows: Sequence[int], records: Sequence[tuple[Any, ...]]) -> None:
        """Keep the (id, text, metadata, …) of those *rows* that have come by before; forget others for them."""
        again = self._seen.intersection(rows)
        if len(self._seen) >= _SIGHTS:
            self._seen = set()
        self._seen.update(rows)
        if not again:
            return
        with self._lock:
            for row, (chunk_id, text, metadata, *_) in zip(rows, records, strict=True):
                if row in again and row not in self._young:  # another thread may have been quicker
                    size = getsizeof(text) + len(metadata) + len(chunk_id) + _OVERHEAD
                    self._admit(row, (chunk_id, text, metadata, size))

    def drop(self) -> None:
        """Forget everything, and keep nothing from now on."""
        with self._lock:
            self._half = self._young_bytes = self._old_bytes = self._leaving_bytes = 0
            self._young, self._old, self._leaving, self._seen = {}, {}, {}, set()

    @property
    def bytes(self) -> int:
        """Bytes kept: at most the limit."""
        return self._young_bytes + self._old_bytes + self._leaving_bytes

    def __len__(self) -> int:
        return len(self._young) + len(self._old) + len(self._leaving)

    def _promote(self, rows: Sequence[int], found: list[Payload | None]) -> None:
        with self._lock:
            for place, row in enumerate(rows):
                if found[place] is None:
                    payload = self._old.pop(row, None)
                    if payload is not None:
                        self._old_bytes -= payload[3]
                    elif (payload := self._leaving.pop(row, None)) is not None:
                        self._leaving_bytes -= payload[3]
                    else:
                        continue
                    found[place] = payload
                    self._admit(row, payload)

    def _admit(self, row: int, payload: Payload) -> None:
        size = payload[3]
        if size > self._half:
            return
        if self._young_bytes + size > self._half:
            self._leaving, self._leaving_bytes = self._old, self._old_bytes  # less than this payload was left
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0
        self._young[row] = payload
        self._young_bytes += size
        while self._leaving and self._young_bytes + self._leaving_bytes > self._half:
            self._leaving_bytes -= self._leaving.popitem()[1][3]


class Watched(RecentChunks):
    """Count how many of the chunks asked for were in memory; a class of its own, so that others pay nothing for it.

    Args:
        told: called by each look-up, with the numbers found and not found.
    """

    def __init__(self, told: Callable[[int, int], None]) -> None:
        super().__init__()
        self._told = told

    def get(self, rows: Sequence[int]) -> list[Payload | None]:
        """Return what is kept of *rows*, in their order; None for what is not."""
        found = super().get(rows)
        absent = found.count(None)
        self._told(len(found) - absent, absent)
        return found
