"""Judge how well an index, or a reduction in front of it, fits the vectors: by variance, and by what codes lose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.index.building.sampling import choose_rows, gather
from reperio.index.library.loading import innermost, load_faiss, threads, transforms
from reperio.index.library.symphony import Graphs
from reperio.types import FloatMatrix, Metric
from reperio.vectors import StoredMatrix

# The sample whose variance is analysed, and the dimensions for which it is: eigenvectors of 2,048 take 3 s.
SPECTRUM_ROWS, NARROWEST, WIDEST = 20_000, 128, 2048
_DISTORTION_ROWS = 4096
_MOMENT_ROWS = 2048  # widened to float64 at a time


def spectrum(matrix: StoredMatrix, metric: Metric) -> npt.NDArray[np.float64] | None:
    """Return how much of the variance the first 1, 2, … d principal components keep, (d,), rising to 1.

    Of the second moment under cosine and inner product, of the covariance under L2: what a PCA of that many dimensions
    would keep (`training`). Over at most `SPECTRUM_ROWS` rows.

    Returns:
        None where there is nothing to reduce, or not enough to tell: fewer than `NARROWEST` or more than `WIDEST`
        dimensions, fewer than 4 rows per dimension, or no variance at all.
    """
    rows, dimension = matrix.shape
    if not NARROWEST <= dimension <= WIDEST or rows < 4 * dimension:
        return None
    sample = gather(matrix, choose_rows(range(rows), SPECTRUM_ROWS))
    values = np.linalg.eigvalsh(moments(sample, centred=metric is Metric.L2)[1])[::-1].clip(min=0)
    total = values.sum()
    return np.asarray(np.cumsum(values) / total) if total > 0 else None


def moments(sample: FloatMatrix, *, centred: bool) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the mean, (d,), zero unless *centred*, and the second moment about it, (d, d)."""
    dimension = sample.shape[1]
    mean = sample.mean(axis=0, dtype=np.float64) if centred else np.zeros(dimension)
    moment = np.zeros((dimension, dimension))
    for start in range(0, len(sample), _MOMENT_ROWS):
        # float64: squares of long vectors overflow float32, and the eigenvectors would follow how BLAS has rounded.
        block = sample[start : start + _MOMENT_ROWS] - mean  # mean is float64, and so is this
        moment += block.T @ block
    return mean, moment / len(sample)


def distortion(index: Any, matrix: StoredMatrix, rows: range) -> float | None:
    """Return how far what the index stores is from the vectors: squared error relative to squared size, both means.

    Over at most 4,096 of *rows*, which need not be in the index: the codes are made again, so new rows can be
    judged before they are added. The size is that of the vectors under cosine and inner product, of their deviations
    from their mean under L2. What a PCA leaves out counts as error. 0 for codes without loss, though their lists may
    have become uneven. Of graphs with codes next to them, what those lose.

    Returns:
        None where FAISS cannot give back what it stores (whitening, an ITQ), or there are no rows.
    """
    faiss = load_faiss()
    if len(rows) == 0:
        return None
    if isinstance(index, Graphs):
        index = index.codes
    sample = gather(matrix, choose_rows(rows, _DISTORTION_ROWS))
    codec = innermost(index)
    if hasattr(codec, "storage"):  # a graph
        codec = faiss.downcast_index(codec.storage)
    front = transforms(index)
    try:
        with threads(1):
            decoded = sample
            for transform in front:
                decoded = transform.apply(decoded)
            decoded = _decoded(codec, decoded)
            for transform in reversed(front):
                decoded = transform.reverse_transform(decoded)
    except RuntimeError:
        return None
    error = float(np.square(sample - decoded, dtype=np.float64).sum())
    centre = sample.mean(axis=0, dtype=np.float64) if index.metric_type == faiss.METRIC_L2 else 0.0
    size = float(np.square(sample - centre, dtype=np.float64).sum())
    return error / size if size > 0 else float(error > 0)


def _decoded(codec: Any, vectors: FloatMatrix) -> FloatMatrix:
    """Return vectors as *codec* would give them back."""
    # An IVF of fast-scan product codes is asked in parts: read from a file, its own `sa_decode` ends in a segmentation
    # fault (FAISS 1.15.1).
    if type(codec).__name__ != "IndexIVFPQFastScan":
        return np.asarray(codec.sa_decode(codec.sa_encode(vectors)), dtype=np.float32)
    nearest = 0.0
    if codec.by_residual:
        _, lists = codec.quantizer.search(vectors, 1)
        nearest = codec.quantizer.reconstruct_batch(lists[:, 0])
    rest = np.ascontiguousarray(vectors - nearest, dtype=np.float32)
    return np.asarray(codec.pq.decode(codec.pq.compute_codes(rest)) + nearest, dtype=np.float32)


def drifted(trained: float, now: float) -> bool:
    """Say whether new rows fit an index so much worse than those it was trained on that it should be trained again.

    Args:
        trained: `distortion` of rows that it was trained on.
        now: of a thousand or more rows that came later.
    """
    # Measured with real questions at 384 dimensions (trained → now): other questions of the same kind 0.232 → 0.257
    # behind a PCA to 192 and 4-bit codes, 0.086 → 0.094 behind a PCA to 224 and 8 bits; abstracts of papers 0.232 →
    # 0.33 and 0.086 → 0.15, uniform noise 0.57 and 0.42. Extended by the abstracts instead of trained again, the first
    # one found 0.866 of their ten nearest with 8 lists probed instead of 0.893. Codes without a reduction in front fit
    # everything about equally (0.107 → 0.114) and are seldom told to train again; they lose less, too (0.922 for
    # 0.937).
    return now > 1.25 * trained + 0.01
