"""Durable chunks: the only room that knows SQL, and the only minter of rows."""

from recollect.store.checksums import is_intact, require_intact
from recollect.store.chunks import NewChunk, Store, copy, forget_snapshot, supersede, verify
from recollect.store.columns import Columns
from recollect.store.committed import Outdated, SnapshotRecord, State, StoredChunk
from recollect.store.ledger import Entry, Ledger, NewRecord
from recollect.store.salvage import Lost, Wreck
from recollect.store.session import Session
from recollect.store.vector_file import mapping_of

__all__ = [
    "Columns",
    "Entry",
    "Ledger",
    "Lost",
    "NewChunk",
    "NewRecord",
    "Outdated",
    "Session",
    "SnapshotRecord",
    "State",
    "Store",
    "StoredChunk",
    "Wreck",
    "copy",
    "forget_snapshot",
    "is_intact",
    "mapping_of",
    "require_intact",
    "supersede",
    "verify",
]
