"""Durable chunks: the only room that knows SQL, and the only minter of rows."""

from reperio.store.checksums import is_intact, require_intact
from reperio.store.chunks import NewChunk, Store, copy, forget_snapshot, supersede, verify
from reperio.store.columns import Columns
from reperio.store.committed import Outdated, SnapshotRecord, State, StoredChunk
from reperio.store.ledger import Entry, Ledger, NewRecord
from reperio.store.salvage import Lost, Wreck
from reperio.store.session import Session
from reperio.store.vector_file import mapping_of

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
