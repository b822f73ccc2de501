"""An index on disk: written whole, recorded with its checksum, verified before FAISS reads a byte of it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import orjson

from recollect.errors import StorageFailed
from recollect.index.faiss_library import ALLOWED_TYPES, load_faiss, metric_type, type_names
from recollect.index.recipe import Recipe
from recollect.index.search import Searcher
from recollect.index.tuning import Point
from recollect.layout import storage_errors, sync_directory
from recollect.types import IndexInfo, Metric

_READ_BLOCK = 1 << 20


class SnapshotUnusable(Exception):
    """A snapshot is missing or not what was recorded. Internal: an index is disposable, the caller rebuilds."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the store keeps about a snapshot; the file is trusted only when it agrees.

    Attributes:
        file: name in the index directory.
        sha256: of the file, hexadecimal.
        bytes: length of the file.
        rows: ntotal; rows [0, rows) of the vector file.
        trained_for: rows when it was trained; an extension leaves it.
        points: how it is searched for which recall, measured when it was trained.
        types: FAISS classes, outermost first.

    """

    file: str
    sha256: str
    bytes: int
    rows: int
    dimension: int
    metric: str
    types: list[str]
    factory: str
    reason: str
    requested: bool
    trained_for: int
    created: str
    points: list[list[float]]

    @classmethod
    def of_exact(cls, recipe: Recipe, metric: Metric) -> Record:
        """Record that exact search was asked for, so that no index is built later without being asked."""
        return cls("", "", 0, 0, 0, metric.value, [], "", recipe.reason, True, 0, _now(), [])

    @property
    def exact(self) -> bool:
        """True when there is no file: searches are exact on request."""
        return not self.file

    @property
    def name(self) -> str:
        """How the store names it: the file's name, "exact" where there is none."""
        return self.file or "exact"

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read a record.

        Raises:
            SnapshotUnusable: it was written by another version of Recollect.

        """
        try:
            return cls(**orjson.loads(text))
        except (TypeError, orjson.JSONDecodeError) as error:
            raise SnapshotUnusable(f"its record cannot be read ({error})") from None

    def to_recipe(self) -> Recipe:
        """Return the recipe by which this index was built."""
        return Recipe(self.factory, self.reason, training_rows=1 << 18, requested=self.requested)

    def to_points(self) -> list[Point]:
        """Return the points as `Searcher` takes them."""
        return [Point(recall, effort, int(candidates)) for recall, effort, candidates in self.points]

    def to_info(self) -> IndexInfo:
        """Return what users are shown."""
        return IndexInfo(self.factory, self.rows, self.bytes, self.reason, self.created)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class _HashingFile:
    """Counts and hashes what FAISS writes; a short or failed write raises here, where FAISS may not notice."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any) -> None:
        rest = memoryview(data)
        self._hash.update(rest)
        self.bytes += len(rest)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def write(
    searcher: Searcher, directory: Path, number: int, *, recipe: Recipe, metric: Metric, trained_for: int
) -> Record:
    """Write an index into *directory*, durably, and return its record. Not in use until the store records it.

    Raises:
        StorageFailed: the disk is full, say; nothing is left behind.

    """
    faiss = load_faiss()
    path = directory / f"snapshot-{number:06d}.faiss"
    fresh = path.with_name(path.name + ".new")
    with storage_errors(path, "write"):
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                file = _HashingFile(descriptor)
                # faiss.write_index(path) may report success on a full disk; this writer raises.
                faiss.write_index(searcher.index, faiss.PyCallbackIOWriter(file.write, _READ_BLOCK))
                os.fsync(descriptor)
                if os.fstat(descriptor).st_size != file.bytes:
                    raise StorageFailed(f"cannot write {path}: it came out shorter than what was written")
            finally:
                os.close(descriptor)
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_directory(directory)
    return Record(
        file=path.name,
        sha256=file.sha256,
        bytes=file.bytes,
        rows=searcher.rows,
        dimension=searcher.index.d,
        metric=metric.value,
        types=type_names(searcher.index),
        factory=recipe.factory,
        reason=recipe.reason,
        requested=recipe.requested,
        trained_for=trained_for,
        created=_now(),
        points=[list(point) for point in searcher.points],
    )


def verify(record: Record, directory: Path) -> None:
    """Raise `SnapshotUnusable` unless the file is the one recorded, to the byte."""
    path = directory / record.file
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != record.bytes:
                raise SnapshotUnusable(f"{path} holds {size} bytes, {record.bytes} were written")
            while block := file.read(_READ_BLOCK):
                digest.update(block)
    except OSError as error:
        raise SnapshotUnusable(f"{path}: {error.strerror or error}") from error
    if digest.hexdigest() != record.sha256:
        raise SnapshotUnusable(f"{path} is damaged: its SHA-256 is not the one recorded")


def read(record: Record, directory: Path, *, dimension: int, metric: Metric) -> Any:
    """Verify and load an index.

    Raises:
        SnapshotUnusable: missing, damaged, or not what the record and the collection say.

    """
    if not record.types or any(name not in ALLOWED_TYPES for name in record.types):
        raise SnapshotUnusable(f"{record.file} is recorded as {record.types}, which is not read here")
    if (record.dimension, record.metric) != (dimension, metric.value):
        raise SnapshotUnusable(f"{record.file} is of another dimension or metric than the collection")
    verify(record, directory)
    faiss = load_faiss()
    # The checksum has vouched for the bytes; the limits are the second fence, against a forged record.
    faiss.set_deserialization_vector_byte_limit(max(record.bytes, 1 << 20))
    faiss.set_deserialization_loop_limit(1 << 31)
    try:
        index = faiss.read_index(str(directory / record.file))
    except RuntimeError as error:
        raise SnapshotUnusable(f"{record.file}: FAISS cannot read it ({error})") from error
    found = (type_names(index), index.d, index.ntotal, index.metric_type)
    if found != (record.types, record.dimension, record.rows, metric_type(metric)):
        raise SnapshotUnusable(f"{record.file} holds {found}, which is not what was recorded")
    return index
