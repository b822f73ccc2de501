"""The packages, and the workflows that release them and publish the site: by running their steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"
sys.path.insert(0, str(ROOT / ".ci"))

import packages  # noqa: E402 - a script of CI, in no package


def job(workflow: str, name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((WORKFLOWS / workflow).read_text(encoding="utf-8"))["jobs"][name]
    return read


def stepped(steps: list[dict[str, Any]], folder: Path, **environment: str) -> tuple[int, str]:
    """Run the steps of a job that run something, as a runner's shell does, except those that install tools."""
    log = ""
    for step in steps:
        if "run" not in step or step["name"] == "tools":
            assert "run" not in step or step["run"].startswith("python -m pip install "), step
            continue
        assert "${{" not in step["run"], "a name of a branch or tag within a script could be a command"
        given = os.environ | environment | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder, env=given, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        log += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, log
    return 0, log


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return what the steps see of the repository, with a ``python`` that is this one."""
    for path in ROOT.iterdir():
        if path.name not in {".git", ".venv", "build", "dist"}:
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    return tmp_path


def test_the_versions_of_all_packages_agree() -> None:
    """Of projects, modules and requirements; a tag is the version, and each changelog has it."""
    assert list(packages.disagreements(None)) == []
    found = list(packages.disagreements("v9.9.9"))
    version = packages.projects()[0].version
    assert f"the tag is v9.9.9, and the version is {version}" in found
    assert len(packages.projects()) == 4


@pytest.mark.campaign
def test_the_packages_hold_what_they_should(checkout: Path) -> None:
    """As the release builds them: all files under src/ and no other, a licence, a page that an index can show."""
    pytest.importorskip("twine", reason="needs the extra dev")
    steps = job("release.yml", "build")["steps"]
    code, log = stepped(steps, checkout, TAG="v9.9.9")
    assert (code, "the tag is v9.9.9" in log, (checkout / "dist").exists()) == (1, True, False)
    done = subprocess.run(
        [sys.executable, ".ci/packages.py", "dist"], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    built = sorted((checkout / "dist").iterdir())
    assert [path.suffix for path in built].count(".whl") == 4
    assert len(built) == 8
    core, wheel = packages.projects()[0], next((checkout / "dist").glob("reperio-*.whl"))
    sdist = next((checkout / "dist").glob("reperio-*.tar.gz"))
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("reperio/tests/test_x.py", "")
    found = list(packages.faults(core, wheel, sdist))
    assert f"{wheel.name} has reperio/tests/test_x.py" in found
    assert f"{wheel.name} has reperio/tests/test_x.py, which is not under src/" in found


@pytest.mark.campaign
def test_the_workflow_of_the_site_builds_it(checkout: Path) -> None:
    """Its steps, and what they build is what is uploaded."""
    pytest.importorskip("zensical", reason="needs the extra docs")
    steps = job("docs.yml", "build")["steps"]
    code, log = stepped(steps, checkout)
    assert code == 0, log
    (uploaded,) = [step["with"]["path"] for step in steps if "pages-artifact" in step.get("uses", "")]
    assert (checkout / uploaded / "index.html").exists()


def test_workflows_publish_only_what_was_built_and_used() -> None:
    """A release waits for the wheels of every Python declared; only the last job may prove who it is."""
    wheels, publish = job("release.yml", "wheels"), job("release.yml", "publish")
    assert (wheels["needs"], publish["needs"]) == ("build", "wheels")
    assert publish["permissions"] == {"id-token": "write"}
    assert "permissions" not in wheels
    declared = re.findall(r"3\.(\d+)", packages.projects()[0].python)[0]
    assert wheels["strategy"]["matrix"]["python"][0] == f"3.{declared}"
    assert {"run": "python .ci/wheels.py dist", "name": "use"} in wheels["steps"]
    assert job("docs.yml", "publish")["needs"] == "build"
