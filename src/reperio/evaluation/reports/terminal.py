"""A report in the terminal: a table, then the questions that fail, with what was expected and what came."""

from __future__ import annotations

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reperio.evaluation.verdicts import FailedQuery, GateReport, Verdict
from reperio.printable import one_line

_SHOWN = 10
_STYLES = {
    Verdict.PASS: "green",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "bold red",
    Verdict.SKIP: "dim",
    Verdict.ERROR: "bold red",
}


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
    for check in report.checks:
        if check.cause and check.verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.WARN):
            console.print(Text.assemble("\n", (check.name, _STYLES[check.verdict]), ": ", _plain(check.cause)))
    failing = report.failing
    for query in failing[:_SHOWN]:
        console.print(_described(query))
    if len(failing) > _SHOWN:
        console.print(Text(f"\n… and {len(failing) - _SHOWN} more questions: --json and --html have them", style="dim"))
    style = {0: "bold green", 1: "bold red"}.get(report.exit_code, "bold yellow")
    console.print(Text(f"\n{report.summary} ({report.seconds:.1f} s)", style=style))


def _described(query: FailedQuery) -> Group:
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="dim")
    rows.add_column(overflow="fold")
    rows.add_row("expected", _plain(", ".join(query.expected) or "nothing"))
    came = [Text(one_line(each), style="green" if each in query.expected else "") for each in query.came]
    rows.add_row("came", Text(", ").join(came) if came else "nothing")
    rows.add_row("", _plain(query.why))
    return Group(Text("\n").append_text(_plain(query.text)), Padding(rows, (0, 0, 0, 2)))


def _plain(text: str) -> Text:
    return Text(one_line(text))
