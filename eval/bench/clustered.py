"""A stream of vectors as hard to search as embeddings of real text, of any length, in bounded memory.

    python eval/bench/clustered.py --rows 100000      # how hard they are, beside the real ones

A row is its cluster's centre, plus a spread of low rank within the cluster, plus noise; normalised. Clusters differ in
size and in width. Every block of rows is a function of the seed and its number alone, so any part of the stream can be
made again, on any number of threads. The defaults are set so that at 100,000 rows local intrinsic dimension and
relative contrast (`truth.Nearest.hardness`) are those of 100,000 embeddings of real questions, and so that about as
large a part of the dimensions holds 90% of the variance.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pages
from measuring import Data, DataMissing, Figures, Floats
from truth import Nearest

from reperio import Chunk

BLOCK = 8192
"""Rows that are made at once: 32 MiB of 1,024 dimensions."""

_ROWS, _QUERIES = 0, 1  # which stream a random number belongs to


@dataclass(frozen=True)
class Shape:
    """What the vectors are like. All lengths are relative to a centre's, which is 1.

    Attributes:
        clusters: number of centres; the size of cluster i is proportional to (i + 10)^−½.
        rank: dimensions of the spread within a cluster.
        decay: component i of the spread has a variance proportional to i^−decay.
        width: standard deviation of the whole spread; per cluster it is multiplied by exp(N(0, *variety*)).
        variety: see *width*.
        noise: standard deviation of what is added in all dimensions.
        slope: centres, spreads and noise lie along shared axes whose variance falls as (i + 8)^−slope.
        families: clusters whose numbers are equal modulo this share the subspace of their spread.
    """

    clusters: int = 400
    rank: int = 64
    decay: float = 0.7
    width: float = 1.7
    variety: float = 0.4
    noise: float = 0.6
    slope: float = 0.8
    families: int = 32


class Clustered:
    """The stream.

    Args:
        dimension: of the vectors, at least 4; below 128 the spread has half as many.
        seed: another seed, other centres.
        shape: what the vectors are like.
    """

    def __init__(self, dimension: int = 1024, seed: int = 20_240, shape: Shape | None = None) -> None:
        self.dimension = dimension
        self._seed = seed
        self._shape = shape = shape or Shape()
        rank = min(shape.rank, dimension // 2)
        random = np.random.default_rng((seed, 2))
        axes = (np.arange(dimension) + 8.0) ** -shape.slope
        self._axes = np.sqrt(axes / axes.sum()).astype(np.float32)
        centres = random.standard_normal((shape.clusters, dimension), dtype=np.float32) * self._axes
        self._centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
        share = (np.arange(rank) + 1.0) ** -shape.decay
        weights = np.sqrt(share / share.sum()).astype(np.float32)[:, None]
        self._spreads = [
            np.ascontiguousarray(self._subspace(random, rank).T * weights)
            for _ in range(min(shape.families, shape.clusters))
        ]
        self._widths = (shape.width * np.exp(shape.variety * random.standard_normal(shape.clusters))).astype(np.float32)
        sizes = (np.arange(shape.clusters) + 10.0) ** -0.5
        self._shares = sizes / sizes.sum()

    def _subspace(self, random: np.random.Generator, rank: int) -> Floats:
        drawn = random.standard_normal((rank, self.dimension), dtype=np.float32) * self._axes
        return np.asarray(np.linalg.qr(drawn.T)[0], dtype=np.float32)

    def block(self, number: int) -> Floats:
        """Return rows [number · BLOCK, (number + 1) · BLOCK), float32, norm 1."""
        return self._drawn(BLOCK, (self._seed, _ROWS, number))

    def queries(self, count: int) -> Floats:
        """Return *count* vectors of the same kind that are no rows of the stream, however long it gets."""
        return self._drawn(count, (self._seed, _QUERIES))

    def rows(self, start: int, stop: int, *, workers: int = 1) -> Iterator[Floats]:
        """Yield rows [start, stop) in order, in parts of at most `BLOCK`.

        Args:
            start: first row.
            stop: row behind the last one.
            workers: threads that make blocks ahead; one more block than that is in memory.
        """
        numbers = iter(range(start // BLOCK, -(-stop // BLOCK)))
        with ThreadPoolExecutor(workers) as pool:
            made: deque[tuple[int, Future[Floats]]] = deque()
            while True:
                while len(made) <= workers and (number := next(numbers, None)) is not None:
                    made.append((number, pool.submit(self.block, number)))
                if not made:
                    return
                number, future = made.popleft()
                first = number * BLOCK
                yield future.result()[max(0, start - first) : stop - first]

    def _drawn(self, count: int, seed: tuple[int, ...]) -> Floats:
        random = np.random.default_rng(seed)
        families = len(self._spreads)
        clusters = random.choice(len(self._centres), count, p=self._shares)
        offsets = random.standard_normal((count, len(self._spreads[0])), dtype=np.float32)
        offsets *= self._widths[clusters, None]
        vectors = random.standard_normal((count, self.dimension), dtype=np.float32)
        vectors *= self._axes * self._shape.noise
        order = np.argsort(clusters % families, kind="stable")
        bounds = np.searchsorted((clusters % families)[order], np.arange(families + 1))
        for family, spread in enumerate(self._spreads):
            members = order[bounds[family] : bounds[family + 1]]
            vectors[members] += offsets[members] @ spread + self._centres[clusters[members]]
        vectors /= np.sqrt(np.vecdot(vectors, vectors))[:, None]
        return vectors


def passages(start: int, stop: int) -> Iterator[Chunk]:
    """Yield a chunk per row: about a hundred bytes of text, and metadata."""
    for row in range(start, stop):
        yield Chunk(
            f"r{row:08d}",
            f"Passage {row:,} of volume {row // 1000:,}: what was said on page {row % 1000}, and who noted it down.",
            {"source": f"volume-{row // 1000:05d}", "page": row % 1000, "language": "en"},
        )


def hardness(vectors: Iterator[Floats], queries: Floats) -> Figures:
    """Return how hard it is to find the neighbours of *queries* among *vectors*: see `truth.Nearest.hardness`."""
    nearest, sample = Nearest(queries), []
    for block in vectors:
        nearest.show(block)
        sample.append(block[: max(1, 20_000 * len(block) // 100_000)])
    return {
        **nearest.hardness(),
        "dimensions_with_90_percent_of_the_variance": _components(np.concatenate(sample), 0.9),
    }


def _components(sample: Floats, share: float) -> int:
    """Return how many principal components of the second moment hold that share of the whole."""
    variances: npt.NDArray[np.float64] = np.linalg.eigvalsh(sample.T.astype(np.float64) @ sample)[::-1]
    return int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1


def real_hardness(folder: Path, rows: int, queries: int) -> Figures:
    """Return the same of the first *rows* real embeddings (eval/README.md), of which there are 100,000.

    Raises:
        DataMissing: they are not there.
    """
    data = Data(folder, rows)
    return hardness((data.base[low : low + BLOCK] for low in range(0, data.rows, BLOCK)), data.queries[:queries])


def main() -> int:
    """Print how hard the stream and the real embeddings are; return the exit status."""
    parser = argparse.ArgumentParser(description="How hard the generated vectors are, beside the real ones.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=500)
    options = parser.parse_args()
    stream = Clustered(options.dimension)
    made = hardness(stream.rows(0, options.rows, workers=2), stream.queries(options.queries))
    print("generated", json.dumps(made))
    try:
        print("real     ", json.dumps(real_hardness(pages.data_folder(), min(options.rows, 100_000), options.queries)))
    except DataMissing as error:
        print(error, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
