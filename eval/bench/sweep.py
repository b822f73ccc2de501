"""Hold what `optimize` chooses against the best of an exhaustive sweep of FAISS's families and of SymphonyQG's.

    python eval/bench/sweep.py                  # some 35 minutes on two cores; writes eval/results/sweep.*
    python eval/bench/sweep.py --everything     # every graph at every efConstruction, and OPQ
    python eval/bench/sweep.py --quick          # small sizes, printed only (unless --out says where to)

One thread, single queries, k = 10, everything rescored exactly from the float32 vectors; no chunks on either side. Half
of the held-out queries go to `optimize`, which measures with them; recall and time of both sides come from the other
half. The settings of the bare indexes are thus chosen by the very queries they are judged by, and ours are not.

Where rabitqlib is installed its graphs take part, and `optimize` chooses once more within a memory that only an index
of FAISS keeps to: that is what it does without rabitqlib.

The data is no part of the repository: eval/README.md. Exit 0 measured, 2 could not measure.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import engine_families
import numpy as np
import numpy.typing as npt
import pages
import plots
from faiss_families import PLAN, SMALL, Built, Graph, Sizes, Workshop
from measuring import (
    FAISS_BYTES,
    Data,
    DataMissing,
    Figures,
    Floats,
    K,
    interleave,
    knn_recall,
    machine,
    p50,
    ratios,
    spread,
)
from racing import KEPT, LEVELS, Race, Setting, Sweep

import reperio
from reperio import Chunk
from reperio.index import Target, cheapest, search_one
from reperio.types import IndexInfo, OperatingPoint

Goal: TypeAlias = tuple[float, str | None]
"""Recall, and the way of choosing whose memory is kept to; None: any memory."""

FAISS_ALONE = "latency, FAISS alone"
ROOM = 1.5
"""Memory that the best may take, times what `optimize` chose."""

TARGET = 1.05
"""p50 of what `optimize` chose, over that of the best: at most."""


@dataclass(frozen=True)
class Scale:
    """How much is measured: rows, queries of a first timing, interleaved rounds at the end, and what is built."""

    rows: int
    first: int
    rounds: int
    sizes: Sizes


FULL = Scale(100_000, 300, 7, PLAN)
QUICK = Scale(3000, 40, 3, SMALL)


@dataclass(frozen=True, eq=False)
class Ours:
    """What `optimize` made of the collection for one goal."""

    level: float
    prefer: str
    target: Target
    info: IndexInfo | None
    seconds: float

    @property
    def name(self) -> str:
        """Goal, in words."""
        return f"{self.level:.2f}, prefer {self.prefer}"

    @property
    def bytes(self) -> float:
        """Bytes per vector in memory; 0 where every search is exact."""
        return self.info.bytes / self.info.rows if self.info else 0.0

    def search(self, query: Floats) -> Any:
        """Search as the collection does, without fetching chunks."""
        return search_one(self.target, query, K, self.level)

    def searches(self) -> Iterator[tuple[OperatingPoint, Callable[[Floats], Any]]]:
        """Yield the operating points that a search may take, by rising recall, each with how it is searched."""
        points = [point for point in self.info.points if point.k == K and point.candidates] if self.info else []
        for asked in sorted({point.low for point in points}):
            point = cheapest(points, asked, K)
            assert point is not None  # its own lower bound is asked for
            yield point, partial(search_one, self.target, k=K, recall=asked)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    options = _parser().parse_args(arguments)
    scale = QUICK if options.quick else FULL
    try:
        data = Data(pages.data_folder(), scale.rows)
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 2
    load, started = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reperio-sweep-") as directory, ExitStack() as stack:
        ours = list(_optimized(data, Path(directory), stack))
        figures = _measured(data, scale, ours, everything=options.everything)
    results = {
        "machine": machine(),
        "date": pages.today(),
        "quick": options.quick,
        "rows": data.rows,
        "dimension": data.dimension,
        "rounds": scale.rounds,
        "room": ROOM,
        "target": TARGET,
        "raced_again": KEPT,
        "seconds": round(time.monotonic() - started),
        "load_before": round(load, 2),
        "note": options.note,
        **figures,
    }
    page = pages.sweep(results)
    print(page)
    out = options.out or (None if options.quick else pages.RESULTS)
    if out is not None:
        pages.write(out, "sweep", results, page)
        plots.sweep(results, out / "sweep.svg")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what optimize chooses against the best of FAISS.")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--everything", action="store_true", help="every graph at every efConstruction, and OPQ")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; default eval/results, unless --quick")
    parser.add_argument("--note", default="", help="kept with the figures, e.g. that the machine was shared")
    return parser


def _optimized(data: Data, directory: Path, stack: ExitStack) -> Iterator[Ours]:
    """Let `optimize` choose for every goal, on a copy of one collection each."""
    base = directory / "base"
    with reperio.open(base, dimension=data.dimension, auto_optimize=False) as kb:
        kb.add((Chunk(str(row)) for row in range(data.rows)), vectors=data.base, batch_size=10_000)
        ways = _ways(data)
        for way in ways:
            for level in LEVELS:
                kb.backup(directory / f"{way}-{level}")
    for way, wanted in ways.items():
        for level in LEVELS:
            _say(f"optimize(recall={level}, {wanted}) …")
            kb = stack.enter_context(reperio.open(directory / f"{way}-{level}", auto_optimize=False))
            started = time.perf_counter()
            info = kb.optimize(recall=level, queries=_tuning(data), **wanted)
            seconds = time.perf_counter() - started
            kb.search(vector=data.queries[0], k=K)
            view = kb._handle.generation.latest
            assert view is not None  # a search has just made it
            yield Ours(level, way, view.target, info, seconds)


def _ways(data: Data) -> dict[str, Any]:
    """Return what is asked of `optimize` for each recall, by name."""
    ways: dict[str, Any] = {"latency": {"prefer": "latency"}}
    if engine_families.is_possible(data.base):
        ways[FAISS_ALONE] = {"prefer": "latency", "memory": FAISS_BYTES * data.rows}
    return ways | {"memory": {"prefer": "memory"}}


def _tuning(data: Data) -> Floats:
    return data.queries[: len(data.queries) // 2]


def _measured(data: Data, scale: Scale, ours: list[Ours], *, everything: bool) -> Figures:
    half = len(_tuning(data))
    queries, nearest = data.queries[half:], data.nearest[half:]
    sweep = Sweep(data.base, queries, nearest, scale.first)
    races: dict[Goal, Race] = {(one.level, None): Race(one.level, None) for one in ours}
    races |= {(one.level, one.prefer): Race(one.level, ROOM * one.bytes) for one in ours if one.info}
    swept, tried = [], 0
    for built in _all_built(Workshop(data.base, scale.sizes, len(os.sched_getaffinity(0))), scale, races, everything):
        settings = sweep.settings(built, LEVELS)
        for race in races.values():
            race.enter(settings)
        swept += [one.to_figures() for one in settings]
        tried += 1
        _say(
            f"{built.name:44s} {built.bytes:6.0f} B "
            + ", ".join(f"{one.recall:.3f} {one.p50:.0f} µs" for one in settings)
        )
    equal = {one.name: _equal(one, queries, nearest) for one in ours}
    final = _final(sweep, races, ours, equal, queries, scale.rounds)
    return {
        "queries": len(queries),
        "indexes_tried": tried,
        "goals": [_goal(one, equal[one.name], races, final, nearest, queries) for one in ours],
        "swept": swept,
    }


def _all_built(workshop: Workshop, scale: Scale, races: dict[Goal, Race], everything: bool) -> Iterator[Built]:
    """Yield every index; graphs at other efConstructions only where they may win, unless *everything*."""
    sizes = scale.sizes
    yield from workshop.scans_and_lists()
    yield from workshop.others(slow=everything)
    yield from engine_families.all_built(workshop.matrix)
    graphs: dict[Graph, None] = {}  # in the order of building
    for built in workshop.graphs():
        assert built.graph is not None  # it is one
        graphs[built.graph] = None
        yield built
    if not everything:
        leading = {one.built.graph for race in races.values() for one in race.leading[:3]}
        graphs = {graph: None for graph in graphs if graph in leading}
    for construction in sizes.more_constructions:
        yield from (workshop.graph(replace(graph, construction=construction)) for graph in graphs)


class Equal(NamedTuple):
    """Our index at the recall itself, its point chosen as FAISS's settings are: by the queries that measure."""

    point: OperatingPoint
    recall: float
    search: Callable[[Floats], Any]


def _equal(one: Ours, queries: Floats, nearest: npt.NDArray[np.int64]) -> Equal | None:
    """Return the least that our index must be asked for to reach the level on *queries*; None if only exactly."""
    for point, search in one.searches():
        recall = knn_recall([search(query)[0] for query in queries], nearest)
        if recall >= one.level:
            return Equal(point, recall, search)
    return None


def _final(
    sweep: Sweep,
    races: dict[Goal, Race],
    ours: list[Ours],
    equal: dict[str, Equal | None],
    queries: Floats,
    rounds: int,
) -> dict[Any, list[float]]:
    """Time ours and the leaders of all races side by side; return p50 in µs per round."""
    subjects: dict[Any, Callable[[], float]] = {}
    for one in ours:
        subjects[one.name] = partial(p50, one.search, queries)
        same = equal[one.name]
        if same is not None:
            subjects[one.name, "equal"] = partial(p50, same.search, queries)
    for race in races.values():
        for setting in race.leading:
            subjects[_key(setting)] = partial(sweep.p50, setting)
    for run in subjects.values():
        run()  # warm
    _say(f"{len(subjects)} subjects, {rounds} rounds …")
    return interleave(rounds, subjects)


def _key(setting: Setting) -> tuple[str, int, int]:
    return setting.built.name, setting.effort, setting.candidates


def _goal(
    one: Ours,
    equal: Equal | None,
    races: dict[Goal, Race],
    final: dict[Any, list[float]],
    nearest: npt.NDArray[np.int64],
    queries: Floats,
) -> Figures:
    point = cheapest(one.info.points, one.level, K) if one.info else None
    asked = final[one.name]
    same = final[one.name, "equal"] if equal else asked
    recall = knn_recall([one.search(query)[0] for query in queries], nearest)
    return {
        "recall": one.level,
        "prefer": one.prefer,
        "ours": {
            **_ours(one, point, recall, asked),
            "bytes_per_vector": round(one.bytes, 1),
            "optimize_seconds": round(one.seconds, 1),
        },
        "ours_at_equal_recall": _ours(one, *equal[:2], same) if equal else None,
        "best_within_memory": _winner(races.get((one.level, one.prefer)), final, asked, same),
        "best_of_all": _winner(races[one.level, None], final, asked, same),
    }


def _ours(one: Ours, point: OperatingPoint | None, recall: float, times: list[float]) -> Figures:
    return {
        "index": one.info.factory if one.info else "exact",
        "effort": point.effort if point else 0,
        "candidates": point.candidates if point else 0,
        "knn_recall": recall,
        "p50_us": spread(times),
    }


def _winner(race: Race | None, final: dict[Any, list[float]], asked: list[float], same: list[float]) -> Figures | None:
    """Return the quickest of a race by the last rounds, and how ours compares; None where nothing qualified."""
    if race is None or not race.leading:
        return None
    best = min(race.leading, key=lambda setting: float(np.median(final[_key(setting)])))
    times = final[_key(best)]
    return {
        **best.to_figures(),
        "p50_us": spread(times),
        "ours_over_it": ratios(asked, times),
        "ours_at_equal_recall_over_it": ratios(same, times),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
