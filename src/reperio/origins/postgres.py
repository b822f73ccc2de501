"""Keep an origin in PostgreSQL, in four tables that people may read with SQL of their own.

Each chunk is one row, the newest version, with the number of the commit it came in. Commits are numbered under a lock
of the collection's row, because the order in which a sequence hands out numbers is not the order in which commits
become visible.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson

from reperio.errors import (
    CollectionExists,
    InvalidChunk,
    OriginNotFound,
    OriginRefused,
    OriginUnavailable,
)
from reperio.optional import OptionalImport
from reperio.origins.address import Address, Parsed, parse, resolved
from reperio.origins.protocol import Block, Change, ForgottenRecord, OriginState, Position, diverged
from reperio.store import Entry, NewChunk, Outdated
from reperio.vectors import StoredMatrix

with OptionalImport("an origin in PostgreSQL", "psycopg", extra="postgres"):
    import psycopg
    from psycopg import sql
    from psycopg.types.json import Jsonb

FORMAT = 1
_BLOCK = 1000  # chunks or names in a message
_PER_SECOND = 1000  # chunks that a slow server takes at least
_ATTEMPTS = 3  # to make one commit, over connections that are cut

# reperio_chunks: the newest version of each chunk. `key` is a hash of the id, which may be longer than an index takes.
# `metadata` is for people: PostgreSQL writes it in its own way. `source` is what was stored, to the letter. `exact` is
# there where a text cannot be kept as text, since it has a NUL.
# reperio_gone: what was deleted, and when. A chunk that came back is in both, with the larger number in the first.
SCHEMA = """
CREATE TABLE IF NOT EXISTS reperio_collections (
    collection bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    identity uuid NOT NULL,
    format integer NOT NULL,
    settings json NOT NULL,
    number bigint NOT NULL,
    token uuid NOT NULL,
    committed timestamptz NOT NULL,
    chunks bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS reperio_commits (
    collection bigint NOT NULL,
    number bigint NOT NULL,
    token uuid NOT NULL,
    committed timestamptz NOT NULL,
    PRIMARY KEY (collection, number)
);
CREATE TABLE IF NOT EXISTS reperio_chunks (
    collection bigint NOT NULL,
    key bytea NOT NULL,
    id text NOT NULL,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    source text NOT NULL,
    exact bytea,
    vector bytea NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (collection, key)
);
CREATE INDEX IF NOT EXISTS reperio_chunks_by_number ON reperio_chunks (collection, number);
ALTER TABLE reperio_chunks ALTER vector SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS reperio_gone (
    collection bigint NOT NULL,
    key bytea NOT NULL,
    id text NOT NULL,
    exact bytea,
    number bigint NOT NULL,
    PRIMARY KEY (collection, key)
);
CREATE INDEX IF NOT EXISTS reperio_gone_by_number ON reperio_gone (collection, number);
CREATE TABLE IF NOT EXISTS reperio_records (
    collection bigint NOT NULL,
    key bytea NOT NULL,
    scope text NOT NULL,
    space text NOT NULL,
    name text NOT NULL,
    value text,
    in_group text,
    put_at double precision,
    number bigint NOT NULL,
    PRIMARY KEY (collection, key)
);
CREATE INDEX IF NOT EXISTS reperio_records_by_number ON reperio_records (collection, number);
"""

_CHUNK = "id, text, source, exact, vector, number"
_STATE = (
    "SELECT collection, identity, format, settings::text, number, token, committed, chunks FROM reperio_collections"
)


class PostgresOrigin:
    """An origin in a database of PostgreSQL: see `Origin`.

    Args:
        address: of the database, with ``?collection=name``.
        timeout: seconds for a connection, and for each answer.
    """

    def __init__(self, address: Address, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._parsed = parse(resolved(address))
        self.where = self._parsed.where
        self._connection: psycopg.Connection[Any] | None = None
        self._collection = -1
        self._was_silent = False
        self._dtype = np.dtype("<f4")
        self._dimension = 0

    def state(self) -> OriginState:
        """Ask for the newest state."""
        kept, self._was_silent = self._connection is not None, False
        try:
            return self._asked()
        except OriginUnavailable:
            if not kept or self._was_silent:
                raise
        return self._asked()  # over a new connection: the server, or what lies between, has ended the one that was kept

    def append(self, change: Change, after: Position, to: Position) -> None:
        """Make a commit: see `Origin.append`."""
        until = time.monotonic() + self._timeout + len(change.chunks) / _PER_SECOND
        for attempt in range(_ATTEMPTS):
            try:
                with self._errors(), self._within(until - time.monotonic()):
                    self._append(self._connected(), change, after, to)
                return
            except OriginUnavailable:
                # Whether it was committed is told by its token, when the lock that it had held is free.
                if attempt + 1 == _ATTEMPTS or time.monotonic() > until:
                    raise

    @contextmanager
    def changes(self, after: Position) -> Iterator[PostgresChanges]:
        """Yield what has changed since a position: see `Origin.changes`."""
        with self._errors():
            with self._within(self._timeout):
                connection = self._connected()
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            try:
                with self._within(self._timeout):
                    state = self._state(connection)
                    self._require_passed(connection, after, state)
                    count = connection.execute(
                        "SELECT count(*) FROM reperio_chunks WHERE collection = %s AND number > %s",
                        (self._collection, after.number),
                    ).fetchone()
                yield PostgresChanges(self, connection, after, state, count[0] if count else 0)
            finally:
                with suppress(psycopg.Error):
                    connection.rollback()

    def wait(self, seconds: float) -> bool:
        """Return True when the server tells of a commit, and False when the time is over."""
        self.state()
        with self._errors():
            with self._within(self._timeout):
                connection = self._connected()
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            return any(True for _ in connection.notifies(timeout=seconds, stop_after=1))

    def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()

    def __del__(self) -> None:
        """End the connection of a handle that nobody has closed."""
        with suppress(Exception):
            self.close()

    def abandon(self) -> None:
        """Leave the connection to the parent, and never close it here: the server would be told that it has ended."""
        if self._connection is not None:
            _ABANDONED.append(self._connection)
            self._connection = None

    # ── one answer ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _channel(self) -> str:
        return f"reperio_{self._collection}"

    def _connected(self) -> psycopg.Connection[Any]:
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        self._parsed = parse(resolved(self._address))
        self._connection = connection = _connection(self._parsed, self._timeout)
        # Known by now to whoever cuts it where it takes too long.
        found = connection.execute(
            "SELECT current_setting('server_encoding'), set_config('synchronous_commit', 'on', false), "
            "set_config('client_encoding', 'UTF8', false)"
        ).fetchone()
        if found is None or found[0] != "UTF8":
            self.close()
            raise OriginRefused(f"{self.where}: the database is not encoded as UTF8; take one that is")
        return connection

    def _asked(self) -> OriginState:
        with self._errors(), self._within(self._timeout):
            return self._state(self._connected())

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
        told = orjson.loads(settings)
        self._dtype = np.dtype("<f2" if told.get("dtype") == "float16" else "<f4")
        self._dimension = int(told["dimension"])
        position = Position(str(identity), int(number), str(token))
        return OriginState(position, committed.timestamp(), told, int(chunks))

    def _append(self, connection: psycopg.Connection[Any], change: Change, after: Position, to: Position) -> None:
        with connection.transaction():
            found = connection.execute(f"{_STATE} WHERE name = %s FOR UPDATE", (self._parsed.name,)).fetchone()
            state = self._read_state(found)
            if state.position != after:
                if state.position.origin != after.origin or state.position.number < after.number:
                    raise diverged(self.where, after, state.position)
                if self._token_of(connection, to.number) == to.token:
                    return  # of an attempt whose answer was lost
                raise Outdated(f"{self.where}: commit {state.position.number} has come after {after.number}; try again")
            self._write(connection, change, to)

    def _write(self, connection: psycopg.Connection[Any], change: Change, to: Position) -> None:
        collection, number = self._collection, to.number
        gone = [_key(one) for one in (*change.replaced, *change.deleted)]
        if gone:
            connection.execute("DELETE FROM reperio_chunks WHERE collection = %s AND key = ANY(%s)", (collection, gone))
        if change.deleted:
            connection.cursor().executemany(
                "INSERT INTO reperio_gone VALUES (%s,%s,%s,%s,%s) ON CONFLICT (collection, key) DO UPDATE SET "
                "number = excluded.number",
                [(collection, _key(one), _readable(one), _exact(one), number) for one in change.deleted],
            )
        if change.chunks and change.vectors is not None:
            self._copy(connection, change.chunks, change.vectors, number)
        records = [
            (collection, _key(*entry[:3]), *entry, number)
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
                        _key(chunk.id),
                        _readable(chunk.id),
                        _readable(chunk.text),
                        Jsonb(chunk.metadata, dumps=_readable_json),
                        chunk.metadata,
                        _exact(chunk.id, chunk.text),
                        vector.tobytes(),
                        number,
                    )
                )

    def _require_passed(self, connection: psycopg.Connection[Any], after: Position, state: OriginState) -> None:
        """Require that the origin has been at a position."""
        if after.number == 0 and after.origin == state.position.origin:
            return
        if after.origin != state.position.origin or self._token_of(connection, after.number) != after.token:
            raise diverged(self.where, after, state.position)

    def _token_of(self, connection: psycopg.Connection[Any], number: int) -> str:
        found = connection.execute(
            "SELECT token FROM reperio_commits WHERE collection = %s AND number = %s", (self._collection, number)
        ).fetchone()
        return str(found[0]) if found else ""

    def _create(self, settings: Mapping[str, Any], position: Position) -> None:
        with self._errors():
            with self._within(self._timeout):
                self._connected()
            with self._within(self._timeout), self._connected().transaction():
                connection = self._connected()
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
            raise CollectionExists(f"{self.where} is there already; clone it with reperio pull, or take another name")
        for table in ("chunks", "gone", "records", "commits"):
            connection.execute(f"DELETE FROM reperio_{table} WHERE collection = %s", (self._collection,))
        connection.execute(
            "UPDATE reperio_collections SET identity = %s, settings = %s, number = 0, token = %s, chunks = 0, "
            "committed = clock_timestamp() WHERE collection = %s",
            (position.origin, orjson.dumps(settings).decode(), position.token, self._collection),
        )

    def _not_found(self) -> OriginNotFound:
        return OriginNotFound(
            f"{self.where}: the database has no origin of that name; make one: reperio origin create URL KB"
        )

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Cut the connection where the block takes longer: neither libpq nor a server behind a dead link gives up."""
        if seconds <= 0:
            raise OriginUnavailable(self._silent())
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
                self._was_silent = True
                raise OriginUnavailable(self._silent()) from None
            raise
        finally:
            watch.cancel()

    def _silent(self) -> str:
        return f"{self.where} has not answered within {self._timeout:g} s; searches go on, try again later"

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


class PostgresChanges:
    """What has changed since a commit, in one snapshot of the database: see `Pulled`."""

    def __init__(
        self,
        origin: PostgresOrigin,
        connection: psycopg.Connection[Any],
        after: Position,
        state: OriginState,
        chunks: int,
    ) -> None:
        self._origin, self._connection, self._after = origin, connection, after
        self.state, self.chunks = state, chunks

    def deleted(self) -> Iterator[list[str]]:
        """Yield ids of chunks that were deleted."""
        if self._after.number:
            for part in self._parts("SELECT id, exact FROM reperio_gone"):
                yield [_id(readable, exact) for readable, exact in part]

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
        dtype, dimension = self._origin._dtype, self._origin._dimension
        for part in self._parts(f"SELECT {_CHUNK} FROM reperio_chunks"):
            chunks = [_to_chunk(*found[:4]) for found in part]
            data = b"".join(found[4] for found in part)
            if len(data) != len(part) * dimension * dtype.itemsize:
                raise OriginRefused(
                    f"{self._origin.where}: its vectors do not have {dimension} values; mend them there"
                )
            yield Block(chunks, np.frombuffer(data, dtype=dtype).reshape(len(part), dimension), part[-1][5])

    def token_of(self, number: int) -> str:
        """Return the token of a commit before the state's."""
        return self._origin._token_of(self._connection, number)

    def _parts(self, query: str, condition: str = "") -> Iterator[list[Any]]:
        with self._connection.cursor(f"reperio_{id(self)}", binary=True) as cursor:
            with self._origin._within(self._origin._timeout):
                cursor.execute(
                    f"{query} WHERE collection = %s AND number > %s {condition} ORDER BY number",
                    (self._origin._collection, self._after.number),
                )
            while True:
                with self._origin._within(self._origin._timeout):
                    part = cursor.fetchmany(_BLOCK)
                if not part:
                    return
                yield part


def create(address: Address, settings: Mapping[str, Any], position: Position, *, timeout: float) -> PostgresOrigin:
    """Make an empty origin, and the tables where they are not there: see `connecting.create`."""
    origin = PostgresOrigin(address, timeout=timeout)
    try:
        origin._create(settings, position)
    except BaseException:
        origin.close()
        raise
    return origin


def translated(
    error: psycopg.Error, parsed: Parsed
) -> OriginUnavailable | OriginRefused | OriginNotFound | InvalidChunk:
    """Say what an error of the driver means, and the cure; without the password."""
    state = error.sqlstate or ""
    said = parsed.told(error.diag.message_primary or error)
    for prefix, kind, cure in _MEANINGS:
        if state.startswith(prefix):
            return kind(f"{parsed.where}: {said}; {cure}")
    if not state:
        for words, kind, cure in _WORDS:  # before a connection stands, libpq has no codes
            if words in said:
                return kind(f"{parsed.where}: {said}; {cure}")
    return OriginUnavailable(f"{parsed.where}: {said}; searches go on, try again when the server is there")


_Meaning = type[OriginUnavailable] | type[OriginRefused] | type[OriginNotFound] | type[InvalidChunk]
_MAKE = "make one: reperio origin create URL KB"
_MEANINGS: tuple[tuple[str, _Meaning, str], ...] = (
    ("28", OriginRefused, "check user and password (PGPASSWORD, a service file, or a function that returns the URL)"),
    ("3D", OriginRefused, "check the name of the database"),
    ("42P01", OriginNotFound, f"the database is no origin; {_MAKE}"),
    (
        "42",
        OriginRefused,
        "the role needs SELECT, INSERT, UPDATE and DELETE on the reperio_ tables; CREATE on the schema to make them",
    ),
    ("25006", OriginRefused, "it is read-only (a standby?); connect to the primary"),
    ("3F", OriginRefused, "name a schema: ?options=-csearch_path%3Dname"),
    ("53100", OriginRefused, "the disk of the server is full; free some space there"),
    ("53", OriginUnavailable, "the server is short of something; try again later"),
    ("22", InvalidChunk, "PostgreSQL cannot keep that; change the chunk"),
    ("54", InvalidChunk, "PostgreSQL cannot keep that; change the chunk"),
)
_WORDS: tuple[tuple[str, _Meaning, str], ...] = (
    ("password", OriginRefused, _MEANINGS[0][2]),
    ("authentication", OriginRefused, _MEANINGS[0][2]),
    ("no pg_hba.conf entry", OriginRefused, "let this host in, there"),
    ('database "', OriginRefused, _MEANINGS[1][2]),
    ('role "', OriginRefused, _MEANINGS[0][2]),
    ("invalid connection option", OriginRefused, "check the options in the URL"),
    ("invalid sslmode", OriginRefused, "check the options in the URL"),
    ("invalid port", OriginRefused, "check the URL"),
    ("invalid integer value", OriginRefused, "check the options in the URL"),
    ("invalid percent-encoded", OriginRefused, "percent-encode user and password"),
    ("invalid URI", OriginRefused, "check the URL"),
    ("definition of service", OriginRefused, "check the service file"),
)
_ABANDONED: list[object] = []  # connections of a parent process


def _connection(parsed: Parsed, timeout: float) -> psycopg.Connection[Any]:
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


def _key(*names: str) -> bytes:
    found = blake2b(digest_size=16)
    for name in names:
        data = name.encode()
        found.update(b"%d:" % len(data) + data)
    return found.digest()


def _readable(text: str) -> str:
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _readable_json(metadata: str) -> str:
    if "\\u0000" not in metadata:
        return metadata
    return orjson.dumps(_without_nul(orjson.loads(metadata))).decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return _readable(value)
    if isinstance(value, list):
        return [_without_nul(one) for one in value]
    if isinstance(value, dict):
        return {_readable(name): _without_nul(one) for name, one in value.items()}
    return value


def _exact(*texts: str) -> bytes | None:
    return orjson.dumps(texts) if any("\0" in text for text in texts) else None


def _id(readable: str, exact: bytes | None) -> str:
    return readable if exact is None else str(orjson.loads(exact)[0])


def _to_chunk(chunk_id: str, text: str, source: str, exact: bytes | None) -> NewChunk:
    if exact is not None:
        chunk_id, text = orjson.loads(exact)
    return NewChunk(chunk_id, text, source)
