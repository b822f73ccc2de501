"""Read the metadata of one commit, row by row, for columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class UnreadableField(ValueError):
    """Metadata that cannot be what was stored. The store makes it `CollectionDamaged` when its session ends."""


class Commit(Protocol):
    """The commit that is read."""

    @property
    def seq(self) -> int:
        """Its number."""

    @property
    def rows(self) -> int:
        """Rows minted until then."""


class FieldReader(Protocol):
    """Reads the metadata of one commit. The store implements it, so that no column knows a database."""

    @property
    def state(self) -> Commit:
        """The commit."""

    def metadata(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Yield (row, metadata as JSON) of the chunks in rows [first, last), in row order."""

    def metadata_at(self, path: Sequence[str], first: int, last: int) -> Iterator[tuple[int, str | None]]:
        """Yield (row, JSON text of the value at *path*, or None) of the chunks in rows [first, last), in row order."""
