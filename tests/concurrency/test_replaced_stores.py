"""Stores and transactions whose directory or lock is replaced, or where another writer is faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import apsw
import numpy as np
import pytest

import reperio
from reperio import Chunk, CollectionClosed, CollectionLocked, StorageFailed, layout
from reperio.store import NewChunk, Store

from .disturbing import (
    Embedder,
    add,
    chunk,
    disturbed,
    kept,
    linked,
    remove_lock,
    replace_by_copy,
)
from .step_writer import DIMENSION, vector


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    return linked(tmp_path)


@contextmanager
def opened_store(path: Path, *, read_only: bool) -> Iterator[Store]:
    store = Store(layout.Layout(path).read_current(), DIMENSION, read_only=read_only)
    try:
        yield store
    finally:
        store.close()


def test_a_transaction_that_has_begun_is_proved_too(kb: Path) -> None:
    """A lock that is lost after the turn began is noticed inside the transaction, before anything is written."""
    with reperio.open(kb, auto_optimize=False) as writer:
        with writer._handle.turn() as generation:
            store = generation.store
            remove_lock(kb)
            with pytest.raises(CollectionClosed, match="LOCK was removed"):
                store.put([NewChunk("x", "text of x", "{}")], vector("x")[None], [])
            with pytest.raises(CollectionClosed, match="LOCK was removed"), store.recording("", "space"):
                pytest.fail("nothing may be written")
        with pytest.raises(CollectionClosed), store.recording("", "space"):  # nor without a turn
            pytest.fail("nothing may be written")
        assert len(kept(kb)) == 20
        add(writer, "next")
    assert len(kept(kb)) == 21


@pytest.mark.parametrize("read_only", [True, False])
def test_no_connection_and_no_mapping_is_of_another_directory(kb: Path, read_only: bool) -> None:
    """A store opens files later in the directory that it opened first, or refuses to."""
    with opened_store(kb, read_only=read_only) as store, ExitStack() as stack:
        stack.enter_context(store.session())  # the one idle connection is in use
        replace_by_copy(kb)
        with pytest.raises(CollectionClosed, match="moved, removed or replaced"):
            store.session()
        with pytest.raises(CollectionClosed, match="moved, removed or replaced"):
            store.map(20)


def test_stores_that_both_write_one_generation_store_all(kb: Path) -> None:
    """Rows are minted inside the transaction: whoever else writes there, no vector is overwritten."""
    with opened_store(kb, read_only=False) as one, opened_store(kb, read_only=False) as two:
        for number in range(20):
            for name, store in (("one", one), ("two", two)):
                ids = [f"{name}-{number}-{n}" for n in range(300 if number == 7 else 3)]
                store.put(
                    [NewChunk(key, f"text of {key}", "{}") for key in ids], np.stack([vector(key) for key in ids]), []
                )
    found = kept(kb)
    assert len(found) == 20 + 2 * (19 * 3 + 300)
    assert all(found.values())


def test_a_batch_is_compared_again_when_another_writer_was_faster(kb: Path) -> None:
    """A chunk that another has stored since it was looked up is replaced, not refused and not stored twice."""

    def another() -> None:
        with opened_store(kb, read_only=False) as store:
            store.put([NewChunk("late", "text of late", "{}")], vector("late")[None], [])

    embedder = Embedder()
    with reperio.open(kb, embedder=embedder, auto_optimize=False) as writer:
        # Embedded ahead is "one"; that "seed-0" has changed meanwhile shows only when the batch is compared.
        def change() -> None:
            add(writer, "seed-0")
            embedder.once = another

        writer.add([Chunk("seed-0", "text of later")], vectors=vector("seed-0")[None])
        embedder.once = change
        result = writer.add([chunk("late"), Chunk("seed-0", "text of later")])
        assert (result.added, result.updated, result.unchanged) == (0, 1, 1)
        assert writer.count() == 21
        assert writer.check().ok


def test_nothing_is_committed_to_what_is_being_written_anew(kb: Path) -> None:
    """While compact copies, no other writer can commit, and neither can a callback: its chunk would be left behind."""
    refused: list[Exception] = []

    def progress(*_: object) -> None:
        connection = apsw.Connection(str(kb / "gen-000001" / "chunks.db"))
        with pytest.raises(apsw.BusyError):
            connection.execute("BEGIN IMMEDIATE")
        connection.close()
        with pytest.raises(CollectionLocked, match="when that call has returned") as error:
            add(writer, "left-behind")
        refused.append(error.value)

    with reperio.open(kb, auto_optimize=False) as writer:
        writer.delete(ids=["seed-3"])
        assert writer.compact(progress=progress) == 1
        assert refused
        add(writer, "after")
        assert writer.count() == 20
    assert kept(kb)["after"]


@disturbed
def test_a_place_lost_during_a_compaction_is_noticed(disturb: Callable[[Path], Path], kb: Path) -> None:
    """Neither collection gets another CURRENT, and what the other is writing there stays."""
    places: list[Path] = []

    def progress(*_: object) -> None:
        if not places:
            places.append(disturb(kb))
            if not (kb / "gen-000002.new").exists():
                (kb / "gen-000002.new").mkdir()
                (kb / "gen-000002.new" / "theirs").touch()
                places.append(kb)

    with reperio.open(kb, auto_optimize=False) as writer:
        writer.delete(ids=["seed-3"])
        with pytest.raises(CollectionClosed, match="open the collection again"):
            writer.compact(progress=progress)
        assert len(kept(places[0])) == len(kept(kb)) == 19
        for place in (places[0], kb):
            assert (place / "CURRENT").read_text() == "gen-000001\n"
        assert (kb / "gen-000002.new" / "theirs").exists() == (len(places) == 2)
        add(writer, "after")  # the next commit goes on in what is at the path
        writer.compact()
    assert kept(kb) == dict.fromkeys([f"seed-{n}" for n in range(20) if n != 3] + ["after"], True)
    if places[0] != kb:
        assert len(kept(places[0])) == 19


def test_a_writer_that_waits_for_another_is_told_why(kb: Path) -> None:
    """Where another program holds the database, it says so; where the lock was lost, that is what the error names."""
    with reperio.open(kb, auto_optimize=False) as writer, opened_store(kb, read_only=False) as other, other.hold():
        connection = writer._handle.generation.store._commits.connection
        connection.set_busy_timeout(1)
        with pytest.raises(StorageFailed, match="another program holds the database"):
            add(writer, "refused")
        with writer._handle.turn() as generation:
            remove_lock(kb)
            with pytest.raises(CollectionClosed, match="LOCK was removed"):
                generation.store.put([NewChunk("x", "text of x", "{}")], vector("x")[None], [])
    assert len(kept(kb)) == 20


def test_a_lock_knows_whether_it_is_at_its_path(tmp_path: Path) -> None:
    """Another file there, none, and a link to the very file are all not the one that was locked."""
    path = tmp_path / "LOCK"
    lock = layout.FileLock(path, purpose="which is testing", cure="wait")
    assert not lock.is_in_place()
    lock.acquire()
    assert lock.is_in_place()
    path.rename(tmp_path / "other")
    assert not lock.is_in_place()
    path.symlink_to("other")
    assert not lock.is_in_place()
    path.unlink()
    path.touch()
    assert not lock.is_in_place()
    (tmp_path / "other").rename(path)
    assert lock.is_in_place()
    lock.release()
    assert not lock.is_in_place()
