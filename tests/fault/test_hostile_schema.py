"""Databases that others have made: views, triggers and tables by the names of ours."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import numpy as np
import pytest

import reperio
from reperio import Chunk
from tests.crash.processes import nursery

from .doors import DOORS

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n)"
HOSTILE = {
    "a view without end by the name of the chunks": (
        "DROP TABLE chunks; CREATE VIEW chunks(row, id, text, metadata, crc) AS "
        f"{ENDLESS} SELECT i, 'c' || i, 'text', '{{}}', 0 FROM n"
    ),
    "a view without end by the name of the state": (
        f"DROP TABLE state; CREATE VIEW state(one, seq, rows, live, snapshot) AS {ENDLESS} SELECT 1, 1, 8, 8, NULL "
        "FROM n WHERE i < 0"
    ),
    "a view without end by the name of the clock": (
        f"DROP TABLE clock; CREATE VIEW clock(one, time) AS {ENDLESS} SELECT 1, 0.0 FROM n WHERE i < 0"
    ),
    "a trigger on commits": (
        f"CREATE TRIGGER t AFTER UPDATE ON state BEGIN SELECT count(*) FROM v; END; CREATE VIEW v AS {ENDLESS} "
        "SELECT i FROM n"
    ),
    "a computed column": (
        "CREATE TABLE other(row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, "
        "text TEXT AS (hex(zeroblob(40000000))), metadata TEXT NOT NULL, crc INTEGER NOT NULL);"
        "INSERT INTO other(row, id, metadata, crc) SELECT row, id, metadata, crc FROM chunks;"
        "DROP TABLE chunks; ALTER TABLE other RENAME TO chunks"
    ),
    "a virtual table": "DROP TABLE chunks; CREATE VIRTUAL TABLE chunks USING fts5(row, id, text, metadata, crc)",
    "an index of an expression": "CREATE INDEX i ON chunks(hex(zeroblob(length(text) * 10)))",
}


def _made(path: Path) -> Path:
    with reperio.open(path, dimension=4, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{n}", f"text {n}") for n in range(8)], vectors=np.eye(8, 4, dtype=np.float32) + 1)
    return path


def _go_in(door: str, path: Path) -> str:
    """Return what comes of it; another process can be ended, whatever SQLite is at."""
    told, errors = path.with_name("told"), path.with_name("errors")
    status = nursery().fork("tests.fault.doors", door, str(path), str(told), output=errors).wait(60)
    assert status == 0, errors.read_text()
    return told.read_text()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_database_of_another_making_is_refused_at_once(name: str, door: str, tmp_path: Path) -> None:
    """What is not a table of ours, to the letter, is never asked for anything."""
    path = _made(tmp_path / "kb")
    with closing(apsw.Connection(str(path / "gen-000001" / "chunks.db"))) as connection:
        connection.execute(HOSTILE[name])
    told = _go_in(door, path)
    mended = door == "restore_mended" and name == "an index of an expression"  # whose chunks are where they were
    assert told.startswith("done" if mended or door == "mend" else "CollectionDamaged"), told


def test_a_generation_left_behind_is_told_nothing_that_has_a_trigger(tmp_path: Path) -> None:
    """A writer tells the readers of superseded generations to look again, by a commit there: no program runs in it."""
    path = _made(tmp_path / "kb")
    old = (path / "gen-000001" / "chunks.db").read_bytes()
    with reperio.open(path, auto_optimize=False) as kb:
        kb.compact()
    left = path / "gen-000001"
    left.mkdir(exist_ok=True)
    (left / "chunks.db").write_bytes(old)
    with closing(apsw.Connection(str(left / "chunks.db"))) as connection:
        connection.execute(HOSTILE["a trigger on commits"])
    assert not _go_in("open_for_writing", path).startswith("Traceback")


def test_texts_in_another_encoding_are_refused(tmp_path: Path) -> None:
    """In a database of UTF-16 `check` found nothing, and every search found damage: opening says so."""
    path = _made(tmp_path / "kb")
    database = path / "gen-000001" / "chunks.db"
    with closing(apsw.Connection(str(database))) as connection:
        statements = [
            sql
            for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
            if "lexical_" not in sql
        ]
        state = connection.execute("SELECT * FROM state").fetchall()[0]
    database.unlink()
    with closing(apsw.Connection(str(database))) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'; PRAGMA journal_mode = wal")
        connection.execute(";".join(statements))
        connection.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?)", state)
    with pytest.raises(reperio.CollectionDamaged, match="UTF-16le"):
        reperio.open(path, read_only=True)
