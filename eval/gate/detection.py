"""Does the gate turn red when something is wrong, and only then? Writes eval/results/gate.{json,md}.

    python eval/gate/detection.py --work DIR [--only NAME …] [--benign N] [--sizes 20,200] [--out FILE]

A healthy collection is built once, and a baseline accepted with each golden set. Then every fault is put into a copy at
every strength and the copy is gated. The drop of nDCG@10 over all questions is measured with the fault in place: what
drops by 0.02 or more must be red, and every integrity fault always. Benign variations must not be. What is found is
written after each, and a run goes on where the last one with the same DIR stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import at_scale
from benign import VARIATIONS, Given
from case import Case, Deployed
from detection_page import DROP, page
from faults import FAULTS, Fault
from ground import Ground, figures, plain, seconds_since
from healthy import PLAIN, DataMissing, load, opened

import reperio

SIZES = (20, 200)


def detect(ground: Ground, fault: Fault, strength: float) -> dict[str, Any]:
    """Put one fault in, and gate with every golden set."""
    started, healthy = time.perf_counter(), ground.of(fault.kind)
    path = ground.copy(fault.kind, "broken")
    case = Case(path, ground.texts, healthy.embedder, strength, fault.kind, ground.kept, ground.work)
    deployed = fault.apply(case) or Deployed()
    found: dict[str, Any] = {"fault": fault.name, "strength": strength, "integrity": fault.integrity}
    with deployed.patched(), warnings.catch_warnings():
        warnings.simplefilter("ignore", reperio.ReperioWarning)  # the gate hears them nevertheless
        found |= _gated(ground, fault, case, deployed)
    found["refused"] = found["drop"] is None
    found["demanded"] = fault.integrity or found["refused"] or found["drop"] >= DROP
    return found | {"seconds": seconds_since(started)}


def _gated(ground: Ground, fault: Fault, case: Case, deployed: Deployed) -> dict[str, Any]:
    try:
        collection = opened(case.path, deployed.embedder or case.embedder)
    except reperio.ReperioError as error:
        # `reperio gate` exits with 2: a deployment would not come up.
        told = {str(size): ["open"] for size in ground.goldens}
        return {"drop": None, "red": told, "why": {size: [str(error)] for size in told}}
    with collection:
        search = deployed.front(collection) if deployed.front else None
        quality = ground.quality(collection, search)
        drop = None if quality is None else round(ground.of(fault.kind).ndcg - quality, 4)
        runs = ground.gated(fault.kind, collection, search=search)
    return {"drop": drop, **figures(runs)}


def vary(ground: Ground, seed: int) -> dict[str, Any]:
    """Gate one benign variation with every golden set."""
    started, healthy = time.perf_counter(), ground.of(PLAIN)
    name = list(VARIATIONS)[seed % len(VARIATIONS)]
    number = seed // len(VARIATIONS)
    path = ground.copy(PLAIN, "benign")
    varied = VARIATIONS[name](Given(path, ground.texts, healthy.embedder, number, ground.kept))
    limits = replace(ground.limits, **varied.limits)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, varied.cores or before)
    try:
        with opened(path, varied.embedder or healthy.embedder) as collection:
            runs = ground.gated(PLAIN, collection, limits=limits)
    finally:
        os.sched_setaffinity(0, before)
    return {"variation": name, "seed": number, **figures(runs), "seconds": seconds_since(started)}


class Results:
    """What was found so far, in a file.

    Args:
        path: of the file; read where it exists.
        out: where it is published beside its page; None for nowhere.
    """

    def __init__(self, path: Path, out: Path | None) -> None:
        self._path, self._out = path, out
        self.content: dict[str, Any] = {"faults": {}, "benign": {}}
        if path.exists():
            self.content |= json.loads(path.read_text(encoding="utf-8"))

    def add(self, part: str, key: str, found: dict[str, Any]) -> None:
        """Keep something, and write everything."""
        self.content[part][key] = found
        self.write()

    def write(self) -> None:
        """Write file and page."""
        text = json.dumps(self.content, indent=1, ensure_ascii=False) + "\n"
        self._path.write_text(text, encoding="utf-8")
        if self._out is not None:
            self._out.write_text(text, encoding="utf-8")
            self._out.with_suffix(".md").write_text(page(self.content), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for and not yet done."""
    options = _options(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / "detection.json"
    if options.afresh:
        kept.unlink(missing_ok=True)
    results = Results(kept, options.out)
    try:
        ground = Ground(options.work, load("scifact"), [int(size) for size in options.sizes.split(",")])
    except DataMissing as missing:
        print(missing, file=sys.stderr)
        return 2
    healthy = ground.of(PLAIN)
    results.content |= {
        "ndcg": healthy.ndcg,
        "questions": len(ground.all.queries),
        "chunks": len(ground.texts.passages),
    }
    print(f"healthy: nDCG@10 {healthy.ndcg:.4f} over {len(ground.all.queries)} questions", flush=True)
    for fault, strength in _wanted(options.only):
        key = f"{fault.name}: {strength:g}"
        if key not in results.content["faults"]:
            results.add("faults", key, detect(ground, fault, strength))
            print(plain(results.content["faults"][key]), flush=True)
    for seed in range(options.benign):
        if str(seed) not in results.content["benign"]:
            results.add("benign", str(seed), vary(ground, seed))
            print(f"{seed}: {plain(results.content['benign'][str(seed)])}", flush=True)
    if options.large and "large" not in results.content:
        results.content["large"] = at_scale.measured(options.work)
    results.write()
    return _outcome(results.content)


def _wanted(only: Sequence[str] | None) -> list[tuple[Fault, float]]:
    return [
        (fault, strength)
        for fault in FAULTS
        if only is None or any(fault.name.startswith(each) for each in only)
        for strength in fault.strengths
    ]


def _outcome(content: dict[str, Any]) -> int:
    """Say what does not hold; 1 where something does not."""
    wrong = 0
    for key, found in content["faults"].items():
        missed = [size for size, checks in found["red"].items() if found["demanded"] and not checks]
        if missed:
            wrong = 1
            print(f"missed with {' and '.join(missed)} questions: {key}, drop {found['drop']}")
    alarms = [found for found in content["benign"].values() if any(found["red"].values())]
    for found in alarms:
        print(f"false alarm: {plain(found)}\n  {found['why']}")
    return max(wrong, int(len(alarms) > 1))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a directory for collections, models and vectors")
    parser.add_argument("--only", nargs="*", help="beginnings of the faults' names; none for no faults")
    parser.add_argument("--benign", type=int, default=0, help="benign variations to gate")
    parser.add_argument("--large", action="store_true", help="time a run on 100,000 chunks as well")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="questions (default: %(default)s)")
    parser.add_argument("--afresh", action="store_true", help="forget what an earlier run has found")
    parser.add_argument("--out", type=Path, help="where to publish the results: a .json, with the .md beside it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
