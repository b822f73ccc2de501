"""Run a writer's transactions. Each begins with a proof that it may write, and with the state as it is by then.

SQLite lets one transaction write at a time. So whatever two writers believe of their locks, a transaction sees all that
was committed before it, and nothing is committed until it has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from reperio.errors import CollectionLocked
from reperio.layout import FileLock, Opened
from reperio.printable import logger
from reperio.store import schema
from reperio.store.committed import UNREADABLE, Outdated, State, read_state

_log = logger("reperio.store")
_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)


class Commits:
    """The transactions of one store, and the state that they have led to.

    Args:
        database: chunks.db.
        turns: lock that a writer holds for each transaction; None where nobody else knows of the database yet.
        opened: the database as it was opened.
        read_only: for a reader, which has no connection to write with.

    Attributes:
        writer: the connection that writes; None for a reader, and when it is closed.
        state: the committed state, as of the last transaction here; a reader's is that of its opening.
        unsettled: a transaction has begun, and what it came to is not yet in *state*.
    """

    def __init__(self, database: Path, turns: FileLock | None, opened: Opened, *, read_only: bool) -> None:
        self._database = database
        self._turns = turns
        self._opened = opened
        self.state = State(0, 0, 0, None)
        self.unsettled = False
        self._coming = self.state  # what the transaction leads to
        self._held = False
        # True while the log may hold a refused commit: one of this writer's or, where a reader has kept the log alive,
        # one of an earlier writer's.
        self._may_hold_refused = not read_only and _has_log(database)
        self.writer = None if read_only else schema.connect(database, read_only=False)

    @property
    def connection(self) -> apsw.Connection:
        """The connection that writes; raises where there is none."""
        if self.writer is None:  # the facade checks before a call; another thread may close the handle during it
            raise schema.closed_during(self._database)
        return self.writer

    @contextmanager
    def transaction(self, seen: int | None = None) -> Iterator[apsw.Connection]:
        """Run the block in a transaction, which is durable at its end, or rolled back.

        Args:
            seen: commit from whose state the block was prepared; None where nothing was.

        Raises:
            Outdated: another writer has committed since.
        """
        self.settle()
        connection = self.connection
        self.unsettled = True
        committing = False
        with self.errors():
            try:
                self._begin(connection)
                if seen is not None and seen != self.state.seq:
                    raise Outdated(f"{self._database}: commit {self.state.seq} has come after {seen}; try again")
                yield connection
                self._may_hold_refused = committing = True
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                # A refused commit must not come back, not even whole.
                if committing and self.writer is not None:
                    with suppress(apsw.Error):  # if this fails, the next put tries again
                        self._overwrite()
                raise
            self._may_hold_refused = False  # this commit lies over whatever was refused before
            self.state = self._coming
            self.unsettled = False

    def require_permitted(self) -> None:
        """Raise `CollectionClosed` where another writer may be at work here, or other files are at the paths."""
        if self._turns is not None:
            self._turns.require_in_place()
        self._opened.require()

    def advance(self, *, rows: int = 0, live: int = 0) -> None:
        """Move the state by so many rows and chunks, inside a transaction."""
        self.connection.execute("UPDATE state SET seq = seq + 1, rows = rows + ?, live = live + ?", (rows, live))
        seq, rows_before, live_before, snapshot = self.state
        self._coming = State(seq + 1, rows_before + rows, live_before + live, snapshot)

    def name_snapshot(self, name: str | None) -> None:
        """Make *name* the index in use, inside a transaction."""
        self.connection.execute("UPDATE state SET seq = seq + 1, snapshot = ?", (name,))
        self._coming = self.state._replace(seq=self.state.seq + 1, snapshot=name)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep every writer from committing during the block, this one included; the block copies the generation.

        This stops also a writer that has not noticed that it lost the lock: what it stored here would be left behind.
        No transaction can begin in a database that is too damaged, so nobody can commit there.

        Raises:
            CollectionClosed: this handle may not write any more.
            StorageFailed: another writer is in a transaction.
        """
        self.settle()
        self.unsettled = True
        with self.errors():
            try:
                self._begin(self.connection)
            except _DAMAGED as error:
                _log.warning("%s: no transaction can begin in it: %s", self._database, error)
            except BaseException:
                self._roll_back()
                raise
        self._held = True
        try:
            yield
        finally:
            self._held = False
            with suppress(apsw.Error):
                self._roll_back()

    def settle(self) -> None:
        """Learn what became of a transaction that was cut short, e.g. by Ctrl-C during or after its COMMIT.

        Without this the next put would take its rows, and overwrite their vectors.
        """
        if self._held:  # by this thread: a callback or the embedder of the user writes
            raise CollectionLocked(
                f"{self._database.parent} is being rewritten by the call that has called this; what was stored now "
                "would be left behind: store it when that call has returned"
            )
        if not self.unsettled:
            return
        with self.errors():
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self.state = read_state(self.connection)
            self.unsettled = False

    def catch_up(self, *, suspect: bool) -> None:
        """Read the state that others have committed meanwhile.

        Args:
            suspect: the log may hold a refused commit of another process.
        """
        self.settle()
        self._may_hold_refused = self._may_hold_refused or suspect
        with self.errors():
            self.state = read_state(self.connection)

    def overwrite_refused(self) -> None:
        """Make a commit that changes nothing where the log may hold a refused one; call before vectors are written.

        A COMMIT whose sync fails is rolled back. Yet its frames, with the commit mark, stay in the log beyond what
        SQLite takes for its end. After a kill, the next process to open the database reads the log again and takes the
        refused commit for a real one. Its rows must not hold the vectors of another batch by then. A new commit begins
        at the same place, and the checksum of each frame continues that of the frame before, so nothing of the refused
        commit can be read afterwards. Any commit would do, but that of the batch itself comes too late.

        Raises:
            StorageFailed: this commit is refused as well; nothing was written, and the next put tries again.
        """
        if self._may_hold_refused:
            self.require_permitted()
            with self.errors():
                self.unsettled = True
                self._overwrite()
            _log.info("%s: the log was in use: a commit that may have been refused is overwritten", self._database)

    def reconnect(self) -> None:
        """Open the connection again after `close`: a fork came in between."""
        self.writer = schema.connect(self._database, read_only=False)

    def close(self) -> None:
        """Close the connection; doing so twice is no error."""
        if self.writer is not None:
            writer, self.writer = self.writer, None
            # A signal handler cannot close it during a commit; its last user then closes it.
            with suppress(apsw.ThreadingViolationError):
                writer.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the errors of reading and writing a database into those of a collection."""
        try:
            yield
        except UNREADABLE as error:
            raise schema.translate(error, self._database) from error

    def _begin(self, connection: apsw.Connection) -> None:
        # The proof comes second: a writer that gets the lock of the collection from here on finds this transaction, and
        # waits for its end.
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            self.require_permitted()  # its error says more, where another process has the lock
            raise
        self.require_permitted()
        self.state = self._coming = read_state(connection)

    def _roll_back(self) -> None:
        # SQLite has already rolled back after some errors (a full disk), and says so if asked again. A signal handler
        # may have closed the collection meanwhile.
        writer = self.writer
        if writer is not None:
            with suppress(apsw.ConnectionClosedError):
                if writer.in_transaction:
                    writer.execute("ROLLBACK")

    def _overwrite(self) -> None:
        self.connection.execute("UPDATE state SET seq = seq + 1")  # outside a transaction: a commit of its own
        self._may_hold_refused = False
        self.state = read_state(self.connection)
        self.unsettled = False


def _has_log(database: Path) -> bool:
    try:
        return database.with_name(database.name + "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it cannot be told: assume the worse
