"""Measure how far stored vectors must be moved to be as hard as real questions, for each kind of index.

    python eval/bench/displaced.py       # twelve minutes; writes eval/results/displaced.{json,md}

Where users bring no questions, an index is tuned with displaced stored vectors (`index/tuning/questions.py`). Here each
index is tuned with them, by its effort alone; what a thousand real questions find at the efforts that are then chosen
for the recalls from .80 to .995 is compared with what was asked for.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

import numpy as np
import pages
from measuring import Data, DataMissing, Figures, Floats, machine

from reperio import Metric, index
from reperio.index.exact.nearest import nearest
from reperio.index.tuning.measuring import Share, interval
from reperio.index.tuning.questions import displaced, displacement
from reperio.index.tuning.verdicts import Verdicts

ROWS, DRAWS, QUESTIONS, K, METRIC = (30_000, 100_000), (7, 8, 9), 1000, 10, Metric.COSINE
ASKED = np.arange(0.80, 0.9951, 0.005)
LISTS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160, 200, 256)
WALKS = (10, 11, 12, 13, 14, 16, 18, 20, 22, 25, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128, 160, 200)
REDUCED = "the graph of reduced vectors that is advised"
PARTS = {
    "IVF256,PQ192x4fs": (0.55, 0.6, 0.65, 0.7),
    "PCA192,IVF256,PQ96x4fs": (0.55, 0.6, 0.65, 0.7),
    REDUCED: (0.8, 0.85, 0.9, 0.95),
    "hnsw": (0.9, 0.95, 1.0, 1.05),
    "symphonyqg": (0.7, 0.75, 0.8, 0.85),
}


def shares(target: index.Target, queries: Floats) -> list[Share]:
    """Return the recall of each effort."""
    searcher = target.searcher
    assert searcher is not None
    _, best = nearest(target.matrix, queries, K, METRIC)
    verdicts, found = Verdicts(target, queries, best[:, K - 1]), []
    for effort in WALKS if searcher.is_graph else LISTS:
        count = effort if searcher.is_graph else 100
        good = verdicts.of(searcher.search(queries, count, searcher.params(effort, count)))
        found.append(interval(np.minimum(good.sum(axis=1), K) / K))
    return found


def beyond(real: list[Share], judged: list[Share]) -> Iterator[tuple[float, float]]:
    """Yield what real questions find more than was asked for, and what was asked for."""
    for asked in ASKED:
        reached = [at for at, share in enumerate(judged) if share.low >= asked]
        if reached and asked >= judged[0].low:  # less is asked of the least effort, too
            yield real[reached[0]].mean - float(asked), float(asked)


def recipe_of(name: str, base: Floats) -> index.Recipe:
    """Return what is built."""
    if name != REDUCED:
        return index.requested(name)
    goal, spectrum = index.Goal(), index.spectrum(base, METRIC)
    advised = index.advise(len(base), base.shape[1], METRIC, goal, spectrum=spectrum)
    return next(each for each in advised if each.factory.startswith("PCA") and "HNSW" in each.factory)


def measure(base: Floats, queries: Floats, name: str) -> list[Figures]:
    """Return for each displacement the recall missed most, and the mean."""
    recipe = recipe_of(name, base)
    factory = recipe.factory
    built = index.build(recipe, base, METRIC, workers=1)
    target = index.Target(base, METRIC, len(base), None, index.searcher_of(built))
    real, runs = shares(target, queries), []
    for part in PARTS[name]:
        more = []
        for seed in DRAWS:
            rng = np.random.default_rng(seed)
            rows = np.sort(rng.choice(len(base), QUESTIONS, replace=False))
            more += beyond(real, shares(target, displaced(base, rows, METRIC, part, rng)))
        least, asked = min(more)
        mean = float(np.mean([each for each, _ in more]))
        runs.append({"factory": factory, "rows": len(base), "part": part, "least": least, "asked": asked, "mean": mean})
        print(runs[-1], flush=True)
    return runs


def page(results: Figures) -> str:
    """Write what is committed next to the figures."""
    before, after = results["load"]
    lines = [
        "# How far stored vectors are moved to tune with them",
        "",
        f"`python eval/bench/displaced.py`, {results['date']}: real questions, 384 dimensions, cosine, k = {K}, "
        f"{QUESTIONS:,} held out and",
        f"{len(DRAWS)} draws of as many stored vectors, load {before:.1f} before and {after:.1f} after. Found − asked, "
        "for every recall",
        "from .80 to .995 that an effort is chosen for: the least, where that is, and the mean. In bold what is used.",
        "Why: [decision 0007](../../docs/decisions/0007-tuning.md).",
        "",
        "| index | vectors | displacement | least | asked for | mean |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in results["runs"]:
        used = one["part"] == displacement(one["factory"])
        part = f"**{one['part']:.2f}**" if used else f"{one['part']:.2f}"
        lines.append(
            f"| {one['factory']} | {one['rows']:,} | {part} | {one['least']:+.3f} | {one['asked']:.3f} | "
            f"{one['mean']:+.3f} |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    """Measure, write the results, and return the exit status."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    before, runs = os.getloadavg()[0], []
    try:
        data = Data(pages.data_folder(), max(ROWS))
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 1
    order = np.random.default_rng(2).permutation(data.rows)
    for name in PARTS:
        for rows in ROWS:
            base = data.base if rows == data.rows else np.ascontiguousarray(data.base[np.sort(order[:rows])])
            runs += measure(base, data.queries, name)
    results = {"date": pages.today(), "machine": machine(), "load": [before, os.getloadavg()[0]], "runs": runs}
    pages.write(pages.RESULTS, "displaced", results, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
