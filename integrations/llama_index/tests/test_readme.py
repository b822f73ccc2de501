"""Every code block of the README is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import llama_index.vector_stores.reperio as package
from tests.running import PACKAGE, ROOT

README = (PACKAGE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)
PYTHON = [content for language, content in BLOCKS if language == "python"]


def test_every_block_is_of_a_known_kind() -> None:
    """No block escapes: those of Python are run, the one other is a command."""
    others = [content.strip() for language, content in BLOCKS if language != "python"]
    assert others == ["pip install 'llama-index-vector-stores-reperio[cpu,minilm]'"]
    assert len(PYTHON) == 4


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
    assert len(links) >= 4
    for link in links:
        assert (PACKAGE / link).exists(), link


def test_every_public_name_is_explained_and_sorted() -> None:
    """__all__ is sorted, importable, and its classes have docstrings and are in the README."""
    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__
        assert name in README
    project = (PACKAGE / "pyproject.toml").read_text()
    for extra in ("cpu", "gpu", "minilm"):
        assert f"{extra} = [" in project


def test_the_table_of_options_is_that_of_the_code() -> None:
    """Every option of a query is in the README."""
    from llama_index.vector_stores.reperio.options import OPTIONS

    assert all(f"`{name}`" in README for name in OPTIONS)


def test_the_licence_is_the_repositorys() -> None:
    """Each package carries it."""
    assert (PACKAGE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
