"""What needs a graphics card: run by ``make gpu``, skipped with the reason elsewhere. Nothing here is a stand-in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

import reperio
from reperio import Chunk, Metric, index
from reperio.index.building import training
from reperio.index.building.gpu import Card, find_card
from reperio.index.library.files import read_file, write_file
from reperio.index.library.loading import innermost
from reperio.index.recipes.goal import Recipe
from tests.index.building.builds import bytes_of, clustered
from tests.index.building.test_cagra import found_share

ROWS, D = 30_000, 64
FOR_CARDS = hasattr(faiss, "StandardGpuResources")
CARD = FOR_CARDS and faiss.get_num_gpus() > 0
WHY = "no graphics card" if FOR_CARDS else "this FAISS is not for graphics cards: pip install 'reperio[gpu-cuvs]'"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not CARD, reason=WHY)]
with_cuvs = pytest.mark.skipif(
    not hasattr(faiss, "GpuIndexCagra"), reason="this FAISS has no cuVS: pip install 'reperio[gpu-cuvs]'"
)


def data(rows: int, queries: int, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    both = clustered(rows + queries, D, metric)
    return both[:rows], both[rows:]


@pytest.fixture(scope="module")
def card() -> Card:
    found = find_card("gpu")
    assert found is not None
    return found


def collection(path: Path, matrix: np.ndarray, metric: str = "cosine") -> reperio.Collection:
    kb = reperio.open(path, dimension=D, metric=metric, auto_optimize=False)
    kb.add([Chunk(str(row), "", {"tenth": row % 10}) for row in range(len(matrix))], vectors=matrix)
    return kb


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("factory", ["IVF64,PQ32x4fs", "PCAR32,IVF64,PQ16x4fs", "IVF64,Flat", "IVF64,SQ8"])
def test_lists(card: Card, factory: str, metric: Metric) -> None:
    """Lists that a card has trained and filled hold every row, near what the processor's hold, and find as much."""
    matrix, queries = data(ROWS, 60, metric)
    recipe = Recipe(factory, "a test", training_rows=8192)
    shares = []
    for flat in (None, card.flat):
        made = training.build(recipe, matrix, metric, workers=2, flat=flat)
        inner = innermost(made)
        assert made.ntotal == ROWS
        assert sum(inner.invlists.list_size(number) for number in range(inner.nlist)) == ROWS
        shares.append(found_share(made, matrix, queries, metric, effort=16))
    assert shares[1] > shares[0] - 0.03


@with_cuvs
@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("factory", ["CAGRA32,SQ8", "CAGRA64,Flat", "PCA48,CAGRA32,SQ8,Refine(PQ16x4)"])
def test_graphs(card: Card, tmp_path: Path, factory: str, metric: Metric) -> None:
    """A graph that a card has built is read by a processor, finds the nearest rows, and grows there."""
    matrix, queries = data(ROWS + 2000, 60, metric)
    recipe = Recipe(factory, "a test", training_rows=8192)
    made = index.build(recipe, matrix[:ROWS], metric, workers=2, card=card)
    read = read_file(tmp_path / "x.faiss", write_file(made, tmp_path / "x.faiss"))
    assert bytes_of(read) == bytes_of(made)
    assert found_share(read, matrix[:ROWS], queries, metric) > 0.9
    grown = index.extend(read, matrix, metric, factory, workers=2)
    assert found_share(grown, matrix, queries, metric) > 0.9


@with_cuvs
@pytest.mark.parametrize("rows", [1024, 1025, 5000, 120_000])
def test_sizes(card: Card, rows: int) -> None:
    """The smallest graph that is allowed comes back, and one beyond 100,000 rows finds as much as a small one."""
    matrix, queries = data(rows, 40, Metric.COSINE)
    made = index.build(Recipe("CAGRA32,SQ8", "a test"), matrix, Metric.COSINE, workers=2, card=card)
    assert found_share(made, matrix, queries, Metric.COSINE, effort=128) > 0.85


@pytest.mark.parametrize("device", ["gpu", "auto"])
@pytest.mark.parametrize("prefer", ["latency", "memory"])
def test_optimize(tmp_path: Path, device: str, prefer: str) -> None:
    """`optimize` on a card reaches the recall that it says, and the index opens where there is no card to be seen."""
    matrix, queries = data(ROWS, 400, Metric.COSINE)
    with collection(tmp_path / "kb", matrix) as kb:
        info = kb.optimize(device=device, prefer=prefer, queries=queries[:300])
        assert max(point.recall for point in info.points) > 0.95
        if device == "gpu" and prefer == "latency" and hasattr(faiss, "GpuIndexCagra"):
            assert "CAGRA" in info.factory
        expected = [hit.chunk.id for hit in kb.search(vector=queries[300], recall=0.95)]
    script = (
        "import json, sys, numpy as np, reperio\n"
        "with reperio.open(sys.argv[1], read_only=True) as kb:\n"
        "    query = np.array(json.loads(sys.argv[2]), dtype=np.float32)\n"
        "    print(json.dumps([hit.chunk.id for hit in kb.search(vector=query, recall=0.95)]))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "kb", str(queries[300].tolist())],
        env={"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(expected).replace("'", '"')


def test_background_uses_no_card(tmp_path: Path) -> None:
    """A build that nobody asked for is the processor's: its process may fork afterwards."""
    matrix, _ = data(ROWS, 10, Metric.COSINE)
    with reperio.open(tmp_path / "kb", dimension=D) as kb:
        kb.add([Chunk(str(row), "") for row in range(ROWS)], vectors=matrix)
    with reperio.open(tmp_path / "kb") as kb:
        assert "CAGRA" not in kb.info().index.factory
