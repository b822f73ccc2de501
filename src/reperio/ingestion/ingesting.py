"""The verb: bring a collection up to date with files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

from reperio.collection import Collection
from reperio.errors import InvalidInput
from reperio.ingestion.finding import FoundFiles, Paths, Skipped, SourceFile, find_files
from reperio.ingestion.items import DEFAULT_ID_FIELD, DEFAULT_TEXT_FIELD, Item, ReadingOptions
from reperio.ingestion.reading import read
from reperio.ingestion.splitting import Splitter
from reperio.printable import logger
from reperio.types import Chunk, Progress

_log = logger("reperio.ingestion")
_DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The result of one `ingest`.

    Attributes:
        files: that were read.
        added, updated, unchanged, embedded: as in `AddResult`, in chunks.
        removed: chunks that their files no longer yield, or, with *prune*, whose files have vanished.
        skipped: files that are not read, and documents and items without text.
        notes: what was found out about files that were read, or left out of them.
    """

    files: int
    added: int
    updated: int
    unchanged: int
    embedded: int
    removed: int
    skipped: Sequence[Skipped]
    notes: Sequence[Skipped] = ()


def ingest(
    collection: Collection,
    paths: Paths,
    *,
    text_field: str = DEFAULT_TEXT_FIELD,
    id_field: str = DEFAULT_ID_FIELD,
    reading: ReadingOptions | None = None,
    max_tokens: int | None = None,
    overlap: int | None = None,
    prune: bool = False,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> IngestResult:
    """Read files, split what is long, and store the chunks; a second run embeds and writes only what has changed.

    The id of a chunk is ``{source}#{hash of its text}``, with ``-2``, ``-3`` for the same text again in one source; a
    item with an id of its own keeps it, or is ``{id}#{hash}`` where it is split. The metadata is ``source``, by which
    a file's chunks are known (see `SourceFile`), ``start``, the character at which a piece of a split text begins, and
    the item's other fields; its own ``source`` and ``start`` are kept as ``record_source`` and ``record_start``.

    What is new is stored first and what is stale deleted last, so that a run that is broken off leaves no document
    missing; the next one completes it.

    Args:
        collection: open for writing, with an embedder.
        paths: files and folders; a folder is known by its name, wherever it lies.
        text_field, id_field: of the items in .jsonl, .csv and .parquet. The default id field may be missing.
        reading: what else there is to say about the files: delimiter, encoding, columns, a title. Its own names of
            the two fields count where these are the defaults.
        max_tokens, overlap: see `Splitter`.
        prune: delete also the chunks of files that have vanished from the folders.
        batch_size: chunks per commit.
        progress: called as by `Collection.add`; the total is unknown.

    Raises:
        InvalidInput: before anything is stored for what can be told by the paths; for the contents of a file, chunks
            of the batches before are stored, and nothing is deleted.
        MissingDependency: run ``pip install 'reperio[ingest]'``.
        CollectionReadOnly, CollectionClosed, StorageFailed, EmbedderFailed, EmbeddingContractError.
    """
    options = _options(text_field, id_field, reading)
    if options.text == options.id:
        raise InvalidInput(f"text_field and id_field are both {options.text!r}; they are two fields")
    found = find_files(paths, leave_out=Path(collection.info().path))
    if prune:
        _require_contents(found)
    embedder = collection.embedder
    if embedder is None:
        raise InvalidInput(
            "this collection has no embedder, so texts cannot be ingested; open it with embedder=, or add chunks with "
            "ready vectors"
        )
    run = _Run(options, Splitter(embedder, max_tokens=max_tokens, overlap=overlap), found)
    was_empty = collection.count() == 0
    done = collection.add(run.chunks(), batch_size=batch_size, progress=progress)
    stale = [] if was_empty else run.stale(collection, prune=prune)
    # In parts: each is a commit, and others may write between two.
    blocks = (stale[at : at + _DELETED_AT_ONCE] for at in range(0, len(stale), _DELETED_AT_ONCE))
    removed = sum(collection.delete(ids=block) for block in blocks)
    _log.info(
        "%d files ingested: %d chunks added, %d updated, %d unchanged, %d removed",
        len(found.files),
        done.added,
        done.updated,
        done.unchanged,
        removed,
    )
    return IngestResult(
        files=len(found.files),
        added=done.added,
        updated=done.updated,
        unchanged=done.unchanged,
        embedded=done.embedded,
        removed=removed,
        skipped=tuple(found.skipped + run.skipped),
        notes=tuple(run.notes),
    )


def _options(text_field: str, id_field: str, reading: ReadingOptions | None) -> ReadingOptions:
    options = reading or ReadingOptions()
    return replace(
        options,
        text=options.text if text_field == DEFAULT_TEXT_FIELD else text_field,
        id=options.id if id_field == DEFAULT_ID_FIELD else id_field,
    )


class _Run:
    """One pass over the files: the chunks they yield, and what was seen on the way."""

    def __init__(self, options: ReadingOptions, splitter: Splitter, found: FoundFiles) -> None:
        self.skipped: list[Skipped] = []
        self.notes: list[Skipped] = []
        self._options = options
        self._splitter = splitter
        self._found = found
        self._places: dict[str, str] = {}  # chunk id → where it comes from
        self._split: dict[str, str] = {}  # a split item's own id → where it comes from

    def chunks(self) -> Iterator[Chunk]:
        for file in self._found.files:
            empty: list[str] = []
            repeated: Counter[str] = Counter()
            for item in read(file, self._options, partial(self._note, file.source)):
                made = list(self._chunks_of(item, file, repeated))
                if not made:
                    empty.append(item.place)
                yield from made
            self.skipped += _without_text(file, empty)

    def _note(self, source: str, note: str) -> None:
        self.notes.append(Skipped(source, note))

    def stale(self, stored: Iterable[Chunk], *, prune: bool) -> list[str]:
        """Return the ids of chunks that came from these files, or with *prune* folders, and no longer do."""
        sources = {file.source for file in self._found.files}
        folders = tuple(self._found.folders) if prune else ()
        return [chunk.id for chunk in stored if chunk.id not in self._places and _is_of(chunk, sources, folders)]

    def _chunks_of(self, item: Item, file: SourceFile, repeated: Counter[str]) -> Iterator[Chunk]:
        pieces = list(self._splitter.pieces(item.text, kind=item.kind, title=item.title, headings=item.headings))
        metadata = {"source": file.source, **item.metadata}
        if len(pieces) == 1:
            text = pieces[0].text
            metadata |= pieces[0].metadata
            chunk_id = item.id or _numbered(file.source, text, repeated)
            yield Chunk(self._claimed(chunk_id, item.place), text, metadata)
            return
        if item.id is not None:
            repeated = Counter()  # a second item of that id is an error, not its continuation
            if pieces:
                self._require_free(item.id, item.place)
                self._split[item.id] = item.place
        for piece in pieces:
            chunk_id = _numbered(item.id or file.source, piece.text, repeated)
            yield Chunk(
                self._claimed(chunk_id, item.place), piece.text, {**metadata, **piece.metadata, "start": piece.start}
            )

    def _claimed(self, chunk_id: str, place: str) -> str:
        self._require_free(chunk_id, place)
        self._places[chunk_id] = place
        return chunk_id

    def _require_free(self, chunk_id: str, place: str) -> None:
        other = self._places.get(chunk_id) or self._split.get(chunk_id)
        if other is not None:
            raise InvalidInput(f"{other} and {place} have the same id {chunk_id!r}; ids are unique: change one of them")


def _numbered(stem: str, text: str, repeated: Counter[str]) -> str:
    name = f"{stem}#{blake2b(text.encode(), digest_size=8).hexdigest()}"
    repeated[name] += 1
    return name if repeated[name] == 1 else f"{name}-{repeated[name]}"


def _without_text(file: SourceFile, places: list[str]) -> list[Skipped]:
    if not places:
        return []
    if places[0] == str(file.path):
        return [Skipped(file.source, "is empty")]
    lines = ", ".join(place.rpartition(":")[2] for place in places[:5]) + (", …" if len(places) > 5 else "")
    return [Skipped(file.source, f"has no text in {len(places)} of its records ({lines})")]


def _require_contents(found: FoundFiles) -> None:
    """Refuse to prune by a folder that yields nothing: more likely not mounted, or mistyped, than really emptied."""
    for prefix, folder in found.folders.items():
        if not any(file.source.startswith(prefix) for file in found.files):
            raise InvalidInput(
                f"{folder} holds no file that is read, so prune would delete everything that ever came from it; is it "
                "the right folder? To delete those chunks on purpose, name their ids to delete"
            )


def _is_of(chunk: Chunk, sources: set[str], folders: tuple[str, ...]) -> bool:
    source = chunk.metadata.get("source")
    return isinstance(source, str) and (source in sources or source.startswith(folders))
