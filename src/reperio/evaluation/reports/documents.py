"""A report as JSON, JUnit XML and Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from reperio.evaluation.verdicts import CheckResult, FailedQuery, GateReport, Verdict
from reperio.printable import one_line

_MARKS = {Verdict.PASS: "✅", Verdict.WARN: "⚠️", Verdict.FAIL: "❌", Verdict.SKIP: "➖", Verdict.ERROR: "💥"}
_LIVE = re.compile(r"[@#]|:(?=/)|(?<=\b[wW]{3})(?=\.)|(?<=\b[gG][hH])(?=-\d)|[!$%&~^](?=[\w{\"'])")
"""Characters that make a platform notify a person, or link an issue, a commit or an address."""
_ROWS = 100  # questions in Markdown, which a platform cuts beyond some length
_QUERIES = 20  # questions of a check that a text shows; a page and JSON have all of them
_APART = "\0"  # in no text that is printable; it becomes a space of no width


def to_json(report: GateReport) -> dict[str, Any]:
    """Return a report as plain data, with its verdict and exit code."""
    return {"passed": report.passed, "exit_code": report.exit_code, "summary": report.summary, **asdict(report)}


def to_junit(report: GateReport) -> str:
    """Return a report as JUnit XML: one test case per check, as CI systems show them."""
    tags = [_tag(check, report.strict) for check in report.checks]
    suite = ElementTree.Element(
        "testsuite", name="reperio gate", tests=str(len(report.checks)), failures=str(tags.count("failure")),
        errors=str(tags.count("error")), skipped=str(tags.count("skipped")), time=f"{report.seconds:.3f}",
        timestamp=report.made,
    )  # fmt: skip
    for check, tag in zip(report.checks, tags, strict=True):
        case = ElementTree.SubElement(
            suite, "testcase", classname="reperio.gate", name=check.name, time=f"{check.seconds:.3f}"
        )
        text = as_text(check, report.texts)
        if tag:
            warning = "warning: " if check.verdict is Verdict.WARN else ""
            message = warning + one_line(check.cause or "; ".join(check.evidence[:1]))
            ElementTree.SubElement(case, tag, message=message, type=check.verdict.value).text = text
        if check.verdict in (Verdict.PASS, Verdict.WARN):
            ElementTree.SubElement(case, "system-out").text = text
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _tag(check: CheckResult, strict: bool) -> str:
    """Return the element that JUnit has for a verdict; empty for a case that passed."""
    # JUnit has no warnings. A case that passed is shown by no CI, and a skipped one with its message by all of them.
    warned = "failure" if strict else "skipped"
    tags = {Verdict.FAIL: "failure", Verdict.ERROR: "error", Verdict.SKIP: "skipped", Verdict.WARN: warned}
    return tags.get(check.verdict, "")


def to_annotations(report: GateReport) -> str:
    """Return commands that make GitHub show what is wrong next to a pull request: one line per check.

    A workflow prints them; nothing that a text of others holds can begin a command or end a value.
    """
    lines = []
    for check in report.by_severity:
        if check.verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.WARN):
            level = "warning" if check.verdict is Verdict.WARN and not report.strict else "error"
            told = [*check.evidence, *([f"likely cause: {check.cause}"] if check.cause else [])]
            message = "%0A".join(one_line(each).replace("%", "%25") for each in told)
            lines.append(f"::{level} title=reperio gate, {check.name}::{message}\n")
    return "".join(lines)


def to_markdown(report: GateReport) -> str:
    """Return a report for the summary of a pull request."""
    mark = _MARKS[{0: Verdict.PASS, 1: Verdict.FAIL}.get(report.exit_code, Verdict.ERROR)]
    lines = [f"### {mark} reperio gate: {_escaped(report.summary)}", ""]
    lines += ["| check | | evidence |", "|---|---|---|"]
    for check in report.by_severity:
        evidence = "<br>".join(map(_escaped, check.evidence))
        lines.append(f"| {check.name} | {_MARKS[check.verdict]} {check.verdict.value} | {evidence} |")
    for check in report.by_severity:
        if check.cause and check.verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.WARN):
            lines += ["", f"**{check.name}**: {_escaped(check.cause)}"]
    lines += _table(report.failing, report.texts)
    return "\n".join([*lines, "", f"{report.made}, {report.seconds:.1f} s", ""])


def _table(queries: list[FailedQuery], texts: Mapping[str, str]) -> list[str]:
    if not queries:
        return []
    more = f", the first {_ROWS} shown" if len(queries) > _ROWS else ""
    # Folded: a pull request is read by people who first want the verdict.
    head = ["", f"<details><summary>{len(queries)} questions{more}</summary>", ""]
    rows = [
        f"| {_escaped(each.text)} | {_ids(each.expected, texts)} | {_ids(each.came, texts)} | {_escaped(each.why)} |"
        for each in queries[:_ROWS]
    ]
    return [*head, "| question | expected | came | |", "|---|---|---|---|", *rows, "", "</details>"]


def _ids(ids: tuple[str, ...], texts: Mapping[str, str]) -> str:
    return "<br>".join(_escaped(named(each, texts)) for each in ids) or "–"


def named(identifier: str, texts: Mapping[str, str], most: int = 60) -> str:
    """Return an id with the beginning of its text, where that is known."""
    text = texts.get(identifier, "")
    return f"{identifier}: {text[:most]}{'…' if len(text) > most else ''}" if text else identifier


def _escaped(text: str) -> str:
    """Keep a text in its cell, and what it says from being markup, a mention or a link: it comes out of documents."""
    plain = _LIVE.sub(rf"\g<0>{_APART}", one_line(text))
    for old, new in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), (_APART, "&#8203;")):
        plain = plain.replace(old, new)
    return re.sub(r"([\\`*_|~\[\]])", r"\\\1", plain)


def as_text(check: CheckResult, texts: Mapping[str, str] | None = None) -> str:
    """Return what a check found, in plain lines: no text of others begins one, or reaches a terminal as a command."""
    known = texts or {}
    lines = [*check.evidence, *([f"likely cause: {check.cause}"] if check.cause else [])]
    for query in check.queries[:_QUERIES]:
        lines.append(query.text)
        for what, ids in (("expected", query.expected), ("came", query.came)):
            lines.append(f"  {what} {', '.join(ids) or 'nothing'}")
            lines += [f"    {named(each, known)}" for each in ids if each in known]
        lines.append(f"  {query.why}")
    if len(check.queries) > _QUERIES:
        lines.append(f"and {len(check.queries) - _QUERIES} more questions: --json and --html have them")
    return "\n".join(one_line(line, keep_spaces=True) for line in lines)
