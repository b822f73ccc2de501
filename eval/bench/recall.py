"""Measure recall and latency by the recall asked for (d), as a collection grows (f), and where an index pays (h)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
from measuring import Bench, Figures, K, interleave, knn_recall, microseconds, p50, recalls, row_of, spread
from truth import Nearest

import reperio
from reperio import Collection
from reperio.collection.search.request import DEFAULT_RECALL

RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 1.0)


def measure(bench: Bench) -> Figures:
    """Measure knn recall@10, p50 and p95 for the recommended index, SymphonyQG and HNSW.

    A mean may hide that some questions find nothing. So the recall of the twentieth that found least is told, and that
    of the hardest tenth, those of the lowest relative contrast; the benchmark VIBE reports both.
    """
    truth = Nearest(bench.data.queries)
    truth.show(bench.data.base)
    contrast = truth.contrast()
    hardest = contrast <= np.quantile(contrast, 0.1)
    return {
        "queries": len(bench.data.queries),
        "indexes": {
            "recommended": _by_recall(bench, None, RECALLS, hardest),
            "symphonyqg": _by_recall(bench, "symphonyqg", RECALLS[:-1], hardest),  # 1.0 is exact search again
            "hnsw": _by_recall(bench, "hnsw", RECALLS[:-1], hardest),
        },
    }


def measure_growth(bench: Bench) -> Figures:
    """Measure p50 and recall of the default search at several sizes."""
    queries = bench.data.queries[: bench.scale.queries]
    with ExitStack() as stack:
        kbs = {}
        for rows in (size for size in bench.scale.growth if size <= bench.data.rows):
            path, _ = bench.collection(rows)
            kbs[rows] = stack.enter_context(reperio.open(path, auto_optimize=False))
        blocks = interleave(
            bench.scale.rounds, {str(rows): _block(kb, queries, DEFAULT_RECALL) for rows, kb in kbs.items()}
        )
        return {
            "recall": DEFAULT_RECALL,
            "by_rows": {
                str(rows): {
                    "index": kb.info().index.factory,
                    "p50_us": spread(blocks[str(rows)]),
                    "knn_recall": knn_recall(
                        _found(kb, queries, DEFAULT_RECALL), bench.data.nearest_among(rows)[: len(queries)]
                    ),
                }
                for rows, kb in kbs.items()
            },
        }


def measure_exact(bench: Bench) -> Figures:
    """Measure p50 of the same search with the smallest index and exactly, at sizes where either may win."""
    queries = bench.data.queries[: bench.scale.queries]
    factory = bench.smallest_index()
    subjects: dict[str, Callable[[], float]] = {}
    sizes = [rows for rows in bench.scale.exact if rows <= bench.data.rows]
    with ExitStack() as stack:
        for rows in sizes:
            path, _ = bench.collection(rows, factory)
            kb = stack.enter_context(reperio.open(path, auto_optimize=False))
            subjects[f"{rows} exact"] = _block(kb, queries, 1.0)
            subjects[f"{rows} index"] = _block(kb, queries, DEFAULT_RECALL)
        blocks = interleave(bench.scale.rounds, subjects)
    return {
        "index": factory,
        "p50_us": {
            str(rows): {"exact": spread(blocks[f"{rows} exact"]), "index": spread(blocks[f"{rows} index"])}
            for rows in sizes
        },
    }


def _by_recall(bench: Bench, name: str | None, wanted: Sequence[float], hardest: npt.NDArray[np.bool_]) -> Figures:
    path, seconds = bench.collection(name=name)
    queries = bench.data.queries
    with reperio.open(path, auto_optimize=False) as kb:
        used = kb.info().index
        assert used is not None  # `Bench.collection` builds one at any size
        taken: dict[str, list[npt.NDArray[np.float64]]] = {str(recall): [] for recall in wanted}

        def subject(recall: float) -> Callable[[], float]:
            def run() -> float:
                times = microseconds(lambda query: kb.search(vector=query, k=K, recall=recall), queries)
                taken[str(recall)].append(times)
                return float(np.median(times))

            return run

        kb.search(vector=queries[0], k=K)
        interleave(bench.scale.rounds, {str(recall): subject(recall) for recall in wanted})
        found = {str(recall): _found(kb, queries, recall) for recall in wanted}
    return {
        "factory": used.factory,
        "build_seconds": round(seconds, 2),
        "bytes_per_vector": round(used.bytes / used.rows, 1),
        "by_recall": {
            key: {
                "knn_recall": knn_recall(rows, bench.data.nearest),
                **_tail(recalls(rows, bench.data.nearest), hardest),
                "p50_us": spread([float(np.median(times)) for times in taken[key]]),
                "p95_us": spread([float(np.percentile(times, 95)) for times in taken[key]]),
            }
            for key, rows in found.items()
        },
    }


def _tail(each: npt.NDArray[np.float64], hardest: npt.NDArray[np.bool_]) -> Figures:
    """Return mean recall of the twentieth of the questions that found least, and of those that are hardest."""
    least = np.sort(each)[: max(1, len(each) // 20)]
    return {
        "recall_of_the_least_twentieth": round(float(least.mean()), 4),
        "recall_of_the_hardest_tenth": round(float(each[hardest].mean()), 4),
        "share_that_found_all": round(float((each == 1).mean()), 4),
    }


def _block(kb: Collection, queries: npt.NDArray[np.float32], recall: float) -> Callable[[], float]:
    kb.search(vector=queries[0], k=K, recall=recall)
    return lambda: p50(lambda query: kb.search(vector=query, k=K, recall=recall), queries)


def _found(kb: Collection, queries: npt.NDArray[np.float32], recall: float) -> list[list[int]]:
    return [[row_of(hit) for hit in kb.search(vector=query, k=K, recall=recall)] for query in queries]
