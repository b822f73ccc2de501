"""Check the collection in a directory, whether it can be opened or not."""

from __future__ import annotations

from pathlib import Path

from reperio.collection.opening import open as open_collection
from reperio.errors import CollectionDamaged
from reperio.types import CollectionInfo, Problem


def examine(path: Path, *, trust_index: bool = True) -> tuple[list[Problem], CollectionInfo | None]:
    """Return what is wrong with a collection, and its description; None where it cannot be opened."""
    try:
        with open_collection(path, read_only=True, trust_index=trust_index) as kb:
            return list(kb.check().problems), kb.info()
    except CollectionDamaged as error:
        return [Problem.of(error)], None
