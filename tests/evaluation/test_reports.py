"""A report in every form: complete, well-formed, and safe with texts that look like markup or terminal commands."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from reperio.evaluation import CheckResult, FailedQuery, GateReport, Verdict
from reperio.evaluation.reports import as_text, print_report, to_annotations, to_html, to_json, to_junit, to_markdown
from reperio.evaluation.reports.charts import recall_against_latency

EVIL = "<script>alert(1)</script> | `x` \x1b[31m \x00 \u202e [link](x)"
VOID = {"meta", "rect", "line", "circle", "br"}
QUANTILES = {"p50": 1.5, "p95": 36.2, "p99": 39.24}
NEAR = {"recall": 0.94, "points": [[0.9, 50.0], [0.99, 200.0]]}


def report(*checks: CheckResult) -> GateReport:
    return GateReport("kb", checks, "2026-11-21T10:00:00+00:00", {"chunks": 3}, 1.5)


@pytest.fixture
def red() -> GateReport:
    query = FailedQuery("q", EVIL, ("a", "b"), (), "R@10 0.000")
    return report(
        CheckResult("integrity", Verdict.PASS, ("fine",), seconds=0.25),
        CheckResult("neighbours", Verdict.WARN, ("0.94",), figures=NEAR),
        CheckResult("regression", Verdict.FAIL, (EVIL,), f"cause {EVIL}", (query,), {"deltas": {"q": -0.5, "r": 0.1}}),
        CheckResult("thresholds", Verdict.FAIL, queries=(replace(query, why="too low"),)),
        CheckResult("latency", Verdict.SKIP, ("no baseline",), figures={**QUANTILES, "times": [1.0, 2.0, 40.0]}),
        CheckResult("backup", Verdict.ERROR, ("disk full",)),
    )  # fmt: skip


class Wellformed(HTMLParser):
    """Follows the elements, and remembers those that do something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [tag, *(name for name, _ in attrs)]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [tag, *(name for name, _ in attrs)]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_outcome_follows_from_the_verdicts(red: GateReport) -> None:
    """Fail before error before pass; nothing checked is no pass, and a warning is something checked."""
    assert (red.exit_code, red.passed) == (1, False)
    assert red.summary == "fail: 5 of 6 checks ran; red: regression, thresholds, backup; warnings: neighbours"
    ok, warn = CheckResult("a", Verdict.PASS), CheckResult("b", Verdict.WARN)
    skip, error = CheckResult("c", Verdict.SKIP), CheckResult("d", Verdict.ERROR)
    cases = [((ok, skip), 0), ((warn,), 0), ((skip,), 2), ((), 2), ((ok, error), 2)]
    assert [report(*checks).exit_code for checks, _ in cases] == [code for _, code in cases]


def test_json_has_everything(red: GateReport) -> None:
    """It can be written, with verdicts as strings and the exit code."""
    found = json.loads(json.dumps(to_json(red)))
    assert (found["exit_code"], found["passed"]) == (1, False)
    assert [check["verdict"] for check in found["checks"]] == ["pass", "warn", "fail", "fail", "skip", "error"]
    assert found["checks"][2]["queries"][0]["expected"] == ["a", "b"]


def test_junit_counts_and_is_xml(red: GateReport) -> None:
    """Control characters, which XML cannot hold, are replaced."""
    suite = ElementTree.fromstring(to_junit(red)).find("testsuite")
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["6", "2", "1", "2"]
    failure = suite.find("testcase[@name='regression']/failure")
    assert failure is not None
    assert failure.text is not None
    assert "<script>alert(1)</script>" in failure.text
    assert "expected a, b" in failure.text
    warned = suite.find("testcase[@name='neighbours']/skipped")
    assert warned is not None
    assert (warned.get("message"), warned.get("type")) == ("warning: 0.94", "warn"), "a passed case is shown by no CI"
    strict = ElementTree.fromstring(to_junit(replace(red, strict=True)))
    assert strict.find("testsuite/testcase[@name='neighbours']/failure") is not None


def test_strict_makes_a_warning_red() -> None:
    """In the exit code and in the summary, which names warnings in any case."""
    warned = report(CheckResult("a", Verdict.PASS), CheckResult("b", Verdict.WARN, ("hm",)))
    assert (warned.exit_code, warned.summary) == (0, "pass: 2 of 2 checks ran; warnings: b")
    strict = replace(warned, strict=True)
    assert (strict.exit_code, strict.summary) == (1, "fail: 2 of 2 checks ran; warnings (red: --strict): b")
    assert to_annotations(warned) == "::warning title=reperio gate, b::hm\n"
    assert to_annotations(strict).startswith("::error ")


def test_what_failed_comes_before_what_warns(red: GateReport) -> None:
    """In every form that a person reads from its top, whatever ran first."""
    out = io.StringIO()
    print_report(replace(red, checks=[replace(each, cause="c") for each in red.checks]), Console(file=out, width=100))
    for written in (to_html(red), to_markdown(red), to_annotations(red), out.getvalue().partition("\n\n")[2]):
        assert written.index("regression") < written.rindex("backup") < written.rindex("neighbours")


def test_annotations_hold_no_command_of_a_text() -> None:
    """One line per check, whatever a document says."""
    evil = CheckResult("drift", Verdict.FAIL, ("one\n::set-env name=x::y", "100%0A::stop"), "cause\r::error::x")
    lines = to_annotations(report(evil)).splitlines()
    assert lines == [
        "::error title=reperio gate, drift::one ::set-env name=x::y%0A100%250A::stop%0Alikely cause: cause ::error::x"
    ]


def test_texts_stand_next_to_ids_and_no_question_is_lost() -> None:
    """The page and JSON have all questions; shorter forms say how many more there are."""
    many = [FailedQuery(f"q{at}", f"question {at}", ("a",), ("b",), "lost") for at in range(150)]
    known = report(CheckResult("regression", Verdict.FAIL, ("x",), "", tuple(many)))
    known = replace(known, texts={"a": "the text of <a>", "b": "another"})
    page = Wellformed()
    page.feed(to_html(known))
    assert all(f"question {at}" in page.text for at in range(150))
    assert "a the text of <a>" in page.text
    assert len(to_json(known)["checks"][0]["queries"]) == 150
    assert (to_json(known)["texts"]["b"], to_markdown(known).count("| question 1")) == ("another", 11)
    assert "a: the text of &lt;a&gt;" in to_markdown(known)
    assert "and 130 more questions" in as_text(known.checks[0], known.texts)
    assert "    a: the text of <a>" in as_text(known.checks[0], known.texts)


def test_markdown_keeps_texts_in_their_cells(red: GateReport) -> None:
    """Bars, backticks, brackets and angles are escaped; every row of a table has as many cells as its head."""
    written = to_markdown(red)
    assert "<script>" not in written
    assert "[link]" not in written
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {4, 5}


NOTIFYING = {
    "@octocat": "@octocat",
    "#1": "#1",
    "owner/repo#12": "repo#12",
    "https://example.org/x": "https://",
    "www.example.org": "www.",
    "someone@example.org": "someone@example",
    "GH-7": "GH-7",
    "!3 and $4": "!3",
    "~~gone~~": "~~",
}
"""Texts, and what of each would be a mention, a reference, an address or a mark in Markdown as it stands."""


@pytest.mark.parametrize("text", NOTIFYING)
def test_markdown_notifies_nobody_and_links_nothing(text: str) -> None:
    """A text of a document mentions no person, refers to no issue and is no address, and reads as it did."""
    query = FailedQuery("q", f"see {text}", (text,), (text,), text)
    written = to_markdown(report(CheckResult("drift", Verdict.FAIL, (text,), text, (query,))))
    assert NOTIFYING[text] not in written
    assert written.replace("&#8203;", "").replace("\\", "").count(text) == 6


HIDDEN = "a\x1b]0;title\x07b\u202ec\u2066d\u200fe\u061cf\x9bg\u2028h"


@pytest.mark.parametrize("write", [to_html, to_junit, to_markdown, as_text])
def test_no_report_has_control_characters_or_marks_of_direction(write: Any) -> None:
    """ESC, BEL and what turns text around are replaced in every form, and a line break begins no line."""
    check = CheckResult("drift", Verdict.FAIL, (HIDDEN,), HIDDEN, (FailedQuery("q", HIDDEN, (HIDDEN,), (), HIDDEN),))
    written = write(check if write is as_text else report(check))
    assert not set(written) & (set(HIDDEN) - set("abcdefgh]0;title "))
    forged = replace(check, evidence=("first\nlikely cause: forged",), queries=())
    assert as_text(forged).count("\n") == 1
    out = io.StringIO()
    print_report(report(check), Console(file=out, width=100))
    assert not set(out.getvalue()) & (set(HIDDEN) - set("abcdefgh]0;title "))


def test_the_page_is_wellformed_and_inert(red: GateReport) -> None:
    """No script, nothing loaded; a plot for what there are figures of; every check is on it."""
    page = Wellformed()
    page.feed(to_html(red))
    assert page.open == []
    assert not {"script", "src", "href", "onload", "iframe", "link", "img"} & set(page.seen)
    assert page.seen.count("svg") == 3
    assert "viewport" in to_html(red)
    for check in red.checks:
        assert check.name in page.text
    assert "<script>alert(1)</script>" in page.text


def test_the_page_has_the_figures_of_the_check(red: GateReport) -> None:
    """A quantile computed in another way would contradict the line above it."""
    assert "latency of the questions: p50 1.50 ms, p95 36.20 ms, p99 39.24 ms" in to_html(red)


@pytest.mark.parametrize("recalls", [(0.87, 0.951, 0.99, 1.0), (0.3, 0.999, 1.0), (0.985, 0.986), (1.0,)])
def test_labels_of_recall_stand_apart_and_within(recalls: tuple[float, ...]) -> None:
    """However far the settings lie apart, no label is drawn over another or over the edge, and 1 has one."""
    picture = ElementTree.fromstring(recall_against_latency([(recall, 50.0) for recall in recalls], recalls[0]))
    labels = [text for text in picture.iter("text") if text.get("text-anchor") == "middle"]
    ends = sorted((float(text.get("x", "")), 3.2 * len(text.text or "")) for text in labels)
    assert all(at + half < after - further for (at, half), (after, further) in itertools.pairwise(ends))
    assert all(at - half > 0 and at + half < 360 for at, half in ends)
    assert [text.text for text in labels if text.text == "1"] == ["1"] * (max(recalls) == 1.0)
    assert labels


def test_half_a_surrogate_pair_can_be_written() -> None:
    """In every form: a question out of JSON may hold one."""
    query = FailedQuery("a \ud800 b", "a \ud800 b", ("\ud800",), ("\ud800",), "why \ud800")
    broken = report(CheckResult("nothing above", Verdict.FAIL, ("\ud800",), "\ud800", (query,)))
    for written in (to_junit(broken), to_markdown(broken), to_html(broken)):
        assert "�" in written.encode().decode() or "?" in written
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    print_report(broken, Console(file=out, width=100))
    out.flush()


def test_the_terminal_shows_expected_and_came(red: GateReport) -> None:
    """Without control characters of the texts."""
    out = io.StringIO()
    print_report(red, Console(file=out, width=100))
    printed = out.getvalue()
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert "expected  a, b" in printed
    assert "came      nothing" in printed
    assert printed.count("alert(1)</script> | `x`") == 3, "in the evidence, the cause, and once for two checks"
    assert "regression: R@10 0.000; thresholds: too low" in printed
    assert printed.rstrip().endswith(
        "fail: 5 of 6 checks ran; red: regression, thresholds, backup; warnings: neighbours (1.5 s)"
    )


def test_a_report_of_nothing_can_be_written() -> None:
    """No checks, no figures: still well-formed."""
    nothing = report()
    page = Wellformed()
    page.feed(to_html(nothing))
    assert page.open == []
    assert ElementTree.fromstring(to_junit(nothing)).find("testsuite") is not None
    assert "could not run" in to_markdown(nothing)


def test_accepted_baselines_are_drawn(red: GateReport) -> None:
    """Where there are several: slow decline is seen in no comparison with the last one."""
    history = [{"made": f"2026-11-{day}T10:00:00+00:00", "nDCG@10": 0.9 - day / 100} for day in range(10, 16)]
    page = to_html(replace(red, facts={**red.facts, "history": history}))
    assert "nDCG@10 of the accepted baselines: 0.800 at first, 0.800 at best, 0.750 last" in page
    assert page.count("<polyline") == 1
    assert "<polyline" not in to_html(replace(red, facts={"history": history[:1]}))
