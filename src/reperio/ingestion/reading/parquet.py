"""Parquet files → items, in batches, through pyarrow."""

from __future__ import annotations

import datetime
import decimal
import math
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput
from reperio.ingestion.reading.items import Item, ReadingOptions, require_header, to_item
from reperio.optional import OptionalImport
from reperio.parquet_limits import rows_at_once

_ROWS = 1024  # held in memory at a time
_BYTES = ("binary", "large_binary", "fixed_size_binary")


_INDEX = re.compile(r"__index_level_\d+__\Z")  # pandas writes the numbers of its rows there


def read_parquet(path: Path, options: ReadingOptions, say: Callable[[str], None] | None = None) -> Iterator[Item]:
    """Read the rows of a Parquet file.

    Dates and times become ISO 8601 strings, decimals, durations and UUIDs strings, maps lists of pairs. Columns of
    bytes, and the index of a data frame, are left out; bytes elsewhere, NaN and infinities are refused: JSON has
    nothing for them.

    Args:
        path: of the file.
        options: which columns are text and id, and which are kept.
        say: called with what is left out.

    Raises:
        InvalidInput: with file and row, counted from 1.
        MissingDependency: pyarrow is not installed.
    """
    with OptionalImport(str(path), "pyarrow", extra="ingest"):
        import pyarrow
        from pyarrow.parquet import ParquetFile
    number = 0
    try:
        with ParquetFile(path) as file:  # its footer is read here, its rows batch by batch
            require_header(list(file.schema_arrow.names), str(path), options)
            names = _read_columns(pyarrow, file.schema_arrow, options, say)
            some = names if len(names) < len(file.schema_arrow.names) else None
            for batch in file.iter_batches(batch_size=rows_at_once(file, path, names, _ROWS), columns=some):
                for row in batch.to_pylist():
                    number += 1
                    place = f"{path}:{number}"
                    yield to_item({key: to_plain(value, key, place) for key, value in row.items()}, place, options)
    except InvalidInput:
        raise
    except (pyarrow.ArrowException, ValueError) as error:
        # ValueError: nanoseconds, for which Python has no type; with pandas installed there is one.
        after = f" after row {number}" if number else ""
        raise InvalidInput(
            f"{path} cannot be read{after}: {error}. Write the file again, with times in microseconds if that is it"
        ) from error


def _read_columns(pyarrow: Any, schema: Any, options: ReadingOptions, say: Callable[[str], None] | None) -> list[str]:
    """Return the columns that are read."""
    names, bare = [], []
    for field in schema:
        if field.name in (options.text, options.id, options.title):
            names.append(field.name)
        elif not options.kept(field.name) or _INDEX.match(field.name):
            continue
        elif any(getattr(pyarrow.types, f"is_{kind}")(field.type) for kind in _BYTES):
            bare.append(field.name)
        else:
            names.append(field.name)
    if bare and say is not None:
        say(f"columns of bytes are left out: {', '.join(repr(name) for name in bare)}")
    return names


def to_plain(value: Any, column: str, place: str) -> Any:
    """Turn a value of a table into what JSON can keep, or refuse it by its column and place."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(f"{place}: {column!r} is {value}, which JSON cannot keep; use null or leave it out")
        return value
    if isinstance(value, (datetime.date, datetime.time)):  # a datetime is a date as well
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, datetime.timedelta, uuid.UUID)):
        return str(value)
    if isinstance(value, bytes):
        raise InvalidInput(
            f"{place}: {column!r} holds bytes, which JSON cannot keep; leave the column out, or decode it"
        )
    if isinstance(value, dict):
        return {key: to_plain(item, column, place) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, column, place) for item in value]
    return value
