"""Packed documents (ZIP with XML in it), within bounds: what is unpacked is counted, and a DTD is refused."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote
from xml.parsers import expat

from reperio.ingestion.reading.formats.parts import MOST_UNPACKED, Unreadable

_MOST_MEMBERS = 50_000
_DEEPEST = 1_000  # elements within elements
_BLOCK = 1 << 16
_TOO_MUCH = f"unpacks to more than {MOST_UNPACKED:,} bytes; leave it out, or cut it into smaller files"


class Handler(Protocol):
    """Hears of elements by their local names."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Hear that an element begins."""

    def end(self, name: str) -> None:
        """Hear that an element ends."""

    def text(self, data: str) -> None:
        """Hear of text within."""


class Archive:
    """The members of a packed document.

    Args:
        file: an open ZIP file.
    """

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self._left = MOST_UNPACKED
        if len(file.namelist()) > _MOST_MEMBERS:
            raise Unreadable(f"has more than {_MOST_MEMBERS:,} members; leave it out")
        if sum(member.file_size for member in file.infolist()) > MOST_UNPACKED:  # what it says of itself
            raise Unreadable(_TOO_MUCH)
        self.names = frozenset(file.namelist())

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield a member's bytes; raise `Unreadable` when all that was read comes to too much."""
        try:
            with self._file.open(name) as member:
                while block := member.read(_BLOCK):
                    self._left -= len(block)
                    if self._left < 0:
                        raise Unreadable(_TOO_MUCH)
                    yield block
        except RuntimeError as error:  # what zipfile says of a password
            raise Unreadable("is protected by a password; save it without one") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError) as error:
            raise Unreadable(f"is damaged ({error}); save it again by the program that made it") from error

    def read(self, name: str) -> bytes:
        """Read a member."""
        return b"".join(self.blocks(name))

    def parse(self, name: str, handler: Handler) -> None:
        """Have a handler hear of a member's XML; a member that is not there says nothing."""
        if name in self.names:
            parse(self.blocks(name), handler, name)

    def relations(self, name: str) -> dict[str, tuple[str, str]]:
        """Return what a part of an Office document refers to: by id, its kind and its name in the archive."""
        folder, base = posixpath.split(name)
        found = _Relations()
        self.parse(posixpath.join(folder, "_rels", f"{base}.rels"), found)
        return {key: (kind, resolved(name, target)) for key, (kind, target) in found.targets.items()}


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open a packed document."""
    try:
        with zipfile.ZipFile(path) as file:
            yield Archive(file)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise Unreadable(f"is damaged, or not of the kind that its name says ({error}); save it again") from error


def resolved(name: str, target: str) -> str:
    """Return the name of a member that another one refers to."""
    target = unquote(target.partition("#")[0])
    if target.startswith("/"):
        return target[1:]
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def parse(blocks: Iterator[bytes], handler: Handler, name: str) -> None:
    """Parse XML as a stream. Entities cannot be declared, so none can grow."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    depth = 0

    def start(full: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise Unreadable(f"has elements nested deeper than {_DEEPEST}; leave it out")
        bare = {key: value for key, value in attributes.items() if " " not in key}
        handler.start(_local(full), bare | {_local(key): attributes[key] for key in attributes.keys() - bare.keys()})

    def end(full: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(_local(full))

    def refuse(*_: object) -> None:
        raise Unreadable("declares entities, which its format forbids; save it again by the program that made it")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = handler.text
    parser.EntityDeclHandler = refuse
    try:
        for block in blocks:
            parser.Parse(block, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Unreadable(f"is damaged ({name}: {error}); save it again by the program that made it") from error


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


class _Relations:
    def __init__(self) -> None:
        self.targets: dict[str, tuple[str, str]] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Note a target within the archive."""
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            kind = attributes.get("Type", "").rpartition("/")[2]
            self.targets[attributes.get("Id", "")] = (kind, attributes.get("Target", ""))

    def end(self, name: str) -> None:
        """Nothing follows."""

    def text(self, data: str) -> None:
        """Nothing is said."""


class Title:
    """Hears the title in a document's properties."""

    def __init__(self) -> None:
        self.title, self._inside = "", False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin to listen."""
        del attributes
        self._inside = name == "title" and not self.title

    def end(self, name: str) -> None:
        """Cease to listen."""
        del name
        self._inside = False

    def text(self, data: str) -> None:
        """Take the title."""
        if self._inside and len(self.title) < 500:
            self.title += data


def title_of(archive: Archive, name: str) -> str:
    """Return the title in the properties of a document."""
    found = Title()
    archive.parse(name, found)
    return " ".join(found.title.split())
