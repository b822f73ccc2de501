"""PDF → the text of each page, through PDFium."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pypdfium2

from reperio.ingestion.reading.formats.parts import Part, Unreadable

_MOST_HEADINGS = 10_000


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part | str]:
    """Read a document page by page; the outline gives the headings that a page is under."""
    del suffix, encoding
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise Unreadable("is protected by a password; save it without one") from None
        raise Unreadable(f"is no PDF that can be read ({error}); save it again by the program that made it") from None
    try:
        title = " ".join(document.get_metadata_value("Title").split())
        outline = _outline(document)
        empty = 0
        for number in range(len(document)):
            text = _text(document, number)
            empty += not text.strip()
            yield Part(text, title=title, headings=_above(outline, number, text), metadata={"page": number + 1})
        if empty:
            yield (
                f"has no text on {empty} of its {len(document)} pages; pictures of text need a program that recognises "
                "it (OCR), such as ocrmypdf"
            )
    finally:
        document.close()


def _text(document: Any, number: int) -> str:
    try:
        page = document[number]
    except pypdfium2.PdfiumError as error:
        raise Unreadable(f"has a page {number + 1} that cannot be read ({error}); save it again") from None
    try:
        words = page.get_textpage()
        try:
            found: str = words.get_text_range()
        finally:
            words.close()
    finally:
        page.close()
    # A hyphen at the end of a line, which PDFium marks, joins the parts of a word.
    return found.replace("\ufffe\r\n", "").replace("\ufffe", "").replace("\r\n", "\n").replace("\0", "")


def _outline(document: Any) -> list[tuple[int, int, str]]:
    """Return the outline as (page, depth, heading)."""
    found = []
    for entry in islice(document.get_toc(max_depth=6), _MOST_HEADINGS):
        target = entry.get_dest()
        page = None if target is None else target.get_index()
        title = " ".join((entry.get_title() or "").split())
        if page is not None and title:
            found.append((page, entry.level, title[:200]))
    return found


def _above(outline: list[tuple[int, int, str]], number: int, text: str) -> tuple[str, ...]:
    """Return the headings that a page begins under; one that stands at its top counts."""
    path: list[tuple[int, str]] = []
    top = " ".join(text[:400].split())
    for page, depth, title in outline:
        if page > number or (page == number and title not in top[: len(title) + 80]):
            break
        path = [one for one in path if one[0] < depth]
        path.append((depth, title))
    return tuple(title for _, title in path)
