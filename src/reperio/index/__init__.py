"""Vectors to rows: the only room that knows FAISS and rabitqlib. Its currency is int64 rows and float32 matrices."""

from reperio.index.building.engines import build, extend
from reperio.index.building.gpu import Card, Device, find_card, to_device
from reperio.index.building.judging import distortion, drifted, spectrum
from reperio.index.building.resuming import Saving, discard
from reperio.index.comparing.pairing import Compared, lead, pairs
from reperio.index.engines.choosing import searcher_of
from reperio.index.engines.searcher import Searcher
from reperio.index.exact.norms import Norms
from reperio.index.exact.read_ahead import ReadAhead
from reperio.index.exact.scoring import scores_of
from reperio.index.library.foreign import ForeignIndex, VectorsLost, read_foreign
from reperio.index.library.symphony import is_installed as symphony_is_installed
from reperio.index.recipes.families import on_processor
from reperio.index.recipes.goal import Goal, Recipe, check_goal, parse_memory, to_size
from reperio.index.recipes.ranking import MOST_RECALL, advise, choose, extension_is_due, requested, training_is_due
from reperio.index.recipes.times import this_machine
from reperio.index.searching.planning import MEASURED_K, cheapest
from reperio.index.searching.search import Target, run_one, search, search_one
from reperio.index.snapshot import (
    IndexDescription,
    Provenance,
    SnapshotUnusable,
    files_of,
    read,
    remove_others,
    verify_graphs,
    write,
)
from reperio.index.tuning.measuring import Tuned, measure
from reperio.index.tuning.questions import FEWEST_QUERIES, Questions, copy_kept, drawn, keep, kept, questions

__all__ = [
    "FEWEST_QUERIES",
    "MEASURED_K",
    "MOST_RECALL",
    "Card",
    "Compared",
    "Device",
    "ForeignIndex",
    "Goal",
    "IndexDescription",
    "Norms",
    "Provenance",
    "Questions",
    "ReadAhead",
    "Recipe",
    "Saving",
    "Searcher",
    "SnapshotUnusable",
    "Target",
    "Tuned",
    "VectorsLost",
    "advise",
    "build",
    "cheapest",
    "check_goal",
    "choose",
    "copy_kept",
    "discard",
    "distortion",
    "drawn",
    "drifted",
    "extend",
    "extension_is_due",
    "files_of",
    "find_card",
    "keep",
    "kept",
    "lead",
    "measure",
    "on_processor",
    "pairs",
    "parse_memory",
    "questions",
    "read",
    "read_foreign",
    "remove_others",
    "requested",
    "run_one",
    "scores_of",
    "search",
    "search_one",
    "searcher_of",
    "spectrum",
    "symphony_is_installed",
    "this_machine",
    "to_device",
    "to_size",
    "training_is_due",
    "verify_graphs",
    "write",
]
