"""Answers one by one, few questions, no baseline, and a decline in small steps: what a mean lets pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reperio import Collection, Hit
from reperio.evaluation import (
    Baseline,
    CheckResult,
    GoldenQuery,
    GoldenSet,
    Search,
    Subject,
    acceptable,
    gate,
    judged,
    read_baseline,
    to_baseline,
    write_baseline,
)
from reperio.evaluation.statistics.power import harmless_p, more_needed, power
from tests.evaluation.conftest import LIMITS, chunks


def asked(number: int, **changes: Any) -> GoldenSet:
    some = chunks()[:number]
    return GoldenSet(
        [
            replace(GoldenQuery(f"q{at}", " ".join(each.text.split()[:6]), {each.id: 1}), **changes)
            for at, each in enumerate(some)
        ]
    )


def one(name: str, collection: Collection, golden: GoldenSet, **options: Any) -> CheckResult:
    [found] = gate(collection, golden, limits=options.pop("limits", LIMITS), only=[name], **options).checks
    return found


def accepted(collection: Collection, golden: GoldenSet, before: Baseline | None = None, **options: Any) -> Baseline:
    subject = Subject(collection, golden, limits=LIMITS, baseline=before, **options)
    return to_baseline(subject, judged(subject, only=["thresholds", "regression", "questions"]))


def spoilt(collection: Collection, texts: set[str], cut: slice) -> Search:
    """Search, and give only a part of the hits for some questions."""

    def search(text: str, *, k: int, where: Mapping[str, Any] | None) -> list[Hit]:
        hits = collection.search(text, k=k + 10, where=where)
        return hits[cut] if text in texts else hits[:k]

    return search


def test_without_a_baseline_nothing_is_green(full: Collection) -> None:
    """A lost file would make the gate green for ever; a person may say that there is none."""
    found = one("regression", full, asked(20))
    assert (found.verdict, "limits: {no_baseline: true}" in found.evidence[0]) == ("error", True)
    found = one("regression", full, asked(20), limits=replace(LIMITS, no_baseline=True))
    assert (found.verdict, found.evidence[0]) == ("skip", "there is no baseline: judged by the thresholds alone")


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_few_questions_can_be_red(full: Collection, number: int) -> None:
    """Where all answers are others, whatever the number; a sign test of four never says so."""
    golden = asked(number)
    search = spoilt(full, {query.text for query in golden.queries}, slice(10, 20))
    found = one("regression", full, golden, search=search, baseline=accepted(full, golden))
    assert found.verdict == "fail", found


def test_a_baseline_that_finds_nothing_is_refused(full: Collection) -> None:
    """Nothing could be worse than it; and one that was written by an earlier version is an error."""
    golden = asked(5, expect={"c299": 1})
    report = judged(Subject(full, golden, limits=LIMITS))
    assert (acceptable(report), report.exit_code) == (["thresholds"], 1)
    baseline = accepted(full, asked(5))
    zero = replace(baseline, values={"nDCG@10": dict.fromkeys(baseline.ids, 0.0)})
    found = one("regression", full, asked(5), baseline=zero)
    assert (found.verdict, "nothing could become worse" in found.evidence[0]) == ("error", True)


def test_a_decline_in_accepted_steps_is_noticed(full: Collection, tmp_path: Path) -> None:
    """Each step may be chance, and is accepted; together they are not. Accepting that begins the history again."""
    golden, path = asked(60), tmp_path / "b.json"
    baseline: Baseline | None = None
    found = None
    for step in range(5):
        search = spoilt(full, {query.text for query in golden.queries[:step]}, slice(1, 11))
        if baseline is not None:
            found = one("regression", full, golden, search=search, baseline=baseline)
            if found.verdict == "fail":
                break
        baseline = accepted(full, golden, baseline, search=search)
        write_baseline(baseline, path)
        baseline = read_baseline(path)
    assert found is not None
    assert baseline is not None
    assert (found.verdict, step) == ("fail", 2), found
    assert "steps that were accepted one by one" in found.cause
    again = accepted(full, golden, baseline, search=search)
    assert (len(baseline.history), len(again.history)) == (2, 1)


def test_a_question_that_finds_nothing_is_named(full: Collection) -> None:
    """One of fifty is red by itself; that a question without an answer finds nothing is not."""
    golden = asked(50)
    golden = replace(golden, queries=[*golden.queries, GoldenQuery("none", "zzzz", nothing_above=0.99)])
    baseline, lost = accepted(full, golden), golden.queries[7]
    found = one("questions", full, golden, search=spoilt(full, {lost.text, "zzzz"}, slice(0)), baseline=baseline)
    assert (found.verdict, [query.id for query in found.queries]) == ("fail", ["q7"])
    assert (found.queries[0].why, found.cause[:40]) == (
        "10 hits in the baseline, none now", "nothing comes where something came: a ti"
    )  # fmt: skip


def test_fewer_hits_are_red_only_where_they_are_stored(full: Collection) -> None:
    """A least score takes them; deleted chunks are missing rightly."""
    golden = asked(20, where={"lang": "de", "year": 2020})
    baseline, some = accepted(full, golden), {query.text for query in golden.queries[:4]}
    found = one("questions", full, golden, search=spoilt(full, some, slice(6)), baseline=baseline)
    assert (found.verdict, len(found.queries), "min_score" in found.cause) == ("fail", 4, True)
    matching = full.ids(where=dict(golden.queries[0].where or {}))
    full.delete(ids=matching[:-6])
    found = one("questions", full, golden, baseline=baseline)
    assert (found.verdict, found.figures["fewer"]) == ("pass", 0)


def test_another_first_hit_is_red_by_its_history(full: Collection) -> None:
    """One that was right in five baselines, and is not among the first three; or several, whatever the history."""
    golden = asked(20)
    baseline, lost = accepted(full, golden), golden.queries[3].text

    def search(text: str, *, k: int, where: Mapping[str, Any] | None) -> list[Hit]:
        hits = full.search(text, k=k, where=where)
        return [*hits[1:5], hits[0], *hits[5:]] if text == lost else hits

    assert one("questions", full, golden, search=search, baseline=baseline).verdict == "pass"
    for _ in range(4):
        baseline = accepted(full, golden, baseline)
    assert set(baseline.streaks.values()) == {5}
    found = one("questions", full, golden, search=search, baseline=baseline)
    assert (found.verdict, found.queries[0].why[-27:]) == ("fail", "5 baselines; none of 3 is now"[-27:])
    several = spoilt(full, {query.text for query in golden.queries[:3]}, slice(1, 11))
    assert one("questions", full, golden, search=several, baseline=accepted(full, golden)).verdict == "fail"


def test_one_lost_answer_is_red_where_nothing_else_changed(full: Collection) -> None:
    """Chunks, vectors and index are those accepted: no chance loses an answer. What lost it may have mended others."""
    golden = asked(20)
    search = spoilt(full, {golden.queries[3].text}, slice(1, 11))
    baseline = accepted(full, golden)
    found = one("questions", full, golden, search=search, baseline=baseline)
    assert (found.verdict, found.queries[0].id, "in front" in found.cause) == ("fail", "q3", True), found
    worse = replace(baseline, values={**baseline.values, "nDCG@10": dict.fromkeys(baseline.asked, 0.5)})
    assert one("questions", full, golden, search=search, baseline=worse).verdict == "pass"
    full.delete(ids=full.ids()[-1:])
    assert one("questions", full, golden, search=search, baseline=baseline).verdict == "pass"


def test_a_drop_is_red_where_nothing_else_changed_and_it_may_be_too_large(full: Collection) -> None:
    """Five of 100 questions lose their first rank: .018 here, and maybe more than 0.02 in all questions."""
    golden = asked(100)
    lost = {query.text for query in golden.queries[::20]}
    baseline = accepted(full, golden)

    def search(text: str, *, k: int, where: Mapping[str, Any] | None) -> list[Hit]:
        hits = full.search(text, k=k, where=where)
        return [*hits[1:2], hits[0], *hits[2:]] if text in lost else hits

    found = one("regression", full, golden, search=search, baseline=baseline)
    assert (found.verdict, "5 worse and 0 better of 100" in found.evidence[0]) == ("fail", True), found
    full.delete(ids=full.ids()[-1:])
    assert one("regression", full, golden, search=search, baseline=baseline).verdict == "pass"


def test_answers_in_another_order_are_no_chance(full: Collection) -> None:
    """Two more of 100 questions are worse than better, which may be chance; that four are answered otherwise is not."""
    golden = asked(100)
    swapped = [golden.queries[at] for at in (3, 30, 60, 90)]
    second = full.search(swapped[0].text, k=2, where=swapped[0].where)[1].chunk.id
    queries = [replace(each, expect={second: 1}) if each is swapped[0] else each for each in golden.queries]
    golden = GoldenSet(queries)
    texts = {query.text for query in swapped}

    def search(text: str, *, k: int, where: Mapping[str, Any] | None) -> list[Hit]:
        hits = full.search(text, k=k, where=where)
        return [hits[1], hits[0], *hits[2:]] if text in texts else hits

    found = one("regression", full, golden, search=search, baseline=accepted(full, golden))
    assert (found.verdict, "3 worse and 1 better of 100" in found.evidence[0]) == ("fail", True), found


def test_a_baseline_of_few_of_the_questions_is_a_warning(full: Collection) -> None:
    """Edited by hand, a question is compared with nothing; where most are, green would say next to nothing."""
    golden = asked(20)
    baseline = accepted(full, golden)
    for edited, verdict in ((10, "pass"), (11, "warn")):
        some = [replace(each, text=f"{each.text} please") for each in golden.queries[:edited]]
        now = GoldenSet([*some, *golden.queries[edited:]])
        found = one("regression", full, now, baseline=baseline)
        assert found.verdict == verdict, found
    assert "only 9 of 20 questions ask" in found.cause


def test_what_could_have_been_seen_is_said(full: Collection) -> None:
    """With the number of questions that would make it likely."""
    found = one("regression", full, asked(20), baseline=accepted(full, asked(20)))
    assert "had one in 20 of the 20 questions lost its answer" in found.evidence[-1]
    assert "more questions make it 9" in found.evidence[-1]


def test_power_grows_with_questions_and_falls_with_the_rate() -> None:
    """As the rule itself says: what is computed is how often so many questions are lost that it is red."""
    figures = {"mean": 0.7, "alpha": 0.05, "effect": 0.02}
    chances = [power(count, 0.05, rate=0.005, **figures) for count in (20, 50, 100, 200)]
    assert chances == sorted(chances)
    assert chances[1] > power(50, 0.05, rate=0.05, **figures)
    assert harmless_p(2, 4, 0.05) == pytest.approx(0.014, abs=1e-3)
    needed = more_needed(50, 0.05, rate=0.05, **figures)
    assert needed is not None
    assert power(50 + needed, 0.05, rate=0.05, **figures) >= 0.9
