"""Take docs/pictures/gate.png: a report of the gate, over a collection that has lost a part of its chunks.

Needs Chromium, and the extras of docs/ten-minutes.md: python website/gate_picture.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import reperio

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "pictures" / "gate.png"

QUESTIONS = (
    ("how do I keep other writers out", "operations.md"),
    ("what happens when the disk is full", "what-can-go-wrong.md"),
    ("filter by a field of an object", "filters.md"),
    ("which score comes back under l2", "search.md"),
    ("combine words and vectors", "hybrid-and-reranking.md"),
    ("read spreadsheets and PDF", "ingest.md"),
    ("restore an incremental backup", "keep-and-mend.md"),
    ("connect Claude Desktop", "mcp.md"),
    ("share a collection among hosts", "origins.md"),
    ("is a pickle executed when I import from LangChain", "moving-from-langchain-faiss.md"),
    ("how many microseconds does a search take", "performance.md"),
    ("what does tombstone mean", "glossary.md"),
)


def main() -> None:
    """Make the collection, accept a baseline, lose a page, and take the picture of what the gate says."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("website/gate_picture.py needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        run(work, "ingest", str(ROOT / "docs"), "--into", "kb", "--exclude", "decisions")
        for question, page in QUESTIONS:
            run(work, "golden", "add", "golden.yaml", question, "--expect-document", f"docs/{page}", "--kb", "kb")
        run(work, "gate", "kb", "--golden", "golden.yaml", "--accept")
        with reperio.open(work / "kb") as kb:
            kb.delete(where={"source": "docs/operations.md"})
        run(work, "gate", "kb", "--golden", "golden.yaml", "--html", "gate.html", code=1)
        TARGET.parent.mkdir(exist_ok=True)
        subprocess.run(
            [
                *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={work / 'browser'}", "--window-size=1000,1150"),
                *(f"--screenshot={TARGET}", (work / "gate.html").as_uri()),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    print(f"{TARGET}: {TARGET.stat().st_size // 1024} kB")


def run(work: Path, *arguments: str, code: int = 0) -> None:
    """Run a command of Reperio's, which must end with a code."""
    done = subprocess.run(
        [sys.executable, "-m", "reperio", *arguments], cwd=work, capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        sys.exit(f"reperio {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
