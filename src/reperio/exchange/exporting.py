"""Export a collection as Parquet or JSON lines, for other programs or for `import_collection`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from reperio import layout
from reperio.arguments import to_path
from reperio.collection import Collection
from reperio.collection import open as open_collection
from reperio.errors import InvalidInput
from reperio.exchange.content import Block, Content, content_of, reported
from reperio.exchange.folder import FORMATS, RECORDS, Format, Manifest, sealed
from reperio.optional import OptionalImport
from reperio.printable import logger
from reperio.store import Entry
from reperio.types import Progress

_log = logger("reperio.ingestion")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of one export.

    Attributes:
        path: the folder.
        chunks, records: how many were written.
        files: size in bytes by file name.
    """

    path: str
    chunks: int
    records: int
    files: dict[str, int]


def export_collection(
    kb: Collection | str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    format: Format = "parquet",  # noqa: A002  # what pandas, polars and pyarrow call it
    progress: Progress | None = None,
) -> ExportReport:
    """Write ids, texts, metadata, vectors, settings and records to a new folder, as of one commit.

    Vectors are written to the bit as they are stored: of length 1 under cosine, as float16 if the collection has that
    dtype. Each chunk is compared with its checksum. Deleted chunks and the index are left out: `import_collection`
    makes the same collection of the folder, which builds its own.

    Args:
        kb: an open collection, or its directory, which is opened for reading; writes may go on meanwhile.
        destination: absent, or an empty directory. It is written whole or not at all.
        format: "parquet", which needs pyarrow, or "jsonl": one JSON object a line, four times as large.
        progress: called as ``progress("export", chunks written, total)``.

    Raises:
        InvalidInput: another format, or a handle with a scope.
        CollectionDamaged: a chunk is not what was stored; it is named, and nothing is left at the destination.
        CollectionExists, StorageFailed, MissingDependency.
    """
    if format not in FORMATS:
        raise InvalidInput(f"format is {format!r}; choose {', '.join(map(repr, FORMATS))}")
    target = to_path("destination", destination)
    layout.require_vacant(target, "for the export")
    with contextlib.ExitStack() as stack:
        opened = kb if isinstance(kb, Collection) else stack.enter_context(open_collection(kb, read_only=True))
        content = stack.enter_context(content_of(opened))
        # Named when it is whole: a folder without a manifest is never there.
        with layout.new_directory(target) as fresh:
            manifest = _write(content, fresh, format, progress)
        _log.info("%s: %d chunks and %d records exported as %s", target, manifest.chunks, manifest.records, format)
        sizes = {name: int(entry["bytes"]) for name, entry in manifest.files.items()}
        return ExportReport(str(target), manifest.chunks, manifest.records, sizes)


def _write(content: Content, folder: Path, chosen: Format, progress: Progress | None) -> Manifest:
    chunks = folder / FORMATS[chosen]
    with _durable(chunks) as file:
        blocks = reported(content.blocks(), "export", content.chunks, progress)
        if chosen == "parquet":
            _write_parquet(file, blocks, content.settings["dimension"], content.settings["dtype"])
        else:
            for block in blocks:
                file.writelines(_lines(block))
    records = 0
    with _durable(folder / RECORDS) as file:
        for records, entry in enumerate(content.records(), start=1):  # noqa: B007  # the count is wanted
            file.write(_record_line(entry))
    files = {path.name: sealed(path) for path in (chunks, folder / RECORDS)}
    manifest = Manifest(content.settings, content.chunks, records, content.clock, chosen, files)
    manifest.write(folder)
    return manifest


@contextlib.contextmanager
def _durable(path: Path) -> Iterator[IO[bytes]]:
    with layout.storage_errors(path, "write"), open(path, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _lines(block: Block) -> Iterator[bytes]:
    # As float64: its shortest digits give back every bit of a float32. Half as many would do for nearly all.
    for chunk, vector in zip(block.chunks, block.vectors.astype(np.float64), strict=True):
        line = {"id": chunk.id, "text": chunk.text, "metadata": dict(chunk.metadata), "vector": vector}
        yield orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _record_line(entry: Entry) -> bytes:
    value = None if entry.value is None else orjson.Fragment(entry.value)
    return orjson.dumps({**entry._asdict(), "value": value}, option=orjson.OPT_APPEND_NEWLINE)


def _write_parquet(file: IO[bytes], blocks: Iterator[Block], dimension: int, dtype: str) -> None:
    plain = "export with format='jsonl' (--format jsonl)"
    with OptionalImport("an export to Parquet", "pyarrow", extra="ingest", instead=plain):
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    kind = pyarrow.float16() if dtype == "float16" else pyarrow.float32()
    words = pyarrow.large_string()  # a string column ends at 2 GiB
    schema = pyarrow.schema(
        [("id", words), ("text", words), ("metadata", words), ("vector", pyarrow.list_(kind, dimension))]
    )
    with ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
        for block in blocks:
            rows = ((chunk.id, chunk.text, orjson.dumps(chunk.metadata).decode()) for chunk in block.chunks)
            columns: list[Any] = [pyarrow.array(column, words) for column in zip(*rows, strict=True)]
            values = pyarrow.array(block.vectors.reshape(-1), kind)
            columns.append(pyarrow.FixedSizeListArray.from_arrays(values, dimension))
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
