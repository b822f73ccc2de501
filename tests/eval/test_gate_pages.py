"""The figures in docs/gate-detection.md are those that were measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

EDITION = Path(__file__).parents[2] / "eval" / "gate" / "edition"


def test_the_page_has_the_figures_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written from the results, and by nobody's hand: pages.py brings it up to date."""
    monkeypatch.syspath_prepend(str(EDITION))  # scripts import each other by their names alone
    pages = importlib.import_module("pages")
    content = json.loads(pages.RESULTS.read_text(encoding="utf-8"))
    document = pages.DOCUMENT.read_text(encoding="utf-8")
    assert pages.written(content, document) == document
    assert pages.RESULTS.with_suffix(".md").read_text(encoding="utf-8") == pages.page(content)
