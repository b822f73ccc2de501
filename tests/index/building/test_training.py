"""Training and filling: what is built."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
from typing_extensions import Self

from reperio import IndexBuildFailed, Metric
from reperio.index.building import filling, training
from reperio.index.building.judging import distortion, spectrum
from reperio.index.building.training import build, extend
from reperio.vectors import to_matrix
from tests.index.building.builds import DETERMINISTIC_GRAPHS, Reports, bytes_of, clustered, recall, recipe
from tests.pairs import in_turn

FACTORIES = [
    "IVF16,PQ32x4fs", "IVF16_HNSW8,PQ32x4fs", "IVF16,SQ8", "IVF16,Flat", "IVF16,RaBitQfs", "SQ8", "PQ32x4fs",
    "PCA16,IVF16,PQ16x4fs", "PCAR16,SQ8", "PCA16,HNSW8,SQ8", "HNSW8,Flat",
]  # fmt: skip


@pytest.mark.parametrize(("factory", "metric"), in_turn(FACTORIES, list(Metric)))
def test_workers_and_dtype_do_not_change_the_index(factory: str, metric: Metric, small_blocks: int) -> None:
    """The same rows give the same bytes, with one worker or three, read as float32 or as float16."""
    del small_blocks
    halved = clustered(6000, 32, metric).astype(np.float16)
    built = bytes_of(build(recipe(factory), halved.astype(np.float32), metric, workers=1))
    workers = 3 if "HNSW8," not in factory or "IVF" in factory or DETERMINISTIC_GRAPHS else 1
    assert bytes_of(build(recipe(factory), halved, metric, workers=workers)) == built


@pytest.mark.parametrize("factory", ["PCA16,IVF16,PQ16x4fs", "IVF16,SQ8"])
def test_an_index_is_finished_while_python_ends(factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python waits for a build, and lets no pool begin anything meanwhile: the index is the same."""
    halved = clustered(6000, 32).astype(np.float16)
    built = bytes_of(build(recipe(factory), halved, Metric.COSINE, workers=2))
    monkeypatch.setattr(filling, "ThreadPoolExecutor", Shut)
    assert bytes_of(build(recipe(factory), halved, Metric.COSINE, workers=2)) == built


class Shut(ThreadPoolExecutor):
    """A pool as it is after Python has begun to end."""

    def __enter__(self) -> Self:
        self.shutdown()
        return self


@pytest.mark.usefixtures("small_blocks")
def test_lists_are_chosen_with_less_effort_and_searched_with_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows are added the graph of the lists' centres works less; saved and searched it is as FAISS makes it."""
    matrix = clustered(5000, 32)
    made = faiss.index_factory(32, "IVF64_HNSW8,PQ16x4fs", faiss.METRIC_INNER_PRODUCT)
    made.train(matrix)
    graph, own = faiss.downcast_index(made.quantizer).hnsw, faiss.HNSW(8).efSearch
    add, adding, saving = filling._add, list[int](), list[int]()
    monkeypatch.setattr(filling, "_add", lambda *args: (adding.append(graph.efSearch), add(*args)))
    filling.fill(made, matrix, 2, None, lambda _: saving.append(graph.efSearch), "lists")
    assert (made.ntotal, graph.efSearch) == (5000, own)
    assert set(adding) == {filling._EFFORT_OF_LISTS} < {own, filling._EFFORT_OF_LISTS}
    assert saving == 4 * [own]

    usual = faiss.clone_index(made)
    usual.reset()
    usual.add(matrix)
    probed = faiss.SearchParametersIVF(nprobe=8)
    ours, theirs = (
        np.mean([row in found for row, found in enumerate(each.search(matrix[:1000], 5, params=probed)[1].tolist())])
        for each in (made, usual)
    )
    assert ours >= theirs - 0.01


def test_efconstruction_follows_the_recipe() -> None:
    """A recipe that names efConstruction gets it, one that does not gets FAISS's own."""
    matrix = clustered(1500, 16)
    given, own = (build(recipe("PCA8,HNSW8,SQ8", 1500, n), matrix, Metric.COSINE, workers=1) for n in (77, 0))
    assert training.innermost(given).hnsw.efConstruction == 77
    assert training.innermost(own).hnsw.efConstruction == faiss.HNSW(8).efConstruction


@pytest.mark.parametrize("metric", list(Metric))
def test_k_means_is_spherical_unless_distances_are_compared(metric: Metric) -> None:
    """Centroids are normalised under cosine and inner product, means under L2."""
    index = build(recipe("IVF8,Flat"), clustered(2000, 16, metric), metric, workers=1)
    norms = np.linalg.norm(index.quantizer.reconstruct_n(0, 8), axis=1)
    assert bool(np.allclose(norms, 1, atol=1e-4)) == (metric is not Metric.L2)


@pytest.mark.parametrize("prefix", ["PCA", "PCAR"])
def test_a_projection_keeps_the_ranking_by_inner_product(prefix: str) -> None:
    """Projected on all components, inner products are what they were; FAISS's own PCA centres, and ranks otherwise."""
    matrix, queries = (clustered(3000, 24, Metric.INNER_PRODUCT, seed) for seed in (1, 2))
    queries = queries[:50]
    ours = build(recipe(f"{prefix}24,Flat"), matrix, Metric.INNER_PRODUCT, workers=1)
    truth = queries @ matrix.T
    scores, rows = ours.search(queries, 10)
    assert np.allclose(scores, np.take_along_axis(truth, rows, axis=1), rtol=1e-4, atol=1e-4)
    assert recall(ours, matrix, queries) > 0.99
    theirs = faiss.index_factory(24, f"{prefix}24,Flat", faiss.METRIC_INNER_PRODUCT)
    theirs.train(matrix)
    theirs.add(matrix)
    assert recall(theirs, matrix, queries) < 0.95


def test_a_projection_under_l2_is_centred() -> None:
    """Under L2 the mean costs no component: the distances within a plane far from the origin survive two dimensions."""
    rng = np.random.default_rng(3)
    plane = rng.standard_normal((2000, 2)) @ rng.standard_normal((2, 20))
    matrix = (plane + 50 * rng.standard_normal(20)).astype(np.float32)
    index = build(recipe("PCA2,Flat"), matrix, Metric.L2, workers=1)
    distances, rows = index.search(matrix[:100], 2)
    true = np.square(matrix[:100] - matrix[rows[:, 1]]).sum(axis=1)
    assert np.allclose(distances[:, 1], true, rtol=1e-2, atol=1e-2)
    assert np.mean(rows[:, 0] == np.arange(100)) > 0.95


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
def test_a_projection_of_the_longest_vectors_is_right(metric: Metric) -> None:
    """Vectors of length 1e18, whose second moment float32 cannot hold, are projected as those of length 1 are."""
    matrix = clustered(20_000, 24, Metric.COSINE)
    short, long = (
        build(recipe("PCA8,Flat", 20_000), scale * matrix, metric, workers=1) for scale in np.float32([1, 9e17])
    )
    assert np.array_equal(short.search(matrix[:20], 5)[1], long.search(np.float32(9e17) * matrix[:20], 5)[1])


def test_the_users_own_transforms_are_trained_by_faiss() -> None:
    """A PCA behind an OPQ or with whitening is left to FAISS; one behind a padding is not."""
    matrix = clustered(1000, 30)
    for factory in ("OPQ8_32,PCA16,SQ8", "PCAW16,SQ8", "Pad32,PCA16,IVF4,SQ8", "PCA16,IVF4,PQ16x4fs,RFlat"):
        index = build(recipe(factory, 1000), matrix, Metric.COSINE, workers=1)
        assert (index.ntotal, index.is_trained) == (1000, True)
    padded = build(recipe("Pad32,PCA16,Flat"), matrix, Metric.COSINE, workers=1)
    assert not faiss.downcast_VectorTransform(padded.chain.at(1)).have_bias


def test_the_spectrum_foretells_what_a_projection_keeps() -> None:
    """Share of variance by number of components: rises to 1, and is what is left after the projection."""
    matrix = clustered(2000, 128)
    shares = spectrum(matrix, Metric.COSINE)
    assert shares is not None
    assert shares.shape == (128,)
    assert np.all(np.diff(shares) >= 0)
    assert shares[-1] == pytest.approx(1)
    for kept in (4, 20, 100):
        index = build(recipe(f"PCA{kept},Flat", 2000), matrix, Metric.COSINE, workers=1)
        lost = distortion(index, matrix, range(2000))
        assert lost == pytest.approx(1 - shares[kept - 1], rel=0.02, abs=1e-4)


def test_the_spectrum_is_centred_under_l2_only() -> None:
    """The mean of vectors to one side of the origin is most of their inner products, and nothing of their distances."""
    matrix = (10 + np.random.default_rng(4).standard_normal((2000, 128))).astype(np.float32)
    by_product, by_distance = spectrum(matrix, Metric.INNER_PRODUCT), spectrum(matrix.astype(np.float16), Metric.L2)
    assert by_product is not None
    assert by_distance is not None
    assert by_product[0] > 0.98
    assert by_distance[0] < 0.05


@pytest.mark.parametrize(
    ("rows", "dimension"), [(5000, 127), (511, 128), (0, 128), (9000, 2049)], ids=["narrow", "few", "none", "wide"]
)
def test_there_is_no_spectrum_of_too_little_or_too_much(rows: int, dimension: int) -> None:
    """Narrow, very wide and small collections are not analysed, nor is one without any variance."""
    assert spectrum(np.ones((rows, dimension), dtype=np.float32), Metric.COSINE) is None
    assert spectrum(np.zeros((1000, 128), dtype=np.float32), Metric.COSINE) is None
    assert spectrum(np.ones((1000, 128), dtype=np.float32), Metric.L2) is None


def test_the_training_sample_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows a recipe asks for, the sample takes no more than its limit."""
    monkeypatch.setattr(training, "SAMPLE_BYTES", 500 * 16 * 4)
    reports = Reports()
    build(recipe("IVF4,SQ8", 4000), clustered(4000, 16), Metric.COSINE, workers=1, progress=reports)
    assert [report for report in reports.seen if report[0] == "train"] == [("train", 0, 500), ("train", 500, 500)]


def test_what_faiss_cannot_build_is_refused() -> None:
    """An unknown factory, a type that cannot serve, too few rows, too many components: IndexBuildFailed, and why."""
    matrix = clustered(100, 16)
    cases = {
        "IVF,": "knows no index",
        "LSH": "cannot serve here",
        "IVF200,Flat": "over 100 rows of 16 dimensions",
        "PCA32,Flat": "cannot build",
    }
    for factory, words in cases.items():
        with pytest.raises(IndexBuildFailed, match=words):
            build(recipe(factory), matrix, Metric.L2, workers=1)


@pytest.mark.parametrize(
    "factory",
    ["IVF1000000000,Flat", "IVF4_HNSW99999999,Flat", "PQ8x24", "IMI2x16,Flat", "HNSW1000000000", "RR9999999,SQ8"],
)
def test_what_is_too_large_is_refused_before_it_is_made(factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More centroids than rows, or a part of any kind that is out of all proportion: FAISS is not even asked."""

    def asked(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(training, "_empty", asked)
    with pytest.raises(IndexBuildFailed, match="among them; choose another index"):
        build(recipe(factory), clustered(1000, 16), Metric.L2, workers=1)


def test_an_error_of_the_callback_stays_its_own() -> None:
    """What a progress callback raises is no failure of the index."""

    def failing(stage: str, done: int, total: int | None) -> None:
        raise RuntimeError(f"{stage} {done} {total}")

    with pytest.raises(RuntimeError, match="train 0 2000"):
        build(recipe("IVF4,SQ8"), clustered(2000, 16), Metric.COSINE, workers=1, progress=failing)
    with pytest.raises(RuntimeError, match="index 0 2000"):
        build(recipe("HNSW8,Flat"), clustered(2000, 16), Metric.COSINE, workers=1, progress=failing)


def test_a_graph_that_is_built_in_one_go(small_blocks: int) -> None:
    """NSG takes all rows at once, and refuses to be extended with a typed error."""
    matrix = clustered(3 * small_blocks, 16)
    index = build(recipe("NSG16,Flat"), matrix[: 2 * small_blocks], Metric.L2, workers=2)
    assert index.ntotal == 2 * small_blocks
    with pytest.raises(IndexBuildFailed, match="incremental"):
        extend(index, matrix, workers=2)


def test_levels_have_faiss_frequencies() -> None:
    """A row's level depends on its number alone, and is drawn as often as FAISS would."""
    owner = faiss.IndexHNSWFlat(8, 16)
    hnsw = owner.hnsw
    levels = filling._levels(hnsw, 0, 500_000)
    assert np.array_equal(levels[1000:3000], filling._levels(hnsw, 1000, 3000))
    expected = faiss.vector_to_array(hnsw.assign_probas)[:3] * len(levels)
    counted = np.bincount(levels)[1:4]
    assert np.all(np.abs(counted - expected) < 5 * np.sqrt(expected))
    assert levels.min() == 1


@pytest.mark.parametrize("factory", ["HNSW8,Flat", "PCA24,HNSW8,SQ8"])
def test_graphs_with_our_levels_are_as_good_as_faiss_own(factory: str, small_blocks: int) -> None:
    """Recall of a graph filled block by block is that of FAISS's own over all rows at once.

    Of vectors without clusters: between clusters a graph this sparse finds its way by luck, which threads decide.
    """
    points = np.random.default_rng(0).standard_normal((8 * small_blocks + 200, 32))
    made = to_matrix(points, dimension=32, metric=Metric.COSINE, what="vectors")
    matrix, queries = made[:-200], made[-200:]
    ours = build(recipe(factory), matrix, Metric.COSINE, workers=2)
    theirs = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    theirs.train(matrix)
    theirs.add(matrix)
    assert np.array_equal(
        faiss.vector_to_array(training.innermost(ours).hnsw.levels),
        filling._levels(training.innermost(ours).hnsw, 0, len(matrix)),
    )
    assert recall(ours, matrix, queries) >= recall(theirs, matrix, queries) - 0.04


@pytest.mark.parametrize("factory", ["HNSW8,SQ8", "IVF16,PQ32x4fs", "PCA16,IVF16,SQ8", "HNSW8,Flat"])
def test_extended_finds_as_much_as_rebuilt(factory: str, small_blocks: int) -> None:
    """Rows added later are found as well as if they had been there, also after the index has been on disk."""
    matrix, queries = clustered(8 * small_blocks, 32), clustered(200, 32, seed=9)
    half = build(recipe(factory), matrix[: 4 * small_blocks + 77], Metric.COSINE, workers=1)
    half = faiss.deserialize_index(faiss.serialize_index(half))
    reports = Reports()
    extend(half, matrix.astype(np.float16), workers=1, progress=reports)
    assert reports.rows()[:2] == [4 * small_blocks + 77, 5 * small_blocks + 77]
    assert half.ntotal == reports.rows()[-1] == len(matrix)
    whole = build(recipe(factory), matrix, Metric.COSINE, workers=1)
    assert recall(half, matrix, queries, fetched=30) >= recall(whole, matrix, queries, fetched=30) - 0.03
