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


def _run(directory: Path, *cases: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.concurrency.forking", str(directory), *cases],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr}"


ALONE = {"another_user_reads", "another_user_backs_up_shards", "a_parent_that_never_imported_reperio"}


@pytest.mark.parametrize("case", sorted(CASES.keys() - ALONE - {*WITH_A_MODEL}))
def test_forked_children(case: str, tmp_path: Path) -> None:
    """A fork leaves the parent's lock to the parent, and a child that opens again, or goes on, can do everything."""
    _run(tmp_path, case)


@pytest.mark.model
@pytest.mark.campaign
def test_forked_children_with_a_model(tmp_path: Path) -> None:
    """A child may embed, with its parent's embedder or its own, whatever its parent's threads were at."""
    _run(tmp_path, *WITH_A_MODEL)


@pytest.mark.model
@pytest.mark.campaign
def test_a_child_of_a_parent_that_never_imported_reperio(tmp_path: Path) -> None:
    """A child of a process that has used PyTorch and FAISS by itself can do everything."""
    _run(tmp_path, "a_parent_that_never_imported_reperio")


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
    _run(open_directory, "another_user_reads")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_another_user_backs_up_shards(open_directory: Path) -> None:
    """A backup needs no right to write to what is copied, and tells of an exchange that it could not keep out."""
    _run(open_directory, "another_user_backs_up_shards")
