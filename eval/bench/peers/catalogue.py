"""The subjects by name: how each is built, which knob is turned until a recall is reached, and what is durable when."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import databases
import libraries
from corpus import Corpus, Floats, Mark, Plain

Knob: TypeAlias = dict[str, Any]
"""The arguments of `Subject.set`."""


class Subject(Protocol):
    """One way to keep chunks and find them. Constructing it imports its library."""

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        """Write everything into an empty folder. What is not yet synced to the disk then, the caller syncs."""

    def open(self, folder: Path, dimension: int) -> None:
        """Open what another process ingested."""

    def enter_thread(self) -> None:
        """Prepare one of several threads that will search; called in it."""

    def set(self, **knob: Any) -> None:
        """Turn the knob."""

    def search(self, vector: Floats) -> Any:
        """Return ten hits with text and parsed metadata, as the library hands them out. This is what is timed."""

    def plain(self, found: Any) -> list[Plain]:
        """Return what was found in the common shape. This is not timed."""


def ladder(first: int, last: int, step: float = 1.1) -> tuple[int, ...]:
    """Return integers from *first* to *last*, each about *step* times the one before."""
    values = [first]
    while values[-1] < last:
        values.append(min(last, max(values[-1] + 1, round(values[-1] * step))))
    return tuple(values)


@dataclass(frozen=True)
class Entry:
    """A subject and what is known of it beforehand.

    Attributes:
        name: as in the results; also of its folder.
        package: the distribution whose release is recorded.
        make: imports the library and returns the subject.
        parameters: in words, for the page.
        durable: what is on disk when, in words.
        knobs: values by argument of `Subject.set`; those of the first ascend, and recall with them.
        shares: the subject whose files it opens instead of ingesting.
        promise: the argument that states a recall: it is measured at the recall asked for, too.
    """

    name: str
    package: str
    make: Callable[[], Any]
    parameters: str
    durable: str
    knobs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    shares: str | None = None
    promise: str | None = None

    @property
    def folder(self) -> str:
        """The name of its folder, or of that which it shares."""
        return re.sub("[^a-z0-9]+", "-", (self.shares or self.name).lower())


_SAVED = "no: index and dict are saved as a whole, at the end"
_EF = ladder(10, 2000)
_RECALLS = (
    *(0.7, 0.8, 0.85, 0.88, 0.9, 0.91, 0.92, 0.925, 0.93, 0.935, 0.94, 0.945, 0.95),
    *(0.96, 0.97, 0.975, 0.978, 0.98, 0.982, 0.984, 0.986, 0.988, 0.99, 0.993, 0.996),
)
OURS = "Reperio"


def _graphs() -> Iterable[Entry]:
    for m in (16, 32):
        words = f"M={m}, efConstruction=200"
        yield Entry(
            f"FAISS HNSW{m} + dict",
            "faiss-cpu",
            partial(libraries.FaissGraph, m),
            f"IndexHNSWFlat, inner product, {words}; efSearch",
            _SAVED,
            {"ef": _EF},
        )
        yield Entry(
            f"hnswlib M={m} + dict",
            "hnswlib",
            partial(libraries.Hnswlib, m),
            f"space ip, {words}; ef",
            _SAVED,
            {"ef": _EF},
        )
        yield Entry(
            f"usearch M={m} + dict",
            "usearch",
            partial(libraries.Usearch, m, "f32"),
            f"metric ip, f32, connectivity={m}, expansion_add=200, file mapped; expansion_search",
            _SAVED,
            {"ef": _EF},
        )
        yield Entry(
            f"zvec M={m}",
            "zvec",
            partial(databases.Zvec, m, "UNDEFINED"),
            f"HNSW, cosine, m={m}, ef_construction=200, optimized, opened read-only and mapped; ef",
            "rows at flush; the graph after optimize",
            {"ef": _EF},
        )
        yield Entry(
            f"zvec M={m}, INT8",
            "zvec",
            partial(databases.Zvec, m, "INT8"),
            f"as zvec M={m} with quantize_type INT8; ef, scale_factor of its refiner (0: none)",
            "rows at flush; the graph after optimize",
            {"ef": _EF, "refine": (0, 1, 2, 4)},
        )
        yield Entry(
            f"Chroma M={m}",
            "chromadb",
            partial(databases.Chroma, m),
            f"PersistentClient, space ip, max_neighbors={m}, ef_construction=200, sync_threshold=10000; ef_search",
            "each batch of 1,000 (write-ahead log)",
            {"ef": _EF},
        )
        yield Entry(
            f"LanceDB M={m}",
            "lancedb",
            partial(databases.Lance, m),
            f"HnswSq, dot, one partition, m={m}, ef_construction=200, fixed-size lists; "
            "ef (at least 10 × refine_factor), refine_factor",
            "each version; the index after create_index",
            {"ef": _EF, "refine": (1, 2, 4)},
        )
    yield Entry(
        "zvec M=32, UINT7",
        "zvec",
        partial(databases.Zvec, 32, "UNIFORM_UINT7", "L2"),
        "as zvec M=32, INT8 with quantize_type UNIFORM_UINT7, which wants L2 (of unit vectors: the same order)",
        "rows at flush; the graph after optimize",
        {"ef": _EF, "refine": (0, 1, 2, 4)},
    )
    yield Entry(
        "usearch M=32, bf16 + dict",
        "usearch",
        partial(libraries.Usearch, 32, "bf16"),
        "as usearch M=32 with dtype bf16; expansion_search",
        _SAVED,
        {"ef": _EF},
    )


def _scans() -> Iterable[Entry]:
    yield Entry(
        "FAISS PQ + refine + dict",
        "faiss-cpu",
        partial(libraries.FaissCodes, False),
        "PQ{d/2}x4fs,RFlat, inner product; k_factor",
        _SAVED,
        {"k_factor": ladder(1, 200, 1.25)},
    )
    yield Entry(
        "FAISS IVF,PQ + refine + dict",
        "faiss-cpu",
        partial(libraries.FaissCodes, True),
        "IVF{about 0.9 √n},PQ{d/2}x4fs,RFlat, inner product; nprobe, k_factor",
        _SAVED,
        {"nprobe": ladder(4, 1024), "k_factor": (2, 3, 4, 8, 16)},
    )
    yield Entry(
        "turbovec + dict",
        "turbovec",
        libraries.Turbovec,
        "4 bits, calibrated on 4,096 rows; candidates rescored with NumPy from vectors in memory; candidates",
        "the codes at sync; vectors and dict are saved as a whole, at the end",
        {"candidates": ladder(10, 2000, 1.2)},
    )
    yield Entry(
        "LangChain FAISS",
        "langchain-community",
        databases.LangChain,
        "IndexFlatIP, in-memory docstore; no knob",
        "no: index and docstore are saved as a whole, at the end, the docstore as a pickle",
    )
    yield Entry(
        "sqlite-vec",
        "sqlite-vec",
        partial(databases.SqliteVec, False),
        "vec0, float, cosine, WAL, synchronous FULL; no knob",
        "each batch of 1,000",
    )
    yield Entry(
        "sqlite-vec, bits",
        "sqlite-vec",
        partial(databases.SqliteVec, True),
        "vec0, bits first and rescored by float, as in its documentation; candidates",
        "each batch of 1,000",
        {"candidates": ladder(10, 4000, 1.25)},
    )


def _ours() -> Iterable[Entry]:
    for recall in (0.95, 0.99):
        writer = f"{OURS} {recall}"
        for name, shares in ((writer, None), (f"{writer}, reader", writer)):
            yield Entry(
                name,
                "reperio",
                partial(databases.Reperio, recall, shares is not None),
                f"optimize(recall={recall}, queries=the tuning half), "
                f"{'read-only' if shares else 'writer'} handle; recall asked for",
                "each batch of 1,000; the index after optimize",
                {"recall": _RECALLS},
                shares,
                promise="recall",
            )


ENTRIES: dict[str, Entry] = {entry.name: entry for entry in (*_ours(), *_graphs(), *_scans())}
_GROWN = (
    *(name for name in ENTRIES if name.startswith(OURS)),
    "zvec M=16",
    "zvec M=32",
    "zvec M=32, INT8",
    "zvec M=32, UINT7",
    "FAISS HNSW32 + dict",
    "hnswlib M=16 + dict",
    "hnswlib M=32 + dict",
    "usearch M=32 + dict",
    "turbovec + dict",
)


def choose(wanted: list[str] | None, rows: int, *, quick: bool = False) -> list[Entry]:
    """Return the entries whose name contains one of the *wanted* words, case ignored.

    None for all; beyond 200,000 rows, for those that are still within reach there; *quick*, for one of each library.

    Raises:
        LookupError: a word is in no name.
    """
    if wanted is None and quick:
        first = {entry.package: entry.name for entry in reversed(ENTRIES.values())}
        return [entry for name, entry in ENTRIES.items() if name in first.values() or entry.shares in first.values()]
    if wanted is None:
        return [entry for name, entry in ENTRIES.items() if rows <= 200_000 or name in _GROWN]
    words = [word.lower() for word in wanted]
    for word in words:
        if not any(word in name.lower() for name in ENTRIES):
            raise LookupError(f"no subject's name contains {word!r}; the subjects are {'; '.join(ENTRIES)}")
    found = {name for name in ENTRIES if any(word in name.lower() for word in words)}
    # A reader of files that nobody ingested would fail: its writer comes along.
    found |= {entry.shares for name, entry in ENTRIES.items() if name in found and entry.shares}
    return [entry for name, entry in ENTRIES.items() if name in found]
