"""PowerPoint presentations (.pptx) → Markdown, by the standard library alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reperio.ingestion.reading.formats.packed.archive import Archive, opened, title_of
from reperio.ingestion.reading.formats.parts import Part, Unreadable
from reperio.ingestion.reading.formats.writer import Writer


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part]:
    """Read a presentation, slide by slide."""
    del suffix, encoding  # of XML, which says itself how it is written
    with opened(path) as archive:
        yield from _slides(archive)


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
            self.writer.begin(name)

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
