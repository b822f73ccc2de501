"""A report as JSON, JUnit XML and Markdown."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from reperio.evaluation.verdicts import CheckResult, FailedQuery, GateReport, Verdict
from reperio.printable import one_line

_MARKS = {Verdict.PASS: "✅", Verdict.WARN: "⚠️", Verdict.FAIL: "❌", Verdict.SKIP: "➖", Verdict.ERROR: "💥"}
_LIVE = re.compile(r"[@#]|:(?=/)|(?<=\b[wW]{3})(?=\.)|(?<=\b[gG][hH])(?=-\d)|[!$%&~^](?=[\w{\"'])")
"""Characters that make a platform notify a person, or link an issue, a commit or an address."""
_APART = "\0"  # in no text that is printable; it becomes a space of no width


def to_json(report: GateReport) -> dict[str, Any]:
    """Return a report as plain data, with its verdict and exit code."""
    return {"passed": report.passed, "exit_code": report.exit_code, "summary": report.summary, **asdict(report)}


def to_junit(report: GateReport) -> str:
    """Return a report as JUnit XML: one test case per check, as CI systems show them."""
    count = {verdict: sum(check.verdict is verdict for check in report.checks) for verdict in Verdict}
    suite = ElementTree.Element(
        "testsuite", name="reperio gate", tests=str(len(report.checks)), failures=str(count[Verdict.FAIL]),
        errors=str(count[Verdict.ERROR]), skipped=str(count[Verdict.SKIP]), time=f"{report.seconds:.3f}",
        timestamp=report.made,
    )  # fmt: skip
    for check in report.checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname="reperio.gate", name=check.name, time=f"{check.seconds:.3f}"
        )
        text = as_text(check)
        # JUnit has no warnings: a check that warns passes, and its text is among the output.
        tag = {Verdict.FAIL: "failure", Verdict.ERROR: "error", Verdict.SKIP: "skipped"}.get(check.verdict)
        if tag is None:
            ElementTree.SubElement(case, "system-out").text = text
        else:
            message = one_line(check.cause or "; ".join(check.evidence[:1]))
            ElementTree.SubElement(case, tag, message=message).text = text
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def to_markdown(report: GateReport) -> str:
    """Return a report for the summary of a pull request."""
    mark = _MARKS[{0: Verdict.PASS, 1: Verdict.FAIL}.get(report.exit_code, Verdict.ERROR)]
    lines = [f"### {mark} reperio gate: {_escaped(report.summary)}", ""]
    lines += ["| check | | evidence |", "|---|---|---|"]
    for check in report.checks:
        evidence = "<br>".join(map(_escaped, check.evidence))
        lines.append(f"| {check.name} | {_MARKS[check.verdict]} {check.verdict.value} | {evidence} |")
    for check in report.checks:
        if check.cause and check.verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.WARN):
            lines += ["", f"**{check.name}**: {_escaped(check.cause)}"]
    lines += _table(report.failing)
    return "\n".join([*lines, "", f"{report.made}, {report.seconds:.1f} s", ""])


def _table(queries: list[FailedQuery]) -> list[str]:
    if not queries:
        return []
    # Folded: a pull request is read by people who first want the verdict.
    head = ["", f"<details><summary>{len(queries)} questions</summary>", ""]
    rows = [
        f"| {_escaped(query.text)} | {_ids(query.expected)} | {_ids(query.came)} | {_escaped(query.why)} |"
        for query in queries
    ]
    return [*head, "| question | expected | came | |", "|---|---|---|---|", *rows, "", "</details>"]


def _ids(ids: tuple[str, ...]) -> str:
    return _escaped(", ".join(ids)) or "–"


def _escaped(text: str) -> str:
    """Keep a text in its cell, and what it says from being markup, a mention or a link: it comes out of documents."""
    plain = _LIVE.sub(rf"\g<0>{_APART}", one_line(text))
    for old, new in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), (_APART, "&#8203;")):
        plain = plain.replace(old, new)
    return re.sub(r"([\\`*_|~\[\]])", r"\\\1", plain)


def as_text(check: CheckResult) -> str:
    """Return what a check found, in plain lines: no text of others begins one, or reaches a terminal as a command."""
    lines = [*check.evidence, *([f"likely cause: {check.cause}"] if check.cause else [])]
    for query in check.queries:
        lines += [query.text, f"  expected {', '.join(query.expected) or 'nothing'}"]
        lines += [f"  came {', '.join(query.came) or 'nothing'}", f"  {query.why}"]
    return "\n".join(one_line(line, keep_spaces=True) for line in lines)
