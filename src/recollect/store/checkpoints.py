"""Moving what the write-ahead log holds into the database, beside the writer's work.

A checkpoint changes nothing that anybody sees, and can be interrupted at any point. In the thread that commits it would
take a fifth of a bulk load. So another thread, with its own connection, does most of it, and the writer finishes the
rest, which lets SQLite begin the log anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import apsw

from recollect.errors import CollectionError
from recollect.store.schema import connect

_log = logging.getLogger("recollect.store")
_BEGIN_PAGES = 4000  # 32 MiB of log: another thread begins to move it
_FINISH_PAGES = 8000  # 64 MiB: the writer moves what is left
_AGAIN_SECONDS = 0.1


class Checkpoints:
    """Keeps the log of one writer short.

    Args:
        writer: its connection; SQLite's own automatic checkpoints are replaced.
        database: chunks.db.

    """

    def __init__(self, writer: apsw.Connection, database: Path) -> None:
        self._database = database
        self._beside: Beside | None = None
        self._begun = False
        writer.set_wal_hook(self._committed)

    def close(self) -> None:
        """Wait for a checkpoint in progress; closing the writer's connection does the last one."""
        if self._beside is not None:
            self._beside.rest()

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
            self._beside = Beside.begin(self._checkpoint, "recollect-checkpoint")  # or else the writer does it all
        elif pages < _BEGIN_PAGES:
            self._begun = False
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        # A full disk, say, is met again by the writer, who can tell the user.
        with (
            contextlib.suppress(apsw.Error, CollectionError),
            contextlib.closing(connect(self._database, read_only=False)) as connection,
        ):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


class Beside:
    """A call in a thread of its own, that may also be waited for by a signal handler amid any of this.

    An executor may not: the handler would wait for a lock of the executor that its own thread holds.

    Args:
        call: what to run; its exception is raised by `wait`.
        name: of the thread.

    """

    def __init__(self, call: Callable[[], None], name: str) -> None:
        self._call = call
        self._over = False
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @classmethod
    def begin(cls, call: Callable[[], None], name: str) -> Beside | None:
        """Begin a call; None where no thread can be started: Python is ending."""
        beside = cls(call, name)
        try:
            beside._thread.start()
        except RuntimeError:
            return None
        return beside

    def wait(self) -> None:
        """Return when the call has; raise what it raised."""
        self.rest()
        if self._failed is not None:
            raise self._failed

    def rest(self) -> None:
        """Return when the call is over, whatever it came to."""
        while not self._over:
            # A `join` without an end would wait for ever within another one of its own thread, which holds its lock.
            self._thread.join(_AGAIN_SECONDS)

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self._failed = error
        finally:
            self._over = True
