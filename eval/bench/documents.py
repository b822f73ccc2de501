"""Compare libraries that read documents, on the small files of tests/ingestion/corpus.py: what arrives, and how long.

    python eval/bench/documents.py reperio|kreuzberg|xberg|markitdown

Run it in an environment that has the library. Facts that must arrive: each sentence, headings as headings, tables with
their header, accents, and no bytes of an image. A format that raises has none of its facts.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.ingestion.corpus import FEES, STORM, TABLE, WORDS, corpus

HEADINGS = ("# Mooring", "# Fees")
FACTS: dict[str, tuple[str, ...]] = {
    "a.docx": (WORDS, STORM, FEES, *HEADINGS, "# Storm lines", TABLE),
    "a.odt": (WORDS, STORM, FEES, *HEADINGS, "# Storm lines", TABLE),
    "a.pptx": (WORDS, STORM, FEES, *HEADINGS),
    "a.xlsx": ("| Berth | Depth | Free |\n| --- |", "| A1 | 4 | true |", "Monday", "Berths"),
    "a.epub": (WORDS, STORM, FEES, *HEADINGS, "# Storm lines", TABLE),
    "a.html": (WORDS, STORM, "# Mooring", "# Storm lines", TABLE, "a\n  b", "!QUJD", "!evil"),
    "a.pdf": (WORDS, FEES, "no heading", "Mooring\n"),
    "a.eml": ("Fees für alle", f"{FEES}\n\nAda", "!=?utf", "!--made"),
    "a.ipynb": (WORDS, "# Mooring", "```python\nprint(1)", "!QUJD"),
    "a.tex": ("# Mooring", "f\xfcr Gr\xf6\xdfe", "moored", "- bow line", "!not said", "!documentclass"),
    "book.rst": ("# Mooring", "Ships."),
}


def main() -> None:
    """Print a line per format."""
    name = sys.argv[1]
    began = time.perf_counter()
    read = {"reperio": _reperio, "kreuzberg": _kreuzberg, "xberg": _xberg, "markitdown": _markitdown}[name]()
    print(f"{name}: import {time.perf_counter() - began:.2f} s")
    right = total = 0
    with tempfile.TemporaryDirectory() as folder:
        files = [file for file in corpus() if file.name in FACTS]
        for file in files:
            path = Path(folder, file.name)
            path.write_bytes(file.content)
            began = time.perf_counter()
            try:
                text = _alike(read(path))
                found = [fact for fact in FACTS[file.name] if _holds(text, fact)]
            except Exception as error:  # of a library: a format that it does not read
                found, text = [], f"{type(error).__name__}: {error!s:.60}"
            seconds = time.perf_counter() - began
            right, total = right + len(found), total + len(FACTS[file.name])
            missed = [fact for fact in FACTS[file.name] if fact not in found]
            print(f"  {file.name:9} {len(found)} of {len(FACTS[file.name])}  {1000 * seconds:6.1f} ms  {missed!s:.150}")
    print(f"  together {right} of {total}")


def _alike(text: str) -> str:
    """Write tables and bold words in one way."""
    lines = [
        " | ".join(cell.strip() for cell in line.split("|")).strip() if "|" in line else line
        for line in text.split("\n")
    ]
    return "\n".join(lines).replace("**", "").replace("-----", "---")


def _holds(text: str, fact: str) -> bool:
    return fact[1:] not in text if fact.startswith("!") else _alike(fact) in text


def _reperio() -> Callable[[Path], str]:
    from reperio.ingestion.finding.sources import SourceFile
    from reperio.ingestion.reading.items import ReadingOptions
    from reperio.ingestion.reading.readers import read

    def to_text(path: Path) -> str:
        items = read(SourceFile(path, path.name), ReadingOptions())
        return "\n\n".join("\n".join([*item.headings, item.text]) for item in items)

    return to_text


def _kreuzberg() -> Callable[[Path], str]:
    from kreuzberg import ExtractionConfig, extract_file_sync

    return lambda path: str(extract_file_sync(str(path), config=ExtractionConfig(output_format="markdown")).content)


def _xberg() -> Callable[[Path], str]:
    import xberg

    async def extract(path: Path) -> str:
        done = await xberg.extract(xberg.ExtractInput(uri=str(path)), xberg.ExtractionConfig(output_format="markdown"))
        return str(done.results[0].content)

    return lambda path: asyncio.run(extract(path))


def _markitdown() -> Callable[[Path], str]:
    from markitdown import MarkItDown

    converter = MarkItDown()
    return lambda path: str(converter.convert(str(path)).text_content)


if __name__ == "__main__":
    main()
