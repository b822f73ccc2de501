"""Measure searches by many threads: without lanes, with a lane for each core, and with stints in it.

    python eval/bench/lanes.py       # seven minutes; writes eval/results/lanes.{json,md}

Collections of 100,000 real vectors where they are, else drawn by chance, each with an index in memory. All take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
from exact_threads import RESULTS, vectors
from measuring import Figures, machine

import reperio
from reperio import Chunk
from reperio.collection.search import lanes, retrieving
from reperio.index.library import symphony

ROWS, THREADS, SECONDS, ROUNDS = 100_000, (1, 2, 3, 4, 8, 16, 40), 1.5, 5
INDEXES = ("symphonyqg", "PCA224,HNSW24,SQ8,Refine(PQ96x4)")


class _EachInTurn(lanes.Lanes):
    """Lanes that are handed on after every question."""

    def _keeps(self, _: int) -> bool:
        return False


WAYS: dict[str, Any] = {"without": nullcontext(), "each in turn": _EachInTurn(), "with stints": retrieving.LANES}


def ask(kb: reperio.Collection, queries: Any, threads: int) -> tuple[float, list[float]]:
    """Return searches per second of some threads, and the seconds that each took."""
    until, taken = time.perf_counter() + SECONDS, list[float]()

    def run(place: int) -> None:
        number = place * 37
        while (begun := time.perf_counter()) < until:
            kb.search(vector=queries[number % len(queries)], k=10)
            taken.append(time.perf_counter() - begun)
            number += 1

    running = [threading.Thread(target=run, args=(place,)) for place in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    return len(taken) / SECONDS, taken


def measure() -> list[Figures]:
    """Return rates and latencies of all ways with each index that can be built."""
    base, queries = vectors(ROWS)
    chunks = [Chunk(f"c{at}", "some text of a chunk " * 12, {"n": at % 7}) for at in range(len(base))]
    found: list[Figures] = []
    for index in INDEXES if symphony.is_installed() else INDEXES[1:]:
        with tempfile.TemporaryDirectory() as folder, reperio.open(folder, dimension=base.shape[1]) as kb:
            kb.add(chunks, vectors=base, batch_size=20_000)
            info = kb.optimize(index=index, queries=queries[::2])
            assert info is not None
            found += [{"index": info.factory, **one} for one in _rounds(kb, queries[1::2])]
    return found


def _rounds(kb: reperio.Collection, queries: Any) -> list[Figures]:
    """Return medians of rounds in which all ways and numbers of threads take turns."""
    ask(kb, queries, 1)  # the graph is loaded, and its chunks are met, before anything counts
    rounds: dict[tuple[int, str], list[list[float]]] = {}
    for _ in range(ROUNDS):
        for threads in THREADS:
            for way, its in WAYS.items():
                retrieving.LANES = its
                rate, taken = ask(kb, queries, threads)
                spread = (np.percentile(taken, each) * 1e3 for each in (50, 99, 100))
                rounds.setdefault((threads, way), []).append([rate, *map(float, spread)])
    names = ("rate", "p50_ms", "p99_ms", "slowest_ms")
    return [
        {"threads": threads, "way": way, **dict(zip(names, np.median(measured, axis=0).tolist(), strict=True))}
        for (threads, way), measured in rounds.items()
    ]


def page(results: Figures) -> str:
    """Write what is committed next to the figures."""
    before, after = results["load"]
    lines = [
        "# Searches by many threads",
        "",
        f"`python eval/bench/lanes.py`, {results['date']}: {ROWS:,} chunks, k = 10, {machine()['cores']} cores,",
        f"load {before:.1f} before and {after:.1f} after, this measurement included. Medians of {ROUNDS} rounds.",
        "Why: [decision 0029](../../docs/decisions/0029-lanes.md).",
        "",
        "| index | threads | | searches a second | p50 | p99 | slowest |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| `{one['index']}` | {one['threads']} | {one['way']} | {one['rate']:,.0f} | {one['p50_ms']:.2f} ms | "
        f"{one['p99_ms']:.1f} ms | {one['slowest_ms']:.0f} ms |"
        for one in results["runs"]
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, and write the results."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    before = os.getloadavg()[0]
    runs = measure()
    load = [before, os.getloadavg()[0]]
    results = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "load": load, "runs": runs}
    (RESULTS / "lanes.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "lanes.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
