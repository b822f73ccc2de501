from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

import reperio
from reperio.embedding.contract import Settings
from reperio.errors import (
    CollectionDamaged,
    CollectionLocked,
    CollectionNotFound,
    InvalidInput,
    NotACollection,
    StorageFailed,
    UnsupportedFormat,
)
from reperio.sharding import (
    MANIFEST,
    SLOTS,
    ShardManifest,
    ShardSet,
    exchange_manifest,
    read_manifest,
    slot_of,
    write_manifest,
)
from reperio.types import Metric

SETTINGS = Settings(4, Metric.COSINE, None)


def test_an_id_keeps_its_slot() -> None:
    """The slot is part of the format: these are of the first version, and hold for ever."""
    assert [slot_of(one) for one in ("a", "faq-17", "ümläut", "")] == [16943, 5194, 4252, 45748]


def test_ids_spread_evenly() -> None:
    """Of ids that differ in their last digits alone, each of eight shards gets its eighth, within five sigma."""
    manifest = ShardManifest.new(SETTINGS, 8)
    counts = dict.fromkeys((entry.name for entry in manifest.shards), 0)
    for number in range(16_000):
        counts[manifest.shard_of(f"chunk-{number:06d}").name] += 1
    assert all(abs(count - 2000) < 5 * 42 for count in counts.values()), counts


@pytest.mark.parametrize("shards", [1, 3, 4096])
def test_each_slot_is_in_one_shard(shards: int) -> None:
    """Ranges are contiguous, differ by one slot at most, and `shard_at` finds them at their borders."""
    manifest = ShardManifest.new(SETTINGS, shards)
    sizes = {entry.end_slot - entry.first_slot for entry in manifest.shards}
    assert max(sizes) - min(sizes) <= 1
    assert sum(entry.end_slot - entry.first_slot for entry in manifest.shards) == SLOTS
    for entry in manifest.shards:
        assert manifest.shard_at(entry.first_slot) == entry == manifest.shard_at(entry.end_slot - 1)


def test_split_and_merge_move_the_slots_of_their_shards_alone() -> None:
    """What is exchanged has new names, what is not keeps its own, and no name comes twice."""
    first = ShardManifest.new(SETTINGS, 3)
    split = first.exchanged([first.named("shard-000002")], 2)
    assert [entry.name for entry in split.shards] == ["shard-000001", "shard-000004", "shard-000005", "shard-000003"]
    merged = split.exchanged(split.shards[:3], 1)
    assert [entry.name for entry in merged.shards] == ["shard-000006", "shard-000003"]
    assert merged.shards[0].end_slot == first.shards[2].first_slot
    assert merged.generation == first.generation + 2
    with pytest.raises(InvalidInput, match="not neighbours"):
        split.exchanged([split.shards[0], split.shards[2]], 1)
    with pytest.raises(InvalidInput, match="no shard 'shard-000002'; there are shard-000001, "):
        split.named("shard-000002")
    with pytest.raises(InvalidInput, match="cannot be cut"):
        first.exchanged(first.shards[:1], SLOTS)
    for number in (0, 4097):
        with pytest.raises(InvalidInput, match=f"shards is {number}"):
            ShardManifest.new(SETTINGS, number)


def test_a_manifest_comes_back_equal(tmp_path: Path) -> None:
    """Settings, shards and numbers are read as they were written."""
    manifest = ShardManifest.new(SETTINGS, 5)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def _set(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(changes)


def _first(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["shards"][0].update(changes)


@pytest.mark.parametrize(
    "spoil",
    [
        _first(name="../elsewhere"),
        _first(name="shard-000001/../../elsewhere"),
        _first(name="/etc"),
        _first(name="shard-000009"),
        _first(name="shard-000002"),
        _first(name=None),
        _first(name="shard-000001\n"),
        _first(first=1),
        _first(end=0),
        _first(end=SLOTS + 1),
        _first(first=False),
        _first(more=1),
        _set(shards=[]),
        _set(shards={}),
        _set(shards=None),
        _set(slots=1024),
        _set(generation=0),
        _set(generation=True),
        _set(next=1 << 63),
        _set(identity="x"),
        _set(settings={}),
        _set(settings=None),
        _set(unknown=1),
        lambda content: content["shards"].pop(),
        lambda content: content["shards"].reverse(),
        lambda content: content.pop("identity"),
        _set(format="another"),
        _set(version="1"),
    ],
)
def test_what_was_never_written_is_damage(tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    """No name that a file tells becomes a path unless it is one that we write, and no slot has two shards or none."""
    write_manifest(tmp_path, ShardManifest.new(SETTINGS, 2))
    content = orjson.loads((tmp_path / MANIFEST).read_bytes())
    spoil(content)
    (tmp_path / MANIFEST).write_bytes(orjson.dumps(content))
    with pytest.raises(CollectionDamaged, match="restore from a backup"):
        read_manifest(tmp_path)


def test_other_places_are_refused_by_what_they_are(tmp_path: Path) -> None:
    """Nothing, a folder, one collection, a newer version, no JSON, a link: each is told with its cure."""
    with pytest.raises(CollectionNotFound, match="reperio shards build"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(NotACollection, match=r"no shards\.json"):
        read_manifest(tmp_path)
    reperio.open(tmp_path / "kb", dimension=4).close()
    with pytest.raises(NotACollection, match="one collection, without shards"):
        read_manifest(tmp_path / "kb")
    write_manifest(tmp_path, ShardManifest.new(SETTINGS, 2))
    path = tmp_path / MANIFEST
    content = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({**content, "version": 2}))
    with pytest.raises(UnsupportedFormat, match="upgrade"):
        read_manifest(tmp_path)
    path.write_bytes(b"{")
    with pytest.raises(CollectionDamaged, match="no JSON"):
        read_manifest(tmp_path)
    path.rename(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    with pytest.raises(StorageFailed, match="link"):
        read_manifest(tmp_path)


def test_of_two_who_exchange_one_does(tmp_path: Path) -> None:
    """Whoever has made a manifest of an old one is told, and the other's stays."""
    old = ShardManifest.new(SETTINGS, 2)
    write_manifest(tmp_path, old)
    split, merged = old.exchanged(old.shards[:1], 2), old.exchanged(old.shards, 1)
    exchange_manifest(tmp_path, old, split)
    with pytest.raises(CollectionLocked, match="generation 2, not 1"):
        exchange_manifest(tmp_path, old, merged)
    assert read_manifest(tmp_path) == split


def make_shards(root: Path, manifest: ShardManifest) -> None:
    for entry in manifest.shards:
        make_shard(root, entry.name, dimension=4)
    write_manifest(root, manifest)


def make_shard(root: Path, name: str, **options: Any) -> None:
    """Make an empty collection elsewhere, and move it to where `open` makes none: among shards."""
    made = root.with_name(f"{root.name}-{name}")
    reperio.open(made, **options).close()
    (root / "shards").mkdir(exist_ok=True, parents=True)
    made.rename(root / "shards" / name)


def test_a_set_opens_every_shard_and_follows_the_manifest(tmp_path: Path) -> None:
    """Ids lead to their shard; `refresh` opens what is new and closes what is gone."""
    manifest = ShardManifest.new(SETTINGS, 2)
    make_shards(tmp_path, manifest)
    with ShardSet(tmp_path, read_only=False) as shards:
        shards.of("a").add([reperio.Chunk("a")], vectors=[[1, 0, 0, 0]])
        assert [("a" in kb) for _, kb in shards] == [entry.holds(slot_of("a")) for entry in manifest.shards]
        assert not shards.refresh()
        fresh = manifest.exchanged(manifest.shards, 1)
        make_shard(tmp_path, fresh.shards[0].name, dimension=4)
        exchange_manifest(tmp_path, manifest, fresh)
        gone = shards["shard-000001"]
        assert shards.refresh()
        assert [entry.name for entry, _ in shards] == ["shard-000003"]
        with pytest.raises(reperio.CollectionClosed):
            gone.count()


def test_a_missing_or_foreign_shard_is_damage(tmp_path: Path) -> None:
    """A set opens all shards or none: none is made, none of another collection is taken, no link is followed."""
    manifest = ShardManifest.new(SETTINGS, 2)
    make_shards(tmp_path, manifest)
    second = tmp_path / "shards" / "shard-000002"
    second.rename(tmp_path / "away")
    for read_only in (True, False):
        with pytest.raises(CollectionDamaged, match="shard-000002 is missing"):
            ShardSet(tmp_path, read_only=read_only)
    second.symlink_to(tmp_path / "away")
    with pytest.raises(StorageFailed, match="link"):
        ShardSet(tmp_path)
    second.unlink()
    make_shard(tmp_path, "shard-000002", dimension=4, metric="l2")
    with pytest.raises(CollectionDamaged, match="shard-000002 has another metric"):
        ShardSet(tmp_path)
