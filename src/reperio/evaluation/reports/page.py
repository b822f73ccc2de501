"""A report as one HTML page that needs nothing besides itself, and can be read on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape

from reperio.evaluation.reports import charts
from reperio.evaluation.statistics.measures import MAIN
from reperio.evaluation.verdicts import CheckResult, FailedQuery, GateReport, Verdict
from reperio.printable import one_line

_QUANTILES = ("p50", "p95", "p99")
STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --back: #fff; --pale: #e4e7eb; --grey: #5f6b78;
  --good: #15803d; --bad: #c2410c; --blue: #2b6cb0; --warn: #a16207; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --back: #14181d; --pale: #323b45; --grey: #9aa5b1;
  --good: #4ade80; --bad: #fb923c; --blue: #63b3ed; --warn: #facc15; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 0; }
.small, figcaption { color: var(--grey); font-size: .85rem; }
.verdict { font-weight: 600; font-size: .85rem; } .pass { color: var(--good); } .fail, .error { color: var(--bad); }
.warn { color: var(--warn); } .skip { color: var(--grey); }
section { border-top: 1px solid var(--pale); padding: .75rem 0; }
section header { display: flex; justify-content: space-between; gap: 1rem; align-items: baseline; }
p { margin: .25rem 0; }
summary { cursor: pointer; color: var(--blue); padding: .25rem 0; }
.query { border-left: 3px solid var(--pale); padding-left: .75rem; margin: .75rem 0; }
dl { margin: 0; display: grid; grid-template-columns: 5.5rem 1fr; font-size: .9rem; } dt { color: var(--grey); }
dd { margin: 0; } small { color: var(--grey); }
section.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; }
figure { margin: 0; } svg { width: 100%; height: auto; } svg text { fill: var(--grey); font-size: 11px; }
.good { fill: var(--good); } rect.bad { fill: var(--bad); } rect.plain, .point { fill: var(--blue); }
.line { fill: none; stroke: var(--blue); stroke-width: 2; }
.axis { stroke: var(--grey); } .mark { stroke: var(--bad); stroke-dasharray: 4 3; }
"""


def to_html(report: GateReport) -> str:
    """Return a report as a page; no scripts, no other files."""
    outcome = {0: "pass", 1: "fail"}.get(report.exit_code, "error")
    # On a phone little is seen at once: first what is wrong, then the plots, then what is well.
    wrong = [check for check in report.by_severity if check.verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.WARN)]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>reperio gate: {_text(report.summary)}</title><style>{STYLE}</style></head><body>",
            f'<h1>reperio gate: <span class="{outcome}">{_text(report.summary)}</span></h1>',
            f'<p class="small">{_text(report.collection)} · {_time(report.made)} · {report.seconds:.1f} s</p>',
            f'<p class="small">{_facts(report)}</p>',
            *(_section(check, report.texts) for check in wrong),
            f'<section class="plots">{"".join(_plots(report))}</section>',
            *(_section(check, report.texts) for check in report.by_severity if check not in wrong),
            "</body></html>\n",
        ]
    )


def _facts(report: GateReport) -> str:
    facts = report.facts
    told = [f"{facts[name]:,} {name}" for name in ("chunks", "questions") if name in facts]
    told += [f"{name} {facts[name]}" for name in ("golden", "embedder", "index") if facts.get(name)]
    told += [f"baseline {_time(facts['baseline'])}"] if "baseline" in facts else []
    return _text(" · ".join(told))


def _time(moment: str) -> str:
    """Write a moment of UTC for people; anything else as it is."""
    return _text(re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):[\d.]+\+00:00$", r"\1 \2 UTC", moment))


def _plots(report: GateReport) -> Iterable[str]:
    figures = {check.name: check.figures for check in report.checks}
    yield charts.deltas(figures.get("regression", {}).get("deltas", {}))
    yield charts.history([(each["made"], each[MAIN]) for each in report.facts.get("history", ())])
    near = figures.get("neighbours", {})
    yield charts.recall_against_latency(near.get("points", []), near.get("recall"))
    times = figures.get("latency", {})
    yield charts.distribution(times.get("times", []), {name: times[name] for name in _QUANTILES if name in times})


def _section(check: CheckResult, texts: Mapping[str, str]) -> str:
    verdict = check.verdict.value
    cause = f"<p><strong>{_text(check.cause)}</strong></p>" if check.cause and check.verdict is not Verdict.PASS else ""
    queries = ""
    if check.queries:
        listed = "".join(_query(query, texts) for query in check.queries)
        queries = f"<details><summary>{len(check.queries)} questions</summary>{listed}</details>"
    return (
        f'<section><header><h2>{_text(check.name)}</h2><span class="verdict {verdict}">{verdict}</span></header>'
        f"{cause}{''.join(f'<p>{_text(line)}</p>' for line in check.evidence)}"
        f"{queries}</section>"
    )


def _query(query: FailedQuery, texts: Mapping[str, str]) -> str:
    # What was expected stands out, as it is what a reader looks for.
    came = "".join(_item(each, texts, bold=each in query.expected) for each in query.came)
    rows = {
        "expected": "".join(_item(each, texts) for each in query.expected) or "nothing",
        "came": came or "nothing",
        "": _text(query.why),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items())
    return f'<div class="query"><p>{_text(query.text)}</p><dl>{listed}</dl></div>'


def _item(identifier: str, texts: Mapping[str, str], *, bold: bool = False) -> str:
    name = f"<b>{_text(identifier)}</b>" if bold else _text(identifier)
    text = texts.get(identifier, "")
    return f"<div>{name}{f' <small>{_text(text)}</small>' if text else ''}</div>"


def _text(text: str) -> str:
    return escape(one_line(text))
