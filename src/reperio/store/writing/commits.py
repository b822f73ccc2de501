"""A writer's transactions: each begins with a proof that it may write, and with the state as it is by then.

SQLite lets one transaction write at a time. So whatever two writers believe of their locks, a transaction sees all that
was committed before it, and nothing is committed until it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from reperio.errors import CollectionLocked
from reperio.printable import logger
from reperio.store import schema
from reperio.store.committed import Outdated, State, read_state

_log = logger("reperio.store")
_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)


class Commits:
    """The transactions of one store, and the state that they have led to.

    Args:
        database: chunks.db.
        permit: raises where this may not write, or not any more; called in each transaction, before anything else.
        read_only: for a reader, which has no connection to write with.

    Attributes:
        writer: the connection that writes; None for a reader, and when it is closed.
        state: the committed state, as of the last transaction here; a reader's is that of its opening.
        unsettled: a transaction has begun, and what it came to is not yet in *state*.

    """

    def __init__(self, database: Path, permit: Callable[[], None], *, read_only: bool) -> None:
        self._database = database
        self._permit = permit
        self.state = State(0, 0, 0, None)
        self.unsettled = False
        self._coming = self.state  # what the transaction leads to
        self._held = False
        # The log may hold a commit that was refused: this writer's, or, where a reader has kept the log alive, that of
        # a writer before it.
        self._haunted = not read_only and _has_log(database)
        self.writer = None if read_only else schema.connect(database, read_only=False)

    @property
    def connection(self) -> apsw.Connection:
        """The connection that writes; raises where there is none."""
        if self.writer is None:  # the facade refuses writes through read-only and closed handles, but not amid a call
            raise schema.closed_amid(self._database)
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
                self._haunted = committing = True
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                # What was refused is not to come back, not even as a whole.
                if committing and self.writer is not None:
                    with suppress(apsw.Error):  # or else it is for the next put
                        self._overwrite()
                raise
            self._haunted = False  # whatever ghost there was, this commit lies over it
            self.state = self._coming
            self.unsettled = False

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
        """Keep every writer from committing during the block, this one included: it copies what is here elsewhere.

        Also one that has not noticed yet that it has lost the lock: what it stored here would be left behind. In a
        database that is too damaged to begin a transaction in, nobody can commit.

        Raises:
            CollectionClosed: this may not write any more.
            StorageFailed: another writer is at it.

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
        if self._held:  # by this very thread: a callback of the user's, or their embedder, writes
            raise CollectionLocked(
                f"{self._database.parent} is being written anew by the call that has called this; what was stored now "
                "would be left behind: store it when that call has returned"
            )
        if not self.unsettled:
            return
        with self.errors():
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self.state = read_state(self.connection)
            self.unsettled = False

    def lay_ghost(self) -> None:
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
            self._permit()
            with self.errors():
                self.unsettled = True
                self._overwrite()
            _log.info("%s: the log was in use: what may have been refused in it is overwritten", self._database)

    def close(self) -> None:
        """Close the connection; doing so twice is no error."""
        if self.writer is not None:
            writer, self.writer = self.writer, None
            # Amid a commit, by a signal handler, it cannot be closed, and is with its last user.
            with suppress(apsw.ThreadingViolationError):
                writer.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the errors of SQLite into those of a collection."""
        try:
            yield
        except apsw.Error as error:
            raise schema.translate(error, self._database) from error

    def _begin(self, connection: apsw.Connection) -> None:
        # The proof comes second: whoever gets the lock of the collection from here on finds this transaction, and waits
        # for its end.
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            self._permit()  # tells more where the lock is with whoever is at it
            raise
        self._permit()
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
        self._haunted = False
        self.state = read_state(self.connection)
        self.unsettled = False


def _has_log(database: Path) -> bool:
    try:
        return database.with_name(database.name + "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True  # nobody knows
