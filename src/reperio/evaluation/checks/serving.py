"""Measure how quickly questions are answered, and check that those of the log still are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from reperio.evaluation.asking import ask, drawn, to_query
from reperio.evaluation.baseline import machine
from reperio.evaluation.checks.coverage import uncovered
from reperio.evaluation.checks.tail import tail
from reperio.evaluation.limits import GateLimits
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, FailedQuery, Verdict

_WARM_UP = 20  # questions asked before any is timed: by then files are mapped and models loaded
_MOST = _REPLAYED = 200  # questions, drawn from a longer log
_ATTEMPTS, _SECONDS = 3, 30.0  # what looks slow is timed so often, and for so long at most
_EMPTIED = 0.05  # of the questions that found something, so many may find nothing now
_QUICK = 1.2  # times the baseline's p95; no slower than that needs no further round
_BUSY = 0.2  # share of its time that a process waits for a core, more than in the baseline
_NOISE_MS = 0.3  # no ratio of times below this says anything


class Stopwatch:
    """Times questions by their number: each one's best, so that another process's burst does not count."""

    def __init__(self, once: Callable[[int], Any], count: int, limits: GateLimits, *, enough: float = 0.0) -> None:
        self._enough = enough  # ms of p95 that are as quick as ever
        self._once, self._count, self._limits = once, count, limits
        self._rate, self._seconds, self.rounds = 0.0, 0.0, 0
        self._ran, self._waited = 0, 0
        self.best = np.full(count, np.inf)
        self.calls: list[list[float]] = []  # ms by round and question, without waiting for a core
        self.is_undisturbed = _waited_here() is not None  # whether that is known
        warm = [self._timed(number)[1] for number in range(min(_WARM_UP, count))]
        self.cold = warm[0] if warm else 0.0

    def run(self) -> dict[str, float]:
        """Time some more rounds.

        Returns:
            p50, p95, p99 in ms; the rate of the best round in queries per second; and "waited", the share of their time
            that this process's threads waited for a core while they could have run: 0 where the system does not tell.
        """
        with ThreadPoolExecutor(self._limits.threads) as threads:
            ran, waited = _scheduled()
            for number in range(self._limits.rounds):
                # Each question was timed once, at least; and two rounds that are quick enough need no third.
                if number and (self.exhausted or (number > 1 and np.percentile(self.best, 95) <= self._enough)):
                    break
                started = perf_counter()
                taken = list(threads.map(self._timed, range(self._count)))
                seconds = perf_counter() - started
                times = [whole for whole, _ in taken]
                self.calls.append([own for _, own in taken])
                self.best, self._rate = np.minimum(self.best, times), max(self._rate, self._count / seconds)
                self._seconds, self.rounds = self._seconds + seconds, self.rounds + 1
            now = _scheduled()  # while the threads are there, whose counts end with them
        self._ran, self._waited = self._ran + now[0] - ran, self._waited + now[1] - waited
        # Threads that end take their counts along: what is left is no more than an estimate.
        share = min(0.95, max(0, self._waited) / max(1, self._ran + self._waited))
        p50, p95, p99 = np.percentile(self.best, (50, 95, 99))
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "rate": self._rate, "waited": round(share, 3)}

    @property
    def exhausted(self) -> bool:
        """True when the time for measuring is spent: a reranker may take a second per question."""
        return self._seconds > _SECONDS

    def _timed(self, number: int) -> tuple[float, float]:
        """Return the ms that a question took, and how many of them its thread did not wait for a core."""
        before, started = _waited_here(), perf_counter()
        self._once(number)
        taken, after = (perf_counter() - started) * 1e3, _waited_here()
        waited = 0.0 if before is None or after is None else (after - before) / 1e6
        return taken, max(0.0, taken - waited)


def latency(subject: Subject) -> CheckResult:
    """Time the questions under the stated concurrency; what looks slow is timed again before it is called so."""
    limits, questions = subject.limits, _questions(subject)
    if questions is None:
        return CheckResult("latency", Verdict.SKIP, ("there are no questions to time, and no vectors",))
    before, note = _comparable(subject, questions.kind)
    watch = Stopwatch(questions.once, questions.count, limits, enough=before.get("p95", 0.0) * _QUICK)
    cold = _cold(subject, watch)
    if before and before.get("collection") != (subject.collection is not None):
        before = {**before, "cold": 0.0}  # what is loaded before the first question is not the same
    for _ in range(_ATTEMPTS):
        figures = watch.run()
        absolute, slower = _absolute(figures, limits), _slower(figures, before, limits.latency_ratio)
        ends = tail(questions.keys, np.array(watch.calls), cold, before)
        # Another process may have had the core, so only what is slow every time is called so.
        if watch.exhausted or not (absolute or slower or ends.slower):
            break
    part = f" of {questions.whole:,}" if questions.count < questions.whole else ""
    line = (
        f"p50 {figures['p50']:.2f} ms, p95 {figures['p95']:.2f} ms, p99 {figures['p99']:.2f} ms, "
        f"{figures['rate']:,.0f} queries/s; {questions.count}{part} {questions.kind}, "
        f"{limits.threads} at a time, best of {watch.rounds} rounds"
    )
    own = {
        "threads": limits.threads,
        "kind": questions.kind,
        "collection": subject.collection is not None,
        "deployed": subject.is_deployed,
    }  # what a later run must equal to be compared
    shown = {**figures, **own, **ends.figures, "times": watch.best.round(4).tolist(), "limits": absolute}
    quiet = _undisturbed(figures, before)
    # What comes of other processes comes of them in the tail as well.
    busy_now = figures["waited"] > before.get("waited", 0.0) + _BUSY
    excused = not _slower(quiet, before, limits.latency_ratio) and not (
        ends.slower and (ends.selective or watch.is_undisturbed or not busy_now)
    )
    slower += ends.slower
    if slower and not absolute and excused:
        busy = f"waited for a core {figures['waited']:.0%} of the time, {before.get('waited', 0.0):.0%} in the baseline"
        cause = "other processes had the cores; without them it would not be that slow: gate again on a quiet machine"
        return CheckResult("latency", Verdict.WARN, (line, *slower, busy), cause, ends.queries, shown)
    if absolute or slower:
        general = "a dearer index or more candidates, a reranker, a busy machine; see settings for what changed"
        cause = uncovered(subject) or ends.cause or general
        return CheckResult("latency", Verdict.FAIL, (line, *absolute, *slower), cause, ends.queries, shown)
    if not before and not any((limits.p50, limits.p95, limits.p99, limits.rate)):
        return CheckResult("latency", Verdict.SKIP, (line, note), figures=shown)
    return CheckResult("latency", Verdict.PASS, (line, *([note] if note else [])), figures=shown)


def replayed(subject: Subject) -> CheckResult:
    """Ask the log's questions as they were asked: with their filter, mode and k."""
    if not subject.log:
        return CheckResult("replay", Verdict.SKIP, ("there is no query log; pass one with --from-log",))
    asked = drawn(subject.log, _REPLAYED)
    answers = [ask(subject.search, to_query(each), each.k) for each in asked]
    then = [(each, answer) for each, answer in zip(asked, answers, strict=True) if each.ids]
    evidence = [f"{len(asked)} of {len(subject.log):,} logged questions asked, each with its filter, mode and k"]
    if not then:
        empty = sum(not answer.found for answer in answers)
        evidence.append(f"{empty} found nothing; the log does not say what came then")
        return CheckResult("replay", Verdict.PASS, tuple(evidence))
    same = float(np.mean([len({*each.ids} & {*answer.ids}) / len({*each.ids}) for each, answer in then]))
    # Other answers may be better ones, none at all is not.
    emptied = [each for each, answer in then if not answer.found]
    evidence.append(f"{same:.1%} of what came then comes now; {len(emptied)} of {len(then)} now find nothing")
    queries = tuple(FailedQuery(each.text, each.text, each.ids[:5], (), "nothing comes") for each in emptied[:10])
    verdict = Verdict.FAIL if len(emptied) > _EMPTIED * len(then) else Verdict.WARN if emptied else Verdict.PASS
    cause = "chunks are gone, or a field that is filtered by was renamed; see drift and filters" if emptied else ""
    return CheckResult("replay", verdict, tuple(evidence), cause, queries, {"same": same, "empty": len(emptied)})


def _waited_here() -> int | None:
    """Return for how many nanoseconds the thread that calls has waited for a core; None where unknown."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _scheduled() -> tuple[int, int]:
    """Return for how many nanoseconds this process's threads have run, and waited for a core; zeros where unknown."""
    ran, waited = 0, 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError):  # a thread may end, a kernel may not count
            one, other, _ = path.read_text().split()
            ran, waited = ran + int(one), waited + int(other)
    return ran, waited


@dataclass(frozen=True, slots=True)
class _Workload:
    """Calls to time, one per question."""

    once: Callable[[int], Any]  # asks the question of a number
    count: int
    kind: str  # of questions, in words
    keys: list[str]  # of the questions
    whole: int  # questions of which these were drawn


def _questions(subject: Subject) -> _Workload | None:
    """Return what asks the log's questions, else the golden set's, else held-out vectors."""
    k = subject.golden.k if subject.golden else 10
    if subject.log:
        logged = [(to_query(each), each.k) for each in drawn(subject.log, _MOST)]
        whole = len(subject.log)
        return _Workload(
            lambda at: ask(subject.search, *logged[at]),
            len(logged),
            "logged questions",
            _unique([each.id for each, _ in logged]),
            whole,
        )
    if subject.golden:
        asked, whole = drawn(subject.golden.queries, _MOST), len(subject.golden.queries)
        return _Workload(
            lambda at: ask(subject.search, asked[at], k), len(asked), "questions", [each.id for each in asked], whole
        )
    collection = subject.collection
    if collection is None or not collection.count():
        return None
    vectors, search = collection.sample_queries(_MOST), partial(collection.search, k=k, recall=subject.limits.recall)
    return _Workload(
        lambda at: search(vector=vectors[at]),
        len(vectors),
        "held-out vectors",
        _unique([""] * len(vectors)),
        len(vectors),
    )


def _cold(subject: Subject, watch: Stopwatch) -> float:
    """Return what the first call of a deployed search took, in ms; 0 for the collection's own.

    What that loads with its first question, such as the model, depends on which checks ran before.
    """
    if not subject.is_deployed:
        return 0.0
    # Where other checks have asked before, the first question of all is not the first here.
    return subject.answers[0].ms if "answers" in subject.__dict__ and subject.answers else watch.cold


def _unique(names: list[str]) -> list[str]:
    """Return the names with their place, where one comes more than once."""
    return [name if names.count(name) == 1 else f"{name} #{at}" for at, name in enumerate(names)]


def _slower(figures: Mapping[str, float], before: Mapping[str, Any], ratio: float) -> list[str]:
    return [
        f"{name} {before[name]:.2f} → {figures[name]:.2f} ms, more than {ratio:g} times"
        for name in ("p50", "p95")
        if before and figures[name] > ratio * before[name] + _NOISE_MS  # without a baseline nothing is slower
    ]


def _undisturbed(figures: Mapping[str, float], before: Mapping[str, Any]) -> dict[str, float]:
    """Return what the times would be had the process waited for a core no more than when the baseline was measured."""
    less = min(1.0, (1 - figures["waited"]) / (1 - min(0.99, before.get("waited", 0.0))))
    return {name: figures[name] * less for name in ("p50", "p95")}


def _absolute(figures: dict[str, float], limits: GateLimits) -> list[str]:
    wrong = []
    for name in ("p50", "p95", "p99"):
        most = getattr(limits, name)
        if most is not None and figures[name] > most:
            wrong.append(f"{name} {figures[name]:.2f} ms is above {most:g} ms")
    if limits.rate is not None and figures["rate"] < limits.rate:
        wrong.append(f"{figures['rate']:,.0f} queries/s are below {limits.rate:,.0f}")
    return wrong


def _comparable(subject: Subject, kind: str) -> tuple[dict[str, Any], str]:
    """Return the baseline's latency, where it was measured in the same way on such a machine, or why not."""
    baseline = subject.baseline
    if baseline is None:
        return {}, "there is no baseline"
    if not baseline.latency:
        return {}, "the baseline holds no latency: accept a new one"
    if dict(baseline.machine) != machine():
        return {}, f"the baseline was measured on another machine: {baseline.machine.get('processor', 'unknown')}"
    if baseline.latency.get("kind") != kind:
        return {}, f"the baseline was measured with {baseline.latency.get('kind')}"
    if baseline.latency.get("threads") != subject.limits.threads:
        return {}, f"the baseline was measured with {baseline.latency.get('threads')} threads"
    # The other way round it is: what is put in front of a collection must not be too slow.
    if baseline.latency.get("deployed") and not subject.is_deployed:
        return {}, "the baseline was measured with a deployed search, and the collection's own is asked now"
    return dict(baseline.latency), ""
