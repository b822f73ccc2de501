"""Which index for which collection."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import Metric, index
from recollect.index.recipe import EXACT_ROWS, SINGLE_LIST_ROWS, TAIL_ROWS, nlist_for


@pytest.mark.parametrize("rows", [0, 1, EXACT_ROWS])
def test_small_collections_get_no_index(rows: int) -> None:
    """Up to the threshold search is exact."""
    assert index.choose(rows, 384).exact


@pytest.mark.parametrize(
    ("rows", "dimension", "factory"),
    [
        (EXACT_ROWS + 1, 384, "IVF1,PQ192x4fs"),
        (SINGLE_LIST_ROWS, 384, "IVF128,PQ192x4fs"),
        (100_000, 384, "IVF256,PQ192x4fs"),
        (1_000_000, 1024, "IVF1024,PQ512x4fs"),
        (100_000, 385, "Pad386,IVF256,PQ193x4fs"),
        (100_000, 3, ""),
        (100_000, 8, "IVF256,SQ8"),
        (100_000, 65, "IVF256,PQ65x4fs"),
        (300_000_000, 64, "IVF16384_HNSW32,PQ64x4fs"),
    ],
)
def test_larger_ones_get_codes_in_lists(rows: int, dimension: int, factory: str) -> None:
    """The factory string follows size and dimension; odd dimensions are padded."""
    assert index.choose(rows, dimension).factory == factory


def test_every_recipe_says_why() -> None:
    """A recipe carries one line for people."""
    for rows in (10, 10_000, 10_000_000):
        assert len(index.choose(rows, 384).reason) > 20


def test_predicted_bytes_are_near_the_real_ones() -> None:
    """The size foretold is within a fifth of the index that is built."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((30_000, 32), dtype=np.float32)
    recipe = index.choose(len(matrix), 32)
    built = index.build(recipe, matrix, Metric.L2, workers=2)
    import faiss

    assert recipe.bytes_per_vector == pytest.approx(len(faiss.serialize_index(built)) / len(matrix), rel=0.2)


def test_lists_grow_with_the_root_of_the_rows() -> None:
    """The number of lists is the power of two nearest to √rows."""
    assert [nlist_for(n) for n in (0, 1, 4, 1000, 100_000, 10_000_000)] == [1, 1, 2, 32, 256, 4096]


def test_training_again_is_due_when_the_number_of_lists_doubles() -> None:
    """An index is trained again when the collection would get more lists, not before."""
    assert not index.training_is_due(15_000, 5_000)
    assert index.training_is_due(SINGLE_LIST_ROWS, 5_000)
    assert not index.training_is_due(120_000, 100_000)
    assert index.training_is_due(400_000, 100_000)


def test_extension_is_due_when_the_tail_costs_more_than_the_index() -> None:
    """A tail as long as what is searched exactly anyway is put into the index."""
    assert not index.extension_is_due(EXACT_ROWS, 0)
    assert index.extension_is_due(EXACT_ROWS + 1, 0)
    assert not index.extension_is_due(100_000 + TAIL_ROWS, 100_000)
    assert index.extension_is_due(100_000 + TAIL_ROWS + 1, 100_000)
