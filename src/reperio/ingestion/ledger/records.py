"""The ledger: what ingestion has stored, kept with the collection, so that no run has to search it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from reperio.collection import Collection
from reperio.ingestion.finding.sources import STANDARD_INPUT

SPACE = "reperio.ingest"
"""The spaces of the collection's records that are ingestion's begin with it."""

_PREFIX = "prefix"
_LONGEST = 900  # of a key: a record's may have 1,024 characters
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class RootRecord:
    """A folder or file that was named to ingest it."""

    name: str  # its sources begin with it
    place: str  # its absolute path, links to its folder resolved; or `STANDARD_INPUT`
    host: str  # the machine on which that was
    shape: Mapping[str, Any]  # the options that decide what the chunks are
    metadata: Mapping[str, Any]  # given with it, for all its chunks
    part: bool = False  # whether only patterns in it were ingested: its options are theirs

    def path_of(self, inside: str) -> Path:
        """Return where a file of it should be."""
        return Path(self.place, inside) if inside else Path(self.place)

    def reachable(self, inside: str) -> bool:
        """Say whether a file of it that is not there has vanished, rather than lies on another machine or disk.

        A folder that is missing or empty says nothing of its files: it may be a mount point.
        """
        if self.place == STANDARD_INPUT:
            return False
        folder = Path(self.place) if inside else Path(self.place).parent
        try:
            return self.host == this_host() and any(folder.iterdir())
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file whose chunks are stored."""

    source: str
    root: str  # name of its root
    inside: str  # its path within the root as the file system has it; empty for a file that is a root itself
    content: str  # hash of the content, whatever its line ends; empty until all chunks are stored
    made: str  # hash of all that decides what chunks come of it
    run: str  # of the run that stored it
    chunks: int
    stat: Sequence[int] | None  # size, times and inode by which it is known to be unchanged; None where they could lie
    without_text: str = ""  # what there is to say of it in this regard, whenever it is ingested

    @property
    def whole(self) -> bool:
        """Say whether all of it has ever been stored; else a run has begun with it and broken off."""
        return bool(self.content)


class LeftOut(NamedTuple):
    """A piece that is not stored, since a chunk has its text."""

    key: str  # what both share, see `run.leaving_out`
    keeper: str  # id of that chunk


@dataclass(slots=True)
class Parts:
    """The chunks that may be stored of one source: those of its last whole reading, and of all that broke off since."""

    keys: list[str] = field(default_factory=list)
    suffixes: set[str] = field(default_factory=set)  # their ids, behind what all ids of the source begin with
    runs: set[str] = field(default_factory=set)
    left: list[LeftOut] = field(default_factory=list)
    left_keys: list[str] = field(default_factory=list)


class Ledger:
    """The records of ingestion in a collection; each scope has its own.

    The names of chunks are written before the chunks are stored, and a file's record after all of them: whatever a
    killed run has left, the next one knows.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._prefix: str | None = None if collection.scope else ""
        self._own = collection.records(f"{SPACE}.ids")
        self._roots = collection.records(f"{SPACE}.roots")
        self._files = collection.records(f"{SPACE}.files")
        self._parts = collection.records(f"{SPACE}.chunks")
        self._left = collection.records(f"{SPACE}.left_out")

    def prefix(self, *, keep: bool = True) -> str:
        """Return how the ids of this scope's chunks begin; empty without a scope.

        It is drawn by chance, once, and kept where this scope alone reads: nobody else can guess an id, and learn of it
        that a file is there, or store something under it.

        Args:
            keep: record a new one.
        """
        if self._prefix is None:
            with self._collection.turn() if keep else nullcontext():
                (found,) = self._own.get([_PREFIX])
                self._prefix = str(found.value) if found is not None else os.urandom(8).hex()
                if found is None and keep:
                    self.keep_prefix(self._prefix)
        return self._prefix

    def has_prefix(self) -> bool:
        """Say whether it is recorded how the ids of this scope's chunks begin, or there is no scope."""
        return self._prefix is not None or self._own.get([_PREFIX])[0] is not None

    def keep_prefix(self, prefix: str) -> None:
        """Record how the ids of this scope's chunks begin."""
        self._own.put([_PREFIX], values=[prefix])
        self._prefix = prefix

    def roots(self) -> dict[str, RootRecord]:
        """Return all roots by name."""
        return {one.value["name"]: RootRecord(**one.value) for one in self._roots.list()}

    def put_roots(self, roots: Sequence[RootRecord]) -> None:
        """Record roots."""
        self._roots.put([_key(root.name) for root in roots], values=[asdict(root) for root in roots])

    def files(self, sources: Sequence[str]) -> dict[str, FileRecord]:
        """Return the records of those sources that have one."""
        found = self._files.get([_key(source) for source in sources])
        return {one.value["source"]: FileRecord(**one.value) for one in found if one is not None}

    def all_files(self) -> list[FileRecord]:
        """Return all files, by name."""
        return [FileRecord(**one.value) for one in self._files.list()]

    def with_content(self, content: str) -> list[FileRecord]:
        """Return the files that have this content."""
        return [FileRecord(**one.value) for one in self._files.list(groups=[content])]

    def parts(self, sources: Sequence[str]) -> dict[str, Parts]:
        """Return what may be stored of each source."""
        by_key = {_key(source): source for source in sources}
        found = {source: Parts() for source in sources}
        for one in self._parts.list(groups=list(by_key)):
            part = found[by_key[str(one.group)]]
            part.keys.append(one.key)
            part.runs.add(one.key.partition("-")[0])
            part.suffixes.update(one.value)
        for one in self._left.list(groups=list(by_key)):
            part = found[by_key[str(one.group)]]
            part.left_keys.append(one.key)
            part.runs.add(one.key.partition("-")[0])
            part.left += [LeftOut(*each) for each in one.value["pieces"]]
        return found

    def left_out(self) -> dict[str, list[LeftOut]]:
        """Return all pieces that are left out for chunks with their texts, by source."""
        found: dict[str, list[LeftOut]] = {}
        for one in self._left.list():
            found.setdefault(one.value["source"], []).extend(LeftOut(*each) for each in one.value["pieces"])
        return found

    def begin(self, files: Sequence[FileRecord]) -> None:
        """Record files that were never stored before, so that `prune` finds what a killed run leaves of them."""
        self._put_files(files)

    def announce(self, run: str, number: int, suffixes: Mapping[str, Sequence[str]]) -> None:
        """Record chunks that are about to be stored, by source; *number* is the batch's, within the run."""
        groups = [_key(source) for source in suffixes]
        keys = [_part_key(run, number, group) for group in groups]
        self._parts.put(keys, values=list(map(list, suffixes.values())), groups=groups)

    def leave_out(self, run: str, number: int, pieces: Mapping[str, Sequence[LeftOut]]) -> None:
        """Record pieces that are not stored, by source; *number* is the batch's, within the run."""
        groups = [_key(source) for source in pieces]
        values = [{"source": source, "pieces": list(map(list, some))} for source, some in pieces.items()]
        self._left.put([_part_key(run, number, group) for group in groups], values=values, groups=groups)

    def finish(self, files: Sequence[FileRecord], parts: Sequence[str], left: Sequence[str] = ()) -> None:
        """Record files whose chunks are stored; *parts* and *left* are the keys of what they replace."""
        for records, keys in ((self._parts, parts), (self._left, left)):
            for first in range(0, len(keys), _AT_ONCE):
                records.delete(keys[first : first + _AT_ONCE])
        self._put_files(files)

    def _put_files(self, files: Sequence[FileRecord]) -> None:
        keys = [_key(file.source) for file in files]
        self._files.put(keys, values=[asdict(file) for file in files], groups=[file.content for file in files])

    def forget(self, sources: Iterable[str]) -> None:
        """Delete all that is recorded of sources; their chunks are deleted already."""
        sources = list(sources)
        for first in range(0, len(sources), _AT_ONCE):
            some = sources[first : first + _AT_ONCE]
            parts = self.parts(some).values()
            self._parts.delete([key for part in parts for key in part.keys])
            self._left.delete([key for part in parts for key in part.left_keys])
            self._files.delete([_key(source) for source in some])


def this_host() -> str:
    """Return the name of this machine, by which places on others are told apart."""
    return platform.node()


def new_run() -> str:
    """Return a name for a run that no other has."""
    return os.urandom(6).hex()


def _part_key(run: str, number: int, group: str) -> str:
    return f"{run}-{number:06} {group}"


def _key(source: str) -> str:
    """Return the key of a source or root: itself, or for a very long one its beginning and a hash."""
    if len(source) <= _LONGEST:
        return source
    return f"{source[:800]}…{blake2b(source.encode(), digest_size=16).hexdigest()}"
