"""Read the documents of a collection, and what Chroma has in its write-ahead log alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from reperio.errors import InvalidInput
from reperio.store import ForeignDatabase
from reperio.types import FloatMatrix, Rows

_ADD, _UPDATE, _UPSERT, _DELETE = range(4)
_ENCODINGS = {"FLOAT32": "<f4", "INT32": "<i4"}
_VALUES = "string_value, int_value, float_value"

_Metadata = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the log."""

    number: int
    operation: int
    id: str
    metadata: _Metadata | None  # with the document in it; None where the entry says nothing of it
    has_vector: bool


def read_documents(database: ForeignDatabase, segment: str) -> dict[str, _Metadata]:
    """Return the metadata of each id, with the document in it, as far as Chroma has taken it out of its log."""
    documents: dict[str, _Metadata] = {}
    by_number: dict[int, _Metadata] = {}
    for number, key in database.rows(
        "SELECT id, embedding_id FROM embeddings WHERE segment_id = ? ORDER BY id", (segment,)
    ):
        if type(key) is not str or not key or type(number) is not int:
            raise InvalidInput(f"{database.path} has a document with the id {key!r:.80}; an id is a non-empty string")
        documents[key] = by_number[number] = {}
    for table in ("embedding_metadata", "embedding_metadata_array"):
        columns = database.columns(table)
        if not columns:  # lists came with 1.5
            continue
        flag = "bool_value" if "bool_value" in columns else "NULL"
        for number, key, *values in database.rows(f"SELECT id, key, {_VALUES}, {flag} FROM {table} ORDER BY rowid"):
            metadata = by_number.get(number)
            if metadata is None or type(key) is not str:
                continue
            _put(metadata, key, _value(*values), in_list=table != "embedding_metadata")
    return documents


def _put(metadata: _Metadata, key: str, value: Any, *, in_list: bool) -> None:
    """Set a field, or append to it what the table of lists has in a row of its own."""
    if not in_list:
        metadata[key] = value
    elif type(metadata.get(key)) is list:
        metadata[key].append(value)
    else:
        metadata[key] = [value]


def _value(text: Any, whole: Any, real: Any, flag: Any) -> Any:
    if flag is not None:
        return bool(flag)
    return text if text is not None else whole if whole is not None else real


def read_log(database: ForeignDatabase, collection: str, after: int) -> Iterator[Entry]:
    """Yield the entries of a collection whose number is greater than *after*, in their order."""
    sql = (
        "SELECT seq_id, operation, id, metadata, vector IS NOT NULL FROM embeddings_queue "
        "WHERE seq_id > ? AND substr(topic, -36) = ? ORDER BY seq_id"
    )
    for number, operation, key, metadata, has_vector in database.rows(sql, (after, collection)):
        if operation not in (_ADD, _UPDATE, _UPSERT, _DELETE) or type(key) is not str or not key:
            raise InvalidInput(f"{database.path}: entry {number!r:.20} of its log is damaged, or of a newer Chroma")
        yield Entry(number, operation, key, _parsed(metadata, database, number), bool(has_vector))


def last_taken(database: ForeignDatabase, segment: str) -> int | None:
    """Return the number of the last log entry that a segment has; None where the database does not know."""
    for (number,) in database.rows("SELECT seq_id FROM max_seq_id WHERE segment_id = ?", (segment,)):
        # Until 0.6, eight bytes; an integer since.
        found = int.from_bytes(number, "big") if type(number) is bytes and len(number) == 8 else number
        if type(found) is int and 0 <= found < 1 << 63:
            return found
        raise InvalidInput(f"{database.path}: the number of a log entry is {number!r:.40}")
    return None


def apply_to_documents(documents: dict[str, _Metadata], entry: Entry) -> None:
    """Change the documents as an entry of the log says."""
    if entry.operation == _DELETE:
        documents.pop(entry.id, None)
        return
    there = entry.id in documents
    if there == (entry.operation == _ADD) and entry.operation != _UPSERT:
        return  # Chroma ignores an add of what is there, and an update of what is not
    metadata = documents.setdefault(entry.id, {})
    for key, value in (entry.metadata or {}).items():
        if value is None:
            metadata.pop(key, None)
        else:
            metadata[key] = value


def apply_to_vectors(places: dict[str, int], entry: Entry) -> None:
    """Change where the vectors are as an entry of the log says: minus its number stands for its own."""
    if entry.operation == _DELETE:
        places.pop(entry.id, None)
    elif entry.has_vector and (entry.operation == _UPSERT or (entry.id in places) != (entry.operation == _ADD)):
        places[entry.id] = -entry.number


def read_log_vectors(database: ForeignDatabase, numbers: Rows, dimension: int) -> FloatMatrix:
    """Return the vectors of these entries of the log, float32 (len(numbers), dimension)."""
    found = np.empty((len(numbers), dimension), dtype=np.float32)
    sql = "SELECT vector, encoding FROM embeddings_queue WHERE seq_id = ?"
    for place, number in enumerate(numbers.tolist()):
        for content, encoding in database.rows(sql, (number,)):
            kind = _ENCODINGS.get(encoding) if type(encoding) is str else None
            if kind is None or type(content) is not bytes or len(content) != 4 * dimension:
                raise InvalidInput(
                    f"{database.path}: the vector in entry {number} of the log is no {dimension} numbers, in "
                    f"{encoding!r:.20}"
                )
            found[place] = np.frombuffer(content, kind)
    return found


def _parsed(text: Any, database: ForeignDatabase, number: Any) -> _Metadata | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        found = None
    if type(found) is not dict:
        raise InvalidInput(f"{database.path}: the metadata in entry {number!r:.20} of its log is no JSON object")
    return found
