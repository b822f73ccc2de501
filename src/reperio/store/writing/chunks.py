"""Writing: chunks and their vectors become durable together, or not at all.

The store is the only minter of rows: dense, increasing, never reused within a generation. The order of a put is
the whole protocol: one SQLite transaction begins, which keeps every other writer out; the mark is read in it; vectors
are appended beyond the mark and synced; the chunks are inserted, the mark is moved, and that is committed. A crash
before the commit leaves bytes that the next put overwrites.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import apsw

from reperio.layout import Dtype, FileLock, Generation, Lexical, Opened, create_file, make_directory, storage_errors
from reperio.store import ledger, schema, vector_file
from reperio.store.checksums import to_records
from reperio.store.committed import MAX_PARAMETERS, SnapshotEntry, State, StoredChunk, lookup
from reperio.store.ledger import Entry, Ledger
from reperio.store.reading.pool import SessionPool
from reperio.store.reading.recent import Payload
from reperio.store.reading.session import Session
from reperio.store.words import lexical
from reperio.store.words.tokenizers import Tokenizer, tokenizer_of
from reperio.store.writing.changes import Elsewhere, NewChunk, Replacement
from reperio.store.writing.checkpoints import BackgroundCall, Checkpoints
from reperio.store.writing.commits import Commits
from reperio.vectors import StoredMatrix

_SHARED_ROWS = 256  # from so many on, writing the vectors takes long enough to be another thread's work


class Store:
    """The chunks, texts, metadata and vectors of one generation.

    Args:
        paths: of the generation; its dtype is that of the vectors.
        dimension: of the vectors.
        read_only: for a reader.
        idle: connections for reading that are kept open between sessions.
        watch: called with how many chunks a search has found in memory, and how many it has not.
        turns: lock that a writer holds for each of its transactions; None where nobody else knows of these files yet.
    """

    def __init__(
        self,
        paths: Generation,
        dimension: int,
        *,
        read_only: bool,
        idle: int = 64,
        watch: Callable[[int, int], None] | None = None,
        turns: FileLock | None = None,
    ) -> None:
        self._paths = paths
        self._dimension = dimension
        self._turns = turns
        self._known: tuple[bytes, int] = b"", -1  # a mark of the turns, and the newest commit by then
        self._opened = Opened(paths.database)
        self._pool = SessionPool(paths.database, idle, watch, require=self._opened.require)
        self._vectors = vector_file.Appender(paths.vectors)
        self._appending: BackgroundCall | None = None
        self._checkpoints: Checkpoints | None = None
        self._commits = commits = Commits(paths.database, turns, self._opened, read_only=read_only)
        self._suspended = False
        self._follow_log()
        self._tokenizer: Tokenizer | None = None
        try:
            if commits.writer is not None:
                with commits.errors():
                    self._tokenizer = tokenizer_of(commits.writer)
                self._opened.require()
            with self.session() as session:
                session.require_ends()
                commits.state = session.state
                self.map(session.state.rows)
        except BaseException:
            self.close()
            raise

    def _follow_log(self) -> None:
        writer = self._commits.writer
        if writer is not None:
            self._checkpoints = Checkpoints(writer, self._paths.database, self._opened.require)

    @staticmethod
    def create(paths: Generation, words: Lexical = "porter") -> None:
        """Make an empty store in the existing directory of a generation; the caller syncs the directory.

        Args:
            paths: of the generation.
            words: how texts are cut into words for the lexical index; "none" for no such index.
        """
        schema.create(paths.database, words)
        with storage_errors(paths.root, "create"):
            os.close(create_file(paths.vectors))
            make_directory(paths.index, exist_ok=True)

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
        if len(rows) > MAX_PARAMETERS:
            return None
        mark = b"" if self._turns is None else self._turns.mark()
        known = mark != b"" and self._known == (mark, seq)
        found = self._pool.fetch_at(seq, rows, matrix, newest=known)
        if found is not None and not known:  # read after the mark, and it was the newest commit
            self._known = mark, seq
        return found

    def catch_up(self, mark: bytes, *, suspect: bool) -> bool:
        """Read the state at the beginning of a turn, unless nobody has had a turn since the last one here.

        Returns whether it was read.

        Args:
            mark: mark of the turns as it was when this one began.
            suspect: the turn before did not end well, so that the log may hold a commit that was refused.
        """
        if self._suspended:
            self._suspended = False
            self._commits.reconnect()
            self._opened.require()
            self._follow_log()
        elif mark and self._known == (mark, self._commits.state.seq):
            return False
        self._commits.catch_up(suspect=suspect)
        return True

    def known_at(self, mark: bytes) -> None:
        """Note the mark with which a turn has ended, so that the next search need not ask for the newest commit."""
        self._known = mark, self._commits.state.seq

    @property
    def dtype(self) -> Dtype:
        """Type that vectors are kept as: `vectors.to_stored` rounds to it."""
        return self._paths.dtype

    def map(self, rows: int) -> StoredMatrix:
        """Map the vectors of rows [0, rows), as stored."""
        mapped = vector_file.map_rows(self._paths.vectors, rows, self._dimension, self._paths.dtype)
        self._opened.require()
        return mapped

    def require_permitted(self) -> None:
        """Raise `CollectionClosed` where another writer may be at work here, or other files are at the paths."""
        self._commits.require_permitted()

    def require_in_place(self) -> None:
        """Raise `CollectionClosed` where other files are at the paths."""
        self._opened.require()

    def require_there(self, matrix: StoredMatrix) -> None:
        """Raise `CollectionDamaged` where others have cut the file of mapped vectors short."""
        vector_file.require_there(matrix, self._paths)

    def existing(self, ids: Sequence[str]) -> dict[str, StoredChunk]:
        """Return what is stored under these ids, as the writer sees it."""
        self._commits.settle()
        if self._commits.state.live == 0:
            return {}
        with self._commits.errors():
            return lookup(self._commits.connection, ids)

    def put(
        self,
        chunks: Sequence[NewChunk],
        matrix: StoredMatrix,
        replaced: Sequence[int],
        *,
        seen: int | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Store *chunks* with the rows of *matrix*, and bury the rows they replace; durable on return.

        Args:
            chunks: with distinct ids; an id already stored must have its row in *replaced*.
            matrix: one row each, of the store's dtype.
            replaced: rows that hold older versions.
            seen: commit in which *replaced* was looked up.
            elsewhere: another place that the commit is made in.

        Raises:
            Outdated: another writer has committed since *seen*, here or elsewhere; nothing was stored.
            CollectionClosed: this may not write any more; nothing was stored.
            StorageFailed: nothing was stored.
        """
        assert matrix.dtype == self.dtype  # else each row would be written over its neighbours
        commits = self._commits
        commits.settle()
        commits.overwrite_refused()
        with commits.transaction(seen) as connection:
            first = commits.state.rows
            appending = self._append(matrix, first)
            try:
                records = to_records(chunks, vector_file.rows_of(matrix), first)
                if replaced:
                    self._bury(connection, replaced)
                self._insert(connection, records)
                commits.advance(rows=len(chunks), live=len(chunks) - len(replaced))
                if appending is not None:
                    appending.wait()  # the commit makes the vectors count: they must be durable before it
                if elsewhere is not None:
                    self._commit_elsewhere(connection, elsewhere)
            finally:
                if appending is not None:
                    appending.rest()

    def delete(self, rows: Sequence[int], *, seen: int | None = None, elsewhere: Elsewhere | None = None) -> None:
        """Bury rows that hold chunks; durable on return.

        Args:
            rows: of the chunks.
            seen: commit in which they were looked up.
            elsewhere: another place that the commit is made in.

        Raises:
            Outdated, CollectionClosed, StorageFailed: as for `put`; nothing was deleted.
        """
        if not rows:
            self.require_permitted()  # that nothing is there to delete is an answer, too
            return
        with self._commits.transaction(seen) as connection:
            self._bury(connection, rows)
            self._commits.advance(live=-len(rows))
            if elsewhere is not None:
                self._commit_elsewhere(connection, elsewhere)

    def take_over(self, replacements: Iterable[Replacement], entry: Entry, *, instead: bool = False) -> None:
        """Apply what others have changed elsewhere, in one transaction, and keep a record of where that ends.

        Args:
            replacements: applied one after the other.
            entry: the record.
            instead: of everything that is stored here: what is not among them is deleted.
        """
        commits = self._commits
        commits.settle()
        commits.overwrite_refused()
        with self._commits.transaction() as connection:
            begun = first = commits.state.rows
            buried = 0
            if instead:
                old = [row for (row,) in connection.execute("SELECT row FROM chunks")]
                self._bury(connection, old)
                buried += len(old)
                ledger.clear(connection)
            for one in replacements:
                found = lookup(connection, [*one.deleted, *(chunk.id for chunk in one.chunks)])
                rows = [stored.row for stored in found.values()]
                self._bury(connection, rows)
                buried += len(rows)
                if one.chunks and one.vectors is not None:
                    self._vectors.append(one.vectors, first)
                    self._insert(connection, to_records(one.chunks, vector_file.rows_of(one.vectors), first))
                    first += len(one.chunks)
                ledger.replace_entries(connection, one.records, one.forgotten)
            ledger.replace_entries(connection, [entry])
            if first != begun or buried:
                commits.advance(rows=first - begun, live=first - begun - buried)

    def note(self, elsewhere: Elsewhere) -> None:
        """Make a commit elsewhere that changes nothing here but its record."""
        with self._commits.transaction() as connection:
            self._commit_elsewhere(connection, elsewhere)

    def use_snapshot(self, snapshot: SnapshotEntry | None) -> None:
        """Make *snapshot* the index in use (None: none), and forget the others."""
        with self._commits.transaction() as connection:
            connection.execute("UPDATE state SET snapshot = NULL")
            connection.execute("DELETE FROM snapshots")
            if snapshot is not None:
                connection.execute("INSERT INTO snapshots(name, rows, record) VALUES (?,?,?)", snapshot)
            self._commits.name_snapshot(snapshot and snapshot.name)

    @contextmanager
    def recording(
        self, scope: str, space: str, elsewhere: Callable[[], Elsewhere | None] = lambda: None
    ) -> Iterator[Ledger]:
        """Yield the records of a space, to be changed; durable at the end of the block, or not at all.

        The commit number stays: it counts the states of the chunks, which this changes nothing about.

        Args:
            scope: of the handle, as text.
            space: name of the space.
            elsewhere: asked at the end of the block for another place that the commit is made in.
        """
        with self._commits.transaction() as connection:
            yield Ledger(connection, scope, space)
            if (other := elsewhere()) is not None:
                self._commit_elsewhere(connection, other)

    def take_records(self, session: Session) -> None:
        """Take over the records that a session of another store sees, durably; this one must have none."""
        with self._commits.transaction() as connection:
            session.copy_records_to(connection)

    def put_records(self, entries: Iterable[Entry], clock: float) -> int:
        """Store records of any spaces with the times they have, durably and in one commit; return how many.

        Args:
            entries: in any order; this store must have none yet.
            clock: the time of the last put, in seconds since the epoch; not before that of any entry.
        """
        with self._commits.transaction() as connection:
            return ledger.put_entries(connection, entries, clock)

    def hold(self) -> AbstractContextManager[None]:
        """Keep every writer from committing: see `Commits.hold`."""
        return self._commits.hold()

    @property
    def state(self) -> State:
        """The committed state as of this handle's last write; readers ask their session."""
        return self._commits.state

    def suspend(self) -> bool:
        """Close all connections until `resume`, as far as none is in use, and say whether that were all.

        For a fork: SQLite's locks are the process's, and a child that inherits an open connection takes them for its
        own. Nobody may be writing here.
        """
        if self._commits.writer is not None:
            self._suspended = True
            if self._checkpoints is not None:
                self._checkpoints.close()
            self._commits.close()
        return self._pool.suspend()

    def resume(self) -> None:
        """Go on after `suspend`; a writer connects again at its next turn."""
        self._pool.resume()

    def close(self) -> None:
        """Close every idle connection; sessions in use end on their own."""
        self._suspended = False
        self._pool.close()
        if self._appending is not None:
            self._appending.rest()  # no vector is written without the lock
        self._vectors.close()
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._commits.close()
        self._opened.close()

    def _append(self, matrix: StoredMatrix, first: int) -> BackgroundCall | None:
        """Append vectors; those of a large batch in another thread, in which case its call is returned.

        A sixth of a put is waiting for the disk to take the vectors, in which the chunks' checksums can be made. A
        small batch is appended at once: it is not worth a thread.
        """
        if self._appending is not None:
            self._appending.rest()  # of a put that Ctrl-C cut short it may go on, and at the same place
            self._appending = None
        if len(matrix) < _SHARED_ROWS:
            self._vectors.append(matrix, first)
            return None
        self._appending = BackgroundCall(partial(self._vectors.append, matrix, first))
        self._appending.begin("reperio-append")
        return self._appending

    def _insert(self, connection: apsw.Connection, records: Sequence[Any]) -> None:
        connection.executemany("INSERT INTO chunks(row, id, text, metadata, crc) VALUES (?,?,?,?,?)", records)
        if self._tokenizer is not None:
            lexical.put(connection, self._tokenizer, ((row, text) for row, _, text, *_ in records))

    def _commit_elsewhere(self, connection: apsw.Connection, elsewhere: Elsewhere) -> None:
        ledger.replace_entries(connection, [elsewhere.entry])
        # Now the log grows, not in COMMIT: on a full disk nothing is to be done elsewhere.
        connection.cache_flush()
        elsewhere.append()

    def _bury(self, connection: apsw.Connection, rows: Sequence[int]) -> None:
        targets = [(row,) for row in rows]
        connection.executemany("DELETE FROM chunks WHERE row = ?", targets)
        connection.executemany("INSERT INTO tombstones(row) VALUES (?)", targets)
        if self._tokenizer is not None:
            lexical.bury(connection, targets)
