"""Rows to build indexes of, and builds that are watched, interrupted or killed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from reperio import Metric
from reperio.index.building import training
from reperio.index.building.resuming import Saving
from reperio.index.building.training import build
from reperio.index.recipes.goal import Recipe
from reperio.vectors import to_matrix

ROOT = Path(__file__).parents[3]
AT_EVERY_BLOCK = Saving(seconds=0, share=math.inf)
DETERMINISTIC_GRAPHS = hasattr(faiss.HNSW, "compute_forward_links_deterministic")


def clustered(rows: int, dimension: int, metric: Metric = Metric.COSINE, seed: int = 0) -> np.ndarray:
    """Vectors around 30 centres that lie to one side of the origin, as a collection would store them."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((30, dimension)) + 0.5
    points = centres[rng.integers(0, 30, rows)] + 0.6 * rng.standard_normal((rows, dimension))
    return to_matrix(points, dimension=dimension, metric=metric, what="vectors")


def recipe(factory: str, training_rows: int = 4096, construction: int = 0) -> Recipe:
    return Recipe(factory, "a test", training_rows=training_rows, construction=construction)


def bytes_of(index: Any) -> bytes:
    return bytes(faiss.serialize_index(index))


def recall(index: Any, matrix: np.ndarray, queries: np.ndarray, k: int = 10, fetched: int = 10) -> float:
    """Return knn recall@k by inner product, of the index alone, all lists probed."""
    truth = np.argsort(-(queries @ matrix.T), axis=1)[:, :k]
    inner = training.innermost(index)
    if hasattr(inner, "nlist"):
        inner.nprobe = inner.nlist
    elif hasattr(inner, "hnsw"):
        inner.hnsw.efSearch = 64
    found = index.search(queries, fetched)[1]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(truth, found, strict=True)]))


class Stop(Exception):
    """Raised by a progress callback: an interrupted build."""


class Reports:
    """Records progress, and stops the build when the index holds *stop* rows."""

    def __init__(self, stop: int | None = None) -> None:
        self.seen: list[tuple[str, int, int | None]] = []
        self._stop = stop

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.seen.append((stage, done, total))
        if stage == "index" and self._stop is not None and done >= self._stop:
            raise Stop

    def rows(self) -> list[int]:
        return [done for stage, done, _ in self.seen if stage == "index"]


def interrupt(what: Recipe, matrix: np.ndarray, metric: Metric, scratch: Path, stop: int) -> None:
    """Build until the index holds *stop* rows; the state is that of the block before."""
    with pytest.raises(Stop):
        build(what, matrix, metric, workers=1, progress=Reports(stop), scratch=scratch, saving=AT_EVERY_BLOCK)


class Life:
    """One process that builds; *reports*, (stage, done), are its lines so far."""

    def __init__(self, directory: Path, **asked: Any) -> None:
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.index.building.making", json.dumps(asked)],
            env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.reports: list[tuple[str, int]] = []

    def follow(self, until: Callable[[tuple[str, int]], bool]) -> bool:
        """Read reports until one fulfils *until*; False when the process ended first."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.reports.append(tuple(json.loads(line)))
            if until(self.reports[-1]):
                return True
        return False

    def kill(self) -> None:
        """Send SIGKILL, and read what it had reported."""
        self.process.kill()
        self.follow(lambda _: False)
        self.end()

    def end(self) -> int:
        """Wait for the end; return the exit status."""
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        status = self.process.wait()
        assert status in (0, -9), errors
        return status

    def rows(self) -> list[int]:
        return [done for stage, done in self.reports if stage == "index"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
