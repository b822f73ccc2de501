"""The gate as pytest runs it, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import reperio
from reperio.evaluation import Subject, judged, read_golden, to_baseline, write_baseline


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
    done = plugin(folder, f"--reperio-kb={stored}", f"--reperio-golden={lexical}", "--reperio-recall=0.9")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed" in done.stdout
    # There is no baseline, which is an error.
    for line in ("test_own.py::test_own PASSED", "integrity PASSED", "regression FAILED", "golden_ids FAILED"):
        assert line in done.stdout
    assert "'c0' not in the collection" in done.stdout
    assert "Traceback" not in done.stdout
    done = plugin(folder, f"--reperio-kb={stored}", f"--reperio-golden={lexical}", "-k", "integrity or latency")
    assert (done.returncode, "1 passed, 1 skipped" in done.stdout) == (0, True)


def test_pytest_fails_where_nothing_is_checked(stored: Path, tmp_path: Path) -> None:
    """Skipped tests alone would let a deployment through; also where workers of xdist run them."""
    for more in ((), ("-p", "xdist", "-n", "2")):
        done = plugin(tmp_path, f"--reperio-kb={stored}", "-k", "thresholds or regression", *more)
        assert (done.returncode, "nothing was checked" in done.stdout) == (1, True), done.stdout + done.stderr


def test_what_cannot_be_judged_is_told_once(stored: Path, lexical: Path, tmp_path: Path) -> None:
    """A missing collection, golden set or function stops the session with one line, before any test."""
    for wrong, said in (
        ((f"--reperio-kb={tmp_path / 'absent'}",), "absent"),
        ((f"--reperio-kb={stored}", f"--reperio-golden={tmp_path / 'absent.yaml'}"), "absent.yaml cannot be read"),
        (("--reperio-search=absent:search", f"--reperio-golden={lexical}"), "there is no module 'absent'"),
        (("--reperio-search=absent:search",), "needs --reperio-golden="),
        (("--reperio-kb", stored), "write --reperio-kb=…, with the sign"),
    ):
        done = plugin(tmp_path, *wrong)
        assert (done.returncode, (done.stdout + done.stderr).count(said)) == (4, 1), done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_the_rootdir_stays_and_workers_share_one_gate(lexical: Path, tmp_path: Path) -> None:
    """Under xdist each check runs once, warnings reach the summary, and --reperio-strict makes them red."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "test_own.py").write_text("def test_own():\n    assert True\n")
    (folder / "own_search.py").write_text(
        "import os\n"
        "def search(text):\n"
        f"    with open({str(tmp_path / 'asked')!r}, 'a') as file:\n"
        "        file.write(f'{os.getpid()} {text}\\n')\n"
        "    return ['c' + text[3:]] if text != 'own90' else []\n"
    )
    lexical.write_text(lexical.read_text().replace("mode: lexical", "k: 10") + "- {query: own91, expect: [c91]}\n")
    accepted = Subject(None, read_golden(lexical), search=lambda text: ["c" + text[3:]])
    write_baseline(to_baseline(accepted, judged(accepted)), tmp_path / "golden.baseline.json")
    named = (
        "--reperio-search=own_search:search",
        f"--reperio-golden={lexical}",
        "-k",
        "own or regression or thresholds",
    )
    done = plugin(folder, *named, "-p", "xdist", "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "reperio gate, regression: " in done.stdout
    assert f"rootdir: {folder}" in done.stdout
    asked = (tmp_path / "asked").read_text().split("\n")[:-1]
    assert (len(asked), len({line.split()[0] for line in asked})) == (11, 1), "asked once, by one worker"
    done = plugin(folder, *named, "--reperio-strict")
    assert (done.returncode, "1 failed, 2 passed" in done.stdout) == (1, True), done.stdout


def test_pytest_without_the_option_is_left_alone(lexical: Path, tmp_path: Path) -> None:
    """The plugin adds nothing, and refuses options that would be ignored."""
    (tmp_path / "test_own.py").write_text("def test_own():\n    assert True\n")
    done = plugin(tmp_path, "test_own.py")
    assert (done.returncode, "1 passed" in done.stdout) == (0, True)
    done = plugin(tmp_path, "test_own.py", f"--reperio-golden={lexical}")
    assert done.returncode == 4
    assert "--reperio-golden needs --reperio-kb" in done.stderr
