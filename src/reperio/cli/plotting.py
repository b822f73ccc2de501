"""A picture of what an index gives: recall against latency, as it was measured."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reperio.arguments import to_path
from reperio.errors import InvalidInput
from reperio.index import cheapest
from reperio.layout import storage_errors
from reperio.optional import OptionalImport
from reperio.types import OperatingPoint

ENDINGS = (".svg", ".png")

_K = 10  # neighbours; points for other k are not comparable
_LABEL_ROOM = 0.045  # of the axis, that a label such as 0.995 takes
_PERFECT = 4.0  # where recall 1 is drawn: a thousand queries for ten resolve no more than 1 − 10⁻⁴
_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_LABEL_SHARE = 0.36  # of the height, for the label of the point chosen
_INK, _GREY, _PALE, _BLUE, _RED = "#1f2933", "#7b8794", "#e4e7eb", "#2b6cb0", "#c2410c"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "path",  # a reader without the font sees the same picture
    "svg.hashsalt": "reperio",  # the same points give the same file
}


def require_plottable(path: Path) -> None:
    """Raise what `plot_points` would for this path, or because matplotlib is missing, before minutes are spent."""
    if path.suffix.lower() not in ENDINGS:
        raise InvalidInput(f"{path} has the suffix {path.suffix!r}; a plot is written as {' or '.join(ENDINGS)}")
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"{path} cannot be written: {path.absolute().parent} is no directory; create it first")
    _figure_type()


def plot_points(
    points: Sequence[OperatingPoint],
    path: str | os.PathLike[str],
    *,
    title: str,
    recall: float,
    knob: str = "effort",
) -> None:
    """Draw knn recall@10 against the latency of single queries.

    Recall is drawn as −log₁₀(1 − recall), so that each further nine takes as much room as the one before; the 99%
    intervals are bars, the points that no other beats in both are joined, and the one that ``search(recall=…)`` takes
    is labelled. Exact search is a square at recall 1, where no sample of queries can put anything else.

    Args:
        points: of one index; those measured for k = 10 are drawn.
        path: where to: ``.svg`` or ``.png``.
        title: its first line is set larger.
        recall: that the collection is searched with.
        knob: what the index calls its effort: "nprobe", "efSearch".
    """
    path = to_path("path", path)
    require_plottable(path)
    drawn = [point for point in points if point.k == _K]
    if not drawn:
        raise InvalidInput(f"there is nothing to draw: no operating point was measured for k = {_K}; tune does")
    import matplotlib

    with matplotlib.rc_context(_STYLE), storage_errors(path, "write"):
        figure = draw(drawn, title=title, recall=recall, knob=knob)
        # A date would make another file of the same points.
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def draw(points: Sequence[OperatingPoint], *, title: str, recall: float, knob: str) -> Any:
    """Return the matplotlib figure that `plot_points` writes; the points are those for k = 10."""
    figure = _figure_type()(figsize=(8.0, 5.0), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    _draw_axes(axes, points, recall)
    _draw_goal(axes, recall)
    _draw_points(axes, points)
    _draw_chosen(axes, points, recall, knob)
    _draw_title(axes, title)
    return figure


def front(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """Return the points that no other beats in recall and p50 both, by recall."""
    best: list[OperatingPoint] = []
    for point in sorted(points, key=lambda point: (-point.recall, point.p50)):
        if not best or point.p50 < best[-1].p50:
            best.append(point)
    return best[::-1]


def _figure_type() -> Any:
    with OptionalImport("a plot", "matplotlib", extra="plot"):
        # Not pyplot: it would look for a display, and keep the figure.
        from matplotlib.figure import Figure
    return Figure


def _place(recall: float) -> float:
    """Return where a recall is drawn."""
    return min(_PERFECT, -math.log10(max(1 - recall, 1e-12)))


def _draw_axes(axes: Any, points: Sequence[OperatingPoint], recall: float) -> None:
    lowest = min(recall, *(point.low for point in points))
    first = max((tick for tick in _TICKS if tick <= lowest), default=0.0)
    ticks = [tick for tick in (0.0, *_TICKS) if tick >= first]
    axes.set_xlim(_place(first) - 0.05, _PERFECT + 0.12)
    places = [*map(_place, ticks), _PERFECT]
    axes.set_xticks(places, _without_crowding(places, [*(f"{tick:g}" for tick in ticks), "1"], axes.get_xlim()))
    axes.minorticks_off()
    axes.set_yscale("log")
    # The label of the point chosen lies in the lower right corner.
    axes.set_ylim(*_heights(points, (axes.get_xlim()[0] + _PERFECT) / 2))
    _label_times(axes)
    axes.grid(color=_PALE, linewidth=0.8)
    axes.set_axisbelow(True)  # or the grid would cross the points
    axes.tick_params(length=0, pad=6)
    axes.set_xlabel(f"knn recall@{_K}, with 99% interval", loc="left")
    axes.set_ylabel("p50 of a query on one thread", loc="top")


def _heights(points: Sequence[OperatingPoint], middle: float) -> tuple[float, float]:
    """Return the limits of the latency, with room for the label below every point in the right half."""
    times = [point.p50 for point in points]
    low, high = math.log10(min(times)) - 0.2, math.log10(max(times)) + 0.2
    right = [math.log10(point.p50) for point in points if _place(point.high) >= middle]
    low = min([low, *((height - _LABEL_SHARE * high) / (1 - _LABEL_SHARE) for height in right)])
    return 10.0**low, 10.0**high


def _without_crowding(places: Sequence[float], labels: Sequence[str], limits: tuple[float, float]) -> list[str]:
    """Return the labels of ticks, empty where one would lie over that of the next higher recall."""
    room, last, shown = _LABEL_ROOM * (limits[1] - limits[0]), math.inf, []
    for place, label in zip(reversed(places), reversed(labels), strict=True):
        shown.append(label if last - place >= room else "")
        last = place if shown[-1] else last
    return shown[::-1]


def _label_times(axes: Any) -> None:
    """Label 1, 2 and 5 of every decade, in µs, ms or s."""
    low, high = axes.get_ylim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    # Powers of ten alone would leave most pictures with one label or none.
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(shown, [_time(tick) for tick in shown])
    axes.yaxis.minorticks_off()


def _draw_goal(axes: Any, recall: float) -> None:
    axes.axvline(_place(recall), color=_RED, linewidth=1.0, linestyle=(0, (4, 3)), alpha=0.7, zorder=1)
    axes.annotate(
        f"recall {recall:g}", (_place(recall), 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
        textcoords="offset points", ha="center", va="bottom", color=_RED, fontsize=9,
    )  # fmt: skip


def _draw_points(axes: Any, points: Sequence[OperatingPoint]) -> None:
    found = [point for point in points if point.candidates]
    # Settings that are slower and find less are drawn pale: nobody should choose them.
    best = front(found)
    beaten = [point for point in found if point not in best]
    for some, colour in ((beaten, _GREY), (best, _BLUE)):
        for point in some:
            ends = [_place(point.low), _place(point.high)]
            axes.plot(ends, [point.p50] * 2, color=colour, linewidth=1.2, alpha=0.4)
    _draw_line(axes, beaten, "o", color=_GREY, markersize=4, alpha=0.6, label="settings beaten in both")
    _draw_line(axes, best, "o-", color=_BLUE, markersize=5, linewidth=1.6, label="Pareto front")
    for point in points:
        if not point.candidates:
            axes.plot(_PERFECT, point.p50, "s", color=_INK, markersize=7)
            axes.annotate(
                f"exact search, {_time(point.p50)}", (_PERFECT, point.p50), xytext=(-9, 0), textcoords="offset points",
                ha="right", va="center", fontsize=9,
            )  # fmt: skip
    if found:
        # Below the axes, next to their label: inside, every corner may hold points.
        axes.legend(
            loc="upper right", bbox_to_anchor=(1.0, -0.072), ncols=2, frameon=False, fontsize=9, borderpad=0,
            borderaxespad=0, handlelength=1.6, columnspacing=1.2, reverse=True,
        )  # fmt: skip


def _draw_line(axes: Any, points: Sequence[OperatingPoint], marker: str, **style: Any) -> None:
    if points:
        axes.plot([_place(point.recall) for point in points], [point.p50 for point in points], marker, **style)


def _draw_chosen(axes: Any, points: Sequence[OperatingPoint], recall: float, knob: str) -> None:
    chosen = cheapest(points, recall, _K)
    if chosen is None:
        return
    exact = chosen.candidates == 0
    at = _PERFECT if exact else _place(chosen.recall), chosen.p50
    ends = [_place(chosen.low), _place(chosen.high)]
    axes.plot(ends, [chosen.p50] * 2, color=_RED, linewidth=2.0, zorder=4)
    marker = "s" if exact else "o"
    axes.plot(*at, marker, color=_RED, markersize=9, markeredgecolor="white", markeredgewidth=1.4, zorder=5)
    axes.annotate(
        f"search(recall={recall:g})\n{_described(chosen, knob)}", at, xytext=(0.985, 0.045),
        textcoords="axes fraction", ha="right", va="bottom", ma="left", fontsize=9, linespacing=1.4,
        bbox={"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": _RED, "linewidth": 1.0},
        arrowprops={"arrowstyle": "-", "color": _RED, "linewidth": 1.0, "shrinkB": 7}, zorder=6,
    )  # fmt: skip


def _described(chosen: OperatingPoint, knob: str) -> str:
    if not chosen.candidates:
        return f"takes exact search: {_time(chosen.p50)}\n{chosen.rate:,.0f} queries/s in a batch"
    effort = f"{knob} {chosen.effort}, " if chosen.effort else ""
    return (
        f"takes {effort}{chosen.candidates} candidates:\n"
        f"recall {chosen.recall:.4f} ({chosen.low:.3f}–{chosen.high:.3f})\n"
        f"p50 {_time(chosen.p50)}, p95 {_time(chosen.p95)}\n"
        f"{chosen.rate:,.0f} queries/s in a batch"
    )


def _draw_title(axes: Any, title: str) -> None:
    heading, _, rest = title.partition("\n")
    axes.set_title(heading, loc="left", fontsize=12.5, fontweight="bold", pad=40)
    axes.annotate(
        rest, (0, 1), xycoords="axes fraction", xytext=(0, 22), textcoords="offset points", color=_GREY, fontsize=9.5
    )


def _time(microseconds: float) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} µs"
