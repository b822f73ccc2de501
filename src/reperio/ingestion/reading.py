"""Files → items. Text is UTF-8, with or without a byte order mark; nothing is guessed and nothing replaced."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput
from reperio.ingestion.finding import SourceFile
from reperio.ingestion.items import Fields, Item, require_header, to_item
from reperio.ingestion.parquet import read_parquet
from reperio.layout import open_regular, reason


def read(file: SourceFile, fields: Fields) -> Iterator[Item]:
    """Read a file's items one after the other; only .txt and .md, one item each, are held whole.

    Args:
        file: a ``.csv`` gives strings, its first line is the header; ``.jsonl`` has one object per line.
        fields: which fields of .jsonl, .csv and .parquet are text and id; the others become metadata.

    Raises:
        InvalidInput: with file and line (for bytes that are no UTF-8: the offset).
        MissingDependency: a .parquet without pyarrow.
    """
    read_one = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": read_parquet}.get(file.suffix)
    try:
        if read_one is None:
            with open(open_regular(file.path, follow=True), "rb") as opened:
                text = _decode(opened.read(), file.path)
            yield Item(str(file.path), text, None, {})
        else:
            yield from read_one(file.path, fields)
    except OSError as error:
        # pyarrow's errors have no strerror
        raise InvalidInput(f"{file.path} cannot be read: {reason(error)}") from error


def _read_jsonl(path: Path, fields: Fields) -> Iterator[Item]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            values = json.loads(line, object_pairs_hook=_to_object, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{place}: no valid JSON ({error}); every line is one JSON object") from None
        if not isinstance(values, dict):
            raise InvalidInput(f"{place}: a JSON {type(values).__name__}; every line must be an object, {{…}}")
        yield to_item(values, place, fields)


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {twice!r:.80} occurs twice in one object")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON; use null")


def _read_csv(path: Path, fields: Fields) -> Iterator[Item]:
    # strict: a quote that is never closed would otherwise swallow the rest of the file into one field.
    rows = csv.reader(_lines(path), strict=True)
    header: list[str] | None = None
    line = 1  # where the row begins that is read next: the reader counts the line where one ends
    with _long_fields():
        try:
            for row in rows:
                if header is None:
                    header = row
                    require_header(header, f"{path}:1", fields)
                elif row:  # else a blank line
                    if len(row) != len(header):
                        raise InvalidInput(
                            f"{path}:{line}: {len(row)} fields, the header has {len(header)}; put quotes around fields "
                            "with commas, quotes or line breaks"
                        )
                    yield to_item(dict(zip(header, row, strict=True)), f"{path}:{line}", fields)
                line = rows.line_num + 1
        except csv.Error as error:
            raise InvalidInput(
                f"{path}:{line}: no valid CSV ({error}); separate fields by commas, and double the quotes within quotes"
            ) from None


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a field be of any length: the csv module's limit, for the whole process, is 128 KiB."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines, decoded one by one so that a bad byte can be told by its offset."""
    offset = 0
    with open(open_regular(path, follow=True), "rb") as file:
        for line in file:
            yield _decode(line, path, offset)
            offset += len(line)


def _decode(content: bytes, path: Path, offset: int = 0) -> str:
    """Decode what stands at *offset*; a byte order mark at the beginning of the file is no text."""
    try:
        return content.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        # Offsets are the file's: the codec that drops the mark counts from behind it.
        at = offset + error.start + (len(content) - len(error.object))
        raise InvalidInput(
            f"{path}: byte 0x{error.object[error.start]:02x} at offset {at} is no UTF-8; convert the file, e.g.: "
            "iconv -f WINDOWS-1252 -t UTF-8"
        ) from None
