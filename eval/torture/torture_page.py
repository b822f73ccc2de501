"""The results as a page for people."""

from __future__ import annotations

from progress import Progress, Results, machine
from rows import ROWS, Row

MOST_SHOWN = 3  # failures of a row; the texts of more are in torture.json

_HEAD = """# The campaign

Kills, refusals, damage, power cuts and traffic at full size: `make torture`, which goes on where it was interrupted.
{facts}.

A trial's number is its seed: all that is random in it is drawn from that. `python eval/torture/run.py --repeat
ROW:TRIAL` makes one again, and prints what it met or why it failed. `src/` is the beginning of git's name for that
folder as it was tested: `git rev-parse COMMIT:src` tells whether a commit is that state. Hours are from beginning to
end, summed over trials. A trial ends at its first failure.

| row | what is done | must hold | ran | failed | trials | hours | `src/` |
|---|---|---|---:|---:|---|---:|---|
"""


def page(results: Results) -> str:
    """Return Markdown: a line per row, what was met in each, and each failure that was kept."""
    held = {name: results.rows[name] for name in ROWS if name in results.rows}
    facts = ", ".join(f"{key} {value}" for key, value in machine().items())
    lines = "".join(_line(name, ROWS[name], progress) for name, progress in held.items())
    met = "".join(_met(name, progress) for name, progress in held.items())
    told = [_failure(name, *one) for name, row in held.items() for one in list(row.told.items())[:MOST_SHOWN]]
    failures = "\n## Failures\n\n" + "\n".join(told) if told else ""
    return f"{_HEAD.format(facts=facts)}{lines}\n## What was met\n\n{met}{failures}"


def _line(name: str, row: Row, progress: Progress) -> str:
    ran = f"{progress.count * row.each:,} {row.unit}"
    if progress.count < progress.size:
        ran += f" of {progress.size * row.each:,}"
    trials = ", ".join(f"{start}" if stop == start + 1 else f"{start} to {stop - 1}" for start, stop in progress.done)
    trees = ", ".join(progress.trees)
    facts = f"{ran} | {len(progress.failed)} | {trials} | {progress.seconds / 3600:.2f} | {trees}"
    return f"| {name} | {row.what} | {row.must} | {facts} |\n"


def _met(name: str, progress: Progress) -> str:
    tally = "; ".join(f"{kind} {count:,}" for kind, count in sorted(progress.tally.items()))
    return f"- {name}: {tally}.\n"


def _failure(name: str, number: str, text: str) -> str:
    return f"### {name}, trial {number}\n\n```\n{text.strip()[-2500:]}\n```\n"
