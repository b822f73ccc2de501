"""Word, PowerPoint and OpenDocument texts → Markdown, by the standard library alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reperio.ingestion.reading.formats.packed.archive import Archive, opened, title_of
from reperio.ingestion.reading.formats.parts import Part, Unreadable
from reperio.ingestion.reading.formats.writer import Writer


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part]:
    """Read a document."""
    del encoding  # of XML, which says itself how it is written
    with opened(path) as archive:
        if suffix == ".pptx":
            yield from _slides(archive)
            return
        reader, title = (_word, "docProps/core.xml") if suffix == ".docx" else (_open_text, "meta.xml")
        yield Part(reader(archive), title=title_of(archive, title))


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
            _begin_table(self.writer, name)

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


def _begin_table(writer: Writer, name: str) -> None:
    """Begin a table, a row or a cell of Office's formats."""
    if name == "tbl":
        writer.open_table()
    elif name == "tr":
        writer.row()
    elif name == "tc":
        writer.cell()


def _slides(archive: Archive) -> Iterator[Part]:
    title = title_of(archive, "docProps/core.xml")
    main = "ppt/presentation.xml"
    if main not in archive.names:
        raise Unreadable("holds no presentation; save it again as .pptx")
    order = _Order()
    archive.parse(main, order)
    relations = archive.relations(main)
    names = [relations[key][1] for key in order.ids if key in relations]
    for number, name in enumerate(names, start=1):
        slide = _Slide()
        archive.parse(name, slide)
        notes = [target for kind, target in archive.relations(name).values() if kind == "notesSlide"]
        for target in notes:
            said = _Slide(notes=True)
            archive.parse(target, said)
            if said.writer.blocks:
                slide.writer.blocks += ["Notes:", *said.writer.blocks]
        yield Part(slide.markdown(), title=title, metadata={"page": number})


class _Order:
    """Hears the order of slides."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Note a slide; of its two ids, the one with a namespace counts."""
        if name == "sldId":
            self.ids.append(attributes.get("id", ""))

    def end(self, name: str) -> None:
        """Nothing follows."""

    def text(self, data: str) -> None:
        """Nothing is said."""


class _Slide:
    """Hears one slide, or its notes."""

    def __init__(self, *, notes: bool = False) -> None:
        self.writer = Writer()
        self._notes = notes
        self._titles: list[str] = []
        self._kind = "body"
        self._line: list[str] = []
        self._taken = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Hear of shapes, paragraphs and tables."""
        if name == "sp":
            self._kind = "other" if self._notes else "body"
        elif name == "ph":
            self._kind = attributes.get("type", "body")
        elif name == "p":
            self._line = []
        elif name == "t":
            self._taken = True
        elif name == "br":
            self._line.append("\n")
        else:
            _begin_table(self.writer, name)

    def end(self, name: str) -> None:
        """Hand over what has ended."""
        if name == "t":
            self._taken = False
        elif name == "p":
            line = "".join(self._line).strip()
            if self._kind in ("title", "ctrTitle"):
                self._titles.append(line)
            elif self._kind not in ("sldNum", "dt", "ftr", "hdr", "other"):
                self.writer.add(line)
            self._line = []
        elif name == "tbl":
            self.writer.close_table()

    def text(self, data: str) -> None:
        """Take what is written."""
        if self._taken:
            self._line.append(data)

    def markdown(self) -> str:
        """Return the slide: its title first, wherever it was in the file."""
        title = " ".join(part for part in self._titles if part)
        if title:
            self.writer.blocks.insert(0, f"# {' '.join(title.split())}")
        return self.writer.text()


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
