"""Every code block of the README is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import langchain_reperio
from langchain_reperio import ReperioVectorStore
from tests.running import PACKAGE, ROOT

README = (PACKAGE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)
PYTHON = [content for language, content in BLOCKS if language == "python"]


def test_every_block_is_of_a_known_kind() -> None:
    """No block escapes: six of Python are run, two are commands."""
    assert [language for language, _ in BLOCKS].count("python") == len(PYTHON) == 6
    commands = [content.strip() for language, content in BLOCKS if language == "console"]
    assert len(commands) + len(PYTHON) == len(BLOCKS)
    assert commands == [
        "pip install 'langchain-reperio[cpu,minilm]'",
        "reperio import langchain-faiss faiss_index --into kb",
    ]


@pytest.mark.model
@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Python block runs by itself in an empty folder; its assertions hold, and it warns of nothing."""
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[number], f"README.md, block {number}", "exec"), {"__name__": "__main__"})
    assert any(tmp_path.iterdir())


def test_linked_files_exist() -> None:
    """Relative links lead somewhere."""
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) >= 6
    for link in links:
        assert (PACKAGE / link).exists(), link


def test_every_public_name_is_explained_and_sorted() -> None:
    """__all__ is sorted, importable, and its classes have docstrings; extras in the README are in pyproject.toml."""
    assert langchain_reperio.__all__ == sorted(langchain_reperio.__all__)
    for name in langchain_reperio.__all__:
        assert getattr(langchain_reperio, name).__doc__
    project = (PACKAGE / "pyproject.toml").read_text()
    for extra in ("cpu", "gpu", "minilm"):
        assert f"{extra} = [" in project


def test_methods_named_in_the_table_exist() -> None:
    """What the migration table says is the same, is there."""
    for name in re.findall(r"^\| `(\w+)(?:\([^|]*)?` \| the same \|$", README, flags=re.M):
        assert callable(getattr(ReperioVectorStore, name)), name


def test_the_licence_is_the_repositorys() -> None:
    """Each package carries it."""
    assert (PACKAGE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
