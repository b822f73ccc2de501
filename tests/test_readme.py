"""Every command and code block of the README is run as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)


def blocks(language: str) -> list[str]:
    return [content for found, content in BLOCKS if found == language]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


def test_every_block_is_of_a_known_kind() -> None:
    """No block escapes: Python and console blocks are run, the one plain block is the directory listing."""
    assert {language for language, _ in BLOCKS} == {"python", "console", ""}
    assert [content.splitlines()[0] for content in blocks("")] == ["kb/"]


@pytest.mark.model
@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[-1][:30])
def test_python_blocks_run(code: str, tmp_path: Path) -> None:
    """Each Python block runs by itself in an empty folder."""
    done = run([sys.executable, "-W", "error::reperio.ReperioWarning", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    if "print(" in code:
        assert done.stdout.startswith("1 faq-17 To reset your password")


@pytest.mark.model
def test_the_reperio_commands_run(tmp_path: Path) -> None:
    """The commands run in the order shown, on this repository's docs folder, and find what they are asked for."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    commands = [line for block in blocks("console") for line in block.splitlines() if line.startswith("reperio ")]
    assert len(commands) == 19
    for command in commands:
        done = run(shlex.split(command), tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if " search " in command:
            assert "architecture.md" in done.stdout


def test_the_make_and_pip_commands_exist() -> None:
    """`make` targets named in the README are in the Makefile, and pip's extras in pyproject.toml."""
    makefile, project = (ROOT / "Makefile").read_text(), (ROOT / "pyproject.toml").read_text()
    for target in set(re.findall(r"\bmake (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    for extras in re.findall(r"reperio\[([\w,-]+)\]", README):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, flags=re.M), extra
    others = [line for block in blocks("console") for line in block.splitlines() if not line.startswith("reperio ")]
    assert others == ["make demo", "pip install 'reperio[cpu,minilm]'"]


def test_linked_files_exist() -> None:
    """Relative links lead somewhere."""
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_directory_listing_is_what_the_code_makes(tmp_path: Path) -> None:
    """The names in the listing are those of the layout module."""
    from reperio import layout

    paths = layout.Generation(tmp_path / layout.FIRST_GENERATION)
    names = {path.name for path in (paths.settings, paths.database, paths.vectors, paths.index)}
    names |= {layout.Layout(tmp_path).current.name, layout.Layout(tmp_path).lock.name, layout.FIRST_GENERATION}
    for name in names:
        assert re.search(rf"^ +{re.escape(name)}[/ ]", blocks("")[0], flags=re.M), name
