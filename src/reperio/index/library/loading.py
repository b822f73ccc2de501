"""Load FAISS, set its threads, and name the types of index that are allowed. Nothing else imports it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from reperio import forks
from reperio.errors import MissingDependency
from reperio.optional import OptionalImport
from reperio.types import Metric

# Before 1.14 there are no limits to what a file makes FAISS allocate; 1.14.2 crashes on hostile files.
_LEAST_VERSION = 1, 14, 3

# What may be read from a file and searched. Everything here takes float32 vectors, numbers rows from 0 in the
# order of adding, and holds no pointer to another file.
ALLOWED_TYPES = frozenset(
    {
        "IndexFlat", "IndexFlatIP", "IndexFlatL2", "IndexScalarQuantizer", "IndexPQ", "IndexPQFastScan",
        "IndexIVFFlat", "IndexIVFScalarQuantizer", "IndexIVFPQ", "IndexIVFPQFastScan",
        "IndexIVFRaBitQ", "IndexIVFRaBitQFastScan", "IndexRaBitQ", "IndexRaBitQFastScan",
        "IndexHNSWFlat", "IndexHNSWSQ", "IndexHNSWPQ", "IndexHNSWCagra", "IndexNSGFlat",
        "IndexPreTransform", "IndexRefine", "IndexRefineFlat",
    }
)  # fmt: skip

_GRAPH_STORAGES = frozenset({"IndexFlat", "IndexFlatIP", "IndexFlatL2", "IndexScalarQuantizer", "IndexPQ"})
_MOST_ENTRY_POINTS = 4096  # rows that a search of a CAGRA graph may compare before it walks: a walk compares fewer


@cache
def load_faiss() -> Any:
    """Import FAISS.

    Raises:
        MissingDependency: it is not there, or too old; with the pip command. faiss-cpu and faiss-gpu install the same
            module, so neither is a hard dependency, and what is installed may be anything.
    """
    gpu = "pip install 'reperio[gpu]' for a GPU"
    with OptionalImport("an index", "FAISS", extra="cpu", instead=gpu), patient_threads():
        import faiss
    _require_recent(faiss.__version__)
    return faiss


def _require_recent(version: str) -> None:
    """Refuse a FAISS that cannot read an index within limits, or that a hostile file crashes."""
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if found < _LEAST_VERSION:
        least = ".".join(map(str, _LEAST_VERSION))
        raise MissingDependency(
            f"an index needs FAISS {least} or later, and {version} is installed; run: "
            f"pip install 'faiss-cpu>={least}' (or 'faiss-gpu>={least}', whichever it was)"
        )


@contextmanager
def patient_threads() -> Iterator[None]:
    """Let the OpenMP runtime that comes with what is imported sleep at its barriers instead of spinning."""
    # It reads the variable once, when it is loaded. Training has thousands of short parallel regions: with another
    # process on one of two cores, spinning made it five times slower (9.6 s against 1.9 s).
    name = "OMP_WAIT_POLICY"
    if name in os.environ:
        yield
        return
    os.environ[name] = "PASSIVE"
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let FAISS use *count* threads in this thread's calls (`omp_set_num_threads` is per thread).

    In a forked child it is one: the thread that outlived the fork would wait for others that are gone (see
    `reperio.forks`).
    """
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if forks.in_child() else count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def metric_type(metric: Metric) -> int:
    """Return FAISS's number for the metric; cosine is the inner product of normalised vectors."""
    faiss = load_faiss()
    return int(faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT)


def _layers(index: Any) -> Iterator[Any]:
    """Yield the index and those it wraps, outermost first, each as what it is."""
    faiss = load_faiss()
    while index is not None:
        index = faiss.downcast_index(index)  # FAISS hands out what is wrapped as a mere Index
        yield index
        if isinstance(index, faiss.IndexPreTransform):
            index = index.index
        else:
            index = index.base_index if isinstance(index, faiss.IndexRefine) else None


def type_names(index: Any) -> list[str]:
    """Return the types of the index and of those it wraps, outermost first."""
    return [type(layer).__name__ for layer in _layers(index)]


def _parts(index: Any) -> Iterator[Any]:
    """Yield the layers of an index, and those of what its refinements compare by."""
    for layer in _layers(index):
        yield layer
        if isinstance(layer, load_faiss().IndexRefine):
            yield from _parts(layer.refine_index)


def strange_part(index: Any) -> str | None:
    """Return the first part of an index that is not allowed, or contradicts the whole, in words; None where none is."""
    for part in _parts(index):
        name = type(part).__name__
        if name not in ALLOWED_TYPES:
            return f"a FAISS {name}"
        if not _agrees(part, index):
            return f"a FAISS {name} of other rows, dimensions or metric than the index that it is a part of"
        if not hasattr(part, "hnsw") and "NSG" not in name:
            continue
        storage = type(load_faiss().downcast_index(part.storage)).__name__
        if storage not in _GRAPH_STORAGES:
            return f"a graph over a FAISS {storage}"
        if not 0 < getattr(part, "num_base_level_search_entrypoints", 1) <= _MOST_ENTRY_POINTS:
            return f"a graph with {part.num_base_level_search_entrypoints} entry points"
    return None


def _agrees(part: Any, whole: Any) -> bool:
    """Say whether a part holds what the whole says: FAISS believes each by itself, and reads as far as it says."""
    # Of dimensions a refinement alone could be wrong: FAISS compares those of transforms as it reads them.
    below = (part.base_index, part.refine_index) if isinstance(part, load_faiss().IndexRefine) else ()
    same = (part.ntotal, part.metric_type) == (whole.ntotal, whole.metric_type)
    return same and all(each.d == part.d for each in below)


def innermost(index: Any) -> Any:
    """Return the index below transforms and refinements."""
    *_, last = _layers(index)
    return last


def transforms(index: Any) -> list[Any]:
    """Return the transforms in front of the innermost index, in the order in which they are applied."""
    faiss = load_faiss()
    chains = [layer.chain for layer in _layers(index) if isinstance(layer, faiss.IndexPreTransform)]
    return [faiss.downcast_VectorTransform(chain.at(place)) for chain in chains for place in range(chain.size())]
