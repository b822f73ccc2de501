from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TORTURE = Path(__file__).resolve().parents[2] / "eval" / "torture"


def _run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TORTURE / "run.py"), "--results", str(folder), "--work", str(folder), "--jobs", "1"]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.crash
@pytest.mark.campaign
def test_a_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    """What is done is not done again, and the table says so; a trial that is repeated is recorded nowhere."""
    for trials, done in (("1:2", [[1, 2]]), ("0:3", [[0, 3]])):
        made = _run(tmp_path, "--only", "old-formats", "--trials", trials)
        assert made.returncode == 0, made.stdout + made.stderr
        row = json.loads((tmp_path / "torture.json").read_text())["rows"]["old-formats"]
        assert row["done"] == done
        assert sum(row["tally"].values()) == sum(stop - start for start, stop in done)
        assert sum(row["trees"].values()) == done[0][1] - done[0][0]
    page = (tmp_path / "torture.md").read_text()
    assert "| old-formats |" in page
    assert "| 3 trials of 20 | 0 | 0 to 2 |" in page
    made = _run(tmp_path, "--repeat", "old-formats:7")
    assert (made.returncode, made.stdout) == (0, "{'format 2': 1}\n")
    assert (tmp_path / "torture.md").read_text() == page


def test_a_row_that_is_none_is_refused(tmp_path: Path) -> None:
    """A misspelt row is no empty campaign: the real ones are named."""
    made = _run(tmp_path, "--only", "kill")
    assert made.returncode == 2
    assert "kills" in made.stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_state_of_the_code_is_named_as_git_names_it(tmp_path: Path) -> None:
    """What is recorded before a commit is what git says of the folder after it; outside a checkout it is unknown."""
    tree_of = runpy.run_path(str(TORTURE / "tree.py"))["tree_of"]
    for name in ("src/a.py", "src/a/b.py", "src/a/c/d.py", "src/ab/x.py", "outside.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert tree_of(tmp_path, "src") == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    before = tree_of(tmp_path, "src")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "all"], check=True)
    named = subprocess.run([*git, "rev-parse", "HEAD:src"], capture_output=True, text=True, check=True).stdout
    assert named.startswith(before)
    assert tree_of(tmp_path, "src") == before
