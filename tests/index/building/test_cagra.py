"""CAGRA graphs as a processor has them: what they find, files, masks, growth, refusals. Links are a processor's."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from reperio import DeviceUnavailable, IndexBuildFailed, Metric, index
from reperio.index import Recipe, Saving, Target, searcher_of
from reperio.index.building import cagra
from reperio.index.building.gpu import ground_links
from reperio.index.library.files import FileUnusable, hash_file, read_file, share_file, write_file
from reperio.index.library.loading import innermost, metric_type, type_names
from tests.brute_force import scores
from tests.index.building.builds import clustered

N, D, DEGREE = 6000, 64, 32
FACTORIES = ["CAGRA32,SQ8", "CAGRA32,Flat", "CAGRA32,SQ8,Refine(PQ16x4)", "PCA48,CAGRA32,SQ8,Refine(PQ16x4)"]
TYPES = {
    "CAGRA32,SQ8": ["IndexHNSWCagra"],
    "CAGRA32,SQ8,Refine(PQ16x4)": ["IndexRefine", "IndexHNSWCagra"],
    "PCA48,CAGRA32,SQ8,Refine(PQ16x4)": ["IndexRefine", "IndexPreTransform", "IndexHNSWCagra"],
}


def data(rows: int, queries: int, metric: Metric = Metric.COSINE) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, and queries like them that are held out."""
    both = clustered(rows + queries, D, metric)
    return both[:rows], both[rows:]


def links(vectors: np.ndarray, degree: int, metric: Metric) -> np.ndarray:
    """Return the links of a graph that this processor builds: those of the ground level of an HNSW."""
    graph = faiss.IndexHNSWFlat(vectors.shape[1], degree // 2, metric_type(metric))
    graph.add(vectors)
    return ground_links(graph)


def built(matrix: np.ndarray, metric: Metric = Metric.COSINE, factory: str = FACTORIES[0], **options: object) -> object:
    recipe = Recipe(factory, "a test", training_rows=4096)
    return cagra.build(recipe, matrix, metric, links=links, workers=2, **options)


def found_share(made: object, matrix: np.ndarray, queries: np.ndarray, metric: Metric, effort: int = 64) -> float:
    """Return knn recall@10 of 30 candidates."""
    searcher = searcher_of(made)
    shares = []
    for query in queries:
        best = set(np.argsort(-scores(matrix, query, metric), kind="stable")[:10].tolist())
        shares.append(len(best & set(searcher.search_one(query, 30, searcher.params(effort, 30)).tolist())) / 10)
    return float(np.mean(shares))


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("factory", FACTORIES)
def test_finds(factory: str, metric: Metric) -> None:
    """A graph of given links finds the nearest rows under every metric, whatever its rows are kept as."""
    matrix, queries = data(N, 60, metric)
    made = built(matrix, metric, factory)
    assert made.ntotal == N
    assert type_names(made) == TYPES.get(factory, ["IndexHNSWCagra"])
    assert found_share(made, matrix, queries, metric) > 0.9


@pytest.mark.parametrize("factory", FACTORIES)
def test_file(tmp_path: Path, factory: str) -> None:
    """A graph that was written, read, and mapped finds the same."""
    matrix, queries = data(N, 20)
    made = built(matrix, factory=factory)
    written = write_file(made, tmp_path / "x.faiss")
    expected = searcher_of(made).search(queries, 20, searcher_of(made).params(40, 20))
    for read in (read_file, share_file):
        searcher = searcher_of(read(tmp_path / "x.faiss", written))
        assert (searcher.search(queries, 20, searcher.params(40, 20)) == expected).all()
        assert searcher.is_graph


def test_strange_file(tmp_path: Path) -> None:
    """A graph whose file asks for no entry point, or for more than there could be, or hides its rows, is not read."""
    made = built(clustered(N, D))
    path = tmp_path / "x.faiss"
    for points in (0, -1, 1 << 30):
        innermost(made).num_base_level_search_entrypoints = points
        write_file(made, path)
        with pytest.raises(FileUnusable, match="which is not read here"):
            read_file(path, hash_file(path))
    codes = faiss.IndexLSH(D, 64, True)
    codes.train(clustered(N, D))
    strange = faiss.IndexHNSW(codes, 16)
    faiss.write_index(strange, str(path))
    with pytest.raises(FileUnusable, match=r"which is not read here|cannot read it"):
        read_file(path, hash_file(path))


def test_damaged_files(tmp_path: Path) -> None:
    """A file that was damaged before it was hashed is refused, or searched; the process lives."""
    path, (matrix, queries) = tmp_path / "x.faiss", data(1500, 5)
    write_file(built(matrix), path)
    whole = path.read_bytes()
    random, refused = np.random.default_rng(0), 0
    for number in range(60):
        damaged = bytearray(whole)
        place = int(random.integers(0, 300 if number % 2 else len(whole) - 8))
        damaged[place : place + 4] = random.choice([-1, 0, 1 << 20, -(1 << 31)]).astype(np.int32).tobytes()
        path.write_bytes(damaged if number % 5 else damaged[:place])
        try:
            read = read_file(path, hash_file(path))
        except FileUnusable:
            refused += 1
            continue
        if (read.d, read.ntotal) == (D, 1500):  # else it is not what was recorded
            searcher_of(read).search(queries, 10, searcher_of(read).params(30, 10))
    assert refused > 10


@pytest.mark.parametrize("share", [1.0, 0.3, 0.03, 0.003])
def test_masks(share: float) -> None:
    """Under a mask exactly min(k, matches) rows are found, all allowed, in order, and nearly all of the nearest."""
    matrix, queries = data(N, 240)
    made = built(matrix, factory="CAGRA32,SQ8,Refine(PQ16x4)")
    asked = index.Questions(queries[40:], True, "a test")
    tuned = index.measure(Target(matrix, Metric.COSINE, N, None, searcher_of(made)), asked, thorough=False)
    searcher = searcher_of(made, tuned.points, tuned.gather)
    allowed = np.random.default_rng(3).random(N) < share
    target = Target(matrix, Metric.COSINE, int(allowed.sum()), np.packbits(allowed, bitorder="little"), searcher)
    shares = []
    for query in queries[:40]:
        rows, _ = index.search_one(target, query, 10, 0.95)
        assert len(rows) == min(10, allowed.sum())
        assert allowed[np.asarray(rows)].all()
        exact = np.where(allowed, scores(matrix, query, Metric.COSINE), -np.inf)
        shares.append(len(set(np.argsort(-exact)[: len(rows)].tolist()) & set(map(int, rows))) / len(rows))
    assert np.mean(shares) > 0.9


@pytest.mark.parametrize("factory", FACTORIES)
def test_grows(tmp_path: Path, factory: str) -> None:
    """FAISS adds no row to a ground level alone; `extend` gives it levels, and old and new rows are found."""
    matrix, queries = data(2 * N, 60)
    made = built(matrix[:N], factory=factory)
    with pytest.raises(RuntimeError, match="base_level_only"):
        made.add(matrix[N : N + 1])
    for rows in (N + 2000, 2 * N):
        made = index.extend(made, matrix[:rows], Metric.COSINE, factory, workers=2)
        assert made.ntotal == rows
        made = read_file(tmp_path / "x.faiss", write_file(made, tmp_path / "x.faiss"))
        assert found_share(made, matrix[:rows], queries, Metric.COSINE) > 0.85
    assert cagra.extendable(made, matrix, workers=1) is made


def test_resumed(tmp_path: Path) -> None:
    """A graph that is finished and not put away is taken as it is; where rows have come since, it grows."""
    matrix = clustered(N + 500, D)
    saving = Saving(finished=True)
    first = built(matrix[:N], scratch=tmp_path / "building", saving=saving)

    def never(*_: object) -> np.ndarray:
        raise AssertionError("built again")

    recipe = Recipe(FACTORIES[0], "a test", training_rows=4096)
    options = {"links": never, "workers": 2, "scratch": tmp_path / "building", "saving": saving}
    again = cagra.build(recipe, matrix[:N], Metric.COSINE, **options)
    assert bytes(faiss.serialize_index(again)) == bytes(faiss.serialize_index(first))
    grown = cagra.build(recipe, matrix, Metric.COSINE, **options)
    assert grown.ntotal == N + 500


@pytest.mark.parametrize(
    ("factory", "rows", "told"),
    [
        ("CAGRA32,SQ8", 1000, "needs at least 1,024 rows"),
        ("CAGRA17,SQ8", N, "an even number"),
        ("CAGRA1024,SQ8", N, "an even number"),
        ("CAGRA32,PQ16x4", N, "over SQ8, SQfp16 or Flat"),
        ("CAGRA32,", N, "FAISS knows no index"),
    ],
)
def test_refused(factory: str, rows: int, told: str) -> None:
    """What is no CAGRA graph, or cannot become one, is refused with the reason."""
    with pytest.raises(IndexBuildFailed, match=told):
        built(clustered(rows, D), factory=factory)


def test_without_a_card() -> None:
    """A graph that a card builds is refused where none is in use, and the way out is named."""
    with pytest.raises(DeviceUnavailable, match='index="hnsw"'):
        index.build(index.requested("cagra"), clustered(N, D), Metric.COSINE, workers=1)


def test_names() -> None:
    """A recipe for a card and one for the processor have the same number of links."""
    assert index.on_processor("PCA224,CAGRA48,SQ8,Refine(PQ96x4)") == "PCA224,HNSW24,SQ8,Refine(PQ96x4)"
    assert index.on_processor("IVF4096_HNSW32,PQ192x4fs") == "IVF4096_HNSW32,PQ192x4fs"
    ranked = index.advise(1_000_000, 1024, Metric.COSINE, index.Goal(), cagra=True)
    assert ranked[0].factory == "CAGRA64,SQ8,Refine(PQ256x4)"
    assert index.choose(1_000_000, 1024).factory == "HNSW32,SQ8,Refine(PQ256x4)"
    for recipe in ranked:
        assert "HNSW" not in recipe.factory or recipe.factory.startswith(("IVF", "Pad", "PCAR"))
