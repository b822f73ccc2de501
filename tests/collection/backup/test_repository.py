"""Incremental backups and the way back: verified, and never at the cost of another backup."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio import (
    Chunk,
    Collection,
    CollectionClosed,
    CollectionDamaged,
    CollectionExists,
    CollectionLocked,
    CollectionNotFound,
    InvalidInput,
    NotACollection,
    StorageFailed,
    UnsupportedFormat,
)
from reperio.collection.backup import repository
from reperio.collection.backup.repository import Repository
from reperio.exchange import export_collection
from reperio.layout import FileLock
from tests.collection.grown import D, content, content_at, flip, grow


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(params=["float32", "float16"])
def kb(request: pytest.FixtureRequest, path: Path) -> Any:
    with reperio.open(path, dimension=D, dtype=request.param, auto_optimize=False) as collection:
        yield collection


def test_each_backup_comes_back(kb: Collection, tmp_path: Path) -> None:
    """Every state restores to what the collection held then: added, replaced, deleted, compacted, with an index."""
    folder, states = tmp_path / "backups", []
    for step in range(6):
        if step == 3:
            kb.delete(ids=[f"c{i}" for i in range(0, 600, 2)])
        elif step == 4:
            kb.compact()
        elif step == 5:
            kb.optimize(index="SQ8")
        else:
            grow(kb, 400 * step, 500)
        states.append(content(kb))
        kb.backup(folder, incremental=True)
    found = reperio.backups(folder)
    assert [backup.number for backup in found] == [1, 2, 3, 4, 5, 6]
    assert [backup.chunks for backup in found] == [len(state["chunks"]) for state in states]
    for number, state in enumerate(states, start=1):
        done = reperio.restore(folder, tmp_path / f"r{number}", number=number)
        assert (done.number, done.chunks) == (number, len(state["chunks"]))
        assert content_at(tmp_path / f"r{number}") == state
    reperio.restore(folder, tmp_path / "newest")
    with reperio.open(tmp_path / "newest", auto_optimize=False) as restored:
        assert restored.info().index is not None
        assert content(restored) == states[-1]
        grow(restored, 9000, 10)
    assert not list(folder.glob(".database-*"))


def test_only_what_is_new_is_written(kb: Collection, tmp_path: Path) -> None:
    """A backup of an unchanged collection takes next to nothing, one of a tenth more a fraction of the first."""
    folder = tmp_path / "backups"
    grow(kb, 0, 5000)
    kb.backup(folder, incremental=True)
    first = size(folder)
    kb.backup(folder, incremental=True)
    assert size(folder) - first < first / 50
    second = size(folder)
    grow(kb, 5000, 100)
    kb.backup(folder, incremental=True)
    assert size(folder) - second < first / 2


def test_retention_keeps_the_newest_whole(kb: Collection, tmp_path: Path) -> None:
    """keep= removes older backups and the blocks that nothing else needs; those that stay restore as before."""
    folder, states = tmp_path / "backups", {}
    for number in range(1, 8):
        grow(kb, 300 * number, 400)
        kb.delete(ids=[f"c{i}" for i in range(300 * number - 250, 300 * number)])
        kb.compact()
        states[number] = content(kb)
        kb.backup(folder, incremental=True, keep=2)
        assert [backup.number for backup in reperio.backups(folder)] == list(range(max(1, number - 1), number + 1))
    assert size(folder) < 2.5 * sum(info.bytes for info in reperio.backups(folder))
    for number in (6, 7):
        reperio.restore(folder, tmp_path / f"r{number}", number=number)
        assert content_at(tmp_path / f"r{number}") == states[number]
    with pytest.raises(InvalidInput, match="no backup 5; there are: 6, 7"):
        reperio.restore(folder, tmp_path / "r5", number=5)


def test_a_listing_that_retention_overtook_is_made_again(
    kb: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup with keep=1 between listing and reading leaves none that was listed, and one that was not."""
    folder = tmp_path / "backups"
    kb.backup(folder, incremental=True)
    listed = repository.numbers
    backups = iter([lambda: kb.backup(folder, incremental=True, keep=1)])

    def overtaken(*given: Any) -> Any:
        found = list(listed(*given))
        next(backups, lambda: None)()
        return found

    kb.add([Chunk("late", "late")], vectors=[[1.0] * D])
    monkeypatch.setattr(repository, "numbers", overtaken)
    assert reperio.restore(folder, tmp_path / "restored").number == 2


def test_a_damaged_backup_is_refused(kb: Collection, tmp_path: Path) -> None:
    """A flipped or missing byte anywhere that a state needs is told; nothing is left at the destination."""
    folder = tmp_path / "backups"
    grow(kb, 0, 300)
    kb.backup(folder, incremental=True)
    for path in sorted(path for path in folder.rglob("0*") if path.is_file()):
        whole = path.read_bytes()
        for at in (0, len(whole) // 3, len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(CollectionDamaged, match="restore another backup"):
                reperio.restore(folder, tmp_path / "restored")
        path.write_bytes(whole[:-1])
        with pytest.raises(CollectionDamaged, match="restore another backup"):
            reperio.restore(folder, tmp_path / "restored")
        path.write_bytes(whole)
        assert not (tmp_path / "restored").exists()
    assert reperio.restore(folder, tmp_path / "restored").chunks == 300


def test_a_full_backup_is_verified_too(kb: Collection, path: Path, tmp_path: Path) -> None:
    """restore() of a directory of its own copies it when it is whole, and refuses it when a chunk is not."""
    grow(kb, 0, 50)
    kb.backup(tmp_path / "full")
    before = content(kb)
    assert reperio.restore(tmp_path / "full", tmp_path / "restored").chunks == 50
    assert content_at(tmp_path / "restored") == before
    (vectors,) = (tmp_path / "full").glob("gen-*/vectors.*")
    damaged = bytearray(vectors.read_bytes())
    damaged[700] ^= 1
    vectors.write_bytes(damaged)
    with pytest.raises(CollectionDamaged, match="cannot be restored: chunk 'c"):
        reperio.restore(tmp_path / "full", tmp_path / "other")
    with pytest.raises(InvalidInput, match="leave number out"):
        reperio.restore(tmp_path / "full", tmp_path / "other", number=1)
    with pytest.raises(CollectionExists):
        reperio.restore(tmp_path / "full", path)
    with pytest.raises(CollectionNotFound):
        reperio.restore(tmp_path / "absent", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_backup_that_was_killed_disturbs_no_other(kb: Collection, tmp_path: Path) -> None:
    """A pack without a state, and unfinished files, are passed over, and the next backup writes beside them."""
    folder = tmp_path / "backups"
    grow(kb, 0, 100)
    kb.backup(folder, incremental=True)
    grow(kb, 100, 100)
    kb.backup(folder, incremental=True)
    (folder / "states" / "000002.json").unlink()  # as if killed before it was written
    (folder / "packs" / "000003.pack.new").write_bytes(b"half")
    (folder / "packs" / "000004.pack").write_bytes(b"no index yet")
    assert [backup.number for backup in reperio.backups(folder)] == [1]
    kb.backup(folder, incremental=True)
    reperio.restore(folder, tmp_path / "restored")
    assert content_at(tmp_path / "restored") == content(kb)
    kb.backup(folder, incremental=True, keep=1)  # cleans up, too
    assert not [path.name for path in (folder / "packs").iterdir() if path.name.startswith(("000003", "000004"))]
    reperio.restore(folder, tmp_path / "again")
    assert content_at(tmp_path / "again") == content(kb)


def test_other_folders_are_left_alone(kb: Collection, path: Path, tmp_path: Path) -> None:
    """Incremental backups go into a folder of their own; keep= without them is refused."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("x")
    for taken in (tmp_path / "mine", path):
        with pytest.raises(NotACollection, match="something else than backups"):
            kb.backup(taken, incremental=True)
    with pytest.raises(InvalidInput, match="keep= is for incremental"):
        kb.backup(tmp_path / "new", keep=3)
    with pytest.raises(InvalidInput, match="keep is 0"):
        kb.backup(tmp_path / "new", incremental=True, keep=0)
    with pytest.raises(CollectionNotFound):
        reperio.backups(tmp_path / "mine")
    assert not (tmp_path / "new").exists()
    shutil.rmtree(tmp_path / "mine")


def test_a_damaged_collection_is_not_backed_up(kb: Collection, path: Path, tmp_path: Path) -> None:
    """It would not restore, and retention would remove those that do: it is refused, and nothing is removed."""
    grow(kb, 0, 300)
    kb.delete(ids=["c0"])
    before = content(kb)
    kb.backup(tmp_path / "backups", incremental=True)
    kb.close()
    (vectors,) = path.glob("gen-*/vectors.*")
    whole = vectors.read_bytes()
    for at in (640, 0):  # of a chunk, and of a row that holds none any more, which restore() looks at as well
        damaged = bytearray(whole)
        damaged[at : at + 4] = b"\x00\x00\xc8\x42"  # a float of 100, a half of 3.4
        vectors.write_bytes(damaged)
        with reperio.open(path, read_only=True) as reader:
            for _ in range(2):
                with pytest.raises(CollectionDamaged, match=r"is not backed up.*check\(fix=True\)"):
                    reader.backup(tmp_path / "backups", incremental=True, keep=1)
            with pytest.raises(CollectionDamaged, match="is not backed up"):
                reader.backup(tmp_path / "full")
        assert not (tmp_path / "full").exists()
        assert [backup.number for backup in reperio.backups(tmp_path / "backups")] == [1]
    reperio.restore(tmp_path / "backups", tmp_path / "restored")
    assert content_at(tmp_path / "restored") == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda pack: pack.unlink(),
        lambda pack: pack.write_bytes(pack.read_bytes()[:5000]),
        lambda pack: flip(pack, 5000),
        lambda pack: flip(pack.with_suffix(".index"), 50),
    ],
    ids=["gone", "cut", "flipped", "unknown"],
)
def test_a_backup_is_not_built_on_a_damaged_pack(harm: Callable[[Path], Any], kb: Collection, tmp_path: Path) -> None:
    """What is lost of the packs is written again, so that the next backup restores, and so do those after retention."""
    folder = tmp_path / "backups"
    grow(kb, 0, 500)
    kb.backup(folder, incremental=True)
    grow(kb, 500, 100)
    kb.backup(folder, incremental=True)
    harm(folder / "packs" / "000001.pack")
    for number, keep in ((3, None), (4, 1)):
        kb.backup(folder, incremental=True, keep=keep)
        assert reperio.backups(folder, verify=True)[-1].problems == ()
        reperio.restore(folder, tmp_path / f"r{number}")
        assert content_at(tmp_path / f"r{number}") == content(kb)
    assert not (folder / "packs" / "000001.index").exists()  # nobody needs it any more


def test_a_damaged_state_is_in_no_others_way(kb: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Others are listed, restored and added to; retention neither counts it nor frees what may be its own."""
    folder = tmp_path / "backups"
    for number in range(4):
        grow(kb, 100 * number, 100)
        kb.backup(folder, incremental=True)
    flip(folder / "states" / "000003.json", 30)
    assert [backup.number for backup in reperio.backups(folder)] == [1, 2, 4]
    assert "000003.json is damaged" in caplog.text
    assert [bool(backup.problems) for backup in reperio.backups(folder, verify=True)] == [False, False, True, False]
    reperio.restore(folder, tmp_path / "newest")
    assert content_at(tmp_path / "newest") == content(kb)
    with pytest.raises(CollectionDamaged, match="restore another backup, with its number: 1, 2, 4"):
        reperio.restore(folder, tmp_path / "third", number=3)
    packs = size(folder / "packs")
    kb.backup(folder, incremental=True, keep=3)
    assert [backup.number for backup in reperio.backups(folder)] == [2, 4, 5]
    assert size(folder / "packs") >= packs
    flip(folder / "states" / "000005.json", 30)
    with pytest.raises(CollectionDamaged, match=r"000005\.json"):  # the newest: an older one is not what was asked for
        reperio.restore(folder, tmp_path / "fifth")
    with caplog.at_level(logging.INFO, logger="reperio"):
        for _ in range(2):
            kb.backup(folder, incremental=True, keep=1)
    assert "backups removed: 2, 3, 4, 5" in caplog.text
    assert "backups removed: 6" in caplog.text
    assert [backup.number for backup in reperio.backups(folder, verify=True)] == [7]
    reperio.restore(folder, tmp_path / "seventh")
    assert content_at(tmp_path / "seventh") == content(kb)


def test_nothing_goes_into_a_collection(kb: Collection, path: Path, tmp_path: Path) -> None:
    """A writer would take it for its own and remove it: backups, exports and restored collections are refused there."""
    grow(kb, 0, 10)
    kb.backup(tmp_path / "full")
    (tmp_path / "link").symlink_to(path)
    for inside in (path / "gen-000002", path / "sub" / "deep", path / "gen-000001" / "r", tmp_path / "link" / "gen-7"):
        for write in (
            lambda at: kb.backup(at),
            lambda at: kb.backup(at, incremental=True),
            lambda at: export_collection(kb, at, format="jsonl"),
            lambda at: reperio.restore(tmp_path / "full", at),
        ):
            with pytest.raises(InvalidInput, match="is inside the collection"):
                write(inside)
        assert not inside.exists()
    kb.close()
    for name in ("x.new", "gen-notes"):  # what others have put there before is left alone
        (path / name).mkdir()
    (path / "y.new").write_text("mine")
    reperio.open(path).close()
    assert {"x.new", "y.new", "gen-notes"} <= {entry.name for entry in path.iterdir()}
    (tmp_path / "CURRENT").write_text("MANIFEST-000004\n")  # of another database
    reperio.restore(tmp_path / "full", tmp_path / "restored")


def test_what_cannot_be_is_refused_in_words(kb: Collection, tmp_path: Path) -> None:
    """Paths that are none, numbers that are none, a newer format, what is in the way: each a typed error."""
    folder = tmp_path / "backups"
    grow(kb, 0, 10)
    kb.backup(folder, incremental=True)
    for bad in (None, 5, b"bytes"):
        for call in (
            lambda bad: kb.backup(bad),
            lambda bad: reperio.restore(bad, tmp_path / "r"),
            lambda bad: reperio.restore(folder, bad),
            reperio.backups,
        ):
            with pytest.raises(InvalidInput, match="pass a path"):
                call(bad)
    for number in (True, 0, 1.0, "1"):
        with pytest.raises(InvalidInput, match="number is"):
            reperio.restore(folder, tmp_path / "r", number=number)
    lock = FileLock(folder / "LOCK", purpose="which is writing a backup", cure="")
    lock.acquire()
    with pytest.raises(
        CollectionLocked, match=r"through another handle\), which is writing a backup, since .*wait for its call"
    ):
        kb.backup(folder, incremental=True)
    lock.close()
    (folder / "packs" / "000009.index").mkdir()
    with pytest.raises(StorageFailed, match="directory"):
        kb.backup(folder, incremental=True)
    (folder / "packs" / "000009.index").rmdir()
    kb.backup(folder, incremental=True)  # the lock was given back
    (folder / "states" / "000009.json").mkdir()
    with pytest.raises(StorageFailed, match="directory"):
        reperio.backups(folder)
    (folder / "states" / "000009.json").rmdir()
    marker = folder / "reperio-backups"
    marker.write_bytes(marker.read_bytes().replace(b"1", b"2"))
    for ask in (reperio.backups, lambda at: reperio.restore(at, tmp_path / "r")):
        with pytest.raises(UnsupportedFormat, match="pip install --upgrade"):
            ask(folder)
    marker.write_bytes(b"reperio backu")  # damaged: what it marks has checksums of its own
    assert len(reperio.backups(folder)) == 2
    assert not (tmp_path / "r").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["packs", "states"])
def test_what_may_not_be_read_is_no_damage(name: str, kb: Collection, tmp_path: Path) -> None:
    """A folder without permission is StorageFailed, with the cure."""
    kb.backup(tmp_path / "backups", incremental=True)
    (tmp_path / "backups" / name).chmod(0)
    try:
        with pytest.raises(StorageFailed, match="no permission"):
            reperio.restore(tmp_path / "backups", tmp_path / "r")
    finally:
        (tmp_path / "backups" / name).chmod(0o755)


def test_a_full_backup_has_its_own_time(kb: Collection, tmp_path: Path) -> None:
    """What is told of it is when it was made, not when it is restored; errors name what the user has named."""
    grow(kb, 0, 10)
    kb.backup(tmp_path / "full")
    then = datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc)
    for path in (tmp_path / "full").rglob("*"):
        os.utime(path, (then.timestamp(), then.timestamp()))
    assert reperio.restore(tmp_path / "full", tmp_path / "r").time == then.isoformat()
    (settings,) = (tmp_path / "full").glob("gen-*/collection.json")
    settings.unlink()
    for mend in (False, True):
        with pytest.raises(CollectionDamaged) as refused:
            reperio.restore(tmp_path / "full", tmp_path / "again", mend=mend)
        assert "creating-" not in str(refused.value)
        assert str(tmp_path / "full") in str(refused.value)
    assert not (tmp_path / "again").exists()


def test_a_backup_is_sealed_only_where_its_lock_is_still_the_one_at_the_path(tmp_path: Path) -> None:
    """Where LOCK was removed while blocks were written, or the collection replaced, no state names them."""
    source = tmp_path / "source"
    source.write_bytes(b"content")
    files, now = {"chunks.db": (source, 7)}, datetime.now(timezone.utc).isoformat(timespec="seconds")

    def replaced() -> None:
        raise CollectionClosed("replaced")

    repository = Repository(tmp_path / "backups", writable=True)
    try:
        with pytest.raises(CollectionClosed):
            repository.write(files, {}, now, replaced)
        (tmp_path / "backups" / "LOCK").unlink()
        with pytest.raises(CollectionLocked, match="begin it again"):
            repository.write(files, {}, now)
    finally:
        repository.close()
    assert reperio.backups(tmp_path / "backups") == []
    assert not list((tmp_path / "backups" / "states").iterdir())
