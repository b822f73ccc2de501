"""EPUB → a part per chapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reperio.ingestion.reading.formats.html import to_part
from reperio.ingestion.reading.formats.packed.archive import Title, opened, resolved
from reperio.ingestion.reading.formats.parts import Part, Unreadable


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part]:
    """Read a book's chapters in the order of its spine."""
    del suffix, encoding
    with opened(path) as archive:
        container = _Package()
        archive.parse("META-INF/container.xml", container)
        if container.root not in archive.names:
            raise Unreadable("holds no book; save it again by the program that made it")
        book = _Package()
        archive.parse(container.root, book)
        for number, key in enumerate(book.spine, start=1):
            name = resolved(container.root, book.members.get(key, ""))
            if name not in archive.names:
                continue
            part = to_part(archive.read(name).decode("utf-8-sig", "replace"))
            yield Part(part.text, title=" ".join(book.title.split()), metadata={"chapter": number})


class _Package(Title):
    """Hears where a book's parts are, in which order, and the title."""

    def __init__(self) -> None:
        super().__init__()
        self.root = ""
        self.members: dict[str, str] = {}
        self.spine: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Note a member, or its place in the order."""
        if name == "rootfile" and not self.root:
            self.root = attributes.get("full-path", "")
        elif name == "item":
            self.members[attributes.get("id", "")] = attributes.get("href", "")
        elif name == "itemref":
            self.spine.append(attributes.get("idref", ""))
        super().start(name, attributes)
