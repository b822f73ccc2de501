"""Vectors that are not their texts', rows that no index covers, filters lost in one mode, and what is slow at times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reperio
from reperio import Chunk, Collection, Hit
from reperio.evaluation import Baseline, CheckResult, GateLimits, GoldenQuery, GoldenSet, gate
from reperio.evaluation.baseline import machine
from reperio.evaluation.checks import serving
from reperio.query_log.reading import LoggedQuestion
from tests.conftest import TrigramEmbedder
from tests.evaluation.conftest import LIMITS, chunks

Vectors = npt.NDArray[np.float32]


def one(name: str, collection: Collection | None, golden: GoldenSet | None = None, **options: Any) -> CheckResult:
    [found] = gate(collection, golden, limits=options.pop("limits", LIMITS), only=[name], **options).checks
    return found


def embedded(texts: list[str]) -> Vectors:
    return TrigramEmbedder(64).embed_passages(texts)


def rounded(texts: list[str]) -> Vectors:
    return np.where(embedded(texts) > 1, 1, -1).astype(np.float32)


CAUSES: dict[str, tuple[Callable[[list[str]], Vectors], str]] = {
    "a prompt": (
        lambda some: embedded(["passage: " + text for text in some]),
        "behind 'passage: ', which the contract",
    ),
    "lower dimension": (lambda some: embedded(some) * (np.arange(64) < 32), "vectors were cut to 32 of 64 components"),
    "swapped": (lambda some: embedded([*some[1:], some[0]]), "rows are shifted against their texts, or texts were"),
    "another model": (lambda some: TrigramEmbedder(64, salt="x").embed_passages(some), "by another model"),
    "few values": (rounded, "vectors were rounded to few values"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_found_by_trying(path: Path, embedder: TrigramEmbedder, name: str) -> None:
    """What a person would try: prompts, fewer components, other rows."""
    some, (make, told) = chunks()[:60], CAUSES[name]
    with reperio.open(path, embedder=embedder) as collection:
        collection.add(some, vectors=make([chunk.text for chunk in some]))
        found = one("contract", collection)
    assert (found.verdict, told in found.cause) == ("fail", True), found


def test_a_sample_says_what_it_can_miss(full: Collection) -> None:
    """Some sixty of three hundred are embedded again: a twentieth may be wrong."""
    found = one("contract", full)
    assert found.evidence[1].startswith("it is a sample: up to ")
    assert 0.03 < found.figures["missed"] < 0.1


def test_rows_that_no_index_covers_are_told(path: Path) -> None:
    """As what they are, with the cure, and not as a dearer index."""
    vectors = np.random.default_rng(1).normal(size=(3000, 16)).astype(np.float32)
    with reperio.open(path, dimension=16, auto_optimize=False) as collection:
        collection.add([Chunk(f"c{at}") for at in range(2000)], vectors=vectors[:2000])
        collection.optimize(index="IVF8,Flat")
        assert one("neighbours", collection).verdict == "pass"
        collection.add([Chunk(f"n{at}") for at in range(1000)], vectors=vectors[2000:])
        found = one("neighbours", collection)
    told = "1,000 of 3,000 rows are newer than the index, and are compared one by one: run reperio optimize"
    assert (found.verdict, found.cause) == ("warn", told)


def test_a_filter_lost_in_one_mode_is_red(full: Collection) -> None:
    """No golden question has both; the filter is known from the golden set, or from the log."""
    golden = GoldenSet(
        [GoldenQuery(each.id, " ".join(each.text.split()[:6]), {each.id: 1}) for each in chunks()[:8]]
    )  # fmt: skip
    filtered = GoldenSet([*golden.queries, replace(golden.queries[0], id="f", where={"lang": "de"})])

    def search(text: str, *, k: int, where: Mapping[str, Any] | None, mode: Any) -> list[Hit]:
        return full.search(text, k=k, where=None if mode == "hybrid" else where, mode=mode)

    log = [LoggedQuestion("own3", where={"lang": "de"})]
    assert one("modes", full, filtered).verdict == "pass"
    assert one("modes", full, golden).verdict == "skip"
    for asked in ({"golden": filtered}, {"golden": golden, "log": log}):
        found = one("modes", full, search=search, **asked)  # type: ignore[arg-type]  # one of them is the golden set
        assert (found.verdict, {query.id for query in found.queries}) == ("fail", {"hybrid with {'lang': 'de'}"})


class Clock:
    """A search whose every call takes as long as it is told to; no time passes but that."""

    waits: Callable[[int], int] = staticmethod(lambda _: 0)  # ms of a call in which another process had the core

    def __init__(self, ms: Callable[[int, str], float]) -> None:
        self.ms, self.calls, self.now, self.waited = ms, 0, 0.0, 0

    def search(self, text: str) -> list[str]:
        self.now += self.ms(self.calls, text) / 1e3
        self.waited += self.waits(self.calls) * 1_000_000
        self.calls += 1
        return ["c0"]


SLOW: dict[str, tuple[Callable[[int, str], float], str]] = {
    "some questions always": (lambda _, text: 1500 if text in ("q3", "q77", "q90") else 5, "3 of 100 questions take"),
    "some calls": (lambda call, _: 305 if call % 9 == 7 else 5, "calls take more than 5 times"),
    "the first calls": (lambda call, _: 4000 if call < 2 else 5, "the first call took 4,000 ms, 5 in the baseline"),
}  # fmt: skip


def timed(monkeypatch: pytest.MonkeyPatch, ms: Callable[[int, str], float], baseline: Baseline | None) -> CheckResult:
    clock = Clock(ms)
    monkeypatch.setattr(serving, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(serving, "_scheduled", lambda: (0, 0))
    monkeypatch.setattr(serving, "_waited_here", lambda: clock.waited)
    golden = GoldenSet([GoldenQuery(f"q{at}", f"q{at}") for at in range(100)])
    return one("latency", None, golden, search=clock.search, baseline=baseline, limits=GateLimits())


@pytest.mark.parametrize("name", SLOW)
def test_what_is_slow_at_times_is_red(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Median and 95% quantile of the best times are those of the baseline."""
    first = timed(monkeypatch, lambda *_: 5, None).figures
    baseline = Baseline(
        "then", latency={key: first[key] for key in first if key not in ("times", "limits")}, machine=machine()
    )
    assert timed(monkeypatch, lambda call, _: 5 + call % 3, baseline).verdict == "pass"
    with monkeypatch.context() as busy:
        busy.setattr(Clock, "waits", staticmethod(lambda call: 300 if call % 9 == 7 else 0))
        assert timed(monkeypatch, lambda call, _: 305 if call % 9 == 7 else 5, baseline).verdict == "pass"
    ms, told = SLOW[name]
    found = timed(monkeypatch, ms, baseline)
    assert (found.verdict, told in found.evidence[-1]) == ("fail", True), found
    assert not any(line.startswith(("p50", "p95")) for line in found.evidence[1:])
    assert [query.id for query in found.queries] == (["q3", "q77", "q90"] if name == "some questions always" else [])
