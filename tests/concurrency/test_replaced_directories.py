"""A path that leads to another directory, or to another LOCK, while handles to what it led to are open."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, CollectionClosed, CollectionLocked, StorageFailed, layout
from reperio.store import NewChunk, Store
from tests.concurrency.step_writer import DIMENSION, vector

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 12


class Steps:
    """A writer in another process, told step by step."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.concurrency.step_writer", str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "open"

    def add(self, chunk_id: str) -> str:
        """Add a chunk; return "stored", or the name of the error."""
        assert self._process.stdin is not None
        self._process.stdin.write(chunk_id + "\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """Let it close the collection and end."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def chunk(chunk_id: str) -> Chunk:
    return Chunk(chunk_id, f"text of {chunk_id}")


def add(kb: Collection, *ids: str) -> None:
    kb.add([chunk(one) for one in ids], vectors=np.stack([vector(one) for one in ids]))


def make(path: Path, *ids: str) -> None:
    with reperio.open(path, dimension=DIMENSION, metric="l2", auto_optimize=False) as kb:
        add(kb, *ids)


def switch_link(kb: Path) -> Path:
    """Switch a link to a copy that is made beforehand, as in a blue/green deployment."""
    old = kb.resolve()
    shutil.copytree(old, kb.with_name("green"))
    fresh = kb.with_name("kb.tmp")
    fresh.symlink_to("green")
    fresh.rename(kb)
    return old


def move_and_restore(kb: Path) -> Path:
    real, backup, old = kb.resolve(), kb.with_name("backup"), kb.with_name("kb.old")
    with reperio.open(kb, read_only=True) as reader:
        reader.backup(backup)
    real.rename(old)
    reperio.restore(backup, real)
    return old


def remove_lock(kb: Path) -> Path:
    (kb / "LOCK").unlink()
    return kb


def replace_lock(kb: Path) -> Path:
    (kb / "LOCK.new").touch()
    (kb / "LOCK.new").rename(kb / "LOCK")
    return kb


def replace_by_copy(kb: Path) -> Path:
    real, old = kb.resolve(), kb.with_name("kb.old")
    shutil.copytree(real, kb.with_name("copy"))
    real.rename(old)
    kb.with_name("copy").rename(real)
    return old


DISTURBANCES = [switch_link, move_and_restore, remove_lock, replace_lock, replace_by_copy]
disturbed = pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda one: one.__name__)


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    """Make a collection that is reached through a link."""
    make(tmp_path / "blue", *(f"seed-{n}" for n in range(20)))
    (tmp_path / "kb").symlink_to("blue")
    return tmp_path / "kb"


def kept(path: Path) -> dict[str, bool]:
    """Return the ids of a collection, and whether each has its own vector; all of it is whole."""
    with reperio.open(path, read_only=True) as reader:
        assert reader.check().ok
        ids = reader.ids()
        return dict(zip(ids, (np.stack([vector(one) for one in ids]) == reader.vectors(ids)).all(axis=1), strict=True))


@disturbed
def test_two_writers_that_both_go_on_lose_nothing_that_was_acknowledged(
    disturb: Callable[[Path], Path], kb: Path
) -> None:
    """Each chunk is where its writer has stored it, with its own vector, or the write was refused."""
    first = Steps(kb)
    stored = {"first": {f"seed-{n}" for n in range(20)}, "second": set()}
    assert first.add("before") == "stored"
    stored["first"].add("before")
    old = disturb(kb)
    second = Steps(kb)
    refusals = set()
    for number in range(ROUNDS):
        for name, writer in (("first", first), ("second", second)):
            said = writer.add(f"{name}-{number}")
            if said == "stored":
                stored[name].add(f"{name}-{number}")
            else:
                refusals.add((name, said))
    first.close()
    assert second.add("last") == "stored"
    second.close()
    assert refusals == {("first", "CollectionClosed")}
    mine, theirs = kept(old), kept(kb)
    assert all(mine[one] for one in stored["first"])
    assert all(theirs[one] for one in stored["second"])
    with reperio.open(kb, auto_optimize=False) as later:
        add(later, "later")


WRITES: dict[str, Callable[[Collection], Any]] = {
    "add": lambda kb: add(kb, "new"),
    "update": lambda kb: add(kb, "seed-0"),
    "delete": lambda kb: kb.delete(ids=["seed-0"]),
    "delete by filter": lambda kb: kb.delete(where={"n": 1}),
    "put records": lambda kb: kb.records("space").put(["key"]),
    "delete records": lambda kb: kb.records("space").delete(["key"]),
    "optimize": lambda kb: kb.optimize(index="SQ8"),
    "tune": lambda kb: kb.tune(),
    "compact": lambda kb: kb.compact(),
    "reembed": lambda kb: kb.reembed(Embedder()),
    "mend": lambda kb: kb.check(fix=True),
}


def content(directory: Path) -> dict[str, bytes]:
    """Return all files but those of SQLite's shared memory, which readers write, too."""
    files = [path for path in directory.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@disturbed
def test_every_write_is_refused_and_writes_nothing(disturb: Callable[[Path], Path], kb: Path) -> None:
    """The error says what to do, both directories are as they were, and closing changes nothing there."""
    with reperio.open(kb, auto_optimize=False) as writer:
        add(writer, "mine")
        old = disturb(kb)
        before = content(kb), content(old)
        for name, write in WRITES.items():
            with pytest.raises(CollectionClosed, match="open the collection again"):
                write(writer)
            assert (content(kb), content(old)) == before, name
        theirs = content(kb)
    if old != kb:
        assert content(kb) == theirs


def test_a_transaction_that_has_begun_is_proved_too(kb: Path) -> None:
    """A lock that is lost after the call began is noticed inside the transaction, before anything is written."""
    with reperio.open(kb, auto_optimize=False) as writer:
        store = writer._handle.owned().store
        remove_lock(kb)
        with pytest.raises(CollectionClosed, match="LOCK was removed"):
            store.put([NewChunk("x", "text of x", "{}")], vector("x")[None], [])
        with pytest.raises(CollectionClosed, match="LOCK was removed"), store.recording("", "space"):
            pytest.fail("nothing may be written")
    assert len(kept(kb)) == 20


def test_a_writer_outside_goes_on_as_a_reader_and_writes_again_when_it_is_back(
    kb: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its searches find what is at the path, it says so once, and what it locked is its own as long as it is open."""
    with reperio.open(kb, auto_optimize=False) as writer:
        switch_link(kb)
        make(kb, "green-only")
        assert writer.get("green-only") is not None
        assert writer.search(vector=vector("green-only"), k=1)[0].chunk.id == "green-only"
        assert "searches go on in what is there now" in caplog.text
        with pytest.raises(CollectionClosed):
            add(writer, "refused")
        assert len([one for one in caplog.records if "searches go on" in one.message]) == 1
        (kb.parent / "kb.back").symlink_to("blue")
        (kb.parent / "kb.back").rename(kb)
        assert writer.get("green-only") is None
        add(writer, "again")
    assert kept(kb)["again"]
    assert "again" not in kept(kb.with_name("green"))


def test_a_path_that_leads_nowhere_is_told(kb: Path) -> None:
    """Reading and writing are refused in words, and closing is no error."""
    with reperio.open(kb, auto_optimize=False) as writer:
        kb.resolve().rename(kb.with_name("gone"))
        with pytest.raises(CollectionClosed, match="moved or replaced"):
            writer.count()
        with pytest.raises(CollectionClosed, match="open the collection again"):
            add(writer, "refused")
    assert len(kept(kb.with_name("gone"))) == 20


def test_a_background_build_stops_with_one_warning(kb: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A build that is due is not made where the lock is another's, neither at once nor by close."""
    writer = reperio.open(kb)
    handle = writer._handle
    remove_lock(kb)
    handle.maintainer.rebuild()
    thread = handle.maintainer._thread
    assert thread is not None
    thread.join(60)
    handle.maintainer.rebuild()
    writer.close()
    assert len([one for one in caplog.records if "no index is built" in one.message]) == 1
    assert not list(kb.glob("gen-*/index/*"))


def test_a_reader_follows_a_switched_link(kb: Path) -> None:
    """Its next call reads the other collection, with that one's vectors."""
    with reperio.open(kb, read_only=True) as reader:
        assert reader.count() == 20
        switch_link(kb)
        make(kb, "green-only", *(f"more-{n}" for n in range(40)))
        assert reader.count() == 61
        assert (reader.vectors(["green-only"])[0] == vector("green-only")).all()


@contextmanager
def opened_store(path: Path, *, read_only: bool) -> Iterator[Store]:
    store = Store(layout.Layout(path).read_current(), DIMENSION, read_only=read_only)
    try:
        yield store
    finally:
        store.close()


@pytest.mark.parametrize("read_only", [True, False])
def test_no_connection_and_no_mapping_is_of_another_directory(kb: Path, read_only: bool) -> None:
    """What a store opens later is of the directory that it opened first, or is refused."""
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


class Embedder:
    """An embedder during whose first work something else happens."""

    name = "embedder"
    dimension = DIMENSION

    def __init__(self, once: Callable[[], None] = lambda: None) -> None:
        self.once = once

    def embed_passages(self, texts: Any) -> Any:
        do, self.once = self.once, lambda: None
        do()
        return np.stack([vector(text.removeprefix("text of ")) for text in texts])

    embed_queries = embed_passages


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


def test_a_writer_that_waits_for_another_is_told_why(kb: Path) -> None:
    """Where the database is in use by whoever has the lock now, the lock is what the error names."""
    with reperio.open(kb, auto_optimize=False) as writer, opened_store(kb, read_only=False) as other, other.hold():
        connection = writer._handle.generation.store._commits.connection
        connection.set_busy_timeout(1)
        with pytest.raises(StorageFailed, match="another program holds the database"):
            add(writer, "refused")
        remove_lock(kb)
        with pytest.raises(CollectionClosed, match="LOCK was removed"):
            add(writer, "refused")


def test_a_lock_knows_whether_it_is_at_its_path(tmp_path: Path) -> None:
    """Another file there, none, and a link to the very file are all not the one that was locked."""
    path = tmp_path / "LOCK"
    lock = layout.WriterLock(path)
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
