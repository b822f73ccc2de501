"""Ingest a folder as people have it: a page, a table, a notebook, an e-mail, a Word file, code, and ask it questions.

Makes the folder, reads it into a collection, and shows of which file each answer is. A second run finds everything
unchanged and embeds nothing.

    python examples/mixed_folder.py [--path demo-mixed]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import zipfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape

import reperio

QUESTIONS = (
    "how long can I return what I bought",
    "how much does the desk lamp cost",
    "who is on call at the weekend",
    "which function rounds prices",
    "what did the experiment with the new boxes show",
    "how do I reset the label printer",
    "when are parcels collected",
)
TEXTS = {
    "returns.md": "# Returns\n\n## Period\n\nGoods may be sent back within 30 days. Keep the receipt.\n",
    "printer.html": "<html><body><nav>Home | Shop</nav><main><h1>Label printer</h1>"
    "<p>To reset it, hold the green button for five seconds until the lamp blinks.</p></main></body></html>\n",
    "prices.csv": "text,price,stock\nDesk lamp,24.90,12\nOffice chair,139.00,3\nNotebook,3.20,250\n",
    "rota.eml": "From: anna@example.org\nTo: all@example.org\nSubject: Who is on call\nContent-Type: text/plain\n\n"
    "Ben is on call on Saturday and Sunday, Carla from Monday on.\n",
    "pricing.py": "def to_cents(price: float) -> int:\n"
    '    """Round a price to cents, halves up."""\n    return int(price * 100 + 0.5)\n',
}
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "markdown",
            "source": ["# Boxes\n", "The new boxes halved the damage in transport, at 4% more weight."],
        },
        {"cell_type": "code", "source": ["damaged = 12 / 480"], "outputs": []},
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}
WORD = (
    '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>'
    "Parcels are collected at four in the afternoon; what is packed later leaves on the next day."
    "</w:t></w:r></w:p></w:body></w:document>"
)


def write(folder: Path) -> None:
    """Make the folder; files that are there are left alone, so that their edits are found."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {**TEXTS, "boxes.ipynb": json.dumps(NOTEBOOK)}
    for name, text in contents.items():
        if not (folder / name).exists():
            (folder / name).write_text(text)
    if not (folder / "parcels.docx").exists():
        with zipfile.ZipFile(folder / "parcels.docx", "w") as archive:
            archive.writestr("word/document.xml", WORD)


def main() -> None:
    """Make the folder, ingest it, answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, default=Path("demo-mixed"), help="made here (default: %(default)s)")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.disable(logging.WARNING)
    console = Console()
    write(options.path / "files")
    with reperio.open(options.path / "kb") as kb:
        result = reperio.ingest(kb, options.path / "files")
        console.print(f"{result.files} files: {result.added} chunks added, {result.unchanged} unchanged")
        for failure in result.failed:
            console.print(escape(str(failure)))
        for question in QUESTIONS:
            (hit,) = kb.search(question, k=1, mode="hybrid")
            text = " ".join(hit.chunk.text.split())
            console.print(f"\n? {question}", highlight=False)
            source = escape(str(hit.chunk.metadata["source"]))
            console.print(
                f"  [bold]{source}[/]  [dim]{escape(text)}[/]", no_wrap=True, overflow="ellipsis", highlight=False
            )


if __name__ == "__main__":
    main()
