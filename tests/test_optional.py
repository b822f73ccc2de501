"""A missing optional package: what needed it, and the command that installs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reperio import MissingDependency
from reperio.optional import OptionalImport

_ROOT = Path(__file__).parents[1]


def test_the_message_names_the_need_the_package_and_the_command() -> None:
    """And the other way out, where there is one."""
    with (
        pytest.raises(MissingDependency, match=r"a plot needs nothing_like_it.*pip install 'reperio\[plot\]', or draw"),
        OptionalImport("a plot", "nothing_like_it", extra="plot", instead="draw it by hand"),
    ):
        import nothing_like_it  # type: ignore[import-not-found]  # noqa: F401  # the point of the test


def test_a_package_that_is_there_and_broken_is_not_called_missing() -> None:
    """Its own complaint is in the message."""
    with (
        pytest.raises(MissingDependency, match=r"cannot be imported.*libcuda"),
        OptionalImport("an index", "FAISS", extra="cpu"),
    ):
        raise ImportError("libcuda.so: cannot open shared object file")


def test_other_errors_pass() -> None:
    """Only an import that fails is a missing package."""
    with pytest.raises(ValueError, match="its own"), OptionalImport("a plot", "matplotlib", extra="plot"):
        raise ValueError("its own")


def test_every_extra_that_a_message_names_exists() -> None:
    """A command that installs nothing would be no cure."""
    sources = (_ROOT / "src" / "reperio").rglob("*.py")
    named = {name for source in sources for name in re.findall(r'extra="([\w-]+)"', source.read_text())}
    table = (_ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    assert named
    assert named <= set(re.findall(r"^([\w-]+) = \[", table, re.MULTILINE))
