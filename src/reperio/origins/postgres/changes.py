"""Read what has changed in PostgreSQL since a commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import psycopg

from reperio.errors import OriginRefused
from reperio.origins.postgres.rows import id_of, to_chunk
from reperio.origins.protocol import Block, ForgottenRecord, OriginState, Position, vectors_of
from reperio.store import Entry

_BLOCK = 1000  # chunks or names in a message


class PostgresChanges:
    """The changes since a commit, in one snapshot of the database: see `Pulled`.

    Args:
        connection: in a transaction that sees one state.
        collection: number of the collection.
        after: the state that the replica has.
        state: the state that the transaction sees.
        where: the database, for messages.
        within: cuts the connection where its block takes too long.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        collection: int,
        after: Position,
        state: OriginState,
        where: str,
        within: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._connection, self._collection, self._after = connection, collection, after
        self._where, self._within = where, within
        self.state = state
        with within():
            found = connection.execute(
                "SELECT count(*) FROM reperio_chunks WHERE collection = %s AND number > %s", (collection, after.number)
            ).fetchone()
        self.chunks: int = found[0] if found else 0

    def deleted(self) -> Iterator[list[str]]:
        """Yield ids of chunks that were deleted."""
        if self._after.number:
            for part in self._parts("SELECT id, exact FROM reperio_gone"):
                yield [id_of(told, exact) for told, exact in part]

    def forgotten(self) -> Iterator[list[ForgottenRecord]]:
        """Yield names of records that were deleted."""
        if self._after.number:
            for part in self._parts("SELECT scope, space, name FROM reperio_records", "AND put_at IS NULL"):
                yield [ForgottenRecord(*names) for names in part]

    def records(self) -> Iterator[list[Entry]]:
        """Yield records that were put."""
        columns = "scope, space, name, value, in_group, put_at"
        for part in self._parts(f"SELECT {columns} FROM reperio_records", "AND put_at IS NOT NULL"):
            yield [Entry._make(found) for found in part]

    def blocks(self) -> Iterator[Block]:
        """Yield the chunks that were put, by the numbers of their commits."""
        dtype, dimension = vectors_of(self.state)
        for part in self._parts("SELECT id, text, source, exact, vector, number FROM reperio_chunks"):
            chunks = [to_chunk(*found[:4]) for found in part]
            data = b"".join(found[4] for found in part)
            if len(data) != len(part) * dimension * dtype.itemsize:
                raise OriginRefused(f"{self._where}: its vectors do not have {dimension} values; mend them there")
            yield Block(chunks, np.frombuffer(data, dtype=dtype).reshape(len(part), dimension), part[-1][5])

    def token_of(self, number: int) -> str:
        """Return the token of a commit before the state's."""
        with self._within():
            return token_of(self._connection, self._collection, number)

    def _parts(self, query: str, condition: str = "") -> Iterator[list[Any]]:
        with self._connection.cursor(f"reperio_{id(self)}", binary=True) as cursor:
            with self._within():
                cursor.execute(
                    f"{query} WHERE collection = %s AND number > %s {condition} ORDER BY number",
                    (self._collection, self._after.number),
                )
            while True:
                with self._within():
                    part = cursor.fetchmany(_BLOCK)
                if not part:
                    return
                yield part


def token_of(connection: psycopg.Connection[Any], collection: int, number: int) -> str:
    """Return the token of a commit; empty where there is none of that number."""
    found = connection.execute(
        "SELECT token FROM reperio_commits WHERE collection = %s AND number = %s", (collection, number)
    ).fetchone()
    return str(found[0]) if found else ""
