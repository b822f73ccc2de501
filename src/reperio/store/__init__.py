"""Durable chunks: the only room that knows SQL, and the only minter of rows."""

from reperio.store.checksums import is_intact, require_intact
from reperio.store.committed import Outdated, SnapshotEntry, State, StoredChunk
from reperio.store.foreign import ForeignDatabase
from reperio.store.ledger import Entry, Ledger, NewRecord, is_entry
from reperio.store.reading.session import Session
from reperio.store.salvage import DamagedStore, Lost
from reperio.store.writing.changes import Elsewhere, NewChunk, Replacement
from reperio.store.writing.chunks import Store
from reperio.store.writing.generations import copy, forget_snapshot, supersede, verify

__all__ = [
    "DamagedStore",
    "Elsewhere",
    "Entry",
    "ForeignDatabase",
    "Ledger",
    "Lost",
    "NewChunk",
    "NewRecord",
    "Outdated",
    "Replacement",
    "Session",
    "SnapshotEntry",
    "State",
    "Store",
    "StoredChunk",
    "copy",
    "forget_snapshot",
    "is_entry",
    "is_intact",
    "require_intact",
    "supersede",
    "verify",
]
