"""Keep an origin in PostgreSQL, in tables that people may read with SQL of their own.

Each chunk is one row, the newest version, with the number of the commit it came in. Commits are numbered under a lock
of the collection's row, because the order in which a sequence hands out numbers is not the order in which commits
become visible.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import orjson

from reperio.errors import OriginRefused, OriginUnavailable
from reperio.optional import OptionalImport
from reperio.origins.address import Address, Parsed, parse, resolved
from reperio.origins.protocol import Change, OriginState, Position
from reperio.origins.server import ServerOrigin
from reperio.store import NewChunk
from reperio.vectors import StoredMatrix

with OptionalImport("an origin in PostgreSQL", "psycopg", extra="postgres"):
    import psycopg
    from psycopg import sql
    from psycopg.types.json import Jsonb

from reperio.origins.postgres.changes import PostgresChanges, token_of
from reperio.origins.postgres.failures import translated
from reperio.origins.postgres.rows import FORMAT, SCHEMA, exact_of, key_of, readable, readable_json

_STATE = (
    "SELECT collection, identity, format, settings::text, number, token, committed, chunks FROM reperio_collections"
)


class PostgresOrigin(ServerOrigin):
    """An origin in a database of PostgreSQL: see `Origin`.

    Args:
        address: of the database, with ``?collection=name``.
        timeout: seconds for a connection, and for each answer.
    """

    def __init__(self, address: Address, *, timeout: float) -> None:
        super().__init__(address, timeout=timeout)
        self._connection: psycopg.Connection[Any] | None = None
        self._collection = -1

    @contextmanager
    def changes(self, after: Position) -> Iterator[PostgresChanges]:
        """Yield what has changed since a position: see `Origin.changes`."""
        within = partial(self._within, self._timeout)
        with self._errors():
            with within():
                connection = self._connected()
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            try:
                with within():
                    state = self._state(connection)
                    passed = after.number == 0 or self._token(connection, after.number) == after.token
                if after.origin != state.position.origin or not passed:
                    raise self._diverged(after, state.position)
                yield PostgresChanges(connection, self._collection, after, state, self.where, within)
            finally:
                with suppress(psycopg.Error, OriginUnavailable), within():
                    connection.rollback()

    def wait(self, seconds: float, known: Position | None) -> bool:
        """Return when the origin leaves a position: see `Origin.wait`."""
        self.state()
        with self._errors():
            with self._within(self._timeout):
                connection = self._connected()
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
                if self._state(connection).position != known:  # a commit from here on is told
                    return True
            return any(True for _ in connection.notifies(timeout=seconds, stop_after=1))

    # ── one answer ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self) -> OriginState:
        with self._errors(), self._within(self._timeout):
            return self._state(self._connected())

    def _append(self, change: Change, after: Position, to: Position, seconds: float) -> None:
        with self._errors(), self._within(seconds):
            connection = self._connected()
            with connection.transaction():
                found = connection.execute(f"{_STATE} WHERE name = %s FOR UPDATE", (self._parsed.name,)).fetchone()
                theirs = self._read_state(found).position
                if theirs != after and self._token(connection, to.number) == to.token:
                    return  # of an attempt whose answer was lost
                self._require_at(after, theirs)
                self._write(connection, change, to)

    @property
    def _channel(self) -> str:
        return f"reperio_{self._collection}"

    def _connected(self) -> psycopg.Connection[Any]:
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        self._parsed = parse(resolved(self._address))
        self._connection = connection = _connect(self._parsed, self._timeout)
        # Known by now to whoever cuts it where it takes too long.
        found = connection.execute(
            "SELECT current_setting('server_encoding'), set_config('synchronous_commit', 'on', false), "
            "set_config('client_encoding', 'UTF8', false)"
        ).fetchone()
        if found is None or found[0] != "UTF8":
            self.close()
            raise OriginRefused(f"{self.where}: the database is not encoded as UTF8; take one that is")
        return connection

    def _connection_held(self) -> object | None:
        return self._connection

    def _forget_connection(self) -> None:
        self._connection = None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()

    def _state(self, connection: psycopg.Connection[Any]) -> OriginState:
        return self._read_state(connection.execute(f"{_STATE} WHERE name = %s", (self._parsed.name,)).fetchone())

    def _read_state(self, found: Any) -> OriginState:
        if found is None:
            raise self._not_found()
        self._collection, identity, kind, settings, number, token, committed, chunks = found
        if kind > FORMAT:
            raise OriginRefused(
                f"{self.where} was made by a newer Reperio (format {kind}; this one knows {FORMAT}); update this one"
            )
        position = Position(str(identity), int(number), str(token))
        return OriginState(position, committed.timestamp(), orjson.loads(settings), int(chunks))

    def _token(self, connection: psycopg.Connection[Any], number: int) -> str:
        return token_of(connection, self._collection, number)

    def _write(self, connection: psycopg.Connection[Any], change: Change, to: Position) -> None:
        collection, number = self._collection, to.number
        gone = [key_of(one) for one in (*change.replaced, *change.deleted)]
        if gone:
            connection.execute("DELETE FROM reperio_chunks WHERE collection = %s AND key = ANY(%s)", (collection, gone))
        if change.deleted:
            connection.cursor().executemany(
                "INSERT INTO reperio_gone VALUES (%s,%s,%s,%s,%s) ON CONFLICT (collection, key) DO UPDATE SET "
                "number = excluded.number",
                [(collection, key_of(one), readable(one), exact_of(one), number) for one in change.deleted],
            )
        if change.chunks and change.vectors is not None:
            self._copy(connection, change.chunks, change.vectors, number)
        records = [
            (collection, key_of(*entry[:3]), *entry, number)
            for entry in (*change.records, *((*names, None, None, None) for names in change.forgotten))
        ]
        if records:
            connection.cursor().executemany(
                "INSERT INTO reperio_records VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s) ON CONFLICT (collection, key) "
                "DO UPDATE SET value = excluded.value, in_group = excluded.in_group, put_at = excluded.put_at, "
                "number = excluded.number",
                records,
            )
        settings = None if change.settings is None else orjson.dumps(change.settings).decode()
        connection.execute(
            "UPDATE reperio_collections SET number = %s, token = %s, committed = clock_timestamp(), "
            "chunks = chunks + %s, settings = coalesce(%s::json, settings) WHERE collection = %s",
            (number, to.token, len(change.chunks) - len(gone), settings, collection),
        )
        connection.execute(
            "INSERT INTO reperio_commits SELECT collection, number, token, committed FROM reperio_collections "
            "WHERE collection = %s",
            (collection,),
        )
        connection.execute("SELECT pg_notify(%s, %s)", (self._channel, str(number)))

    def _copy(
        self, connection: psycopg.Connection[Any], chunks: Sequence[NewChunk], vectors: StoredMatrix, number: int
    ) -> None:
        columns = "collection, key, id, text, metadata, source, exact, vector, number"
        types = ["int8", "bytea", "text", "text", "jsonb", "text", "bytea", "bytea", "int8"]
        collection = self._collection
        with connection.cursor().copy(f"COPY reperio_chunks ({columns}) FROM STDIN (FORMAT BINARY)") as copying:
            copying.set_types(types)
            for chunk, vector in zip(chunks, vectors, strict=True):
                copying.write_row(
                    (
                        collection,
                        key_of(chunk.id),
                        readable(chunk.id),
                        readable(chunk.text),
                        Jsonb(chunk.metadata, dumps=readable_json),
                        chunk.metadata,
                        exact_of(chunk.id, chunk.text),
                        vector.tobytes(),
                        number,
                    )
                )

    def make(self, settings: Mapping[str, Any], position: Position) -> None:
        """Make an empty origin, and the tables where they are not there: see `connecting.create`."""
        with self._errors(), self._within(self._timeout):
            connection = self._connected()
            with connection.transaction():
                # Two that create at once would trip over each other's tables.
                connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('reperio', 0))")
                if connection.execute("SELECT to_regclass('reperio_records')").fetchone() == (None,):
                    connection.execute(SCHEMA)
                made = connection.execute(
                    "INSERT INTO reperio_collections "
                    "(name, identity, format, settings, number, token, committed, chunks) "
                    "VALUES (%s,%s,%s,%s,0,%s,clock_timestamp(),0) ON CONFLICT (name) DO NOTHING RETURNING collection",
                    (self._parsed.name, position.origin, FORMAT, orjson.dumps(settings).decode(), position.token),
                ).fetchone()
                if made is None:
                    self._replace_unfinished(connection, settings, position)

    def _replace_unfinished(
        self, connection: psycopg.Connection[Any], settings: Mapping[str, Any], position: Position
    ) -> None:
        """Empty an origin that was never completed, and give it another identity."""
        found = connection.execute(f"{_STATE} WHERE name = %s FOR UPDATE", (self._parsed.name,)).fetchone()
        if not self._read_state(found).settings.get("filling"):
            raise self._exists()
        for table in ("chunks", "gone", "records", "commits"):
            connection.execute(f"DELETE FROM reperio_{table} WHERE collection = %s", (self._collection,))
        connection.execute(
            "UPDATE reperio_collections SET identity = %s, settings = %s, number = 0, token = %s, chunks = 0, "
            "committed = clock_timestamp() WHERE collection = %s",
            (position.origin, orjson.dumps(settings).decode(), position.token, self._collection),
        )

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Cut the connection where the block takes longer: neither libpq nor a server behind a dead link gives up."""
        if seconds <= 0:
            raise self._silent()
        late = threading.Event()

        def cut() -> None:
            late.set()
            connection = self._connection  # as of then: it may just be made
            if connection is not None:
                _cut(connection)

        watch = threading.Timer(seconds, cut)
        watch.daemon = True
        watch.start()
        try:
            yield
        except psycopg.Error:
            if late.is_set():
                raise self._silent() from None
            raise
        finally:
            watch.cancel()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the driver's errors into ours; a connection that has failed is not used again."""
        try:
            yield
        except psycopg.Error as error:
            connection = self._connection
            if connection is not None and (connection.closed or connection.broken or not error.sqlstate):
                self.close()
            raise translated(error, self._parsed) from None  # the driver's text may have the password
        except OriginUnavailable:
            self.close()
            raise
        except Exception:
            raise
        except BaseException:
            # Ctrl-C: the rest of an answer would be taken for the next one, and the driver's lock may stay held.
            connection, self._connection = self._connection, None
            if connection is not None:
                _cut(connection)
                connection.pgconn.finish()
            raise


def create(address: Address, settings: Mapping[str, Any], position: Position, *, timeout: float) -> PostgresOrigin:
    """Make an empty origin, and return it: see `connecting.create`."""
    origin = PostgresOrigin(address, timeout=timeout)
    try:
        origin.make(settings, position)
    except BaseException:
        origin.close()
        raise
    return origin


def _connect(parsed: Parsed, timeout: float) -> psycopg.Connection[Any]:
    return psycopg.connect(
        parsed.server,
        autocommit=True,
        connect_timeout=max(2, int(timeout)),
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        application_name="reperio",
        prepare_threshold=None,  # statements that a pooler like PgBouncer would not find again
    )


def _cut(connection: psycopg.Connection[Any]) -> None:
    """Shut the socket of a connection, so that whoever waits for it stops."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as held:
        held.shutdown(socket.SHUT_RDWR)
