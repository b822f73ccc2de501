"""What the readers of documents pass on, and the bounds that they share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_UNPACKED = 1 << 28
"""Bytes that the parts of a packed document may come to: 256 MiB."""

MOST_TEXT = 1 << 26
"""Characters of the text of one document: 64 Mi."""

MOST_CELLS = 5_000_000
"""Cells of a spreadsheet."""


HEARD = b"heard\n"
"""What the process that reads documents says as soon as it has a request."""


class Unreadable(Exception):
    """A document that cannot be read; the message goes on after the file's name, and ends with a cure."""


@dataclass(slots=True)
class Part:
    """A document, or a page, a slide, a sheet or a chapter of it."""

    text: str  # Markdown
    title: str = ""  # of the document
    headings: Sequence[str] = ()  # that the whole part is under
    metadata: dict[str, Any] = field(default_factory=dict)


def heading(depth: int, text: str) -> str:
    """Write a heading on a line of its own."""
    bare = " ".join(text.split())
    return f"{'#' * min(6, max(1, depth))} {bare}" if bare else ""


def table(rows: Iterable[Sequence[str]]) -> str:
    """Write a table whose first row is the header."""
    lines: list[str] = []
    width = 0
    for row in rows:
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        if not lines:
            width = len(cells)
        cells += [""] * (width - len(cells))
        lines.append(f"| {' | '.join(cells)} |")
        if len(lines) == 1:
            lines.append(f"|{' --- |' * width}")
    return "\n".join(lines) if width else ""


_SPECIAL = re.compile(r"^(\s{0,3})(#{1,6}(?=\s)|[=-]+\s*$|```|~~~)", re.MULTILINE)


def plain(text: str) -> str:
    """Keep text that is no Markdown from being taken for a heading or a fence."""
    return _SPECIAL.sub(r"\1\\\2", text)
