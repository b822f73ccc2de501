"""FAISS serves what is proposed: everything is built, finds what it holds, and takes what was foretold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reperio import Metric, index
from reperio.errors import InvalidInput
from reperio.index.recipes.families import SINGLE_LIST_ROWS
from reperio.index.recipes.goal import PREFERENCES, Goal, Recipe
from reperio.index.recipes.ranking import advise
from tests.pairs import in_turn

DIGITS = str.maketrans("", "", "0123456789")


def correlated(rows: int, dimension: int, *, intrinsic: int = 24, seed: int = 0) -> Any:
    """Return unit vectors whose variance falls off as that of embeddings does."""
    rng = np.random.default_rng(seed)
    spread = (1 + np.arange(dimension) / intrinsic) ** -1.0
    matrix = (rng.standard_normal((rows, dimension)) * spread).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def proposals(rows: int, dimension: int, metric: Metric) -> dict[str, Recipe]:
    """Everything that is proposed for so many vectors, whatever the goal, by factory string."""
    goals = [Goal(recall, prefer) for recall in (0.95, 0.99) for prefer in PREFERENCES]
    goals.append(Goal(0.95, "memory", 40 * rows + 4 * dimension * dimension))
    found = {}
    for goal in goals:
        try:
            found |= {recipe.factory: recipe for recipe in advise(rows, dimension, metric, goal) if not recipe.exact}
        except InvalidInput:  # the memory of the last goal is too little for some dimensions
            continue
    return found


DIMENSIONS = [4, 5, 15, 16, 31, 33, 127, 128, 255, 257]


@pytest.mark.parametrize(("dimension", "metric"), in_turn(DIMENSIONS, list(Metric)))
def test_everything_proposed_is_built_and_finds_what_it_holds(dimension: int, metric: Metric) -> None:
    """Each factory string proposed at 1,100, 12,000 and 25,000 rows is built on 1,100 rows; all candidates answer.

    The lists are fewer than proposed for so many rows, for there must be rows to train them with.
    """
    matrix = correlated(1_100, dimension)
    if metric is not Metric.COSINE:
        matrix *= np.random.default_rng(2).uniform(0.8, 1.2, (len(matrix), 1)).astype(np.float32)
    queries = correlated(20, dimension, seed=1)
    inner = queries @ matrix.T
    distances = (matrix**2).sum(axis=1) - 2 * inner if metric is Metric.L2 else -inner
    truth = distances.argsort(axis=1)[:, :5]
    built = {}
    for rows in (1_100, 12_000, 25_000):
        built |= proposals(rows, dimension, metric)
    assert len(built) >= 8
    for recipe in built.values():
        small = scaled_down(recipe)
        made = index.build(small, matrix, metric, workers=2)
        assert made.ntotal == len(matrix), small.factory
        found = all_candidates(made, queries, 400)
        recall = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(truth.tolist(), found.tolist(), strict=True)])
        assert recall >= 0.9, small.factory


@pytest.mark.parametrize("dimension", [pytest.param(1000, marks=pytest.mark.campaign), 2049, 4096])
def test_wide_vectors_are_served(dimension: int) -> None:
    """Each family, at the widest dimensions; one metric and one reduction of a kind, for the sake of the time."""
    matrix = correlated(300, dimension)
    proposed = proposals(25_000, dimension, Metric.COSINE)
    recipes = {factory.replace("SQ8", "8 bits").translate(DIGITS): recipe for factory, recipe in proposed.items()}
    assert len(recipes) >= 8
    for recipe in recipes.values():
        made = index.build(scaled_down(recipe), matrix, Metric.COSINE, workers=2)
        found = all_candidates(made, matrix[:5], 100)
        assert all(row in found[row] for row in range(5)), recipe.factory


def test_lists_searched_by_a_graph_are_served() -> None:
    """What is proposed for ten million rows is a string that FAISS takes, too."""
    matrix = correlated(3_000, 128)
    for metric in Metric:
        for recipe in proposals(10_000_000, 128, metric).values():
            if "_HNSW32" in recipe.factory:
                small = scaled_down(recipe, lists=64)
                assert "IVF64_HNSW32" in small.factory
                made = index.build(small, matrix, metric, workers=2)
                found = all_candidates(made, matrix[:20], 100)
                assert np.mean([row in found[row] for row in range(20)]) >= 0.9, small.factory


@pytest.mark.parametrize(
    ("dimension", "metric"),
    [
        *((8, Metric.COSINE), (33, Metric.L2)),
        pytest.param(128, Metric.INNER_PRODUCT, marks=pytest.mark.campaign),
        pytest.param(384, Metric.COSINE, marks=pytest.mark.campaign),
    ],
)
def test_predicted_bytes_are_near_the_real_ones(dimension: int, metric: Metric, tmp_path: Path) -> None:
    """The size foretold is within 15% of the file, for every family, at 20,000 rows."""
    import faiss

    rows = SINGLE_LIST_ROWS
    matrix = correlated(rows, dimension)
    recipes = proposals(rows, dimension, metric)
    assert len(recipes) >= 8
    for recipe in recipes.values():
        quick = Recipe(recipe.factory, recipe.reason, min(recipe.training_rows, 4_096), construction=16)
        made = index.build(quick, matrix, metric, workers=2)
        path = tmp_path / "index.faiss"
        faiss.write_index(made, str(path))
        assert recipe.bytes_per_vector == pytest.approx(path.stat().st_size / rows, rel=0.15), recipe.factory


def scaled_down(recipe: Recipe, lists: int = 8) -> Recipe:
    """Return the same kind of index with fewer lists."""
    parts = recipe.factory.split(",")
    parts = [
        f"IVF{lists}" + ("_HNSW32" if "_HNSW" in part else "") if part.startswith("IVF") and part != "IVF1" else part
        for part in parts
    ]
    return Recipe(",".join(parts), recipe.reason, recipe.training_rows, construction=recipe.construction and 40)


def all_candidates(made: Any, queries: Any, count: int) -> Any:
    """Search with an effort that leaves nothing out but what the codes lose."""
    import faiss

    if type(made) is faiss.IndexRefine:  # a graph and, for searches under masks, codes
        made = faiss.downcast_index(made.base_index)
    inner = faiss.downcast_index(made.index) if isinstance(made, faiss.IndexPreTransform) else made
    if hasattr(inner, "nprobe"):
        inner.nprobe = inner.nlist
    if hasattr(inner, "hnsw"):
        inner.hnsw.efSearch = count
    return made.search(queries, count)[1]
