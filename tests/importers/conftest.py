"""What several tests of the importers need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.importers.chroma_folders import PACKED
from tests.importers.folders import unpacked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Unpack a directory of the newest version, which a test may break."""
    return unpacked(PACKED[-1], tmp_path / "made") / "chroma"
