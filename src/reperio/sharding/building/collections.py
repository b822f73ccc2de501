"""One collection as a source: rows of one committed state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reperio.collection.facade import handle_of
from reperio.collection.opening import open as open_collection
from reperio.embedding.contract import Settings
from reperio.errors import InvalidInput
from reperio.sharding.building.partitions import Batch, Source, Told
from reperio.store import require_intact
from reperio.types import Embedder

_BATCH = 2000  # rows handed over at once


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of a collection, from *start* to before *end*, as of one commit."""

    path: str
    generation: str
    commit: int
    start: int
    end: int

    def batches(self, settings: Settings, embedder: Embedder | None, told: Told) -> Iterator[Batch]:  # noqa: ARG002  # as all have
        """Yield the chunks with their vectors, each compared with its checksum."""
        with open_collection(self.path, read_only=True) as collection:
            generation, session, matrix = handle_of(collection).reading()
            with session:
                if (generation.paths.name, session.state.seq) != (self.generation, self.commit):
                    raise InvalidInput(
                        f"{self.path} was written to since the build began; remove the unfinished build and begin "
                        "again, or build from a backup, which nobody writes to"
                    )
                after = self.start - 1
                while stored := [one for one in session.scan(after, _BATCH) if one.row < self.end]:
                    require_intact(stored, matrix, generation.paths.root)
                    rows = np.array([one.row for one in stored])
                    yield Batch([one.to_chunk() for one in stored], matrix.take(rows, axis=0), stored=True)
                    after = stored[-1].row

    def to_json(self) -> Any:
        """Return its fields."""
        return asdict(self)


def stored_in(path: Path, most: int) -> Source:
    """Cut a collection into *most* rows each, as of now.

    What it has besides chunks, the records of programs, belongs to no id and is left behind.
    """
    with open_collection(path, read_only=True) as collection:
        handle = handle_of(collection)
        settings = handle.settings()
        generation, session, _ = handle.reading()
        with session:
            state, name = session.state, generation.paths.name
        partitions = tuple(
            StoredRows(str(path), name, state.seq, at, min(at + most, state.rows)) for at in range(0, state.rows, most)
        )
    return Source(partitions, state.live, settings.dimension, settings)
