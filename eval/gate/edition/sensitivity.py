"""Measure the gate with 20, 50, 100 and 200 questions: 63 kinds of accident at two strengths, and harmless changes.

    python eval/gate/edition/sensitivity.py --work DIR [--sets scifact,squad-dev] [--harmless 300] [--kept-back]

No model is needed: texts are embedded by their words. What is found is written after each, and a run goes on where the
last one with the same DIR stopped. Red is demanded of what costs 0.02 of nDCG@10 over all 300 questions, and of faults
of access, integrity, emptied questions and time always.

A case is paid for once: all questions are asked once, and the smaller golden sets are their beginnings; a fault in
front of the collection asks the healthy one, which nothing changes, and whose contents were looked at once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from asked import ASKED, SLOW
from harmless import HARMLESS
from kept_back import KEPT_ASKED, KEPT_STORED
from pages import page, picture
from stored import STORED, State
from world import SETS, World, world

import reperio
from reperio import Collection
from reperio.evaluation import Baseline, Search, Subject, Verdict, acceptable, judged, to_baseline
from reperio.evaluation.asking import Answer
from reperio.evaluation.statistics import measures

SIZES = (20, 50, 100, 200)
DROP = 0.02
_OF_QUESTIONS = ("golden ids", "thresholds", "filtered answers", "modes", "regression", "questions", "latency")
# What stands in front of a collection cannot change it.
_OF_CONTENTS = ("backup", "integrity", "reachable", "filters", "contract", "neighbours", "drift")
_OF_ANSWERS = tuple(name for name in _OF_QUESTIONS if name not in ("modes", "latency"))
_RED = (Verdict.FAIL, Verdict.ERROR)
_TOLD = 200


class _Remembering:
    """A collection that answers a question that was asked before from memory; nothing changes it meanwhile."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._known: dict[str, list[reperio.Hit]] = {}

    def search(self, text: str | None = None, **options: Any) -> list[reperio.Hit]:
        if "vector" in options:
            return self._collection.search(text, **options)
        key = repr((text, sorted(options.items())))
        if key not in self._known:
            self._known[key] = self._collection.search(text, **options)
        return list(self._known[key])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)


class Ground:
    """A text set, stored healthily, with what was accepted of it for each number of questions.

    Args:
        found: the set.
        work: a directory for collections.
    """

    def __init__(self, found: World, work: Path) -> None:
        self.world, self._work = found, work
        self.baselines: dict[int, Baseline] = {}
        self.healthy = self.stored((found.chunks, found.vectors), "healthy")
        self.remembered = _Remembering(self.healthy)
        self._measured: tuple[list[Answer], measures.PerQuery] = ([], {})
        self._surveyed: Any = None  # of the healthy one
        for size in sorted(SIZES, reverse=True):
            subject = Subject(self.healthy, found.golden(size), search=_plainly(self.healthy))
            if self._surveyed is not None:
                subject.__dict__["survey"] = self._surveyed
            report = judged(subject, only=() if self._surveyed is None else _OF_QUESTIONS)
            if self._surveyed is None and (refused := acceptable(report)):
                raise SystemExit(f"{found.name} is not acceptable: {refused} {report.checks}")
            self._surveyed = subject.survey
            self.baselines[size] = to_baseline(subject, report)
        self.ndcg, _ = self.quality(self.healthy, None)

    def stored(self, state: State, name: str = "broken") -> Collection:
        """Store a state, in place of the one before."""
        path = self._work / f"kb-{self.world.name}-{name}"
        shutil.rmtree(path, ignore_errors=True)
        collection = reperio.open(path, embedder=self.world.embedder, auto_optimize=False)
        collection.add(state[0], vectors=state[1])
        return collection

    def quality(self, collection: Collection, search: Search | None) -> tuple[float, list[Answer]]:
        """Return nDCG@10 over all questions, and the answers."""
        subject = Subject(collection, self.world.golden(), search=search)
        self._measured = (subject.answers, subject.values)
        return measures.mean(subject.values[measures.MAIN]), subject.answers

    def _valued(self, size: int, answers: list[Answer]) -> measures.PerQuery:
        """Return the measures of the first so many questions; all were measured at once."""
        if self._measured[0] is not answers:
            subject = Subject(None, self.world.golden())
            subject.__dict__["answers"] = answers
            self._measured = (answers, subject.values)
        asked = {query.id for query in self.world.questions[:size]}
        return {
            name: {key: value for key, value in found.items() if key in asked}
            for name, found in self._measured[1].items()
        }

    def gated(
        self, collection: Collection, make: Callable[[], Search | None], answers: list[Answer], skip: Sequence[str]
    ) -> dict[str, Any]:
        """Gate with each number of questions; checks that ask none run once, with the largest.

        The golden sets are beginnings of one another, so that each question is asked once.
        """
        red: dict[str, list[str]] = {}
        why: list[str] = []
        shared: list[str] = []
        surveyed: Any = self._surveyed if collection is self.healthy else None
        for size in sorted(SIZES, reverse=True):
            subject = Subject(collection, self.world.golden(size), search=make(), baseline=self.baselines[size])
            subject.__dict__["answers"] = answers[:size]
            if surveyed is not None:
                subject.__dict__["survey"] = surveyed  # the same chunks, compared with the same profile
            first = size == max(SIZES)
            subject.__dict__["values"] = self._valued(size, answers)
            # What is stored is the same for all modes, whatever the number of questions.
            wanted = _OF_QUESTIONS if collection is self.healthy else _OF_ANSWERS
            report = judged(subject, only=() if first else wanted, skip=skip)
            surveyed = surveyed or subject.survey
            own = [check for check in report.checks if check.verdict in _RED]
            if first:
                shared = [check.name for check in own if check.name not in wanted]
                why = [f"{check.name}: {'; '.join(check.evidence[1:3])}"[:_TOLD] for check in own]
            red[str(size)] = [*shared, *(check.name for check in own if check.name in wanted)]
        return {"red": red, "why": why}


def _plainly(collection: Collection) -> Search:
    """Return the search that fronts are put before: what is compared must be deployed in the same way."""

    def search(text: str, *, k: int, where: Any, mode: Any) -> list[reperio.Hit]:
        return collection.search(text, k=k, where=where, mode=mode)

    return search


def broken(ground: Ground, name: str, strength: float) -> dict[str, Any]:
    """Put one accident in, and gate."""
    started, found = time.perf_counter(), ground.world
    stored, asked = STORED | KEPT_STORED, ASKED | KEPT_ASKED
    if name in stored:
        change, _, always = stored[name]
        with ground.stored(change(found, strength)) as collection:
            ndcg, answers = ground.quality(collection, None)
            result = ground.gated(collection, lambda: None, answers, ("backup", "latency"))
    else:
        front, _, always = asked[name]
        behind: Any = ground.healthy if name in SLOW else ground.remembered
        ndcg, answers = ground.quality(ground.healthy, front(found, behind, strength))
        skip = _OF_CONTENTS if name in SLOW else (*_OF_CONTENTS, "latency")
        result = ground.gated(ground.healthy, lambda: front(found, behind, strength), answers, skip)
    drop = ground.ndcg - ndcg
    seconds = round(time.perf_counter() - started, 1)
    return {
        "set": found.name, "fault": name, "strength": strength, "always": always, "drop": round(drop, 4),
        "demanded": always or drop >= DROP, **result, "seconds": seconds,
    }  # fmt: skip


def varied(ground: Ground, seed: int) -> dict[str, Any]:
    """Gate a harmless change."""
    name = list(HARMLESS)[seed % len(HARMLESS)]
    with ground.stored(HARMLESS[name](ground.world, seed // len(HARMLESS))) as collection:
        _, answers = ground.quality(collection, None)
        found = ground.gated(collection, lambda: None, answers, ("backup", "latency"))
        return {"set": ground.world.name, "change": name, "seed": seed, **found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for and not yet done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--harmless", type=int, default=300, help="changes, over all sets (default: %(default)s)")
    parser.add_argument("--only", nargs="*", help="beginnings of names")
    parser.add_argument("--without", nargs="*", default=[], help="likewise, left out: those that wait, say")
    parser.add_argument("--kept-back", action="store_true", help="the accidents that were kept back, as well")
    parser.add_argument("--out", type=Path, help="a .json, with a .md and a .svg next to it")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / "sensitivity.json"
    content: dict[str, Any] = (
        json.loads(kept.read_text()) if kept.exists() else {"faults": {}, "harmless": {}, "kept back": {}, "sets": {}}
    )
    grounds: dict[str, Ground] = {}
    for part, key, name, run in _jobs(options):
        if key in content[part]:
            continue
        if name not in grounds:
            ground = grounds[name] = Ground(world(name), options.work)
            content["sets"][name] = {"chunks": len(ground.world.chunks), "ndcg": round(ground.ndcg, 4)}
        content[part][key] = found = run(grounds[name])
        _write(content, kept, options.out)
        print(_line(part, key, found), flush=True)
    _write(content, kept, options.out)
    return 0


_Job: TypeAlias = tuple[str, str, str, Callable[[Ground], dict[str, Any]]]
"""Part of the results, key in it, text set, and what is to be done."""


def _jobs(options: argparse.Namespace) -> Iterator[_Job]:
    """Yield faults and harmless changes in turns: a run that is cut short has the weaker half of the faults first."""
    names = options.sets.split(",")
    faults: list[_Job] = [
        (part, f"{name}: {fault}: {strength:g}", name, partial(broken, name=fault, strength=strength))
        for part, fault, strength in _wanted(options.only, options.without, kept_back=options.kept_back)
        for name in names
    ]
    changes: list[_Job] = [
        ("harmless", f"{names[seed % len(names)]}: {seed}", names[seed % len(names)], partial(varied, seed=seed))
        for seed in range(0 if options.only else options.harmless)
    ]
    turns = [(at / len(jobs), job) for jobs in (faults, changes) for at, job in enumerate(jobs)]
    yield from (job for _, job in sorted(turns, key=lambda turn: turn[0]))


def _wanted(only: Sequence[str] | None, without: Sequence[str], *, kept_back: bool) -> list[tuple[str, str, float]]:
    parts: list[tuple[str, dict[str, Any]]] = [("faults", ASKED), ("faults", STORED)]
    if kept_back:
        parts += [("kept back", KEPT_ASKED), ("kept back", KEPT_STORED)]
    return [
        (part, name, strengths[weaker])
        for weaker in (0, 1)
        for part, faults in parts
        for name, (_, strengths, _) in faults.items()
        if only is None or name.startswith(tuple(only))
        if not name.startswith(tuple(without))
    ]


def _line(part: str, key: str, found: dict[str, Any]) -> str:
    if part == "harmless":
        return f"RED {key}: {found['red']} {found['why']}" if any(found["red"].values()) else f"{key}: green"
    missed = [size for size, red in found["red"].items() if found["demanded"] and not red]
    return f"{key}: {found['drop']} {found['red']['200']} {f'MISSED {missed}' if missed else ''}"


def _write(content: dict[str, Any], kept: Path, out: Path | None) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    kept.write_text(text, encoding="utf-8")
    if out is not None:
        out.write_text(text, encoding="utf-8")
        out.with_suffix(".md").write_text(page(content), encoding="utf-8")
        out.with_suffix(".svg").write_text(picture(content), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
