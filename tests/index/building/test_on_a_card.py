"""The seams by which a card is used, with an index of the processor in its place: they change no byte."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from reperio import Metric
from reperio.index.building import training
from tests.index.building.builds import AT_EVERY_BLOCK, Stop, bytes_of, clustered, recipe

N, D = 6000, 32
FACTORIES = [
    "IVF16,PQ16x4fs",
    "PCAR16,IVF16,PQ8x4fs",
    "IVF16,Flat",
    "IVF16,SQ8",
    "IVF16,RaBitQfs",
    "IVF32_HNSW8,PQ16x4fs",
]


def flat(dimension: int, metric: int, vectors: np.ndarray | None) -> faiss.Index:
    made = faiss.IndexFlat(dimension, metric)
    if vectors is not None:
        made.add(vectors)
    return made


def build(factory: str, matrix: np.ndarray, metric: Metric, **options: object) -> faiss.Index:
    return training.build(recipe(factory), matrix, metric, workers=1, **options)


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2])
@pytest.mark.parametrize("factory", FACTORIES)
def test_same_bytes(factory: str, metric: Metric) -> None:
    """Lists that another index finds, in training and in filling, are FAISS's own; a graph over them may miss some."""
    matrix = clustered(N, D, metric)
    own, other = build(factory, matrix, metric), build(factory, matrix, metric, flat=flat)
    if "HNSW" not in factory:
        assert bytes_of(other) == bytes_of(own)
    else:
        lists = [training.innermost(each) for each in (own, other)]
        sizes = [[each.invlists.list_size(number) for number in range(each.nlist)] for each in lists]
        assert np.abs(np.subtract(*sizes)).sum() < 0.02 * N


@pytest.mark.parametrize("factory", ["IVF16,PQ16x4fs", "IVF16,SQ8"])
def test_saved_on_the_way(tmp_path: Path, small_blocks: int, factory: str) -> None:
    """What is saved while another index finds the lists is a plain index, and resumes to the same bytes."""
    matrix = clustered(N, D)

    def stop(stage: str, done: int, _: int | None) -> None:
        if stage == "index" and done >= 3 * small_blocks:
            raise Stop

    with pytest.raises(Stop):
        build(factory, matrix, Metric.COSINE, flat=flat, scratch=tmp_path, saving=AT_EVERY_BLOCK, progress=stop)
    resumed = build(factory, matrix, Metric.COSINE, flat=flat, scratch=tmp_path, saving=AT_EVERY_BLOCK)
    assert bytes_of(resumed) == bytes_of(build(factory, matrix, Metric.COSINE))
