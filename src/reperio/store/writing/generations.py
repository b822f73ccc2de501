"""Copy, verify and retire the store of a whole generation."""

from __future__ import annotations

import os
from pathlib import Path

from reperio.errors import CollectionError
from reperio.layout import Generation, create_file, is_regular, make_directory, storage_errors
from reperio.store import schema, vector_file
from reperio.store.checksums import is_intact
from reperio.store.committed import UNREADABLE
from reperio.store.reading.session import Session
from reperio.types import Problem
from reperio.vectors import StoredMatrix


def supersede(paths: Generation) -> None:
    """Tell readers of a generation that another one is in use: a commit that changes nothing but the sequence.

    Readers look at CURRENT only after a commit. A store that a killed writer has half removed is left as it is.
    """
    try:
        if not is_regular(paths.database):
            return
        connection = schema.connect(paths.database, read_only=False)
        try:
            schema.require_tables(connection)
            connection.execute("UPDATE state SET seq = seq + 1")
        finally:
            connection.close()
    except (*UNREADABLE, CollectionError):
        return


def forget_snapshot(database: Path) -> None:
    """Make no index the one in use, in a copy of a store that nobody has open.

    Raises:
        CollectionDamaged, StorageFailed: it cannot be changed.
    """
    connection = schema.connect(database, read_only=False)
    try:
        connection.execute("BEGIN IMMEDIATE; UPDATE state SET snapshot = NULL; DELETE FROM snapshots; COMMIT")
    except UNREADABLE as error:
        raise schema.translate(error, database) from error
    finally:
        connection.close(True)


def verify(session: Session, matrix: StoredMatrix) -> tuple[int, list[Problem]]:
    """Compare every chunk with its checksum; return how many were read, and the problems."""
    count, problems = 0, []
    for block in session.scan_all():
        for chunk in block:
            count += 1
            if not is_intact(chunk, matrix):
                what = f"chunk {chunk.id!r} (row {chunk.row}): text, metadata or vector is not what was stored"
                problems.append(Problem("damage", what, "add it again, or restore from a backup"))
    return count, problems


def copy(session: Session, matrix: StoredMatrix, target: Generation) -> None:
    """Copy the store of the session's commit, durably, into the existing directory of *target*.

    Args:
        session: what to copy.
        matrix: the vectors of all rows of that commit.
        target: where to; of the same dtype.
    """
    with storage_errors(target.root, "copy to"):
        session.copy_to(target.database)
        os.close(create_file(target.vectors))
        vector_file.Appender(target.vectors).append(matrix, 0)
        make_directory(target.index, exist_ok=True)
