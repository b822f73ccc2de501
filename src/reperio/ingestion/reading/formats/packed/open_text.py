"""OpenDocument texts (.odt) → Markdown, by the standard library alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reperio.ingestion.reading.formats.packed.archive import Archive, opened, title_of
from reperio.ingestion.reading.formats.parts import Part, Unreadable
from reperio.ingestion.reading.formats.writer import Writer


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part]:
    """Read a document."""
    del suffix, encoding  # of XML, which says itself how it is written
    with opened(path) as archive:
        yield Part(_open_text(archive), title=title_of(archive, "meta.xml"))


def _open_text(archive: Archive) -> str:
    if "content.xml" not in archive.names:
        raise Unreadable("holds no OpenDocument text; save it again as .odt")
    heard = _OpenText()
    archive.parse("content.xml", heard)
    return heard.writer.text()


class _OpenText:
    """Hears the content of an OpenDocument text."""

    _LEFT_OUT = frozenset(("annotation", "tracked-changes", "styles", "automatic-styles", "font-face-decls", "scripts"))

    def __init__(self) -> None:
        self.writer = Writer()
        self._line: list[str] = []
        self._within = 0  # paragraphs that are open: a footnote is within one
        self._depth, self._items, self._left_out, self._repeated = 0, 0, 0, 1

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Hear of paragraphs, headings, lists and tables."""
        if self._left_out or name in self._LEFT_OUT:
            self._left_out += 1
        elif name in ("p", "h"):
            self._within += 1
            level = attributes.get("outline-level", "1")
            self._depth = (int(level) if level.isdecimal() else 1) if name == "h" else 0
        elif name == "s":
            count = attributes.get("c", "1")
            self._line.append(" " * min(int(count) if count.isdecimal() else 1, 100))
        elif name in ("tab", "line-break"):
            self._line.append("\t" if name == "tab" else "\n")
        elif name == "note-body":
            self._line.append(" (")
        elif name == "list-item":
            self._items += 1
        elif name == "table":
            self.writer.open_table()
        elif name == "table-row":
            self.writer.row()
        elif name == "table-cell":
            self.writer.cell()
            repeated = attributes.get("number-columns-repeated", "1")
            self._repeated = int(repeated) if repeated.isdecimal() else 1

    def end(self, name: str) -> None:
        """Hand over what has ended."""
        if self._left_out:
            self._left_out -= 1
        elif name in ("p", "h"):
            self._within -= 1
            if not self._within:
                self.writer.add("".join(self._line), depth=self._depth, item=self._items > 0)
                self._line = []
        elif name == "note-body":
            self._line.append(") ")
        elif name == "list-item":
            self._items -= 1
        elif name == "table":
            self.writer.close_table()
        elif name == "table-cell" and self._repeated > 1:
            self.writer.repeat(self._repeated)

    def text(self, data: str) -> None:
        """Take what is written."""
        if self._within and not self._left_out:
            self._line.append(data)
