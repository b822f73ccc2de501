"""Find near-duplicates of 100,000 real vectors: by the bounds of short vectors, one product, an index, and SemHash.

    python eval/bench/duplicates.py --semhash PYTHON   # a Python that has semhash; ten minutes on two cores
    python eval/bench/duplicates.py --quick            # small, printed only, without SemHash

The truth is one product of all pairs. docs/decisions/0024-near-duplicates.md says what follows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pages
from measuring import Data, DataMissing, Figures, machine

import reperio
from reperio import Chunk

THRESHOLDS = (0.95, 0.9)
BLOCK, NEIGHBOURS, ROWS, QUICK = 2048, 10, 100_000, 3_000
Pairs = set[tuple[int, int]]


def product(base: np.ndarray, threshold: float) -> Pairs:
    """Return all pairs by one product of float32, block by block."""
    found: Pairs = set()
    for low in range(0, len(base), BLOCK):
        for start in range(low, len(base), BLOCK):
            one, other = np.nonzero(base[low : low + BLOCK] @ base[start : start + BLOCK].T >= threshold)
            one, other = one + low, other + start
            found.update(zip(one[one < other].tolist(), other[one < other].tolist(), strict=True))
    return found


def through_index(kb: reperio.Collection, base: np.ndarray, threshold: float) -> Pairs:
    """Return the pairs among the ten nearest of each vector, as the index finds them at a recall of 0.95."""
    found: Pairs = set()
    for low in range(0, len(base), 10_000):
        hits = kb.search_many(vectors=base[low : low + 10_000], k=NEIGHBOURS, recall=0.95, min_score=threshold)
        for row, some in enumerate(hits, start=low):
            found.update(tuple(sorted((row, int(hit.chunk.id)))) for hit in some if int(hit.chunk.id) != row)  # type: ignore[misc]  # of two
    return found


def with_semhash(python: str, base: np.ndarray, threshold: float, truth: Pairs) -> Figures:
    """Return what SemHash keeps of the same vectors, and how that agrees with the pairs there are."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "vectors.npy", base)
        script = Path(__file__).with_name("duplicates_semhash.py")
        call = [python, str(script), str(Path(folder) / "vectors.npy"), str(threshold)]
        plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = json.loads(subprocess.run(call, check=True, capture_output=True, text=True, env=plain).stdout)
    kept = set(done.pop("selected"))
    return {**done, **agreement(kept, truth, len(base))}


def agreement(kept: set[int], truth: Pairs, rows: int) -> Figures:
    """Return how many pairs are left among what is kept, and how much went that no kept one is near."""
    near: dict[int, set[int]] = {}
    for one, other in truth:
        near.setdefault(one, set()).add(other)
        near.setdefault(other, set()).add(one)
    lost = sum(1 for row in range(rows) if row not in kept and not near.get(row, set()) & kept)
    return {"kept": len(kept), "pairs_left": sum(a in kept and b in kept for a, b in truth), "without_a_kept_one": lost}


def measure(data: Data, semhash: str | None) -> Figures:
    """Return the figures of each way, by threshold."""
    with (
        tempfile.TemporaryDirectory() as folder,
        reperio.open(Path(folder) / "kb", dimension=data.dimension, auto_optimize=False) as kb,
    ):
        kb.add((Chunk(str(row), text) for row, text in enumerate(data.texts)), vectors=data.base)
        started = time.perf_counter()
        same = sum(len(group.duplicates) for group in kb.duplicates(by="text"))
        results: Figures = {"same_text": same, "same_text_s": _since(started), "thresholds": {}}
        truths = {}
        for threshold in THRESHOLDS:
            started = time.perf_counter()
            truths[threshold] = product(data.base, threshold)
            one: Figures = {"pairs": len(truths[threshold]), "product_s": _since(started)}
            started, cpu = time.perf_counter(), time.process_time()
            groups = kb.duplicates(threshold)
            one |= {"groups_s": _since(started), "groups_cpu_s": round(time.process_time() - cpu, 1)}
            started = time.perf_counter()
            found = {(int(pair.first), int(pair.second)) for pair in kb.duplicate_pairs(threshold)}
            one |= {"pairs_s": _since(started), "differing": len(found ^ truths[threshold])}
            gone = {int(each.id) for group in groups for each in group.duplicates}
            one["ours"] = agreement(set(range(data.rows)) - gone, found, data.rows)
            if semhash:
                one["semhash"] = with_semhash(semhash, data.base, threshold, found)
            results["thresholds"][str(threshold)] = one
            print(threshold, one, flush=True)
        started = time.perf_counter()
        index = kb.optimize(0.95)
        results["index"] = {"factory": None if index is None else index.factory, "build_s": _since(started)}
        for threshold, truth in truths.items():
            started = time.perf_counter()
            found = through_index(kb, data.base, threshold)
            one = results["thresholds"][str(threshold)]
            one["index"] = {"s": _since(started), "found": round(len(found & truth) / max(1, len(truth)), 4)}
    return results


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 1)


def _kept(one: Figures) -> str:
    return f"{one['kept']:,} kept | {one['pairs_left']:,} | {one['without_a_kept_one']:,}"


def page(results: Figures) -> str:
    """Return duplicates.md for the content of duplicates.json."""
    on, rows = results["machine"], []
    for threshold, one in results["thresholds"].items():
        ours, theirs, index = one["ours"], one.get("semhash", {}), one["index"]
        took = f"{theirs['build_s']} + {theirs['search_s']}" if theirs else "–"
        rows += [
            f"| {threshold} | one product of all pairs | {one['product_s']} | {one['pairs']:,} | | |",
            f"| | `duplicate_pairs` | {one['pairs_s']} | {one['pairs']:,}, {one['differing']} differ by rounding | | |",
            f"| | `duplicates` | {one['groups_s']} | {_kept(ours)} |",
            f"| | SemHash, build + search | {took} | {_kept(theirs) if theirs else '– | | '} |",
            f"| | the ten nearest by an index | {index['s']} | {index['found']:.1%} of the pairs | | |",
        ]
    version = next((one["semhash"]["version"] for one in results["thresholds"].values() if "semhash" in one), "–")
    return "\n".join(
        [
            "# Near-duplicates",
            "",
            f"`python eval/bench/duplicates.py`, {results['date']}: {results['rows']:,} real vectors of length "
            f"{results['dimension']}, {on['cpu']}, {on['cores']} cores, Python {on['python']}, SemHash {version}.",
            "The machine is shared with other work: ratios say more than seconds.",
            "",
            "| threshold | way | seconds | found | pairs left among the kept | gone, and none kept is near |",
            "|---|---|---:|---|---:|---:|",
            *rows,
            "",
            f"The index, {results['index']['factory']}, was built in {results['index']['build_s']} s. By text, "
            f"{results['same_text']:,} duplicates were found in {results['same_text_s']} s.",
            "",
        ]
    )


def main() -> int:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semhash", help="a Python that has semhash")
    parser.add_argument("--quick", action="store_true", help="small, printed only")
    options = parser.parse_args()
    try:
        data = Data(pages.data_folder(), QUICK if options.quick else ROWS)
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 2
    about = {"date": pages.today(), "rows": data.rows, "dimension": data.dimension, "machine": machine()}
    results = {**about, **measure(data, options.semhash)}
    print(page(results))
    if not options.quick:
        pages.write(pages.RESULTS, "duplicates", results, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
