from __future__ import annotations

import itertools
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from reperio import InvalidInput, MissingDependency, StorageFailed
from reperio.cli import plotting
from reperio.types import OperatingPoint

EXACT = OperatingPoint(10, 0, 0, 1.0, 1.0, 1.0, 11_400.0, 11_900.0, 88.0)
POINTS = (
    OperatingPoint(10, 16, 15, 0.873, 0.866, 0.88, 54.0, 80.0, 32_000.0),
    OperatingPoint(10, 24, 15, 0.872, 0.865, 0.879, 61.0, 90.0, 30_000.0),  # beaten by the first
    OperatingPoint(10, 48, 20, 0.956, 0.951, 0.961, 86.0, 120.0, 20_103.0),
    OperatingPoint(10, 160, 40, 0.9931, 0.990, 0.996, 207.0, 310.0, 9_000.0),
    EXACT,
    OperatingPoint(100, 100, 100, 0.5, 0.4, 0.6, 3.0, 4.0, 1.0),  # for k = 100: not drawn
)
QUICK_EXACT = (POINTS[2], OperatingPoint(10, 0, 0, 1.0, 1.0, 1.0, 50.0, 60.0, 20_000.0))
PERFECT = (OperatingPoint(10, 1, 40, 1.0, 0.9986, 1.0, 20.0, 22.0, 50_000.0), EXACT)


def svg(path: Path, points: tuple[OperatingPoint, ...] = POINTS, *, title: str = "kb", recall: float = 0.95) -> str:
    """Draw, and return the file: letters are drawn as paths, and each text stands above its own in a comment."""
    plotting.plot_points(points, path, title=title, recall=recall, knob="efSearch")
    return path.read_text(encoding="utf-8")


def test_the_point_that_a_search_takes_is_labelled(tmp_path: Path) -> None:
    """Its knobs and figures stand in the picture, and so do title, recall and exact search."""
    drawn = svg(tmp_path / "out.svg", title="kb: HNSW32,SQ8\nmeasured with 1,000 queries given")
    for text in (
        "kb: HNSW32,SQ8", "measured with 1,000 queries given", "recall 0.95", "exact search, 11.4 ms",
        "search(recall=0.95)", "takes efSearch 48, 20 candidates:", "recall 0.9560 (0.951–0.961)",
        "p50 86 µs, p95 120 µs", "20,103 queries/s in a batch",
    ):  # fmt: skip
        assert text in drawn
    assert "takes exact search: 11.4 ms" in svg(tmp_path / "out.svg", recall=0.999)
    assert "takes efSearch 16" in svg(tmp_path / "out.svg", recall=0.8)


def test_a_png_is_a_picture(tmp_path: Path) -> None:
    """The ending decides, in capitals too; what is drawn has the colours of the front and of the point chosen."""
    plotting.plot_points(POINTS, tmp_path / "out.PNG", title="kb", recall=0.95)
    pixels = matplotlib.image.imread(tmp_path / "out.PNG")
    assert pixels.shape[:2] == (800, 1280)
    for colour in ("#2b6cb0", "#c2410c"):
        wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert (np.abs(pixels[..., :3] - wanted).max(axis=-1) < 0.01).sum() > 100


def test_no_label_lies_over_the_next() -> None:
    """Where the points begin at a low recall, the many ticks there have fewer labels."""
    low = OperatingPoint(10, 8, 10, 0.55, 0.54, 0.56, 40.0, 50.0, 40_000.0)
    figure = plotting.draw([low, *POINTS[:5]], title="kb", recall=0.95, knob="efSearch")
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels() if label.get_text()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert len(boxes) > 8


def test_the_same_points_give_the_same_file(tmp_path: Path) -> None:
    """No date and no random name is in it, so that committed pictures change only with the figures."""
    assert svg(tmp_path / "a.svg") == svg(tmp_path / "b.svg")


def test_recall_opens_up_towards_one() -> None:
    """Each further nine takes as much room as the one before; the limits leave no point and no interval out."""
    axes = plotting.draw(POINTS[:5], title="kb", recall=0.95, knob="efSearch").axes[0]
    at = {label.get_text(): tick for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert at["0.99"] - at["0.9"] == pytest.approx(at["0.999"] - at["0.99"])
    assert max(at, key=lambda label: at[label]) == "1"
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for line in axes.get_lines():
        if len(line.get_xdata()) > 1 and line.get_transform() == axes.transData:
            assert left <= min(line.get_xdata()) <= max(line.get_xdata()) <= right
            assert low < min(line.get_ydata()) <= max(line.get_ydata()) < high


@pytest.mark.parametrize("points", [POINTS[:5], QUICK_EXACT, PERFECT], ids=["usual", "quick exact", "perfect"])
@pytest.mark.parametrize("recall", [0.8, 0.95, 0.99, 0.999])
def test_the_label_covers_no_point(points: tuple[OperatingPoint, ...], recall: float) -> None:
    """Whatever was measured, the label lies beside it."""
    figure = plotting.draw(points, title="kb", recall=recall, knob="efSearch")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (label,) = [text for text in axes.texts if text.get_text().startswith("search(")]
    box = label.get_bbox_patch().get_window_extent()
    for line in axes.get_lines():
        if line.get_marker() != "None":
            for place in axes.transData.transform(np.column_stack(line.get_data())):
                assert not box.contains(*place)


def test_the_front_is_what_nothing_beats() -> None:
    """A point is on it exactly if no other has at least its recall in less time, or more recall in its time."""
    rng = np.random.default_rng(3)
    points = [
        OperatingPoint(10, i, 10, float(recall), 0.0, 1.0, float(p50), 0.0, 0.0)
        for i, (recall, p50) in enumerate(zip(rng.integers(5, 20, 60) / 20, rng.integers(10, 40, 60), strict=True))
    ]
    beaten = {
        one
        for one, other in itertools.permutations(points, 2)
        if other.recall >= one.recall and other.p50 <= one.p50 and (other.recall, other.p50) != (one.recall, one.p50)
    }
    found = plotting.front(points)
    assert {(point.recall, point.p50) for point in found} == {(one.recall, one.p50) for one in {*points} - beaten}
    assert found == sorted(found, key=lambda point: (point.recall, point.p50))


@pytest.mark.parametrize("name", ["out.pdf", "out", "out.svg.gz"])
def test_other_endings_are_refused_by_name(tmp_path: Path, name: str) -> None:
    """Nothing is written."""
    with pytest.raises(InvalidInput, match=rf"{name} has the suffix .*; a plot is written as \.svg or \.png"):
        svg(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    """No directory, something else in the place, and no points for k = 10."""
    with pytest.raises(InvalidInput, match="is no directory"):
        svg(tmp_path / "none" / "out.svg")
    (tmp_path / "taken.svg").mkdir()
    with pytest.raises(StorageFailed, match=r"taken\.svg: Is a directory"):
        svg(tmp_path / "taken.svg")
    with pytest.raises(InvalidInput, match="no operating point was measured for k = 10"):
        svg(tmp_path / "out.svg", POINTS[5:])


def test_a_dollar_in_a_name_is_no_formula(tmp_path: Path) -> None:
    """Titles are text."""
    assert "a$\\x$ kb" in svg(tmp_path / "out.svg", title="a$\\x$ kb")


def test_without_matplotlib_the_pip_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked before anything is measured."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"pip install 'reperio\[plot\]'"):
        plotting.require_plottable(tmp_path / "out.svg")
