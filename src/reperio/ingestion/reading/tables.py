"""Tables in text files → items: how the fields are separated is found out, and what is in the columns."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput
from reperio.ingestion.reading.decoding import found_encoding, lines
from reperio.ingestion.reading.items import Item, ReadingOptions, require_header, to_item

DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_LOOKED_AT = 20  # lines, to find the delimiter

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z")  # up to 18 digits, which 64 bits hold; no leading zero
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][+-]?[0-9]+)?\Z")
_MOST_DIGITS = 15  # that a float keeps
_BOOLEANS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


def read_csv(path: Path, options: ReadingOptions, say: Callable[[str], None]) -> Iterator[Item]:
    """Read the rows of a table whose first line is the header.

    A column is of integers, numbers or booleans where all its values are, and each would be written again as it is;
    one with leading zeros, or trailing ones, stays text. An empty field of such a column is null.

    Args:
        path: it is read twice: once for the columns' types.
        options: with the delimiter, if it is known.
        say: called with what was found and is not the usual.

    Raises:
        InvalidInput: with file and line.
    """
    if options.encoding is None and not (found := found_encoding(path)).startswith("utf-8"):
        say(f"it is written in {found.upper()}, by its byte order mark")
    with _long_fields():
        delimiter = options.delimiter or _found_delimiter(path, options)
        if options.delimiter is None and delimiter != ("\t" if ".tsv" in path.name.lower() else ","):
            say(f"its fields are separated by {_NAMES[delimiter]}")
        columns: dict[str, _Column] = {}
        for line, header, row in _rows(path, delimiter, options):
            columns = columns or {name: _Column() for name in header if options.kept(name) and name != options.title}
            for name, value in zip(header, row, strict=True):
                if name in columns:
                    columns[name].add(value)
            del line
        kinds = {name: column.reading() for name, column in columns.items()}
        for line, header, row in _rows(path, delimiter, options):
            values: dict[str, Any] = dict(zip(header, row, strict=True))
            for name, reading in kinds.items():
                if reading is not None:
                    values[name] = reading(values[name]) if values[name] else None
            yield to_item(values, f"{path}:{line}", options)


def _rows(path: Path, delimiter: str, options: ReadingOptions) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield the line, the header and the fields of each row."""
    # strict: a quote that is never closed would otherwise swallow the rest of the file into one field.
    rows = csv.reader(lines(path, options.encoding), strict=True, delimiter=delimiter)
    header: list[str] | None = None
    line = 1  # where the row begins that is read next: the reader counts the line where one ends
    try:
        for row in rows:
            if header is None:
                header = row
                require_header(header, f"{path}:1", options)
            elif row:  # else a blank line
                if len(row) != len(header):
                    raise InvalidInput(
                        f"{path}:{line}: {len(row)} fields, the header has {len(header)}; put quotes around fields "
                        f"with {_NAMES.get(delimiter, repr(delimiter))}, quotes or line breaks, or name another "
                        "delimiter (--delimiter)"
                    )
                yield line, header, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise InvalidInput(
            f"{path}:{line}: no valid CSV ({error}) of {_NAMES.get(delimiter, repr(delimiter))}; "
            "double the quotes within quotes, or name another delimiter (--delimiter)"
        ) from None


def _found_delimiter(path: Path, options: ReadingOptions) -> str:
    """Find the delimiter: the one by which the header has the wanted fields, else the one of the most equal rows."""
    source = lines(path, options.encoding)
    start = list(islice(source, _LOOKED_AT))
    source.close()  # type: ignore[attr-defined]  # of a generator
    first = ["\t", *DELIMITERS] if ".tsv" in path.name.lower() else list(DELIMITERS)
    wanted = {options.text, *(options.columns or ())}
    best, most = first[0], 0
    for delimiter in first:
        widths = _widths(start, delimiter)
        if widths is None:
            continue
        header = next(csv.reader(start, delimiter=delimiter), [])
        if len(header) > 1 and wanted <= set(header):
            return delimiter
        if widths > most:
            best, most = delimiter, widths
    return best


def _widths(start: Sequence[str], delimiter: str) -> int | None:
    """Return how many fields the first rows have, if all have the same number; else 1. None where they are no CSV."""
    try:
        rows = [row for row in csv.reader(start, delimiter=delimiter) if row]
    except csv.Error:
        return None
    widths = {len(row) for row in rows[:-1] or rows}  # the last one may be cut
    return widths.pop() if len(widths) == 1 else 1


class _Column:
    """What the values of a column have in common, value by value."""

    def __init__(self) -> None:
        self._kinds = {"integer", "number", "boolean"}
        self._filled = False

    def add(self, value: str) -> None:
        """Look at a value; an empty one says nothing."""
        if not value or not self._kinds:
            return
        self._filled = True
        if value not in _BOOLEANS:
            self._kinds.discard("boolean")
        if _INTEGER.match(value) is not None and value != "-0":
            return
        self._kinds.discard("integer")
        if _NUMBER.match(value) is None or sum(map(str.isdigit, value)) > _MOST_DIGITS:
            self._kinds.discard("number")
            return
        # 1.10 is a version as likely as a number, and a float would be written as 1.1.
        if repr(float(value)) != value:
            self._kinds.discard("number")

    def reading(self) -> Callable[[str], Any] | None:
        """Return what turns a field into its value; None for text."""
        if not self._filled:
            return None
        if "integer" in self._kinds:
            return int
        if "boolean" in self._kinds:
            return _BOOLEANS.__getitem__
        if "number" in self._kinds:
            return float
        return None


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a field be of any length: the csv module's limit, for the whole process, is 128 KiB."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
