"""Each example runs as its user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))


def demo(folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / "python_docs.py"), "--limit", "150", *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.model
@pytest.mark.campaign
def test_the_demo_embeds_once_and_answers(tmp_path: Path) -> None:
    """The first run embeds everything, the second nothing; both give the same hits."""
    question = "how do I parse command-line arguments"
    first, second = demo(tmp_path, question), demo(tmp_path, question)
    assert "150 added, 0 updated, 0 unchanged, 150 embedded" in first
    assert "0 added, 0 updated, 150 unchanged, 0 embedded" in second
    hits = [line for line in first.splitlines() if line.startswith("  1.")]
    assert hits
    assert hits == [line for line in second.splitlines() if line.startswith("  1.")]


@pytest.mark.model
def test_a_folder_of_mixed_files_is_asked(tmp_path: Path) -> None:
    """Each question is answered by the file that has the answer, of seven formats; the second run embeds nothing."""
    pytest.importorskip("selectolax", reason="needs the extra documents")
    for added, unchanged in ((9, 0), (0, 9)):
        command = [sys.executable, str(EXAMPLES / "mixed_folder.py")]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"7 files: {added} chunks added, {unchanged} unchanged" in done.stdout
        found = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  files/")]
        names = ("returns.md", "prices.csv", "rota.eml", "pricing.py", "boxes.ipynb", "printer.html", "parcels.docx")
        assert found == [f"files/{name}" for name in names]


def test_the_demo_collects_thousands_of_chunks_the_same_way_each_time() -> None:
    """Several thousand distinct chunks of the standard library and the language reference, in a stable order."""
    import python_docs

    chunks = python_docs.collect()
    assert len(chunks) > 4000
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    ids = {chunk.id for chunk in chunks}
    assert {"argparse.ArgumentParser", "json.loads", "topic:lambda#1"} <= ids
    assert python_docs.collect() == chunks
