import json
import shutil
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk
from reperio.errors import CollectionDamaged, CollectionExists, InvalidChunk, InvalidInput, StorageFailed
from reperio.sharding import (
    ShardManifest,
    ShardSet,
    backup_shards,
    check_shards,
    diagnose_shards,
    restore_shards,
    slot_of,
    write_manifest,
)
from reperio.sharding.building.build import BuildReport, build_shards
from tests.conftest import TrigramEmbedder

DIMENSION = 8


def _chunks(number: int) -> list[Chunk]:
    texts = [f"text {at}\u2028 with a line separator,\nand a break" for at in range(number)]
    return [Chunk(f"chunk-{at}", text, {"n": at, "of": {"a": [at, None]}}) for at, text in enumerate(texts)]


def _vectors(number: int, seed: int = 7) -> Any:
    return np.random.default_rng(seed).standard_normal((number, DIMENSION)).astype(np.float32)


def content(root: Path) -> dict[str, list[tuple[str, str, Any, list[float]]]]:
    """Return ids, texts, metadata and vectors of each shard, in the order of adding."""
    with ShardSet(root) as shards:
        return {
            entry.name: [(chunk.id, chunk.text, chunk.metadata, kb.vectors([chunk.id])[0].tolist()) for chunk in kb]
            for entry, kb in shards
        }


def build(source: Any, into: Path, **options: Any) -> BuildReport:
    return build_shards(source, into, **{"shards": 3, "recall": None, "map": map, **options})


def test_shards_of_a_collection_hold_what_it_holds(tmp_path: Path) -> None:
    """Each chunk is in the shard of its id, to the bit; chunks that were deleted or replaced are not there."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, dtype="float16", auto_optimize=False) as kb:
        kb.add(_chunks(200), vectors=_vectors(200), batch_size=50)
        kb.delete(ids=["chunk-3", "chunk-60"])
        kb.add([Chunk("chunk-5", "changed")], vectors=_vectors(1, 8))
        expected = {chunk.id: (chunk, kb.vectors([chunk.id])[0].tolist()) for chunk in kb}
    report = build(tmp_path / "kb", tmp_path / "shards", partition_rows=17)
    assert report.chunks == 198
    assert report.embedded == 0
    found = content(tmp_path / "shards")
    for shard in report.shards:
        assert len(found[shard.name]) == shard.chunks > 0
    assert {one[0]: (Chunk(*one[:3]), one[3]) for part in found.values() for one in part} == expected
    with ShardSet(tmp_path / "shards") as shards:
        assert all(entry.holds(slot_of(chunk_id)) for entry, kb in shards for chunk_id in kb.ids())
        assert all(kb.check().ok for _, kb in shards)
        assert {kb.info().dtype for _, kb in shards} == {"float16"}
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == ["LOCK", "shards", "shards.json"]


def _lines(chunks: Iterable[Chunk], vectors: Any) -> str:
    return "".join(
        json.dumps({"id": chunk.id, "text": chunk.text, **chunk.metadata, "vector": vector.tolist()}) + "\n"
        for chunk, vector in zip(chunks, vectors, strict=True)
    )


def test_json_lines_and_parquet_make_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a file is cut, each line and row is read once, and its vector with it."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr("reperio.sharding.building.tables._BYTES", 1000)  # a few lines each
    chunks, vectors = _chunks(150), _vectors(150)
    (tmp_path / "a.jsonl").write_text(_lines(chunks[:90], vectors[:90]) + "\n")
    (tmp_path / "b.jsonl").write_text(_lines(chunks[90:], vectors[90:]).rstrip("\n"))
    columns = {
        "id": [chunk.id for chunk in chunks],
        "text": [chunk.text for chunk in chunks],
        "metadata": [json.dumps(chunk.metadata) for chunk in chunks],
        "vector": vectors.tolist(),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "all.parquet", row_group_size=40)
    build([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "one")
    build(tmp_path / "all.parquet", tmp_path / "other", partition_rows=16)
    found = content(tmp_path / "one")
    assert sum(map(len, found.values())) == 150
    assert found == content(tmp_path / "other")


def test_texts_are_embedded_as_one_collection_does(tmp_path: Path) -> None:
    """Lines without vectors are embedded, and the embedder is recorded; rows of whole numbers have these as ids."""
    embedder = TrigramEmbedder()
    lines = [{"id": at, "text": f"number {at}", "lang": "en"} for at in range(40)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = build(tmp_path / "texts.jsonl", tmp_path / "shards", embedder=embedder)
    assert (report.chunks, report.embedded) == (40, 40)
    with reperio.open(tmp_path / "kb", embedder=embedder) as kb, ShardSet(tmp_path / "shards") as shards:
        kb.add([Chunk(str(line["id"]), str(line["text"]), {"lang": "en"}) for line in lines])
        for _, shard in shards:
            assert shard.info().embedder == "trigrams"
            assert all(kb.get(chunk.id) == chunk for chunk in shard)
            np.testing.assert_array_equal(shard.vectors(shard.ids()), kb.vectors(shard.ids()))


def test_a_folder_becomes_the_chunks_that_ingest_makes(tmp_path: Path) -> None:
    """Ids, texts and metadata are those of `ingest`; what cannot be read is listed, and the rest is there."""
    pytest.importorskip("pathspec")
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    for number in range(6):
        words = " ".join(f"word{number}x{at}" for at in range(700))
        (folder / "deep" / f"{number}.md").write_text(f"# Title {number}\n\n{words}\n")
    (folder / "broken.jsonl").write_text("{")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    embedder = TrigramEmbedder()
    report = build(folder, tmp_path / "shards", embedder=embedder, ingestion={"metadata": {"team": "a"}})
    assert not report.complete
    assert [failed.source for failed in report.failed] == ["docs/broken.jsonl"]
    assert [skipped.source for skipped in report.skipped] == ["docs/picture.png"]
    with reperio.open(tmp_path / "kb", embedder=embedder) as kb:
        reperio.ingest(kb, folder, metadata={"team": "a"})
        expected = {chunk.id: chunk for chunk in kb}
    found = [Chunk(*one[:3]) for part in content(tmp_path / "shards").values() for one in part]
    assert len(found) > 6
    assert {chunk.id: chunk for chunk in found} == expected


class Interrupted(Exception):
    pass


def test_an_interrupted_build_goes_on(tmp_path: Path) -> None:
    """Broken off after each task in turn, and run again, it does the rest, and ends as an uninterrupted one."""
    (tmp_path / "all.jsonl").write_text(_lines(_chunks(60), _vectors(60)))
    with reperio.open(tmp_path / "kb", dimension=DIMENSION) as kb:
        kb.add(_chunks(60), vectors=_vectors(60))
    build(tmp_path / "kb", tmp_path / "whole", partition_rows=20)
    done: list[Any] = []

    def one_more(function: Any, tasks: Any) -> Iterable[Any]:
        for task in tasks:
            key = (function.__name__, getattr(task, "number", None) or task.shard.name)
            yield function(task)
            if key not in done:
                done.append(key)
                raise Interrupted

    for _ in range(6):
        with pytest.raises(Interrupted):
            build(tmp_path / "kb", tmp_path / "shards", partition_rows=20, map=one_more)
    with pytest.raises(reperio.NotACollection, match=r"no shards\.json"):
        ShardSet(tmp_path / "shards")
    with pytest.raises(CollectionExists, match="unfinished build with other shards"):
        build(tmp_path / "kb", tmp_path / "shards", partition_rows=20, shards=4)
    with pytest.raises(CollectionExists, match="unfinished build with other partitions"):
        build(tmp_path / "kb", tmp_path / "shards", partition_rows=30)
    build(tmp_path / "kb", tmp_path / "shards", partition_rows=20, map=one_more)
    assert len(done) == 6
    assert content(tmp_path / "shards") == content(tmp_path / "whole")
    with pytest.raises(CollectionExists, match="already"):
        build(tmp_path / "kb", tmp_path / "shards", partition_rows=20)


@pytest.mark.parametrize("plan", ["", "[]", "{}", '{"identity": 5}', '{"identity": "../x"}', "no json"])
def test_a_plan_that_cannot_be_read_is_damage(tmp_path: Path, plan: str) -> None:
    """Nothing of it gets into shards.json; what to do is said, since there are no shards yet."""
    source, root = tmp_path / "all.jsonl", tmp_path / "shards"
    source.write_text(_lines(_chunks(10), _vectors(10)))
    (root / "building").mkdir(parents=True)
    (root / "building" / "plan.json").write_text(plan)
    with pytest.raises(reperio.CollectionDamaged, match=r"plan\.json cannot be read.*remove"):
        build(source, root)
    assert not (root / "shards.json").exists()


def test_a_build_that_was_killed_at_its_very_end_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its shards are there; run again it refuses, and says nothing of removing what was written to them since."""
    source, root = tmp_path / "all.jsonl", tmp_path / "shards"
    source.write_text(_lines(_chunks(60), _vectors(60)))

    def broken_off(root: Path, manifest: ShardManifest) -> None:
        write_manifest(root, manifest)
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr("reperio.sharding.building.build.write_manifest", broken_off)
        with pytest.raises(Interrupted):
            build(source, root)
    assert (root / "building" / "plan.json").exists()
    with reperio.ShardWriter(root) as shards:
        shards.add([Chunk("written since", "text")], vectors=[[1.0] * DIMENSION])
    with pytest.raises(CollectionExists, match="has shards already"):
        build(source, root)
    diagnose_shards(root, mend=True)
    assert not (root / "building").exists()
    assert any(one[0] == "written since" for some in content(root).values() for one in some)


def test_tasks_need_nothing_but_themselves(tmp_path: Path) -> None:
    """Run by a plain process pool, in processes that know nothing of each other, they make the same, with an index."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION) as kb:
        kb.add(_chunks(300), vectors=_vectors(300))
    build(tmp_path / "kb", tmp_path / "one")
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        report = build(tmp_path / "kb", tmp_path / "other", partition_rows=40, recall=0.9, map=pool.map)
    assert report.chunks == 300
    assert content(tmp_path / "one") == content(tmp_path / "other")


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (['{"id": "a", "text": "x"}', '{"id": "a", "text": "y"}'], InvalidChunk, "the same id 'a'"),
        (['{"text": "x"}'], InvalidInput, "byte 0 has the id None"),
        (['{"id": "a", "text": "x"}', '{"id": true}'], InvalidInput, "byte 25 has the id True"),
        (['{"id": "a", "text": "x"', ""], InvalidInput, "is no JSON"),
        (["[1]"], InvalidInput, "is no JSON object"),
        (['{"id": "a", "text": "x", "metadata": {}, "b": 1}'], InvalidInput, "and besides"),
        (['{"id": "a", "text": "x", "metadata": 1}'], InvalidInput, "which is a int"),
        (['{"id": "a", "vector": [1, 2.5]}', '{"id": "b", "text": "x"}'], InvalidInput, "'b' has no vector"),
        (['{"id": "a", "vector": [1, 2.5]}', '{"id": "b", "vector": [1]}'], InvalidInput, "'b' has 1 numbers"),
        (['{"id": "a", "text": " "}'], InvalidChunk, "has no text to embed"),
    ],
)
def test_lines_that_are_no_chunks_are_refused_by_place(
    tmp_path: Path, lines: list[str], error: type[Exception], message: str
) -> None:
    """Nothing is skipped, renamed or filled in."""
    (tmp_path / "bad.jsonl").write_text("\n".join(lines))
    embedder = None if "vector" in lines[0] else TrigramEmbedder()
    with pytest.raises(error, match=message):
        build(tmp_path / "bad.jsonl", tmp_path / "shards", embedder=embedder)


def test_an_id_in_two_partitions_is_refused(tmp_path: Path) -> None:
    """It is found where its shard is written, and named."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(_lines(_chunks(3), _vectors(3)))
    with pytest.raises(InvalidInput, match="the same id 'chunk-"):
        build([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "shards")


def test_sources_and_places_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """Each with what to name instead, and nothing is made."""
    (tmp_path / "all.jsonl").write_text(_lines(_chunks(3), _vectors(3)))
    build(tmp_path / "all.jsonl", tmp_path / "shards")
    with reperio.open(tmp_path / "kb", dimension=DIMENSION) as kb:
        kb.add(_chunks(3), vectors=_vectors(3))
    reperio_export = tmp_path / "export"
    from reperio.exchange import export_collection

    export_collection(tmp_path / "kb", reperio_export, format="jsonl")
    with pytest.raises(InvalidInput, match="is an export; name the file in it"):
        build(reperio_export, tmp_path / "new")
    with pytest.raises(InvalidInput, match="has shards already"):
        build(tmp_path / "shards", tmp_path / "new")
    with pytest.raises(InvalidInput, match="leave embedder, metric"):
        build(tmp_path / "kb", tmp_path / "new", metric="l2")
    with pytest.raises(CollectionExists, match="already exists"):
        build(tmp_path / "all.jsonl", tmp_path / "kb")
    with pytest.raises(InvalidInput, match="inside the collection"):
        build(tmp_path / "all.jsonl", tmp_path / "kb" / "new")
    with pytest.raises(reperio.UnknownOption, match="recall"):
        build(tmp_path / "all.jsonl", tmp_path / "new", recal=1)
    assert not (tmp_path / "new").exists()
    build(reperio_export / "chunks.jsonl", tmp_path / "new")
    for shard, chunks in content(tmp_path / "new").items():
        first = content(tmp_path / "shards")[shard]
        assert [one[:3] for one in chunks] == [one[:3] for one in first]
        np.testing.assert_allclose([one[3] for one in chunks], [one[3] for one in first], atol=1e-6)


def test_vectors_of_a_source_are_alike_to_its_end(tmp_path: Path) -> None:
    """Also beyond the lines that are read at once: no vector that was brought is stored as the embedder's."""
    path = tmp_path / "rows.jsonl"

    def write(*vectors: Any) -> Path:
        rows = [{"id": f"c{at}", "text": f"text {at}", "vector": vector} for at, vector in enumerate(vectors)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    with pytest.raises(InvalidInput, match=r"chunk 'c2000' has no vector, and the first one has"):
        build(write(*[[1, 2]] * 2000, None), tmp_path / "shards")
    ready = [1.0] * TrigramEmbedder().dimension
    with pytest.raises(InvalidInput, match=r"chunk 'c2000' has a vector, and the first one has none"):
        build(write(*[None] * 2000, ready), tmp_path / "others", embedder=TrigramEmbedder())
    with pytest.raises(InvalidInput, match=r"vector of chunk 'c1' has 0 numbers, and that of 'c0' 2"):
        build(write([1, 2], []), tmp_path / "more")


@pytest.mark.parametrize("vector", [5, "ab", [[1.0], [2.0]], ["1", "2"], [1.0, None], {"a": 1}])
def test_a_vector_that_is_none_is_refused_by_its_place(tmp_path: Path, vector: Any) -> None:
    """Whatever JSON has in the place of a vector, the error says where."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in ({"id": "a", "vector": [1, 2]}, {"id": "b", "vector": vector}))
    )
    with pytest.raises(InvalidInput, match=r"rows\.jsonl, byte [1-9].*a vector is a list of numbers"):
        build(path, tmp_path / "shards")


@pytest.mark.parametrize("options", [{"recall": 7}, {"ingestion": 5}, {"workers": 2}, {"map": 5}])
def test_options_are_checked_before_anything_is_made(tmp_path: Path, options: dict[str, Any]) -> None:
    """A build that cannot end is not begun: its plan would be in the way of the right one."""
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "vector": [1, 2]}\n')
    with pytest.raises(InvalidInput):
        build(tmp_path / "rows.jsonl", tmp_path / "shards", **options)
    assert not (tmp_path / "shards").exists()


def begun(tmp_path: Path) -> Path:
    """Return an unfinished build of 60 chunks, whose parts are there and whose shards are not."""
    (tmp_path / "all.jsonl").write_text(_lines(_chunks(60), _vectors(60)))

    def spread_only(function: Any, tasks: Any) -> Any:
        if function.__name__ == "fill":
            raise Interrupted
        return map(function, tasks)

    with pytest.raises(Interrupted):
        build(tmp_path / "all.jsonl", tmp_path / "shards", map=spread_only)
    return tmp_path / "shards"


def _respell(field: str, value: Any) -> Any:
    def spoil(part: Path) -> None:
        content = json.loads((part / "part.json").read_text())
        (part / "part.json").write_text(json.dumps({**content, field: value}))

    return spoil


def _forge(lines: bytes, vector: float = 1.0) -> Any:
    """Put other lines and vectors in the place of those of all shards, with their checksums."""

    def spoil(part: Path) -> None:
        content = json.loads((part / "part.json").read_text())
        piece = content["shards"]["shard-000001"]
        own, text = piece[0], lines * piece[0]
        raw = np.full((own, DIMENSION), vector, np.float32).tobytes()
        chunks, vectors = (part / "chunks.jsonl").read_bytes(), (part / "vectors.bin").read_bytes()
        (part / "chunks.jsonl").write_bytes(text + chunks[piece[1] :])
        (part / "vectors.bin").write_bytes(raw + vectors[len(raw) :])
        content["shards"]["shard-000001"] = [own, len(text), zlib.crc32(text), zlib.crc32(raw)]
        (part / "part.json").write_text(json.dumps(content))

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        lambda part: (part / "part.json").unlink(),  # half a copy
        lambda part: (part / "chunks.jsonl").unlink(),
        lambda part: (part / "vectors.bin").write_bytes(b"short"),
        lambda part: (part / "part.json").write_text("[" * 5000),
        _respell("chunks", "x"),
        _respell("chunks", -1),
        _respell("embedded", 1e300),
        _respell("number", 2),
        _respell("skipped", [1]),
        _respell("failed", [{"place": 1, "reason": "x"}]),
        _respell("shards", {"shard-000001": 5}),
        _respell("shards", {"shard-000001": ["a", "b", "c", "d"]}),
        _respell("shards", {"../../x": [0, -500, 0, 0], "shard-000001": [60, 1, 0, 0]}),
        _respell("shards", {"shard-000001": [60, 1 << 61, 0, 0]}),  # nothing is set aside for it
        _forge(b"no json\n"),
        _forge(b"5\n"),
        _forge(b'["a","b",{},5]\n'),
        _forge(b"[1,2,3]\n"),
        _forge(b'["chunk-0",' + b"[" * 2000 + b"\n"),
        _forge(b'["chunk-0","in another shard, or twice",{}]\n'),
        _forge(b'["x","y",{}]\n', np.nan),
    ],
)
def test_a_part_that_cannot_be_read_is_damage(tmp_path: Path, spoil: Any) -> None:
    """Of a stranger, or half a copy: what to remove is said, and the same build goes on then."""
    root = begun(tmp_path)
    part = root / "building" / "part-000001"
    spoil(part)
    with pytest.raises((CollectionDamaged, InvalidChunk)) as caught:
        build(tmp_path / "all.jsonl", root)
    if caught.type is CollectionDamaged:
        assert f"remove {part}, and run the same build again" in str(caught.value)
    shutil.rmtree(part)
    assert build(tmp_path / "all.jsonl", root).chunks == 60


@pytest.mark.parametrize("what", ["building/part-000001", "shards/shard-000001"])
def test_links_in_an_unfinished_build_are_not_followed(tmp_path: Path, what: str) -> None:
    """Nothing is read or written at their ends: a shard that is there would be opened, and an index built in it."""
    root = begun(tmp_path)
    if (root / what).exists():
        (root / what).rename(tmp_path / "elsewhere")
    else:
        reperio.open(tmp_path / "elsewhere", dimension=DIMENSION).close()
    (root / what).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed, match="is a link"):
        build(tmp_path / "all.jsonl", root)


def test_a_shard_that_the_build_has_not_written_is_refused(tmp_path: Path) -> None:
    """Half a copy, or of other settings: it is not written to, and what to remove is said."""
    root = begun(tmp_path)
    shard = root / "shards" / "shard-000001"
    reperio.open(shard, dimension=3).close()
    with pytest.raises(CollectionDamaged, match="remove it, and run the same build again"):
        build(tmp_path / "all.jsonl", root)
    (shard / "CURRENT").unlink()
    with pytest.raises(CollectionDamaged, match="remove it, and run the same build again"):
        build(tmp_path / "all.jsonl", root)
    shutil.rmtree(shard)
    assert build(tmp_path / "all.jsonl", root).chunks == 60


@pytest.mark.parametrize("kept", ["building/house.txt", "building/plan.json"])
def test_a_folder_of_others_called_building_is_left(tmp_path: Path, kept: str) -> None:
    """A build removes what it has kept in a folder of that name: it must be its own."""
    root = tmp_path / "project"
    (root / "building").mkdir(parents=True)
    (root / kept).write_text("of others")
    (root / "notes.txt").write_text("of others")
    (tmp_path / "all.jsonl").write_text(_lines(_chunks(10), _vectors(10)))
    with pytest.raises(CollectionExists, match="already exists"):
        build(tmp_path / "all.jsonl", root)
    assert {str(path.relative_to(root)) for path in root.rglob("*")} == {"building", kept, "notes.txt"}


def test_a_plan_that_is_much_longer_is_not_read(tmp_path: Path) -> None:
    """It is another one; read, it would take as much memory as somebody likes."""
    root = begun(tmp_path)
    (root / "building" / "plan.json").write_text('{"identity": "x", "more": [' + "0," * (1 << 20) + "0]}")
    with pytest.raises(CollectionExists, match="unfinished build with other partitions"):
        build(tmp_path / "all.jsonl", root)


def test_a_map_that_brings_one_result_twice_is_refused(tmp_path: Path) -> None:
    """As many results as tasks are not the results of all tasks."""
    (tmp_path / "all.jsonl").write_text(_lines(_chunks(60), _vectors(60)))

    def first_again(function: Any, tasks: Any) -> Any:
        return [function(tasks[0]) for _ in tasks]

    with pytest.raises(InvalidInput, match="two results for the task shard-000001"):
        build(tmp_path / "all.jsonl", tmp_path / "shards", map=first_again)
    build(tmp_path / "all.jsonl", tmp_path / "shards")
    with pytest.raises(InvalidInput, match="two results for the task shard-000001"):
        backup_shards(tmp_path / "shards", tmp_path / "backup", map=first_again)
    assert not (tmp_path / "backup").exists()
    with pytest.raises(InvalidInput, match="two results"):
        check_shards(tmp_path / "shards", map=first_again)

    def each_twice(function: Any, tasks: Any) -> Any:
        return [(function(task), function(task))[0] for task in reversed(tasks)]

    build(tmp_path / "all.jsonl", tmp_path / "twice", map=each_twice)
    backup_shards(tmp_path / "twice", tmp_path / "backup", map=each_twice)
    assert restore_shards(tmp_path / "backup", tmp_path / "restored", map=each_twice).count == 60
