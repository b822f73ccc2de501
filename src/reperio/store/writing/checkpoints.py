"""Move the content of the write-ahead log into the database, during the writer's work.

A checkpoint changes nothing that anybody sees, and can be interrupted at any point. In the thread that commits it would
take a fifth of a bulk load. So another thread, with its own connection, does most of it, and the writer finishes the
rest, which lets SQLite start the log from its beginning.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import apsw

from reperio.errors import CollectionError
from reperio.printable import logger
from reperio.store.schema import connect, open_log

_log = logger("reperio.store")
_BEGIN_PAGES = 4000  # 32 MiB of log: another thread begins to move it
_FINISH_PAGES = 8000  # 64 MiB: the writer moves what is left


class Checkpoints:
    """Keeps the log of one writer short.

    Args:
        writer: its connection; SQLite's own automatic checkpoints are replaced.
        database: chunks.db.
        require: raises where another database is at that path by now.
    """

    def __init__(self, writer: apsw.Connection, database: Path, require: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._require = require
        self._background: BackgroundCall | None = None
        self._begun = False
        writer.set_wal_hook(self._committed)

    def close(self) -> None:
        """Wait for a checkpoint in progress; closing the writer's connection does the last one."""
        if self._background is not None:
            self._background.rest()

    def _committed(self, writer: apsw.Connection, _name: str, pages: int) -> int:
        # The commit is made. An exception from here would come out of it, as if it had been refused.
        if pages >= _FINISH_PAGES:
            try:
                writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.BusyError:
                pass  # the other thread is at it: the next commit tries again
            except apsw.Error as error:
                _log.warning("%s: the log of %d pages cannot be moved into it: %s", self._database, pages, error)
        elif pages >= _BEGIN_PAGES and not self._begun:
            self._begun = True
            self._background = BackgroundCall(self._checkpoint)
            self._background.begin("reperio-checkpoint")
        elif pages < _BEGIN_PAGES:
            self._begun = False
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        # A full disk, say, is met again by the writer, which can tell the user.
        with (
            contextlib.suppress(apsw.Error, CollectionError),
            contextlib.closing(connect(self._database, read_only=False)) as connection,
        ):
            open_log(connection)
            self._require()  # a log of another database, moved into this one, would destroy it
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


class BackgroundCall:
    """Make a call in another thread: once at most, and not after `rest`.

    Signals may come at any point: a handler may close the collection, Ctrl-C may leave a thread that goes on. An
    executor has locks of its own, for which a handler would wait for ever, and does not report a call left over.

    Args:
        call: what to do; `wait` raises its exception.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._turn = threading.RLock()  # held during the call; reentrant, as a signal handler's thread may hold it
        self._over = False
        self._failed: BaseException | None = None

    def begin(self, name: str) -> None:
        """Let a thread of that name make the call; if none can start, because Python is ending, `wait` makes it."""
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._make, name=name, daemon=True).start()

    def wait(self) -> None:
        """Return when the call is done; make it here if no thread has begun; raise what it raised."""
        self._make()
        if self._failed is not None:
            raise self._failed

    def rest(self) -> None:
        """Return when the call is over; if no thread has begun, it is never made."""
        with self._turn:
            self._over = True

    def _make(self) -> None:
        with self._turn:
            if not self._over:
                try:
                    self._call()
                except BaseException as error:
                    self._failed = error
                finally:
                    self._over = True
