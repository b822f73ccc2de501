"""Write several runs as one HTML page: their measures, and each compared with the first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from reperio.evaluation.deployed.comparing import RunRow
from reperio.evaluation.reports.page import STYLE
from reperio.evaluation.statistics.measures import MAIN
from reperio.printable import one_line

_WIDTH, _ROW, _LEFT, _RIGHT = 560, 26, 180, 16  # in units of the drawing, which the page scales
_LETTERS = 24  # of a name in the plot
_LEAST = 0.05  # reach of the axis, so that small differences look small
_TABLE = """
:root { --line: 1px solid var(--pale); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } th, td { padding: .25rem .5rem; text-align: right;
  border-bottom: var(--line); } th:first-child, td:first-child, td:last-child { text-align: left; }
.worse { color: var(--bad); stroke: var(--bad); fill: var(--bad); }
.better { color: var(--good); stroke: var(--good); fill: var(--good); }
.even { stroke: var(--blue); fill: var(--blue); }
"""


def to_comparison(rows: Sequence[RunRow], *, questions: int) -> str:
    """Return a page; no scripts, no other files.

    Args:
        rows: of `compare_runs`, the first of which the others are compared with.
        questions: that were judged.
    """
    names = [*rows[0].means, "empty", f"{MAIN} against {_text(rows[0].name)}"]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>reperio golden compare: {len(rows)} runs</title><style>{STYLE}{_TABLE}</style></head><body>",
            f"<h1>{len(rows)} runs over {questions} questions</h1>",
            '<p class="small">Intervals hold 95% of resampled means. A run is called better or worse where that is '
            "beyond chance, with Holm's correction for all runs.</p>",
            f"<table><tr><th>run</th>{''.join(f'<th>{name}</th>' for name in names)}</tr>",
            *(_line(row) for row in rows),
            f"</table>{_plot(rows)}",
            "</body></html>\n",
        ]
    )


def _line(row: RunRow) -> str:
    found = row.against
    told = "" if found is None else f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}), "
    told += "" if found is None else f"{found.worse} worse, {found.better} better: {row.unlike or 'may be chance'}"
    values = "".join(f"<td>{value:.4f}</td>" for value in row.means.values())
    return f'<tr><td>{_text(row.name)}</td>{values}<td>{row.empty}</td><td class="{row.unlike}">{told}</td></tr>'


def _plot(rows: Sequence[RunRow]) -> str:
    """Draw the difference of each run to the first, with its interval."""
    found = [(row, row.against) for row in rows if row.against is not None]
    if not found:
        return ""
    reach = max(_LEAST, *(max(abs(each.low), abs(each.high)) for _, each in found))
    height = _ROW * len(found) + 30

    def x(value: float) -> float:
        return round(_LEFT + (value / reach + 1) / 2 * (_WIDTH - _LEFT - _RIGHT), 1)

    parts = [f'<line class="axis" x1="{x(0)}" x2="{x(0)}" y1="4" y2="{height - 24}"/>']
    for at, (row, each) in enumerate(found):
        y, kind = _ROW * at + 18, row.unlike or "even"
        parts.append(
            f'<text x="0" y="{y + 4}">{_text(row.name[:_LETTERS])}</text>'
            f'<line class="{kind}" stroke-width="2" x1="{x(each.low)}" x2="{x(each.high)}" y1="{y}" y2="{y}"/>'
            f'<circle class="{kind}" cx="{x(each.difference)}" cy="{y}" r="4"/>'
        )
    parts += [
        f'<text x="{x(value)}" y="{height - 6}" text-anchor="middle">{value:+.2g}</text>'
        for value in (-reach, 0.0, reach)
    ]
    caption = f"difference of {MAIN} to {_text(rows[0].name)}"
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(parts)}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _text(text: str) -> str:
    return escape(one_line(text))
