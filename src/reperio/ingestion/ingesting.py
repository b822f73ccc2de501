"""The verb: bring a collection up to date with files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reperio.arguments import require_count
from reperio.collection import Collection
from reperio.collection.facade import handle_of
from reperio.errors import EmbedderFailed, InvalidInput
from reperio.ingestion.finding.paths import Paths, find_files
from reperio.ingestion.finding.sources import FoundFiles, SourceFile
from reperio.ingestion.ledger.adopting import adopt
from reperio.ingestion.ledger.content import size_of
from reperio.ingestion.ledger.records import Ledger, RootRecord, new_run, this_host
from reperio.ingestion.reading.items import ReadingOptions
from reperio.ingestion.results import IngestResult, Skipped
from reperio.ingestion.run.ahead import Ahead
from reperio.ingestion.run.leaving_out import LeavingOut
from reperio.ingestion.run.pruning import require_contents, vanished
from reperio.ingestion.run.roots import Plans, Wanted, given_by, make_plans
from reperio.ingestion.run.scoping import fixed_by, require_within, to_metadata
from reperio.ingestion.run.steps import Reader
from reperio.ingestion.run.storing import Compared, Stored, Storing
from reperio.printable import logger
from reperio.types import Embedder, Progress

_log = logger("reperio.ingestion")
_AHEAD = 64  # steps: some files, or some thousand chunks


def ingest(
    collection: Collection,
    paths: Paths,
    *,
    name: str | None = None,
    text_field: str | None = None,
    id_field: str | None = None,
    reading: ReadingOptions | Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    overlap: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    exclude: Sequence[str] = (),
    gitignore: bool = True,
    prune: bool = False,
    rechunk: bool = False,
    skip_duplicates: bool | None = None,
    strict: bool = False,
    dry_run: bool = False,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> IngestResult:
    """Read files, split what is long, and store the chunks; a second run embeds and writes only what has changed.

    A file is known by its *source*: the name of the folder that was named, and the path in it. The id of a chunk is
    ``{source}#{id}`` for an item with an id of its own, else ``{source}#{hash of its text}``, with ``-2``, ``-3`` for
    the same text again. The metadata is ``source``; ``start``, the character at which a piece of a split text begins;
    the item's other fields, its own ``source`` and ``start`` as ``record_source`` and ``record_start``; its id as text,
    under the name that it has there; and what is known of the piece, such as ``headings``, see docs/ingest.md.

    What ingestion stores it records in the collection, and it deletes nothing else. Of each file, what is new is stored
    first and what is stale deleted last, so that a run that is broken off leaves no document missing; the next one
    completes it.

    Args:
        collection: open for writing, with an embedder.
        paths: files, folders, and patterns such as ``docs/**/*.md``.
        name: what to call the one path that is passed, for one that moved, or has the name of another.
        text_field, id_field: of the items in tables: "text" and "id", which may be missing.
        reading: what else there is to say about the files: delimiter, encoding, columns, a title. Of a dictionary, all
            counts; of `ReadingOptions`, what differs from the defaults.
        max_tokens, overlap: see `Splitter`. All of these are kept for later runs, as long as *rechunk* does not let
            them be changed.
        metadata: of all chunks; a field of the same name in a file is left out, which `notes` says. Kept for later
            runs, too; ``{}`` ends that.
        exclude: patterns as in `.gitignore`, of what to pass over in folders.
        gitignore: pass over what `.gitignore` files name.
        prune: delete also the chunks of files that have vanished from the folders.
        rechunk: read files that are unchanged, and split them as the options say now.
        skip_duplicates: leave out pieces whose text and metadata a chunk has, apart from case, white space and where
            the text stands. They come back when that chunk goes. Kept for later runs, as *max_tokens* is; at first
            False. All chunks are read once per run.
        strict: raise the first error of a file, instead of reading the others and listing it.
        dry_run: write nothing, and return what would be done.
        batch_size: chunks per commit.
        progress: called as by `Collection.add`, and as ``progress("ingest", bytes done, bytes in all)``.

    Raises:
        InvalidInput: the paths or options cannot be; nothing was stored.
        EmbedderFailed: the batches before are stored, and the next run goes on there. One that asks to be called again
            is, see `RetryLater`.
        MissingDependency: run ``pip install 'reperio[ingest]'``.
        CollectionReadOnly, CollectionClosed, StorageFailed, EmbeddingContractError: as their names say.
    """
    require_count("batch_size", batch_size)
    if skip_duplicates not in (None, True, False):
        raise InvalidInput(f"skip_duplicates is {skip_duplicates!r:.80}; pass True or False")
    given = {
        "text": text_field,
        "id": id_field,
        "max_tokens": max_tokens,
        "overlap": overlap,
        "skip_duplicates": skip_duplicates,
    }
    wanted = Wanted(
        given={**given_by(reading), **{key: value for key, value in given.items() if value is not None}},
        seconds=reading.seconds if isinstance(reading, ReadingOptions) else None,
        metadata=to_metadata(metadata),
        fixed=fixed_by(collection.scope),
        name=name,
        again=rechunk,
    )
    require_within(handle_of(collection).scope, wanted.metadata, wanted.fixed)
    if not dry_run:
        handle_of(collection).require_writable()
    handle_of(collection).origin.refresh()  # what other hosts have ingested up to now is known
    run = _Run(collection, batch_size, progress, strict=strict, dry=dry_run, prune=prune)
    found = run.find(paths, name, exclude, gitignore=gitignore)
    if prune:
        require_contents(found, collection, run.ledger)
    return run.ingest(found, wanted, _embedder(collection))


def _embedder(collection: Collection) -> Embedder:
    embedder = collection.embedder
    if embedder is None:
        raise InvalidInput(
            "this collection has no embedder, so texts cannot be ingested; open it with embedder=, or add chunks with "
            "ready vectors"
        )
    return embedder


@dataclass(slots=True)
class _Run:
    """One call of `ingest`."""

    collection: Collection
    batch: int
    progress: Progress | None
    strict: bool
    dry: bool
    prune: bool
    ledger: Ledger = field(init=False)
    name: str = field(default_factory=new_run)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.collection)

    def find(self, paths: Paths, name: str | None, exclude: Sequence[str], *, gitignore: bool) -> FoundFiles:
        """Find the files; the first that cannot be read is an error, if the run is strict."""
        roots = sorted(self.ledger.roots().values(), key=lambda root: root.host == this_host())  # the last one holds
        # What another machine has at the same path may be something else, which a name given on purpose says.
        known = {root.place: root.name for root in roots if root.host == this_host() or name is None}
        found = find_files(
            paths,
            leave_out=Path(self.collection.info().path),
            known=known,
            name=name,
            exclude=exclude,
            gitignore=gitignore,
        )
        if self.strict and found.failed:
            first = found.failed[0]
            raise InvalidInput(f"{first.place} {first.reason}")
        return found

    def ingest(self, found: FoundFiles, wanted: Wanted, embedder: Embedder) -> IngestResult:
        """Bring the collection up to date with files that were found."""
        plans = make_plans(found, self.ledger, embedder, wanted)
        recorded = self.ledger.roots()
        if not self.dry:
            if not recorded or not self.ledger.has_prefix():
                adopt(self.collection, self.ledger)
            if changed := plans.changed(recorded):
                self.ledger.put_roots(changed)
        roots = {**recorded, **{name: plan.root for name, plan in plans.by_root.items()}}
        self.ledger.prefix(keep=not self.dry)  # known before another thread asks for it
        leaving_out = LeavingOut(
            [name for name, plan in plans.by_root.items() if plan.root.shape["skip_duplicates"]],
            plans.by_root,
            {file.source for file in found.files},
            self.ledger.left_out(),
        )
        leaving_out.look(self.collection)
        reader = self._reader(plans, roots, leaving_out, again=wanted.again)
        storing = self._storing(found.files, leaving_out)
        self._store(reader, storing, found.files)
        if self.prune:
            storing.remove(vanished(found, self.ledger.all_files(), roots, besides=storing.renamed))
        result = self._result(found, plans, reader, storing)
        return self._with_orphans(result, found, plans, roots, leaving_out)

    def _with_orphans(
        self,
        result: IngestResult,
        found: FoundFiles,
        plans: Plans,
        roots: Mapping[str, RootRecord],
        leaving_out: LeavingOut,
    ) -> IngestResult:
        """Store the pieces that were left out for texts which went in this run; those of other folders are told."""
        orphaned = leaving_out.orphaned()
        here = [file for file in found.files if file.source in orphaned]
        notes = [
            Skipped(source, _orphans(count, source, self.ledger, roots))
            for source, count in orphaned.items()
            if source not in leaving_out.found
        ]
        added = embedded = sum(orphaned[file.source] for file in here)
        if here and not self.dry:
            for file in here:
                leaving_out.left[file.source] = []
            storing = self._storing(here, leaving_out)
            self._store(self._reader(plans, roots, leaving_out, again=True), storing, here)
            added, embedded = storing.result.added, storing.result.embedded
        return replace(
            result,
            added=result.added + added,
            embedded=result.embedded + embedded,
            duplicates=sum(map(len, leaving_out.left.values())) - (added if self.dry else 0),
            notes=(*result.notes, *notes),
        )

    def _reader(self, plans: Plans, roots: Mapping[str, RootRecord], leaving_out: LeavingOut, *, again: bool) -> Reader:
        return Reader(
            self.collection,
            self.ledger,
            plans.by_root,
            roots,
            self.name,
            again=again,
            strict=self.strict,
            leaving_out=leaving_out,
        )

    def _storing(self, files: Sequence[SourceFile], leaving_out: LeavingOut) -> Storing:
        return Storing(
            Compared(self.collection) if self.dry else Stored(self.collection, self.ledger, self.name),
            self.ledger,
            self.ledger.prefix(keep=not self.dry),
            self.batch,
            sum(size_of(file.path) for file in files),
            leaving_out,
            self.progress,
        )

    def _store(self, reader: Reader, storing: Storing, files: Sequence[SourceFile]) -> None:
        try:
            with Ahead(reader.steps(files), _AHEAD) as steps:
                for step in steps:
                    storing.take(step)
                storing.flush()
        except EmbedderFailed as error:
            # What the collection says of its last call is not what became of the run.
            message = re.sub(r" \[(?:no chunk of this call|the \d+ chunks of the batches).*\]$", "", str(error))
            error.args = (f"{message} [{storing.told()}]", *error.args[1:])
            raise

    def _result(self, found: FoundFiles, plans: Plans, reader: Reader, storing: Storing) -> IngestResult:
        done = storing.result
        _log.info(
            "%d files ingested: %d chunks added, %d updated, %d unchanged, %d removed",
            storing.files,
            done.added,
            done.updated,
            done.unchanged,
            storing.removed,
        )
        return IngestResult(
            files=storing.files,
            added=done.added,
            updated=done.updated,
            unchanged=done.unchanged,
            embedded=done.embedded,
            removed=storing.removed,
            renamed=len(storing.renamed),
            skipped=tuple(found.skipped + reader.skipped),
            failed=tuple(found.failed + [broken.failed for broken in storing.broken]),
            notes=tuple(plans.notes + reader.notes),
        )


def _orphans(count: int, source: str, ledger: Ledger, roots: Mapping[str, RootRecord]) -> str:
    """Say what to do for pieces of a file that this run has not looked for."""
    file = ledger.files([source]).get(source)
    root = None if file is None else roots.get(file.root)
    place = source if root is None or file is None else root.path_of(file.inside)
    pieces = "piece of it was" if count == 1 else "pieces of it were"
    return f"{count} {pieces} left out for a text that is gone; it comes back when {place} is ingested again"
