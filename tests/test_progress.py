from __future__ import annotations

import re

import pytest

from recollect import progress_bar


def drawn(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what is left on the terminal's lines, without control sequences."""
    out, err = capsys.readouterr()
    assert out == ""
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", err)


def report(*, disable: bool = False) -> None:
    with progress_bar(disable=disable) as progress:
        progress("add", 1000, None)
        progress("add", 2500, None)
        progress("index", 1000, 4000)
        progress("sorting", 3, 3)


def test_nothing_is_drawn_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a file or a pipe goes no bar, and neither where bars are not wanted."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    report()
    assert drawn(capsys) == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    report(disable=True)
    assert drawn(capsys) == ""


def test_a_bar_shows_amount_and_rate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line per stage with what is done, of how much where that is known, and how many a second."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    report()
    shown = drawn(capsys)
    assert re.search(r"storing +━+ +2,500 chunks +[\d,.]+ chunks/s · \d:\d\d", shown)
    assert re.search(r"indexing +\S+ +1,000 / 4,000 rows +[\d,.]+ rows/s · \d:\d\d left", shown)
    assert re.search(r"sorting +━+ +3 / 3 +[\d,.]+ /s", shown)
