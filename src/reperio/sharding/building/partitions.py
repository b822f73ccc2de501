"""What a source is cut into: plain records that any scheduler carries to any process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from reperio.embedding.contract import Settings
from reperio.ingestion.results import Failed, Skipped
from reperio.types import Chunk, Embedder


class Batch(NamedTuple):
    """Chunks in the order of the source.

    Attributes:
        chunks: of them.
        vectors: one each, as the source has them; None to embed the texts.
        stored: the vectors are to the bit what a collection has stored.
    """

    chunks: list[Chunk]
    vectors: Any | None = None
    stored: bool = False


class Partition(Protocol):
    """A part of a source, read without knowing of the others."""

    def batches(self, settings: Settings, embedder: Embedder | None, told: Told) -> Iterator[Batch]:
        """Yield what is in it.

        Args:
            settings: of the shards.
            embedder: loaded; None where vectors are ready-made.
            told: takes what could not be read.

        Raises:
            InvalidInput: it is not what it was when the source was cut, or cannot be read.
        """
        ...

    def to_json(self) -> Any:
        """Return what tells it from another partition, or from this one of a source that has changed since."""
        ...


@dataclass(slots=True)
class Told:
    """What is told of the files of a source."""

    skipped: list[Skipped]
    failed: list[Failed]


@dataclass(frozen=True, slots=True)
class Source:
    """A source, cut.

    Attributes:
        partitions: in the order of the source.
        chunks: how many there are; None where that is not known before they are read.
        dimension: of the vectors in it; None where it has none.
        settings: of a collection; None where the caller decides.
    """

    partitions: tuple[Partition, ...]
    chunks: int | None
    dimension: int | None = None
    settings: Settings | None = None
