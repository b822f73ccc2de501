"""The GitHub Action and the GitLab template, by running their steps; and cures that name only what there is."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from typer.main import get_command

import reperio
from reperio.cli.main import app
from reperio.evaluation import pytest_plugin

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
EVALUATION = ROOT / "src" / "reperio" / "evaluation"


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which ``reperio`` is this checkout's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "reperio").write_text(f'#!/bin/sh\nexec {sys.executable} -m reperio "$@"\n')
    (folder / "reperio").chmod(0o755)
    files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    return {**os.environ, **files, "PATH": f"{folder}:{os.environ['PATH']}", "COLUMNS": "200"}


def acted(tools: dict[str, str], folder: Path, **inputs: str) -> tuple[int, str, dict[str, str], str]:
    """Run the action's steps as GitHub does: exit code, log, outputs and summary."""
    given = {name: str(each["default"]) for name, each in ACTION["inputs"].items()}
    given |= {"install": "", **{name.replace("_", "-"): value for name, value in inputs.items()}}
    assert given.keys() == ACTION["inputs"].keys()
    log, code = "", 0
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        Path(tools[name]).write_text("")
    for step in ACTION["runs"]["steps"]:
        values = {
            name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: given[found[1]], str(value))
            for name, value in step["env"].items()
        }
        assert "${{" not in step["run"], "an input within a script could be a command"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], cwd=folder, env=tools | values,
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        log, code = log + done.stdout + done.stderr, done.returncode
    outputs = dict(line.split("=", 1) for line in Path(tools["GITHUB_OUTPUT"]).read_text().splitlines())
    return code, log, outputs, Path(tools["GITHUB_STEP_SUMMARY"]).read_text()


def test_the_action_tells_verdict_summary_and_annotations(
    tools: dict[str, str], stored: Path, lexical: Path, tmp_path: Path
) -> None:
    """Pass, red, red that only reports, and what could not run; a value that looks like a command is none."""
    lexical.write_text(lexical.read_text().replace("limits: {", "limits: {no_baseline: true, "))
    code, _, outputs, summary = acted(tools, tmp_path, kb=str(stored), golden=str(lexical))
    assert (code, outputs["verdict"], outputs["exit-code"]) == (0, "pass", "0")
    assert "reperio gate: pass" in summary
    assert sorted(each.name for each in (tmp_path / outputs["reports"]).iterdir())[1:] == [
        "gate.html",
        "gate.md",
        "gate.xml",
    ]
    with reperio.open(stored) as collection:
        collection.delete(ids=["c0"])
    code, log, outputs, summary = acted(tools, tmp_path, kb=str(stored), golden=str(lexical), fail="false")
    assert (code, outputs["verdict"], "'c0'" in summary) == (0, "fail", True)
    assert re.search(r"^::error title=reperio gate, golden ids::", log, flags=re.M)
    code, log, outputs, summary = acted(tools, tmp_path, kb="$(touch owned) `touch owned`", golden=str(lexical))
    assert (code, outputs["verdict"], "could not run" in summary) == (2, "error", True), log
    assert not (tmp_path / "owned").exists()


def test_the_template_of_gitlab_runs(tools: dict[str, str], stored: Path, lexical: Path, tmp_path: Path) -> None:
    """Its lines, one after the other, as a runner's shell does; JUnit is where GitLab looks for it."""
    lexical.write_text(lexical.read_text().replace("limits: {", "limits: {no_baseline: true, "))
    job = yaml.safe_load((ROOT / "examples" / "gate" / "gitlab-ci.yml").read_text())["reperio-gate"]
    own = {"GATE_INSTALL": "", "GATE_BUILD": "touch built", "GATE_KB": str(stored), "GATE_GOLDEN": str(lexical)}
    values = {**job["variables"], **own, "GATE_OPTIONS": "--strict --skip backup"}
    assert values.keys() == job["variables"].keys()
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])], cwd=tmp_path, env=tools | values,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "built").exists()
    for name in job["artifacts"]["paths"]:
        assert (tmp_path / name).exists()
    assert ElementTree.parse(tmp_path / job["artifacts"]["reports"]["junit"]).find("testsuite") is not None


def texts(path: Path) -> Iterator[str]:
    """Yield the texts of a module that users see: all but docstrings, f-strings with … for what is filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(each) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for each in node.values}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (parts | docs):
            yield node.value


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Yield every command with its options."""
    yield path, {option for each in command.params for option in each.opts if option.startswith("--")}
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_no_cure_names_an_option_or_command_that_is_not_there() -> None:
    """Each `--option` in a text of the gate is one of its commands', or of pytest's; each `reperio …` is a command."""
    known = dict(commands(get_command(app)))
    judging = ("gate", "golden", "optimize")
    own = {option for path, options in known.items() if path and path[0] in judging for option in options}
    own |= {f"--reperio-{name.replace('_', '-')}" for name in pytest_plugin._OPTIONS}
    files = [
        *EVALUATION.rglob("*.py"),
        ROOT / "src/reperio/cli/commands/gate.py",
        ROOT / "src/reperio/cli/commands/golden.py",
    ]
    seen = 0
    for path in files:
        for text in texts(path):
            if ":root" in text or "var(--" in text:  # a style sheet has names of this form
                continue
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]*(?=[^\w…-]|$)", text):
                assert option in own, f"{path.name}: {option} in {text!r}"
                seen += 1
            for words in re.findall(r"\breperio ((?:[a-z-]+ ?)+)", text):
                first, *rest = words.split()
                assert (first,) in known, f"{path.name}: reperio {words} in {text!r}"
                assert first not in ("golden", "import") or not rest or (first, rest[0]) in known, f"reperio {words}"
                seen += 1
    assert seen > 60
