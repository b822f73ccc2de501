"""The gate as pytest runs it, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import reperio


def plugin(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    # Named, and nothing else loaded: where Reperio is installed, pytest would find it a second time.
    command = [sys.executable, "-m", "pytest", "-p", "reperio.evaluation.pytest_plugin", "-p", "no:cacheprovider"]
    own = {"COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, "-v", *map(str, arguments)], cwd=folder, env=os.environ | own, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip


def test_pytest_has_one_test_per_check(stored: Path, lexical: Path, tmp_path: Path) -> None:
    """Passed, skipped and failed as the checks are, beside a folder's own tests; evidence instead of a traceback."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "test_own.py").write_text("def test_own():\n    assert True\n")
    with reperio.open(stored) as collection:
        collection.delete(ids=["c0"])
    done = plugin(folder, "--reperio-kb", stored, "--reperio-golden", lexical, "--reperio-recall", 0.9)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed" in done.stdout
    # There is no baseline, which is an error.
    for line in ("test_own.py::test_own PASSED", "integrity PASSED", "regression FAILED", "golden_ids FAILED"):
        assert line in done.stdout
    assert "'c0' not in the collection" in done.stdout
    assert "Traceback" not in done.stdout
    done = plugin(folder, "--reperio-kb", stored, "--reperio-golden", lexical, "-k", "integrity or latency")
    assert (done.returncode, "1 passed, 1 skipped" in done.stdout) == (0, True)


def test_pytest_fails_where_nothing_is_checked(stored: Path, tmp_path: Path) -> None:
    """Skipped tests alone would let a deployment through; a missing collection is one line per check."""
    done = plugin(tmp_path, "--reperio-kb", stored, "-k", "thresholds or regression")
    assert (done.returncode, "nothing was checked" in done.stdout) == (1, True)
    done = plugin(tmp_path, "--reperio-kb", tmp_path / "absent", "-k", "integrity")
    assert done.returncode == 1
    assert "absent" in done.stdout
    assert "Traceback" not in done.stdout


def test_pytest_without_the_option_is_left_alone(lexical: Path, tmp_path: Path) -> None:
    """The plugin adds nothing, and refuses options that would be ignored."""
    (tmp_path / "test_own.py").write_text("def test_own():\n    assert True\n")
    done = plugin(tmp_path, "test_own.py")
    assert (done.returncode, "1 passed" in done.stdout) == (0, True)
    done = plugin(tmp_path, "test_own.py", "--reperio-golden", lexical)
    assert done.returncode == 4
    assert "--reperio-golden needs --reperio-kb" in done.stderr
