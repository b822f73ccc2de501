"""Out of a collection and back: nothing is lost, and nothing damaged comes in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import reperio
from reperio import (
    Chunk,
    Collection,
    CollectionDamaged,
    CollectionExists,
    InvalidChunk,
    InvalidInput,
    InvalidVectors,
)
from reperio.exchange import export_collection, import_collection
from tests.conftest import TrigramEmbedder

FORMATS = ("parquet", "jsonl")
STRANGE: dict[str, Any] = {
    "lang": "de", "n": -(2**53), "big": 2**63 - 1, "share": 0.1, "tiny": 5e-324, "none": None, "yes": True,
    "list": [1, 1.5, "x", [], {}], "deep": {"a.b": {"c": ["\u0000", "\u2028", "😀"]}},
}  # fmt: skip


def filled(path: Path, **options: Any) -> Collection:
    """Make a collection with replaced and deleted chunks, strange texts, records in two spaces and a scope."""
    kb = reperio.open(path, dimension=24, auto_optimize=False, **options)
    rng = np.random.default_rng(7)
    texts = ["", "line\nbreak", "quote \" and 'tick'", "tab\tnul\0end", "光合作用 😀", "plain"] * 200
    vectors = (rng.standard_normal((1200, 24)) * 3).astype(np.float32)
    kb.add([Chunk(f"c{i}/ü", text, {**STRANGE, "i": i}) for i, text in enumerate(texts)], vectors=vectors)
    kb.add([Chunk("c7/ü", "replaced", {"i": 7})], vectors=vectors[:1])
    kb.delete(ids=[f"c{i}/ü" for i in range(0, 1200, 3)])
    kb.records("docs").put(["a", "b"], values=[{"x": [1, None]}, None], groups=["g", None])
    kb.records("urls").put(["ü"], values=["\0"])
    kb.close()
    with reperio.open(path, scope={"lang": "de"}) as scoped:
        scoped.records("docs").put(["a"], values=["mine"])
    return reperio.open(path, auto_optimize=False)


def same(left: Collection, right: Collection) -> None:
    """Compare everything that can be asked for; vectors to the bit."""
    assert list(left) == list(right)
    ids = left.ids()
    assert left.vectors(ids).tobytes() == right.vectors(ids).tobytes()
    for space in ("docs", "urls"):
        assert left.records(space).list() == right.records(space).list()
    before, after = left.info(), right.info()
    for name in ("count", "dimension", "metric", "dtype", "embedder"):
        assert getattr(before, name) == getattr(after, name)
    question = left.vectors(ids[5])[0]
    asked = [kb.search(vector=question, k=50, recall=1.0) for kb in (left, right)]
    assert [hit.chunk for hit in asked[0]] == [hit.chunk for hit in asked[1]]
    assert [hit.score for hit in asked[0]] == pytest.approx([hit.score for hit in asked[1]], rel=1e-5)


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_exported_comes_back(written: Any, metric: str, dtype: Any, tmp_path: Path) -> None:
    """Ids, order, texts, metadata, vectors to the bit, settings, records with their times and scopes; answers too."""
    with filled(tmp_path / "kb", metric=metric, dtype=dtype, lexical="trigram") as kb:
        done = export_collection(kb, tmp_path / "out", format=written)
        made = import_collection(tmp_path / "out", tmp_path / "again")
        assert (done.chunks, done.records) == (made.chunks, made.records) == (kb.count(), 4)
        assert (made.metric.value, made.dtype) == (metric, dtype)
        with reperio.open(tmp_path / "again", lexical="trigram", auto_optimize=False) as again:
            assert again.check().ok
            same(kb, again)
            assert again.records("docs").time() > kb.records("docs").list()[-1].time
    with reperio.open(tmp_path / "again", scope={"lang": "de"}) as scoped:
        assert [record.value for record in scoped.records("docs").list()] == ["mine"]


@pytest.mark.parametrize("written", FORMATS)
def test_the_embedding_contract_comes_along(written: Any, kb: Collection, path: Path, tmp_path: Path) -> None:
    """The imported collection takes the embedder it was made with, and refuses another; texts are not embedded."""
    kb.add([Chunk("a", "sailing ships"), Chunk("b", "printing books")])
    kb.close()
    export_collection(path, tmp_path / "out", format=written)
    assert import_collection(tmp_path / "out", tmp_path / "again").embedder == "trigrams"
    with reperio.open(tmp_path / "again", embedder=TrigramEmbedder()) as again:
        assert again.search("ships", k=1)[0].chunk.id == "a"
    with pytest.raises(reperio.EmbeddingContractError):
        reperio.open(tmp_path / "again", embedder=TrigramEmbedder(salt="other"))


@pytest.mark.parametrize("written", FORMATS)
def test_an_empty_collection_comes_back(written: Any, tmp_path: Path) -> None:
    """No chunks and no records are exported as that."""
    reperio.open(tmp_path / "kb", dimension=3).close()
    assert export_collection(tmp_path / "kb", tmp_path / "out", format=written).chunks == 0
    assert import_collection(tmp_path / "out", tmp_path / "again").chunks == 0
    with reperio.open(tmp_path / "again", read_only=True) as again:
        assert (again.count(), again.info().dimension) == (0, 3)


def test_other_programs_read_it(tmp_path: Path) -> None:
    """Parquet through pyarrow alone, JSON lines through the standard library alone."""
    from pyarrow import parquet

    with filled(tmp_path / "kb", metric="l2") as kb:
        export_collection(kb, tmp_path / "p")
        export_collection(kb, tmp_path / "j", format="jsonl")
        ids = kb.ids()
        table = parquet.read_table(tmp_path / "p" / "chunks.parquet").to_pydict()
        lines = [json.loads(line) for line in (tmp_path / "j" / "chunks.jsonl").read_bytes().splitlines()]
        assert table["id"] == [line["id"] for line in lines] == ids
        assert [json.loads(text) for text in table["metadata"]] == [line["metadata"] for line in lines]
        for vectors in (table["vector"], [line["vector"] for line in lines]):
            assert np.array(vectors, dtype=np.float32).tobytes() == kb.vectors(ids).tobytes()


@pytest.mark.parametrize("written", FORMATS)
def test_a_damaged_file_is_refused(written: Any, tmp_path: Path) -> None:
    """Any file that is not the one exported, or is missing, is named, and nothing is left at the destination."""
    filled(tmp_path / "kb").close()
    export_collection(tmp_path / "kb", tmp_path / "out", format=written)
    for path in sorted((tmp_path / "out").iterdir()):
        content = path.read_bytes()
        for damaged in (content[:-1], content[: len(content) // 2] + b"\x7f" + content[len(content) // 2 + 1 :], None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            if path.name == "manifest.json" and damaged is not None and orjson_equal(damaged, content):
                continue
            with pytest.raises(InvalidInput, match=path.name):
                import_collection(tmp_path / "out", tmp_path / "again")
            assert not (tmp_path / "again").exists()
        path.write_bytes(content)
    assert import_collection(tmp_path / "out", tmp_path / "again").chunks == 800


def orjson_equal(left: bytes, right: bytes) -> bool:
    """Say whether damage changed nothing that is read: the newline at the end."""
    try:
        return bool(orjson.loads(left) == orjson.loads(right))
    except orjson.JSONDecodeError:
        return False


def unsealed(folder: Path) -> Path:
    """Take the checksums out, as one does who changes a file on purpose."""
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    manifest["files"] = {}
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    return folder / "chunks.jsonl"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda line: line | {"id": ""}, InvalidChunk, "an id is a non-empty string"),
        (lambda line: line | {"text": None}, InvalidChunk, "text is a NoneType"),
        (lambda line: line | {"metadata": [1]}, InvalidChunk, "metadata is a list"),
        (lambda line: line | {"vector": [1.0, 2.0]}, InvalidInput, r"chunks.jsonl:2: the vector has shape \(2,\)"),
        (lambda line: line | {"vector": [None] * 3}, InvalidVectors, "row 1 contains NaN"),
        (lambda line: line | {"vector": ["x"] * 3}, InvalidInput, "chunks.jsonl:2: the vector cannot be read"),
        (lambda line: line | {"vector": ["0", "1", "0"]}, InvalidInput, r"cannot be read \(it holds str\)"),
        (lambda line: line | {"vector": [False, True, 0.0]}, InvalidInput, r"cannot be read \(it holds bool\)"),
        (lambda line: line | {"text": "x" * (2**24 + 1)}, InvalidChunk, r"at most 16,777,216.*Limits\(text"),
        (lambda line: line | {"metadata": {"x": "y" * 2**20}}, InvalidChunk, r"Limits\(metadata"),
        (lambda line: line | {"vector": [3.0, 0.0, 4.0]}, InvalidVectors, "row 1 has length 5"),
        (lambda line: line | {"id": "0"}, InvalidInput, "'0'"),
        (lambda line: line | {"score": 1}, InvalidInput, "chunks.jsonl:2: has the fields"),
        (lambda _: [1], InvalidInput, "chunks.jsonl:2 is no JSON object"),
    ],
)
def test_what_was_changed_on_purpose_is_checked(
    change: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    """A changed file is read once its checksum is taken out, and what cannot be stored is refused by its place."""
    with reperio.open(tmp_path / "kb", dimension=3) as kb:
        kb.add([Chunk(str(i), "text") for i in range(3)], vectors=np.eye(3))
    export_collection(tmp_path / "kb", tmp_path / "out", format="jsonl")
    path = unsealed(tmp_path / "out")
    lines = path.read_bytes().splitlines()
    lines[1] = orjson.dumps(change(orjson.loads(lines[1])))
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(error, match=message):
        import_collection(tmp_path / "out", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_changed_text_is_imported(tmp_path: Path) -> None:
    """What can be stored comes in as it was changed."""
    with reperio.open(tmp_path / "kb", dimension=3) as kb:
        kb.add([Chunk("a", "colour")], vectors=[[1.0, 0, 0]])
    export_collection(tmp_path / "kb", tmp_path / "out", format="jsonl")
    path = unsealed(tmp_path / "out")
    path.write_text(path.read_text().replace("colour", "color"))
    import_collection(tmp_path / "out", tmp_path / "again")
    with reperio.open(tmp_path / "again", read_only=True) as again:
        assert again.get("a") == Chunk("a", "color")


def test_a_damaged_chunk_is_not_exported(tmp_path: Path) -> None:
    """A chunk whose checksum fails is named with the cure, and nothing is left at the destination."""
    with reperio.open(tmp_path / "kb", dimension=3, auto_optimize=False) as kb:
        kb.add([Chunk(str(i), "text") for i in range(9)], vectors=np.eye(9, 3) + 0.1)
    (vectors,) = (tmp_path / "kb").glob("gen-*/vectors.f32")
    content = bytearray(vectors.read_bytes())
    content[5 * 12] ^= 1
    vectors.write_bytes(content)
    with pytest.raises(CollectionDamaged, match=r"chunk '5' \(row 5\).*check\(fix=True\)"):
        export_collection(tmp_path / "kb", tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kb"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Neither an export nor an import writes where something is; other formats, scopes and folders are refused."""
    reperio.open(tmp_path / "kb", dimension=3).close()
    export_collection(tmp_path / "kb", tmp_path / "out")
    with pytest.raises(CollectionExists):
        export_collection(tmp_path / "kb", tmp_path / "out")
    with pytest.raises(CollectionExists):
        import_collection(tmp_path / "out", tmp_path / "kb")
    with pytest.raises(InvalidInput, match="'parquet', 'jsonl'"):
        export_collection(tmp_path / "kb", tmp_path / "new", format="csv")
    with reperio.open(tmp_path / "kb", scope={"a": 1}) as scoped, pytest.raises(InvalidInput, match="scope"):
        export_collection(scoped, tmp_path / "new")
    for folder in (tmp_path / "kb", tmp_path / "absent", tmp_path / "out" / "manifest.json"):
        with pytest.raises(InvalidInput, match="reperio export has written"):
            import_collection(folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_export_goes_beside_a_writer(tmp_path: Path) -> None:
    """It is of one commit: what is added meanwhile is not in it."""
    with filled(tmp_path / "kb") as kb:
        before = kb.ids()

        def add(_stage: str, done: int, _total: int | None) -> None:
            kb.add([Chunk(f"late {done}")], vectors=np.ones((1, 24)))

        export_collection(kb, tmp_path / "out", progress=add)
        assert kb.count() > len(before)
    import_collection(tmp_path / "out", tmp_path / "again")
    with reperio.open(tmp_path / "again", read_only=True) as again:
        assert again.ids() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ""}, "a key is empty"),
        ({"key": "k" * 5000}, "a key has 5,000 characters"),
        ({"key": "a\0b"}, "NUL"),
        ({"group": "\0"}, "NUL"),
        ({"space": ""}, "the space is empty"),
        ({"key": "a"}, "key 'a' comes twice"),
    ],
)
def test_records_are_checked_as_a_put_checks_them(change: dict[str, str], message: str, tmp_path: Path) -> None:
    """A record that could not have been stored, or comes twice, is refused, and no collection is made."""
    with reperio.open(tmp_path / "kb", dimension=3) as kb:
        kb.records("docs").put(["a", "b"])
    export_collection(tmp_path / "kb", tmp_path / "out", format="jsonl")
    unsealed(tmp_path / "out")
    path = tmp_path / "out" / "records.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], orjson.dumps(orjson.loads(lines[1]) | change)]))
    with pytest.raises(InvalidInput, match=message):
        import_collection(tmp_path / "out", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("what", ["chunks", "records"])
@pytest.mark.parametrize("written", FORMATS)
def test_the_counts_of_the_manifest_are_compared(written: Any, what: str, tmp_path: Path) -> None:
    """Of files that are as exported there are as many chunks and records as the manifest says."""
    filled(tmp_path / "kb").close()
    export_collection(tmp_path / "kb", tmp_path / "out", format=written)
    manifest = orjson.loads((tmp_path / "out" / "manifest.json").read_bytes())
    manifest[what] += 1
    (tmp_path / "out" / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(InvalidInput, match=f"{what}, and manifest.json says {manifest[what]}"):
        import_collection(tmp_path / "out", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_strange_parquet_is_refused(tmp_path: Path) -> None:
    """Text that is no UTF-8, a column twice, a column that nobody knows: each is told, and no collection is made."""
    import pyarrow
    from pyarrow import parquet

    with reperio.open(tmp_path / "kb", dimension=3) as kb:
        kb.add([Chunk("a", "text")], vectors=np.eye(1, 3))
    export_collection(tmp_path / "kb", tmp_path / "out")
    path = unsealed(tmp_path / "out").with_suffix(".parquet")
    table = parquet.read_table(path)
    raw = pyarrow.array([b"\xff\xfe"], pyarrow.large_binary()).view(pyarrow.large_string())
    twice = pyarrow.Table.from_arrays([*table.columns, table["id"]], names=[*table.column_names, "id"])
    for strange, message in (
        (table.set_column(1, "text", raw), "no UTF-8"),
        (twice, "has the columns"),
        (table.append_column("score", pyarrow.array([1.0])), "has the columns"),
    ):
        parquet.write_table(strange, path)
        with pytest.raises(InvalidInput, match=message):
            import_collection(tmp_path / "out", tmp_path / "again")
        assert not (tmp_path / "again").exists()


def test_limits_are_raised_for_an_import_too(tmp_path: Path) -> None:
    """What a collection with higher limits has exported comes in with those."""
    long = reperio.Limits(text=2**24 + 10)
    with reperio.open(tmp_path / "kb", dimension=3, limits=long, lexical="none") as kb:
        kb.add([Chunk("a", "x" * (2**24 + 1))], vectors=np.eye(1, 3))
    export_collection(tmp_path / "kb", tmp_path / "out")
    with pytest.raises(InvalidChunk, match="Limits"):
        import_collection(tmp_path / "out", tmp_path / "again")
    assert import_collection(tmp_path / "out", tmp_path / "again", limits=long).chunks == 1


def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path) -> None:
    """A directory or a circle of links in the place of the manifest, NUL in a path, and what is no path at all."""
    (tmp_path / "a" / "manifest.json").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").symlink_to("manifest.json")
    for folder in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(reperio.StorageFailed, match=r"manifest\.json"):
            import_collection(folder, tmp_path / "new")
    for path in ("a\0b", None, 5):
        with pytest.raises(InvalidInput, match="path"):
            import_collection(path, tmp_path / "new")
        with pytest.raises(InvalidInput, match="path"):
            export_collection(tmp_path / "b", path)
