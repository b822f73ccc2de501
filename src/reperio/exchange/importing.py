"""Make a collection of an export."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from reperio import layout
from reperio.arguments import require_limits, to_path
from reperio.embedding.contract import Settings
from reperio.errors import InvalidInput
from reperio.exchange.content import Block, receive, reported
from reperio.exchange.folder import FORMATS, MANIFEST, RECORDS, Manifest, read_manifest, require_sealed, to_settings
from reperio.layout import open_regular
from reperio.optional import OptionalImport
from reperio.parquet_limits import rows_at_once
from reperio.printable import logger
from reperio.store import Entry
from reperio.strict_json import encode
from reperio.types import Chunk, Limits, Metric, Progress
from reperio.vectors import StoredMatrix

_log = logger("reperio.ingestion")
_BATCH = 1000  # chunks that are checked and stored at once
_LONGEST_LINE = 256 << 20  # bytes: more than any chunk comes to within the default limits
_LINE = {"id", "text", "metadata", "vector"}
_NUMBERS = {int, float, type(None)}  # what is NaN has become null, and is refused with its row
_ENTRY: dict[str, Any] = {"scope": str, "space": str, "key": str, "group": (str, type(None)), "time": (int, float)}


@dataclass(frozen=True, slots=True)
class ImportedExport:
    """The result of one import.

    Attributes:
        path: directory of the collection.
        chunks, records: how many are in it.
        dimension, metric, dtype: those of its vectors.
        embedder: name in its embedding contract; None where vectors are brought ready-made.
    """

    path: str
    chunks: int
    records: int
    dimension: int
    metric: Metric
    dtype: str
    embedder: str | None


def import_collection(
    folder: str | os.PathLike[str],
    kb: str | os.PathLike[str],
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> ImportedExport:
    """Make a new collection of what `export_collection` has written, equal in all but its index, which it rebuilds.

    The files are compared with the manifest's SHA-256 first. To import files that were changed on purpose,
    remove "files" from manifest.json; what cannot be stored is refused by name.

    Args:
        folder: the export.
        kb: the new collection's directory, absent or empty. It is made whole or not at all.
        limits: how long a text and its metadata may be, as in `reperio.open`; None for the defaults.
        progress: called as ``progress("import", chunks stored, total)``.

    Raises:
        InvalidInput: the folder is no export, incomplete or damaged.
        InvalidChunk, InvalidVectors: something in it cannot be stored.
        CollectionExists: something is at *kb*.
        StorageFailed, MissingDependency.
    """
    source, target, allowed = to_path("folder", folder), to_path("kb", kb), require_limits(limits)
    manifest = read_manifest(source)
    settings = to_settings(manifest, source)
    layout.require_vacant(target, "for the collection")
    # Before anything is read: a damaged file must not look like one with a strange line.
    require_sealed(manifest, source)
    path = source / FORMATS[manifest.format]
    read = _parquet if manifest.format == "parquet" else _jsonl
    blocks = _counted(read(path, settings), manifest, path, progress)
    records = _records(source / RECORDS, manifest)
    made = receive(target.absolute(), settings, blocks, records, clock=manifest.clock, limits=allowed)
    _log.info("%s: %d chunks and %d records imported from %s", target, *made, source)
    embedder = settings.contract.name if settings.contract else None
    return ImportedExport(str(target), *made, settings.dimension, settings.metric, settings.dtype, embedder)


def _counted(blocks: Iterator[Block], manifest: Manifest, path: Path, progress: Progress | None) -> Iterator[Block]:
    done = yield from reported(blocks, "import", manifest.chunks, progress)
    _require_count(done, manifest.chunks, "chunks", manifest, path)


def _require_count(found: int, expected: int, what: str, manifest: Manifest, path: Path) -> None:
    """Refuse another number than the manifest's, unless the files were changed on purpose."""
    if found != expected and manifest.files:
        raise InvalidInput(f"{path} holds {found} {what}, and {MANIFEST} says {expected}; export the collection again")


def _jsonl(path: Path, settings: Settings) -> Iterator[Block]:
    lines = _objects(path)
    while some := list(islice(lines, _BATCH)):
        chunks, vectors = [], np.empty((len(some), settings.dimension), dtype=settings.dtype)
        for number, (place, line) in enumerate(some):
            if line.keys() != _LINE:
                raise InvalidInput(f"{place}: has the fields {sorted(line)}; a chunk has {sorted(_LINE)}")
            chunks.append(Chunk(line["id"], line["text"], line["metadata"]))
            vectors[number] = _vector(line["vector"], settings, place)
        yield Block(chunks, vectors)


def _vector(values: Any, settings: Settings, place: str) -> StoredMatrix:
    strange = set(map(type, values)) - _NUMBERS if isinstance(values, list) else {type(values)}
    if strange:
        names = ", ".join(sorted(kind.__name__ for kind in strange))
        raise InvalidInput(f"{place}: the vector cannot be read (it holds {names}); it is a list of numbers")
    found = np.array(values, dtype=np.float64)
    if found.shape != (settings.dimension,):
        raise InvalidInput(f"{place}: the vector has shape {found.shape}, not ({settings.dimension},)")
    with np.errstate(over="ignore"):  # what becomes infinite is refused with its row
        return found.astype(settings.dtype)


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file and line, object) of each line."""
    with open(open_regular(path), "rb") as file:
        for number, text in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), b""), start=1):
            place = f"{path}:{number}"
            if len(text) > _LONGEST_LINE:
                raise InvalidInput(f"{place} is longer than {_LONGEST_LINE:,} bytes; export the collection again")
            try:
                found = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise InvalidInput(f"{place} is no JSON ({error}); export the collection again") from None
            if not isinstance(found, dict):
                raise InvalidInput(f"{place} is no JSON object; export the collection again")
            yield place, found


def _records(path: Path, manifest: Manifest) -> Iterator[Entry]:
    done = 0
    for done, (place, found) in enumerate(_objects(path), start=1):  # noqa: B007  # the count is wanted
        if found.keys() != {*_ENTRY, "value"}:
            raise InvalidInput(f"{place}: has the fields {sorted(found)}; a record has {sorted([*_ENTRY, 'value'])}")
        for name, kind in _ENTRY.items():
            if not isinstance(found[name], kind) or isinstance(found[name], bool):
                raise InvalidInput(f"{place}: {name} is {found[name]!r:.60}; export the collection again")
        value = None if found["value"] is None else encode(found["value"])  # read as JSON a moment ago: it is JSON
        yield Entry(found["scope"], found["space"], found["key"], value, found["group"], float(found["time"]))
    _require_count(done, manifest.records, "records", manifest, path)


def _parquet(path: Path, settings: Settings) -> Iterator[Block]:
    with OptionalImport(str(path), "pyarrow", extra="ingest"):
        import pyarrow
        from pyarrow.parquet import ParquetFile
    try:
        with ParquetFile(path) as file:
            names = sorted(file.schema_arrow.names)
            if names != sorted(_LINE):
                raise InvalidInput(f"{path}: has the columns {names}; a chunk has {sorted(_LINE)}")
            size = rows_at_once(file, path, names, _BATCH)
            for number, batch in enumerate(file.iter_batches(batch_size=size, columns=sorted(_LINE))):
                place = f"{path}, rows from {number * size + 1} on"
                yield Block(_chunks(batch, place), _vectors(batch.column("vector"), settings, place))
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidInput(f"{path} cannot be read ({error}); export the collection again") from error


def _chunks(batch: Any, place: str) -> list[Chunk]:
    try:
        ids, texts, metadata = (batch.column(name).to_pylist() for name in ("id", "text", "metadata"))
        return [
            Chunk(chunk_id, text, orjson.loads(kept)) for chunk_id, text, kept in zip(ids, texts, metadata, strict=True)
        ]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{place}: text that is no UTF-8 ({error}); export the collection again") from None
    except (orjson.JSONDecodeError, TypeError) as error:
        raise InvalidInput(f"{place}: metadata that is no JSON ({error})") from None


def _vectors(column: Any, settings: Settings, place: str) -> StoredMatrix:
    import pyarrow
    from pyarrow import compute

    if not isinstance(column, pyarrow.ListArray | pyarrow.LargeListArray | pyarrow.FixedSizeListArray):
        raise InvalidInput(f"{place}: vector is {column.type}; it is a list of floats")
    lengths = set(compute.list_value_length(column).to_pylist())
    if lengths - {settings.dimension}:
        raise InvalidInput(f"{place}: vectors of length {lengths}, not {settings.dimension}")
    values = column.flatten()
    if values.null_count or not pyarrow.types.is_floating(values.type):
        raise InvalidInput(
            f"{place}: vector holds {values.type}, {values.null_count} of them null; it is a list of floats"
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values.to_numpy().astype(settings.dtype).reshape(-1, settings.dimension))
