"""What all parts of the benchmark share: the data, the sizes, the clock, and facts about the machine."""

from __future__ import annotations

import gc
import gzip
import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import numpy as np
import numpy.typing as npt
import orjson

import reperio
from reperio import Chunk, index
from reperio.index.library.loading import load_faiss
from reperio.index.recipes.ranking import EXACT_ROWS

Figures: TypeAlias = dict[str, Any]
"""What a part hands back: it goes into the results file as it is."""

Floats: TypeAlias = npt.NDArray[np.float32]

FILES = ("base.f16.npy", "queries.f16.npy", "gt_ip_top100.npy", "texts.jsonl.gz")
K = 10
TEXT_BYTES = 800
FAISS_BYTES = 1000
"""Per vector, for `optimize(memory=)`: all graphs of FAISS that it takes of 384 dimensions, and none of SymphonyQG. So
it does what it does where rabitqlib is not installed."""


class DataMissing(Exception):
    """The vectors and texts to measure with are not there."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        rows: vectors in the collection.
        rounds: interleaved rounds.
        queries: per block.
        growth: sizes at which the default search is timed.
        exact: sizes at which exact search is timed against an index.
        processes: fresh processes per way of opening.
        texts: embedded per round.
    """

    rows: int
    rounds: int
    queries: int
    growth: tuple[int, ...]
    exact: tuple[int, ...]
    processes: int
    texts: int


FULL = Scale(100_000, 5, 1000, (5_000, 20_000, 50_000, 100_000), (1000, 2000, 4000, 8000, 16_000), 7, 600)
QUICK = Scale(3000, 2, 100, (1000, 3000), (1000, 2000), 2, 24)


class Data:
    """Real vectors, questions and texts; *rows* of them.

    Raises:
        DataMissing: with what is missing and how to point elsewhere.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise DataMissing(
                f"{folder} lacks {', '.join(missing)}; set REPERIO_DATA to a folder that has them (eval/README.md)"
            )
        self._folder = folder
        whole = np.load(folder / "base.f16.npy", mmap_mode="r")
        self._cut = rows < len(whole)
        self.base = _normalised(whole[:rows])
        self.queries = _normalised(np.load(folder / "queries.f16.npy"))
        self.rows, self.dimension = self.base.shape

    @cached_property
    def nearest(self) -> npt.NDArray[np.int64]:
        """The exact ten nearest rows of each query: as delivered, or computed for a part of the rows."""
        if self._cut:
            return self.nearest_among(self.rows)
        return np.asarray(np.load(self._folder / "gt_ip_top100.npy")[:, :K], dtype=np.int64)

    def nearest_among(self, rows: int) -> npt.NDArray[np.int64]:
        """Return the exact ten nearest of the first *rows* rows, (queries, 10)."""
        found = [np.argsort(-(self.base[:rows] @ query), kind="stable")[:K] for query in self.queries]
        return np.array(found, dtype=np.int64)

    @cached_property
    def texts(self) -> list[str]:
        """The short questions as they lie in the file."""
        with gzip.open(self._folder / "texts.jsonl.gz") as lines:
            return [orjson.loads(line)["text"] for _, line in zip(range(self.rows), lines, strict=False)]

    @cached_property
    def chunks(self) -> list[Chunk]:
        """One chunk per row: about 800 bytes of real text, about 200 of metadata."""
        return [self._chunk(row) for row in range(self.rows)]

    def _chunk(self, row: int) -> Chunk:
        questions, length, end = [], 0, row
        while length < TEXT_BYTES:
            questions.append(self.texts[end % len(self.texts)])
            length += len(questions[-1]) + 1
            end += 1
        metadata = {
            "source": f"corpus/questions-{row // 1000:03d}.jsonl",
            "title": questions[0][:80],
            "language": "en",
            "year": 1990 + row % 35,
            "section": row % 17,
            "weight": round((row % 1000) / 1000, 3),
            "reviewed": row % 3 == 0,
            "tags": ["question", f"group-{row % 50}"],
        }
        return Chunk(chunk_id(row), " ".join(questions)[:TEXT_BYTES], metadata)


def chunk_id(row: int) -> str:
    """Return the id under which the chunk of a row is stored."""
    return f"r{row:06d}"


def row_of(hit: reperio.Hit) -> int:
    """Return the row whose chunk was found."""
    return int(hit.chunk.id[1:])


def _normalised(matrix: npt.NDArray[Any]) -> Floats:
    exact = np.asarray(matrix, dtype=np.float32)
    return np.ascontiguousarray(exact / np.linalg.norm(exact, axis=1, keepdims=True))


@dataclass
class Bench:
    """What a part is given: the data, the sizes, and a directory that is removed at the end."""

    data: Data
    scale: Scale
    directory: Path

    def __post_init__(self) -> None:
        self._built: dict[tuple[int, str | None], tuple[Path, float]] = {}

    def collection(self, rows: int | None = None, name: str | None = None) -> tuple[Path, float]:
        """Return the path of an optimized collection over the first *rows* rows, and its index's build seconds.

        Args:
            rows: None for all.
            name: of the index; None for the recommended one, or, where that is none, the one for the next larger size.
        """
        count = min(rows or self.data.rows, self.data.rows)
        if (count, name) not in self._built:
            path = self.directory / f"kb-{len(self._built)}"
            with reperio.open(path, dimension=self.data.dimension, auto_optimize=False) as kb:
                kb.add(self.data.chunks[:count], vectors=self.data.base[:count])
                started = time.perf_counter()
                kb.optimize(index=name or (None if count > EXACT_ROWS else self.smallest_index()))
                seconds = time.perf_counter() - started
            self._built[count, name] = path, seconds
        return self._built[count, name]

    def smallest_index(self) -> str:
        """Return the index recommended as soon as exact search is not."""
        return index.choose(EXACT_ROWS + 1, self.data.dimension).factory


def interleave(rounds: int, subjects: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Call every subject once per round, in an order that rotates, and return what they measured.

    A machine's mood changes over seconds; what is compared has to be measured side by side.
    """
    names = list(subjects)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            gc.collect()
            found[name].append(subjects[name]())
    return found


def microseconds(call: Callable[[Any], object], arguments: Iterable[Any]) -> npt.NDArray[np.float64]:
    """Return the duration of each call in µs."""
    clock, durations = time.perf_counter_ns, []
    for argument in arguments:
        before = clock()
        call(argument)
        durations.append(clock() - before)
    return np.array(durations) / 1000


def p50(call: Callable[[Any], object], arguments: Iterable[Any]) -> float:
    """Return the median duration of a call in µs."""
    return float(np.median(microseconds(call, arguments)))


def spread(values: Sequence[float], digits: int = 1) -> Figures:
    """Return median, least and greatest of what the rounds measured."""
    rounded = [round(float(value), digits) for value in (statistics.median(values), min(values), max(values))]
    return dict(zip(("median", "low", "high"), rounded, strict=True))


def ratios(values: Sequence[float], to: Sequence[float]) -> Figures:
    """Return the spread of the ratios taken round by round."""
    return spread([a / b for a, b in zip(values, to, strict=True)], 3)


def knn_recall(found: Sequence[Sequence[int]], nearest: npt.NDArray[np.int64]) -> float:
    """Return knn recall@10: the part of the exact ten that was found, over all queries."""
    return round(float(recalls(found, nearest).mean()), 4)


def recalls(found: Sequence[Sequence[int]], nearest: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return recall@10 of each query."""
    hits = [len(set(rows) & set(exact.tolist())) for rows, exact in zip(found, nearest, strict=True)]
    return np.array(hits) / K


def goal_of(one: Figures) -> str:
    """Return recall and engine, in words."""
    return ", ".join(filter(None, (f"{one['recall']:.2f}", one["engine"])))


def machine() -> Figures:
    """Return what the figures depend on; nothing that names the machine."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "faiss": load_faiss().__version__,
        "sqlite_of_apsw": apsw.sqlite_lib_version(),
        "sqlite_of_python": sqlite3.sqlite_version,
        "reperio": reperio.__version__,
    }
