"""Batches of chunks become commits, and files that are stored to their end are recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from reperio.collection import Collection
from reperio.embedding.passages import passage
from reperio.errors import CollectionDamaged
from reperio.ingestion.ledger.ids import stem_of
from reperio.ingestion.ledger.records import FileRecord, Ledger, LeftOut
from reperio.ingestion.run.leaving_out import LeavingOut
from reperio.ingestion.run.retrying import with_retries
from reperio.ingestion.run.steps import Broken, Piece, Same, Step, Whole
from reperio.types import AddResult, Chunk, Progress

_DELETED_AT_ONCE = 1000
_FILES_AT_ONCE = 256


class Target(Protocol):
    """Where chunks go."""

    def announce(self, number: int, suffixes: Mapping[str, Sequence[str]], new: Sequence[FileRecord]) -> None:
        """Record the chunks that are about to be stored, and the files that are *new*."""

    def leave_out(self, number: int, pieces: Mapping[str, Sequence[LeftOut]]) -> None:
        """Record pieces that are not stored, by source."""

    def add(self, chunks: Sequence[Chunk], twins: Mapping[str, str]) -> AddResult:
        """Store chunks; *twins* are ids of chunks that may have the same text, by id."""

    def delete(self, ids: Sequence[str]) -> int:
        """Delete chunks, and return how many there were."""

    def finish(self, files: Sequence[FileRecord], parts: Sequence[str], left: Sequence[str]) -> None:
        """Record files that are stored, instead of the *parts* and pieces *left* out by these keys."""

    def forget(self, sources: Iterable[str]) -> None:
        """Forget files that are gone."""


class Stored:
    """A collection that is written.

    Args:
        collection: open for writing.
        ledger: of that collection.
        run: name of the run.
    """

    def __init__(self, collection: Collection, ledger: Ledger, run: str) -> None:
        self._collection = collection
        self._ledger = ledger
        self._run = run

    def announce(self, number: int, suffixes: Mapping[str, Sequence[str]], new: Sequence[FileRecord]) -> None:
        """Record the chunks that are about to be stored, and the files that are *new*."""
        self._ledger.begin(new)
        self._ledger.announce(self._run, number, suffixes)

    def leave_out(self, number: int, pieces: Mapping[str, Sequence[LeftOut]]) -> None:
        """Record pieces that are not stored, by source."""
        self._ledger.leave_out(self._run, number, pieces)

    def add(self, chunks: Sequence[Chunk], twins: Mapping[str, str]) -> AddResult:
        """Store chunks; a text that is there already, by its twin's id, is not embedded again."""
        ready, rest = self._with_vectors(chunks, twins)
        result = AddResult()
        if ready:
            vectors = self._collection.vectors([twins[chunk.id] for chunk in ready])
            result += self._collection.add(ready, vectors=vectors, batch_size=len(ready))
        if rest:
            result += with_retries(lambda: self._collection.add(rest, batch_size=len(rest)))
        return result

    def _with_vectors(self, chunks: Sequence[Chunk], twins: Mapping[str, str]) -> tuple[list[Chunk], list[Chunk]]:
        if not twins:
            return [], list(chunks)
        try:
            there = {one.id: _passage(one) for one in self._collection.get(list(twins.values()))}
        except CollectionDamaged:  # of one that is not whole, nothing is taken
            return [], list(chunks)
        ready = {chunk.id for chunk in chunks if there.get(twins.get(chunk.id, "")) == _passage(chunk)}
        return [one for one in chunks if one.id in ready], [one for one in chunks if one.id not in ready]

    def delete(self, ids: Sequence[str]) -> int:
        """Delete chunks in parts: each is a commit, and others may write between two."""
        blocks = (ids[at : at + _DELETED_AT_ONCE] for at in range(0, len(ids), _DELETED_AT_ONCE))
        return sum(self._collection.delete(ids=block) for block in blocks)

    def finish(self, files: Sequence[FileRecord], parts: Sequence[str], left: Sequence[str]) -> None:
        """Record files that are stored."""
        self._ledger.finish(files, parts, left)

    def forget(self, sources: Iterable[str]) -> None:
        """Forget files that are gone."""
        self._ledger.forget(sources)


class Compared:
    """A collection that is compared with what would be written, and left as it is."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def announce(self, number: int, suffixes: Mapping[str, Sequence[str]], new: Sequence[FileRecord]) -> None:
        """Do nothing."""

    def leave_out(self, number: int, pieces: Mapping[str, Sequence[LeftOut]]) -> None:
        """Do nothing."""

    def add(self, chunks: Sequence[Chunk], twins: Mapping[str, str]) -> AddResult:
        """Count what adding them would do."""
        wanted = [chunk.id for chunk in chunks] + list(twins.values())
        there = {chunk.id: chunk for chunk in self._collection.get(wanted)}
        new = [chunk for chunk in chunks if chunk.id not in there]
        changed = [chunk for chunk in chunks if chunk.id in there and not _equal(chunk, there[chunk.id])]
        texts = [chunk for chunk in new if _known(there, twins.get(chunk.id)) != _passage(chunk)]
        texts += [chunk for chunk in changed if _passage(there[chunk.id]) != _passage(chunk)]
        return AddResult(len(new), len(changed), len(chunks) - len(new) - len(changed), len(texts))

    def delete(self, ids: Sequence[str]) -> int:
        """Count what is there."""
        return len(self._collection.get(list(ids)))

    def finish(self, files: Sequence[FileRecord], parts: Sequence[str], left: Sequence[str]) -> None:
        """Do nothing."""

    def forget(self, sources: Iterable[str]) -> None:
        """Do nothing."""


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _equal(chunk: Chunk, other: Chunk) -> bool:
    return chunk.text == other.text and dict(chunk.metadata) == dict(other.metadata)


def _passage(chunk: Chunk) -> str:
    return passage(chunk.text, chunk.metadata)


def _known(there: Mapping[str, Chunk], chunk_id: str | None) -> str | None:
    chunk = None if chunk_id is None else there.get(chunk_id)
    return None if chunk is None else _passage(chunk)


@dataclass(slots=True)
class Storing:
    """Gathers chunks to batches, and stores them.

    What is new of a file is stored first, and what is stale of it deleted when all of it is there, so that a run that
    is broken off leaves no document missing.

    Args:
        target: where they go.
        ledger: what is recorded so far.
        prefix: of the ids of the collection's scope.
        batch: chunks per commit.
        total: bytes of all files.
        leaving_out: says which pieces are left out.
        progress: hears of each commit.
    """

    target: Target
    ledger: Ledger
    prefix: str
    batch: int
    total: int
    leaving_out: LeavingOut
    progress: Progress | None = None
    result: AddResult = field(default_factory=AddResult)
    files: int = 0
    removed: int = 0
    renamed: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    stored: int = 0  # chunks that are durable
    _chunks: list[tuple[str, Chunk]] = field(default_factory=list)
    _twins: dict[str, str] = field(default_factory=dict)
    _left: dict[str, list[LeftOut]] = field(default_factory=dict)  # not recorded yet
    _ends: list[Whole | Same] = field(default_factory=list)
    _first: list[FileRecord] = field(default_factory=list)  # files of which nothing was recorded
    _new: dict[str, set[str]] = field(default_factory=dict)  # of the files that have not ended
    _number: int = 0
    _bytes: int = 0  # of the files that have ended
    _begun: int = 0  # of the one that has not, about

    def take(self, step: Step) -> None:
        """Take the next step of the reading; store what is due."""
        if isinstance(step, Piece):
            self._take_piece(step)
            return
        self._begun = 0
        if isinstance(step, Broken):
            self._bytes += step.size
            self.broken.append(step)
            self._new.pop(step.file.source, None)
            return
        self.files += 1
        self._ends.append(step)
        if isinstance(step, Same):
            self.result += AddResult(unchanged=step.record.chunks)
            self.leaving_out.left[step.record.source] = step.left
        if len(self._ends) >= _FILES_AT_ONCE:
            self.flush()
        self._bytes += step.size

    def _take_piece(self, piece: Piece) -> None:
        source = piece.file.source
        stem = stem_of(self.prefix, source)
        new = self._new.setdefault(source, set())
        if piece.first is not None:
            self._first.append(piece.first)
        for chunk in piece.chunks:
            if (left := self.leaving_out.take(chunk, piece.file.root)) is not None:
                self._left.setdefault(source, []).append(left)
                continue
            suffix = chunk.id[len(stem) :]
            new.add(suffix)
            self._chunks.append((source, chunk))
            if piece.twin is not None:
                self._twins[chunk.id] = piece.twin + suffix
            if len(self._chunks) == self.batch:
                self.flush()
        self._begun += piece.read

    def flush(self) -> None:
        """Store all that was taken."""
        if self._chunks or self._left:
            self._add()
        if self._ends:
            self._finish()
        if self.progress is not None and self.total:
            self.progress("ingest", min(self.total, self._bytes + self._begun), self.total)

    def _add(self) -> None:
        suffixes: dict[str, list[str]] = {}
        for source, chunk in self._chunks:
            suffixes.setdefault(source, []).append(chunk.id[len(stem_of(self.prefix, source)) :])
        self.target.announce(self._number, suffixes, self._first)
        self._first = []
        if self._left:
            self.target.leave_out(self._number, self._left)
            for source, left in self._left.items():
                self.leaving_out.left.setdefault(source, []).extend(left)
            self._left = {}
        self._number += 1
        if not self._chunks:
            return
        self.result += self.target.add([chunk for _, chunk in self._chunks], self._twins)
        self.stored += len(self._chunks)
        self._chunks, self._twins = [], {}
        if self.progress is not None:
            self.progress("add", self.stored, None)

    def _finish(self) -> None:
        """Delete what is stale of the files that have ended, then record them."""
        stale: list[str] = []
        keys: list[str] = []
        left: list[str] = []
        records: list[FileRecord] = []
        gone: list[str] = []
        for end in self._ends:
            if isinstance(end, Same):
                records += [end.record] if end.moved else []
                continue
            source = end.file.source
            stem = stem_of(self.prefix, source)
            new = self._new.pop(source, set())
            stale += [stem + suffix for suffix in sorted(end.old.suffixes - new)]
            keys += end.old.keys
            left += end.old.left_keys
            self.leaving_out.left.setdefault(source, [])  # instead of what was recorded
            records.append(replace(end.record, chunks=len(new)))
            gone += [file.source for file in end.renamed]
        self._ends = []
        self.remove(gone)
        self._delete(stale)
        self.target.finish(records, keys, left)
        self.renamed += gone

    def remove(self, sources: Sequence[str]) -> None:
        """Delete all chunks of sources, and forget them."""
        if not sources:
            return
        ids = [
            stem_of(self.prefix, source) + suffix
            for source, parts in self.ledger.parts(sources).items()
            for suffix in sorted(parts.suffixes)
        ]
        self._delete(ids)
        self.leaving_out.left.update((source, []) for source in sources)  # nothing is to come back of them
        self.target.forget(sources)

    def _delete(self, ids: Sequence[str]) -> None:
        self.removed += self.target.delete(ids)
        self.leaving_out.forget(ids)

    def told(self) -> str:
        """Say what is stored, for the message of what stopped the run."""
        files = self.files - len(self._ends)
        if not self.stored and not files:
            return "nothing of this run is stored"
        return (
            f"stored by this run: {_many(self.stored, 'chunk')}, {_many(files, 'file')} to the end; the next run goes "
            "on there"
        )
