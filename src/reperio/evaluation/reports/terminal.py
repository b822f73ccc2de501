"""A report in the terminal: a table, then the questions that fail, with what was expected and what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reperio.evaluation.deployed.comparing import RunRow
from reperio.evaluation.statistics.measures import MAIN
from reperio.evaluation.verdicts import FailedQuery, GateReport, Verdict
from reperio.printable import one_line

_SHOWN = 10
_TEXT = 60  # characters of a text next to its id
_STYLES = {
    Verdict.PASS: "green",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "bold red",
    Verdict.SKIP: "dim",
    Verdict.ERROR: "bold red",
}
_STYLE_OF = {"worse": "bold red", "better": "green", "": "dim"}


def print_report(report: GateReport, console: Console) -> None:
    """Print a report."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("check", "", "evidence"):
        table.add_column(name, vertical="top", overflow="fold")
    for check in report.checks:
        style = _STYLES[check.verdict]
        evidence = Text("\n").join(_plain(line) for line in check.evidence)
        table.add_row(_plain(check.name), Text(check.verdict.value, style=style), evidence)
    console.print(table)
    for check in report.by_severity:
        if check.cause and check.verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.WARN):
            console.print(Text.assemble("\n", (check.name, _STYLES[check.verdict]), ": ", _plain(check.cause)))
    failing = report.failing
    for query in failing[:_SHOWN]:
        console.print(_described(query, report.texts))
    if len(failing) > _SHOWN:
        console.print(Text(f"\n… and {len(failing) - _SHOWN} more questions: --json and --html have them", style="dim"))
    style = {0: "bold green", 1: "bold red"}.get(report.exit_code, "bold yellow")
    console.print(Text(f"\n{report.summary} ({report.seconds:.1f} s)", style=style))


def print_runs(rows: Sequence[RunRow], console: Console) -> None:
    """Print several runs in one table, each compared with the first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    for name in (*rows[0].means, "empty"):
        table.add_column(name, justify="right")
    table.add_column(f"{MAIN} against the first", overflow="fold")
    for row in rows:
        means = [f"{value:.4f}" for value in row.means.values()]
        table.add_row(_plain(row.name), *means, str(row.empty), Text(_against(row), style=_STYLE_OF[row.unlike]))
    console.print(table)


def _against(row: RunRow) -> str:
    found = row.against
    if found is None:
        return ""
    told = (
        f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}), {found.worse} worse, {found.better} better"
    )
    return f"{told}: {row.unlike or 'may be chance'}"


def _described(query: FailedQuery, texts: Mapping[str, str]) -> Group:
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="dim")
    rows.add_column(overflow="fold")
    rows.add_row("expected", _listed(query.expected, texts))
    rows.add_row("came", _listed(query.came, texts, good=query.expected))
    rows.add_row("", _plain(query.why))
    return Group(Text("\n").append_text(_plain(query.text)), Padding(rows, (0, 0, 0, 2)))


def _listed(ids: Sequence[str], texts: Mapping[str, str], good: Sequence[str] = ()) -> Text:
    """Return ids: in one line, or one line each with the beginnings of their texts."""
    if not ids:
        return Text("nothing")
    found = [Text(one_line(each), style="green" if each in good else "") for each in ids]
    if not any(each in texts for each in ids):
        return Text(", ").join(found)
    for each, line in zip(ids, found, strict=True):
        text = one_line(texts.get(each, ""))
        line.append(f"  {text[:_TEXT]}{'…' if len(text) > _TEXT else ''}" if text else "", style="dim")
    return Text("\n").join(found)


def _plain(text: str) -> Text:
    return Text(one_line(text))
