"""Collections that keep their vectors as float16: everything as with float32, at half the bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import reperio
from reperio import Chunk, CollectionDamaged, InvalidInput, InvalidVectors, Metric
from reperio.layout import FORMAT_VERSION, Dtype
from reperio.vectors import to_float32, to_matrix, to_stored
from tests.brute_force import assert_top_k, scores
from tests.conftest import TrigramEmbedder
from tests.data import REALQ, require_data

D = 24


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)


def chunks(count: int) -> list[Chunk]:
    return [Chunk(str(i), f"text number {i}", {"i": i}) for i in range(count)]


def kept(values: np.ndarray, metric: str) -> np.ndarray:
    """Return what float16 keeps of vectors, as float32."""
    return to_matrix(values, dimension=D, metric=Metric(metric), what="vectors").astype(np.float16).astype(np.float32)


def of_generation(path: Path, number: int = 1) -> Path:
    return path / f"gen-{number:06d}"


def test_half_the_bytes_lie_on_disk(path: Path) -> None:
    """The file is vectors.f16, two bytes per component: the rounded vectors, row by row; the settings say so."""
    values = vectors(50)
    with reperio.open(path, dimension=D, metric="l2", dtype="float16") as kb:
        assert kb.add(chunks(50), vectors=values).added == 50
        assert kb.check().ok
    names = {entry.name for entry in of_generation(path).iterdir()}
    assert "vectors.f16" in names
    assert "vectors.f32" not in names
    assert (of_generation(path) / "vectors.f16").read_bytes() == values.astype("<f2").tobytes()
    assert orjson.loads((of_generation(path) / "collection.json").read_bytes())["dtype"] == "float16"


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_scores_are_those_of_the_rounded_vectors(path: Path, metric: str) -> None:
    """Ids, texts, order and scores equal brute force over what is kept; with chunks deleted and replaced as well."""
    values, queries = vectors(400), vectors(10, seed=1)
    with reperio.open(path, dimension=D, metric=metric, dtype="float16") as kb:
        kb.add(chunks(400), vectors=values)
        kb.delete(ids=[str(i) for i in range(0, 400, 3)])
        values[1] = 0.5
        kb.add([Chunk("1", "replaced")], vectors=values[1:2])
        alive = [i for i in range(400) if i % 3]
        for query in queries:
            asked = to_matrix(query[None], dimension=D, metric=Metric(metric), what="v")[0]
            truth = scores(kept(values[alive], metric), asked, "l2" if metric == "l2" else "inner_product")
            for hits in (kb.search(vector=query, k=20), kb.search_many(vectors=np.tile(query, (9, 1)), k=20)[4]):
                found = [(alive.index(int(hit.chunk.id)), hit.score) for hit in hits]
                assert_top_k(found, truth, 20)
                assert all(hit.chunk.text in ("replaced", f"text number {hit.chunk.id}") for hit in hits)


def test_another_process_reads_what_was_kept(path: Path) -> None:
    """A reader in a fresh process needs no dtype= to find the same chunks with the same scores, beside the writer."""
    with reperio.open(path, dimension=D, dtype="float16") as kb:
        kb.add(chunks(300), vectors=vectors(300))
        mine = [[(hit.chunk.id, hit.score) for hit in hits] for hits in kb.search_many(vectors=vectors(5, seed=2))]
        program = (
            "import sys, json, numpy as np, reperio\n"
            "queries = np.array(json.load(sys.stdin), dtype=np.float32)\n"
            f"with reperio.open({str(path)!r}, read_only=True) as kb:\n"
            "    assert kb.check().ok\n"
            "    found = kb.search_many(vectors=queries)\n"
            "    print(json.dumps([[(hit.chunk.id, hit.score) for hit in hits] for hits in found]))\n"
        )
        asked = orjson.dumps(vectors(5, seed=2).tolist())
        done = subprocess.run(
            [sys.executable, "-c", program], input=asked, capture_output=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr.decode()
    assert [[tuple(hit) for hit in hits] for hits in orjson.loads(done.stdout)] == mine


def test_a_reader_sees_each_commit(path: Path) -> None:
    """A reader that is open follows the writer, float16 or not."""
    with reperio.open(path, dimension=D, dtype="float16") as kb, reperio.open(path, read_only=True) as reader:
        for i, vector in enumerate(vectors(20)):
            kb.add([Chunk(str(i))], vectors=vector[None])
            assert reader.search(vector=vector, k=1)[0].chunk.id == str(i)


def test_the_dtype_is_fixed(path: Path) -> None:
    """It may be repeated or left out; another one is refused with the one recorded, in both directions."""
    reperio.open(path, dimension=D, dtype="float16").close()
    other = path.with_name("other")
    reperio.open(other, dimension=D).close()
    reperio.open(path, dtype="float16").close()
    reperio.open(other, dtype="float32").close()
    with pytest.raises(InvalidInput, match=r"kb has dtype float16, fixed when it was created; leave dtype out"):
        reperio.open(path, dtype="float32")
    with pytest.raises(InvalidInput, match=r"other has dtype float32, fixed when it was created"):
        reperio.open(other, dtype="float16", read_only=True)
    reperio.open(path).close()


@pytest.mark.parametrize("dtype", ["float64", "f16", "", np.float16, 16])
def test_an_unknown_dtype_is_refused(path: Path, dtype: Any) -> None:
    """The choices are named, and nothing is created."""
    with pytest.raises(InvalidInput, match=r"dtype is .*; choose 'float32', 'float16'"):
        reperio.open(path, dimension=D, dtype=dtype)
    assert not path.exists()


def test_settings_without_a_dtype_mean_float32(path: Path) -> None:
    """A collection whose settings name none opens as float32, with its chunks; one that names nonsense is damaged."""
    with reperio.open(path, dimension=D) as kb:
        kb.add(chunks(5), vectors=vectors(5))
    settings = of_generation(path) / "collection.json"
    recorded = orjson.loads(settings.read_bytes())
    assert recorded["format_version"] == FORMAT_VERSION
    assert recorded.pop("dtype") == "float32"
    settings.write_bytes(orjson.dumps(recorded))
    with reperio.open(path, dtype="float32") as kb:
        assert kb.search(vector=vectors(5)[3], k=1)[0].chunk.id == "3"
        assert kb.check().ok
    settings.write_bytes(orjson.dumps(recorded | {"dtype": "float8"}))
    with pytest.raises(CollectionDamaged, match=r"collection\.json cannot be read \(dtype is 'float8'\)"):
        reperio.open(path)


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
@pytest.mark.parametrize("large", [65504.01, -65520.0, 1e9])
def test_what_float16_cannot_hold_is_refused(path: Path, metric: str, large: float) -> None:
    """A component beyond its range is refused with its row; the batch is not stored, the one before is."""
    values = vectors(10)
    values[8, 3] = large
    with reperio.open(path, dimension=D, metric=metric, dtype="float16") as kb:
        with pytest.raises(InvalidVectors, match=r"vectors: row 8 holds a component of size .*65504") as caught:
            kb.add(chunks(10), vectors=values, batch_size=5)
        assert "the 5 chunks of the batches before are stored" in str(caught.value)
        assert kb.count() == 5
        assert (of_generation(path) / "vectors.f16").stat().st_size == 5 * D * 2
        assert kb.get("8") is None
        values[8, 3] = np.copysign(65504, large)
        assert kb.add(chunks(10), vectors=values).added == 5
        assert kb.check().ok
        assert kb.search(vector=values[8], k=1)[0].chunk.id == "8"


def test_cosine_takes_vectors_of_any_length(path: Path) -> None:
    """Normalised first, vectors of length 1e6 fit."""
    with reperio.open(path, dimension=D, dtype="float16") as kb:
        kb.add(chunks(10), vectors=vectors(10) * 1e6)
        assert kb.search(vector=vectors(10)[4], k=1)[0].score == pytest.approx(1.0, abs=1e-3)


def test_an_embedder_beyond_the_range_is_named(path: Path) -> None:
    """Vectors from an embedder that float16 cannot hold are refused with its name, and nothing is stored."""
    embedder = TrigramEmbedder(scale=50_000.0)
    with reperio.open(path, embedder=embedder, metric="inner_product", dtype="float16") as kb:
        with pytest.raises(InvalidVectors, match="vectors from trigrams: row 1 holds"):
            kb.add([Chunk("a", "ab"), Chunk("b", "aaaaaaaa")])
        assert kb.count() == 0
        assert (of_generation(path) / "vectors.f16").stat().st_size == 0


def test_what_rounds_to_the_same_is_unchanged(path: Path) -> None:
    """The same float32 vectors, and others that round alike, cost nothing; one that rounds otherwise is an update."""
    values = vectors(6)
    with reperio.open(path, dimension=D, metric="l2", dtype="float16") as kb:
        kb.add(chunks(6), vectors=values)
        assert kb.add(chunks(6), vectors=values).unchanged == 6
        assert kb.add(chunks(6), vectors=values.astype(np.float16)).unchanged == 6
        values[2] *= 1.01
        result = kb.add(chunks(6), vectors=values)
        assert (result.updated, result.unchanged) == (1, 5)
        assert kb.search(vector=values[2], k=1)[0].score == pytest.approx(0, abs=1e-4)


def test_a_text_that_is_unchanged_keeps_its_vector(path: Path) -> None:
    """With new metadata the stored float16 vector is copied, bit by bit, beside newly embedded ones."""
    embedder = TrigramEmbedder()
    with reperio.open(path, embedder=embedder, dtype="float16") as kb:
        kb.add([Chunk("a", "some text"), Chunk("b", "other text")])
        embedder.embedded.clear()
        result = kb.add([Chunk("a", "some text", {"new": True}), Chunk("c", "third text"), Chunk("b", "other text")])
        assert (result.added, result.updated, result.unchanged, result.embedded) == (1, 1, 1, 1)
        assert embedder.embedded == ["third text"]
        assert kb.check().ok
        stored = np.fromfile(of_generation(path) / "vectors.f16", dtype="<f2").reshape(4, 64)
        assert stored[2].tobytes() == stored[0].tobytes()
        assert kb.search("third text", k=1)[0].chunk.id == "c"


@pytest.mark.parametrize("at", [0, 1, 24 * 2 * 17 + 5, 24 * 2 * 39 + 47])
def test_check_finds_a_flipped_bit(path: Path, at: int) -> None:
    """One bit of one half, the least of its mantissa included, and the chunk it belongs to is named."""
    with reperio.open(path, dimension=D, dtype="float16") as kb:
        kb.add(chunks(40), vectors=vectors(40))
    file = of_generation(path) / "vectors.f16"
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with reperio.open(path, read_only=True) as kb:
        problems = kb.check().problems
    name = f"chunk '{at // (2 * D)}' (row {at // (2 * D)})"
    assert [problem for problem in problems if problem.what.startswith(name)]


def test_check_names_the_file_whose_norms_are_wrong(path: Path) -> None:
    """A row of Infs, which is never stored, is told as a wrong norm of vectors.f16."""
    with reperio.open(path, dimension=D, dtype="float16") as kb:
        kb.add(chunks(4), vectors=vectors(4))
    file = of_generation(path) / "vectors.f16"
    stored = np.fromfile(file, dtype="<f2").reshape(4, D)
    stored[2] = np.inf
    stored.tofile(file)
    with reperio.open(path, read_only=True) as kb:
        assert "vectors.f16: 1 rows are not of norm 1 under cosine; restore from a backup" in map(
            str, kb.check().problems
        )


def test_backup_and_compaction_keep_every_bit(path: Path, tmp_path: Path) -> None:
    """A backup and a compacted collection are float16 again, with the very bytes of the rows that live."""
    with reperio.open(path, dimension=D, dtype="float16") as kb:
        kb.add(chunks(60), vectors=vectors(60))
        kb.delete(ids=[str(i) for i in range(0, 60, 2)])
        before = np.fromfile(of_generation(path) / "vectors.f16", dtype="<f2").reshape(60, D)
        kb.backup(tmp_path / "copy")
        assert kb.compact() == 30
        assert (of_generation(path, 2) / "vectors.f16").read_bytes() == before[1::2].tobytes()
        assert kb.check().ok
        assert kb.search(vector=vectors(60)[31], k=1)[0].chunk.id == "31"
    with reperio.open(tmp_path / "copy", dtype="float16") as copy:
        assert (of_generation(tmp_path / "copy") / "vectors.f16").read_bytes() == before.tobytes()
        assert copy.check().ok
        assert copy.count() == 30
    with reperio.open(path, dtype="float16") as kb:
        assert kb.count() == 30


def test_reembedding_keeps_the_dtype(path: Path) -> None:
    """Another model's vectors are kept as float16, too; what float16 cannot hold leaves the collection as it was."""
    with reperio.open(path, embedder=TrigramEmbedder(), metric="inner_product", dtype="float16") as kb:
        kb.add(chunks(30))
        with pytest.raises(InvalidVectors, match="vectors from huge: row 0 holds"):
            kb.reembed(TrigramEmbedder(48, name="huge", scale=1e6))
        assert kb.info().dimension == 64
        kb.reembed(TrigramEmbedder(48, name="narrow", salt="n"))
        assert (of_generation(path, 2) / "vectors.f16").stat().st_size == 30 * 48 * 2
        assert kb.search("text number 7", k=1)[0].chunk.id == "7"
        assert kb.check().ok


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_an_index_over_float16_rows_gives_exact_scores(path: Path, metric: str) -> None:
    """With an index and a tail: at recall 1 brute force's answer, else its scores."""
    values, queries = vectors(3000), vectors(20, seed=1)
    with reperio.open(path, dimension=D, metric=metric, dtype="float16", auto_optimize=False) as kb:
        kb.add(chunks(2500), vectors=values[:2500])
        kb.optimize(index="IVF16,SQ8", queries=vectors(100, seed=2))
        kb.add([Chunk(str(i), f"text number {i}") for i in range(2500, 3000)], vectors=values[2500:])
        assert kb.info().index is not None
        found = 0
        for query in queries:
            asked = to_matrix(query[None], dimension=D, metric=Metric(metric), what="v")[0]
            truth = scores(kept(values, metric), asked, "l2" if metric == "l2" else "inner_product")
            assert_top_k([(int(h.chunk.id), h.score) for h in kb.search(vector=query, recall=1.0)], truth, 10)
            hits = kb.search(vector=query)
            np.testing.assert_allclose([h.score for h in hits], truth[[int(h.chunk.id) for h in hits]], atol=2e-5 * 50)
            found += len({int(h.chunk.id) for h in hits} & set(np.argsort(-truth)[:10].tolist()))
        assert found / 200 >= 0.9  # at 0.95, one standard error of twenty queries is about 0.02


def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    """Killed at any moment, a float16 collection opens again with every batch that was acknowledged, unharmed."""
    program = (
        "import sys, numpy as np, reperio\n"
        "from reperio import Chunk\n"
        f"kb = reperio.open({str(path)!r}, dimension={D}, dtype='float16', auto_optimize=False)\n"
        "for batch in range(10_000):\n"
        f"    made = np.random.default_rng(batch).standard_normal((7, {D})).astype(np.float32)\n"
        "    kb.add([Chunk(f'{batch}-{i}') for i in range(7)], vectors=made)\n"
        "    print(batch, flush=True)\n"
    )
    for stop in (1, 12, 40):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= stop:
                process.send_signal(signal.SIGKILL)
                break
        last = max([stop, *(int(line) for line in process.stdout.read().split())])
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        with reperio.open(path, auto_optimize=False) as kb:
            assert kb.check().ok
            assert kb.count() >= 7 * (last + 1)
            for batch in (0, last):
                made = np.random.default_rng(batch).standard_normal((7, D))
                assert kb.search(vector=made[6], k=1)[0].chunk.id == f"{batch}-6"


def test_every_half_widens_exactly() -> None:
    """All finite float16 numbers, subnormal ones and −0 included, in any layout of rows, as numpy widens them."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)].reshape(-1, 64)
    for matrix in (finite, finite[::3], finite[:0], finite[5:6]):
        widened = to_float32(matrix)
        assert widened.dtype == np.float32
        np.testing.assert_array_equal(widened.view(np.uint32), matrix.astype(np.float32).view(np.uint32))
    single = np.ones((2, 3), dtype=np.float32)
    assert to_float32(single) is single


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rounding_is_to_the_nearest(dtype: Dtype) -> None:
    """float32 comes back as it is; float16 within half a unit of its eleventh bit, or 3e-8 for the smallest."""
    values = np.concatenate([vectors(50), vectors(50) * 1e-6, vectors(50) * 1e4])
    made = to_stored(values, dtype, what="vectors")
    assert made.dtype == dtype
    if dtype == "float32":
        assert made is values
    error = np.abs(to_float32(made).astype(np.float64) - values)
    assert (error <= np.maximum(2.0**-11 * np.abs(values), 2.0**-25)).all()


def test_cosine_scores_of_real_embeddings_stay_close() -> None:
    """Rounded real embeddings score within 5e-4 of the unrounded ones, and 99 of 100 neighbours stay the same."""
    require_data(REALQ / "base.f16.npy", REALQ / "queries.f16.npy")
    base = np.load(REALQ / "base.f16.npy", mmap_mode="r")[:20_000].astype(np.float32)
    # Rotated, because the file itself is float16: the rotated vectors need rounding as fresh embeddings do.
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((base.shape[1],) * 2))
    rotation = turn.astype(np.float32)
    matrix = to_matrix(base @ rotation, dimension=base.shape[1], metric=Metric.COSINE, what="v")
    asked = np.load(REALQ / "queries.f16.npy")[:200].astype(np.float32) @ rotation
    queries = to_matrix(asked, dimension=base.shape[1], metric=Metric.COSINE, what="v")
    exact, rounded = queries @ matrix.T, queries @ to_float32(to_stored(matrix, "float16", what="v")).T
    assert np.abs(exact - rounded).max() < 5e-4
    before, after = (np.argsort(-each, axis=1)[:, :10] for each in (exact, rounded))
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(before, after, strict=True)]) > 0.99
