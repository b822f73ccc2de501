"""Directories that Chroma has written, for tests that read or break them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw

from tests.importers.folders import DATA

PACKED = sorted(DATA.glob("chromadb-*.tar.xz"))


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(folder / "chroma.sqlite3"))
    try:
        yield connection
    finally:
        connection.close()


def files_of(folder: Path, name: str) -> Path:
    """Return the folder with the vectors of a collection."""
    with changing(folder) as database:
        [segment] = database.execute(
            "SELECT s.id FROM segments s JOIN collections c ON c.id = s.collection "
            "WHERE c.name = ? AND s.scope = 'VECTOR'",
            (name,),
        ).fetchone()
    return folder / segment
