"""Training an index on a sample, and filling it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from reperio.errors import IndexBuildFailed
from reperio.index.building.filling import faiss_errors, fill, reason_of
from reperio.index.building.gpu import Flat, assigning_on, clustering_on
from reperio.index.building.judging import moments
from reperio.index.building.resuming import Saving, Scratch, discard
from reperio.index.building.sampling import SEED, choose_rows, gather
from reperio.index.library.loading import (
    innermost,
    load_faiss,
    metric_type,
    strange_part,
    threads,
    transforms,
    type_names,
)
from reperio.index.recipes.goal import Recipe
from reperio.printable import logger
from reperio.types import FloatMatrix, Metric, Progress
from reperio.vectors import StoredMatrix

_log = logger("reperio.index")
_DIGITS = 18  # of a number in a factory string: nothing is that large
_FEW_CENTROIDS = 256  # FAISS refuses these by itself, in its own words, where there are fewer rows
_LARGE = 65_536  # the same for what is not a number of centroids: bits, links, dimensions
SAMPLE_BYTES = 1 << 30  # most memory that a training sample takes, as float32
_SHARED_TRAINING_ROWS = 65_536
_UNTOLD_TRAINING_ROWS = 65_536  # for what FAISS would train on all rows: a transform before storage that needs none
_COMPONENT_ROWS = 65_536
_PQ_ITERATIONS, _PQ_POINTS_PER_CENTROID = 12, 128
_MANY_LISTS, _MANY_LISTS_ITERATIONS = 1024, 6


def build(
    recipe: Recipe,
    matrix: StoredMatrix,
    metric: Metric,
    *,
    workers: int,
    progress: Progress | None = None,
    scratch: Path | None = None,
    saving: Saving | None = None,
    flat: Flat | None = None,
) -> Any:
    """Do what `engines.build` says, for an index of FAISS, whose lists *flat* finds: None for FAISS's own.

    Memory: the index, a training sample of at most `SAMPLE_BYTES` (given back before the index is filled), and a block.

    On one machine the same recipe over the same rows gives the same bytes, built in one go or resumed, whatever
    *workers*: levels of a graph are given by row (`set_levels`), FAISS encodes and inserts in parallel without a race
    for the outcome (graphs: since FAISS 1.15; before, only with one worker), and transforms, which are matrix products,
    run on one thread: how those are rounded depends on the number of threads, on some processors more than on others.
    What is left are k-means over more than `_SHARED_TRAINING_ROWS` rows, rows as near to one list as to another, and
    what a card has computed.

    Raises:
        IndexBuildFailed: FAISS knows no such index, or cannot build it on this data.
    """
    started = time.monotonic()
    state = None if scratch is None else Scratch(scratch, recipe, matrix, metric, saving or Saving())
    try:
        index = None if state is None else state.load()
        if index is None:
            _require_possible(recipe.factory, matrix)
            index = _empty(recipe, matrix.shape[1], metric)
            with clustering_on(flat, index):
                _prepare(index, recipe, matrix, metric, workers=workers, progress=progress)
            if state is not None and recipe.training_rows:
                state.save(index)
        save = None if state is None else state.save_if_due
        fill(index, matrix, workers, progress, save, recipe.factory, assigning=assigning_on(flat, index))
    except IndexBuildFailed:
        if scratch is not None:
            discard(scratch)
        raise
    if state is not None:
        state.finish(index)
    _log.info("%s built over %d rows in %.1f s", recipe.factory, len(matrix), time.monotonic() - started)
    return index


def extend(index: Any, matrix: StoredMatrix, *, workers: int, progress: Progress | None = None) -> None:
    """Add the rows of *matrix* that the index does not hold yet. Never on an index that is being searched.

    Raises:
        IndexBuildFailed: FAISS cannot add to this kind of index (NSG).
    """
    fill(index, matrix, workers, progress, None, type_names(index)[-1])


def _require_possible(factory: str, matrix: StoredMatrix) -> None:
    """Refuse what FAISS would set memory aside for before it finds that there are too few rows: some ends a process."""
    lists = [int(number[:_DIGITS]) for number in re.findall(r"IVF(\d+)", factory)]
    bits = [(2, number) for number in re.findall(r"PQ\d+x(\d+)", factory)]
    bits += [(4, number) for number in re.findall(r"IMI\d+x(\d+)", factory)]
    centroids = max([0, *lists, *(base ** min(64, int(number[:_DIGITS])) for base, number in bits)])
    size = max([0, *(int(number[:_DIGITS]) for number in re.findall(r"\d+", factory))])
    if centroids > max(len(matrix), _FEW_CENTROIDS) or size > max(len(matrix), _LARGE):
        raise IndexBuildFailed(
            f"FAISS cannot build {factory!r:.100} over {len(matrix):,} rows of {matrix.shape[1]} dimensions: it would "
            f"look for {max(centroids, size):,} centroids, or parts, among them; choose another index, or none for the "
            "recommended one"
        )


def _empty(recipe: Recipe, dimension: int, metric: Metric) -> Any:
    faiss = load_faiss()
    try:
        index = faiss.index_factory(dimension, recipe.factory, metric_type(metric))
    except MemoryError as error:
        raise IndexBuildFailed(f"{recipe.factory!r} takes more memory than there is; choose a smaller one") from error
    except RuntimeError as error:
        raise IndexBuildFailed(
            f"FAISS knows no index {recipe.factory!r} for dimension {dimension}: {reason_of(error)}; "
            'examples: "IVF256,PQ192x4fs", "HNSW32,SQ8", "exact"'
        ) from error
    strange = strange_part(index)
    if strange is not None:
        raise IndexBuildFailed(f"{recipe.factory!r}: {strange} cannot serve here; leave it out of the string")
    return index


# Training


def _prepare(
    index: Any, recipe: Recipe, matrix: StoredMatrix, metric: Metric, *, workers: int, progress: Progress | None
) -> None:
    """Set what FAISS's factory string cannot say, and train."""
    inner = innermost(index)
    if recipe.construction and hasattr(inner, "hnsw"):
        inner.hnsw.efConstruction = recipe.construction
    if index.is_trained:
        return
    wanted = min(recipe.training_rows or _UNTOLD_TRAINING_ROWS, len(matrix), SAMPLE_BYTES // (4 * matrix.shape[1]))
    if progress is not None:
        progress("train", 0, wanted)
    sample = gather(matrix, choose_rows(range(len(matrix)), wanted))
    _set_effort(inner)
    if type(index).__name__ == "IndexRefine":
        _set_effort(innermost(index.refine_index))
    with threads(1), faiss_errors(recipe.factory, matrix):
        _set_components(index, sample, metric)
        # k-means over few points is thousands of parallel regions too short to share.
        _train(index, sample, workers if wanted > _SHARED_TRAINING_ROWS else 1)
    if progress is not None:
        progress("train", wanted, wanted)


def _set_effort(inner: Any) -> None:
    """Let k-means run as long as it pays."""
    # Under inner product and cosine FAISS's factory makes the coarse quantizer's k-means spherical, as its paper says.
    # Measured on real questions the two differ by 2% in the share of rows to scan for recall 0.95 (256 lists of 100,000
    # rows: 19.7% against 20.1%; 1,024 of a million: 2.85% against 2.88%), so it stays.
    product = getattr(inner, "pq", None)
    coarse = getattr(inner, "cp", None)
    for clustering in (coarse, getattr(product, "cp", None)):
        if clustering is not None:
            # Else FAISS prints a line per sub-quantizer; tuning measures the result.
            clustering.min_points_per_centroid = 1
    if coarse is not None and inner.nlist >= _MANY_LISTS:
        # Of FAISS's 10 iterations the last 4 change nothing up to recall 0.98: 2.93% of a million rows to scan for 0.95
        # against 2.85%, 7.4% for 0.98 either way.
        coarse.niter = min(coarse.niter, _MANY_LISTS_ITERATIONS)
    if product is not None:
        # A quarter of FAISS's own effort: with 2 dimensions and 16 centroids recall is the same to the third digit.
        product.cp.niter, product.cp.max_points_per_centroid = _PQ_ITERATIONS, _PQ_POINTS_PER_CENTROID
        if hasattr(inner, "do_polysemous_training"):
            # FAISS would anneal the order of the centroids for a Hamming filter that nothing here uses: 0.1 s per
            # sub-quantizer, a hundred times the rest of the training.
            inner.do_polysemous_training = False


def _set_components(index: Any, sample: FloatMatrix, metric: Metric) -> None:
    """Give every PCA in front of the index its matrix, so that FAISS trains the rest only."""
    # FAISS subtracts the mean before it projects, which changes inner products by a term that differs from row to row:
    # the ranking by inner product would be another one. Ours projects on the eigenvectors of the second moment, the
    # subspace that keeps most of the inner products themselves; under L2, where shifting all vectors changes no
    # distance, on those of the covariance. Real questions, whose mean is as short as 0.17, do not tell the two apart:
    # behind PCA224,HNSW24,SQ8 the recall of centring was 0.4 points better on average of 5 builds, and cost 2% more.
    faiss = load_faiss()
    for transform in transforms(index):
        reduces = isinstance(transform, faiss.PCAMatrix) and transform.d_out <= transform.d_in
        if reduces and transform.eigen_power == 0:
            _set_matrix(transform, sample, centred=metric is Metric.L2)
        elif not transform.is_trained:
            return  # the user's own OPQ or whitening: FAISS trains it and all that follows
        sample = transform.apply(sample)


def _train(index: Any, sample: FloatMatrix, workers: int) -> None:
    """Train as `index.train` does, except that transforms are trained and applied on one thread."""
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        with threads(1):
            for place in range(index.chain.size()):
                transform = index.chain.at(place)
                if not transform.is_trained:
                    transform.train(sample)
                sample = transform.apply(sample)
        _train(index.index, sample, workers)
        index.is_trained = True
    elif isinstance(index, faiss.IndexRefine):
        _train(index.base_index, sample, workers)
        _train(index.refine_index, sample, workers)
        index.is_trained = True
    elif not index.is_trained:
        with threads(workers):
            index.train(sample)


def _set_matrix(transform: Any, sample: FloatMatrix, *, centred: bool) -> None:
    faiss = load_faiss()
    mean, moment = moments(sample[:: max(1, len(sample) // _COMPONENT_ROWS)], centred=centred)
    basis = np.linalg.eigh(moment)[1][:, ::-1][:, : transform.d_out].T
    # An eigenvector's sign is LAPACK's whim: the largest component is made positive.
    largest = np.abs(basis).argmax(axis=1)
    basis = basis * np.sign(basis[np.arange(len(basis)), largest])[:, None]
    if transform.random_rotation:  # PCAR: spreads the variance evenly over what the codes divide among them
        random = np.random.default_rng(SEED).standard_normal((transform.d_out, transform.d_out))
        basis = np.linalg.qr(random)[0] @ basis
    shift = -(basis @ mean) if centred else np.empty(0)
    faiss.copy_array_to_vector(np.ascontiguousarray(basis, dtype=np.float32).ravel(), transform.A)
    faiss.copy_array_to_vector(shift.astype(np.float32), transform.b)
    transform.have_bias = centred
    transform.is_trained = True
    transform.set_is_orthonormal()
