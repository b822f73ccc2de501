"""(g) apsw against the standard library's sqlite3, doing what the store does; docs/decisions/0001-apsw.md quotes it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import orjson
from measuring import Bench, Figures, K, interleave, p50, ratios, spread

from reperio.store import NewChunk
from reperio.store.schema import PAGE_SIZE, SCHEMA

_BATCH = 1000
_INSERT = "INSERT INTO chunks(row, id, text, metadata, crc) VALUES (?,?,?,?,?)"
_FETCH = (
    f"WITH wanted(row) AS (VALUES {','.join(['(?)'] * K)}) "
    "SELECT id, text, metadata, (SELECT seq FROM state) FROM wanted CROSS JOIN chunks USING (row)"
)
Connect = Callable[[Path], Any]


def _apsw(database: Path) -> Any:
    return apsw.Connection(str(database))


def _sqlite3(database: Path) -> Any:
    return sqlite3.connect(database, isolation_level=None)


ENGINES: dict[str, Connect] = {"apsw": _apsw, "sqlite3": _sqlite3}


def measure(bench: Bench) -> Figures:
    """Measure durable inserts, the fetch of ten random rows, and opening, by both engines in interleaved rounds."""
    records = [
        (row, *NewChunk(chunk.id, chunk.text, orjson.dumps(chunk.metadata).decode()), row * 2654435761 % (1 << 32))
        for row, chunk in enumerate(bench.data.chunks)
    ]
    inserts = interleave(
        bench.scale.rounds, {name: _inserting(bench, connect, records) for name, connect in ENGINES.items()}
    )
    database = bench.directory / "engines.db"
    _fill(_apsw, database, records)
    wanted = np.random.default_rng(1).integers(0, len(records), (bench.scale.queries, K)).tolist()
    fetches = interleave(
        bench.scale.rounds,
        {
            f"{name}{', mapped' if mapped else ''}": _fetching(connect, database, wanted, mapped)
            for name, connect in ENGINES.items()
            for mapped in (False, True)
        },
    )
    opens = interleave(bench.scale.rounds, {name: _opening(connect, database) for name, connect in ENGINES.items()})
    return {
        "rows": len(records),
        "inserted_rows_per_second": {name: spread(values, 0) for name, values in inserts.items()},
        "inserts_apsw_over_sqlite3": ratios(inserts["apsw"], inserts["sqlite3"]),
        "fetch_ten_rows_p50_us": {name: spread(values) for name, values in fetches.items()},
        "open_and_read_state_p50_us": {name: spread(values) for name, values in opens.items()},
    }


def _fill(connect: Connect, database: Path, records: Sequence[tuple[Any, ...]]) -> float:
    """Insert everything, a durable commit per batch; return the seconds."""
    connection = connect(database)
    execute = connection.execute
    execute(f"PRAGMA page_size = {PAGE_SIZE}")
    execute("PRAGMA journal_mode = WAL").fetchall()
    execute("PRAGMA synchronous = FULL")
    for statement in SCHEMA.split(";"):
        if statement.strip():
            execute(statement)
    started = time.perf_counter()
    for start in range(0, len(records), _BATCH):
        execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, records[start : start + _BATCH])
        execute("UPDATE state SET seq = seq + 1, rows = rows + ?, live = live + ?", (_BATCH, _BATCH))
        execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    return seconds


def _inserting(bench: Bench, connect: Connect, records: Sequence[tuple[Any, ...]]) -> Callable[[], float]:
    def run() -> float:
        directory = bench.directory / "inserting"
        directory.mkdir()
        seconds = _fill(connect, directory / "chunks.db", records)
        shutil.rmtree(directory)
        return len(records) / seconds

    return run


def _fetching(connect: Connect, database: Path, wanted: list[list[int]], mapped: bool) -> Callable[[], float]:
    def run() -> float:
        connection = connect(database)
        connection.execute(f"PRAGMA mmap_size = {(1 << 31) if mapped else 0}").fetchall()
        execute = connection.execute
        p50(lambda rows: execute(_FETCH, rows).fetchall(), wanted)  # the pages are in memory from here on
        median = p50(lambda rows: execute(_FETCH, rows).fetchall(), wanted)
        connection.close()
        return median

    return run


def _opening(connect: Connect, database: Path) -> Callable[[], float]:
    def once(_: int) -> None:
        connection = connect(database)
        connection.execute("SELECT seq, rows, live, snapshot FROM state").fetchone()
        connection.close()

    return lambda: p50(once, range(50))
