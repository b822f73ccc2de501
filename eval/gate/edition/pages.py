"""Write what `sensitivity.py` found as pages and a picture; the figures in docs/gate-detection.md are these.

python eval/gate/edition/pages.py    # from eval/results/gate-questions.json, without measuring again
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from asked import SLOW

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "eval" / "results" / "gate-questions.json"
DOCUMENT = ROOT / "docs" / "gate-detection.md"
SIZES = ("20", "50", "100", "200")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

_DROP = 0.02
_BANDS = ((0.02, 0.03), (0.03, 0.05), (0.05, 0.1), (0.1, 1.0))
_COLOURS = ("#c2410c", "#a16207", "#2b6cb0", "#15803d")
_WIDTH, _HEIGHT, _EDGE = 480, 260, 44

Case = dict[str, Any]


def page(content: dict[str, Any]) -> str:
    """Return all cases, as Markdown."""
    faults, kept = list(content["faults"].values()), list(content.get("kept back", {}).values())
    sets = ", ".join(
        f"{name} ({found['chunks']:,} chunks, nDCG@10 {found['ndcg']})" for name, found in content["sets"].items()
    )
    lines = [
        "# What the gate sees, by number of questions",
        "",
        f"`python eval/gate/edition/sensitivity.py`: {sets}.",
        "",
        *summary(content),
        "",
        "| fault | set | strength | drop | demanded | 20 | 50 | 100 | 200 | by |",
        "|---|---|---:|---:|---|---|---|---|---|---|",
        *(_row(each) for each in sorted(faults, key=lambda found: found["fault"])),
    ]
    if kept:
        lines += [
            "",
            "## Kept back",
            "",
            "| fault | set | strength | drop | demanded | 20 | 50 | 100 | 200 | by |",
            "|---|---|---:|---:|---|---|---|---|---|---|",
            *(_row(each) for each in sorted(kept, key=lambda found: found["fault"])),
        ]
    return "\n".join([*lines, ""])


def summary(content: dict[str, Any]) -> list[str]:
    """Return how many of the cases were red, in lines of Markdown."""
    faults, harmless = list(content["faults"].values()), list(content["harmless"].values())
    lines = [f"{len({each['fault'] for each in faults})} kinds of accident, {len(faults)} cases.", ""]
    lines += ["| red, of the cases that | cases | 20 | 50 | 100 | 200 |", "|---|---:|---:|---:|---:|---:|"]
    timely = [each for each in faults if each["fault"] in SLOW]
    others = [each for each in faults if each["fault"] not in SLOW]
    groups = {
        "must be red always: access, contents, integrity, questions that find less": [
            each for each in others if each["always"]
        ],
        "cost 0.02 of nDCG@10 or more": [each for each in others if each["drop"] >= _DROP],
        "cost 0.02 or more, and only the answers tell": [
            each for each in others if each["drop"] >= _DROP and not each["always"]
        ],
        "take time alone": timely,
        "were kept back, and must be red or cost 0.02": [
            each for each in content.get("kept back", {}).values() if each["demanded"]
        ],
    }
    lines += [f"| {what} | {len(some)} | {' | '.join(_shares(some))} |" for what, some in groups.items() if some]
    red = [each for each in harmless if any(each["red"].values())]
    lines += ["", f"Harmless changes: {len(harmless)}, of which red: {len(red)}."]
    lines += [f"- {each['set']}, {each['change']}, seed {each['seed']}: {each['red']}" for each in red]
    return lines


def documented(content: dict[str, Any]) -> str:
    """Return the figures of docs/gate-detection.md: the summary, and a line for each kind."""
    lines = [*summary(content), ""]
    for title, cases in (
        ("accident: its strengths", content["faults"]),
        ("kept back: its strengths", content.get("kept back", {})),
    ):
        if cases:
            lines += [
                f"| {title} | largest drop | 20 | 50 | 100 | 200 | by |",
                "|---|---:|---:|---:|---:|---:|---|",
                *_kinds(list(cases.values())),
                "",
            ]
    return "\n".join(lines)


def written(content: dict[str, Any], document: str) -> str:
    """Return the page with its figures replaced."""
    before, found, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"{DOCUMENT.name} has no lines {BEGIN} and {END} to put the figures between")
    return f"{before}{BEGIN}\n\n{documented(content)}\n{END}{after}"


def _shares(some: list[Case]) -> list[str]:
    red = [sum(bool(each["red"][size]) for each in some) for size in SIZES]
    return [f"{count} ({count / len(some):.0%})" if count < len(some) else f"{count}" for count in red]


def _row(each: Case) -> str:
    cells = ["red" if each["red"][size] else "**missed**" if each["demanded"] else "green" for size in SIZES]
    return (
        f"| {each['fault']} | {each['set']} | {each['strength']:g} | {each['drop'] + 0:.3f} | "
        f"{'yes' if each['demanded'] else 'no'} | {' | '.join(cells)} | {_by([each])} |"
    )


def _kinds(cases: list[Case]) -> list[str]:
    kinds: dict[str, list[Case]] = defaultdict(list)
    for each in cases:
        kinds[each["fault"]].append(each)
    return [_kind(name, some) for name, some in kinds.items()]


def _kind(name: str, some: list[Case]) -> str:
    strengths = ", ".join(f"{strength:g}" for strength in sorted({each["strength"] for each in some}))
    red = (sum(bool(each["red"][size]) for each in some) for size in SIZES)
    cells = " | ".join(f"{count} of {len(some)}" for count in red)
    return f"| {name}: {strengths} | {max(each['drop'] for each in some) + 0:.3f} | {cells} | {_by(some)} |"


def _by(some: list[Case]) -> str:
    return ", ".join(dict.fromkeys(name for each in some for size in SIZES for name in each["red"][size])) or "–"


def picture(content: dict[str, Any]) -> str:
    """Return power curves as SVG: share of the cases that are red by regression or questions, by drop and questions."""
    found: dict[tuple[float, float], list[Case]] = defaultdict(list)
    for each in [*content["faults"].values(), *content.get("kept back", {}).values()]:
        for band in _BANDS:
            if band[0] <= each["drop"] < band[1]:
                found[band].append(each)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="11">',
    ]
    parts.append(
        f'<text x="{_EDGE}" y="14">red by the questions alone, by their number and the true drop of nDCG@10</text>'
    )
    for share in (0, 0.5, 1):
        y = _y(share)
        parts.append(
            f'<line x1="{_EDGE}" x2="{_WIDTH - 90}" y1="{y}" y2="{y}" stroke="#ccc"/>'
            f'<text x="8" y="{y + 4}">{share:.0%}</text>'
        )
    for at, size in enumerate(SIZES):
        parts.append(f'<text x="{_x(at) - 8}" y="{_HEIGHT - 8}">{size}</text>')
    for (low, high), colour in zip(_BANDS, _COLOURS, strict=True):
        some = found[low, high]
        if not some:
            continue
        shares = [sum(_by_questions(each, size) for each in some) / len(some) for size in SIZES]
        points = " ".join(f"{_x(at)},{_y(share)}" for at, share in enumerate(shares))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        name = f"{low:g} to {high:g} ({len(some)})" if high < 1 else f"over {low:g} ({len(some)})"
        parts.append(f'<text x="{_WIDTH - 86}" y="{40 + 16 * _BANDS.index((low, high))}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _by_questions(found: Case, size: str) -> bool:
    return bool({"regression", "questions", "filtered answers", "golden ids"} & set(found["red"][size]))


def _x(at: int) -> float:
    return round(_EDGE + 20 + at * (_WIDTH - 90 - _EDGE - 40) / (len(SIZES) - 1), 1)


def _y(share: float) -> float:
    return round(_HEIGHT - 28 - share * (_HEIGHT - 60), 1)


if __name__ == "__main__":
    kept_figures = json.loads(RESULTS.read_text(encoding="utf-8"))
    RESULTS.with_suffix(".md").write_text(page(kept_figures), encoding="utf-8")
    RESULTS.with_suffix(".svg").write_text(picture(kept_figures), encoding="utf-8")
    DOCUMENT.write_text(written(kept_figures, DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
