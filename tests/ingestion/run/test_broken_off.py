"""A run that is killed or interrupted, at every step it takes: the next one ends as if nothing had been."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio import Collection
from reperio.ingestion import ingest
from reperio.ingestion.ledger.records import Ledger
from tests.conftest import TrigramEmbedder
from tests.ingestion.folders import contents, require_ledger, table, write

pytestmark = pytest.mark.crash
STEPS = (
    *((Ledger, name) for name in ("put_roots", "begin", "announce", "finish", "forget")),
    *((Collection, name) for name in ("add", "delete")),
)
"""What a run does to the collection; it is stopped before and after each."""


def before(docs: Path) -> None:
    write(docs / "edited.md", "\n\n".join(f"Paragraph {i} is about the number {i * i}." for i in range(5)))
    write(docs / "renamed.md", "\n\n".join(f"Clause {i} concerns freight and customs." for i in range(4)))
    write(docs / "same.md", "as it was")
    write(docs / "gone.md", "soon gone")
    table(docs / "t.csv", a="apples", b="bears", c="cats")


def after(docs: Path) -> None:
    write(docs / "edited.md", "\n\n".join(f"Paragraph {i} is about the number {i + 1}." for i in range(2, 7)))
    (docs / "renamed.md").rename(docs / "sub.md")
    (docs / "gone.md").unlink()
    shutil.copy(docs / "same.md", docs / "copy.md")
    table(docs / "t.csv", a="apples", b="birds", d="dogs")
    write(docs / "new.md", "something new")


def run(path: Path, docs: Path) -> None:
    with reperio.open(path, embedder=TrigramEmbedder(), auto_optimize=False) as kb:
        ingest(kb, docs, max_tokens=60, overlap=0, prune=True, batch_size=2)


def stopped(path: Path, docs: Path, step: int, signal_number: int) -> bool:
    """Run in a process of its own, which gets the signal at that step; return whether there was such a step."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return status != 0
    count = 0

    def stopping(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            nonlocal count
            for moment in ("before", "after"):
                if count == step:
                    os.kill(os.getpid(), signal_number)
                count += 1
                if moment == "before":
                    done = call(*args, **options)
            return done

        return counted

    try:
        for owner, name in STEPS:
            setattr(owner, name, stopping(getattr(owner, name)))
        run(path, docs)
        os._exit(0)
    except BaseException:
        os._exit(3)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_whenever_a_run_is_stopped_the_next_completes_it(tmp_path: Path, signal_number: int) -> None:
    """Stopped before and after everything it writes: the chunks and the ledger are those of a first run, in the end."""
    docs = tmp_path / "docs"
    before(docs)
    run(tmp_path / "old", docs)
    shutil.copytree(docs, tmp_path / "v1", copy_function=shutil.copy2)
    after(docs)
    with reperio.open(tmp_path / "clean", embedder=TrigramEmbedder(), auto_optimize=False) as clean:
        ingest(clean, docs, max_tokens=60, overlap=0)
        wanted = contents(clean)
    step = 0
    while True:
        path = Path(shutil.copytree(tmp_path / "old", tmp_path / "kb"))
        there = stopped(path, docs, step, signal_number)
        with reperio.open(path, embedder=TrigramEmbedder(), auto_optimize=False) as kb:
            assert {key.partition("#")[0] for key in kb.ids()} >= {"docs/edited.md", "docs/same.md", "docs/t.csv"}
            ingest(kb, docs, prune=True, batch_size=2)
            assert contents(kb) == wanted, step
            require_ledger(kb)
            assert kb.check().ok
        shutil.rmtree(path)
        if not there:
            break
        step += 1 if signal_number == signal.SIGKILL else 5  # an interrupt ends as an error does
    assert step > 30


SCRIPT = """
import sys, reperio
from reperio.ingestion import ingest
from tests.conftest import TrigramEmbedder
with reperio.open(sys.argv[1], embedder=TrigramEmbedder(), auto_optimize=False) as kb:
    ingest(kb, sys.argv[2], max_tokens=60, overlap=0, prune=True, batch_size=4)
"""


def test_two_processes_ingest_one_folder_at_once(tmp_path: Path) -> None:
    """They take turns, neither fails, and the chunks and the ledger are those of one run, after the next one."""
    docs = tmp_path / "docs"
    before(docs)
    run(tmp_path / "kb", docs)
    after(docs)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "kb"), str(docs)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told.decode()
    with (
        reperio.open(tmp_path / "kb", embedder=TrigramEmbedder(), auto_optimize=False) as kb,
        reperio.open(tmp_path / "clean", embedder=TrigramEmbedder(), auto_optimize=False) as clean,
    ):
        ingest(clean, docs, max_tokens=60, overlap=0)
        done = ingest(kb, docs, prune=True)
        assert (done.added, done.removed) == (0, 0)
        assert contents(kb) == contents(clean)
        require_ledger(kb)
