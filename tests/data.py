"""Where the measured texts and embeddings are, and the one way to do without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typing_extensions import Never

REALQ = Path(os.environ.get("REPERIO_DATA") or Path(__file__).parents[1].parent / "shared" / "data" / "realq")
"""The folder of real questions; the text sets lie next to it (eval/README.md)."""

ABSENT = "the measured texts and embeddings are not here (eval/README.md says where they belong)"
"""Why a test is skipped; tests/conftest.py makes one line of all that have this reason."""


def skip_without_data() -> Never:
    """Skip a test."""
    pytest.skip(ABSENT)


def require_data(*files: Path) -> None:
    """Skip a test unless these files are there."""
    if not all(file.is_file() for file in files):
        skip_without_data()
