"""Moving what the write-ahead log holds into the database, beside the writer's work.

A checkpoint changes nothing that anybody sees, and can be interrupted at any point. In the thread that commits it would
take a fifth of a bulk load. So another thread, with its own connection, does most of it, and the writer finishes the
rest, which lets SQLite begin the log anew.
"""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from recollect.errors import CollectionError
from recollect.store.schema import connect

_log = logging.getLogger("recollect.store")
_BEGIN_PAGES = 4000  # 32 MiB of log: another thread begins to move it
_FINISH_PAGES = 8000  # 64 MiB: the writer moves what is left


class Checkpoints:
    """Keeps the log of one writer short.

    Args:
        writer: its connection; SQLite's own automatic checkpoints are replaced.
        database: chunks.db.

    """

    def __init__(self, writer: apsw.Connection, database: Path) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="recollect-checkpoint")
        self._begun = False
        writer.set_wal_hook(self._committed)

    def close(self) -> None:
        """Wait for a checkpoint in progress; closing the writer's connection does the last one."""
        self._threads.shutdown()

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
            with contextlib.suppress(RuntimeError):  # no thread can be started: the writer does it all
                self._threads.submit(self._checkpoint)
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
