"""The FAISS that is installed."""

from __future__ import annotations

import re
from pathlib import Path

import faiss
import pytest

from reperio import MissingDependency
from reperio.index.library import loading as faiss_library
from reperio.index.library.loading import load_faiss

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.fixture
def not_loaded() -> None:
    """Let FAISS be loaded as if for the first time."""
    load_faiss.cache_clear()


@pytest.mark.parametrize("version", ["1.7.4", "1.12.0", "1.13.2", "1.14.2"])
def test_a_faiss_that_is_too_old_is_refused(version: str, not_loaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is searched, with the version that is there and the command that helps."""
    del not_loaded
    monkeypatch.setattr(faiss, "__version__", version)
    with pytest.raises(MissingDependency, match=rf"{re.escape(version)} is installed; run: pip install 'faiss-cpu>=1"):
        load_faiss()


@pytest.mark.parametrize("version", ["1.14.3", "1.15.1", "1.16.0.post1", "2.0", "1.15.0rc1"])
def test_a_newer_faiss_is_taken(version: str, not_loaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever follows the three numbers."""
    del not_loaded
    monkeypatch.setattr(faiss, "__version__", version)
    assert load_faiss() is faiss


def test_the_extras_ask_for_the_version_that_is_required() -> None:
    """Of both packages that provide FAISS."""
    least = ".".join(map(str, faiss_library._LEAST_VERSION))
    asked = re.findall(r'"faiss-(cpu|gpu)>=([0-9.]+)"', PYPROJECT.read_text(encoding="utf-8"))
    assert asked == [("cpu", least), ("gpu", least)]
