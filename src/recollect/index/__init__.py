"""Vectors to rows: the only room that knows FAISS. Its currency is int64 rows and float32 matrices."""

from recollect.index.recipe import Recipe, choose, extension_is_due, requested, training_is_due
from recollect.index.search import Searcher, Target, search, search_one
from recollect.index.snapshot import Record, SnapshotUnusable, read, verify, write
from recollect.index.training import build, extend
from recollect.index.tuning import MOST_RECALL, Point, tune

__all__ = [
    "MOST_RECALL",
    "Point",
    "Recipe",
    "Record",
    "Searcher",
    "SnapshotUnusable",
    "Target",
    "build",
    "choose",
    "extend",
    "extension_is_due",
    "read",
    "requested",
    "search",
    "search_one",
    "training_is_due",
    "tune",
    "verify",
    "write",
]
