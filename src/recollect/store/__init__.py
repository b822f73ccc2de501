"""Durable chunks: the only room that knows SQL, and the only minter of rows."""

from recollect.store.chunks import NewChunk, Store, copy, supersede, verify
from recollect.store.columns import Columns
from recollect.store.ledger import Ledger, NewRecord
from recollect.store.session import Session, SnapshotRecord, State, StoredChunk

__all__ = [
    "Columns",
    "Ledger",
    "NewChunk",
    "NewRecord",
    "Session",
    "SnapshotRecord",
    "State",
    "Store",
    "StoredChunk",
    "copy",
    "supersede",
    "verify",
]
