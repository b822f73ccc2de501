"""Graphs of SymphonyQG: what they find, how they grow, what is refused, and going on after a kill."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from reperio import Metric, index
from reperio.index import Questions, Recipe, Searcher, Target, searcher_of
from reperio.index.building.graphs import joined
from reperio.index.library.symphony import Graph, Graphs
from tests.brute_force import scores
from tests.index.building.builds import ROOT
from tests.index.tuning.test_measuring import data as narrow
from tests.index.tuning.test_measuring import settled

pytest.importorskip("rabitqlib", reason="rabitqlib has no build for this Python")

N, D = 12_000, 64
FACTORY = "SymphonyQG32,RaBitQ8"
METRICS = list(Metric)


def data(metric: Metric, rows: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and queries of few directions, turned into as many dimensions as a graph takes."""
    made = narrow(metric, rows, queries)
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((D, made[0].shape[1])))[0].T.astype(np.float32)
    return made[0] @ basis, made[1] @ basis


def graph_over(matrix: np.ndarray, metric: Metric = Metric.COSINE, factory: str = FACTORY) -> Graphs:
    built = index.build(index.requested(factory), matrix, metric, workers=2)
    assert isinstance(built, Graphs)
    return built


def recall_of(searcher: Searcher, matrix: np.ndarray, queries: np.ndarray, metric: Metric, recall: float) -> float:
    target = Target(matrix, metric, len(matrix), None, searcher)
    shares = []
    for query in queries:
        rows, found = index.search_one(target, query, 10, recall)
        assert len(set(rows)) == 10
        assert found == sorted(found, reverse=True)
        # Vectors of two bytes are not quite of length one, and are not scaled again.
        truth = scores(matrix, query, "l2" if metric is Metric.L2 else "inner_product")
        shares.append(np.mean(np.array(found) >= np.partition(truth, -10)[-10] - 1e-5))
    return float(np.mean(shares))


@pytest.mark.parametrize(
    ("metric", "dtype"),
    [
        (Metric.COSINE, np.float32),
        (Metric.INNER_PRODUCT, np.float16),
        (Metric.L2, np.float32),
        pytest.param(Metric.COSINE, np.float16, marks=pytest.mark.campaign),
        pytest.param(Metric.INNER_PRODUCT, np.float32, marks=pytest.mark.campaign),
        pytest.param(Metric.L2, np.float16, marks=pytest.mark.campaign),
    ],
)
def test_a_graph_reaches_the_recall_it_was_measured_to_have(metric: Metric, dtype: type) -> None:
    """On questions that it was not measured with, under every metric, for vectors of either width."""
    matrix, queries = data(metric, N, 400)
    matrix = matrix.astype(dtype)
    built = graph_over(matrix, metric)
    target = Target(matrix, metric, N, None, searcher_of(built))
    points = [point for point in settled(target, queries[:200], (10, 100)) if point.effort or not point.candidates]
    searcher = searcher_of(built, points, gather=1.0)
    for recall in (0.9, 0.99):
        assert Target(matrix, metric, N, None, searcher).told(recall, 10)[0] == "index"
        assert recall_of(searcher, matrix, queries[200:], metric, recall) >= recall - 0.01


def test_rows_that_came_later_get_graphs_of_their_own() -> None:
    """Ever shorter ones, joined as they grow: each is at least four times as long as the next."""
    matrix, queries = data(Metric.COSINE, N, 200)
    grown = graph_over(matrix[:6000])
    first = grown.graphs[0]
    lengths = []
    for rows in (7100, 8200, 9300, N):
        grown = index.extend(grown, matrix[:rows], Metric.COSINE, FACTORY, workers=2)
        runs = [(graph.first, graph.rows) for graph in grown.graphs]
        lengths.append([length for _, length in runs])
        assert [start for start, _ in runs] == np.cumsum([0, *lengths[-1]])[:-1].tolist()
        assert grown.ntotal == sum(lengths[-1]) == rows
    assert lengths == [[6000, 1100], [8200], [8200, 1100], [N]]
    assert first not in grown.graphs
    half = index.extend(graph_over(matrix[:9600]), matrix, Metric.COSINE, FACTORY, workers=2)
    assert [graph.rows for graph in half.graphs] == [9600, 2400]
    target = Target(matrix, Metric.COSINE, N, None, searcher_of(half))
    searcher = searcher_of(half, settled(target, queries[:100]), gather=1.0)
    assert recall_of(searcher, matrix, queries[100:], Metric.COSINE, 0.95) >= 0.94
    many = searcher.search(queries, 20, 64)
    assert many.tolist() == [searcher.search_one(query, 20, 64).tolist() for query in queries]
    assert (many >= 9600).any()


@pytest.mark.parametrize(
    ("runs", "rows", "kept", "first"),
    [
        ([], 5000, 0, 0),
        ([5000], 5000, 1, 5000),
        ([50_000], 54_000, 1, 50_000),
        ([50_000, 4000], 58_000, 1, 50_000),
        ([50_000, 12_000], 65_000, 2, 62_000),
        ([50_000, 12_000, 3000], 66_100, 0, 0),
        ([16_000, 4000], 21_000, 0, 0),
        ([100_000, 12_000], 115_000, 2, 112_000),
        ([100_000, 12_000], 116_000, 1, 100_000),
        ([16_000, 4000], 20_010, 0, 0),
        ([2000], 2001, 0, 0),
    ],
)
def test_graphs_are_joined_as_long_as_one_is_not_much_longer_than_what_follows(
    runs: list[int], rows: int, kept: int, first: int
) -> None:
    """By the lengths alone; a run shorter than a thousand rows never stands alone."""
    graphs = []
    for length in runs:
        graph = Graph.__new__(Graph)
        graph.first, graph.rows = sum(each.rows for each in graphs), length
        graphs.append(graph)
    assert joined(graphs, rows) == (graphs[:kept], first)


def test_a_mask_is_kept_wherever_it_lies() -> None:
    """By the graph and by the codes next to it, at every share, also where the mask follows the vectors."""
    matrix, queries = data(Metric.COSINE, N, 200)
    built = graph_over(matrix)
    whole = Target(matrix, Metric.COSINE, N, None, searcher_of(built))
    points = settled(whole, queries[:100])
    searcher = searcher_of(built, points, gather=1e6)
    along = matrix @ np.linalg.svd(matrix[:2000], full_matrices=False)[2][0]
    rng = np.random.default_rng(4)
    masks = {f"random {share}": rng.random(N) < share for share in (0.97, 0.8, 0.3, 0.05, 0.01)}
    masks |= {f"one end {share}": along >= np.quantile(along, 1 - share) for share in (0.5, 0.1, 0.02)}
    for name, mask in masks.items():
        target = Target(matrix, Metric.COSINE, int(mask.sum()), np.packbits(mask, bitorder="little"), searcher)
        shares = []
        for query in queries[100:]:
            rows, _ = index.search_one(target, query, 10, 0.95)
            assert mask[rows].all()
            assert len(set(rows)) == 10
            truth = scores(matrix, query, "cosine")
            least = np.partition(truth[mask], -10)[-10] - 1e-5
            shares.append(np.mean(truth[rows] >= least))
        assert np.mean(shares) >= 0.94, name


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        *product(METRICS, ["thousands of equal rows", "zeros", "one long row", "far from the origin"]),
        # A search that finds no way out of a heap of equal rows takes long.
        *(pytest.param(metric, "all equal", marks=pytest.mark.campaign) for metric in METRICS),
    ],
)
def test_odd_rows_are_found(kind: str, metric: Metric) -> None:
    """Equal rows by the thousand, no direction at all, lengths that differ by orders: exactly k, the recall kept."""
    # Many of them: of such rows a question finds all or nothing, and a mean of fifty is off by 0.03.
    matrix, queries = data(metric, 5000, 600)
    if kind == "thousands of equal rows":
        matrix[:] = matrix[np.arange(5000) // 1000]
    elif kind == "all equal":
        matrix[:] = matrix[0]
    elif kind == "zeros":
        matrix[2500:] = 0 if metric is not Metric.COSINE else matrix[0]
    elif kind == "one long row":
        matrix[17] *= 100
    else:
        matrix += 50
        queries = queries + np.float32(50)
        if metric is Metric.COSINE:
            matrix, queries = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (matrix, queries))
    built = graph_over(matrix, metric)
    target = Target(matrix, metric, 5000, None, searcher_of(built))
    searcher = searcher_of(built, settled(target, queries[:300]), gather=1e6)
    # What the graph does not reach here is searched by the codes, or exactly: that is what measuring is for.
    assert recall_of(searcher, matrix, queries[300:], metric, 0.95) >= 0.93


@pytest.mark.parametrize("dimension", [65, 100, 1000])
def test_dimensions_that_are_no_multiple_of_its_block_are_taken(dimension: int) -> None:
    """They are padded, and the bytes are those that were predicted."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((1500, dimension), dtype=np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    built = graph_over(matrix)
    found = searcher_of(built).search_one(matrix[7], 10, 400)
    assert found[0] == 7
    recipe = index.advise(1500, dimension, Metric.COSINE, index.Goal(), symphony=True)
    predicted = next(each.bytes_per_vector for each in recipe if each.factory == FACTORY)
    assert predicted is not None


def test_a_graph_of_four_bits_is_there_on_request() -> None:
    """Half the code of each row, and more candidates."""
    matrix, queries = data(Metric.COSINE, 4000, 50)
    built = graph_over(matrix, factory="SymphonyQG64,RaBitQ4")
    native = built.graphs[0].native
    assert (native.max_degree, native.quantization_bits) == (64, 4)
    assert searcher_of(built).search_one(queries[0], 20, 200).shape == (20,)


LIFE = """
import sys, numpy as np
from pathlib import Path
from reperio import Metric, index
from reperio.index.building import graphs
matrix = np.load(sys.argv[1])
def told(stage, done, of):
    print(stage, done, flush=True)
built = index.build(index.requested("symphonyqg"), matrix, Metric.COSINE, workers=2, scratch=Path(sys.argv[2]),
                    saving=index.Saving(finished=True), progress=told)
print("built", flush=True)
sys.stdin.read()
"""


@pytest.mark.crash
@pytest.mark.parametrize("moment", ["train", "graph 0", "graph 6000"])
def test_a_killed_build_goes_on_by_stages(moment: str, tmp_path: Path) -> None:
    """Codes that were trained are not trained again; a graph that was finished is not built again."""
    matrix, _ = data(Metric.COSINE, 6000, 1)
    np.save(tmp_path / "m.npy", matrix)
    command = [sys.executable, "-c", textwrap.dedent(LIFE), str(tmp_path / "m.npy"), str(tmp_path / "scratch")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith(moment):
                break
        if moment == "graph 6000":
            assert first.stdout.readline() == "built\n"  # saved as well
        else:
            time.sleep(0.05)
        first.kill()
    told = subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, timeout=120, check=True).stdout
    assert ("graph 0" in told) == (moment != "graph 6000")
    assert moment == "train" or "train" not in told
    assert told.endswith("built\n")


def test_a_graph_over_other_rows_is_not_taken_for_an_interrupted_build(tmp_path: Path) -> None:
    """The scratch directory may hold the graph of rows that have changed since."""
    matrix, _ = data(Metric.COSINE, 3000, 1)
    stages: list[tuple[str, int]] = []
    kept = index.Saving(finished=True)
    for rows in (matrix, matrix[::-1].copy()):
        stages.clear()
        built = index.build(
            index.requested(FACTORY), rows, Metric.COSINE, workers=2, scratch=tmp_path, saving=kept,
            progress=lambda stage, done, _: stages.append((stage, done)),
        )  # fmt: skip
        assert ("graph", 0) in stages
        assert searcher_of(built).search_one(rows[5], 1, 50)[0] == 5


def test_measuring_gives_points_of_graph_and_codes() -> None:
    """Both are timed: the codes are kept for masks even where the graph is quicker."""
    matrix, queries = data(Metric.COSINE, N, 100)
    target = Target(matrix, Metric.COSINE, N, None, searcher_of(graph_over(matrix)))
    tuned = index.measure(target, Questions(queries, "given", True), thorough=False)
    kinds = {(point.effort > 0, point.candidates > 0) for point in tuned.points}
    assert kinds == {(True, True), (False, True), (False, False)}


def test_a_recipe_is_offered_where_the_library_is_and_memory_allows() -> None:
    """First for latency, within what a laptop can bear unless a limit says otherwise."""
    offered = {
        rows: [recipe.factory for recipe in index.advise(rows, 384, Metric.COSINE, index.Goal(), symphony=True)]
        for rows in (100_000, 1_000_000, 10_000_000)
    }
    assert offered[100_000][0] == offered[1_000_000][0] == FACTORY
    assert offered[10_000_000][0] != FACTORY
    assert FACTORY in offered[10_000_000]
    large = index.Goal(memory=64 << 30)
    assert index.advise(10_000_000, 384, Metric.COSINE, large, symphony=True)[0].factory == FACTORY
    small = index.Goal(memory=100 << 20)
    assert FACTORY not in [each.factory for each in index.advise(100_000, 384, Metric.COSINE, small, symphony=True)]
    assert FACTORY not in [each.factory for each in index.advise(100_000, 384, Metric.COSINE, index.Goal())]


def test_recipes_name_the_graph_by_family() -> None:
    """As "hnsw" does for HNSW."""
    recipe: Recipe = index.requested(" SymphonyQG ")
    assert (recipe.factory, recipe.requested) == (FACTORY, True)


ENDING = """
import signal, os, sys, threading, numpy as np
from reperio import Metric, index
matrix = np.load(sys.argv[1])
def told(stage, done, of):
    if stage == "graph" and done == 0:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    index.build(index.requested("symphonyqg"), matrix, Metric.COSINE, workers=2, progress=told)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.crash
def test_python_ends_well_after_a_build_that_was_interrupted(tmp_path: Path) -> None:
    """Ctrl-C is obeyed at once, and the thread that still builds does not abort the process that ends."""
    matrix, _ = data(Metric.COSINE, 6000, 1)
    np.save(tmp_path / "m.npy", matrix)
    for _ in range(3):
        command = [sys.executable, "-c", ENDING, str(tmp_path / "m.npy")]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr
