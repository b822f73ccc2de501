"""Every code block of the README and of docs/haystack.md is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from haystack_integrations.components.retrievers import reperio as retrievers
from haystack_integrations.document_stores import reperio as stores
from tests.running import PACKAGE, ROOT

README = (PACKAGE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)
PAGE = (ROOT / "docs" / "haystack.md").read_text(encoding="utf-8")
PYTHON = [*re.findall(r"^```python\n(.*?)^```$", README + PAGE, flags=re.M | re.S)]


def test_every_block_is_of_a_known_kind() -> None:
    """No block escapes: one of Python is run, one is a command."""
    assert [language for language, _ in BLOCKS] == ["console", "python"]


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Python block runs by itself in an empty folder; its assertions hold, and it warns of nothing."""
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[number], f"README.md, block {number}", "exec"), {"__name__": "__main__"})
    assert any(tmp_path.iterdir())


def test_linked_files_exist() -> None:
    """Relative links lead somewhere."""
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert len(links) >= 3
    for link in links:
        assert (PACKAGE / link).exists(), link


def test_every_public_name_is_explained_and_sorted() -> None:
    """__all__ is sorted, and its classes have docstrings; extras in the README are in pyproject.toml."""
    for package in (stores, retrievers):
        assert package.__all__ == sorted(package.__all__)
        for name in package.__all__:
            assert getattr(package, name).__doc__
    project = (PACKAGE / "pyproject.toml").read_text(encoding="utf-8")
    for extra in ("cpu", "gpu", "minilm"):
        assert f"{extra} = [" in project
