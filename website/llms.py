"""Write llms.txt, which lists the pages for a language model, and llms-full.txt, which has all of them."""

from __future__ import annotations

import re
from pathlib import Path

INTRODUCTION = """# Reperio

> Retrieval for LLM applications in one directory: chunks, vectors and a trained FAISS index, durable and searched in
> your process. A Python library and a command line. No server.

Each page is here as Markdown as well: the address with .md instead of .html. All of them in one file: llms-full.txt.
"""


def write_llms(pages: Path, site: Path, names: list[str]) -> None:
    """Put both files, and each page as Markdown, into the site. The order is that of the navigation."""
    lines, full = [INTRODUCTION, "## Pages\n"], []
    for name in names:
        text = (pages / name).read_text(encoding="utf-8")
        if name.startswith("reference/") and name != "reference/command-line.md":
            continue  # docstrings, which are in the package
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text, encoding="utf-8")
        title, about = summary(text)
        lines.append(f"- [{title}]({name}): {about}")
        full.append(f"<!-- {name} -->\n\n{text.strip()}\n")
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (site / "llms-full.txt").write_text("\n".join(full), encoding="utf-8")


def summary(text: str) -> tuple[str, str]:
    """Return the title of a page, and its first paragraph in one line."""
    title, _, rest = text.partition("\n")
    paragraphs = [part for part in re.split(r"\n\s*\n", rest) if part.strip()]
    first = next((part for part in paragraphs if re.match(r"[\w\"“*]|`(?!`)", part.strip())), "")
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", " ".join(first.split()))
    return title.removeprefix("# ").strip(), re.sub(r"(?<=[.:?]) .*", "", plain) if len(plain) > 160 else plain
