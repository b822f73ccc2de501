"""Measure what FAISS offers besides what is chosen here: Panorama, search parameters of lists, TurboQuant and EDEN.

    python eval/bench/left.py                  # all three parts; ten minutes on one core
    python eval/bench/left.py --only codes     # codes, lists or panorama; the other parts' figures stay as they are
    python eval/bench/left.py --quick          # small sizes, printed only

Everything runs on one thread, and is clocked by the processor time of that thread, which other work on the machine
disturbs little. What is compared takes turns; times are medians. docs/decisions/0019-measured-and-left.md says what
follows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pages
from clustered import BLOCK, Clustered
from measuring import Data, DataMissing, Figures, Floats, interleave, knn_recall, machine, spread

from reperio.index.library.loading import load_faiss

RESULTS = Path(__file__).parents[1] / "results"
PARTS = ("codes", "lists", "panorama")
K, ROUNDS, TIMED, SCANNED, WIDE = 10, 3, 100, 20, 1024
RECALLS = (0.90, 0.95, 0.99)
CODES = {
    "48 B": ("PQ96x4fs", "PCAR192,PQ96x4fs", "RR384,SQtqmse1", "RR384,EDEN1", "RR384,RaBitQfs"),
    "96 B": ("PQ192x4fs", "RR384,SQtqmse2", "RR384,EDEN2", "RR384,RaBitQ2"),
    "192 B": ("SQ4", "RR384,SQtqmse4", "RR384,EDEN4", "RR384,RaBitQ4"),
    "384 B": ("SQ8", "RR384,SQtqmse8", "RR384,EDEN8"),
}
CANDIDATES = (10, 30, 100)
LISTS = ("IVF256,PQ192x4fs", "IVF256,SQ8")


class Way(NamedTuple):
    """A way to search, and what it finds."""

    recall: float
    search: Callable[[Any], object]


# Codes


def codes(data: Data, queries: int) -> Figures:
    """Compare codes of equal size, all scanned: recall@10 among so many candidates that are rescored exactly."""
    faiss = load_faiss()
    asked, figures = data.queries[: queries // 2], {}
    for size, names in CODES.items():
        made, searches = {}, {}
        for name in names:
            try:
                index = faiss.index_factory(data.dimension, name, faiss.METRIC_INNER_PRODUCT)
            except RuntimeError as error:
                made[name] = {"refused": str(error).strip().splitlines()[-1][:120]}
                continue
            index.train(data.base[:65_536])
            index.add(data.base)
            found = index.search(asked, CANDIDATES[-1])[1]
            made[name] = {
                "bytes": index.sa_code_size() if hasattr(index, "sa_code_size") else None,
                "recall": {count: _share(found[:, :count], data.nearest) for count in CANDIDATES},
            }
            searches[name] = lambda index=index: float(
                np.median([_cpu(lambda query: index.search(query[None], 30), query) for query in asked[:SCANNED]])
            )
        for name, times in interleave(ROUNDS, searches).items():
            made[name]["us"] = spread(times)
        figures[size] = made
    return figures


def _cpu(search: Callable[[Any], object], query: Floats) -> float:
    """Return the processor time of a search, in µs."""
    before = time.thread_time_ns()
    search(query)
    return (time.thread_time_ns() - before) / 1000


def _share(found: Any, nearest: Any) -> float:
    return knn_recall([row[row >= 0].tolist() for row in found], nearest[: len(found)])


# Lists


def lists(data: Data, queries: int) -> Figures:
    """Compare `nprobe` alone with `max_codes` and `ensure_topk_full`, at equal recall, candidates rescored exactly."""
    faiss = load_faiss()
    figures = {}
    for name in LISTS:
        index = faiss.index_factory(data.dimension, name, faiss.METRIC_INNER_PRODUCT)
        index.train(data.base[:65_536])
        index.add(data.base)
        ways: dict[str, list[Way]] = {"nprobe": [], "max_codes": [], "ensure_topk_full": []}
        for probes in (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256):
            ways["nprobe"].append(_probing(index, data, queries, nprobe=probes))
            ways["ensure_topk_full"].append(_probing(index, data, queries, nprobe=probes, ensure_topk_full=True))
            most = probes * data.rows // 256
            ways["max_codes"].append(_probing(index, data, queries, nprobe=min(256, 2 * probes), max_codes=most))
        figures[name] = _raced(ways, data.queries[:TIMED])
    return figures


def _probing(index: Any, data: Data, queries: int, **options: Any) -> Way:
    params = load_faiss().SearchParametersIVF(**options)
    found = index.search(data.queries[:queries], 60, params=params)[1]
    return Way(_share(found, data.nearest), lambda query: index.search(query[None], 60, params=params))


# Graphs of wide vectors


def panorama(rows: int, queries: int) -> Figures:
    """Compare one graph over floats, over Panorama's floats, and over the 8-bit codes that are chosen here."""
    faiss = load_faiss()
    stream = Clustered(WIDE)
    base = np.concatenate([stream.block(number) for number in range(-(-rows // BLOCK))])[:rows]
    turn = faiss.PCAMatrix(WIDE, WIDE)  # Panorama asks for the energy in the first dimensions
    turn.train(base[:20_000])
    base, asked = turn.apply(base), turn.apply(stream.queries(queries))
    nearest = faiss.knn(asked, base, K)[1]
    graph = faiss.IndexHNSWFlatPanorama(WIDE, 32, 8)
    graph.hnsw.efConstruction = 60
    graph.add(base)
    subjects = {"HNSW32,FlatPanorama8": graph}
    for name in ("HNSW32,Flat", "HNSW32,SQ8"):
        other = subjects[name] = faiss.index_factory(WIDE, name)
        other.storage.train(base[:65_536])
        other.storage.add(base)
        other.hnsw, other.ntotal, other.is_trained = graph.hnsw, rows, True
        other.hnsw.search_method = faiss.HNSW.SM_DEFAULT
    ways = {
        name: [_walking(index, base, asked, nearest, effort) for effort in (12, 16, 24, 32, 48, 64, 96, 128, 256, 512)]
        for name, index in subjects.items()
    }
    return _raced(ways, asked[:TIMED])


def _walking(index: Any, base: Floats, asked: Floats, nearest: Any, effort: int) -> Way:
    params = load_faiss().SearchParametersHNSW(efSearch=effort)
    coarse = type(index).__name__ == "IndexHNSWSQ"
    count = min(effort, 30) if coarse else K

    def search(query: Floats) -> Any:
        rows = index.search(query[None], count, params=params)[1][0]
        if not coarse:
            return rows
        return rows[np.argsort(np.square(base[rows] - query).sum(axis=1))[:K]]

    return Way(knn_recall([search(query).tolist() for query in asked], nearest), search)


def _raced(ways: dict[str, list[Way]], asked: Floats) -> Figures:
    """Time the cheapest setting of each subject that reaches a recall: for each query all of them, in any order."""
    figures: Figures = {}
    random = np.random.default_rng(0)
    for recall in RECALLS:
        able = {name: way for name, each in ways.items() for way in each[::-1] if way.recall >= recall}
        took: dict[str, list[float]] = {name: [] for name in able}
        for query in asked:
            for name in random.permutation(list(able)):
                took[name].append(_cpu(able[name].search, query))
        figures[f"{recall}"] = {
            name: {"recall": able[name].recall, "us": spread(took[name])} if name in able else None for name in ways
        }
    return figures


# The page


def page(results: Figures) -> str:
    """Return the results as a page."""
    lines = [
        "# Measured next to what is chosen",
        "",
        f"`python eval/bench/left.py`, {results['date']}, {results['how']}.",
    ]
    parts = results["parts"]
    if "codes" in parts:
        head = ["bytes asked", "codes", "bytes", *(f"recall among {count}" for count in CANDIDATES), "scan, µs"]
        rows = [
            [size, f"`{name}`", f"{each.get('bytes', '')}", *(f"{found:.3f}" for found in each["recall"].values()),
             f"{each['us']['median']:,.0f}"] if "recall" in each else [size, f"`{name}`", "refused", "", "", "", ""]
            for size, made in parts["codes"].items() for name, each in made.items()
        ]  # fmt: skip
        lines += ["", "## Codes, all scanned, 100,000 × 384, inner product", "", *_table(head, rows)]
    for name, figures in [*parts.get("lists", {}).items(), ("panorama", parts.get("panorama"))]:
        if figures:
            title = "A graph, 100,000 × 1,024, L2" if name == "panorama" else f"`{name}`, 100,000 × 384, inner product"
            names = list(figures[f"{RECALLS[0]}"])
            rows = [[recall, *(_cell(each.get(name)) for name in names)] for recall, each in figures.items()]
            lines += ["", f"## {title}", "", *_table(["recall", *(f"`{name}`" for name in names)], rows)]
    return "\n".join(lines) + "\n"


def _cell(figures: Figures | None) -> str:
    return "–" if figures is None else f"{figures['us']['median']:,.0f} µs at {figures['recall']:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(each)} |" for each in (head, ["---"] * len(head), *rows)]


def main() -> int:
    """Measure, and write or print."""
    parser = argparse.ArgumentParser(description="Measure what is offered besides what is chosen.")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--quick", action="store_true", help="5,000 rows, printed only")
    asked = parser.parse_args()
    rows, queries = (5_000, 100) if asked.quick else (100_000, 200)
    load_faiss().omp_set_num_threads(1)
    try:
        data = Data(pages.data_folder(), rows)
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 2
    measures = {
        "codes": lambda: codes(data, queries), "lists": lambda: lists(data, queries),
        "panorama": lambda: panorama(rows, queries),
    }  # fmt: skip
    target = RESULTS / "left.json"
    kept = json.loads(target.read_text()) if target.exists() and not asked.quick else {"parts": {}}
    for part in asked.only or PARTS:
        kept["parts"][part] = measures[part]()
        kept |= {"date": pages.today(), "machine": machine(), "how": f"{rows:,} rows, {queries} held-out queries"}
        print(page(kept))
        if not asked.quick:
            target.write_text(json.dumps(kept, indent=1) + "\n")
            target.with_suffix(".md").write_text(page(kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())
