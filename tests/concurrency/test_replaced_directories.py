"""A path that leads to another directory, or to another LOCK, while handles to what it led to are open."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
        """Add a chunk; return "stored", or the error."""
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


def told(path: Path) -> dict[str, tuple[str, bytes, dict[str, Any]]]:
    """Return all chunks of a collection, with their vectors."""
    with reperio.open(path, read_only=True) as reader:
        chunks = list(reader)
        vectors = reader.vectors([one.id for one in chunks])
        return {one.id: (one.text, row.tobytes(), one.metadata) for one, row in zip(chunks, vectors, strict=True)}


@disturbed
def test_two_writers_that_both_go_on_lose_nothing_that_was_acknowledged(
    disturb: Callable[[Path], Path], kb: Path
) -> None:
    """Every chunk is in the collection that the path led to when it was acknowledged, with its own vector."""
    first = Steps(kb)
    before = {f"seed-{n}" for n in range(20)} | {"before"}
    assert first.add("before") == "stored"
    old = disturb(kb)
    second = Steps(kb)
    after = set()
    for number in range(ROUNDS):
        for name, writer in (("first", first), ("second", second)):
            assert writer.add(f"{name}-{number}") == "stored"
            after.add(f"{name}-{number}")
    first.close()
    assert second.add("last") == "stored"
    second.close()
    assert kept(kb) == dict.fromkeys(before | after | {"last"}, True)
    if old != kb:
        assert kept(old) == dict.fromkeys(before, True)
    with reperio.open(kb, auto_optimize=False) as later:
        add(later, "later")


def switch_link_to_backup(kb: Path) -> Path:
    """Switch a link to a copy that is whole, though others write meanwhile."""
    old, backup = kb.resolve(), kb.with_name("backup")
    with reperio.open(kb, read_only=True) as reader:
        reader.backup(backup)
    reperio.restore(backup, kb.with_name("green"))
    kb.with_name("kb.tmp").symlink_to("green")
    kb.with_name("kb.tmp").rename(kb)
    return old


@pytest.mark.parametrize("disturb", [switch_link_to_backup, move_and_restore, remove_lock, replace_lock])
def test_writers_that_are_at_work_while_it_happens_lose_nothing(disturb: Callable[[Path], Path], kb: Path) -> None:
    """What was acknowledged before is in what was there or in what is there; what comes after is in the latter."""
    writers = {name: Steps(kb) for name in ("first", "second")}
    stored: dict[str, list[str]] = {name: [] for name in writers}
    disturbed_at: dict[str, int] = {}
    done = threading.Event()

    def work(name: str) -> None:
        number = 0
        while len(stored[name]) < disturbed_at.get(name, 1 << 30) + ROUNDS:
            said = writers[name].add(f"{name}-{number}")
            assert said == "stored" or said.startswith("CollectionClosed: "), said  # the place was lost during it
            if said == "stored":
                stored[name].append(f"{name}-{number}")
            number += 1
            if done.is_set():
                disturbed_at.setdefault(name, len(stored[name]) + 1)  # the one under way may have been before

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(work, name) for name in writers]
        while min(map(len, stored.values())) < ROUNDS and not any(one.done() for one in running):
            time.sleep(0.001)
        old = disturb(kb)
        done.set()
        for one in running:
            one.result(120)
    for writer in writers.values():
        writer.close()
    there, left = kept(kb), kept(old)
    assert all(there.values())
    assert all(left.values())
    for name, ids in stored.items():
        assert set(ids[disturbed_at[name] :]) <= set(there)
        assert set(ids[: disturbed_at[name]]) <= set(there) | set(left)
    with reperio.open(kb, auto_optimize=False) as later:
        add(later, "later")


def test_a_chain_of_disturbances_loses_nothing(kb: Path) -> None:
    """A writer follows its path through one replaced directory and lock after the other."""
    writers = [Steps(kb), Steps(kb)]
    expected = {f"seed-{n}" for n in range(20)}
    for number, disturb in enumerate([remove_lock, replace_lock, switch_link, remove_lock, move_and_restore] * 2):
        for name, writer in enumerate(writers):
            assert writer.add(f"{name}-{number}") == "stored"
            expected.add(f"{name}-{number}")
        disturb(kb)
        for leftover in ("green", "backup", "kb.old", "kb.tmp"):
            place = kb.with_name(leftover)
            if place.exists() and place != kb.resolve():
                place.rename(kb.with_name(f"{leftover}-{number}"))
        if kb.resolve().name == "green":  # the next copy needs the name
            kb.resolve().rename(kb.with_name(f"green-{number}"))
            kb.unlink()
            kb.symlink_to(f"green-{number}")
        assert kept(kb) == dict.fromkeys(expected, True)
    for writer in writers:
        assert writer.add("last") == "stored"
        writer.close()
    assert kept(kb) == dict.fromkeys(expected | {"last"}, True)


def ids_of(reader: Collection) -> set[str]:
    return set(reader.ids())


WRITES: dict[str, tuple[Callable[[Collection], Any], Callable[[Collection], bool]]] = {
    "add": (lambda kb: add(kb, "new"), lambda kb: "new" in ids_of(kb)),
    "update": (
        lambda kb: kb.add([Chunk("seed-0", "other")], vectors=vector("other")[None]),
        lambda kb: kb.get("seed-0").text == "other" and (kb.vectors(["seed-0"])[0] == vector("other")).all(),
    ),
    "delete": (lambda kb: kb.delete(ids=["seed-0"]), lambda kb: "seed-0" not in ids_of(kb)),
    "delete by filter": (lambda kb: kb.delete(where={"n": 1}), lambda kb: "tagged" not in ids_of(kb)),
    "put records": (
        lambda kb: kb.records("space").put(["key"]),
        lambda kb: [one.key for one in kb.records("space").list()] == ["key"],
    ),
    "delete records": (lambda kb: kb.records("old").delete(["key"]), lambda kb: kb.records("old").list() == []),
    "optimize": (lambda kb: kb.optimize(index="SQ8"), lambda kb: kb.info().index is not None),
    "compact": (lambda kb: kb.compact(), lambda kb: kb.info().deleted == 0),
    "reembed": (lambda kb: kb.reembed(Embedder()), lambda kb: kb.info().embedder == "embedder"),
}


@disturbed
def test_every_write_goes_on_in_what_is_at_the_path(disturb: Callable[[Path], Path], tmp_path: Path) -> None:
    """A first write after it, of whatever kind, is done there, and what was there before stays as it was."""
    for number, (name, (write, is_done)) in enumerate(WRITES.items()):
        (tmp_path / str(number)).mkdir()
        kb = tmp_path / str(number) / "kb"
        make(kb.with_name("blue"), *(f"seed-{n}" for n in range(20)), "gone")
        kb.symlink_to("blue")
        with reperio.open(kb, auto_optimize=False) as writer:
            writer.add([Chunk("tagged", "text of tagged", {"n": 1})], vectors=vector("tagged")[None])
            writer.records("old").put(["key"])
            writer.delete(ids=["gone"])
            old = disturb(kb)
            assert not is_done(writer), name
            before = told(kb)
            write(writer)
            assert is_done(writer), name
            with reperio.open(kb, read_only=True) as reader:
                assert is_done(reader), name
                assert reader.check().ok, name
            if old != kb:
                assert told(old) == before, name
                with reperio.open(old, read_only=True) as reader:
                    assert not is_done(reader), name
                    assert reader.check().ok, name
        if name not in ("update", "reembed"):
            assert all(kept(kb).values()), name


EXCLUSIVE_WRITES: dict[str, Callable[[Collection], Any]] = {
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
    """Return all files but those of SQLite's shared memory, which readers write, too, and the lease of builders."""
    files = [
        path for path in directory.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "MAINTENANCE"))
    ]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@disturbed
def test_an_exclusive_writer_is_refused_and_writes_nothing(disturb: Callable[[Path], Path], kb: Path) -> None:
    """Its right was to one place: the error says what to do, both directories are as they were, also after closing."""
    with reperio.open(kb, auto_optimize=False, exclusive=True) as writer:
        add(writer, "mine")
        old = disturb(kb)
        before = content(kb), content(old)
        for name, write in EXCLUSIVE_WRITES.items():
            with pytest.raises(CollectionClosed, match="open the collection again"):
                write(writer)
            assert (content(kb), content(old)) == before, name
        theirs = content(kb)
    if old != kb:
        assert content(kb) == theirs


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


def test_a_writer_follows_its_path_there_and_back(kb: Path) -> None:
    """Its searches and its writes are of what is at the path, whatever they were of before."""
    with reperio.open(kb, auto_optimize=False) as writer:
        switch_link(kb)
        make(kb, "green-only")
        assert writer.get("green-only") is not None
        assert writer.search(vector=vector("green-only"), k=1)[0].chunk.id == "green-only"
        add(writer, "green-too")
        (kb.parent / "kb.back").symlink_to("blue")
        (kb.parent / "kb.back").rename(kb)
        assert writer.get("green-only") is None
        add(writer, "again")
        assert writer.search(vector=vector("again"), k=1)[0].chunk.id == "again"
    blue, green = kept(kb), kept(kb.with_name("green"))
    assert blue["again"]
    assert "green-too" not in blue
    assert green["green-too"]
    assert "again" not in green


def test_a_path_that_leads_nowhere_is_told(kb: Path) -> None:
    """Reading and writing are refused in words, closing is no error, and what is put back is written to again."""
    with reperio.open(kb, auto_optimize=False) as writer:
        kb.resolve().rename(kb.with_name("gone"))
        with pytest.raises(CollectionClosed, match="moved or removed"):
            writer.count()
        for name, (write, _) in WRITES.items():
            with pytest.raises(CollectionClosed, match="open the collection again"):
                write(writer)
            assert not kb.exists(), name
        assert len(kept(kb.with_name("gone"))) == 20
        kb.with_name("gone").rename(kb.with_name("blue"))
        add(writer, "back")
        kb.resolve().rename(kb.with_name("gone"))
    assert len(kept(kb.with_name("gone"))) == 21


def test_a_build_is_not_used_for_another_collection(kb: Path) -> None:
    """An index that was built while the path was led elsewhere is put in use nowhere."""
    places: list[Path] = []

    def progress(*_: object) -> None:
        if not places:
            places.append(switch_link(kb))

    with reperio.open(kb, auto_optimize=False) as writer:
        with pytest.raises(CollectionClosed, match="begin it again"):
            writer.optimize(index="SQ8", progress=progress)
        assert writer.info().index is None
        writer.optimize(index="SQ8")
        assert writer.info().index is not None
    with reperio.open(places[0], read_only=True) as old:
        assert old.info().index is None


def test_a_background_build_goes_on_where_the_path_leads(kb: Path) -> None:
    """A lock that was replaced keeps nobody from the build that is due."""
    writer = reperio.open(kb)
    handle = writer._handle
    remove_lock(kb)
    handle.maintainer.rebuild()
    thread = handle.maintainer._thread
    assert thread is not None
    thread.join(60)
    add(writer, "after")
    writer.close()
    assert all(kept(kb).values())


def test_a_background_build_stops_with_one_warning(kb: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the place that an exclusive handle has locked is lost, no build is made, neither at once nor by close."""
    writer = reperio.open(kb, exclusive=True)
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
