"""What a scripted life wrote, call by call with the bytes, as strace saw it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.crash.calls import strace
from tests.crash.plan import scripted_operations
from tests.crash.processes import Run

_CALLS = (
    "open,openat,creat,close,lseek,write,pwrite64,writev,pwritev,ftruncate,fallocate,sendfile,copy_file_range,rename,"
    "renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,fsync,fdatasync,sync_file_range,msync"
)
# What Reperio does not do; were it to begin, the model would have to learn it first.
_UNKNOWN = {
    *("writev", "pwritev", "fallocate", "copy_file_range", "sync_file_range", "msync"),
    *("link", "linkat", "symlink"),
}


class Event(NamedTuple):
    """One change of a file or directory, or the wish that it be durable.

    Attributes:
        kind: create, write, copy, truncate, rename, unlink, mkdir, rmdir, sync, or note: a line of the journal.
        path: of what is changed.
        other: of a rename, the new path; of a copy, the file that is copied.
        at: offset of a write or copy, length of a truncation.
        data: written.
        count: bytes copied.
    """

    kind: str
    path: str
    other: str = ""
    at: int = 0
    data: bytes = b""
    count: int = 0


def record(directory: Path) -> list[Event]:
    """Live the scripted life in *directory* and return what it did there, in order."""
    directory.mkdir()
    run = Run(directory, "scripted", stop=len(scripted_operations()))
    trace = directory.with_name(f"{directory.name}.trace")
    command = [*strace(trace, _CALLS, "-xx", "-s", str(1 << 24))]
    assert run.start(*command).wait() == 0, run.stderr()
    return list(parse(trace.read_text().splitlines(), directory, run.journal))


def parse(lines: list[str], directory: Path, journal: Path) -> Iterator[Event]:
    """Yield what the lines of a trace did below *directory*."""
    reading, writers = _Reading(str(directory), str(journal)), set()
    for thread, line in _whole(lines):
        found = re.match(r"(\w+)\((.*)\) += (-?\w+)", line)
        if found is not None and not found[3].startswith("-"):
            for event in reading.event(found[1], _arguments(found[2]), int(found[3], 0)):
                writers.add(thread)
                yield event
    assert len(writers) == 1, "several threads write; their order is not known"


def _whole(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield thread and call; one that something else was told amid of comes where it ended."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>").rstrip()
        elif resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", call):
            yield thread, begun.pop(thread) + resumed[1]
        else:
            yield thread, call


def _arguments(text: str) -> list[str]:
    """Split at the commas outside quotes; with -xx nothing inside quotes or angle brackets holds one."""
    return [part.strip() for part in text.split(",")]


def _decoded(text: str) -> bytes:
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode())


def _string(argument: str) -> bytes:
    quoted = re.fullmatch(r'"(.*)"', argument)
    assert quoted is not None, f"{argument[:80]} was cut short"
    return _decoded(quoted[1])


class _Reading:
    """Follows descriptors: their offsets, and which paths they stand for."""

    def __init__(self, directory: str, journal: str) -> None:
        self._directory = directory
        self._journal = journal
        self._offsets: dict[int, int] = {}

    def event(self, call: str, arguments: list[str], result: int) -> Iterator[Event]:
        """Yield the event that a call was, if it was one."""
        if call in ("open", "openat", "creat"):
            yield from self._opened(arguments, result)
        elif call in ("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"):
            yield from self._named(call, arguments)
        else:
            descriptor, path = self._file(arguments[0])
            if path is not None:
                yield from self._filed(call, descriptor, path, arguments, result)

    def _opened(self, arguments: list[str], result: int) -> Iterator[Event]:
        self._offsets[result] = 0
        path, flags = self._path(arguments), " ".join(arguments)
        if self._inside(path) and "O_CREAT" in flags and path != self._journal:
            yield Event("create", path)
        if self._inside(path) and "O_TRUNC" in flags:
            yield Event("truncate", path)

    def _named(self, call: str, arguments: list[str]) -> Iterator[Event]:
        path = self._path(arguments)
        if not self._inside(path):
            return
        if call.startswith("rename"):
            yield Event("rename", path, self._path(arguments[1:] if call == "rename" else arguments[2:]))
        elif call == "rmdir" or "AT_REMOVEDIR" in arguments:
            yield Event("rmdir", path)
        else:
            yield Event("mkdir" if call.startswith("mkdir") else "unlink", path)

    def _filed(self, call: str, descriptor: int, path: str, arguments: list[str], result: int) -> Iterator[Event]:
        assert call not in _UNKNOWN, f"{call} on {path}"
        at = self._offsets.get(descriptor, 0)
        if call == "lseek":
            self._offsets[descriptor] = result
        elif call == "write":
            self._offsets[descriptor] = at + result
            data = _string(arguments[1])[:result]
            yield Event("note", data.decode()) if path == self._journal else Event("write", path, at=at, data=data)
        elif call == "pwrite64":
            yield Event("write", path, at=int(arguments[3]), data=_string(arguments[1])[:result])
        elif call == "sendfile":
            _, source = self._file(arguments[1])
            self._offsets[descriptor] = at + result
            yield Event("copy", path, source or "", at=at, count=result)
        elif call == "ftruncate":
            yield Event("truncate", path, at=int(arguments[1]))
        elif call in ("fsync", "fdatasync"):
            yield Event("sync", path)

    def _file(self, argument: str) -> tuple[int, str | None]:
        """Return the descriptor, and its path where that is inside and still has a name."""
        found = re.fullmatch(r"(-?\d+)<(.*)>(\(deleted\))?", argument)
        if found is None:
            return -1, None
        path = _decoded(found[2]).decode(errors="replace")
        gone = found[3] or path.endswith(" (deleted)")
        kept = self._inside(path) and not gone and int(found[1]) > 2  # 1 and 2 are what the process prints
        return int(found[1]), path if kept else None

    def _path(self, arguments: list[str]) -> str:
        """Return the path that the first arguments name: alone, or relative to a directory."""
        if arguments[0].startswith('"'):
            return _string(arguments[0]).decode()
        base = re.search(r"<(.*)>", arguments[0])
        name = _string(arguments[1]).decode()
        return name if name.startswith("/") or base is None else f"{_decoded(base[1]).decode()}/{name}"

    def _inside(self, path: str) -> bool:
        return path == self._directory or path.startswith(self._directory + "/")
