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
from typing_extensions import Self

import reperio
from reperio import Chunk

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
            others = (int(hit.chunk.id) for hit in some)
            found.update((min(row, other), max(row, other)) for other in others if other != row)
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


class Clock:
    """Seconds of a block, and seconds of processor time, which other work on the machine disturbs less."""

    def __enter__(self) -> Self:
        self._started = time.perf_counter(), _processor()
        return self

    def __exit__(self, *_: object) -> None:
        self.figures = {
            "s": round(time.perf_counter() - self._started[0], 1),
            "cpu_s": round(_processor() - self._started[1], 1),
        }


def _processor() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(data: Data, threshold: float, semhash: str | None) -> Figures:
    """Return the figures of each way."""
    with (
        tempfile.TemporaryDirectory() as folder,
        reperio.open(Path(folder) / "kb", dimension=data.dimension, auto_optimize=False) as kb,
    ):
        kb.add((Chunk(str(row), text) for row, text in enumerate(data.texts)), vectors=data.base)
        results: Figures = {}

        def told(name: str, clock: Clock, **figures: object) -> None:
            results[name] = {**clock.figures, **figures}
            print(name, results[name], flush=True)

        with Clock() as clock:
            groups = kb.duplicates(threshold)
        gone = {int(each.id) for group in groups for each in group.duplicates}
        kept = set(range(data.rows)) - gone
        told("groups", clock)
        with Clock() as clock:
            found = {(int(pair.first), int(pair.second)) for pair in kb.duplicate_pairs(threshold)}
        told("pairs", clock, found=len(found))
        results["groups"] |= agreement(kept, found, data.rows)
        if semhash:
            with Clock() as clock:
                theirs = with_semhash(semhash, data.base, threshold, found)
            told("semhash", clock, **theirs)
        with Clock() as clock:
            same = sum(len(group.duplicates) for group in kb.duplicates(by="text"))
        told("text", clock, found=same)
        with Clock() as clock:
            truth = product(data.base, threshold)
        told("product", clock, found=len(truth), differing=len(truth ^ found))
        with Clock() as clock:
            index = kb.optimize(0.95)
        told("build", clock, factory=None if index is None else index.factory)
        with Clock() as clock:
            some = through_index(kb, data.base, threshold)
        told("index", clock, share=round(len(some & truth) / max(1, len(truth)), 4))
    return results


def page(results: Figures) -> str:
    """Return duplicates.md for the content of duplicates.json."""
    on, ways = results["machine"], results["ways"]
    rows = [
        _row("one product of all pairs, float32", ways["product"], f"{ways['product']['found']:,} pairs"),
        _row("`duplicate_pairs`", ways["pairs"], f"{ways['pairs']['found']:,} pairs"),
        _row("`duplicates`", ways["groups"], _kept(ways["groups"])),
        *([_row("SemHash", ways["semhash"], _kept(ways["semhash"]))] if "semhash" in ways else []),
        *([_row(f"an index, {ways['build']['factory']}: to build it", ways["build"], "")] if "build" in ways else []),
        *(
            [_row("the ten nearest by that index", ways["index"], f"{ways['index']['share']:.1%} of the pairs")]
            if "index" in ways
            else []
        ),
        _row("`duplicates`, by text", ways["text"], f"{ways['text']['found']:,} that need not be kept"),
    ]
    version = f", SemHash {ways['semhash']['version']}" if "semhash" in ways else ""
    return "\n".join(
        [
            "# Near-duplicates",
            "",
            f"`python eval/bench/duplicates.py`, {results['date']}: {results['rows']:,} real vectors of length "
            f"{results['dimension']}, cosine {results['threshold']} or more.",
            f"{on['cpu']}, {on['cores']} cores, Python {on['python']}{version}; load {results['load']} before.",
            "The machine is shared with other work: seconds of processor time say more than seconds.",
            "",
            "| way | seconds | of processor time | found |",
            "|---|---:|---:|---|",
            *rows,
            "",
            f"`duplicate_pairs` and the product differ by {ways['product']['differing']} pairs, whose score is the "
            "threshold up to float32's rounding.",
            "*Left*: pairs that reach the threshold, both of which are kept. *Alone*: chunks that are not kept, though "
            "none that is kept is near enough.",
            "",
        ]
    )


def _row(name: str, way: Figures, found: str) -> str:
    return f"| {name} | {way['s']} | {way['cpu_s']} | {found} |"


def _kept(one: Figures) -> str:
    return f"{one['kept']:,} kept; {one['pairs_left']:,} pairs left, {one['without_a_kept_one']:,} alone"


def main() -> int:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semhash", help="a Python that has semhash")
    parser.add_argument("--threshold", type=float, default=0.9, help="least cosine")
    parser.add_argument("--quick", action="store_true", help="small, printed only")
    options = parser.parse_args()
    try:
        data = Data(pages.data_folder(), QUICK if options.quick else ROWS)
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 2
    about = {"date": pages.today(), "rows": data.rows, "dimension": data.dimension, "machine": machine()}
    about |= {"threshold": options.threshold, "load": round(os.getloadavg()[0], 1)}
    results = {**about, "ways": measure(data, options.threshold, options.semhash)}
    print(page(results))
    if not options.quick:
        pages.write(pages.RESULTS, "duplicates", results, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
