"""A copy of a healthy collection, and how its files are changed as an accident would change them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import faiss
import numpy as np
import numpy.typing as npt
from healthy import PLAIN, Kind, Recorded, TextSet, stored
from models import Kept

import reperio
from reperio import Chunk, Collection
from reperio.evaluation import Search

Floats: TypeAlias = npt.NDArray[np.float32]

_SEED = 9
_EFFORT, _CANDIDATES = 1, 2  # places in an operating point as it is recorded


@dataclass(frozen=True)
class Case:
    """What a fault is put into.

    Attributes:
        path: of the copy.
        texts: that the collection holds.
        embedder: of the collection.
        strength: of the fault; its unit is the fault's own.
        kind: of the collection.
        kept: vectors made before.
        folder: for models.
    """

    path: Path
    texts: TextSet
    embedder: Recorded
    strength: float
    kind: Kind
    kept: Kept
    folder: Path


@dataclass(frozen=True)
class Deployed:
    """How the broken copy is deployed, where that is part of the fault.

    Attributes:
        embedder: that it is opened with; None for the healthy one.
        front: makes the search that stands before the collection; None for none.
        patched: what is wrong in the running program meanwhile.
    """

    embedder: Any = None
    front: Callable[[Collection], Search] | None = None
    patched: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)


def drawn(rows: int, share: float) -> npt.NDArray[np.int64]:
    """Return a share of the rows, one at least, always the same."""
    count = min(rows, max(1, round(rows * share)))
    return np.sort(np.random.default_rng(_SEED).choice(rows, count, replace=False))


@contextmanager
def writing(case: Case) -> Iterator[Collection]:
    """Open the copy for writing."""
    with reperio.open(case.path, embedder=case.embedder, auto_optimize=False) as collection:
        yield collection


def stored_anew(case: Case, held: list[Chunk], vectors: Any, *, kind: Kind | None = None) -> None:
    """Make the collection again with other chunks or vectors, as ingesting it wrongly would."""
    shutil.rmtree(case.path)
    asked = case.embedder.embed_queries(case.texts.queries)
    stored(case.path, held, vectors, embedder=case.embedder, kind=kind or case.kind, queries=asked)


@contextmanager
def database(case: Case) -> Iterator[apsw.Connection]:
    """Open the database behind the package's back; one transaction."""
    [path] = case.path.glob("gen-*/chunks.db")
    connection = apsw.Connection(str(path))
    try:
        with connection:
            yield connection
    finally:
        connection.close()


@contextmanager
def vector_file(case: Case) -> Iterator[Floats]:
    """Map the rows of the vector file, to be changed."""
    [path] = case.path.glob("gen-*/vectors.f32")
    with database(case) as connection:
        [(rows,)] = connection.execute("SELECT rows FROM state").fetchall()
    matrix: Floats = np.memmap(path, dtype=np.float32, mode="r+", shape=(rows, case.embedder.dimension))
    yield matrix
    matrix.flush()


def change_record(case: Case, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change what is recorded of the index."""
    with database(case) as connection:
        for name, record in connection.execute("SELECT name, record FROM snapshots").fetchall():
            changed = json.dumps(change(json.loads(record)))
            connection.execute("UPDATE snapshots SET record = ? WHERE name = ?", (changed, name))


def change_points(case: Case, effort: Callable[[int], int], candidates: Callable[[int], int]) -> None:
    """Change the knobs of every operating point but exact search; what they claim to give stays."""

    def change(point: list[Any]) -> list[Any]:
        if not point[_EFFORT] and not point[_CANDIDATES]:
            return point
        changed = list(point)
        changed[_EFFORT], changed[_CANDIDATES] = effort(point[_EFFORT]), candidates(point[_CANDIDATES])
        return changed

    change_record(case, lambda record: {**record, "points": [change(point) for point in record["points"]]})


def change_index(case: Case, change: Callable[[Any, Floats], Any]) -> None:
    """Replace the index by what *change* makes of it and the stored vectors; file and record agree afterwards."""
    [path] = case.path.glob("gen-*/index/snapshot-*")
    with vector_file(case) as matrix:
        faiss.write_index(change(faiss.read_index(str(path)), np.array(matrix)), str(path))
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    change_record(case, lambda record: {**record, "sha256": digest, "bytes": len(content)})


__all__ = [
    "PLAIN", "Case", "Deployed", "change_index", "change_points", "change_record", "database", "drawn", "stored_anew",
    "vector_file", "writing",
]  # fmt: skip
