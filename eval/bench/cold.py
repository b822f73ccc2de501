"""Measure searches of files that are not in memory, with the vectors asked for together and one by one.

    python eval/bench/cold.py              # 400,000 × 1,024 as float16; some five minutes, writes eval/results/cold.*
    python eval/bench/cold.py --quick      # 20,000, printed only

Each round opens the collection in a fresh process, after all of its files were dropped from the page cache, and asks
each of 100 questions once: in turns as it is, and without asking for pages beforehand. Exit 0 measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pages
from clustered import Clustered
from measuring import Figures, interleave, machine, microseconds, ratios, spread
from opening import forget

import reperio
from reperio import Chunk
from reperio.index import ReadAhead

RESULTS = Path(__file__).resolve().parents[1] / "results"
DIMENSION, QUESTIONS, ROUNDS = 1024, 100, 5
INDEX = "PCAR448,IVF512,PQ224x4fs"
TOGETHER, ALONE = "asked for together", "read when touched"


def build(path: Path, rows: int) -> None:
    """Make a collection of generated vectors, with an index whose candidates lie anywhere in the file."""
    stream = Clustered(DIMENSION, 1)
    with reperio.open(path, dimension=DIMENSION, dtype="float16", auto_optimize=False) as kb:
        first = 0
        for part in stream.rows(0, rows, workers=2):
            chunks = [Chunk(f"c{row}", f"Text {row}. " * 40) for row in range(first, first + len(part))]
            kb.add(chunks, vectors=part, batch_size=len(part))
            first += len(part)
        kb.optimize(index=INDEX, queries=stream.queries(QUESTIONS))


def ask(path: str, way: str) -> None:
    """Ask each question once, and print the median and the 95th percentile in ms: what a child process does."""
    queries = Clustered(DIMENSION, 1).queries(2 * QUESTIONS + 1)[QUESTIONS:]
    without = mock.patch.object(ReadAhead, "ask", return_value=None)
    with reperio.open(path, read_only=True) as kb:
        if way == ALONE:
            without.start()
        kb.search(vector=queries[0])  # opens the index, which is not what a search costs
        times = microseconds(lambda query: kb.search(vector=query), queries[1:])
    print(json.dumps([float(np.percentile(times, share)) / 1000 for share in (50, 95)]))


def measure(path: Path) -> Figures:
    """Return the times of both ways, in rounds that take turns."""
    tails: dict[str, list[float]] = {TOGETHER: [], ALONE: []}

    def once(way: str) -> float:
        forget(path)
        command = [sys.executable, "-W", "ignore", __file__, "--ask", str(path), way]
        median, tail = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        tails[way].append(tail)
        return float(median)

    found = interleave(ROUNDS, {way: partial(once, way) for way in tails})
    return {
        way: {"p50 ms": spread(values), "p95 ms": spread(tails[way]), "p50, ratio": ratios(values, found[TOGETHER])}
        for way, values in found.items()
    }


def page(results: Figures) -> str:
    """Return the page as Markdown."""
    lines = [
        "# Searches of files that are not in memory",
        "",
        f"`python eval/bench/cold.py`, {results['date']}: {results['rows']:,} generated vectors of {DIMENSION} "
        f"dimensions as float16, `{INDEX}`, {QUESTIONS} questions once each in a fresh process, whole searches; median "
        f"(least – greatest) of {ROUNDS} rounds in turn. {results['machine']['cpu']}, "
        f"{results['machine']['cores']} cores.",
        "",
        "| the vectors of the candidates are | p50, ms | p95, ms | p50 ÷ together |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {way} | {pages.span(one['p50 ms'], 1)} | {pages.span(one['p95 ms'], 1)} | "
        f"{pages.span(one['p50, ratio'], 2)} |"
        for way, one in results["figures"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, and write or print."""
    parser = argparse.ArgumentParser(description="Measure searches of files that are not in memory.")
    parser.add_argument("--quick", action="store_true", help="20,000 rows, printed only")
    parser.add_argument("--ask", nargs=2, metavar=("KB", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(*options.ask)
        return 0
    rows = 20_000 if options.quick else 400_000
    with tempfile.TemporaryDirectory(prefix="cold-", dir=None if options.quick else "/var/tmp") as folder:
        build(Path(folder) / "kb", rows)
        figures = measure(Path(folder) / "kb")
    results = {"date": pages.today(), "rows": rows, "machine": machine(), "figures": figures}
    print(page(results))
    if not options.quick:
        (RESULTS / "cold.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "cold.md").write_text(page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
