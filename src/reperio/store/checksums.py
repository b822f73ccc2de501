"""Verify that a chunk is what was stored: a CRC-32 over its vector and payload is compared before it is returned.

See docs/decisions/0011 for when, and for what that costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from zlib import crc32

from reperio.errors import CollectionDamaged
from reperio.store.committed import StoredChunk
from reperio.vectors import StoredMatrix


def to_records(
    chunks: Iterable[tuple[str, str, str]], vectors: Iterable[memoryview], first: int
) -> list[tuple[int, str, str, str, int]]:
    """Return (row, id, text, metadata, checksum) of each chunk, as the database keeps it.

    The checksum is the CRC-32 over the vector's bytes as stored, then id, text and metadata separated by NUL.

    Args:
        chunks: (id, text, metadata as JSON).
        vectors: the bytes of one vector each.
        first: row of the first chunk.
    """
    return [
        (row, chunk_id, text, metadata, crc32(f"{chunk_id}\0{text}\0{metadata}".encode(), crc32(vector)))
        for row, ((chunk_id, text, metadata), vector) in enumerate(zip(chunks, vectors, strict=True), start=first)
    ]


def is_intact(chunk: StoredChunk, matrix: StoredMatrix) -> bool:
    """Say whether text, metadata and vector are what was stored, by the checksum."""
    # As text: a search reads metadata as bytes, for which it does not matter that damage has made them a blob.
    text = type(chunk.metadata) is str
    return text and 0 <= chunk.row < len(matrix) and _is_whole(chunk[1:], matrix[chunk.row])


def require_intact(chunks: Iterable[StoredChunk], matrix: StoredMatrix, where: Path) -> None:
    """Raise `CollectionDamaged`, naming it, for the first chunk that is not what was stored.

    Args:
        chunks: chunks about to be returned or copied; a copy gets a new checksum, which would hide damage.
        matrix: the vectors of all their rows.
        where: directory of the generation, for the message.
    """
    for chunk in chunks:
        if not is_intact(chunk, matrix):
            raise not_intact(chunk.row, chunk.id, where)


class Verified:
    """Compares the rows that are read with their checksums, each once while a generation is open in this process.

    A row is never changed and never reused within a generation, so what was whole stays so, unless the files
    of a collection in use are damaged. For any number of threads: two that compare the same row at once find the same.

    Args:
        where: the generation is, for messages.
    """

    def __init__(self, where: Path) -> None:
        self._where = where
        self._rows = bytearray()  # a byte per row: 1/1536 of what its vector takes at 384 dimensions

    def unknown(self, rows: Sequence[int]) -> Sequence[int]:
        """Return those of *rows* that have not been compared yet."""
        known, end = self._rows, len(self._rows)
        return [row for row in rows if row >= end or not known[row]]

    def require(
        self,
        rows: Sequence[int],
        records: Iterable[Sequence[object]],
        matrix: StoredMatrix,
    ) -> None:
        """Raise for a chunk that is not what was stored.

        Args:
            rows: of the chunks.
            records: of each (id, text, metadata, …, crc), metadata as bytes or text.
            matrix: the vectors, over all of *rows*.

        Raises:
            CollectionDamaged: naming the chunk; a field of another type than was stored is damage, too.
        """
        known = self._rows
        try:
            if all(map(known.__getitem__, rows)):
                return
        except IndexError:
            pass  # rows that are newer than what was compared so far
        if len(known) < len(matrix):
            known.extend(bytes(len(matrix) - len(known)))
        for row, record in zip(rows, records, strict=True):
            if not 0 <= row < len(matrix) or not known[row]:
                if not 0 <= row < len(matrix) or not _is_whole(record, matrix[row]):
                    raise not_intact(row, record[0], self._where)
                known[row] = 1


def _is_whole(record: Sequence[object], vector: StoredMatrix) -> bool:
    chunk_id, text, metadata = record[0], record[1], record[2]
    try:
        raw = metadata if type(metadata) is bytes else metadata.encode()  # type: ignore[attr-defined]  # str, or damaged
        payload = b"\0".join((chunk_id.encode(), text.encode(), raw))  # type: ignore[attr-defined]  # likewise
    except (AttributeError, TypeError):  # a damaged header of a record has made a field NULL, a number or a blob
        return False
    # Metadata are always written as an object. A forged checksum must not pass off a list as metadata.
    return raw[:1] == b"{" and crc32(payload, crc32(vector)) == record[-1]  # type: ignore[arg-type]  # an array is a buffer


def not_intact(row: int, chunk_id: object, where: Path) -> CollectionDamaged:
    """Build the error for a chunk that is not what was stored."""
    return CollectionDamaged(
        f"{where}: chunk {chunk_id!r:.80} (row {row}) is not what was stored; mend the collection with "
        "check(fix=True), which lists what is lost, or restore from a backup"
    )
