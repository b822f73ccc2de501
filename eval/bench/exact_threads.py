"""Measure exact search by several threads: where one core each compares, and where NumPy wakes all cores for each.

    python eval/bench/exact_threads.py       # three minutes; writes eval/results/exact-threads.{json,md}

Collections without an index hold real vectors where they are, else vectors drawn by chance. Both ways take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Figures, machine

import reperio
from reperio import Chunk
from reperio.index.exact import exhaustive

ROOT = Path(__file__).resolve().parents[2]
REALQ = Path(os.environ.get("REPERIO_DATA") or ROOT.parent / "shared" / "data" / "realq")
RESULTS = ROOT / "eval" / "results"
ROWS, THREADS, DIMENSION = (500, 2_000, 8_000, 16_000), (1, 2, 8), 384
SECONDS, ROUNDS = 1.5, 3


class _Alone:
    """A crowd that never is one: each comparison takes all cores."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def is_there(self) -> bool:
        """Return False."""
        return False


WAYS: dict[str, Any] = {"all cores each": _Alone(), "one core each": exhaustive._crowd}


def vectors(rows: int) -> tuple[Any, Any]:
    """Return vectors of chunks and of questions."""
    if REALQ.exists():
        base = np.load(REALQ / "base.f16.npy", mmap_mode="r")[:rows]
        return base.astype(np.float32), np.load(REALQ / "queries.f16.npy").astype(np.float32)
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((number, DIMENSION)).astype(np.float32) for number in (rows, 500))


@contextmanager
def compared(way: str) -> Iterator[None]:
    """Compare vectors in one of the ways meanwhile."""
    exhaustive._crowd = WAYS[way]
    try:
        yield
    finally:
        exhaustive._crowd = WAYS["one core each"]


def rate(kb: reperio.Collection, queries: Any, threads: int) -> float:
    """Return searches per second of some threads."""
    until, counts = time.perf_counter() + SECONDS, [0] * threads

    def ask(place: int) -> None:
        while time.perf_counter() < until:
            kb.search(vector=queries[(place * 37 + counts[place]) % len(queries)], k=10)
            counts[place] += 1

    running = [threading.Thread(target=ask, args=(place,)) for place in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    return sum(counts) / SECONDS


def measure() -> list[Figures]:
    """Return the rates of both ways, medians of rounds in turns."""
    found: list[Figures] = []
    for rows in ROWS:
        base, queries = vectors(rows)
        with reperio.open(":memory:", dimension=DIMENSION, auto_optimize=False) as kb:
            kb.add([Chunk(f"c{at}", "text") for at in range(rows)], vectors=base, batch_size=20_000)
            for threads in THREADS:
                rates: dict[str, list[float]] = {way: [] for way in WAYS}
                for _ in range(ROUNDS):
                    for way, taken in rates.items():
                        with compared(way):
                            taken.append(rate(kb, queries, threads))
                medians = {way: round(float(np.median(taken))) for way, taken in rates.items()}
                found.append({"rows": rows, "threads": threads, **medians})
                print(json.dumps(found[-1]), flush=True)
    return found


def page(results: Figures) -> str:
    """Write what is committed next to the figures."""
    first, second = WAYS
    before, after = results["load"]
    lines = [
        "# Exact search by several threads",
        "",
        f"`python eval/bench/exact_threads.py`, {results['date']}: collections without an index, {DIMENSION} "
        f"dimensions, k = 10, {results['machine']['cores']} cores, load {before:.1f} before and {after:.1f} after,",
        f"this measurement included. Searches per second, medians of {ROUNDS} rounds in turns.",
        "",
        f"| chunks | threads | {first} | {second} | ratio |",
        "|---:|---:|---:|---:|---:|",
    ]
    for one in results["runs"]:
        ratio = one[second] / one[first]
        lines.append(f"| {one['rows']:,} | {one['threads']} | {one[first]:,} | {one[second]:,} | {ratio:.2f} |")
    told = "*All cores each*: NumPy's product of a matrix and a vector. *One core each*: what searches do, since"
    lines += [
        "",
        told,
        "[decision 0028](../../docs/decisions/0028-one-core-each.md); a thread that is alone takes all cores still.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the results."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    before = os.getloadavg()[0]
    runs = measure()
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load": [before, os.getloadavg()[0]],
        "runs": runs,
    }
    (RESULTS / "exact-threads.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "exact-threads.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
