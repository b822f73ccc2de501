"""A disk that loses its power: what was synced is there, of the rest any part, in any order, torn or as zeros.

The model is more hostile than file systems are (after Pillai et al., "All File Systems Are Not Created Equal", OSDI
2014): a name is durable once its directory was synced, content once its file was; what was not may be there or not,
each write for itself. Only the names in one directory come in the order in which they were given.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .recording import Event

SECTOR = 512
MODES = ("lost", "kept", "prefix", "subset", "torn", "zeros")
"""What becomes of the writes since a file's last sync."""


@dataclass
class Write:
    """Bytes at an offset, or, where *data* is None, a new length."""

    at: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        """Do it."""
        end = self.at + len(self.data or b"")
        content.extend(bytes(max(0, end - len(content))))
        if self.data is None:
            del content[self.at :]
        else:
            content[self.at : end] = self.data


@dataclass
class File:
    """Its durable content, what was written since, and what one reads meanwhile."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)

    def write(self, write: Write) -> None:
        """Write, not yet durably."""
        write.apply(self.content)
        self.pending.append(write)

    def sync(self) -> None:
        """Make it durable."""
        self.durable = bytearray(self.content)
        self.pending.clear()

    def survive(self, mode: str, rng: random.Random) -> bytes:
        """Return what may be read after the power was lost."""
        content = bytearray(self.durable)
        for write in _survivors(self.pending, mode, rng):
            write.apply(content)
        return bytes(content)


def _survivors(pending: list[Write], mode: str, rng: random.Random) -> Iterable[Write]:
    if mode == "lost":
        return []
    if mode == "kept" or not pending:
        return pending
    if mode == "subset":
        return rng.sample(pending, rng.randint(0, len(pending)))
    kept = pending[: rng.randint(0, len(pending))]
    if mode == "torn" and kept and kept[-1].data:
        sectors = len(kept[-1].data) // SECTOR
        kept = [*kept[:-1], Write(kept[-1].at, kept[-1].data[: SECTOR * rng.randint(0, sectors)])]
    if mode == "zeros":  # the length was written, the blocks were not
        return [Write(w.at, w.data and bytes(len(w.data))) if rng.random() < 0.3 else w for w in kept]
    return kept


@dataclass
class Directory:
    """Its durable names, and what was done to them since; a pending change is all names that it removes and sets."""

    durable: dict[str, Node] = field(default_factory=dict)
    pending: list[dict[str, Node | None]] = field(default_factory=list)
    names: dict[str, Node] = field(default_factory=dict)

    def change(self, names: dict[str, Node | None]) -> None:
        """Change names, not yet durably."""
        _change(self.names, names)
        self.pending.append(names)

    def sync(self) -> None:
        """Make the names durable."""
        self.durable = dict(self.names)
        self.pending.clear()

    def survive(self, mode: str, rng: random.Random) -> dict[str, Node]:
        """Return the names that may be there after the power was lost."""
        count = {"lost": 0, "kept": len(self.pending)}.get(mode, rng.randint(0, len(self.pending)))
        names = dict(self.durable)
        for change in self.pending[:count]:
            _change(names, change)
        return names


Node = File | Directory


def _change(names: dict[str, Node], change: dict[str, Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """A directory, empty and durable at first, and what is written into it."""

    def __init__(self, root: Path) -> None:
        self._root = PurePosixPath(root)
        self._top = Directory()

    @property
    def pending(self) -> int:
        """How many changes might be lost."""
        return sum(len(node.pending) for node in _nodes(self._top))

    def do(self, event: Event) -> None:
        """Do what an event of a recording did."""
        if event.kind == "rename":
            self._rename(event)
        elif event.kind in ("create", "mkdir", "unlink", "rmdir"):
            self._name(event)
        elif event.kind == "sync":
            self._node(event.path).sync()
        elif event.kind != "note":
            self._file(event.path).write(self._write(event))

    def materialise(self, target: Path, mode: str, rng: random.Random) -> None:
        """Write what may be left of it into *target*, which is made."""
        _materialise(self._top, target, mode, rng)

    def _write(self, event: Event) -> Write:
        if event.kind == "truncate":
            return Write(event.at, None)
        if event.kind == "copy":
            return Write(event.at, bytes(self._file(event.other).content[event.at : event.at + event.count]))
        return Write(event.at, event.data)

    def _name(self, event: Event) -> None:
        parent, name = self._parent(event.path)
        if event.kind == "create" and name not in parent.names:
            parent.change({name: File()})
        elif event.kind == "mkdir":
            parent.change({name: Directory()})
        elif event.kind in ("unlink", "rmdir"):
            parent.change({name: None})

    def _rename(self, event: Event) -> None:
        parent, old = self._parent(event.path)
        other, new = self._parent(event.other)
        node = parent.names[old]
        if parent is other:
            parent.change({old: None, new: node})
        else:  # more hostile than any journal: each directory may be durable without the other
            parent.change({old: None})
            other.change({new: node})

    def _parent(self, path: str) -> tuple[Directory, str]:
        split = PurePosixPath(path)
        node = self._node(str(split.parent))
        assert isinstance(node, Directory)
        return node, split.name

    def _file(self, path: str) -> File:
        node = self._node(path)
        assert isinstance(node, File)
        return node

    def _node(self, path: str) -> Node:
        node: Node = self._top
        for part in PurePosixPath(path).relative_to(self._root).parts:
            assert isinstance(node, Directory)
            node = node.names[part]
        return node


def _nodes(directory: Directory) -> Iterable[Node]:
    yield directory
    for node in directory.names.values():
        yield from _nodes(node) if isinstance(node, Directory) else (node,)


def _materialise(directory: Directory, target: Path, mode: str, rng: random.Random) -> None:
    target.mkdir()
    for name, node in directory.survive(mode, rng).items():
        if isinstance(node, Directory):
            _materialise(node, target / name, mode, rng)
        elif not name.endswith("-shm"):  # SQLite makes it anew when nobody has it open; it is never synced
            (target / name).write_bytes(node.survive(mode, rng))
