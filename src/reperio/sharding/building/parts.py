"""A part: what one partition has for the shards, on disk between reading the source and writing the shards.

::

    building/
      plan.json             what is built, to recognise it when a killed build is run again
      part-000001/          what one partition has; there whole or not at all
        part.json           for each shard: chunks, bytes and checksum of its lines, and checksum of its vectors
        chunks.jsonl        [id, text, metadata], shard after shard
        vectors.bin         in the same order, as they will be stored
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, CollectionExists
from reperio.exchange.content import Block
from reperio.ingestion.results import Failed, Skipped
from reperio.layout import (
    create_file,
    is_there,
    new_directory,
    open_regular,
    read_regular,
    require_absent_or_directory,
    storage_errors,
)
from reperio.sharding.manifest import ShardEntry, slot_of
from reperio.store import NewChunk
from reperio.types import Chunk
from reperio.vectors import StoredMatrix

_REPORT, _CHUNKS, _VECTORS = "part.json", "chunks.jsonl", "vectors.bin"
_REPORT_BYTES = 1 << 28
_MOST = 1 << 62
_PIECE = 4  # numbers of a piece in part.json
_PART = re.compile(r"part-[0-9]{6,10}|\.part-[0-9]{6,10}\.creating-[1-9][0-9]{0,9}-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class PartReport:
    """What there is to tell of a part.

    Attributes:
        number: of the partition, from 1.
        chunks: how many it has.
        embedded: of these, how many texts went through the embedder.
        skipped, failed: as in `IngestResult`.
    """

    number: int
    chunks: int
    embedded: int
    skipped: tuple[Skipped, ...] = ()
    failed: tuple[Failed, ...] = ()


def part_path(building: Path, number: int) -> Path:
    """Return the directory of a part."""
    return building / f"part-{number:06d}"


def is_part(name: str) -> bool:
    """Say whether this is the name of a part, or of an unfinished one."""
    return _PART.fullmatch(name) is not None


def write_part(
    building: Path, report: PartReport, chunks: Sequence[NewChunk], vectors: StoredMatrix, shards: Sequence[ShardEntry]
) -> None:
    """Write a part, durably, whole or not at all; one that is there already is left.

    Args:
        building: directory of the build.
        report: of the part.
        chunks: in the order of the source, from `check_chunks`.
        vectors: one each, as stored.
        shards: by their slots.
    """
    ends = np.array([entry.end_slot for entry in shards])
    slots = np.array([slot_of(chunk.id) for chunk in chunks], dtype=np.int64)
    places = np.searchsorted(ends, slots, side="right")
    order = np.argsort(places, kind="stable")  # within a shard, the order of the source
    pieces: dict[str, list[int]] = {}
    try:
        with new_directory(part_path(building, report.number)) as fresh:
            with (
                storage_errors(fresh, "write"),
                _durable(fresh / _CHUNKS) as lines,
                _durable(fresh / _VECTORS) as values,
            ):
                for place, group in groupby(order.tolist(), key=lambda at: int(places[at])):
                    rows = list(group)
                    text = b"".join(_line(chunks[at]) for at in rows)
                    raw = np.ascontiguousarray(vectors[rows]).tobytes()
                    lines.write(text)
                    values.write(raw)
                    pieces[shards[place].name] = [len(rows), len(text), zlib.crc32(text), zlib.crc32(raw)]
            content = orjson.dumps({**asdict(report), "shards": pieces})
            with storage_errors(fresh, "write"), _durable(fresh / _REPORT) as file:
                file.write(content)
    except CollectionExists:  # the same task, which was thought lost, was quicker
        read_report(building, report.number)


def read_report(building: Path, number: int) -> PartReport | None:
    """Return what a part that is there says of itself; None where it is not there.

    Raises:
        CollectionDamaged: it is not what was written.
        StorageFailed: it is a link, or no directory.
    """
    path = part_path(building, number)
    require_absent_or_directory(path)
    if not is_there(path):
        return None
    report = _read(path)[0]
    if report.number != number:
        raise _damaged(path / _REPORT)
    return report


def blocks_of(building: Path, parts: int, shard: ShardEntry, settings: Settings, most: int) -> Iterator[Block]:
    """Yield what all parts have for a shard, in the order of the source, in blocks of *most* chunks or a bit more.

    Raises:
        CollectionDamaged: a part is not what was written.
    """
    chunks: list[Chunk] = []
    vectors: list[StoredMatrix] = []
    for number in range(1, parts + 1):
        some = _piece(part_path(building, number), shard, settings)
        if some is not None:
            chunks += some.chunks
            vectors.append(some.vectors)
        if len(chunks) >= most:
            yield Block(chunks, joined(vectors, settings))
            chunks, vectors = [], []
    if chunks:
        yield Block(chunks, joined(vectors, settings))


def joined(matrices: Sequence[StoredMatrix], settings: Settings) -> StoredMatrix:
    """Return the vectors of several matrices, which may be none, as one."""
    empty = np.empty((0, settings.dimension), dtype=settings.dtype)
    one: StoredMatrix = np.concatenate([empty, *matrices])
    return one


def _piece(path: Path, shard: ShardEntry, settings: Settings) -> Block | None:
    require_absent_or_directory(path)
    shards = _read(path)[1]
    if shard.name not in shards:
        return None
    before = [values for name, values in _until(shards, shard.name)]
    count, length, lines_crc, values_crc = shards[shard.name]
    width = settings.dimension * np.dtype(settings.dtype).itemsize
    text = _slice(path / _CHUNKS, sum(values[1] for values in before), length, lines_crc)
    raw = _slice(path / _VECTORS, sum(values[0] for values in before) * width, count * width, values_crc)
    vectors: StoredMatrix = np.frombuffer(raw, dtype=settings.dtype).reshape(count, settings.dimension)
    if not np.isfinite(vectors).all():
        raise _damaged(path / _VECTORS)
    return Block(_chunks(path, text, count, shard), vectors)


def _chunks(path: Path, text: bytes, count: int, shard: ShardEntry) -> list[Chunk]:
    """Read lines, which may be of a stranger: the checksums are his as well."""
    try:
        chunks = [Chunk(*_triple(orjson.loads(line))) for line in text.splitlines()]
    except ValueError:  # orjson's error is one
        raise _damaged(path / _CHUNKS) from None
    if len(chunks) != count or not all(shard.holds(slot_of(chunk.id)) for chunk in chunks):
        raise _damaged(path / _CHUNKS)
    return chunks


def _triple(line: Any) -> tuple[str, str, dict[str, Any]]:
    if type(line) is not list:
        raise ValueError
    chunk_id, text, metadata = line
    if type(chunk_id) is not str or type(text) is not str or type(metadata) is not dict:
        raise ValueError
    return chunk_id, text, metadata


def _until(shards: Mapping[str, Sequence[int]], name: str) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield the shards that come before one, in the order in which they were written."""
    for other, values in shards.items():
        if other == name:
            return
        yield other, values


def _slice(path: Path, start: int, length: int, checksum: int) -> bytes:
    if not is_there(path):
        raise _damaged(path)
    with storage_errors(path, "read"), open(open_regular(path), "rb") as file:
        if start + length > os.fstat(file.fileno()).st_size:  # nothing is set aside for what is not there
            raise _damaged(path)
        file.seek(start)
        found = file.read(length)
    if len(found) != length or zlib.crc32(found) != checksum:
        raise _damaged(path)
    return found


def _read(path: Path) -> tuple[PartReport, dict[str, list[int]]]:
    """Return what part.json says of a part and, by the name of each shard, of its piece."""
    path = path / _REPORT
    if not is_there(path):
        raise _damaged(path)
    try:
        found = orjson.loads(read_regular(path, _REPORT_BYTES))
        shards = found.pop("shards")
        told = [list(map(_strings, found.pop(name))) for name in ("skipped", "failed")]
        skipped, failed = (Skipped(**one) for one in told[0]), (Failed(**one) for one in told[1])
        report = PartReport(**found, skipped=tuple(skipped), failed=tuple(failed))
        numbers = [report.number, report.chunks, report.embedded, *chain(*shards.values())]
        if (
            all(type(number) is int and 0 <= number < _MOST for number in numbers)
            and all(type(piece) is list and len(piece) == _PIECE for piece in shards.values())
            and sum(piece[0] for piece in shards.values()) == report.chunks
        ):
            return report, shards
    except (ValueError, KeyError, TypeError, AttributeError):  # orjson's error is a ValueError
        pass
    raise _damaged(path)


def _strings(found: dict[str, Any]) -> dict[str, str]:
    if not all(type(value) is str for value in found.values()):
        raise TypeError
    return found


def _damaged(path: Path) -> CollectionDamaged:
    return CollectionDamaged(
        f"{path} is not what was written; remove {path.parent}, and run the same build again: it makes it again"
    )


def _line(chunk: NewChunk) -> bytes:
    # Metadata is JSON already; orjson escapes every line break, so that a line is a chunk.
    line = [chunk.id, chunk.text, orjson.Fragment(chunk.metadata)]
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


class _durable:  # noqa: N801  # used like a function
    """Write a new file, and sync it at the end."""

    def __init__(self, path: Path) -> None:
        self._file = open(create_file(path), "wb")  # noqa: SIM115  # closed in __exit__

    def __enter__(self) -> Any:
        return self._file

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
