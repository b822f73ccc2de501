"""Time this checkout against an earlier commit, side by side, and write eval/results/before.json and before.md.

    python eval/bench/before.py 4f0a58e              # some three minutes on two cores
    python eval/bench/before.py HEAD --rounds 10 --out DIR

Both open a collection of the same vectors in a process of their own. Rounds alternate, so that a neighbour on the same
machine slows both. A process may be slower than its twin for all its life, by where its memory lies: there are several
pairs. What counts is the median of the ratios. The data is no part of the repository: eval/README.md.
Exit 0 measured, 2 could not measure.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

_ROOT = Path(__file__).resolve().parents[2]
ROWS, SCOPES = 20_000, 7
PAIRS = 5
OPERATIONS = {  # calls in a round
    "search(vector=)": 200,
    "search(vector=, where=)": 60,
    "search(text, mode='lexical')": 30,
    "get": 60,
    "add of 3 chunks": 30,
    "add of 1,000 chunks": 2,
    "open and first search": 3,
}


def main() -> int:
    """Measure what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description="Time this checkout against an earlier commit.")
    parser.add_argument("revision", help="commit to compare with")
    parser.add_argument(
        "--rounds",
        type=int,
        default=12,
        metavar="N",
        help="alternating rounds of each pair of processes (default %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=_ROOT / "eval" / "results", metavar="DIR")
    options = parser.parse_args()
    folder = Path(os.environ.get("REPERIO_DATA") or _ROOT.parent / "shared" / "data" / "realq")
    if not (folder / "base.f16.npy").is_file():
        print(
            f"{folder} lacks base.f16.npy; set REPERIO_DATA to a folder that has it (eval/README.md)", file=sys.stderr
        )
        return 2
    with checked_out(options.revision) as before:
        figures = _compared(before, folder, options.rounds)
    results = {
        "before": git("rev-parse", "--short", options.revision),
        "after": git("describe", "--always", "--dirty"),
        "rounds": options.rounds,
        "operations": figures,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "before.json").write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    text = to_markdown(results)
    (options.out / "before.md").write_text(text)
    print(text)
    return 0


def to_markdown(results: dict[str, Any]) -> str:
    """Return the results as a page."""
    names = results["before"], results["after"]
    rows = [
        f"| `{name}` | {one['before']:,.1f} | {one['after']:,.1f} | **{one['ratio']:.3f}** "
        f"| {one['low']:.3f} to {one['high']:.3f} |"
        for name, one in results["operations"].items()
    ]
    return "\n".join(
        [
            "# This checkout against an earlier commit",
            "",
            f"`python eval/bench/before.py {names[0]}`: {names[1]} against {names[0]}. {ROWS:,} vectors of 384 "
            "dimensions, index HNSW24,SQ8,",
            f"one thread, {PAIRS} pairs of processes, {results['rounds']} alternating rounds in each. Medians in µs "
            "per call. The ratio is the median of",
            "the rounds' ratios (below 1: quicker now), with its quartiles.",
            "",
            "| call | before | now | ratio | quartiles |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _compared(before: Path, folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in OPERATIONS}
    for _ in range(PAIRS):
        with tempfile.TemporaryDirectory(prefix="before-") as work:
            pair = [_Timed(tree, Path(work) / str(place), folder) for place, tree in enumerate((before, _ROOT))]
            for name in OPERATIONS:
                for number in range(rounds):
                    for place in (0, 1) if number % 2 else (1, 0):
                        times[name][place].append(pair[place].ask(name))
            for one in pair:
                one.end()
    return {name: _summary(*both) for name, both in times.items()}


def _summary(before: list[float], after: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles([new / old for old, new in zip(before, after, strict=True)], n=4)
    old, new = (statistics.median(some) * 1e6 for some in (before, after))
    return {"before": old, "after": new, "ratio": middle, "low": low, "high": high}


class _Timed:
    """A process that times calls of the package in *tree*."""

    def __init__(self, tree: Path, where: Path, folder: Path) -> None:
        alone = {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", __file__, "--worker", str(tree), str(where), str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | alone
        )
        self._answer()

    def ask(self, name: str) -> float:
        """Return the median time of a call, in seconds."""
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)
        return float(self._answer())

    def end(self) -> None:
        """End the process."""
        self._process.communicate("", timeout=60)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with status {self._process.wait()}")
        return line


class _Worker:
    """Makes a collection with whatever package is installed, and times calls to it."""

    def __init__(self, tree: Path, where: Path, folder: Path) -> None:
        name = next(path.parent.name for path in (tree / "src").glob("*/__init__.py"))  # it has had two
        self._package: Any = importlib.import_module(name)
        self._base = np.load(folder / "base.f16.npy", mmap_mode="r")[:ROWS].astype(np.float32)
        self._queries = np.load(folder / "queries.f16.npy").astype(np.float32)
        self._where = where
        self._added = 0
        self._kb = self._open()
        texts = (f"text number {row} of the collection" for row in range(ROWS))
        chunks = [
            self._package.Chunk(f"c{row}", text, {"n": row % 100, "scope": f"s{row % SCOPES}"})
            for row, text in enumerate(texts)
        ]
        self._kb.add(chunks, vectors=self._base)
        self._kb.optimize(index="HNSW24,SQ8")

    def time(self, name: str) -> float:
        """Return the median time of some calls, in seconds."""
        call, taken = self._call(name), []
        for number in range(OPERATIONS[name]):
            started = time.perf_counter()
            call(number)
            taken.append(time.perf_counter() - started)
        return statistics.median(taken)

    def _call(self, name: str) -> Callable[[int], object]:
        kb, queries = self._kb, self._queries
        calls: dict[str, Callable[[int], object]] = {
            "search(vector=)": lambda i: kb.search(vector=queries[i], k=10),
            "search(vector=, where=)": lambda i: kb.search(vector=queries[i], k=10, where={"n": i % 5}),
            "search(text, mode='lexical')": lambda i: kb.search(f"number {i}", mode="lexical", k=10),
            "get": lambda i: kb.get(f"c{i}"),
            "add of 3 chunks": lambda _: self._add(3),
            "add of 1,000 chunks": lambda _: self._add(1000),
            "open and first search": lambda i: self._reopened(queries[i]),
        }
        return calls[name]

    def _open(self) -> Any:
        return self._package.open(self._where, dimension=self._base.shape[1], auto_optimize=False)

    def _add(self, count: int) -> None:
        ids = range(self._added, self._added + count)
        self._added += count
        self._kb.add(
            [self._package.Chunk(f"x{i}", "some short text here", {"n": i}) for i in ids], vectors=self._base[:count]
        )

    def _reopened(self, query: Any) -> None:
        self._kb.close()
        self._kb = self._open()
        self._kb.search(vector=query, k=10)


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Yield a directory in which a commit is checked out; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="before-") as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def git(*arguments: str) -> str:
    """Return what git says."""
    return subprocess.run(["git", *arguments], cwd=_ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker = _Worker(*map(Path, sys.argv[2:]))
        print("ready", flush=True)
        for line in sys.stdin:
            print(worker.time(line.strip()), flush=True)
    else:
        raise SystemExit(main())
