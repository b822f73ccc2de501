"""Bound the rows of a Parquet file that are read at once: a few bytes may stand for gigabytes of equal values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput

_EXPANSION = 64  # bytes that one of a compressed column may come to, beside...
_EXPANSION_LEAST = 256 << 20  # ...this many
_AT_ONCE = 256 << 20  # bytes of one column in memory at a time
_MOST_VALUES = 1 << 26  # in one column of a row group
# Encodings that write each value out; RLE is that of the levels. Others name one, or the beginning of one, again.
_WRITTEN_OUT = {"PLAIN", "RLE", "BIT_PACKED"}


def rows_at_once(file: Any, path: Path, columns: Sequence[str], most: int) -> int:
    """Return how many rows may be read at once, from what the file's end says of its columns.

    Args:
        file: ``pyarrow.parquet.ParquetFile``.
        path: of it, for messages.
        columns: that are read, by their names in the schema.
        most: rows, where nothing speaks against it.

    Raises:
        InvalidInput: a column comes to many times the size of what is in the file.
    """
    rows, wanted = most, set(columns)
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            if column.path_in_schema.partition(".")[0] in wanted:
                rows = min(rows, _rows(column, group.num_rows, path))
    return max(1, rows)


def _rows(column: Any, rows: int, path: Path) -> int:
    """Return how many rows of one column come to no more than is held at once."""
    size, packed, values = map(int, (column.total_uncompressed_size, column.total_compressed_size, column.num_values))
    if size > _EXPANSION_LEAST + _EXPANSION * packed or values > _MOST_VALUES:
        raise InvalidInput(
            f"{path}: the column {column.path_in_schema!r:.80} has {values:,} values and comes to {size:,} bytes, of "
            f"{packed:,} in the file; write it with smaller row groups"
        )
    if set(column.encodings) <= _WRITTEN_OUT:
        return _MOST_VALUES  # all of it comes to no more than its size
    each = -(-values // max(1, rows))  # of a list, more than one a row; none is larger than the column
    return max(1, _AT_ONCE // max(1, size * each))
