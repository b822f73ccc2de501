"""Keep records of other programs next to the chunks, in the same database and as safe as its commits.

It tells nothing about chunks, so a put moves no commit number, and no reader of chunks has anything to load again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeGuard

import apsw
import orjson

from reperio.types import Problem, Record

# spaces: a scope, as text, and the name within it; numbered, so that a record need not repeat what may be long.
# records: the newest of each key alone. clock: the time of the last put, which outlives the record itself.
SCHEMA = """
CREATE TABLE spaces(number INTEGER PRIMARY KEY, scope TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (scope, name));
CREATE TABLE records(
    space INTEGER NOT NULL REFERENCES spaces(number),
    key TEXT NOT NULL,
    value TEXT,
    in_group TEXT,
    time REAL NOT NULL,
    UNIQUE (space, key)
);
CREATE INDEX records_by_time ON records(space, time);
CREATE INDEX records_by_group ON records(space, in_group, time);
CREATE TABLE clock(one INTEGER PRIMARY KEY CHECK (one = 1), time REAL NOT NULL);
INSERT INTO clock VALUES (1, 0);
"""

_COLUMNS = "key, CAST(value AS BLOB), in_group, time"
_PUT = """
INSERT INTO records(space, key, value, in_group, time) VALUES (?,?,?,?,?)
ON CONFLICT (space, key) DO UPDATE SET value = excluded.value, in_group = excluded.in_group, time = excluded.time
"""
_GET = f"""
WITH wanted(key) AS MATERIALIZED (SELECT value FROM json_each(?))
SELECT {_COLUMNS} FROM wanted CROSS JOIN records USING (key) WHERE space = ?
"""
_DELETE = "DELETE FROM records WHERE space = ? AND key IN (SELECT value FROM json_each(?))"


class NewRecord(NamedTuple):
    """A record ready to be stored: checked, its value as JSON text, or None."""

    key: str
    value: str | None
    group: str | None


class Entry(NamedTuple):
    """A record with where it is kept: all there is to know of it, its value as JSON text, or None."""

    scope: str
    space: str
    key: str
    value: str | None
    group: str | None
    time: float


class Ledger:
    """The records of one space, as one transaction sees them.

    Args:
        connection: inside a transaction; for a reader, its session's cursor.
        scope: of the handle, as text; empty without one.
        space: the name within it.
    """

    def __init__(self, connection: apsw.Connection | apsw.Cursor, scope: str, space: str) -> None:
        self._connection = connection
        self._name = (scope, space)
        found: list[Any] = connection.execute(
            "SELECT number FROM spaces WHERE scope = ? AND name = ?", self._name
        ).fetchall()
        self._number: int | None = found[0][0] if found else None

    @property
    def time(self) -> float:
        """Of the last put into any space of this database; 0 before the first. Seconds since the epoch."""
        found: list[Any] = self._connection.execute("SELECT time FROM clock").fetchall()
        time = found[0][0] if found else None
        if not _is_moment(time):
            raise apsw.CorruptError(f"its clock shows {time!r:.40}")
        return float(time)

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the records with these keys; a key that is absent is left out."""
        found = self._connection.execute(_GET, (orjson.dumps(keys).decode(), self._number))
        return {record.key: record for record in map(_to_record, found)}

    def list(
        self,
        *,
        before: float | None,
        after: float | None,
        groups: Sequence[str | None] | None,
        limit: int | None,
    ) -> _Records:
        """Return the records with after < time < before and a group among *groups*, by key; None restricts nothing."""
        conditions: Any = ["space = ?"]
        values: Any = [self._number]
        for comparison, time in (("<", before), (">", after)):
            if time is not None:
                conditions.append(f"time {comparison} ?")
                values.append(time)
        if groups is not None:
            named = orjson.dumps([group for group in groups if group is not None]).decode()
            without = " OR in_group IS NULL" if None in groups else ""
            conditions.append(f"(in_group IN (SELECT value FROM json_each(?)){without})")
            values.append(named)
        # Where a time or a group narrows, its own index is the quick way, and what it finds is sorted: the plus keeps
        # SQLite, which knows no sizes, from going through all keys because they lie in order already.
        by = "key" if len(conditions) == 1 else "+key"
        sql = f"SELECT {_COLUMNS} FROM records WHERE {' AND '.join(conditions)} ORDER BY {by} LIMIT ?"
        return [_to_record(found) for found in self._connection.execute(sql, (*values, -1 if limit is None else limit))]

    def put(self, records: Iterable[NewRecord], time: float) -> None:
        """Store records, each instead of an older one with its key, and set the clock."""
        self._name_space()
        self._connection.executemany(_PUT, ((self._number, *record, time) for record in records))
        self._connection.execute("UPDATE clock SET time = ?", (time,))

    def put_at(self, entry: Entry) -> None:
        """Store a record with the time it has; the clock stays."""
        self._name_space()
        self._connection.execute(_PUT, (self._number, entry.key, entry.value, entry.group, entry.time))

    def delete(self, keys: Sequence[str]) -> int:
        """Delete the records with these keys; return how many there were."""
        self._connection.execute(_DELETE, (self._number, orjson.dumps(keys).decode()))
        return _connection_of(self._connection).changes()

    def _name_space(self) -> None:
        if self._number is None:
            self._connection.execute("INSERT INTO spaces(scope, name) VALUES (?,?)", self._name)
            self._number = _connection_of(self._connection).last_insert_rowid()


_Records = list[Record]  # inside the class, `list` is the method


def entries(reading: apsw.Cursor) -> Iterator[Entry]:
    """Yield the records of all spaces, by scope, space and key."""
    if not is_present(reading):
        return
    sql = (
        "SELECT spaces.scope, spaces.name, key, value, in_group, time FROM records JOIN spaces ON space = number "
        "ORDER BY scope, name, key"
    )
    for found in reading.execute(sql):
        entry = Entry._make(found)
        if not is_entry(entry):
            raise apsw.CorruptError(f"the record {entry.key!r:.80} is not what was stored")
        yield entry


def is_entry(entry: Any) -> bool:
    """Say whether what was read has the types of a record; a damaged header turns text into something else."""
    names = all(isinstance(name, str) for name in (entry.scope, entry.space, entry.key))
    rest = all(isinstance(text, (str, type(None))) for text in (entry.group, entry.value))
    return names and rest and isinstance(entry.time, float) and math.isfinite(entry.time)


def clock(reading: apsw.Cursor) -> float:
    """Return the time of the last put into any space; 0 before the first."""
    return Ledger(reading, "", "").time if is_present(reading) else 0.0


def put_entries(connection: apsw.Connection, entries: Iterable[Entry], clock: float) -> int:
    """Store records with the times they have, inside a transaction of a database that has none; return how many."""
    numbers: dict[tuple[str, str], int] = {}
    count = 0
    for entry in entries:
        name = (entry.scope, entry.space)
        if name not in numbers:
            connection.execute("INSERT INTO spaces(scope, name) VALUES (?,?)", name)
            numbers[name] = connection.last_insert_rowid()
        connection.execute(_PUT, (numbers[name], entry.key, entry.value, entry.group, entry.time))
        count += 1
    connection.execute("UPDATE clock SET time = ?", (clock,))
    return count


def replace_entries(
    connection: apsw.Connection, entries: Iterable[Entry], forgotten: Iterable[tuple[str, str, str]] = ()
) -> None:
    """Delete records by scope, space and key, and store others with the times they have, inside a transaction."""
    for scope, space, key in forgotten:
        Ledger(connection, scope, space).delete([key])
    latest = 0.0
    for entry in entries:
        Ledger(connection, entry.scope, entry.space).put_at(entry)
        latest = max(latest, entry.time)
    connection.execute("UPDATE clock SET time = max(time, ?)", (latest,))


def clear(connection: apsw.Connection) -> None:
    """Delete all records, inside a transaction; the clock goes on."""
    connection.execute("DELETE FROM records; DELETE FROM spaces")


def copy(source: apsw.Cursor, target: apsw.Connection) -> None:
    """Take over all spaces, records and the clock into a database that has none, inside its transaction."""
    if not is_present(source):
        return
    target.execute("DELETE FROM clock")
    for table, columns in (("spaces", 3), ("records", 5), ("clock", 2)):
        rows: Any = source.execute(f"SELECT * FROM {table}")
        target.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * columns)})", rows)


def problems(reading: apsw.Cursor) -> list[Problem]:
    """Check that values are JSON and that no record is newer than the clock."""
    if not is_present(reading):
        return []
    checks = {
        "have fields of another type than was stored": (
            "typeof(key) <> 'text' OR typeof(value) NOT IN ('text', 'null') OR typeof(in_group) NOT IN ('text', 'null')"
            " OR typeof(time) <> 'real' OR abs(time) > 1.7976931348623157e308"
        ),
        "have a value that is no JSON": "value IS NOT NULL AND NOT json_valid(value)",
        "are newer than the clock": "time > (SELECT time FROM clock)",
        "are in no space": "space NOT IN (SELECT number FROM spaces)",
    }
    found: list[Problem] = []
    for what, condition in checks.items():
        count = reading.execute(f"SELECT count(*) FROM records WHERE {condition}").get
        if count:
            cure = "put them again, or restore from a backup"
            found.append(Problem("damage", f"chunks.db: {count} records {what}", cure))
    times: Any = reading.execute("SELECT time FROM clock").fetchall()
    if len(times) != 1 or not _is_moment(times[0][0]):
        what = "chunks.db: the clock of the records shows no time"
        found.append(Problem("damage", what, "keep the records with check(fix=True)"))
    return found


def is_present(reading: apsw.Cursor) -> bool:
    """Say whether there is one: formats 1 and 2 had none; what compact() makes of such a collection has one."""
    return bool(reading.execute("SELECT 1 FROM sqlite_schema WHERE name = 'records'").fetchall())


def _to_record(found: Any) -> Record:
    key, value, group, time = found
    if not (isinstance(key, str) and isinstance(group, (str, type(None))) and _is_moment(time)):
        raise apsw.CorruptError(f"the record {key!r:.80} is not what was stored")
    return Record(key, None if value is None else orjson.loads(value), group, time)


def _is_moment(time: object) -> TypeGuard[float]:
    # An infinite one would be the time of every put from then on.
    return isinstance(time, (int, float)) and math.isfinite(time)


def _connection_of(connection: apsw.Connection | apsw.Cursor) -> apsw.Connection:
    return connection.connection if isinstance(connection, apsw.Cursor) else connection
