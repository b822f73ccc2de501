import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk
from reperio.errors import CollectionClosed, InvalidChunk, InvalidInput, InvalidVectors, ShardWriteFailed, StorageFailed
from reperio.sharding import ShardManifest, ShardSet, check_shards, merge, read_manifest, split, write_manifest
from reperio.sharding.building.build import build_shards
from reperio.sharding.keeping import exchanging
from reperio.sharding.writing import ShardWriter
from reperio.types import AddResult
from tests.conftest import TrigramEmbedder
from tests.sharding.test_manifest import SETTINGS, make_shard, make_shards

NAMES = [f"c{at}" for at in range(20)]


def _vectors(number: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal((number, 4)).astype(np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_shards(tmp_path, ShardManifest.new(SETTINGS, 3))
    return tmp_path


def stored(root: Path) -> dict[str, Chunk]:
    with ShardSet(root) as shards:
        return {chunk.id: chunk for _, kb in shards for chunk in kb}


def test_chunks_go_to_the_shard_of_their_id(root: Path) -> None:
    """What is added, replaced, unchanged and deleted is counted over all shards, and durable in each."""
    chunks, vectors = [Chunk(name, f"text of {name}", {"n": at}) for at, name in enumerate(NAMES)], _vectors(20)
    calls: list[tuple[str, int, int | None]] = []
    with ShardWriter(root) as writer:
        done = writer.add(chunks, vectors=vectors, batch_size=8, progress=lambda *call: calls.append(call))
        assert done == AddResult(added=20)
        assert calls == [("add", 8, 20), ("add", 16, 20), ("add", 20, 20)]
        with ShardSet(root) as shards:
            assert all(name in shards.of(name) for name in NAMES)
            assert sum(kb.count() for _, kb in shards) == 20
            expected = vectors[7] / np.linalg.norm(vectors[7])
            np.testing.assert_allclose(shards.of("c7").vectors(["c7"])[0], expected, rtol=1e-6)
        changed = [Chunk("c0", "new"), *chunks[1:]]
        assert writer.upsert(changed, vectors=vectors) == AddResult(updated=1, unchanged=19)
        assert writer.delete(ids=["c1", "c2", "absent"]) == 2
        assert writer.delete(where={"n": {"$gte": 15}}) == 5
        assert writer.delete(ids=["c3", "c4"], where={"n": 4}) == 1
        assert set(stored(root)) == {"c0", "c3", *(f"c{at}" for at in range(5, 15))}
    with pytest.raises(CollectionClosed):
        writer.add(chunks, vectors=vectors)


def test_what_cannot_be_stored_is_refused_before_any_shard_has_some(root: Path) -> None:
    """One bad chunk or vector of a batch keeps all shards as they were; the batches before are stored."""
    chunks = [Chunk(name, name) for name in NAMES]
    bad = _vectors(20)
    bad[19] = np.nan
    with ShardWriter(root) as writer:
        with pytest.raises(InvalidVectors, match="row 19 contains NaN"):
            writer.add(chunks, vectors=bad)
        with pytest.raises(InvalidChunk, match="c19"):
            writer.add([*chunks[:19], Chunk("c19", "x", {"a": object()})], vectors=_vectors(20))
        assert not stored(root)
        with pytest.raises(InvalidVectors, match="10 chunks of the batches before are stored"):
            writer.add(chunks, vectors=bad, batch_size=10)
        assert len(stored(root)) == 10
        for wrong in ({}, {"where": {}}, {"where": None}):
            with pytest.raises(InvalidInput, match="delete takes"):
                writer.delete(**wrong)  # type: ignore[arg-type]  # the point
        with pytest.raises(reperio.UnknownOption):
            writer.delete(["c1"])  # type: ignore[arg-type]  # the point
        with pytest.raises(InvalidInput, match="no embedder"):
            writer.add(chunks)
    with pytest.raises(InvalidInput, match="leave embedder= out"):
        ShardWriter(root, embedder=TrigramEmbedder(4))


def test_a_shard_that_cannot_commit_is_told_with_what_the_others_have_stored(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names stored and failed ids and the shard; the same call again stores the rest, and nothing twice."""
    from reperio.store import Store

    chunks, vectors = [Chunk(name, name) for name in NAMES], _vectors(20)
    put, refusing = Store.put, True

    def refuse(store: Store, *args: Any, **options: Any) -> None:
        if refusing and "shard-000002" in str(store._paths.root):
            raise StorageFailed("no space; free some")
        put(store, *args, **options)

    monkeypatch.setattr(Store, "put", refuse)
    with ShardWriter(root) as writer:
        second = {name for name in NAMES if writer.manifest.shard_of(name).name == "shard-000002"}
        with pytest.raises(ShardWriteFailed, match=r"shard-000002 has refused its part: no space") as caught:
            writer.add(chunks, vectors=vectors)
        assert set(caught.value.failed_ids) == second
        assert set(caught.value.stored_ids) == set(NAMES) - second == set(stored(root))
        assert list(caught.value.failures) == ["shard-000002"]
        assert isinstance(caught.value.__cause__, StorageFailed)
        # Where nothing at all is stored, the error is what the shard says.
        with pytest.raises(StorageFailed, match="no space") as plain:
            writer.add([Chunk(name, "x") for name in second], vectors=_vectors(len(second)))
        assert not isinstance(plain.value, ShardWriteFailed)
        refusing = False
        assert writer.add(chunks, vectors=vectors) == AddResult(added=len(second), unchanged=20 - len(second))


def test_a_deletion_that_one_shard_refuses_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By filter as by id, and the same call again completes it."""
    from reperio.store import Store

    chunks = [Chunk(name, name, {"a": 1}) for name in NAMES]
    delete, refusing = Store.delete, True

    def refuse(store: Store, *args: Any, **options: Any) -> None:
        if refusing and "shard-000001" in str(store._paths.root):
            raise StorageFailed("no space; free some")
        delete(store, *args, **options)

    with ShardWriter(root) as writer:
        writer.add(chunks, vectors=_vectors(20))
        monkeypatch.setattr(Store, "delete", refuse)
        with pytest.raises(ShardWriteFailed, match="of the other shards are deleted; the same call again"):
            writer.delete(where={"a": 1})
        left = set(stored(root))
        assert left == {name for name in NAMES if writer.manifest.shard_of(name).name == "shard-000001"}
        with pytest.raises(StorageFailed):
            writer.delete(ids=NAMES[:0] + sorted(left))
        refusing = False
        assert writer.delete(where={"a": 1}) == len(left)
    assert not stored(root)


def test_one_model_embeds_for_all_shards(tmp_path: Path) -> None:
    """The recorded embedder is held to the contract once, and texts that are stored are not embedded again."""
    embedder = TrigramEmbedder()
    (tmp_path / "texts.jsonl").write_text('{"id": "first", "text": "the first"}\n')
    build_shards(tmp_path / "texts.jsonl", tmp_path / "shards", shards=3, embedder=embedder, recall=None, map=map)
    with ShardWriter(tmp_path / "shards", embedder=embedder) as writer:
        embedder.embedded.clear()
        done = writer.add([Chunk("first", "the first"), *(Chunk(name, f"of {name}") for name in NAMES)])
        assert (done.added, done.unchanged, done.embedded) == (20, 1, 20)
        assert sorted(embedder.embedded) == sorted(f"of {name}" for name in NAMES)
    with pytest.raises(reperio.EmbeddingContractError):
        ShardWriter(tmp_path / "shards", embedder=TrigramEmbedder(salt="x"))


def test_a_writer_whose_shards_another_thread_has_opened_again_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first `add` by text does, to share its model: what is closed under a call is written all the same."""
    with ShardWriter(root) as writer:
        each = writer._each

        def closing(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(writer, "_each", each)
            writer._shards.reopen()
            return each(*args, **options)

        monkeypatch.setattr(writer, "_each", closing)
        assert writer.add([Chunk(f"n{at}", "new") for at in range(20)], vectors=_vectors(20)).added == 20
        monkeypatch.setattr(writer, "_each", closing)
        assert writer.delete(ids=[f"n{at}" for at in range(20)]) == 20


def test_a_writer_follows_shards_that_were_exchanged(root: Path) -> None:
    """A handle that knows the shards of before writes to those of now, and none that is gone is made again."""
    import shutil

    chunks, vectors = [Chunk(name, name) for name in NAMES], _vectors(20)
    with ShardWriter(root) as writer:
        old = writer.manifest
        new = old.exchanged(old.shards, 2)
        for entry in new.shards:
            make_shard(root, entry.name, dimension=4)
        write_manifest(root, new)
        for entry in old.shards:
            shutil.rmtree(root / "shards" / entry.name)
        assert writer.add(chunks, vectors=vectors) == AddResult(added=20)
        assert writer.manifest == new
    assert sorted(path.name for path in (root / "shards").iterdir()) == [entry.name for entry in new.shards]


def test_writers_and_exchanges_at_a_time_lose_nothing(root: Path) -> None:
    """Threads add and delete while shards are split and merged: what was acknowledged is there, once, in its shard."""
    acknowledged: list[set[str]] = [set(), set(), set()]
    failed: list[BaseException] = []
    done = threading.Event()

    def write(writer: ShardWriter, number: int) -> None:
        rounds = 0
        try:
            while not (done.is_set() and rounds >= 5):
                rounds += 1
                names = [f"{number}-{rounds}-{at}" for at in range(6)]
                writer.add([Chunk(name, name) for name in names], vectors=_vectors(6))
                acknowledged[number].update(names)
                assert writer.delete(ids=names[:2]) == 2
                acknowledged[number].difference_update(names[:2])
        except BaseException as error:
            failed.append(error)

    with ShardWriter(root) as one, ShardWriter(root) as other:
        # Two threads share a writer, and the third has its own.
        writers = enumerate((one, one, other))
        threads = [threading.Thread(target=write, args=(writer, number)) for number, writer in writers]
        for thread in threads:
            thread.start()
        for _ in range(3):
            names = [entry.name for entry in read_manifest(root).shards]
            split(root, names[0], recall=None)
            merge(root, names[1:], recall=None)
        done.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert set(stored(root)) == set().union(*acknowledged)
    assert check_shards(root).ok


def test_shards_of_another_state_are_told_apart_though_it_has_counted_as_far(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A backup is restored at the path, and another shard is split: generation and names are those of before."""
    before = tmp_path_factory.mktemp("before") / "shards"
    shutil.copytree(root, before)
    chunks = [Chunk(name, name) for name in NAMES]
    with ShardWriter(root) as writer, reperio.open_shards(root) as shards:
        split(root, "shard-000001", recall=None)
        writer.add(chunks, vectors=_vectors(20))
        assert shards.count() == 20
        shutil.rmtree(root)
        shutil.copytree(before, root)
        split(root, "shard-000003", recall=None)
        assert writer.manifest.generation == read_manifest(root).generation
        writer.add(chunks, vectors=_vectors(20))
        assert check_shards(root).ok
        assert set(stored(root)) == set(NAMES)
        assert len(shards.get(NAMES)) == 20


@pytest.mark.parametrize("kind", ["add", "delete"])
def test_what_went_to_a_shard_that_was_exchanged_is_done_again(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A split is killed after it has replaced the manifest: the old shard commits what had waited for its turn."""
    chunks, vectors, each = [Chunk(name, name) for name in NAMES], _vectors(20), ShardWriter._each

    def killed(*_: Any) -> None:
        raise InterruptedError

    def split_before(self: ShardWriter, *args: Any, **options: Any) -> Any:
        if len(read_manifest(root).shards) == 3:
            monkeypatch.setattr(exchanging, "_retire", killed)
            with pytest.raises(InterruptedError):
                split(root, "shard-000001", recall=None)
        return each(self, *args, **options)

    with ShardWriter(root) as writer:
        if kind == "delete":
            writer.add(chunks, vectors=vectors)
        monkeypatch.setattr(ShardWriter, "_each", split_before)
        if kind == "add":
            assert writer.add(chunks, vectors=vectors) == AddResult(added=20)
        else:
            assert writer.delete(ids=NAMES) == 20
    assert (root / "shards" / "shard-000001").is_dir()
    assert set(stored(root)) == (set(NAMES) if kind == "add" else set())


def test_a_writer_that_is_closed_meanwhile_says_so(root: Path) -> None:
    """Threads that add while another one closes get nothing but typed errors."""
    errors: list[BaseException] = []

    def write(writer: ShardWriter, number: int) -> None:
        try:
            for round_ in range(100_000):
                names = [f"{number}-{round_}-{at}" for at in range(6)]
                writer.add([Chunk(name, name) for name in names], vectors=_vectors(6))
        except BaseException as error:
            errors.append(error)

    for _ in range(5):
        writer = ShardWriter(root)
        threads = [threading.Thread(target=write, args=(writer, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        writer.close()
        for thread in threads:
            thread.join()
    assert len(errors) == 20
    assert all(isinstance(error, CollectionClosed | ShardWriteFailed) for error in errors), errors


def test_a_writer_writes_at_the_end_of_python(root: Path) -> None:
    """Threads can be started no more by then."""
    script = (
        "import atexit, sys, numpy, reperio\n"
        "writer = reperio.ShardWriter(sys.argv[1])\n"
        "chunks = [reperio.Chunk(str(at), 'x') for at in range(9)]\n"
        "atexit.register(lambda: print(writer.add(chunks, vectors=numpy.ones((9, 4))).added))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, root], capture_output=True, text=True, check=True)
    assert ended.stdout == "9\n", ended.stderr
