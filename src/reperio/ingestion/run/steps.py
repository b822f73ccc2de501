"""What the reading of files hands to the storing, in the order of the files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from reperio.collection import Collection
from reperio.collection.facade import handle_of
from reperio.collection.write.preparing import check_chunks, require_sizes
from reperio.errors import CollectionDamaged, InvalidInput, MissingDependency, ReperioError
from reperio.ingestion.finding.sources import SourceFile, is_gone
from reperio.ingestion.ledger.content import hash_of, size_of, stat_of
from reperio.ingestion.ledger.ids import Namer, made_by_ingest, stem_of
from reperio.ingestion.ledger.records import FileRecord, Ledger, LeftOut, Parts, RootRecord
from reperio.ingestion.reading.items import Item
from reperio.ingestion.reading.readers import read
from reperio.ingestion.results import Failed, Skipped
from reperio.ingestion.run.leaving_out import LeavingOut
from reperio.ingestion.run.roots import Plan
from reperio.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOOKED_UP = 64  # files at a time, in the ledger
_HELD = 2000
"""Chunks of a file that wait for its end: a file of usual size that cannot be read to its end changes nothing."""
_AT_ONCE = 256  # chunks that are handed over


@dataclass(frozen=True, slots=True)
class Piece:
    """Chunks of a file."""

    file: SourceFile
    chunks: Sequence[Chunk]
    first: FileRecord | None  # to be recorded before them, if nothing of the file was
    twin: str | None  # how the ids of a file with the same content begin, whose vectors may be taken
    read: int  # bytes, about


@dataclass(frozen=True, slots=True)
class Whole:
    """A file of which all chunks are told."""

    file: SourceFile
    record: FileRecord
    old: Parts  # what was stored of it before
    renamed: Sequence[FileRecord]  # files that are gone, and became this one
    size: int


@dataclass(frozen=True, slots=True)
class Same:
    """A file that is as it was."""

    record: FileRecord
    moved: bool  # whether what the file system says of it differs from what is recorded
    size: int
    left: list[LeftOut]  # of its pieces


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that cannot be read to its end."""

    file: SourceFile
    failed: Failed
    size: int


Step: TypeAlias = "Piece | Whole | Same | Broken"


@dataclass(slots=True)
class Reader:
    """Reads files, as far as they have changed, and splits them.

    Args:
        collection: open for reading at least.
        ledger: of that collection.
        plans: by name of root.
        roots: as recorded.
        run: name of the run.
        again: read unchanged files, too.
        strict: raise what a file's error is, instead of telling it.
        leaving_out: what texts are stored, where pieces are left out for them.

    Attributes:
        skipped: documents and items without text.
        notes: what was found out about files that were read.
    """

    collection: Collection
    ledger: Ledger
    plans: Mapping[str, Plan]
    roots: Mapping[str, RootRecord]
    run: str
    again: bool = False
    strict: bool = False
    leaving_out: LeavingOut | None = None
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[Skipped] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)  # files that became another one

    def steps(self, files: Sequence[SourceFile]) -> Iterator[Step]:
        """Yield what becomes of the files.

        Raises:
            InvalidInput, MissingDependency: the first that a file gives, if *strict*.
        """
        for first in range(0, len(files), _LOOKED_UP):
            some = files[first : first + _LOOKED_UP]
            sources = [file.source for file in some]
            records, parts = self.ledger.files(sources), self.ledger.parts(sources)
            for file in some:
                try:
                    yield from self._file(file, records.get(file.source), parts[file.source])
                except Exception as error:
                    # Whatever a library makes of a file is that file's; what the collection raises is not.
                    if self.strict or not _is_of_file(error):
                        raise
                    yield Broken(file, to_failed(file, error), size_of(file.path))

    def _file(self, file: SourceFile, record: FileRecord | None, old: Parts) -> Iterator[Step]:
        plan = self.plans[file.root]
        seen, size, content = stat_of(file.path), size_of(file.path), None
        if record is not None and record.made == plan.made and old.runs <= {record.run} and not self.again:
            known = seen is not None and record.stat is not None and list(record.stat) == seen
            content = None if known else hash_of(file.path)
            if content in (None, record.content) and self._all_stored(file.source, old):
                self._tell_empty(record)
                now = replace(record, root=file.root, inside=file.inside, stat=seen)
                yield Same(now, now != record, size, old.left)
                return
        content = content or hash_of(file.path)
        twins = [] if record is not None and record.whole else self._twins(content)
        first = FileRecord(file.source, file.root, file.inside, "", "", self.run, 0, None) if record is None else None
        gone = [twin for twin in twins if self._is_gone(twin)][:1]
        self._taken.update(twin.source for twin in gone)
        twin = self._stem((gone or twins)[0].source) if twins else None
        chunks, empty = 0, list[str]()
        for made in self._pieces(file, plan, old, empty):
            chunks += len(made)
            yield Piece(file, made, first, twin, sum(len(chunk.text) for chunk in made))
            first = None
        # What was written to while it was read is read again next time.
        settled = seen is not None and seen == stat_of(file.path)
        stat = seen if settled else None
        whole = FileRecord(
            file.source, file.root, file.inside, content, plan.made, self.run, chunks, stat, _without_text(file, empty)
        )
        self._tell_empty(whole)
        yield Whole(file, whole, old, gone, size)

    def _tell_empty(self, record: FileRecord) -> None:
        if record.without_text:
            self.skipped.append(Skipped(record.source, record.without_text))

    def _pieces(self, file: SourceFile, plan: Plan, old: Parts, empty: list[str]) -> Iterator[list[Chunk]]:
        """Yield the chunks of a file, some at a time; items without text are added to *empty*."""
        namer = Namer(self._stem(file.source), {"source": file.source, **plan.metadata}, plan.fixed, plan.reading.id)
        held: list[Chunk] = []
        for item in read(file, plan.reading, partial(self._note, file.source)):
            made = self._chunks_of(item, plan, namer)
            if not made:
                empty.append(item.place)
            held += made
            if len(held) >= _HELD:
                self._require_own(file, held, old)
                yield from _in_pieces(held)
                held = []
        self._require_own(file, held, old)
        yield from _in_pieces(held)
        if namer.overruled:
            names = ", ".join(map(repr, sorted(namer.overruled)))
            self._note(file.source, f"has {names} itself; what metadata (--metadata) says is kept instead")

    def _require_own(self, file: SourceFile, chunks: Sequence[Chunk], old: Parts) -> None:
        """Refuse ids of chunks that ingestion has not stored: they would be replaced, and deleted with the file."""
        prefix, stem = self.ledger.prefix(), self._stem(file.source)
        new = [chunk.id for chunk in chunks if chunk.id[len(stem) :] not in old.suffixes]
        others = [one.id for one in self.collection.get(new) if made_by_ingest(one, prefix) != file.source]
        if not others:
            return
        now = self.ledger.parts([file.source])[file.source].suffixes  # with what another run has stored meanwhile
        for one in others:
            if one[len(stem) :] not in now:
                raise InvalidInput(
                    f"{file.path}: the id {one!r} is that of a chunk which ingest has not stored; it is left as it is. "
                    f"Delete that chunk (reperio delete KB {shlex.quote(one)}), or store it under another id"
                )

    def _note(self, source: str, note: str) -> None:
        self.notes.append(Skipped(source, note))

    def _chunks_of(self, item: Item, plan: Plan, namer: Namer) -> list[Chunk]:
        text = item.text.replace("\r\n", "\n")  # a file is the same with either kind of line ends
        pieces = plan.splitter.pieces(text, kind=item.kind, title=item.title, headings=item.headings)
        made = list(namer.chunks(item, list(pieces)))
        handle = handle_of(self.collection)
        try:
            checked = check_chunks(made, 0)
            require_sizes(checked, handle.limits)
            handle.scope.require(checked)
        except InvalidInput as error:
            raise type(error)(f"{item.place}: {error}") from error
        return made

    def _all_stored(self, source: str, old: Parts) -> bool:
        """Say whether nobody has deleted chunks of a source: then it is read again, and has them back.

        The same holds for the chunks for which pieces of it were left out.
        """
        if old.left and (self.leaving_out is None or not self.leaving_out.all_there(old.left)):
            return False
        stem = self._stem(source)
        ids = [stem + suffix for suffix in old.suffixes]
        try:
            return len(self.collection.get(ids)) == len(ids)
        except CollectionDamaged:  # of a chunk that is not whole: it is stored again
            return False

    def _twins(self, content: str) -> list[FileRecord]:
        return [twin for twin in self.ledger.with_content(content) if twin.source not in self._taken]

    def _is_gone(self, file: FileRecord) -> bool:
        root = self.roots.get(file.root)
        return root is not None and root.reachable(file.inside) and is_gone(root.path_of(file.inside))

    def _stem(self, source: str) -> str:
        return stem_of(self.ledger.prefix(), source)


def _is_of_file(error: Exception) -> bool:
    return isinstance(error, (InvalidInput, MissingDependency)) or not isinstance(error, ReperioError)


def to_failed(file: SourceFile, error: Exception) -> Failed:
    """Return a file's error with the place it names, apart from what is wrong there."""
    message, path = str(error), str(file.path)
    if not isinstance(error, ReperioError):
        return Failed(file.source, path, f"{type(error).__name__}: {message:.500}; mend the file, or exclude it")
    if not message.startswith(path):
        return Failed(file.source, path, message)
    line, colon, rest = message[len(path) :].partition(": ")
    if colon and line[:1] == ":" and line[1:].isdecimal():
        return Failed(file.source, path + line, rest)
    return Failed(file.source, path, message[len(path) :].lstrip(": "))


def _in_pieces(chunks: list[Chunk]) -> Iterator[list[Chunk]]:
    return (chunks[first : first + _AT_ONCE] for first in range(0, len(chunks), _AT_ONCE))


def _without_text(file: SourceFile, places: list[str]) -> str:
    if not places:
        return ""
    if places[0] == str(file.path):
        return "is empty"
    lines = ", ".join(place.rpartition(":")[2] for place in places[:5]) + (", …" if len(places) > 5 else "")
    return f"has no text in {len(places)} of its records ({lines})"
