"""What a document store is opened with, and what a serialized pipeline keeps of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import reperio
from reperio import Collection
from reperio.arguments import to_path
from reperio.layout import IN_MEMORY, Layout

DEFAULT_DIMENSION = 768
"""What Haystack's other document stores take where nothing is said."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a store's collection is opened, once it is first used."""

    path: str | None
    embedding_dimension: int
    metric: str
    scope: Mapping[str, Any] | None
    read_only: bool

    def open(self) -> Collection:
        """Open the collection, or create it."""
        if self.path is None:
            return reperio.open(":memory:", dimension=self.embedding_dimension, metric=self.metric, scope=self.scope)
        there = self.path != IN_MEMORY and Layout(to_path("path", self.path)).is_collection()
        return reperio.open(
            self.path,
            dimension=None if there else self.embedding_dimension,
            metric=None if there else self.metric,
            scope=self.scope,
            read_only=self.read_only,
        )


def to_text(path: str | os.PathLike[str] | None) -> str | None:
    """Return a path as a serialized pipeline keeps it, absolute.

    The collection is opened at the first use, and a pipeline loaded again, when the working directory may be another.
    """
    return path if path is None or path == IN_MEMORY else str(to_path("path", path).absolute())
