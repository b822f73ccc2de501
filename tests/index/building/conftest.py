"""What the tests of building share."""

from __future__ import annotations

import pytest

from reperio.index.building import filling


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a block be 1,000 rows."""
    monkeypatch.setattr(filling, "BLOCK_ROWS", 1000)
    return 1000
