from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .forking import CASES, WITH_A_MODEL

ROOT = Path(__file__).resolve().parents[2]


def _run(case: str, directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.concurrency.forking", case, str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr}"


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.model if case in WITH_A_MODEL else ())
        for case in sorted(CASES.keys() - {"another_user_reads"})
    ],
)
def test_forked_children(case: str, tmp_path: Path) -> None:
    """A fork leaves the parent's lock to the parent, and a child that opens again, or goes on, can do everything."""
    _run(case, tmp_path)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Make a directory that other users can reach; pytest's own are closed to them."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_another_user_reads_and_cannot_write(open_directory: Path) -> None:
    """Who may only read the directory can search it, sees later commits, and is refused as a writer."""
    _run("another_user_reads", open_directory)
