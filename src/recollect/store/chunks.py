"""Writing: chunks and their vectors become durable together, or not at all.

The store is the only minter of rows: dense, increasing, never reused within a generation. The order of a put is
the whole protocol: vectors are appended beyond the mark and synced, then one SQLite transaction inserts the
chunks and moves the mark. A crash before the commit leaves bytes that the next put overwrites.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import apsw

from recollect.errors import CollectionError
from recollect.layout import Dtype, Generation, Lexical, storage_errors
from recollect.store import ledger, lexical, schema, vector_file
from recollect.store.checkpoints import Beside, Checkpoints
from recollect.store.checksums import checksum, is_intact
from recollect.store.committed import MAX_PARAMETERS, SnapshotRecord, State, StoredChunk, lookup, read_state
from recollect.store.ledger import Entry, Ledger
from recollect.store.pool import SessionPool
from recollect.store.recent import Payload
from recollect.store.session import Session
from recollect.vectors import StoredMatrix

_log = logging.getLogger("recollect.store")


class NewChunk(NamedTuple):
    """A chunk ready to be stored: checked, its metadata as JSON text."""

    id: str
    text: str
    metadata: str


_SHARED_ROWS = 256


def _row_bytes(matrix: StoredMatrix) -> Iterator[memoryview]:
    """Yield the bytes of each row: slicing a memoryview costs half of what slicing an array does."""
    data, width = vector_file.to_bytes(matrix), matrix.shape[1] * matrix.itemsize
    return (data[start : start + width] for start in range(0, len(data), width))


class Store:
    """The chunks, texts, metadata and vectors of one generation.

    Args:
        paths: of the generation; its dtype is that of the vectors.
        dimension: of the vectors.
        read_only: for a reader.
        idle: connections for reading that are kept open between sessions.
        watch: called with how many chunks a search has found in memory, and how many it has not.

    """

    def __init__(
        self,
        paths: Generation,
        dimension: int,
        *,
        read_only: bool,
        idle: int = 64,
        watch: Callable[[int, int], None] | None = None,
    ) -> None:
        self._paths = paths
        self._dimension = dimension
        self._pool = SessionPool(paths.database, idle, watch)
        self._appender: Beside | None = None
        self._checkpoints: Checkpoints | None = None
        self._writer = None if read_only else schema.connect(paths.database, read_only=False)
        if self._writer is not None:
            self._checkpoints = Checkpoints(self._writer, paths.database)
        self._unsettled = False  # a transaction has begun, and what it came to is not yet in `_state`
        # The log may hold a commit that was refused: this writer's, or, where a reader has kept the log alive, that of
        # a writer before it.
        self._haunted = not read_only and _has_log(paths.database)
        self._indexes_words = False
        try:
            if self._writer is not None:
                with self._errors():
                    self._indexes_words = lexical.tokenizer_of(self._writer) != "none"
            with self.session() as session:
                session.require_ends()
                self._state = session.state
                self.map(session.state.rows)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def create(paths: Generation, words: Lexical = "porter") -> None:
        """Make an empty store in the existing directory of a generation; the caller syncs the directory.

        Args:
            paths: of the generation.
            words: how texts are cut into words for the lexical index; "none" for no such index.

        """
        schema.create(paths.database, words)
        with storage_errors(paths.root, "create"):
            paths.vectors.touch()
            paths.index.mkdir(exist_ok=True)

    def session(self) -> Session:
        """Return a reading session, for a ``with`` statement; any number of threads may have one each."""
        return Session(self._pool)

    def fetch_at(self, seq: int, rows: Sequence[int], matrix: StoredMatrix) -> Sequence[Payload] | None:
        """Return (id, text, metadata JSON, …) of *rows*, in their order, if the store is still at commit *seq*.

        None when it has moved on: begin a `session` then. The quick way for a search whose view is the newest, as it
        nearly always is.

        Args:
            seq: of the view.
            rows: distinct.
            matrix: the vectors of the view.

        Raises:
            CollectionDamaged: one of the chunks is not what was stored.

        """
        # In this order: a commit that has begun between the two had not been acknowledged when the search began.
        newest = self._writer is not None and not self._unsettled
        if self._writer is not None and self._state.seq != seq:
            return None
        return self._pool.fetch_at(seq, rows, matrix, newest=newest) if len(rows) <= MAX_PARAMETERS else None

    @property
    def dtype(self) -> Dtype:
        """How the vectors are kept: `vectors.to_stored` rounds to it."""
        return self._paths.dtype

    def map(self, rows: int) -> StoredMatrix:
        """Map the vectors of rows [0, rows), as stored."""
        return vector_file.map_rows(self._paths.vectors, rows, self._dimension, self._paths.dtype)

    def existing(self, ids: Sequence[str]) -> dict[str, StoredChunk]:
        """Return what is stored under these ids, as the writer sees it."""
        self._settle()
        if self._state.live == 0:
            return {}
        with self._errors():
            return lookup(self._connection, ids)

    def put(self, chunks: Sequence[NewChunk], matrix: StoredMatrix, replaced: Sequence[int]) -> None:
        """Store *chunks* with the rows of *matrix*, and bury the rows they replace; durable on return.

        Args:
            chunks: with distinct ids; an id already stored must have its row in *replaced*.
            matrix: one row each, of the store's dtype.
            replaced: rows that hold older versions.

        Raises:
            StorageFailed: nothing was stored.

        """
        assert matrix.dtype == self.dtype  # else each row would be written over its neighbours
        self._settle()
        self._lay_ghost()
        first = self._state.rows
        with self._appending(matrix, first) as appended, self._transaction() as connection:
            records = [
                (row, *chunk, checksum(vector, *chunk))
                for row, (chunk, vector) in enumerate(zip(chunks, _row_bytes(matrix), strict=True), start=first)
            ]
            self._bury(connection, replaced)
            connection.executemany("INSERT INTO chunks(row, id, text, metadata, crc) VALUES (?,?,?,?,?)", records)
            if self._indexes_words:
                lexical.put(connection, [(row, text) for row, _, text, *_ in records])
            connection.execute(
                "UPDATE state SET seq = seq + 1, rows = rows + ?, live = live + ?",
                (len(chunks), len(chunks) - len(replaced)),
            )
            appended()  # the commit makes the vectors count: they must be durable before it

    def delete(self, rows: Sequence[int]) -> None:
        """Bury rows that hold chunks; durable on return."""
        if not rows:
            return
        with self._transaction() as connection:
            self._bury(connection, rows)
            connection.execute("UPDATE state SET seq = seq + 1, live = live - ?", (len(rows),))

    def record_snapshot(self, snapshot: SnapshotRecord | None) -> None:
        """Make *snapshot* the index in use (None: none), and forget the others."""
        with self._transaction() as connection:
            connection.execute("UPDATE state SET snapshot = NULL")
            connection.execute("DELETE FROM snapshots")
            if snapshot is not None:
                connection.execute("INSERT INTO snapshots(name, rows, record) VALUES (?,?,?)", snapshot)
            connection.execute("UPDATE state SET seq = seq + 1, snapshot = ?", (snapshot and snapshot.name,))

    @contextmanager
    def recording(self, scope: str, space: str) -> Iterator[Ledger]:
        """Yield the records of a space, to be changed; durable at the end of the block, or not at all.

        The commit number stays: it counts the states of the chunks, which this changes nothing about.
        """
        with self._transaction() as connection:
            yield Ledger(connection, scope, space)

    def take_records(self, session: Session) -> None:
        """Take over the records that a session of another store sees, durably; this one must have none."""
        with self._transaction() as connection:
            session.copy_records_to(connection)

    def put_records(self, entries: Iterable[Entry], clock: float) -> int:
        """Store records of any spaces with the times they have, durably and in one commit; return how many.

        Args:
            entries: in any order; this store must have none yet.
            clock: the time of the last put, in seconds since the epoch; not before that of any entry.

        """
        with self._transaction() as connection:
            return ledger.put_entries(connection, entries, clock)

    @property
    def state(self) -> State:
        """The committed state as of this handle's last write; readers ask their session."""
        return self._state

    def close(self) -> None:
        """Close every idle connection; sessions in use end on their own."""
        self._pool.close()
        if self._appender is not None:
            self._appender.rest()  # no vector is written without the lock
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            # Amid a commit, by a signal handler, it cannot be closed, and is with its last user.
            with suppress(apsw.ThreadingViolationError):
                writer.close()

    @property
    def _connection(self) -> apsw.Connection:
        if self._writer is None:  # the facade refuses writes through read-only and closed handles, but not amid a call
            raise schema.closed_amid(self._paths.database)
        return self._writer

    def _settle(self) -> None:
        """Learn what became of a transaction that was cut short, e.g. by Ctrl-C during or after its COMMIT.

        Without this the next put would take its rows, and overwrite their vectors.
        """
        if not self._unsettled:
            return
        with self._errors():
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._state = read_state(self._connection)
            self._unsettled = False

    def _lay_ghost(self) -> None:
        """Make a commit that changes nothing where the log may hold one that was refused, before vectors are written.

        A COMMIT whose sync fails is rolled back, and yet its frames, the commit mark included, stay in the log beyond
        what SQLite takes for its end. Who opens the database when all others have gone, after a kill, reads the log
        anew, and takes that ghost for a commit. By then its rows must not hold the vectors of another batch. A commit
        begins where the ghost does, and the checksum of each frame continues that of the one before: after this one
        nothing of the ghost can be read any more. Any commit would do; that of the batch itself comes too late.

        Raises:
            StorageFailed: it is refused as well; nothing was written, and the next put tries again.

        """
        if self._haunted:
            with self._errors():
                self._unsettled = True
                self._overwrite()
            _log.info("%s: the log was in use: what may have been refused in it is overwritten", self._paths.database)

    def _overwrite(self) -> None:
        self._connection.execute("UPDATE state SET seq = seq + 1")  # outside a transaction: a commit of its own
        self._haunted = False
        self._state = read_state(self._connection)
        self._unsettled = False

    @contextmanager
    def _appending(self, matrix: StoredMatrix, first: int) -> Iterator[Callable[[], None]]:
        """Append vectors beside the block, for a large batch; yield what waits until they are durable.

        A sixth of a put is waiting for the disk to take the vectors, in which the chunks' checksums can be made. Small
        batches are not worth a thread.
        """
        _ = self._connection  # raises where the collection was closed amid this: the lock is another's by now
        if self._appender is not None:
            self._appender.rest()  # of a put that Ctrl-C cut short it may go on, and at the same place
        self._appender = beside = Beside(partial(vector_file.append, self._paths.vectors, matrix, first))
        try:
            if len(matrix) >= _SHARED_ROWS:
                beside.begin("recollect-append")
            else:
                beside.wait()
            yield beside.wait
        finally:
            beside.rest()

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        self._settle()
        connection = self._connection
        self._unsettled = True
        with self._errors():
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                self._haunted = True
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has already rolled back after some errors (a full disk), and says so if asked again; also where
                # a signal handler has closed the collection amid this.
                with suppress(apsw.ConnectionClosedError):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                # What was refused is not to come back, not even as a whole.
                if self._haunted and self._writer is not None:
                    with suppress(apsw.Error):  # or else it is for the next put
                        self._overwrite()
                raise
            self._haunted = False  # whatever ghost there was, this commit lies over it
            self._state = read_state(connection)
            self._unsettled = False

    def _bury(self, connection: apsw.Connection, rows: Sequence[int]) -> None:
        targets = [(row,) for row in rows]
        connection.executemany("DELETE FROM chunks WHERE row = ?", targets)
        connection.executemany("INSERT INTO tombstones(row) VALUES (?)", targets)
        if self._indexes_words:
            lexical.bury(connection, targets)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise schema.translate(error, self._paths.database) from error


def _has_log(database: Path) -> bool:
    try:
        return database.with_name(database.name + "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True  # nobody knows


def supersede(paths: Generation) -> None:
    """Tell readers of a generation that another one is in use: a commit that changes nothing but the sequence.

    Readers look at CURRENT only after a commit. A store that a killed writer has half removed is left as it is.
    """
    if not paths.database.exists():
        return
    try:
        connection = schema.connect(paths.database, read_only=False)
        try:
            connection.execute("UPDATE state SET seq = seq + 1")
        finally:
            connection.close()
    except (apsw.Error, CollectionError):
        return


def verify(session: Session, matrix: StoredMatrix) -> tuple[int, list[str]]:
    """Compare every chunk with its checksum; return how many were read and a line per problem."""
    count, problems = 0, []
    for block in session.scan_all():
        for chunk in block:
            count += 1
            if not is_intact(chunk, matrix):
                problems.append(
                    f"chunk {chunk.id!r} (row {chunk.row}): text, metadata or vector is not what was stored; "
                    "add it again, or restore from a backup"
                )
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
        target.vectors.touch()
        vector_file.append(target.vectors, matrix, 0)
        target.index.mkdir(exist_ok=True)
