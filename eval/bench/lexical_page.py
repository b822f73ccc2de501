"""The page of what `lexical.py` measured."""

from __future__ import annotations

from pathlib import Path

import orjson
from measuring import Figures

_PARTS = {
    "quality": (
        "## Quality\n\nnDCG@10 over the queries of each set. Convex: 0.5/0.5 of min-max scores over each list's top "
        "100. Floors: SciFact lexical .68, fused .73; SQuAD-dev lexical .86, fused .89."
    ),
    "long": (
        "## Questions of several sentences\n\nThe beginning of a SciFact abstract asks for the rest of it, among 5,183 "
        "texts (`long_questions.py`). Floors: lexical .005 below bm25s, convex not below dense."
    ),
    "latency": (
        "## Latency\n\nOne thread, natural questions with all their common words, {latency:,} chunks of 300 to 900 "
        "characters. FTS5 alone scores every chunk that holds any word."
    ),
    "ingestion": (
        "## Adding\n\nDurable puts of ready vectors (4 dimensions) and texts, {ingestion:,} chunks, 1,000 per commit. "
        "Bytes are those of chunks.db, the texts included."
    ),
}


def write(figures: Figures, folder: Path | None) -> None:
    """Print the page, and write it and the figures to *folder*; parts not measured now stay as they were there."""
    before: Figures = {}
    if folder is not None and (folder / "lexical.json").exists():
        before = orjson.loads((folder / "lexical.json").read_bytes())
    measured = {name: _facts(figures) for name in _PARTS if name in figures}
    figures = before | figures | {"measured_on": before.get("measured_on", {}) | measured}
    page = "\n\n".join(["# Lexical search", "Written by `eval/bench/lexical.py`.", *_sections(figures)]) + "\n"
    print(page)
    if folder is not None:
        (folder / "lexical.json").write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
        (folder / "lexical.md").write_text(page)


def _facts(figures: Figures) -> str:
    facts = figures["machine"]
    return f"{facts['cpu']}, {facts['cores']} cores; SQLite {facts['sqlite_of_apsw']}, Python {facts['python']}."


def _sections(figures: Figures) -> list[str]:
    return [
        f"{heading.format(**figures['rows'])} {figures['measured_on'][name]}\n\n{_table(figures[name])}"
        for name, heading in _PARTS.items()
        if name in figures
    ]


def _table(lines: list[Figures]) -> str:
    heads = list(lines[0])
    body = [f"| {' | '.join(str(line[head]) for head in heads)} |" for line in lines]
    return "\n".join([f"| {' | '.join(head.replace('_', ' ') for head in heads)} |", "|---" * len(heads) + "|", *body])
