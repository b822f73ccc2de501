"""What is read is compared with its checksum, once per row; and a commit is made whatever becomes of the checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from reperio.errors import CollectionDamaged
from reperio.layout import DTYPES, Dtype, Generation
from reperio.store import NewChunk, Store
from reperio.store.writing import checkpoints
from reperio.store.writing.checkpoints import Checkpoints

D = 6


@pytest.fixture(params=list(DTYPES))
def paths(request: pytest.FixtureRequest, tmp_path: Path) -> Generation:
    dtype: Dtype = request.param
    made = Generation(tmp_path, dtype)
    Store.create(made)
    return made


def opened(paths: Generation, *, read_only: bool = True) -> Store:
    return Store(paths, D, read_only=read_only)


@pytest.fixture
def writer(paths: Generation) -> Iterator[Store]:
    store = opened(paths, read_only=False)
    put(store, 5)
    yield store
    store.close()


def put(store: Store, count: int) -> None:
    first = store.state.rows
    vectors = np.random.default_rng(first).standard_normal((count, D)).astype(store.dtype)
    store.put([NewChunk(f"c{row}", "täxt\0", '{"a":1}') for row in range(first, first + count)], vectors, [])


def read(store: Store, rows: list[int]) -> list[str]:
    with store.session() as session:
        return [chunk.id for chunk in session.read(rows, store.map(session.state.rows))]


def flip(paths: Generation, row: int) -> None:
    """Change the last byte of a vector, where it lies."""
    width = D * np.dtype(paths.dtype).itemsize
    descriptor = os.open(paths.vectors, os.O_RDWR)
    byte = os.pread(descriptor, 1, (row + 1) * width - 1)[0]
    os.pwrite(descriptor, bytes([byte ^ 0x10]), (row + 1) * width - 1)
    os.close(descriptor)


def test_a_row_is_compared_once_while_it_is_open(paths: Generation, writer: Store) -> None:
    """Damage before the first read is told at each read; damage after it, by the next who opens."""
    flip(paths, 3)
    for _ in range(2):
        with pytest.raises(CollectionDamaged, match=r"chunk 'c3' \(row 3\) is not what was stored"):
            read(writer, [1, 3])
    assert read(writer, [0, 1, 2, 4]) == ["c0", "c1", "c2", "c4"]
    flip(paths, 3)
    assert read(writer, [3]) == ["c3"]
    flip(paths, 1)
    assert read(writer, [1, 3]) == ["c1", "c3"]
    other = opened(paths)
    with pytest.raises(CollectionDamaged, match="'c1'"):
        read(other, [3, 1])
    other.close()


def test_rows_that_came_later_are_compared_too(paths: Generation, writer: Store) -> None:
    """What was compared before says nothing about them, by any way of reading."""
    assert len(read(writer, [0, 4])) == 2
    put(writer, 4)
    flip(paths, 7)
    assert read(writer, [0, 8]) == ["c0", "c8"]
    matrix = writer.map(9)
    with pytest.raises(CollectionDamaged, match="'c7'"):
        writer.fetch_at(writer.state.seq, [8, 7], matrix)
    with writer.session() as session:
        with pytest.raises(CollectionDamaged, match="'c7'"):
            session.fetch([0, 7], matrix)
        assert sorted(session.fetch([0, 8], matrix)) == [0, 8]
    found = writer.fetch_at(writer.state.seq, [8, 0], matrix)
    assert found is not None
    assert [payload[:3] for payload in found] == [(f"c{row}", "täxt\0", b'{"a":1}') for row in (8, 0)]


def test_another_type_is_damage(paths: Generation, writer: Store) -> None:
    """A number, a blob or text that says the same is not what was stored."""
    for row, (column, value) in enumerate(
        [("text", 5), ("text", b"t"), ("id", b"c2"), ("metadata", 1.5), ("crc", "x")]
    ):
        connection = apsw.Connection(str(paths.database))
        connection.execute(f"UPDATE chunks SET {column} = ? WHERE row = ?", (value, row))
        connection.close()
        with pytest.raises(CollectionDamaged):
            read(writer, [row])
        with writer.session() as session, pytest.raises(CollectionDamaged):
            session.fetch([row], writer.map(5))


def descriptors(path: Path) -> int:
    """Return how many descriptors this process has of a file; other tests may have left some of others."""
    return [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()].count(os.path.realpath(path))


def test_idle_connections_are_bounded(paths: Generation, writer: Store) -> None:
    """As many sessions as are asked for at once; afterwards, no more connections than are to be kept, and files open.

    Of the database itself SQLite keeps a descriptor of each closed connection, to open the next one with, and the store
    has one that says which file it is.
    """
    assert writer.state.live == 5
    store = Store(paths, D, read_only=True, idle=2)
    log = paths.database.with_name("chunks.db-wal")
    before, counts = descriptors(log), []
    for _ in range(3):
        sessions = [store.session().begin() for _ in range(8)]
        assert [session.state.live for session in sessions] == [5] * 8
        assert descriptors(log) == before - 1 + 8
        for session in sessions:
            session.__exit__(None, None, None)
        assert descriptors(log) == before - 1 + 2
        counts.append(descriptors(paths.database))
    assert counts[0] == counts[2] <= before + 9
    store.close()


class Refusing(apsw.Connection):
    """A connection to a disk without room for a checkpoint."""

    def wal_checkpoint(self, *_: Any, **__: Any) -> tuple[int, int]:
        raise apsw.FullError("FullError: database or disk is full")


def test_a_failing_checkpoint_is_no_failing_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was committed is not told as refused; the log says that it grows."""
    monkeypatch.setattr(checkpoints, "_FINISH_PAGES", 1)
    connection = Refusing(str(tmp_path / "chunks.db"))
    connection.pragma("journal_mode", "wal")
    kept = Checkpoints(connection, tmp_path / "chunks.db")
    with caplog.at_level(logging.WARNING, "reperio.store"):
        connection.execute("CREATE TABLE t(x); INSERT INTO t VALUES (7)")
    assert connection.execute("SELECT x FROM t").fetchall() == [(7,)]
    assert "cannot be moved into it" in caplog.text
    kept.close()
    connection.close()
