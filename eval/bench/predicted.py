"""Compare the times that `advise` predicts with those that were measured: a table, and the largest factor.

    python eval/bench/predicted.py

Each case is an `optimize` whose time is in eval/results, or was written down in a decision; nothing is built here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from reperio import Metric
from reperio.index.recipes import families
from reperio.index.recipes.families import Data, Reduction
from reperio.index.recipes.goal import Recipe
from reperio.index.recipes.times import Machine, in_words

RESULTS = Path(__file__).parents[1] / "results"
IDLE = Machine()
_RECALL = 0.95  # of the sweep's goals
_STAGES = "train", "index", "answers", "tune"


class Case(NamedTuple):
    """An index that was built and measured."""

    source: str
    rows: int
    dimension: int
    index: str
    machine: Machine
    measured: float  # seconds


def cases() -> list[Case]:
    """Read what was measured."""
    found = []
    peers = _read("peers")["sizes"]
    for rows in (100_000, 1_000_000):
        took = peers[str(rows)]["subjects"]["Reperio 0.95"]["ingest"]["stages"]["optimize"]
        found.append(Case("peers", rows, 384, "PCA224,HNSW24", IDLE, took))
    found += [
        Case("growth", each["rows"], 384, _kind(each["index"]), IDLE, each["optimize_seconds"])
        for each in _read("growth")["measured"]
        if "HNSW" in each["index"] or "Symphony" in each["index"]
    ]
    for goal in _read("sweep")["goals"]:
        ours = goal["ours"]
        if goal["recall"] == _RECALL:
            found.append(Case("sweep", 100_000, 384, _kind(ours["index"]), IDLE, ours["optimize_seconds"]))
    found.append(Case("graphs", 100_000, 384, "SymphonyQG32", IDLE, 50.6))
    found.append(Case("graphs", 100_000, 384, "PCA224,HNSW24", IDLE, 47.4))
    found.append(Case("graphs", 100_000, 384, "HNSW32,Flat", IDLE, 49.6))
    for step in _read("large")["steps"]:
        took = sum(stage["seconds"] for stage in step["stages"] if stage["name"] in _STAGES)
        lists = step["index"].split(",")[1]
        found.append(Case("large", step["rows"], 1024, f"PCAR448,{lists}", IDLE, took))
    return found


def _kind(index: str) -> str:
    parts = index.split(",")
    return parts[0] if parts[0].startswith("SymphonyQG") else ",".join(parts[:2])


def predicted(case: Case) -> float:
    """Return what `advise` says of such an index on such a machine."""
    data = Data(case.rows, case.dimension, Metric.COSINE, None, case.machine)
    return _recipe(case, data).seconds or 0.0


def _recipe(case: Case, data: Data) -> Recipe:
    if case.index.startswith("SymphonyQG"):
        made = families.symphony(data)
        assert made is not None
        return made
    if "IVF" in case.index:
        kept, lists = case.index.split(",")
        reduction = Reduction(int(kept.removeprefix("PCAR")), "")
        return families.product(data, 2, int(lists.removeprefix("IVF").split("_")[0]), "", reduction)
    return next(each for each in families.graphs(data, 200) if each.factory.startswith(case.index))


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def main() -> None:
    """Print the table."""
    print(
        "| measured in | rows × d | index | measured | predicted | predicted ÷ measured |\n|---|---|---|---:|---:|---:|"
    )
    factors = []
    for case in cases():
        seconds = predicted(case)
        factors.append(max(seconds / case.measured, case.measured / seconds))
        size = f"{case.rows:,} × {case.dimension:,}"
        print(
            f"| {case.source} | {size} | {case.index} | "
            f"{case.measured:,.0f} s | {seconds:,.0f} s, “{in_words(seconds)}” | {seconds / case.measured:.2f} |"
        )
    print(f"\nlargest factor {max(factors):.2f}, of {len(factors)} cases")


if __name__ == "__main__":
    main()
