from __future__ import annotations

from pathlib import Path

import pytest

from .endings import ENDINGS, end

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("case", ENDINGS)
def test_however_a_process_ends_the_next_one_goes_on(case: str, number: int, tmp_path: Path) -> None:
    """Ctrl-C, SIGKILL, SIGTERM, daemon threads, an exit without close, a spawned child: nothing hangs or is lost."""
    assert end(case, number, tmp_path / "work") == {case: 1}
