"""What a run tells when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skipped:
    """What there is to say of a file: why it was passed over, or in the notes of a run what was found out about it."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that could not be read: what was stored of it stays, and nothing of it was deleted."""

    source: str
    place: str  # the file, with the line where that is known
    reason: str  # what is wrong, and the cure


@dataclass(frozen=True, slots=True)
class Source:
    """A file whose chunks are stored."""

    source: str  # what it is known by, and what its chunks have in their metadata
    path: str  # where it was when it was ingested
    chunks: int


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The result of one `ingest`.

    Attributes:
        files: that were read, or are as they were.
        added, updated, unchanged, embedded: as in `AddResult`, in chunks; *unchanged* also of files that were not read
            again. Without embedding came the chunks of files that were renamed or copied.
        removed: chunks that their files no longer yield, of files that were renamed, or, with *prune*, have vanished.
        renamed: files known by another name since, whose chunks moved with them.
        skipped: files that are not read, and documents and items without text.
        failed: files that could not be read.
        duplicates: pieces that are left out for chunks with their texts, with *skip_duplicates*; also of files that
            were not read again.
        notes: what else is good to know, by source, or by what a folder is known as.
    """

    files: int
    added: int
    updated: int
    unchanged: int
    embedded: int
    removed: int
    renamed: int
    skipped: Sequence[Skipped]
    failed: Sequence[Failed]
    notes: Sequence[Skipped] = ()
    duplicates: int = 0

    @property
    def complete(self) -> bool:
        """True when no file failed."""
        return not self.failed
