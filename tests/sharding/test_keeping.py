import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk
from reperio.errors import (
    CollectionDamaged,
    CollectionExists,
    CollectionLocked,
    InvalidInput,
    NotACollection,
    StorageFailed,
    UnknownOption,
)
from reperio.sharding import ShardLayout, ShardManifest, ShardSet, read_manifest, slot_of
from reperio.sharding.building.build import build_shards
from reperio.sharding.keeping import exchanging, upkeep
from reperio.sharding.keeping.exchanging import merge, split
from reperio.sharding.keeping.upkeep import (
    backup_shards,
    check_shards,
    diagnose_shards,
    optimize_shards,
    restore_shards,
    shards_info,
)
from reperio.sharding.writing import ShardWriter
from tests.sharding.test_manifest import SETTINGS, make_shard, make_shards

DIMENSION = 6
NUMBER = 120


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keeping")
    vectors = np.random.default_rng(2).standard_normal((NUMBER, DIMENSION))
    with reperio.open(folder / "kb", dimension=DIMENSION) as kb:
        kb.add([Chunk(f"c{at}", f"text {at}", {"n": at}) for at in range(NUMBER)], vectors=vectors)
    build_shards(folder / "kb", folder / "shards", shards=3, recall=None, map=map)
    return folder / "shards"


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "shards")
    return tmp_path / "shards"


def content(root: Path) -> dict[str, tuple[str, Any, bytes]]:
    with ShardSet(root) as shards:
        assert all(entry.holds(slot_of(chunk_id)) for entry, kb in shards for chunk_id in kb.ids())
        return {c.id: (c.text, c.metadata, kb.vectors([c.id]).tobytes()) for _, kb in shards for c in kb}


def names(root: Path) -> list[str]:
    assert sorted(path.name for path in (root / "shards").iterdir()) == sorted(
        entry.name for entry in read_manifest(root).shards
    )
    return [entry.name for entry in read_manifest(root).shards]


def test_split_and_merge_change_no_chunk(root: Path) -> None:
    """Ids, texts, metadata and the bits of vectors are as before, each in its shard; the old shards are gone."""
    before = content(root)
    done = split(root, "shard-000002", parts=3)
    assert names(root) == ["shard-000001", "shard-000004", "shard-000005", "shard-000006", "shard-000003"]
    assert (done.removed, list(done.made)) == (("shard-000002",), ["shard-000004", "shard-000005", "shard-000006"])
    assert content(root) == before
    merge(root, names(root), recall=None)
    assert names(root) == ["shard-000007"]
    assert content(root) == before
    assert check_shards(root).ok
    with pytest.raises(InvalidInput, match="no shard 'shard-000002'"):
        split(root, "shard-000002")
    with pytest.raises(InvalidInput, match="2 or more"):
        split(root, "shard-000007", parts=1)
    with pytest.raises(InvalidInput, match="two shards or more"):
        merge(root, ["shard-000007"])


def test_what_is_written_during_a_split_is_in_the_new_shards(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks added, replaced and deleted between copy and exchange, and records, are carried over."""
    with ShardSet(root, read_only=False) as shards:
        shards["shard-000002"].records("app").put({"key": {"a": 1}})
        ids = shards["shard-000002"].ids()
    new = next(f"new-{at}" for at in range(1000) if read_manifest(root).shard_of(f"new-{at}").name == "shard-000002")
    receive, calls = exchanging.receive, 0

    def receive_and_write(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        made = receive(*args, **options)
        if calls == 2:
            with ShardWriter(root) as writer:
                writer.add([Chunk(new, "new"), Chunk(ids[0], "replaced")], vectors=np.eye(2, DIMENSION))
                assert writer.delete(ids=[ids[1], ids[2]]) == 2
        return made

    monkeypatch.setattr(exchanging, "receive", receive_and_write)
    split(root, "shard-000002")
    found = content(root)
    assert len(found) == NUMBER + 1 - 2
    assert (found[new][0], found[ids[0]][0]) == ("new", "replaced")
    assert found[new][2] == np.eye(1, DIMENSION, dtype=np.float32).tobytes()
    assert ids[1] not in found
    assert ids[2] not in found
    with ShardSet(root) as shards:
        assert [kb.records("app").get(["key"])[0] is not None for _, kb in shards] == [False, True, False, False]


def test_a_killed_split_has_changed_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has left is told by doctor as waste, removed by it or by the next exchange, and found by nobody else."""
    before = content(root)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exchanging, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            split(root, "shard-000001", recall=None)
    assert content(root) == before
    found = diagnose_shards(root)
    assert found.ok
    assert [Path(one.what.split()[0]).name for one in found.problems] == ["shard-000004", "shard-000005"]
    assert diagnose_shards(root, mend=True).removed == ("shard-000004", "shard-000005")
    assert not diagnose_shards(root).problems
    with monkeypatch.context() as patch:
        patch.setattr(exchanging, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            split(root, "shard-000001", recall=None)
    with monkeypatch.context() as patch:
        patch.setattr(exchanging, "_retire", killed)  # killed after the exchange: it has happened
        with pytest.raises(KeyboardInterrupt):
            split(root, "shard-000001", recall=None)
    assert content(root) == before
    merge(root, ["shard-000004", "shard-000005"], recall=None)
    assert names(root) == ["shard-000006", "shard-000002", "shard-000003"]
    assert content(root) == before


def test_one_exchange_at_a_time(root: Path) -> None:
    """While another process exchanges shards, or writes to the old one, for longer, nothing is changed."""
    before = content(root)
    lock = ShardLayout(root).lock()
    lock.acquire()
    for call in (lambda: split(root, "shard-000001", lock_timeout=0), lambda: merge(root, names(root), lock_timeout=0)):
        with pytest.raises(CollectionLocked, match="exchanging shards"):
            call()
    lock.close()
    with ShardSet(root, read_only=False) as shards, shards["shard-000001"].turn(), pytest.raises(CollectionLocked):
        split(root, "shard-000001", recall=None, lock_timeout=0)
    assert content(root) == before


def test_shards_of_different_models_are_not_merged(root: Path) -> None:
    """They would be one collection whose vectors do not compare."""
    shutil.rmtree(root / "shards" / "shard-000002")
    make_shard(root, "shard-000002", dimension=DIMENSION + 1)
    with pytest.raises(InvalidInput, match="shard-000002 was embedded by another model than shard-000001"):
        merge(root, ["shard-000001", "shard-000002"])


def _damage(kb: Path) -> None:
    with open(next(kb.glob("gen-*/vectors.f32")), "r+b") as file:
        file.write(b"\x01\x02\x03\x04")


def test_check_and_doctor_look_at_every_shard(root: Path) -> None:
    """Damage to one is told by its name; mending it leaves the others; a chunk in the wrong shard is damage, too."""
    assert check_shards(root).rows == NUMBER
    assert diagnose_shards(root).ok
    with reperio.open(root / "shards" / "shard-000001") as kb:
        kb.add([Chunk("c0", "twice")], vectors=np.eye(1, DIMENSION)) if "c0" not in kb else kb.add(
            [Chunk("c1", "twice")], vectors=np.eye(1, DIMENSION)
        )
    _damage(root / "shards" / "shard-000002")
    shutil.rmtree(root / "shards" / "shard-000003")
    report = check_shards(root)
    assert not report.ok
    if report.problems:
        assert "shard-000001 has 'c" in report.problems[0].what
    assert [name for name, one in report.shards.items() if not one.ok] == ["shard-000002", "shard-000003"]
    found = diagnose_shards(root, mend=True)
    assert not found.ok
    assert ["shard-000003 is missing" in problem.what for problem in found.problems] == [True]
    assert found.shards["shard-000002"].ok
    assert len(found.shards["shard-000002"].lost) == 1


def test_a_backup_is_restored_whole(root: Path, tmp_path: Path) -> None:
    """What comes back is what was there, and opens as it is; damage to either is refused, and nothing is left."""
    before = content(root)
    backup_shards(root, tmp_path / "backup")
    assert content(tmp_path / "backup") == before
    restored = restore_shards(tmp_path / "backup", tmp_path / "restored")
    assert (restored.count, list(restored.shards)) == (NUMBER, names(root))
    assert content(tmp_path / "restored") == before
    assert restored.identity == read_manifest(root).identity
    with pytest.raises(CollectionExists):
        backup_shards(root, tmp_path / "backup")
    with pytest.raises(CollectionExists):
        restore_shards(tmp_path / "backup", root)
    _damage(tmp_path / "backup" / "shards" / "shard-000002")
    with pytest.raises(CollectionDamaged, match="shard-000002"):
        restore_shards(tmp_path / "backup", tmp_path / "new")
    with pytest.raises(CollectionDamaged, match="shard-000002"):
        backup_shards(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert restore_shards(tmp_path / "backup", tmp_path / "new", mend=True).count == NUMBER - 1


def test_optimize_and_info_go_over_every_shard(root: Path) -> None:
    """Each shard has an index of its own since, and is described."""
    built = optimize_shards(root, 0.9, index="HNSW8,Flat")
    assert [None if one is None else one.factory for one in built.values()] == ["HNSW8,Flat"] * 3
    info = shards_info(root)
    assert info.count == NUMBER
    assert [one.index is not None for _, one in info.shards.values()] == [True] * 3
    assert info.disk == sum(sum(one.disk.values()) for _, one in info.shards.values())


def test_a_map_must_bring_each_result(root: Path, tmp_path: Path) -> None:
    """Nothing is called sound, copied or built that no task has looked at."""
    with pytest.raises(InvalidInput, match="0 results of 3 tasks"):
        check_shards(root, map=lambda _, __: [])
    with pytest.raises(InvalidInput, match="0 results of 3 tasks"):
        backup_shards(root, tmp_path / "backup", map=lambda _, __: [])
    assert not (tmp_path / "backup").exists()
    with pytest.raises(InvalidInput, match="0 results of 1 tasks"):
        build_shards(root / "shards" / "shard-000001", tmp_path / "more", shards=3, map=lambda _, tasks: tasks[:0])


def test_nothing_is_written_where_an_exchange_would_remove_it(root: Path) -> None:
    """A backup among the shards would be taken for what a killed exchange has left."""
    with pytest.raises(InvalidInput, match="inside the shards of"):
        backup_shards(root, root / "shards" / "shard-000077")
    with (
        reperio.open(root / "shards" / "shard-000001", read_only=True) as kb,
        pytest.raises(InvalidInput, match="inside the shards of"),
    ):
        kb.backup(root / "shards" / "shard-000001.old")
    with pytest.raises(InvalidInput, match="inside the shards of"):  # a number mistyped
        reperio.open(root / "shards" / "shard-000077", dimension=2)
    assert len(names(root)) == 3


@pytest.mark.parametrize("verb", [check_shards, shards_info, diagnose_shards, optimize_shards])
def test_a_shard_that_is_split_meanwhile_is_no_damage(root: Path, verb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in its place are looked at, and each shard once."""
    read = upkeep.read_manifest
    old = read(root)
    seen: list[int] = []

    def reading(path: Path) -> ShardManifest:
        if not seen:
            split(path, "shard-000002", recall=None)
        seen.append(1)
        return old if len(seen) == 1 else read(path)

    monkeypatch.setattr(upkeep, "read_manifest", reading)
    found = verb(root)
    shards = found if isinstance(found, dict) else found.shards
    assert list(shards) == names(root)
    assert getattr(found, "ok", True)
    assert len(seen) > 1


def test_what_has_lost_all_shards_is_diagnosed(root: Path) -> None:
    """Doctor tells what is missing, rather than that it cannot read it."""
    shutil.rmtree(root / "shards")
    found = diagnose_shards(root)
    assert not found.ok
    assert [problem.kind for problem in found.problems] == ["damage"] * 3
    assert "shard-000001 is missing" in found.problems[0].what


@pytest.mark.parametrize("verb", [split, merge, check_shards, diagnose_shards, optimize_shards, shards_info])
def test_options_that_are_none_are_told_by_name(root: Path, verb: Any) -> None:
    """With those there are, as everywhere."""
    more = {split: ["shard-000001"], merge: [["shard-000001", "shard-000002"]]}.get(verb, [])
    with pytest.raises(UnknownOption, match=rf"{verb.__name__}\(\) has no option 'recal'"):
        verb(root, *more, recal=0.9)


def test_opened_as_one_collection_they_name_how_to_open_them(root: Path) -> None:
    """Who has them, and does not know of shards, learns the word."""
    with pytest.raises(NotACollection, match=r"has shards: .*reperio\.open_shards"):
        reperio.open(root)


def test_an_exchange_that_cannot_be_copies_nothing(root: Path) -> None:
    """A recall that cannot be is refused first; what another error stops is removed."""

    def stop(*_: object) -> None:
        raise RuntimeError

    before = names(root)
    with pytest.raises(InvalidInput, match="recall is 7"):
        split(root, before[0], recall=7)
    with pytest.raises(RuntimeError):
        split(root, before[0], recall=None, progress=stop)
    assert names(root) == before


@pytest.mark.parametrize("what", ["shards", "shards/shard-000002"])
def test_a_link_is_not_followed(root: Path, tmp_path: Path, what: str) -> None:
    """Links in a directory that came from others lead nowhere when it is served or restored."""
    (root / what).rename(tmp_path / "elsewhere")
    (root / what).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed, match="is a link"):
        reperio.open_shards(root)
    with pytest.raises(StorageFailed, match="is a link"):
        restore_shards(root, tmp_path / "restored")


def test_what_is_no_directory_is_not_taken_for_left_over(root: Path) -> None:
    """A pipe by our name does not stop doctor for ever, and is not removed."""
    os.mkfifo(root / "shards" / "shard-000077")
    found = diagnose_shards(root, mend=True)
    assert found.ok
    assert not found.removed


def test_a_shard_with_one_chunk_is_split_and_merged_again(tmp_path: Path) -> None:
    """A part that gets nothing is an empty shard."""
    root = tmp_path / "shards"
    make_shards(root, ShardManifest.new(SETTINGS, 1))
    with ShardWriter(root) as writer:
        writer.add([Chunk("only", "text")], vectors=[[1.0] * SETTINGS.dimension])
    made = split(root, names(root)[0], parts=3)
    assert sorted(made.made.values()) == [0, 0, 1]
    assert merge(root, names(root)).made == {names(root)[0]: 1}


def test_a_shard_that_is_restored_during_a_split_is_not_taken_for_the_one_before(root: Path, tmp_path: Path) -> None:
    """Its generation has the same name; nothing is changed, and a second split takes what is there."""
    shard = root / "shards" / "shard-000001"
    shutil.copytree(shard, tmp_path / "before")
    before = content(root)
    with ShardWriter(root) as writer:
        first = next(iter(before))
        writer.add([Chunk(first, "since")], vectors=np.ones((1, DIMENSION)))

    def restored(_: str, done: int, total: int | None) -> None:
        if done == total:
            shutil.rmtree(shard)
            shutil.copytree(tmp_path / "before", shard)

    with pytest.raises(CollectionLocked, match=r"restored meanwhile; nothing was changed"):
        split(root, "shard-000001", recall=None, progress=restored)
    assert len(names(root)) == 3
    split(root, "shard-000001", recall=None)
    assert content(root) == before


def test_shards_that_are_restored_during_a_split_keep_their_manifest(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is at the path by then is not ours: it would be named by shards that are not there, and lose its own."""
    before, remove_deleted = content(root), exchanging._remove_deleted

    def restored(*args: Any) -> None:
        remove_deleted(*args)
        root.rename(tmp_path / "away")
        shutil.copytree(tmp_path / "away", root)

    monkeypatch.setattr(exchanging, "_remove_deleted", restored)
    with pytest.raises(CollectionLocked, match=r"was moved or replaced meanwhile; nothing was changed there"):
        split(root, "shard-000001", recall=None)
    assert content(root) == before
    assert (root / "shards" / "shard-000004").is_dir()  # of whoever exchanges shards there now
    monkeypatch.undo()
    split(root, "shard-000001", recall=None)
    assert len(names(root)) == 4


def test_an_exchange_is_made_though_the_old_shard_cannot_be_removed(root: Path) -> None:
    """The shards are new by then: an error would say otherwise. What is left is told by doctor."""
    before = content(root)
    (root / "shards" / "shard-000001.old").write_text("of others")
    assert split(root, "shard-000001", recall=None).generation == 2
    assert content(root) == before
    assert [problem.kind for problem in diagnose_shards(root).problems] == ["waste"]
    assert diagnose_shards(root, mend=True).removed == ("shard-000001",)
