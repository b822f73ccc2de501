"""Read a SQLite database that another program has written, without a change to it.

A hostile database may have views that never end, triggers, pages that are their own children, and texts that share
their pages. So it must consist of plain tables, and what it returns is bounded by the length of its file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw
from typing_extensions import Self

from reperio.errors import InvalidInput
from reperio.layout import is_there, open_regular, require_absent_or_regular, storage_errors
from reperio.store.schema import open_log, require_plain_tables

_LONGEST = 256 << 20  # bytes of one value
_LEAST_STEPS, _STEPS = 20_000_000, 32  # instructions of SQLite in all: so many, and so many per byte of the file
_LEAST_BYTES, _BYTES = 64 << 20, 16  # bytes of values in all: likewise. Values may share their pages
_STEPS_AT_ONCE = 100_000  # instructions between two looks
_DAMAGED = (apsw.Error, ValueError)  # ValueError: a text that is no UTF-8


class ForeignDatabase:
    """An open database of others, to be used in a ``with`` block.

    Args:
        path: the database file.
        cure: what to do about one that cannot be read, for messages.

    Raises:
        StorageFailed: it is not there, or no regular file.
        InvalidInput: it is no database, damaged, or holds what no importer reads.
    """

    def __init__(self, path: Path, *, cure: str) -> None:
        self.path = path
        self._cure = cure
        self._closing = ExitStack()
        try:
            self._open()
        except BaseException:
            self._closing.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def rows(self, sql: str, values: Sequence[str | int] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield what a SELECT returns.

        Raises:
            InvalidInput: the database is damaged, or made to return more than it can hold.
        """
        try:
            for row in self._connection.execute(sql, values):
                for value in row:
                    if type(value) in (str, bytes):
                        self._spend(len(value))
                yield row
        except apsw.InterruptError:
            raise InvalidInput(f"{self.path} was not read: it asks for more work than its size can have") from None
        except _DAMAGED as error:
            raise self._unreadable(error) from None

    def columns(self, table: str) -> frozenset[str]:
        """Return the names of a table's columns; empty where there is no such table."""
        return frozenset(name for (name,) in self.rows("SELECT name FROM pragma_table_info(?)", (table,)))

    def require_unchanged(self) -> None:
        """Raise `InvalidInput` where somebody has written the database since it was opened."""
        if self._signature() != self._opened:
            raise InvalidInput(
                f"{self.path} was written while it was read; stop the program that uses it, and try again"
            )

    def _signature(self) -> tuple[int, int, int]:
        with storage_errors(self.path, "read"), open(open_regular(self.path), "rb") as file:
            status = os.fstat(file.fileno())
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _open(self) -> None:
        self._opened = self._signature()
        size = self._opened[1]
        self._left = _LEAST_BYTES + _BYTES * size
        self._steps = _LEAST_STEPS + _STEPS * size
        source = self._settled()
        try:
            # Immutable: neither a lock nor a log is made next to it, and nothing that lies there is followed.
            self._connection = apsw.Connection(
                f"file:{quote(str(source))}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            )
            self._closing.callback(self._connection.close, True)
            self._connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
            for setting in (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER):
                self._connection.config(setting, 0)
            self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, _LONGEST)
            self._connection.pragma("cell_size_check", True)
            self._connection.set_progress_handler(self._stop, _STEPS_AT_ONCE)
            require_plain_tables(self._connection)
        except apsw.InterruptError:
            raise InvalidInput(f"{self.path} was not read: it asks for more work than its size can have") from None
        except _DAMAGED as error:
            raise self._unreadable(error) from None

    def _settled(self) -> Path:
        """Return a database file that is whole by itself: where a log belongs to it, a copy that has taken it over."""
        journal, log = (self.path.with_name(self.path.name + suffix) for suffix in ("-journal", "-wal"))
        for path in (journal, log):
            require_absent_or_regular(path)
        if _has_content(journal):
            raise InvalidInput(
                f"{self.path} was left in the middle of a change ({journal.name} lies next to it); {self._cure}"
            )
        if not _has_content(log):
            return self.path
        folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="reperio-import-")))
        copy = folder / "copy.db"
        for source, target in ((self.path, copy), (log, copy.with_name(f"{copy.name}-wal"))):
            with open(open_regular(source), "rb") as old, storage_errors(target, "write"), open(target, "xb") as new:
                shutil.copyfileobj(old, new, 1 << 20)
        try:
            connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)
            open_log(connection)  # before, there is no log to take over
            connection.pragma("wal_checkpoint(TRUNCATE)")
            connection.close()
        except apsw.Error as error:
            raise self._unreadable(error) from None
        return copy

    def _stop(self) -> bool:
        self._steps -= _STEPS_AT_ONCE
        return self._steps < 0

    def _spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise InvalidInput(f"{self.path} was not read: it returns many times as much as its size")

    def _unreadable(self, error: Exception) -> InvalidInput:
        if isinstance(error, InvalidInput):
            return error
        return InvalidInput(f"{self.path} cannot be read as a database ({error!s:.200}); {self._cure}")


def _has_content(path: Path) -> bool:
    return is_there(path) and path.stat().st_size > 0
