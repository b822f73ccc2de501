from __future__ import annotations

import re
from pathlib import Path

import pytest

from reperio import progress_bar
from reperio.progress import _STAGES, _Pace


def drawn(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what is left on the terminal's lines, without control sequences."""
    out, err = capsys.readouterr()
    assert out == ""
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", err)


def report(*, disable: bool = False) -> None:
    with progress_bar(disable=disable) as progress:
        progress("add", 1000, None)
        progress("add", 2500, None)
        progress("index", 0, 4000)
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


def test_what_was_there_before_a_build_was_resumed_is_no_rate() -> None:
    """An index that begins at 900,000 rows and gets 1,000 a second has 99 seconds to go, not 0."""
    pace = _Pace(50.0, 900_000)
    assert pace.text(50.0, 900_000, 1_000_000, "rows") == ""
    assert pace.text(51.0, 901_000, 1_000_000, "rows") == "1,000 rows/s · 1:39 left"
    assert pace.text(150.0, 1_000_000, 1_000_000, "rows") == "1,000 rows/s · 1:40"


def test_the_time_left_follows_the_last_minute() -> None:
    """A stage that became ten times slower has ten times as long to go; at the end the rate is that of the whole."""
    pace = _Pace(0.0, 0)
    for second in range(1, 101):
        pace.text(float(second), 100 * second, 20_000, "rows")
    for second in range(101, 200):
        shown = pace.text(float(second), 10_000 + 10 * (second - 100), 20_000, "rows")
    assert shown == "10 rows/s · 15:01 left"
    assert pace.text(1000.0, 20_000, 20_000, "rows") == "20 rows/s · 16:40"


@pytest.mark.parametrize(
    ("done", "seconds", "told"),
    [
        (50, 5.0, "10 checks/s · 0:05"),
        (3, 2.0, "1.5 checks/s · 0:02"),
        (4, 60.0, "4.0 checks/min · 1:00"),
        (40, 60.0, "40 checks/min · 1:00"),
        (4, 480.0, "30 checks/h · 8:00"),
        (2, 3600.0, "2.0 checks/h · 1:00:00"),
    ],
)
def test_what_is_slow_is_counted_by_the_minute_or_the_hour(done: int, seconds: float, told: str) -> None:
    """A stage of few steps does not say that it does 0.0 of them in a second."""
    assert _Pace(0.0, 0).text(seconds, done, done, "checks") == told


def test_the_bar_of_a_resumed_build_shows_no_impossible_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first report of a build says where it stands; no rate follows from that."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar() as progress:
        progress("index", 900_000, 1_000_000)
    assert re.search(r"indexing +\S+ +900,000 / 1,000,000 rows +\n", drawn(capsys) + "\n")


def test_lines_count_from_the_beginning_of_a_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log of a job as on a terminal: not from that of the first stage."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    now = [0.0]
    monkeypatch.setattr("reperio.progress.monotonic", lambda: now[0])
    with progress_bar() as progress:
        for second, stage, done in ((20, "add", 400), (100, "train", 0), (104, "train", 4000), (150, "index", 0)):
            now[0] = float(second)
            progress(stage, done, 4000)
        now[0] = 160.0
        progress("index", 2000, 4000)
        now[0] = 175.0
        progress("index", 4000, 4000)
    assert drawn(capsys).splitlines() == [
        "storing: 400 / 4,000 chunks, 20 chunks/s · 3:00 left",
        "training: 0 / 4,000 rows",
        "indexing: 0 / 4,000 rows",
        "indexing: 4,000 / 4,000 rows, 160 rows/s · 0:25",
    ]


def test_every_stage_that_is_reported_has_its_words() -> None:
    """Or a bar would show the name of a stage, and no unit."""
    sources = (Path(__file__).parents[1] / "src" / "reperio").rglob("*.py")
    calls = re.findall(r'progress\("(\w+)", [^.]', "".join(source.read_text() for source in sources))
    assert set(calls) <= _STAGES.keys()
    assert len(set(calls)) > 5
