"""Searches under filters, by selectivity: recall, latency beside the unfiltered search, and three databases beside it.

    python eval/bench/filtered.py --work DIR                # 100,000 rows, beside what is installed of the databases
    python eval/bench/filtered.py --peers zvec              # beside zvec alone; --peers none: alone
    python eval/bench/filtered.py --quick                   # 5,000 rows, printed only: does it run?

Filters are ranges of a field. One field is random; the other is the rank along the first principal component, so that
what passes lies at one end of all vectors, for most questions far away. Every database keeps an index of both fields,
text and metadata come with every hit, and its search knob is the least that finds 0.95 of the ten nearest without a
filter. All subjects are in one process and asked in turns, round by round. What was ingested into --work is used again.

Exit 0 measured, 1 measured and the promise not kept (recall below 0.95, hits missing), 2 could not measure.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import filtered_peers
import numpy as np
import pages
from filtered_peers import EF, ENTRIES, Filter, Subject
from measuring import FAISS_BYTES, Data, DataMissing, Figures, Floats, K, interleave, machine, p50, ratios, spread

import reperio
from reperio import Chunk, Collection
from reperio.index.library.symphony import is_installed

SHARES = (0.0001, 0.001, 0.01, 0.04, 0.1, 0.2, 0.5, 1.0)
ALONG = (0.01, 0.1, 0.5)
RECALL = 0.95
OURS, FAISS_ALONE = "Reperio", "Reperio, FAISS"
"""As `optimize` leaves it; and, where that is with a graph of SymphonyQG, as it leaves it without the extra."""

_NEW = 40
"""Filters never asked before, per share: each a range of its own."""


class Ours:
    """Reperio as `optimize` leaves it, opened read-only; *most*: bytes per vector that the index may take."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most

    def ingest(self, folder: Path, chunks: Sequence[Chunk], vectors: Floats) -> None:
        """Add everything and optimize for the recall, tuned with stored vectors as by default."""
        with reperio.open(folder / "kb", dimension=vectors.shape[1], auto_optimize=False) as kb:
            kb.add(chunks, vectors=vectors)
            kb.optimize(recall=RECALL, memory=None if self._most is None else self._most * len(vectors))

    def open(self, folder: Path) -> None:
        """Open what was ingested."""
        self.kb: Collection = reperio.open(folder / "kb", read_only=True)

    def set(self, ef: int) -> None:
        """Do nothing: the recall is stated, and 0.95 unless another one is."""

    def search(self, vector: Floats, where: Filter | None) -> list[tuple[str, str, Any]]:
        """Return ids, texts and metadata of the ten best."""
        hits = self.kb.search(vector=vector, k=K, where=tree(where))
        return [(hit.chunk.id, hit.chunk.text, hit.chunk.metadata) for hit in hits]


def tree(where: Filter | None) -> dict[str, Any] | None:
    """Return a filter in the dialect of `Collection.search`."""
    if where is None:
        return None
    name, least, below = where
    return {name: {"$lt": below}} if least == 0 else {name: {"$gte": least, "$lt": below}}


@dataclasses.dataclass(frozen=True)
class Case:
    """One filter, the rows that pass, and the exact ten nearest of those for each question."""

    name: str
    where: Filter | None
    share: float
    rows: int
    nearest: list[set[int]]


class Bench:
    """Data with the two fields, and the subjects."""

    def __init__(self, data: Data, questions: int) -> None:
        rows = data.rows
        self.vectors, self.queries = data.base, data.queries[:questions]
        first = np.linalg.svd(data.base[:20_000] - data.base.mean(0), full_matrices=False)[2][0]
        self.fields = {
            "r": np.random.default_rng(5).permutation(rows),
            "p": np.argsort(np.argsort(data.base @ first)),
        }
        self.chunks = [
            dataclasses.replace(
                chunk, metadata={**chunk.metadata, **{name: int(of[row]) for name, of in self.fields.items()}}
            )
            for row, chunk in enumerate(data.chunks)
        ]
        self._scores = data.base @ self.queries.T
        self.cases = [self._case("none", None, 1.0)]
        self.cases += [self._case("random", ("r", 0, max(1, round(rows * share))), share) for share in SHARES]
        self.cases += [self._case("first component", ("p", 0, round(rows * share)), share) for share in ALONG]

    def _case(self, name: str, where: Filter | None, share: float) -> Case:
        passing = np.arange(len(self.vectors)) if where is None else np.flatnonzero(self.fields[where[0]] < where[2])
        order = np.argsort(-self._scores[passing], axis=0, kind="stable")[:K]
        return Case(name, where, share, len(passing), [set(passing[column].tolist()) for column in order.T])

    def recall(self, subject: Subject, case: Case, count: int) -> float:
        """Return the part of the exact nearest that was found; raise where a hit is missing, or none of the filter's.

        Raises:
            RuntimeError: with what came back instead.
        """
        allowed = None if case.where is None else self.fields[case.where[0]]
        shares = []
        for query, exact in zip(self.queries[:count], case.nearest, strict=False):
            found = {int(chunk_id[1:]) for chunk_id, _, _ in subject.search(query, case.where)}
            if allowed is not None and case.where is not None and any(allowed[row] >= case.where[2] for row in found):
                raise RuntimeError(f"a hit that {case.where} does not let pass")
            if len(found) < len(exact) and isinstance(subject, Ours):
                raise RuntimeError(f"{len(found)} hits of {len(exact)} under {case.where}")
            shares.append(len(found & exact) / len(exact))
        return float(np.mean(shares))

    def settle(self, subject: Subject) -> int:
        """Set a database's knob to the least that reaches the recall without a filter; return it."""
        for ef in EF:
            subject.set(ef)
            if self.recall(subject, self.cases[0], 200) >= RECALL:
                return ef
        return EF[-1]


def measure(bench: Bench, subjects: dict[str, Subject], rounds: int, block: int) -> Figures:
    """Return, per subject and filter, recall, p50 and the ratio to the subject's own search without a filter."""
    found: Figures = {}
    for name, subject in subjects.items():
        found[name] = {"ef": bench.settle(subject), "cases": []}
        for case in bench.cases:
            # A subject that takes long is asked less.
            slow = p50(lambda query, s=subject, w=case.where: s.search(query, w), bench.queries[:5])
            count = len(bench.queries) if slow < 5000 else 100
            recall = bench.recall(subject, case, count)
            found[name]["cases"].append({"filter": case.name, "share": case.share, "rows": case.rows, "recall": recall})
        print(f"recall: {name}", file=sys.stderr, flush=True)

    def clock(subject: Subject, case: Case, slow: bool) -> Callable[[], float]:
        queries = bench.queries[: 25 if slow else block]
        return lambda: p50(lambda query: subject.search(query, case.where), queries)

    timed: dict[str, Callable[[], float]] = {}
    for at, case in enumerate(bench.cases):
        for name, subject in subjects.items():
            slow = p50(lambda query, s=subject, w=case.where: s.search(query, w), bench.queries[:5]) > 5000
            timed[f"{name} {at}"] = clock(subject, case, slow)
    times = interleave(rounds, timed)
    for name in subjects:
        for at, case in enumerate(found[name]["cases"]):
            case["p50_us"] = spread(times[f"{name} {at}"])
            case["ratio"] = ratios(times[f"{name} {at}"], times[f"{name} 0"])
    return found


def unseen(bench: Bench, kb: Collection) -> list[Figures]:
    """Return p50 of searches under filters that were never asked before: evaluated, planned and searched anew."""
    rows, found = len(bench.vectors), []
    for share in SHARES[:-1]:
        width = max(1, round(rows * share))
        starts = np.linspace(1, rows - width, _NEW).astype(int).tolist()
        filters = [tree(("r", start, start + width)) for start in dict.fromkeys(starts)]
        pairs = list(zip(bench.queries, filters, strict=False))
        found.append({"share": share, "p50_us": p50(lambda pair: kb.search(vector=pair[0], k=K, where=pair[1]), pairs)})
    return found


def at_once(bench: Bench, kb: Collection, rounds: int) -> list[Figures]:
    """Return µs per query of `search_many` under the random filters, and the ratio to it without one."""

    def batch(where: Filter | None) -> Callable[[], float]:
        def ask() -> float:
            started = time.perf_counter()
            kb.search_many(vectors=bench.queries, k=K, where=tree(where))
            return 1e6 * (time.perf_counter() - started) / len(bench.queries)

        return ask

    cases = [case for case in bench.cases if case.name != "first component"]
    times = interleave(rounds, {str(at): batch(case.where) for at, case in enumerate(cases)})
    return [
        {
            "filter": case.name,
            "share": case.share,
            "us_per_query": spread(times[str(at)]),
            "ratio": ratios(times[str(at)], times["0"]),
        }
        for at, case in enumerate(cases)
    ]


def to_markdown(results: Figures) -> str:
    """Return filtered.md for the content of filtered.json."""
    names = list(results["subjects"])
    indexes = "; ".join(
        f"{name}: `{one['index']}`, {one['bytes_per_vector']:.0f} bytes per vector"
        for name, one in results["own"].items()
    )
    lines = [
        "# Searches under filters",
        "",
        f"{results['rows']:,} × {results['dimension']}, k = {K}, {results['questions']} held-out questions one by one, "
        f"chunks included. {indexes}. "
        f"The ratio is to the same subject's search without a filter, round by round (median of {results['rounds']}). "
        + results["note"],
        "",
        "| filter | share | " + " | ".join(f"{name}: recall | p50 µs | ratio" for name in names) + " |",
        "|---|---|" + "---|---|---|" * len(names),
    ]
    for at, case in enumerate(results["subjects"][names[0]]["cases"]):
        cells = []
        for name in names:
            one = results["subjects"][name]["cases"][at]
            cells.append(f"{one['recall']:.3f} | {one['p50_us']['median']:,.0f} | {one['ratio']['median']:.2f}")
        lines.append(f"| {case['filter']} | {_percent(case['share'])} | " + " | ".join(cells) + " |")
    own = results["own"]
    lines += [
        "",
        "A filter never asked before (evaluated, planned, searched), p50 µs:",
        "",
        "| share | " + " | ".join(own) + " |",
        "|---|" + "---|" * len(own),
    ]
    for at, share in enumerate(SHARES[:-1]):
        cells = [f"{one['unseen'][at]['p50_us']:,.0f}" for one in own.values()]
        lines.append(f"| {_percent(share)} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "`search_many`, all questions at once, µs per query:",
        "",
        "| filter | share | " + " | ".join(f"{name} | ratio" for name in own) + " |",
        "|---|---|" + "---|---|" * len(own),
    ]
    for at, case in enumerate(next(iter(own.values()))["at_once"]):
        found = [one["at_once"][at] for one in own.values()]
        cells = [f"{one['us_per_query']['median']:.0f} | {one['ratio']['median']:.2f}" for one in found]
        lines.append(f"| {case['filter']} | {_percent(case['share'])} | " + " | ".join(cells) + " |")
    settings = ", ".join(f"{name} ef {found['ef']}" for name, found in results["subjects"].items() if name not in own)
    lines += [
        "",
        f"Settings: {settings or 'none'}. Releases: {results['releases']}. Machine: {results['machine']['cpu']}, "
        f"{results['machine']['cores']} cores; load before the run {results['load']}. {results['date']}.",
        "",
    ]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _importable(names: Sequence[str]) -> list[filtered_peers.Entry]:
    found = []
    for entry in ENTRIES:
        if names and entry.name.lower() not in names:
            continue
        try:
            importlib.import_module(entry.module)
        except ImportError as error:
            print(f"without {entry.name}: {error}", file=sys.stderr)
        else:
            found.append(entry)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure searches under filters.")
    parser.add_argument("--rows", type=int)
    parser.add_argument(
        "--peers", nargs="*", default=[], metavar="NAME", help="zvec chroma lancedb, or none; default all"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--block", type=int, default=200, help="questions per subject, filter and round")
    parser.add_argument("--quick", action="store_true", help="few rows and questions, printed only: does it run?")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps what was ingested")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default eval/results, unless --quick")
    parser.add_argument("--note", default="", help="kept with the figures, e.g. that the machine was shared")
    options = parser.parse_args(arguments)
    if options.quick:
        options.questions, options.block, options.rounds = 60, 30, 2
    load = round(os.getloadavg()[0], 2)
    try:
        bench = Bench(
            Data(pages.data_folder(), options.rows or (5000 if options.quick else 100_000)), options.questions
        )
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 2
    entries = [] if options.peers == ["none"] else _importable([name.lower() for name in options.peers])
    with tempfile.TemporaryDirectory(prefix="reperio-filtered-") as temporary:
        results = _run(bench, entries, options, options.work or Path(temporary))
    results |= {"note": options.note, "load": load, "date": pages.today(), "machine": machine()}
    page = to_markdown(results)
    out = options.out or (None if options.quick else pages.RESULTS)
    if out is not None:
        pages.write(out, "filtered", results, page)
    print(page)
    cases = [case for name in results["own"] for case in results["subjects"][name]["cases"]]
    return 1 if any(case["recall"] < RECALL for case in cases) else 0


def _run(bench: Bench, entries: list[filtered_peers.Entry], options: argparse.Namespace, work: Path) -> Figures:
    own = {OURS: Ours()} | ({FAISS_ALONE: Ours(FAISS_BYTES)} if is_installed() else {})
    subjects: dict[str, Subject] = {**own} | {entry.name: entry.make() for entry in entries}
    for name, subject in subjects.items():
        folder = work / f"{name}-{len(bench.vectors)}"
        done = folder.with_suffix(".done")  # written last: without it, what is in the folder was cut short
        if not done.exists():
            folder.mkdir(parents=True)
            started = time.monotonic()
            subject.ingest(folder, bench.chunks, bench.vectors)
            done.write_text(f"{time.monotonic() - started:.0f} s\n")
            print(f"ingested: {name}, {done.read_text().strip()}", file=sys.stderr, flush=True)
        subject.open(folder)
    measured = measure(bench, subjects, options.rounds, options.block)
    return {
        "rows": len(bench.vectors),
        "dimension": bench.vectors.shape[1],
        "questions": len(bench.queries),
        "rounds": options.rounds,
        "subjects": measured,
        "own": {name: _own(bench, ours.kb, options.rounds) for name, ours in own.items()},
        "releases": _releases(entries),
    }


def _own(bench: Bench, kb: Collection, rounds: int) -> Figures:
    """Return what is measured of Reperio alone."""
    info = kb.info().index
    assert info is not None
    return {
        "index": info.factory,
        "bytes_per_vector": info.bytes / info.rows,
        "unseen": unseen(bench, kb),
        "at_once": at_once(bench, kb, rounds),
    }


def _releases(entries: list[filtered_peers.Entry]) -> str:
    from importlib.metadata import version

    named = [f"{entry.name} {version(entry.module)}" for entry in entries]
    return ", ".join([f"Reperio {reperio.__version__}", *named])


if __name__ == "__main__":
    sys.exit(main())
