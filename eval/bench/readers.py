"""Open a collection in fresh processes, with this checkout and an earlier commit: how long it takes, and what memory.

    python eval/bench/readers.py 0dfe931 COLLECTION…      # some minutes; writes eval/results/readers.json and .md
    python eval/bench/readers.py HEAD COLLECTION --rounds 2 --readers 2 --out DIR

Each round opens every collection once with either checkout, in processes of their own, in turn: once to warm up, which
is also where this checkout verifies the index and remembers it. Times are those of a clock and of the processor: on a
shared machine only the second says anything by itself. Then several readers are alive at once. Questions are the
held-out ones of eval/README.md; the collections are of the same dimension. Exit 0 measured, 2 could not measure.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from before import checked_out, git

_ROOT = Path(__file__).resolve().parents[2]
_FIRST = 500  # searches of the first pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    options = _parser().parse_args(arguments)
    if options.child:
        _child(options.collections[0])
        return 0
    if not options.questions.is_file():
        print(f"{options.questions} is not there; set REPERIO_DATA (eval/README.md)", file=sys.stderr)
        return 2
    with checked_out(options.revision) as before, tempfile.TemporaryDirectory(prefix="reperio-readers-") as cache:
        sides = {"before": before / "src", "now": _ROOT / "src"}
        found = [_measured(Path(path), sides, options, cache) for path in options.collections]
    results = {
        "before": git("rev-parse", "--short", options.revision),
        "after": git("describe", "--always", "--dirty"),
        "rounds": options.rounds,
        "readers": options.readers,
        "load_before": round(os.getloadavg()[2], 1),
        "collections": found,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "readers.json").write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    page = to_markdown(results)
    (options.out / "readers.md").write_text(page)
    print(page)
    return 0


def _parser() -> argparse.ArgumentParser:
    data = Path(os.environ.get("REPERIO_DATA") or _ROOT.parent / "shared" / "data" / "realq")
    parser = argparse.ArgumentParser(description="Time opening, and measure the memory of readers.")
    parser.add_argument("revision", help="commit to compare with")
    parser.add_argument("collections", nargs="+", help="directories of optimized collections")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--readers", type=int, default=8, metavar="N", help="processes alive at once")
    parser.add_argument("--questions", type=Path, default=data / "queries.f16.npy", metavar="FILE")
    parser.add_argument("--out", type=Path, default=_ROOT / "eval" / "results", metavar="DIR")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


class _Reader:
    """A process that has opened a collection and searched it, and waits."""

    def __init__(self, collection: Path, source: Path, options: argparse.Namespace, cache: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "-", str(collection), "--questions", str(options.questions), "--child"],
            env={**os.environ, "PYTHONPATH": str(source), "XDG_CACHE_HOME": cache},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def told(self) -> dict[str, Any]:
        """Wait for what it has measured."""
        assert self._process.stdout is not None
        found: dict[str, Any] = orjson.loads(self._process.stdout.readline())
        return found

    def memory(self) -> float:
        """Return its memory in MiB, of shared pages its part."""
        return memory(self._process.pid)

    def end(self) -> None:
        self._process.communicate()


def memory(pid: int | str) -> float:
    """Return the proportional set size of a process in MiB: its own pages, and its part of those it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (size,) = (int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return size / 1024


def _measured(collection: Path, sides: dict[str, Path], options: argparse.Namespace, cache: str) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(options.rounds + 1):
        for name, source in sides.items():
            reader = _Reader(collection, source, options, cache)
            found = reader.told()
            reader.end()
            if number:
                rounds[name].append(found)
    figures: dict[str, Any] = {"rows": rounds["now"][0]["rows"], "index": rounds["now"][0]["index"]}
    for name, source in sides.items():
        figures[name] = _summary(rounds[name]) | _together(collection, source, options, cache)
    return figures


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    names = [name for name in rounds[0] if name not in ("rows", "index")]
    return {name: round(statistics.median(one[name] for one in rounds), 2) for name in names}


def _together(collection: Path, source: Path, options: argparse.Namespace, cache: str) -> dict[str, Any]:
    """Return the memory of one reader that is alone, and of several, with what they took before they opened it."""
    found: dict[str, Any] = {}
    for count in (1, options.readers):
        readers = [_Reader(collection, source, options, cache) for _ in range(count)]
        empty = sum(reader.told()["empty_mib"] for reader in readers)
        found[f"mib_{count}"] = round(sum(reader.memory() for reader in readers))
        found[f"mib_{count}_empty"] = round(empty)
        for reader in readers:
            reader.end()
    return found


def _child(path: str) -> None:
    """Open, search, tell what it took, and wait for the end of the input."""
    import reperio
    from reperio.index.library.loading import load_faiss

    load_faiss()
    options = _parser().parse_args()
    questions = np.load(options.questions).astype(np.float32)
    questions /= np.linalg.norm(questions, axis=1, keepdims=True)
    empty = memory("self")
    clock, processor = time.perf_counter(), time.process_time()
    kb = reperio.open(path, read_only=True)
    kb.search(vector=questions[0], k=10)
    took = {"open_ms": (time.perf_counter() - clock) * 1e3, "open_cpu_ms": (time.process_time() - processor) * 1e3}
    first = _microseconds(kb, questions[:_FIRST])
    _microseconds(kb, questions)
    later = _microseconds(kb, questions)
    info = kb.info()
    told = took | {
        "first_p50_us": float(np.median(first)),
        "first_p99_us": float(np.percentile(first, 99)),
        "later_p50_us": float(np.median(later)),
        "later_p99_us": float(np.percentile(later, 99)),
        "empty_mib": empty,
        "rows": info.count,
        "index": info.index.factory if info.index else "exact",
    }
    print(orjson.dumps(told).decode(), flush=True)
    sys.stdin.read()


def _microseconds(kb: Any, questions: Any) -> Any:
    """Return what each search takes of this thread's processor time: a neighbour on the machine is not in it."""
    clock, took = time.thread_time_ns, []
    for question in questions:
        before = clock()
        kb.search(vector=question, k=10)
        took.append(clock() - before)
    return np.array(took) / 1000


def to_markdown(results: dict[str, Any]) -> str:
    """Return the results as a page."""
    count = results["readers"]
    lines = [
        "# Opening, and many readers",
        "",
        f"`python eval/bench/readers.py {results['before']} …`: {results['after']} against {results['before']}.",
        f"Medians of {results['rounds']} rounds of fresh processes, read-only, files in the page cache.",
        "Now, the index was verified before, and that is remembered.",
        "",
        "- Open: with the first search, after imports.",
        "- Searches: real held-out questions, first and later; µs of the thread's processor time.",
        f"- Memory: sum of the proportional set sizes after 2,500 searches each, of one reader alone and of {count},",
        "  without what Python, NumPy, FAISS and Reperio take before they open anything (in brackets: with it).",
        f"- Load average before: {results['load_before']}.",
        "",
        f"| rows, index | | open, ms | CPU ms | first {_FIRST}: p50, p99 | later: p50, p99 | first p99 ÷ later p50 "
        f"| 1 reader, MiB | {count} readers | ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        _line(f"{one['rows']:,}, `{one['index']}`", side, one[side], count)
        for one in results["collections"]
        for side in ("before", "now")
    ]
    return "\n".join(lines) + "\n"


def _line(what: str, side: str, found: dict[str, Any], count: int) -> str:
    alone, together = found["mib_1"], found[f"mib_{count}"]
    own, all_own = alone - found["mib_1_empty"], together - found[f"mib_{count}_empty"]
    return (
        f"| {what} | {side} | {found['open_ms']:,.0f} | {found['open_cpu_ms']:,.0f} "
        f"| {found['first_p50_us']:,.0f}, {found['first_p99_us']:,.0f} "
        f"| {found['later_p50_us']:,.0f}, {found['later_p99_us']:,.0f} "
        f"| {found['first_p99_us'] / found['later_p50_us']:.2f} "
        f"| {own:,} ({alone:,}) | {all_own:,} ({together:,}) | {all_own / own:.2f} ({together / alone:.2f}) |"
    )


if __name__ == "__main__":
    sys.exit(main())
