"""Word documents (.docx) → Markdown, by the standard library alone."""

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
        yield Part(_word(archive), title=title_of(archive, "docProps/core.xml"))


def _word(archive: Archive) -> str:
    main = next((name for kind, name in archive.relations("").values() if kind == "officeDocument"), "")
    main = main if main in archive.names else "word/document.xml"
    if main not in archive.names:
        raise Unreadable("holds no Word document; save it again as .docx")
    related = dict(archive.relations(main).values())
    styles = _Styles()
    archive.parse(related.get("styles", "word/styles.xml"), styles)
    words = _Word(styles.depths())
    archive.parse(main, words)
    for notes in ("footnotes", "endnotes"):
        archive.parse(related.get(notes, f"word/{notes}.xml"), words)
    return words.writer.text()


class _Styles:
    """Hears which paragraph styles are headings: by their name, which is English in any language, or their level."""

    def __init__(self) -> None:
        self._own: dict[str, int] = {}
        self._based: dict[str, str] = {}
        self._style = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Note a style's name, its level and what it is based on."""
        value = attributes.get("val", "")
        if name == "style":
            self._style = attributes.get("styleId", "")
        elif name == "name" and self._style:
            lowered = value.lower()
            if lowered == "title":
                self._own[self._style] = 1
            elif lowered.startswith("heading ") and lowered[8:].isdecimal():
                self._own[self._style] = int(lowered[8:])
        elif name == "outlineLvl" and value.isdecimal() and int(value) < 9:
            self._own.setdefault(self._style, int(value) + 1)
        elif name == "basedOn":
            self._based[self._style] = value

    def end(self, name: str) -> None:
        """Wait for the next style."""

    def text(self, data: str) -> None:
        """Styles have no text."""

    def depths(self) -> dict[str, int]:
        """Return the depth of each style that is a heading."""
        found = dict(self._own)
        for style in self._based:
            at, seen = style, 0
            while at not in self._own and at in self._based and seen < 20:
                at, seen = self._based[at], seen + 1
            if at in self._own:
                found[style] = self._own[at]
        return found


_BREAKS = {"br": "\n", "cr": "\n", "tab": "\t", "noBreakHyphen": "-"}


class _Word:
    """Hears the body of a Word document."""

    def __init__(self, depths: dict[str, int]) -> None:
        self.writer = Writer()
        self._depths = depths
        self._open: list[list[str]] = []  # the paragraphs that are open: a text box is within one
        self._depth, self._item = 0, False
        self._taken = False  # whether text is of the document
        self._left_out = 0  # how deep within what is there twice

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Hear of paragraphs, their styles, and tables."""
        if name == "Fallback" or self._left_out:
            self._left_out += 1
        elif name == "p":
            self._open.append([])
            self._depth, self._item = 0, False
        elif name == "t":
            self._taken = True
        elif name == "pStyle":
            self._depth = self._depths.get(attributes.get("val", ""), 0)
        elif name == "outlineLvl" and attributes.get("val", "9").isdecimal():
            level = int(attributes.get("val", "9"))
            self._depth = self._depth or (level + 1 if level < 9 else 0)
        elif name == "numPr":
            self._item = True
        elif name in _BREAKS and self._open and self._open[-1]:
            self._open[-1].append(_BREAKS[name])
        else:
            self.writer.begin(name)

    def end(self, name: str) -> None:
        """Hand over what has ended."""
        if self._left_out:
            self._left_out -= 1
        elif name == "t":
            self._taken = False
        elif name == "p" and self._open:
            self.writer.add("".join(self._open.pop()), depth=self._depth, item=self._item)
            self._depth, self._item = 0, False
        elif name == "tbl":
            self.writer.close_table()

    def text(self, data: str) -> None:
        """Take what is written."""
        if self._taken and not self._left_out and self._open:
            self._open[-1].append(data)
