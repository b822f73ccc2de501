"""Define the tables of chunks.db, and open connections to it.

One engine for all: apsw, which brings its own current SQLite (docs/decisions/0001-apsw.md).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from reperio.errors import CollectionClosed, CollectionDamaged, CollectionError, StorageFailed
from reperio.layout import Lexical, create_file, require_plain_database, storage_errors
from reperio.store import ledger
from reperio.store.words import tokenizers

PAGE_SIZE = 8192
BUSY_TIMEOUT_MS = 10_000
_LARGE_BYTES = 1 << 30

# state: the single row that makes a commit a commit. `rows` is the high-water mark of the vectors, `live` the
# number of chunks, `seq` counts commits, `snapshot` names the index in use.
# chunks: a row is never changed, only inserted and deleted; an update is a new row.
# lexical (in words/): the words of each live row, for FTS5. records (in ledger.py): what others keep here.
# tombstones: rows below the mark that hold no chunk; numbered, so that a reader fetches only the new ones.
SCHEMA = """
CREATE TABLE state(
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    live INTEGER NOT NULL,
    snapshot TEXT REFERENCES snapshots(name)
);
INSERT INTO state VALUES (1, 0, 0, 0, NULL);
CREATE TABLE chunks(
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE tombstones(number INTEGER PRIMARY KEY, row INTEGER NOT NULL UNIQUE);
CREATE TABLE snapshots(
    name TEXT PRIMARY KEY,
    rows INTEGER NOT NULL,
    record TEXT NOT NULL
);
"""


def connect(database: Path, *, read_only: bool) -> apsw.Connection:
    """Open chunks.db.

    A reader never writes a page and never checkpoints, not even when it is the last to close. In a directory
    that it cannot write (a read-only mount, an image, another user's) SQLite cannot keep its shared-memory file; while
    there is no WAL either, no writer is at work, and the database is opened as immutable: a `Frozen` connection.

    Raises:
        CollectionDamaged, StorageFailed: with the path and the cure.
    """
    require_plain_database(database)
    flags = apsw.SQLITE_OPEN_READWRITE if not read_only else apsw.SQLITE_OPEN_READONLY
    flags |= apsw.SQLITE_OPEN_URI
    uri = f"file:{quote(str(database))}"
    try:
        if read_only and is_frozen(database):
            connection: apsw.Connection = Frozen(f"{uri}?immutable=1", flags, database)
        else:
            connection = apsw.Connection(uri, flags=flags)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        if read_only:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.pragma("query_only", True)
            connection.wal_autocheckpoint(0)
            connection.pragma("mmap_size", _mapped_bytes(database))
        else:
            connection.pragma("synchronous", "FULL")
            connection.pragma("foreign_keys", True)
    except apsw.Error as error:
        raise translate(error, database) from error
    return connection


def _mapped_bytes(database: Path) -> int:
    """Return how much of a database a reader maps."""
    # Pages are read where they lie instead of copied: ten random rows cost 38 µs instead of 55. Not those of a large
    # database, which comes from the disk: around each page the system then reads up to 8 MB, and all wait; copied,
    # it is that page alone (docs/decisions/0002-what-a-search-costs.md).
    with contextlib.suppress(OSError):  # SQLite says what is wrong
        if database.stat().st_size > _LARGE_BYTES:
            return 0
    return 1 << 31


def open_log(connection: apsw.Connection) -> None:
    """Let SQLite open all files of a new connection; until it first reads, the log is not among them.

    Only afterwards can be said that all of them are of one directory: see `layout.Opened`.
    """
    connection.execute("PRAGMA schema_version").fetchall()


class Strange(apsw.CorruptError):
    """A database holds what no damage makes of ours."""


def require_tables(reading: apsw.Connection | apsw.Cursor) -> None:
    """Raise `apsw.CorruptError` for whatever in the database is not what `create` makes, to the letter.

    A view by the name of a table of ours may have rows without end, a trigger is the maker's program, and a generated
    column costs what its maker wanted. A missing table is reported when it is needed: older formats had fewer tables.
    """
    known = _created()
    for entry in reading.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"):
        if entry not in known:
            raise apsw.CorruptError(f"its {entry[0]!s:.20} {entry[1]!r:.40} is not one that Reperio creates")
    encoding = reading.execute("PRAGMA encoding").get
    if encoding != "UTF-8":  # bytes of a text would be those of another
        raise apsw.CorruptError(f"its texts are in {encoding!s:.20}")


def require_plain_tables(reading: apsw.Connection | apsw.Cursor) -> None:
    """Raise `Strange` for views, triggers and computed columns: nothing else, as bits may have flipped."""
    for name, sql in reading.execute("SELECT name, sql FROM sqlite_schema"):
        if isinstance(sql, str) and (not _PLAIN.match(sql) or _COMPUTED.search(sql)):
            raise Strange(f"its {name!r:.40} is not a table or an index that holds what was stored")


@cache
def _created() -> frozenset[Any]:
    """Return the entries of SQLite's schema that `create` makes, of all ways to cut words."""
    found: set[Any] = set()
    for tokenizer in (None, *tokenizers.all_kinds()):
        connection = apsw.Connection(":memory:")
        connection.execute(f"{SCHEMA} {ledger.SCHEMA} {tokenizers.schema(tokenizer)}")
        found.update(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))
        connection.close()
    return frozenset(found)


class Frozen(apsw.Connection):
    """A connection opened as immutable: valid until a writer has come."""

    def __init__(self, uri: str, flags: int, database: Path) -> None:
        self._database = database
        self._seen = _signature(database)
        super().__init__(uri, flags=flags)

    def is_valid(self) -> bool:
        """Say whether no writer has come: it would leave this connection with pages of different age."""
        return is_frozen(self._database) and _signature(self._database) == self._seen


def is_frozen(database: Path) -> bool:
    """Say whether a reader cannot write here and no writer is at work: there is no WAL."""
    return not os.access(database.parent, os.W_OK) and not database.with_name(database.name + "-wal").exists()


def _signature(database: Path) -> tuple[int, int, int] | None:
    try:
        status = database.stat()
    except FileNotFoundError:
        return None  # SQLite tells
    return status.st_ino, status.st_mtime_ns, status.st_size


def create(database: Path, lexical: Lexical) -> None:
    """Make an empty chunks.db, checkpointed into one file."""
    with storage_errors(database, "create"):
        os.close(create_file(database))
    try:
        connection = apsw.Connection(str(database))
        connection.pragma("page_size", PAGE_SIZE)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "FULL")
        connection.execute(f"BEGIN; {SCHEMA} {ledger.SCHEMA} {tokenizers.schema(tokenizers.newest(lexical))} COMMIT")
        connection.close()
    except apsw.Error as error:
        raise translate(error, database) from error


def translate(error: apsw.Error | ValueError, database: Path) -> CollectionError:
    """Say what a SQLite error, or content that cannot be decoded, means for the collection, and the cure."""
    if isinstance(error, (apsw.ConnectionClosedError, apsw.CursorClosedError)):
        return closed_during(database)
    said = str(error)
    if isinstance(error, apsw.Error) and said == "not an error":  # of a copy that fails, SQLite keeps the code alone
        codes = apsw.mapping_result_codes | apsw.mapping_extended_result_codes
        said = str(codes.get(getattr(error, "extendedresult", 0), type(error).__name__))
    if isinstance(error, _DAMAGE):
        return CollectionDamaged(
            f"{database} is damaged ({said}); keep what is whole with check(fix=True) or reperio doctor --mend, or "
            "restore from a backup"
        )
    if isinstance(error, apsw.SQLError):
        return CollectionDamaged(f"{database} lacks a table it should have ({said}); restore from a backup")
    if isinstance(error, apsw.CantOpenError) and not database.exists():
        return CollectionDamaged(f"{database} is missing; restore from a backup")
    # Out of space for its shared memory, SQLite speaks of an I/O error.
    kind = apsw.FullError if isinstance(error, apsw.IOError) and _is_full(database.parent) else type(error)
    number, cure = _FAILURES.get(kind, (errno.EIO, "check the file system"))
    failure = StorageFailed(f"cannot use {database}: {said}; {cure}")
    failure.errno = number
    return failure


def closed_during(database: Path) -> CollectionClosed:
    """Return the error for a call during which the collection was closed."""
    return CollectionClosed(
        f"{database} was closed during this call, by another thread or a signal handler; open the collection again to "
        "see what the call has done"
    )


def _is_full(directory: Path) -> bool:
    try:
        free = os.statvfs(directory)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < _SHARED_MEMORY


# A damaged length is "too big" to SQLite, a damaged type a "mismatch", a damaged number "out of range".
_DAMAGE = (
    ValueError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.FormatError,
    apsw.TooBigError,
    apsw.MismatchError,
    apsw.RangeError,
)
_PLAIN = re.compile(r"CREATE (?:TABLE|INDEX|VIRTUAL TABLE \S+ USING fts5\()", re.IGNORECASE)
_COMPUTED = re.compile(r"\b(?:AS|GENERATED)\b", re.IGNORECASE)
_SHARED_MEMORY = 32_768  # bytes that SQLite takes at once for the index of its WAL
_FAILURES: dict[type[Exception], tuple[int, str]] = {
    apsw.FullError: (errno.ENOSPC, "the disk is full: free some space; what was acknowledged is safe"),
    apsw.ReadOnlyError: (errno.EROFS, "it cannot be written here; open with read_only=True"),
    apsw.CantOpenError: (
        errno.EACCES,
        "check its permissions and how many files may be open (ulimit -n), or open with read_only=True",
    ),
    apsw.PermissionsError: (errno.EACCES, "check its permissions, or open with read_only=True"),
    apsw.BusyError: (errno.EBUSY, "another program holds the database; close it there"),
    apsw.NoMemError: (errno.ENOMEM, "not enough memory"),
}
