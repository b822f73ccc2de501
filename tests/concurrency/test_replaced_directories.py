"""A path that leads to another directory, or to another LOCK, while handles to what it led to are open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio import Chunk, Collection, CollectionClosed
from reperio.layout import paths

from .disturbing import (
    Embedder,
    Steps,
    add,
    disturbed,
    kept,
    linked,
    make,
    move_and_restore,
    remove_lock,
    replace_lock,
    switch_link,
    switch_link_to_backup,
)
from .step_writer import vector

ROUNDS = 12


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    return linked(tmp_path)


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


@pytest.mark.parametrize("disturb", [switch_link_to_backup, move_and_restore, remove_lock, replace_lock])
def test_writers_that_are_at_work_while_it_happens_lose_nothing(disturb: Callable[[Path], Path], kb: Path) -> None:
    """Each chunk acknowledged before is in the directory before or in the new one, each later chunk in the new one."""
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


def test_a_directory_that_comes_back_between_two_looks_is_not_damaged(
    kb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore puts it there after CURRENT was looked for, and before its directory is: an open handle writes on."""
    real = kb.resolve()
    away, exists = real.with_name("away"), Path.exists

    def put_back(path: Path, **options: Any) -> bool:
        if away.is_dir():
            away.rename(real)
        return exists(path, **options)

    with reperio.open(kb, auto_optimize=False) as writer:
        real.rename(away)
        monkeypatch.setattr(Path, "exists", put_back)
        add(writer, "later")
    monkeypatch.undo()
    assert "later" in kept(kb)


def test_a_directory_that_comes_back_while_it_is_opened_is_not_damaged(
    kb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for who opens it then: CURRENT was looked for too early, the entries are those of the restored one."""
    current = kb.resolve() / "CURRENT"
    away, entries = current.with_name("away"), paths.strangers_in

    def put_back(root: Path) -> list[str]:
        if away.exists():
            away.rename(current)
        return entries(root)

    current.rename(away)
    monkeypatch.setattr(paths, "strangers_in", put_back)
    with reperio.open(kb, auto_optimize=False) as opened:
        add(opened, "later")


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
        kb = linked(tmp_path / str(number), "gone")
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
