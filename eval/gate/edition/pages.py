"""Write what `sensitivity.py` found as a page and a picture."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

SIZES = ("20", "50", "100", "200")
_BANDS = ((0.02, 0.03), (0.03, 0.05), (0.05, 0.1), (0.1, 1.0))
_COLOURS = ("#c2410c", "#a16207", "#2b6cb0", "#15803d")
_WIDTH, _HEIGHT, _EDGE = 480, 260, 44


def page(content: dict[str, Any]) -> str:
    """Return Markdown."""
    faults = list(content["faults"].values())
    sets = ", ".join(
        f"{name} ({found['chunks']:,} chunks, nDCG@10 {found['ndcg']})" for name, found in content["sets"].items()
    )
    lines = [
        "# What the gate sees, by number of questions",
        "",
        f"`python eval/gate/edition/sensitivity.py`: {sets}.",
        "",
    ]
    lines += [f"{len({each['fault'] for each in faults})} kinds of accident, {len(faults)} cases.", ""]
    lines += ["| red, of the cases that | cases | 20 | 50 | 100 | 200 |", "|---|---:|---:|---:|---:|---:|"]
    groups = {
        "are red always (access, integrity, emptied, time)": [each for each in faults if each["always"]],
        "cost 0.02 or more": [each for each in faults if each["drop"] >= 0.02],
        "cost 0.02 or more, and only the answers tell": [
            each for each in faults if each["drop"] >= 0.02 and not each["always"]
        ],
    }
    for what, some in groups.items():
        if some:
            seen = [f"{sum(bool(each['red'][size]) for each in some)}" for size in SIZES]
            lines.append(f"| {what} | {len(some)} | {' | '.join(seen)} |")
    harmless = list(content["harmless"].values())
    red = [each for each in harmless if any(each["red"].values())]
    lines += ["", f"Harmless changes: {len(harmless)}, of which red: {len(red)}.", ""]
    lines += [f"- {each['set']}, {each['change']}, seed {each['seed']}: {each['red']}" for each in red]
    lines += [
        "",
        "| fault | set | strength | drop | demanded | 20 | 50 | 100 | 200 | by |",
        "|---|---|---:|---:|---|---|---|---|---|---|",
    ]
    for each in sorted(faults, key=lambda found: found["fault"]):
        cells = ["red" if each["red"][size] else "**missed**" if each["demanded"] else "green" for size in SIZES]
        by = ", ".join(dict.fromkeys(name for size in SIZES for name in each["red"][size]))
        lines.append(
            f"| {each['fault']} | {each['set']} | {each['strength']:g} | {each['drop'] + 0:.3f} | "
            f"{'yes' if each['demanded'] else 'no'} | {' | '.join(cells)} | {by or '–'} |"
        )
    return "\n".join([*lines, ""])


def picture(content: dict[str, Any]) -> str:
    """Return power curves as SVG: share of the cases that are red by regression or questions, by drop and questions."""
    found: dict[tuple[float, float], list[dict[str, Any]]] = defaultdict(list)
    for each in content["faults"].values():
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


def _by_questions(found: dict[str, Any], size: str) -> bool:
    return bool({"regression", "questions", "filtered answers", "golden ids"} & set(found["red"][size]))


def _x(at: int) -> float:
    return round(_EDGE + 20 + at * (_WIDTH - 90 - _EDGE - 40) / (len(SIZES) - 1), 1)


def _y(share: float) -> float:
    return round(_HEIGHT - 28 - share * (_HEIGHT - 60), 1)
