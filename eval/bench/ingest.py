"""Measure the durable ingest of ready vectors (a), next to scripts that write the same and check nothing."""

from __future__ import annotations

import cProfile
import os
import pstats
import shutil
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import apsw
import numpy as np
import orjson
from measuring import Bench, Figures, Floats, interleave, ratios, spread

import reperio
from reperio import Chunk

BATCH = 1000
TARGET = 0.8
PLAIN, WORDS = "bare, apsw", "bare, apsw, 8 KB pages, words"
_SCHEMA = "CREATE TABLE chunks(row INTEGER PRIMARY KEY, id TEXT UNIQUE, text TEXT, metadata TEXT)"
_WORDS = (
    "CREATE VIRTUAL TABLE words USING fts5(text, content='', contentless_delete=1, "
    "tokenize='porter unicode61 remove_diacritics 2');"
    "INSERT INTO words(words, rank) VALUES ('pgsz', 8000), ('hashsize', 8388608), ('automerge', 8);"
)
_INSERT = "INSERT INTO chunks(id, text, metadata) VALUES (?,?,?)"

# Where a profiled function's own time belongs: the first entry of which a part is in "file:function".
_SPLIT = (
    ("JSON", ("orjson", "strict_json.py")),
    ("checksum", ("crc32", "checksums.py:checksum", "'encode' of 'str'")),
    ("SQLite", ("apsw", "sqlite3", "execute")),
    ("vector file", ("pwrite", "posix.write", "fdatasync", "posix.open", "vector_file.py")),
    ("vectors checked and normalised", ("vectors.py", "einsum", "numpy")),
    ("chunks checked", ("preparing.py", "isascii", "isinstance")),
    ("waiting for a lock", ("lock",)),
)


def measure(bench: Bench) -> Figures:
    """Measure rows per second of `Collection.add` and of bare scripts that write the same, in interleaved rounds.

    A collection has an index of words by default, which takes most of the time. So its rate stands next to that of a
    script which keeps one, too, and the rate without next to that of scripts without.
    """
    chunks, matrix = bench.data.chunks, bench.data.base
    closing: list[float] = []
    busy: dict[str, list[float]] = {}
    ways = {
        PLAIN: _bare_apsw,
        "bare, sqlite3": _bare_sqlite3,
        "bare, apsw, 8 KB pages": _bare_wide,
        "add, lexical='none', auto_optimize=False": _add(False, [], "none"),
        WORDS: _bare_words,
        "add, auto_optimize=False": _add(False, []),
        "add": _add(True, closing),
    }
    timed = {name: partial(_rate, bench, write, busy.setdefault(name, [])) for name, write in ways.items()}
    rates = interleave(bench.scale.rounds, timed)
    to = {name: WORDS if position > list(ways).index(WORDS) else PLAIN for position, name in enumerate(ways)}
    text = sum(len(chunk.text.encode()) for chunk in chunks) / len(chunks)
    return {
        "rows": len(chunks),
        "batch": BATCH,
        "text_bytes": round(text),
        "metadata_bytes": round(sum(len(orjson.dumps(chunk.metadata)) for chunk in chunks) / len(chunks)),
        "rows_per_second": {name: spread(values, 0) for name, values in rates.items()},
        "rows_per_processor_second": {name: spread(values, 0) for name, values in busy.items()},
        "ratio_to": to,
        "ratio": {name: ratios(rates[name], rates[to[name]]) for name in rates},
        "processor_ratio": {name: ratios(busy[name], busy[to[name]]) for name in rates},
        "close_seconds_after_add": spread(closing, 2),
        "target_ratio": TARGET,
        "split_us_per_row": _split(bench, chunks, matrix),
    }


def _rate(bench: Bench, write: Any, busy: list[float]) -> float:
    """Return rows per second of one way to write everything into a fresh directory; add those per processor second."""
    directory = bench.directory / "ingest"
    directory.mkdir()
    os.sync()  # what the round before left to be written is not this one's burden
    try:
        before = time.process_time()
        seconds = write(directory, bench.data.chunks, bench.data.base)
        busy.append(len(bench.data.chunks) / (time.process_time() - before))
    finally:
        shutil.rmtree(directory)
    return len(bench.data.chunks) / float(seconds)


def _add(auto_optimize: bool, closing: list[float], lexical: Literal["porter", "none"] = "porter") -> Any:
    def write(directory: Path, chunks: list[Chunk], matrix: Floats) -> float:
        with reperio.open(
            directory / "kb", dimension=matrix.shape[1], auto_optimize=auto_optimize, lexical=lexical
        ) as kb:
            started = time.perf_counter()
            kb.add(chunks, vectors=matrix, batch_size=BATCH)
            done = time.perf_counter()
        closing.append(time.perf_counter() - done)
        return done - started

    return write


def _bare_apsw(directory: Path, chunks: list[Chunk], matrix: Floats) -> float:
    connection = apsw.Connection(str(directory / "chunks.db"))
    return _bare(connection, connection.execute, connection.executemany, directory, chunks, matrix)


def _bare_wide(directory: Path, chunks: list[Chunk], matrix: Floats) -> float:
    """Do as the collection does in the one respect that makes SQLite itself quicker with texts of this length."""
    connection = apsw.Connection(str(directory / "chunks.db"))
    connection.pragma("page_size", 8192)
    return _bare(connection, connection.execute, connection.executemany, directory, chunks, matrix)


def _bare_words(directory: Path, chunks: list[Chunk], matrix: Floats) -> float:
    """Keep an index of words as well, with the settings of the collection's."""
    connection = apsw.Connection(str(directory / "chunks.db"))
    connection.pragma("page_size", 8192)
    connection.execute(_WORDS)
    return _bare(connection, connection.execute, connection.executemany, directory, chunks, matrix, words=True)


def _bare_sqlite3(directory: Path, chunks: list[Chunk], matrix: Floats) -> float:
    connection = sqlite3.connect(directory / "chunks.db", isolation_level=None)
    return _bare(connection, connection.execute, connection.executemany, directory, chunks, matrix)


def _bare(
    connection: Any,
    execute: Any,
    executemany: Any,
    directory: Path,
    chunks: list[Chunk],
    matrix: Floats,
    *,
    words: bool = False,
) -> float:
    """Append vectors to a file and insert rows, with a sync and a commit per batch; check nothing."""
    execute("PRAGMA journal_mode = WAL").fetchall()
    execute("PRAGMA synchronous = FULL")
    execute(_SCHEMA)
    vectors = os.open(directory / "vectors.f32", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        started = time.perf_counter()
        done = 0
        for batch, part in _batches(chunks, matrix):
            os.write(vectors, part.data)
            os.fdatasync(vectors)
            execute("BEGIN")
            executemany(_INSERT, [(c.id, c.text, orjson.dumps(c.metadata).decode()) for c in batch])
            if words:
                rows = [(row, c.text) for row, c in enumerate(batch, start=done + 1)]
                executemany("INSERT INTO words(rowid, text) VALUES (?,?)", rows)
            execute("COMMIT")
            done += len(batch)
        return time.perf_counter() - started
    finally:
        os.close(vectors)
        connection.close()


def _batches(chunks: list[Chunk], matrix: Floats) -> Iterator[tuple[list[Chunk], Floats]]:
    for start in range(0, len(chunks), BATCH):
        yield chunks[start : start + BATCH], matrix[start : start + BATCH]


def _split(bench: Bench, chunks: list[Chunk], matrix: Floats) -> Figures:
    """Return µs per row by kind of work, by cProfile: it slows Python code down, so read it as shares."""
    found = {}
    for name, write in (("add, auto_optimize=False", _add(False, [])), (WORDS, _bare_words)):
        directory = bench.directory / "profile"
        directory.mkdir()
        os.sync()
        profile = cProfile.Profile()
        profile.enable()
        write(directory, chunks, matrix)
        profile.disable()
        shutil.rmtree(directory)
        found[name] = _by_kind(profile, len(chunks))
    return found


def _by_kind(profile: cProfile.Profile, rows: int) -> Figures:
    times: dict[str, float] = dict.fromkeys([kind for kind, _ in _SPLIT] + ["the rest"], 0.0)
    for (file, _, function), (_, _, own, _, _) in pstats.Stats(profile).stats.items():
        label = f"{Path(file).name}:{function}"
        times[next((kind for kind, parts in _SPLIT if any(part in label for part in parts)), "the rest")] += own
    return {kind: round(seconds / rows * 1e6, 2) for kind, seconds in times.items()} | {
        "all": round(float(np.sum(list(times.values()))) / rows * 1e6, 2)
    }
