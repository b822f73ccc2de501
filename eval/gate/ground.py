"""Healthy collections with what was accepted of them, and a gate run with every golden set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from healthy import Kind, Recorded, TextSet, build, copied, embedder_of, golden, opened
from models import Kept

import reperio
from reperio import Collection
from reperio.evaluation import (
    Baseline,
    CheckResult,
    GateLimits,
    GoldenSet,
    Search,
    Subject,
    Verdict,
    acceptable,
    judged,
    to_baseline,
)
from reperio.evaluation.statistics import measures

RED = (Verdict.FAIL, Verdict.ERROR)
_TOLD = 400  # characters: the results are a file to commit
SHARED = ("integrity", "reachable", "backup")


@dataclass(frozen=True)
class Healthy:
    """A healthy collection of one kind.

    Attributes:
        path: of it; nobody writes there.
        embedder: of it.
        baselines: what was accepted, by the number of questions.
        ndcg: nDCG@10 over all questions.
    """

    path: Path
    embedder: Recorded
    baselines: dict[int, Baseline]
    ndcg: float


class Gated(NamedTuple):
    """One gate run.

    Attributes:
        checks: of the gate, with what they found.
        kept: part of the baseline's first ten that came again, mean over the questions; None where asking raises.
        slower: p50 relative to the baseline's; None where it could not be measured.
    """

    checks: Sequence[CheckResult]
    kept: float | None
    slower: float | None

    @property
    def red(self) -> list[str]:
        """The names of the red checks."""
        return [check.name for check in self.checks if check.verdict in RED]

    @property
    def why(self) -> list[str]:
        """The red checks with the beginning of their evidence."""
        told = (f"{check.name}: {'; '.join(check.evidence)}" for check in self.checks if check.verdict in RED)
        return [each[:_TOLD] for each in told]


def figures(gated: dict[int, Gated]) -> dict[str, Any]:
    """Return what is kept of the runs with golden sets of several sizes."""
    return {
        "red": {str(size): run.red for size, run in sorted(gated.items())},
        "why": {str(size): run.why for size, run in sorted(gated.items())},
        "kept": {str(size): run.kept for size, run in sorted(gated.items())},
        "slower": {str(size): run.slower for size, run in sorted(gated.items())},
    }


class Ground:
    """The text set, its golden sets, and healthy collections of every kind, built when they are first needed.

    Args:
        work: a directory for collections, models and vectors, which the next run finds again.
        texts: what is stored and asked.
        sizes: of the golden sets, in questions.
        limits: of the gate.
    """

    def __init__(self, work: Path, texts: TextSet, sizes: Sequence[int], limits: GateLimits | None = None) -> None:
        self.work, self.texts, self.limits = work, texts, limits or GateLimits()
        self.kept = Kept(work)
        self.goldens: dict[int, GoldenSet] = {size: golden(texts, size) for size in sizes}
        self.all = golden(texts)
        self._kinds: dict[Kind, Healthy] = {}

    def of(self, kind: Kind) -> Healthy:
        """Return the healthy collection of a kind."""
        if kind not in self._kinds:
            self._kinds[kind] = self._healthy(kind)
        return self._kinds[kind]

    def _healthy(self, kind: Kind) -> Healthy:
        embedder, path = embedder_of(kind, self.texts, self.kept), self.work / kind.name
        if not path.exists():
            build(self.work / "unfinished", self.texts, kind, embedder)
            (self.work / "unfinished").rename(path)
        with opened(path, embedder) as collection:
            baselines = {size: self._accepted(collection, asked) for size, asked in self.goldens.items()}
            ndcg = self.quality(collection)
        assert ndcg is not None  # it was just accepted
        return Healthy(path, embedder, baselines, ndcg)

    def _accepted(self, collection: Collection, asked: GoldenSet) -> Baseline:
        subject = Subject(collection, asked, limits=self.limits)
        report = judged(subject)
        refused = acceptable(report)
        if refused:
            raise SystemExit(
                f"a healthy collection is not acceptable: {refused}\n{Gated(report.checks, None, None).why}"
            )
        return to_baseline(subject, report)

    def quality(self, collection: Collection, search: Search | None = None) -> float | None:
        """Return nDCG@10 over all questions; None where asking them raises."""
        subject = Subject(collection, self.all, search=search, limits=self.limits)
        try:
            return measures.mean(subject.values[measures.MAIN])
        except reperio.ReperioError:
            return None

    def copy(self, kind: Kind, name: str) -> Path:
        """Copy the healthy collection of a kind into the work folder."""
        return copied(self.of(kind).path, self.work / name)

    def gated(
        self, kind: Kind, collection: Collection, *, search: Search | None = None, limits: GateLimits | None = None
    ) -> dict[int, Gated]:
        """Gate a collection against what was accepted of its kind, with every golden set.

        `SHARED` checks do not look at the questions: they run once, with the largest set, and count for the others.
        """
        runs: dict[int, Gated] = {}
        shared: list[CheckResult] = []
        for size in sorted(self.goldens, reverse=True):
            baseline = self.of(kind).baselines[size]
            subject = Subject(
                collection, self.goldens[size], search=search, baseline=baseline, limits=limits or self.limits
            )  # fmt: skip
            checks = [*shared, *judged(subject, skip=SHARED if shared else ()).checks]
            shared = [check for check in checks if check.name in SHARED]
            runs[size] = Gated(checks, _kept(baseline, subject), _slower(baseline, checks))
        return runs


def _kept(baseline: Baseline, subject: Subject) -> float | None:
    try:
        shares = [
            len(set(before) & set(answer.ids[: len(before)])) / len(before)
            for answer in subject.answers
            if (before := baseline.ids.get(answer.query.id))
        ]
    except reperio.ReperioError:
        return None
    return round(sum(shares) / len(shares), 4)


def _slower(baseline: Baseline, checks: Sequence[CheckResult]) -> float | None:
    found = [check.figures["p50"] for check in checks if check.name == "latency" and "p50" in check.figures]
    before = baseline.latency.get("p50")
    return round(found[0] / before, 2) if found and before else None


def seconds_since(started: float) -> float:
    """Return how long something took, to a tenth."""
    return round(time.perf_counter() - started, 1)


def plain(found: dict[str, Any]) -> str:
    """Say in one line what was found."""
    kept = {key: value for key, value in found.items() if key != "why"}
    return ", ".join(f"{key} {value}" for key, value in kept.items())
