"""The steps of `large.py`, each run in a process of its own so that its memory is its own.

Called by `large.py` as ``large_stages.py STAGE SETTINGS``; reports JSON lines (`watching.report`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pages
from clustered import BLOCK, Clustered, hardness, passages, real_hardness
from measuring import DataMissing, Figures, Floats, K, microseconds
from truth import Nearest
from watching import memory, report

import reperio
from reperio import Hit
from reperio.index import cheapest, search_one

_WARM_ROUNDS = 3
_HARDNESS_QUERIES = 500
_Z99 = 2.576


def add(settings: Figures) -> Figures:
    """Store the rows of the stream from what is there up to ``rows``."""
    stream = Clustered(settings["dimension"], settings["seed"])
    path, rows, commit = settings["collection"], settings["rows"], settings["commit"]
    adding = 0.0
    with reperio.open(path, dimension=settings["dimension"], dtype=settings["dtype"], auto_optimize=False) as kb:
        first = low = kb.count()
        report(stage="add", done=0)
        started = time.perf_counter()
        for vectors in _joined(stream, low, rows, commit):
            before = time.perf_counter()
            kb.add(passages(low, low + len(vectors)), vectors=vectors, batch_size=commit)
            adding += time.perf_counter() - before
            low += len(vectors)
            report(stage="add", done=low - first)
        total = time.perf_counter() - started
    return {"added": low - first, "seconds": total, "add_seconds": adding, **memory()}


def _joined(stream: Clustered, low: int, high: int, size: int) -> Iterator[Floats]:
    """Yield the rows in parts of *size*, made one part ahead by another thread."""
    parts: list[Floats] = []
    for block in stream.rows(low, high, workers=1):
        parts.append(block)
        if sum(map(len, parts)) >= size:
            yield np.concatenate(parts)
            parts = []
    if parts:
        yield np.concatenate(parts)


def optimize(settings: Figures) -> Figures:
    """Let `optimize` choose, build and measure."""
    with reperio.open(settings["collection"], auto_optimize=False) as kb:
        started = time.perf_counter()
        info = kb.optimize(
            recall=settings["recall"],
            memory=settings["memory"],
            prefer=settings["prefer"],
            queries=_queries(settings)[::2],
            progress=lambda stage, done, _: report(stage=stage, done=done),
        )
        seconds = time.perf_counter() - started
    if info is None:
        return {"seconds": seconds, "index": "exact", "reason": "", "bytes": 0, "points": 0, **memory()}
    point = cheapest(info.points, settings["recall"], K)
    return {
        "seconds": seconds,
        "index": info.factory,
        "reason": info.reason,
        "bytes": info.bytes,
        "points": len(info.points),
        "effort": point.effort if point else 0,
        "candidates": point.candidates if point else 0,
        "recall_by_its_own_queries": point.recall if point else 1.0,
        **memory(),
    }


def truth(settings: Figures) -> Figures:
    """Find the exact neighbours of the measuring queries by reading the stored vectors, block by block.

    Goes on from the rows seen before, kept in a file.
    """
    queries, kept = _queries(settings)[1::2], Path(settings["truth"])
    nearest = Nearest(queries)
    if kept.exists():
        with np.load(kept) as state:
            nearest = Nearest.restored(queries, dict(state))
    file = vector_file(Path(settings["collection"]))
    dtype = np.dtype(np.float16 if file.suffix == ".f16" else np.float32)
    started, first = time.perf_counter(), nearest.seen
    stored = np.memmap(file, dtype=dtype, mode="r").reshape(-1, settings["dimension"])
    for low in range(first, settings["rows"], BLOCK):
        nearest.show(stored[low : min(low + BLOCK, settings["rows"])].astype(np.float32))
    with open(kept.with_suffix(".new"), "wb") as out:
        np.savez(out, allow_pickle=False, **nearest.state())
    kept.with_suffix(".new").replace(kept)
    return {
        "seconds": time.perf_counter() - started,
        "rows": nearest.rows(K).tolist(),
        "hardness": nearest.hardness(),
    }


def serve(settings: Figures) -> Figures:
    """Open read-only, measure recall with the first pass, then time searches over warm pages."""
    queries, nearest = _queries(settings)[1::2], settings["nearest"]
    before = memory()
    report(stage="open")
    started = time.perf_counter()
    with reperio.open(settings["collection"], read_only=True) as kb:
        kb.search(vector=queries[0], k=K, recall=settings["recall"])
        opened = time.perf_counter() - started
        report(stage="serve")
        ask = _asking(kb, settings["recall"])
        found = [[_row_of(hit) for hit in ask(query)] for query in queries]
        shares = np.array([len(set(rows) & set(exact)) / K for rows, exact in zip(found, nearest, strict=True)])
        times = np.concatenate([microseconds(ask, queries) for _ in range(_WARM_ROUNDS)])
        view = kb._handle.generation.latest
        assert view is not None  # searches have made it
        part = np.concatenate(
            [
                microseconds(lambda query: search_one(view.target, query, K, settings["recall"]), queries)
                for _ in range(_WARM_ROUNDS)
            ]
        )
        now = memory()
    error = _Z99 * float(shares.std(ddof=1)) / len(shares) ** 0.5
    mean = float(shares.mean())
    return {
        "open_and_first_search_seconds": round(opened, 2),
        "knn_recall": round(mean, 4),
        "interval_99": [round(max(0.0, mean - error), 4), round(min(1.0, mean + error), 4)],
        "warm_us": _percentiles(times),
        "warm_without_chunks_us": _percentiles(part),
        "anonymous_before_opening_kib": before["anonymous_kib"],
        "anonymous_at_rest_kib": now["anonymous_kib"],
    }


def cold(settings: Figures) -> Figures:
    """Open read-only, the page cache being empty, and ask each query once."""
    queries = _queries(settings)[1::2]
    started = time.perf_counter()
    with reperio.open(settings["collection"], read_only=True) as kb:
        ask = _asking(kb, settings["recall"])
        ask(_queries(settings)[0])  # of the other half: what is asked once per process is not what a search costs
        opened = time.perf_counter() - started
        times = microseconds(ask, queries)
    return {"open_and_first_search_seconds": round(opened, 2), "search_us": _percentiles(times)}


def structure(settings: Figures) -> Figures:
    """Say how hard the stream's neighbours are to find, and those of the real embeddings, with the same code."""
    stream, rows = Clustered(settings["dimension"], settings["seed"]), settings["rows"]
    found = {"generated": hardness(stream.rows(0, rows, workers=2), stream.queries(_HARDNESS_QUERIES))}
    try:
        found["embeddings of real questions"] = real_hardness(pages.data_folder(), rows, _HARDNESS_QUERIES)
    except DataMissing as error:
        print(error, file=sys.stderr)
    return found


STAGES: dict[str, Callable[[Figures], Figures]] = {
    "add": add, "optimize": optimize, "truth": truth, "serve": serve, "cold": cold, "structure": structure
}  # fmt: skip


def vector_file(collection: Path) -> Path:
    """Return the one file of vectors of a collection that was never compacted."""
    (found,) = collection.glob("gen-*/vectors.f*")
    return found


def _queries(settings: Figures) -> Floats:
    """Return all held-out queries: the even ones tune, the odd ones measure."""
    return Clustered(settings["dimension"], settings["seed"]).queries(settings["queries"])


def _asking(kb: reperio.Collection, recall: float) -> Callable[[Floats], list[Hit]]:
    return lambda query: kb.search(vector=query, k=K, recall=recall)


def _row_of(hit: Hit) -> int:
    return int(hit.chunk.id[1:])


def _percentiles(times: npt.NDArray[np.float64]) -> Figures:
    return {f"p{share}": round(float(np.percentile(times, share)), 1) for share in (50, 95, 99)}


if __name__ == "__main__":
    report(result=STAGES[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text())))
