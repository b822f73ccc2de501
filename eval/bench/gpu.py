"""Build the same indexes with the processor and with a graphics card: time, and recall at equal effort.

    make gpu                                            # the tests that need a card, then this
    python eval/bench/gpu.py [--rows 1000000] [--quick]

Each index is built in turn, CPU next to GPU, and its figures are written to eval/results/gpu.json as soon as it is
measured: a run that was killed goes on with the next one. `--again` begins from nothing. The vectors are those of
`clustered.py`, 1,024 dimensions.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pages
from clustered import BLOCK, Clustered
from measuring import Figures, Floats, knn_recall, machine, p50

from reperio import Metric, ReperioError, index
from reperio.index import Recipe, searcher_of
from reperio.index.building.gpu import Card, find_card
from reperio.index.library.loading import load_faiss
from reperio.index.recipes import families

RESULTS = Path(__file__).parents[1] / "results"
DIMENSION, QUERIES, K, CANDIDATES = 1024, 500, 10, 50
EFFORTS = (8, 16, 32, 64, 128, 256)


def recipes(rows: int) -> list[tuple[str, Recipe, str]]:
    """Return what is built: a name that CPU and GPU have in common, the recipe, and the device."""
    data = families.Data(rows, DIMENSION)
    graph = families.graphs(data, 200)[0]
    codes = families.codes(data, None)[0]
    many = families.product(data, 2, 4096, "many lists")
    return [
        ("graph", graph, "cpu"),
        ("graph", families.on_card(graph), "gpu"),
        ("codes", codes, "cpu"),
        ("codes", codes, "gpu"),
        ("4,096 lists", many, "cpu"),
        ("4,096 lists", many, "gpu"),
    ]


def measure(recipe: Recipe, card: Card | None, base: Floats, queries: Floats, nearest: Any) -> Figures:
    """Build one index and return its figures."""
    stages: dict[str, float] = {}
    last = ["", time.perf_counter()]

    def told(stage: str, *_: object) -> None:
        now = time.perf_counter()
        if last[0]:
            stages[last[0]] = round(stages.get(last[0], 0.0) + now - last[1], 2)
        last[:] = [stage, now]

    started = time.perf_counter()
    made = index.build(recipe, base, Metric.COSINE, workers=len(os.sched_getaffinity(0)), progress=told, card=card)
    took = time.perf_counter() - started
    searcher, points = searcher_of(made), []
    for effort in EFFORTS:
        params = searcher.params(effort, CANDIDATES)
        found = [_best(base, query, searcher.search_one(query, CANDIDATES, params)) for query in queries]
        us = p50(lambda query, params=params: searcher.search_one(query, CANDIDATES, params), queries)
        points.append({"effort": effort, "recall": knn_recall(found, nearest), "us": round(us, 1)})
    return {"factory": recipe.factory, "seconds": round(took, 1), "stages": stages, "points": points}


def _best(base: Floats, query: Floats, rows: Any) -> list[int]:
    rows = np.array([row for row in rows if row >= 0])
    return [int(row) for row in rows[np.argsort(-(base[rows] @ query))[:K]]]


def page(results: Figures) -> str:
    """Return a table: an index per line."""
    lines = ["| index | device | factory | build, s | recall, µs by effort |", "|---|---|---|---:|---|"]
    for key, each in results["figures"].items():
        name, device = key.split("/")
        points = ", ".join(f"{point['recall']:.3f} {point['us']:.0f}" for point in each.get("points", []))
        told = each.get("refused") or f"{each['seconds']:,.1f} | {points}"
        lines.append(f"| {name} | {device} | `{each.get('factory', '')}` | {told} |")
    return "\n".join(lines)


def main() -> int:
    """Measure what is not measured yet, and write or print."""
    parser = argparse.ArgumentParser(description="Build indexes with the processor and with a graphics card.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="6,000 rows, printed only")
    parser.add_argument("--again", action="store_true", help="forget what was measured before")
    asked = parser.parse_args()
    rows = 6_000 if asked.quick else asked.rows
    try:
        card = find_card("gpu")
    except ReperioError as error:
        print(error, file=sys.stderr)
        if not asked.quick:
            return 2
        card = None  # what the processor can do is shown all the same
    target = RESULTS / "gpu.json"
    known = json.loads(target.read_text()) if target.exists() and not (asked.again or asked.quick) else {}
    results = known if known.get("rows") == rows else {"rows": rows, "dimension": DIMENSION, "figures": {}}
    stream = Clustered(DIMENSION)
    base = np.concatenate([stream.block(number) for number in range(-(-rows // BLOCK))])[:rows]
    queries = stream.queries(QUERIES)
    nearest = load_faiss().knn(queries, base, K, load_faiss().METRIC_INNER_PRODUCT)[1]
    for name, recipe, device in recipes(rows):
        key = f"{name}/{device}"
        if key in results["figures"] or (device == "gpu" and card is None):
            continue
        try:
            results["figures"][key] = measure(recipe, card if device == "gpu" else None, base, queries, nearest)
        except ReperioError as error:
            results["figures"][key] = {"factory": recipe.factory, "refused": str(error)}
        results |= {"date": pages.today(), "machine": machine() if not asked.quick else {}}
        if not asked.quick:
            target.write_text(json.dumps(results, indent=1) + "\n")
        print(page(results), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
