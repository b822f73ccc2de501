"""JSON lines and Parquet as sources: one chunk a line or row, with its vector or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from reperio.embedding.contract import Settings
from reperio.errors import InvalidInput
from reperio.ingestion.reading.parquet import to_plain
from reperio.layout import open_regular, storage_errors
from reperio.optional import OptionalImport
from reperio.parquet_limits import rows_at_once
from reperio.sharding.building.partitions import Batch, Source, Told
from reperio.types import Chunk, Embedder

_NUMBERS = frozenset((int, float))  # and no bool, which NumPy would take for one
_BATCH = 2000  # lines or rows handed over at once
_LONGEST_LINE = 256 << 20  # bytes: more than any chunk comes to within the default limits
_BYTES = 32 << 20  # of a partition of JSON lines, about


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the fields of a line or row.

    All others are metadata; or there is a field "metadata" with an object, which has all of it.
    """

    id: str = "id"
    text: str = "text"
    vector: str = "vector"


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a file that begin at a byte from *start* to before *end*."""

    path: str
    start: int
    end: int
    stamp: tuple[int, int]
    fields: Fields

    def batches(self, settings: Settings, embedder: Embedder | None, told: Told) -> Iterator[Batch]:  # noqa: ARG002  # as all have
        """Yield the chunks; a line that is none is refused by its place."""
        made: list[tuple[Chunk, Any]] = []
        path = Path(self.path)
        _require_unchanged(path, self.stamp)
        with open(open_regular(path, follow=True), "rb") as file:
            file.seek(max(0, self.start - 1))
            at = self.start
            if at:
                at = self.start - 1 + len(file.readline(_LONGEST_LINE + 1))
            while at < self.end and (line := file.readline(_LONGEST_LINE + 1)):
                place = f"{path}, byte {at}"
                at += len(line)
                if line.strip():
                    made.append(_to_chunk(_object(line, place), self.fields, place))
                if len(made) == _BATCH:
                    yield _batch(made, str(path))
                    made = []
        if made:
            yield _batch(made, str(path))

    def to_json(self) -> Any:
        """Return its fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of one row group of a Parquet file."""

    path: str
    group: int
    start: int
    end: int
    stamp: tuple[int, int]
    fields: Fields

    def batches(self, settings: Settings, embedder: Embedder | None, told: Told) -> Iterator[Batch]:  # noqa: ARG002  # as all have
        """Yield the chunks; a row that is none is refused by its place."""
        import pyarrow
        from pyarrow.parquet import ParquetFile

        path = Path(self.path)
        _require_unchanged(path, self.stamp)
        try:
            with ParquetFile(path) as file:
                size = rows_at_once(file, path, file.schema_arrow.names, _BATCH)
                at = 0
                for batch in file.iter_batches(batch_size=size, row_groups=[self.group]):
                    first, last = max(self.start - at, 0), min(self.end - at, len(batch))
                    if first < last:
                        yield self._batch(
                            batch.slice(first, last - first), f"{path}, row group {self.group}", at + first
                        )
                    at += len(batch)
                    if at >= self.end:
                        return
        except (pyarrow.ArrowException, OSError) as error:
            raise InvalidInput(f"{path} cannot be read ({error}); write the file again") from error

    def _batch(self, batch: Any, where: str, first: int) -> Batch:
        vectors = None
        names = batch.schema.names
        if self.fields.vector in names:
            vectors = _matrix(batch.column(self.fields.vector), where)
            batch = batch.select([name for name in names if name != self.fields.vector])
        chunks = []
        for number, row in enumerate(batch.to_pylist(), start=first):
            place = f"{where}, row {number}"
            plain = {key: to_plain(value, key, place) for key, value in row.items()}
            if isinstance(plain.get("metadata"), str):  # as an export has it
                plain["metadata"] = _object(plain["metadata"], f"{place}, metadata")
            chunks.append(_to_chunk(plain, self.fields, place)[0])
        return Batch(chunks, vectors)

    def to_json(self) -> Any:
        """Return its fields."""
        return asdict(self)


def lines_of(paths: Sequence[Path], fields: Fields) -> Source:
    """Cut files of JSON lines by their bytes."""
    partitions: list[Lines] = []
    dimensions: set[int | None] = set()
    for path in paths:
        stamp = _stamp(path)
        partitions += (
            Lines(str(path), at, min(at + _BYTES, stamp[0]), stamp, fields) for at in range(0, stamp[0], _BYTES)
        )
        dimensions |= _first_dimension(path, fields)
    return Source(tuple(partitions), None, _one(dimensions, fields, paths))


def rows_of(paths: Sequence[Path], fields: Fields, most: int) -> Source:
    """Cut Parquet files by row groups, and larger ones into *most* rows each."""
    with OptionalImport(str(paths[0]), "pyarrow", extra="ingest"):
        import pyarrow
        from pyarrow.parquet import ParquetFile
    partitions: list[Rows] = []
    dimensions: set[int | None] = set()
    total = 0
    for path in paths:
        stamp = _stamp(path)
        try:
            with ParquetFile(path) as file:
                if fields.id not in file.schema_arrow.names:
                    raise InvalidInput(
                        f"{path} has no column {fields.id!r}, but {file.schema_arrow.names!s:.200}; name that of the "
                        "ids with id_field="
                    )
                for group in range(file.metadata.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    total += rows
                    partitions += (
                        Rows(str(path), group, at, min(at + most, rows), stamp, fields) for at in range(0, rows, most)
                    )
                dimensions |= _dimension_of(file, fields, path)
        except (pyarrow.ArrowException, OSError) as error:
            raise InvalidInput(f"{path} cannot be read ({error}); write the file again") from error
    return Source(tuple(partitions), total, _one(dimensions, fields, paths))


def _stamp(path: Path) -> tuple[int, int]:
    with storage_errors(path, "read"):
        found = path.stat()
    return found.st_size, found.st_mtime_ns


def _require_unchanged(path: Path, stamp: tuple[int, int]) -> None:
    if _stamp(path) != stamp:
        raise InvalidInput(f"{path} was changed since the build began; remove the unfinished build, and begin again")


def _one(dimensions: set[int | None], fields: Fields, paths: Sequence[Path]) -> int | None:
    if len(dimensions) > 1:
        raise InvalidInput(
            f"the vectors ({fields.vector!r}) of the {len(paths)} files differ: dimensions {dimensions}; all have "
            "vectors of one length, or none has any"
        )
    return next(iter(dimensions), None)


def _first_dimension(path: Path, fields: Fields) -> set[int | None]:
    """Return the length of the first vector, None where the first line has none; empty for an empty file."""
    with open(open_regular(path, follow=True), "rb") as file:
        for line in iter(lambda: file.readline(_LONGEST_LINE + 1), b""):
            if line.strip():
                found = _object(line, f"{path}, byte 0").get(fields.vector)
                return {len(found) if isinstance(found, list) else None}
    return set()


def _dimension_of(file: Any, fields: Fields, path: Path) -> set[int | None]:
    if fields.vector not in file.schema_arrow.names:
        return {None}
    for batch in file.iter_batches(batch_size=1, columns=[fields.vector]):
        return {_matrix(batch.column(0), str(path)).shape[1]}
    return set()


def _matrix(column: Any, where: str) -> Any:
    import pyarrow
    from pyarrow import compute

    if not isinstance(column, pyarrow.ListArray | pyarrow.LargeListArray | pyarrow.FixedSizeListArray):
        raise InvalidInput(f"{where}: the vectors are {column.type}; they are lists of floats")
    lengths = set(compute.list_value_length(column).to_pylist())
    values = column.flatten()
    if len(lengths) > 1 or None in lengths or values.null_count or not pyarrow.types.is_floating(values.type):
        raise InvalidInput(
            f"{where}: vectors of {values.type} with lengths {lengths!s:.80}; they are floats, one length"
        )
    return values.to_numpy().reshape(len(column), -1)


def _object(text: bytes | str, place: str) -> dict[str, Any]:
    if len(text) > _LONGEST_LINE:
        raise InvalidInput(f"{place}: the line is longer than {_LONGEST_LINE:,} bytes; is it JSON lines?")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{place} is no JSON ({error}); write one object a line") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{place} is no JSON object; write one object a line")
    return found


def _to_chunk(found: Mapping[str, Any], fields: Fields, place: str) -> tuple[Chunk, Any]:
    """Return the chunk of one line, and its vector."""
    others = {key: value for key, value in found.items() if key not in (fields.id, fields.text, fields.vector)}
    if "metadata" in others:
        metadata = others.pop("metadata")
        if others or not isinstance(metadata, dict):
            extra = f"and besides {sorted(others)!s:.80}" if others else f"which is a {type(metadata).__name__}"
            raise InvalidInput(f"{place} has metadata {extra}; metadata is one object, or all other fields")
        others = metadata
    chunk_id = found.get(fields.id)
    if type(chunk_id) is int:  # as tables of databases have them
        chunk_id = str(chunk_id)
    if not isinstance(chunk_id, str) or not chunk_id:
        raise InvalidInput(f"{place} has the id {chunk_id!r:.60} ({fields.id!r}); an id is a text, or a whole number")
    text, vector = found.get(fields.text), found.get(fields.vector)
    if vector is not None and not (isinstance(vector, list) and _NUMBERS.issuperset(map(type, vector))):
        raise InvalidInput(f"{place} has the vector {vector!r:.60} ({fields.vector!r}); a vector is a list of numbers")
    # An array at once: thousands of lists of numbers that wait for theirs cost a third of the time of reading.
    return Chunk(chunk_id, "" if text is None else text, others), None if vector is None else np.array(
        vector, np.float64
    )


def _batch(made: list[tuple[Chunk, Any]], where: str) -> Batch:
    chunks, vectors = [chunk for chunk, _ in made], [vector for _, vector in made]
    without = next((chunk.id for chunk, vector in made if vector is None), None)
    if without is None:
        first = len(vectors[0])
        other = next((one for one in made if len(one[1]) != first), None)
        if other is not None:
            raise InvalidInput(
                f"{where}: the vector of chunk {other[0].id!r:.80} has {len(other[1])} numbers, and that of "
                f"{chunks[0].id!r:.80} {first}; all vectors have one length"
            )
        return Batch(chunks, np.stack(vectors))
    if any(vector is not None for vector in vectors):
        raise InvalidInput(f"{where}: chunk {without!r:.80} has no vector, and others have; all have one, or none")
    return Batch(chunks)
