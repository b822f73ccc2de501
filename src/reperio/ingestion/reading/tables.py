"""Tables in text files → items: how the fields are separated is found out, and what is in the columns."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput
from reperio.ingestion.reading.columns import Column, reading_of, told
from reperio.ingestion.reading.decoding import found_encoding, lines
from reperio.ingestion.reading.items import Item, ReadingOptions, require_header, to_item

DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_LOOKED_AT = 20  # lines, to find the delimiter


def read_csv(path: Path, options: ReadingOptions, say: Callable[[str], None]) -> Iterator[Item]:
    """Read the rows of a table whose first line is the header.

    A column is of numbers or booleans where all its values are, see `Column`. An empty field of such a column is null.

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
        kinds = _kinds(path, delimiter, options)
        if sentence := told(kinds):
            say(sentence)
        readings = {name: reading for name, (kind, _) in kinds.items() if (reading := reading_of(kind)) is not None}
        for line, header, row in _rows(path, delimiter, options):
            values: dict[str, Any] = dict(zip(header, row, strict=True))
            for name, reading in readings.items():
                try:
                    values[name] = reading(values[name]) if values[name] else None
                except ValueError:
                    raise InvalidInput(
                        f"{path}:{line}: {name!r} is {values[name]!r:.80}, no {kinds[name][0]}; mend it, or name "
                        "another type with types= (--column-types)"
                    ) from None
            yield to_item(values, f"{path}:{line}", options)


def _kinds(path: Path, delimiter: str, options: ReadingOptions) -> dict[str, tuple[str, str]]:
    """Return what each column that is kept holds: as the options say, else by all of its values."""
    columns: dict[str, Column] = {}
    for line, header, row in _rows(path, delimiter, options):
        if not columns:
            for name in options.types:
                if name not in header:
                    raise InvalidInput(
                        f"{path}:1: no field {name!r}, which types (--column-types) names; there are: "
                        f"{', '.join(map(repr, header))}"
                    )
            columns = {name: Column(name) for name in header if options.kept(name) and name != options.title}
        for name, value in zip(header, row, strict=True):
            if name in columns:
                columns[name].add(value)
        del line
    found = {name: column.found() for name, column in columns.items()}
    return {**found, **{name: (kind, "") for name, kind in options.types.items() if found}}


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


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a field be of any length: the csv module's limit, for the whole process, is 128 KiB."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
