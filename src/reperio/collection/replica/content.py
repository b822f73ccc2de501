"""Check what an origin tells before it is stored: its tables are open to programs of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, OriginRefused
from reperio.store import Entry, NewChunk, is_entry
from reperio.vectors import StoredMatrix


def settings_of(told: Mapping[str, Any], where: str) -> Settings:
    """Read the settings of an origin.

    Raises:
        OriginRefused: they are not what was stored.
    """
    try:
        return Settings.from_json(dict(told), where)
    except CollectionDamaged:
        raise OriginRefused(f"{where}: its settings cannot be read; bring back what was stored there") from None


def require_chunks(chunks: Sequence[NewChunk], vectors: StoredMatrix, where: str) -> None:
    """Raise `OriginRefused` for a chunk that no handle would have stored."""
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise _refused(f"the vector of chunk {chunks[row].id!r:.80}", where)
    for chunk in chunks:
        try:
            whole = bool(chunk.id) and type(orjson.loads(chunk.metadata)) is dict
        except orjson.JSONDecodeError:
            whole = False
        if not whole:
            raise _refused(f"chunk {chunk.id!r:.80}", where)


def require_records(records: Sequence[Entry], where: str) -> None:
    """Raise `OriginRefused` for a record that no program has put."""
    for entry in records:
        try:
            whole = is_entry(entry) and not entry.space.startswith("\0")
            orjson.loads(entry.value or "null")
        except orjson.JSONDecodeError:
            whole = False
        if not whole:
            raise _refused(f"record {entry.key!r:.80}", where)


def _refused(what: str, where: str) -> OriginRefused:
    return OriginRefused(
        f"{where}: {what} is not what Reperio has stored there; mend it there, or delete it with a handle"
    )
