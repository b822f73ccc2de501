"""The gate on a healthy collection, and on ones with something wrong; the mutation suite is in tests/gate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio import Chunk, Collection, Hit
from reperio.errors import InvalidInput
from reperio.evaluation import (
    Baseline,
    CheckResult,
    GateLimits,
    GateReport,
    GoldenSet,
    Subject,
    Verdict,
    acceptable,
    gate,
    judged,
    read_baseline,
    to_baseline,
    write_baseline,
)
from reperio.evaluation.gate import NAMES
from tests.conftest import TrigramEmbedder
from tests.evaluation.conftest import LIMITS, chunks


def accepted(collection: Collection, golden: GoldenSet) -> Baseline:
    subject = Subject(collection, golden, limits=LIMITS)
    report = judged(subject)
    assert acceptable(report) == [], report.checks
    return to_baseline(subject, report)


def verdicts(report: GateReport) -> dict[str, str]:
    return {check.name: check.verdict.value for check in report.checks}


def check(report: GateReport, name: str) -> CheckResult:
    return next(each for each in report.checks if each.name == name)


def test_a_healthy_collection_passes(full: Collection, golden: GoldenSet, tmp_path: Path) -> None:
    """Every check passes against its own baseline, which survives being written and read."""
    path = tmp_path / "golden.baseline.json"
    baseline = accepted(full, golden)
    write_baseline(baseline, path)
    assert read_baseline(path) == baseline
    report = gate(full, golden, baseline=baseline, limits=LIMITS, log=["own7"])
    assert verdicts(report) == dict.fromkeys(NAMES, "pass") | {"latency": "skip"}, report.checks
    assert check(report, "latency").evidence[1] == "the baseline was measured with questions"
    assert verdicts(gate(full, golden, baseline=baseline, limits=LIMITS, only=["latency"])) == {"latency": "pass"}
    assert (report.exit_code, report.passed) == (0, True)


def test_without_a_golden_set_the_rest_is_checked(full: Collection) -> None:
    """What needs labels is skipped with the reason, and the others decide."""
    report = gate(full, limits=LIMITS)
    assert check(report, "thresholds").evidence == ("not run: needs a golden set",)
    assert (check(report, "backup").verdict, report.exit_code) == (Verdict.PASS, 0)


def test_nothing_checked_is_no_pass(full: Collection) -> None:
    """A gate whose every check was skipped could not run."""
    report = gate(full, only=["thresholds", "regression"], limits=LIMITS)
    assert report.exit_code == 2
    assert not report.passed


def test_an_unknown_check_is_refused(full: Collection) -> None:
    """With those there are."""
    with pytest.raises(InvalidInput, match=r"no check 'integrty'; did you mean 'integrity'"):
        gate(full, only=["integrty"])
    with pytest.raises(InvalidInput, match="nothing to judge"):
        gate()


def test_missing_chunks_are_red(full: Collection, golden: GoldenSet) -> None:
    """An expected id that is gone is named with its question; fewer chunks than in the baseline are told."""
    baseline = accepted(full, golden)
    full.delete(ids=["c0", *(f"c{at}" for at in range(5, 300, 50))])
    report = gate(full, golden, baseline=baseline, limits=LIMITS)
    found = check(report, "golden ids")
    assert found.verdict is Verdict.FAIL
    assert [query.why for query in found.queries] == ["'c0' not in the collection"]
    assert "fewer" in " ".join(check(report, "sources").evidence)
    assert report.exit_code == 1


def test_a_changed_text_of_an_expected_chunk_is_told(full: Collection, golden: GoldenSet) -> None:
    """Its label may be stale: a warning, which does not stop a deployment by itself."""
    baseline = accepted(full, golden)
    full.add([replace(full.get("c0"), text="something else entirely")])  # type: ignore[type-var]  # it exists
    report = gate(full, golden, baseline=baseline, limits=LIMITS, only=["golden ids"])
    assert verdicts(report) == {"golden ids": "warn"}
    assert report.exit_code == 0


def test_a_renamed_metadata_field_is_red(full: Collection, golden: GoldenSet) -> None:
    """By access, as the golden set filters by it, and by the filters of the golden set that match nothing."""
    baseline = accepted(full, golden)
    full.add([replace(each, metadata={"language": each.metadata["lang"], "source": "d"}) for each in chunks()])
    report = gate(full, golden, baseline=baseline, limits=LIMITS)
    assert "the field 'lang', which 100% of the chunks had, is in none" in check(report, "access").evidence
    assert "was a metadata field renamed" in " ".join(check(report, "filters").evidence)


def test_vectors_of_other_texts_are_red(path: Path, embedder: TrigramEmbedder, golden: GoldenSet) -> None:
    """Vectors shifted by one row are those of no text: the contract says so, and which cause is likely."""
    with reperio.open(path, embedder=embedder) as collection:
        shifted = chunks()
        vectors = embedder.embed_passages([shifted[-1].text, *(each.text for each in shifted[:-1])])
        collection.add(shifted, vectors=vectors)
        report = gate(collection, golden, limits=LIMITS, only=["integrity", "contract", "thresholds"])
    assert verdicts(report) == {"integrity": "pass", "contract": "fail", "thresholds": "fail"}
    assert "rows are shifted" in check(report, "contract").cause


def test_one_bad_group_is_not_hidden_by_the_mean(full: Collection, golden: GoldenSet) -> None:
    """Half of the questions of one tag lose their answers: that group is named."""
    baseline = accepted(full, golden)
    odd = {query.text for query in golden.queries if "odd" in query.tags}

    def search(text: str, *, k: int, where: Mapping[str, Any] | None) -> list[Hit]:
        hits = full.search(text, k=k + 10, where=where)
        return hits[10:] if text in odd else hits[:k]

    report = gate(full, golden, search=search, baseline=baseline, limits=LIMITS, only=["regression"])
    found = check(report, "regression")
    assert found.verdict is Verdict.FAIL
    assert any(line.startswith("odd: ") for line in found.evidence)
    assert not any(line.startswith("even: ") for line in found.evidence)
    assert {query.text for query in found.queries} <= odd


def test_a_search_by_itself_is_judged(full: Collection, golden: GoldenSet) -> None:
    """Without a collection: what is deployed, by its labels alone."""

    def search(text: str, *, k: int, where: Mapping[str, Any] | None) -> list[Hit]:
        return full.search(text, k=k, where=where)

    report = gate(None, golden, search=search, limits=LIMITS)
    assert (check(report, "thresholds").verdict, check(report, "integrity").verdict) == (Verdict.PASS, Verdict.SKIP)
    assert report.exit_code == 0


def test_a_search_that_lacks_an_option_is_refused(full: Collection, golden: GoldenSet) -> None:
    """A filter that would be ignored is an error, not a worse answer."""

    def search(text: str) -> Sequence[str]:
        return [hit.chunk.id for hit in full.search(text)]

    report = gate(full, golden, search=search, limits=LIMITS, only=["thresholds"])
    assert "which search has no option for" in check(report, "thresholds").evidence[0]
    assert report.exit_code == 2


def test_a_search_that_raises_does_not_stop_the_others(full: Collection, golden: GoldenSet) -> None:
    """Its checks are errors, with the exception; the collection's own still run."""

    def search(text: str, *, k: int, where: Any) -> list[Hit]:
        raise ZeroDivisionError(f"no prompt for {k}, {where is None}, {len(text)}")

    report = gate(full, golden, search=search, limits=LIMITS)
    assert (
        check(report, "thresholds")
        .evidence[0]
        .endswith(f"': search raised ZeroDivisionError: no prompt for 10, False, {len(golden.queries[0].text)}")
    )
    assert check(report, "backup").verdict is Verdict.PASS
    assert report.exit_code == 2


def test_an_answer_where_there_is_none_is_red(full: Collection, golden: GoldenSet) -> None:
    """Once a chunk answers the question that should have no answer."""
    full.add([Chunk("new", "zzzz qqqq xxxx")])
    report = gate(full, golden, limits=LIMITS, only=["nothing above"])
    found = check(report, "nothing above")
    assert found.verdict is Verdict.FAIL
    assert found.queries[0].came[0] == "new"


def test_a_slower_search_is_red(full: Collection, golden: GoldenSet) -> None:
    """Against an absolute limit that no search can meet, and against a baseline of another time."""
    report = gate(full, golden, limits=replace(LIMITS, p95=1e-6), only=["latency"])
    assert "is above" in check(report, "latency").evidence[1]
    baseline = accepted(full, golden)
    quick = replace(baseline, latency={**baseline.latency, "p50": -1.0, "p95": -1.0})
    assert gate(full, golden, baseline=quick, limits=LIMITS, only=["latency"]).exit_code == 1
    elsewhere = replace(quick, machine={"processor": "another"})
    found = check(gate(full, golden, baseline=elsewhere, limits=LIMITS, only=["latency"]), "latency")
    assert (found.verdict, found.evidence[1]) == (
        Verdict.SKIP,
        "the baseline was measured on another machine: another",
    )


def test_the_collections_own_search_is_not_timed_against_a_deployed_one(full: Collection, golden: GoldenSet) -> None:
    """A function may answer in a tenth of the time; another one in its place is compared with it."""

    def deployed(text: str, *, k: int, where: dict[str, Any] | None, mode: Any) -> list[str]:
        return [hit.chunk.id for hit in full.search(text, k=k, where=where, mode=mode)]

    subject = Subject(full, golden, search=deployed, limits=LIMITS)
    baseline = to_baseline(subject, judged(subject))
    quick = replace(baseline, latency={**baseline.latency, "p50": -1.0, "p95": -1.0})
    own = check(gate(full, golden, baseline=quick, limits=LIMITS, only=["latency"]), "latency")
    assert (own.verdict, own.evidence[1:]) == (
        Verdict.SKIP,
        ("the baseline was measured with a deployed search, and the collection's own is asked now",),
    )
    again = gate(full, golden, search=deployed, baseline=quick, limits=LIMITS, only=["latency"])
    assert check(again, "latency").verdict is Verdict.FAIL


def test_an_unsound_collection_is_not_acceptable(full: Collection, golden: GoldenSet) -> None:
    """A baseline is for what passes by itself; what only differs from the old one is what accepting is for."""
    wrong = [replace(golden.queries[0], expect={"c299": 1}), *golden.queries[1:]]
    strict = replace(golden, queries=wrong, thresholds={"nDCG@10": 1.0})
    report = judged(Subject(full, strict, limits=LIMITS))
    assert verdicts(report)["thresholds"] == "fail"
    assert acceptable(report) == ["thresholds"]
    report = judged(Subject(full, golden, limits=LIMITS), skip=["latency", "backup"])
    assert acceptable(report) == ["latency", "backup"], "what was left out is not in the baseline"


def test_limits_that_cannot_be_are_refused() -> None:
    """Before anything is measured."""
    with pytest.raises(InvalidInput, match=r"recall is 1\.5; it must be above 0 and at most 1"):
        GateLimits(recall=1.5)
    with pytest.raises(InvalidInput, match="most_queries is 10; it must be at least queries, 200"):
        GateLimits(most_queries=10)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 9}', '{"format": 1, "made": "x"}', '{"format": 1, "no": 1}'])
def test_a_damaged_baseline_is_named_with_its_cure(tmp_path: Path, content: str) -> None:
    """No JSON, another version, or other fields."""
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(InvalidInput, match="reperio gate --accept"):
        read_baseline(path)


WRONG: tuple[tuple[str, object], ...] = (
    ("ids", {"q": 5}),
    ("ids", {"q": [5]}),
    ("asked", {"q": 5}),
    ("depth", "x"),
    ("depth", True),
    ("machine", 5),
    ("latency", {"p95": 1.0}),
    ("latency", {"p50": 1.0, "p95": 1.0, "waited": "x"}),
    ("values", {"distinct@10": {"q": "x"}}),
    ("settings", {"canaries": ["x"]}),
    ("profile", 7),
    ("profile.count", "9"),
    ("profile.lengths", [1, 2]),
    ("profile.fields", {"lang": None}),
    ("profile.sketch", {"a": 1}),
)


def test_a_field_of_a_baseline_that_cannot_be_is_named(full: Collection, golden: GoldenSet, tmp_path: Path) -> None:
    """With the file and the cure, before anything is compared with it."""
    path = tmp_path / "b.json"
    subject = Subject(full, golden, limits=LIMITS)
    write_baseline(to_baseline(subject, judged(subject, only=["thresholds"])), path)
    sound = path.read_text()
    for place, value in WRONG:
        content = json.loads(sound)
        outer, _, inner = place.partition(".")
        if inner:
            content[outer][inner] = value
        else:
            content[outer] = value
        path.write_text(json.dumps(content))
        with pytest.raises(InvalidInput, match=rf"{path} is no baseline \({place}.* must be .*; reperio gate --accept"):
            read_baseline(path)
