"""Measure what it costs that several processes write one collection, and write eval/results/turns.{json,md}.

    python eval/bench/turns.py

Processes add to a new collection all at once: batches of 1,000, 10 and 1 chunks of 384 dimensions. Their sum is
compared with one process that adds the same alone, round by round. Each wait for a turn is timed, and the turns counted
that others had meanwhile. Last, one process searches while others add.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from measuring import Figures, interleave, machine, ratios, spread
from turn_process import DIMENSION, chunks, vectors

import reperio

RESULTS = Path(__file__).resolve().parents[1] / "results"
TOGETHER = 4
TARGET = 0.8
ADDS = {1000: 24, 10: 480, 1: 480}
"""Adds in a round by chunks in each, in sum over all processes."""

WRITERS = (2, 4, 8)
WAITED = {1000: 32, 10: 800}
"""Adds in sum by chunks in each, where waits are timed."""

ROWS, SECONDS = 10_000, 4.0
SEARCHED = {
    "nobody writes": (0, 0.0),
    "1 writer, 20 adds a second": (1, 0.05),
    "4 writers, 20 adds a second each": (4, 0.05),
    "1 writer without a pause": (1, 0.0),
    "4 writers without a pause": (4, 0.0),
}
"""Writers, and the seconds that each pauses after an add of ten chunks."""
_ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Processes:
    """Processes that do tasks, all at the same time.

    Args:
        count: how many there are at most.
        work: where collections are made.
    """

    def __init__(self, count: int, work: Path) -> None:
        self._work = work
        command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("turn_process.py"))]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._running = [subprocess.Popen(command, **pipes) for _ in range(count)]

    def do(self, tasks: Sequence[Figures], path: Path) -> list[Any]:
        """Have each task done by a process of its own, begun when all are ready, and return what came of them."""
        doing = list(zip(self._running, tasks, strict=False))
        for process, task in doing:
            _tell(process, {**task, "path": str(path)})
        for process, _ in doing:
            _answer(process)
        for process, _ in doing:
            _tell(process, "go")
        return [_answer(process) for process, _ in doing]

    def add(self, writers: int, batch: int, adds: int) -> list[Any]:
        """Add to a new collection, with so many writers."""
        path = self._work / "kb"
        reperio.open(path, dimension=DIMENSION, auto_optimize=False).close()
        tasks = [{"what": "add", "writer": n, "batch": batch, "batches": adds // writers} for n in range(writers)]
        try:
            return self.do(tasks, path)
        finally:
            shutil.rmtree(path)

    def end(self) -> None:
        """End them."""
        for process in self._running:
            process.communicate(timeout=60)


def main() -> int:
    """Measure, write the page and print it; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure several processes that write one collection.")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="interleaved (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two short rounds, only printed: does it run?")
    parser.add_argument("--work", type=Path, help="where collections are made: a disk (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args()
    os.environ |= _ALONE
    rounds, share = (2, 8) if options.quick else (options.rounds, 1)
    with tempfile.TemporaryDirectory(prefix="turns-", dir=options.work) as folder:
        processes = Processes(max(WRITERS), Path(folder))
        results: Figures = {
            "machine": machine(),
            "load_before": os.getloadavg()[0],
            "rounds": rounds,
            "sum": {batch: _summed(processes, rounds, batch, adds // share) for batch, adds in ADDS.items()},
            "waits": {batch: _waited(processes, rounds, batch, adds // share) for batch, adds in WAITED.items()},
            "search": _searched(processes, Path(folder), rounds, share),
        }
        processes.end()
    text = to_markdown(results)
    if not options.quick:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "turns.json").write_bytes(
            orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
        )
        (options.out / "turns.md").write_text(text)
    print(text)
    return 0


def _summed(processes: Processes, rounds: int, batch: int, adds: int) -> Figures:
    """Return chunks per second, of one process and of four in sum."""

    def rate(writers: int) -> float:
        done = processes.add(writers, batch, adds)
        seconds = max(one["ended"] for one in done) - min(one["began"] for one in done)
        return float(adds // writers * writers * batch / seconds)

    found = interleave(rounds, {str(writers): partial(rate, writers) for writers in (1, TOGETHER)})
    return {
        "alone": spread(found["1"]),
        "together": spread(found[str(TOGETHER)]),
        "ratio": ratios(found[str(TOGETHER)], found["1"]),
    }


def _waited(processes: Processes, rounds: int, batch: int, adds: int) -> dict[int, Figures]:
    """Return by number of writers how long they have waited for a turn, and for how many of others."""
    seconds: dict[int, list[list[float]]] = {writers: [] for writers in WRITERS}
    turns: dict[int, list[int]] = {writers: [] for writers in WRITERS}

    def wait(writers: int) -> float:
        for one in processes.add(writers, batch, max(adds, writers)):
            seconds[writers].append([1000 * wait for wait in one["waits"]])
            turns[writers] += one["turns"]
        return 0.0

    interleave(rounds, {str(writers): partial(wait, writers) for writers in WRITERS})
    return {writers: _waits(seconds[writers], turns[writers]) for writers in WRITERS}


def _waits(seconds: list[list[float]], turns: list[int]) -> Figures:
    every = [wait for one in seconds for wait in one]
    by_process = [float(np.percentile(one, 99)) for one in seconds]
    return {
        "waits": len(every),
        "p50_ms": float(np.percentile(every, 50)),
        "p99_ms": float(np.percentile(every, 99)),
        "worst_p99_ms": max(by_process),
        "max_ms": max(every),
        "turns_p50": float(np.percentile(turns, 50)),
        "turns_p99": float(np.percentile(turns, 99)),
        "turns_max": max(turns),
    }


def _searched(processes: Processes, work: Path, rounds: int, share: int) -> dict[str, Figures]:
    """Return how long searches take while others write."""
    made, rows, seconds = work / "made", ROWS // share, SECONDS / share
    with reperio.open(made, dimension=DIMENSION, auto_optimize=False) as kb:
        kb.add(chunks("made", rows, 7), vectors=vectors(rows, 7))
        kb.optimize(index="HNSW24,SQ8", queries=vectors(200, 8))
    taken: dict[str, list[list[float]]] = {name: [] for name in SEARCHED}

    def search(name: str) -> float:
        path = work / "searched"
        shutil.copytree(made, path)
        writers, pause = SEARCHED[name]
        adding = {"what": "add", "batch": 10, "kept": 100, "pause": pause, "seconds": seconds}
        tasks = [{"what": "search", "seconds": seconds}, *({**adding, "writer": n} for n in range(writers))]
        taken[name].append([1e6 * one for one in processes.do(tasks, path)[0]["searches"]])
        shutil.rmtree(path)
        return 0.0

    interleave(rounds, {name: partial(search, name) for name in SEARCHED})
    return {name: _quantiles(runs, taken["nobody writes"]) for name, runs in taken.items()}


def _quantiles(runs: list[list[float]], quiet: list[list[float]]) -> Figures:
    p50, p99 = ([float(np.percentile(one, share)) for one in runs] for share in (50, 99))
    return {
        "searches": sum(map(len, runs)),
        "p50_us": spread(p50),
        "p99_us": spread(p99),
        "p50_ratio": ratios(p50, [float(np.percentile(one, 50)) for one in quiet]),
    }


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return the results as a page."""
    about = results["machine"]
    summed = [
        f"| {batch:,} | {one['alone']['median']:,.0f} | {one['together']['median']:,.0f} "
        f"| **{one['ratio']['median']}** | {one['ratio']['low']} to {one['ratio']['high']} |"
        for batch, one in results["sum"].items()
    ]
    waited = [
        f"| {batch:,} | {writers} | {one['p50_ms']:.2f} | {one['p99_ms']:.1f} | {one['worst_p99_ms']:.1f} "
        f"| {one['max_ms']:.1f} | {one['turns_p50']:.0f} | {one['turns_p99']:.0f} | {one['turns_max']} |"
        for batch, by_writers in results["waits"].items()
        for writers, one in by_writers.items()
    ]
    searched = [
        f"| {name} | {one['searches']:,} | {one['p50_us']['median']:,.0f} | {one['p99_us']['median']:,.0f} "
        f"| {one['p50_ratio']['median']} |"
        for name, one in results["search"].items()
    ]
    return "\n".join(
        [
            "# Writers that take turns",
            "",
            f"`python eval/bench/turns.py`: {about['cpu']}, {about['cores']} cores, Python {about['python']}, apsw's "
            f"SQLite {about['sqlite_of_apsw']}; load {results['load_before']:.1f} before it began.",
            f"Chunks of about 700 bytes and {DIMENSION} dimensions. {results['rounds']} rounds, in which what is "
            "compared alternates.",
            "The machine is shared with other work: ratios, taken round by round, say more than rates and times.",
            "",
            "## Four processes in sum, against one alone",
            "",
            f"Chunks per second until all are durable; the same number of adds in both. Target: {TARGET} of one alone.",
            "",
            f"| chunks per add | one alone | {TOGETHER} in sum | ratio, median | least to greatest |",
            "|---:|---:|---:|---:|---|",
            *summed,
            "",
            "## The wait for a turn",
            "",
            "All add without a pause. Milliseconds from asking to having the turn. Worst p99: of the process and round "
            "that had the greatest. Turns: of others, that ended",
            "while somebody waited. In perfect rotation these are at most the number of writers.",
            "",
            "| chunks per add | writers | p50 | p99 | worst p99 | max | turns p50 | p99 | max |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            *waited,
            "",
            "## Searches meanwhile",
            "",
            f"One process searches {ROWS:,} rows and what is added (k=10, HNSW24,SQ8), others add ten chunks at a "
            "time. Medians of the rounds, in µs.",
            "Without a pause, the writers also take processor time from the process that searches: there are "
            f"{about['cores']} cores.",
            "",
            "| meanwhile | searches | p50 | p99 | p50, to nobody writing |",
            "|---|---:|---:|---:|---:|",
            *searched,
            "",
        ]
    )


def _tell(process: Any, what: Any) -> None:
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()


def _answer(process: Any) -> Any:
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a process ended with status {process.wait()}")
    return json.loads(line)


if __name__ == "__main__":
    raise SystemExit(main())
