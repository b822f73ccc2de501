"""How the time of a search grows with the collection, with the index that `optimize` chooses at each size.

    python eval/bench/growth.py --vectors grown.npy   # an hour on two cores; writes eval/results/growth.*
    python eval/bench/growth.py                       # grows the vectors first, among the other temporary files
    python eval/bench/growth.py --quick               # small sizes, printed only (unless --out says where to)

Half of the real held-out queries go to `optimize`, the other half measures. All sizes are timed in interleaved rounds,
on one thread, once without and once with fetching chunks; then each is opened in fresh processes, in turns, with the
files in the page cache. Where rabitqlib is installed each size is optimized twice: as by default, and within a memory
that only an index of FAISS keeps to, which is what `optimize` does without rabitqlib. The vectors are float16 (n, 384),
grown from the real ones by shared/tools/grow.py; the first N of them are the collection of N.

The data is no part of the repository: eval/README.md. Exit 0 measured, 2 could not measure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pages
import plots
from clustered import passages
from measuring import FAISS_BYTES, Data, DataMissing, Figures, Floats, K, interleave, knn_recall, machine, p50, spread
from truth import Nearest

import reperio
from reperio import Collection
from reperio.index import Target, search_one
from reperio.index.library.symphony import NARROWEST, is_installed
from reperio.types import IndexInfo

RECALLS = (0.75, 0.95, 0.99)
PAPER = {0.75: 0.30, 0.99: 0.45}
"""Exponents of time against N in the Faiss paper, by recall."""

AS_BY_DEFAULT, FAISS_ALONE = "as by default", "FAISS alone"
_BLOCK = 20_000


@dataclass(frozen=True)
class Scale:
    """How much is measured: numbers of vectors, and interleaved rounds."""

    sizes: tuple[int, ...]
    rounds: int


FULL = Scale((10_000, 30_000, 100_000, 300_000, 1_000_000), 7)
QUICK = Scale((1500, 3000), 2)


@dataclass(frozen=True, eq=False)
class Subject:
    """A collection of one size, optimized for one recall."""

    rows: int
    recall: float
    engine: str  # "" where there is one only
    kb: Collection
    target: Target
    info: IndexInfo | None
    seconds: float

    def part(self, query: Floats) -> tuple[list[int], list[float]]:
        """Search without fetching chunks."""
        return search_one(self.target, query, K, self.recall)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    options = _parser().parse_args(arguments)
    scale = QUICK if options.quick else FULL
    load, started = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reperio-growth-", dir=options.work) as directory, ExitStack() as stack:
        try:
            queries = Data(pages.data_folder(), 1).queries
            grown = _grown(options.vectors, Path(directory), max(scale.sizes))
        except DataMissing as error:
            print(error, file=sys.stderr)
            return 2
        half = len(queries) // 2
        subjects: list[Subject] = []
        nearest = {}
        for rows, path, exact in _growing(grown, queries[half:], scale.sizes, Path(directory) / "growing"):
            nearest[rows] = exact
            subjects += [
                _optimized(path, rows, recall, engine, queries[:half], stack)
                for recall in options.recalls
                for engine in _engines(grown.shape[1])
            ]
        asked = Path(directory) / "queries.npy"
        np.save(asked, queries[half:])
        figures = _measured(subjects, queries[half:], nearest, scale.rounds, asked)
    results = {
        "machine": machine(),
        "date": pages.today(),
        "quick": options.quick,
        "dimension": int(grown.shape[1]),
        "queries": len(queries) - half,
        "rounds": scale.rounds,
        "seconds": round(time.monotonic() - started),
        "load_before": round(load, 2),
        "note": options.note,
        **figures,
    }
    page = pages.growth(results)
    print(page)
    out = options.out or (None if options.quick else pages.RESULTS)
    if out is not None:
        pages.write(out, "growth", results, page)
        plots.growth(results, out / "growth.svg")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how the time of a search grows.")
    parser.add_argument("--vectors", type=Path, metavar="FILE", help="grown vectors, .npy; default: grow them")
    parser.add_argument("--work", type=Path, metavar="DIR", help="for temporary files, some 12 GB; default /tmp")
    parser.add_argument(
        "--recalls", type=lambda text: [float(part) for part in text.split(",")], default=list(RECALLS), metavar="R,…"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; default eval/results, unless --quick")
    parser.add_argument("--note", default="", help="kept with the figures, e.g. that the machine was shared")
    return parser


def _grown(given: Path | None, directory: Path, rows: int) -> npt.NDArray[np.float16]:
    """Map the grown vectors, made if need be."""
    path = given or directory / "grown.npy"
    if given is None:
        tool = pages.data_folder().parents[1] / "tools" / "grow.py"
        if not tool.is_file():
            raise DataMissing(f"{tool} is not there to grow the vectors with; pass --vectors FILE (eval/README.md)")
        _say(f"growing {rows:,} vectors …")
        subprocess.run([sys.executable, str(tool), str(rows), str(path)], check=True)
    if not path.is_file():
        raise DataMissing(f"{path} is not there; leave --vectors out to grow the vectors")
    found: npt.NDArray[np.float16] = np.load(path, mmap_mode="r")
    if len(found) < rows:
        raise DataMissing(f"{path} holds {len(found):,} vectors; {rows:,} are needed")
    return found


def _growing(
    grown: npt.NDArray[np.float16], queries: Floats, sizes: Sequence[int], path: Path
) -> Iterator[tuple[int, Path, npt.NDArray[np.int64]]]:
    """Yield each size with a collection of that many rows and the exact ten nearest of each query."""
    nearest, done = Nearest(queries), 0
    for rows in sizes:
        with reperio.open(path, dimension=grown.shape[1], auto_optimize=False) as kb:
            for low in range(done, rows, _BLOCK):
                high = min(low + _BLOCK, rows)
                block = grown[low:high].astype(np.float32)
                block /= np.linalg.norm(block, axis=1, keepdims=True)
                nearest.show(block)
                kb.add(passages(low, high), vectors=block, batch_size=_BLOCK)
        done = rows
        yield rows, path, nearest.rows()


def _engines(dimension: int) -> tuple[str, ...]:
    return (AS_BY_DEFAULT, FAISS_ALONE) if is_installed() and dimension >= NARROWEST else ("",)


def _optimized(path: Path, rows: int, recall: float, engine: str, queries: Floats, stack: ExitStack) -> Subject:
    copy = path.with_name(f"{rows}-{recall}-{engine}")
    with reperio.open(path, read_only=True) as kb:
        kb.backup(copy)
    kb = stack.enter_context(reperio.open(copy, auto_optimize=False))
    started = time.perf_counter()
    info = kb.optimize(recall=recall, queries=queries, memory=FAISS_BYTES * rows if engine == FAISS_ALONE else None)
    seconds = time.perf_counter() - started
    kb.search(vector=queries[0], k=K)
    view = kb._handle.generation.latest
    assert view is not None  # a search has just made it
    _say(f"{rows:,} rows, recall {recall} {engine}: {info.factory if info else 'exact'}, {seconds:.0f} s")
    return Subject(rows, recall, engine, kb, view.target, info, seconds)


def _found(one: Subject, query: Floats) -> object:
    return one.kb.search(vector=query, k=K, recall=one.recall)


def _measured(
    subjects: list[Subject],
    queries: Floats,
    nearest: dict[int, npt.NDArray[np.int64]],
    rounds: int,
    asked: Path,
) -> Figures:
    blocks: dict[str, Callable[[], float]] = {}
    for number, one in enumerate(subjects):
        blocks[f"{number} part"] = partial(p50, one.part, queries)
        blocks[f"{number} search"] = partial(p50, partial(_found, one), queries)
    for run in blocks.values():
        run()  # warm
    times = interleave(rounds, blocks)
    opened: dict[str, list[Figures]] = {}
    interleave(rounds, {str(number): partial(_opened, one, asked, opened) for number, one in enumerate(subjects)})
    measured = [
        {
            "recall": one.recall,
            "engine": one.engine,
            "rows": one.rows,
            "index": one.info.factory if one.info else "exact",
            "bytes_per_vector": round(one.info.bytes / one.info.rows, 1) if one.info else 0.0,
            "optimize_seconds": round(one.seconds, 1),
            "knn_recall": knn_recall([one.part(query)[0] for query in queries], nearest[one.rows]),
            "p50_us": spread(times[f"{number} part"]),
            "search_p50_us": spread(times[f"{number} search"]),
            "open_and_first_search_ms": spread([1000 * each["both_s"] for each in opened[one.kb.info().path]]),
            "first_pass_us": {
                at: spread([each["first_pass_us"][at] for each in opened[one.kb.info().path]]) for at in ("p50", "p99")
            },
        }
        for number, one in enumerate(subjects)
    ]
    ways = sorted({(one.recall, one.engine) for one in subjects})
    measured.sort(key=lambda one: (one["recall"], one["engine"], one["rows"]))
    return {"measured": measured, "fits": [_fit(*way, measured) for way in ways]}


def _opened(one: Subject, asked: Path, opened: dict[str, list[Figures]]) -> float:
    """Open a collection in a fresh process, search, and note what it took."""
    child = Path(__file__).with_name("open_once.py")
    path = one.kb.info().path
    command = [sys.executable, "-W", "ignore", str(child), path, str(asked), "read_only", str(one.recall)]
    found: Figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    opened.setdefault(path, []).append(found)
    return float(found["both_s"])


def _fit(recall: float, engine: str, measured: list[Figures]) -> Figures:
    """Fit t = t₀ · N^α by least squares in logarithms."""
    mine = [one for one in measured if (one["recall"], one["engine"]) == (recall, engine)]
    sizes = np.log([one["rows"] for one in mine])
    times = np.log([one["p50_us"]["median"] for one in mine])
    alpha, start = np.polyfit(sizes, times, 1)
    off = np.abs(np.exp(times - start - alpha * sizes) - 1).max()
    return {
        "recall": recall,
        "engine": engine,
        "t0_us": round(float(np.exp(start)), 4),
        "alpha": round(float(alpha), 3),
        "largest_deviation": round(float(off), 3),
        "paper_alpha": PAPER.get(recall),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
