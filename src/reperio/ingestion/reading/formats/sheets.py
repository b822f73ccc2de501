"""Spreadsheets (.xlsx, .xls, .ods) → a table per sheet, through calamine."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook

from reperio.ingestion.reading.formats.parts import MOST_CELLS, MOST_UNPACKED, Part, Unreadable, table


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part]:
    """Read a workbook sheet by sheet; the first row that is not empty is the header."""
    del encoding
    if suffix != ".xls":
        _require_size(path)
    try:
        book = CalamineWorkbook.from_path(str(path))
        for name in book.sheet_names:
            sheet = book.get_sheet_by_name(name)
            if sheet.total_height * sheet.total_width > MOST_CELLS:
                raise Unreadable(f"has a sheet {name!r} of more than {MOST_CELLS:,} cells; cut it into smaller files")
            if not sheet.total_height:
                continue
            rows = ([_written(value) for value in row] for row in sheet.iter_rows())
            yield Part(table(row for row in rows if any(row)), headings=[name], metadata={"sheet": name})
    except (CalamineError, ValueError) as error:
        if "password" in str(error).lower():
            raise Unreadable("is protected by a password; save it without one") from error
        raise Unreadable(f"cannot be read ({error!s:.200}); save it again by the program that made it") from error


def _require_size(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(member.file_size for member in packed.infolist())
    except zipfile.BadZipFile as error:
        raise Unreadable(f"is damaged, or not of the kind that its name says ({error}); save it again") from error
    if size > MOST_UNPACKED:
        raise Unreadable(f"unpacks to {size:,} bytes, more than {MOST_UNPACKED:,}; leave it out, or cut it up")


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)
