"""Files and folders as sources, read as `reperio ingest` reads them: the chunks are the same, and so are their ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reperio.collection.opening import open as open_collection
from reperio.embedding.contract import Settings
from reperio.errors import InvalidInput
from reperio.ingestion.finding.paths import find_files
from reperio.ingestion.finding.sources import FoundFiles, SourceFile
from reperio.ingestion.ledger.content import size_of, stat_of
from reperio.ingestion.ledger.records import Ledger
from reperio.ingestion.results import Failed, Skipped
from reperio.ingestion.run.roots import Wanted, given_by, make_plans
from reperio.ingestion.run.scoping import to_metadata
from reperio.ingestion.run.steps import Broken, Piece, Reader
from reperio.sharding.building.partitions import Batch, Source, Told
from reperio.types import Chunk, Embedder

_BYTES = 8 << 20  # of the files of a partition, about
_FILES = 256  # of a partition, at most
_RUN = "build"


@dataclass(frozen=True, slots=True)
class Files:
    """Some files of a folder.

    Attributes:
        files: to be read.
        roots: the folders that they are known by, and where these are.
        stamps: size and time of change of each file, when the source was cut.
        options: of `ingest`: max_tokens, overlap, metadata, reading, text_field, id_field.
    """

    files: tuple[SourceFile, ...]
    roots: tuple[tuple[str, Path], ...]
    stamps: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: tuple[Failed, ...] = ()

    def batches(self, settings: Settings, embedder: Embedder | None, told: Told) -> Iterator[Batch]:
        """Yield the pieces of the files; a file that cannot be read is told of, as `ingest` does."""
        told.skipped += self.skipped
        told.failed += self.failed
        if embedder is None:
            raise InvalidInput("a folder has texts to be embedded: pass embedder=")
        changed = next((one for one, stamp in zip(self.files, self.stamps, strict=True) if _stamp(one) != stamp), None)
        if changed is not None:
            raise InvalidInput(
                f"{changed.path} was changed since the build began; remove the unfinished build, and begin again"
            )
        # A ledger of nothing: each file is new.
        with open_collection(":memory:", dimension=settings.dimension, lexical="none") as empty:
            ledger = Ledger(empty)
            found = FoundFiles(files=list(self.files), roots=dict(self.roots))
            plans = make_plans(found, ledger, embedder, _wanted(dict(self.options)))
            roots = {name: plan.root for name, plan in plans.by_root.items()}
            reader = Reader(empty, ledger, plans.by_root, roots, _RUN)
            chunks: list[Chunk] = []
            for step in reader.steps(self.files):
                if isinstance(step, Piece):
                    chunks += step.chunks
                elif isinstance(step, Broken):
                    told.failed.append(step.failed)
                if len(chunks) >= _FILES:
                    yield Batch(chunks)
                    chunks = []
            if chunks:
                yield Batch(chunks)
            told.skipped += reader.skipped

    def to_json(self) -> Any:
        """Return the names of the files, what the system says of them, and the options."""
        files = [[str(one.path), one.source, stamp] for one, stamp in zip(self.files, self.stamps, strict=True)]
        return {"files": files, "options": dict(self.options)}


def files_in(paths: Sequence[Path], options: Mapping[str, Any]) -> Source:
    """Cut files and folders into some files each, in the order in which `ingest` reads them.

    Raises:
        InvalidInput: a path or an option cannot be.
    """
    _wanted(options)  # refused before anything is read
    found = find_files(paths)
    roots = tuple(found.roots.items())
    kept = tuple(sorted(options.items()))
    groups: list[list[SourceFile]] = [[]]
    size = 0
    for file in found.files:
        size += size_of(file.path)
        if groups[-1] and (size > _BYTES or len(groups[-1]) == _FILES):
            groups.append([])
            size = size_of(file.path)
        groups[-1].append(file)
    partitions = [Files(tuple(group), roots, tuple(map(_stamp, group)), kept) for group in groups if group]
    told = Files((), roots, (), kept, tuple(found.skipped), tuple(found.failed))
    return Source((*partitions, told) if found.skipped or found.failed else tuple(partitions), None)


def _stamp(file: SourceFile) -> Any:
    found = stat_of(file.path)
    return None if found is None else list(found)


def _wanted(options: Mapping[str, Any]) -> Wanted:
    given = {
        "text": options.get("text_field"),
        "id": options.get("id_field"),
        "max_tokens": options.get("max_tokens"),
        "overlap": options.get("overlap"),
    }
    return Wanted(
        given={**given_by(options.get("reading")), **{key: value for key, value in given.items() if value is not None}},
        seconds=None,
        metadata=to_metadata(options.get("metadata")),
        fixed={},
        name=None,
        again=False,
    )
