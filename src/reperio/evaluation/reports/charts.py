"""Plots as inline SVG, drawn to be read at the width of a phone; colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from reperio.evaluation.statistics.measures import MAIN

_WIDTH, _HEIGHT = 360, 200  # in units of the drawing, which the page scales
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 34  # margins, with room for the labels
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_BINS = 24  # each wide enough to be told from the next on a phone
_MOST_NINES = 4.0  # recall 1 is drawn here: no sample of queries resolves more
_RECALLS = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
_LETTER = 7  # the width of one at the size that the page gives to labels, at most


def deltas(changes: Mapping[str, float]) -> str:
    """Draw each question's change of a measure, worst first: red below 0, green above."""
    values = sorted(changes.values())
    if not values:
        return ""
    reach = max(0.1, *(abs(value) for value in values))  # so that small changes look small
    step = _INNER_WIDTH / len(values)
    middle = _y(0.5)
    bars = [
        f'<rect class="{"bad" if value < 0 else "good"}" x="{_LEFT + at * step:.2f}" '
        f'y="{min(middle, _y(0.5 + value / reach / 2)):.2f}" width="{max(0.5, step * 0.85):.2f}" '
        f'height="{abs(value) / reach * _INNER_HEIGHT / 2:.2f}"/>'
        for at, value in enumerate(values)
        if value
    ]
    labels = [_y_label(0.5 + part / 2, f"{part * reach:+.2g}") for part in (-1.0, 0.0, 1.0)]
    line = f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{middle}" y2="{middle}"/>'
    worse, better = sum(value < 0 for value in values), sum(value > 0 for value in values)
    caption = f"{len(values)} questions: {worse} worse, {better} better"
    return _figure(
        f"{MAIN}: change of each question since the baseline", [line, *bars, *labels, _x_label(0.5, caption)]
    )


def history(points: Sequence[tuple[str, float]]) -> str:
    """Draw a measure of each accepted baseline, oldest first, with the last one named: slow decline is seen here."""
    if len(points) < 2:
        return ""
    values = [value for _, value in points]
    low, high = min(values), max(values)
    reach = max(high - low, 0.05)  # so that small changes look small
    bottom = (low + high - reach) / 2
    step = 1 / (len(points) - 1)
    places = [(_LEFT + at * step * _INNER_WIDTH, _y((value - bottom) / reach)) for at, value in enumerate(values)]
    line = " ".join(f"{left:.2f},{top:.2f}" for left, top in places)
    dots = [f'<circle class="point" cx="{left:.2f}" cy="{top:.2f}" r="4"/>' for left, top in places]
    ends = [_x_label(0.0, points[0][0][:10]), _x_label(1.0, points[-1][0][:10])]
    labels = [_y_label(0.0, f"{bottom:.2f}"), _y_label(1.0, f"{bottom + reach:.2f}")]
    title = (
        f"{MAIN} of the accepted baselines: {values[0]:.3f} at first, {max(values):.3f} at best, {values[-1]:.3f} last"
    )
    return _figure(title, [f'<polyline class="line" points="{line}"/>', *dots, *ends, *labels])


def distribution(times: Sequence[float], quantiles: Mapping[str, float]) -> str:
    """Draw the distribution of latencies in ms, over a logarithmic axis, and mark quantiles.

    These are passed as the check has found them, for there are several ways to compute them.
    """
    found = sorted(time for time in times if time > 0)
    if not found:
        return ""
    low, high = math.log10(found[0]) - 0.05, math.log10(found[-1]) + 0.05
    counts = [0] * _BINS
    for time in found:
        counts[min(_BINS - 1, int((math.log10(time) - low) / (high - low) * _BINS))] += 1
    width = _INNER_WIDTH / _BINS
    bars = [
        f'<rect class="plain" x="{_LEFT + at * width:.2f}" y="{_y(count / max(counts)):.2f}" width="{width * 0.9:.2f}" '
        f'height="{count / max(counts) * _INNER_HEIGHT:.2f}"/>'
        for at, count in enumerate(counts)
    ]
    marks, shown = [], []
    for name, time in quantiles.items():
        place = _LEFT + (math.log10(max(time, found[0])) - low) / (high - low) * _INNER_WIDTH
        marks.append(_mark(place))
        shown.append(f"{name} {time:.2f} ms")
    ends = [_x_label(0.0, f"{10**low:.3g} ms"), _x_label(1.0, f"{10**high:.3g} ms")]
    return _figure(
        f"latency of the questions{': ' if shown else ''}{', '.join(shown)}",
        [*bars, *marks, *ends, _y_label(1.0, str(max(counts))), _y_label(0.0, "0")],
    )


def recall_against_latency(points: Sequence[Sequence[float]], chosen: float | None) -> str:
    """Draw operating points, (knn recall, p50 in µs), each further nine as wide as the one before; mark *chosen*."""
    shown = [(_nines(recall), math.log10(time)) for recall, time in points if time > 0]
    if not shown:
        return ""
    places = [place for place, _ in shown] + ([_nines(chosen)] if chosen is not None else [])
    left, right = min(places) - 0.1, max(places) + 0.1
    low, high = min(time for _, time in shown) - 0.1, max(time for _, time in shown) + 0.1

    def at(place: float) -> float:
        return _LEFT + (place - left) / (right - left) * _INNER_WIDTH

    dots = [
        f'<circle class="point" cx="{at(place):.2f}" cy="{_y((time - low) / (high - low)):.2f}" r="4"/>'
        for place, time in shown
    ]
    labelled = [recall for recall in _RECALLS if left <= _nines(recall) <= right]
    if len(labelled) < 2:  # the settings lie between two of them
        labelled = sorted({recall for recall, _ in points})
    ticks = _ticks([((_nines(recall) - left) / (right - left), f"{recall:.4g}") for recall in labelled])
    line = [] if chosen is None else [_mark(at(_nines(chosen)))]
    labels = [_y_label(0.0, _time(10**low)), _y_label(1.0, _time(10**high))]
    title = "p50 of single queries against knn recall, as measured when the index was tuned"
    return _figure(
        title if chosen is None else f"{title}; dashed: the recall found now, {chosen:.3f}",
        [*dots, *line, *ticks, *labels],
    )


def _nines(recall: float) -> float:
    return min(_MOST_NINES, -math.log10(max(1 - recall, 1e-12)))


def _time(microseconds: float) -> str:
    return f"{microseconds / 1000:.2g} ms" if microseconds >= 1000 else f"{microseconds:.0f} µs"


def _figure(title: str, parts: Sequence[str]) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _mark(place: float) -> str:
    return f'<line class="mark" x1="{place:.2f}" x2="{place:.2f}" y1="{_TOP}" y2="{_y(0)}"/>'


def _y(share: float) -> float:
    return round(_TOP + (1 - share) * _INNER_HEIGHT, 2)


def _y_label(share: float, text: str) -> str:
    return f'<text x="{_LEFT - 4}" y="{_y(share) + 4:.2f}" text-anchor="end">{escape(text)}</text>'


def _x_label(share: float, text: str) -> str:
    """Draw a label within the plot: at an end of it, inwards."""
    anchor = "start" if share < 0.1 else "end" if share > 0.9 else "middle"
    return _x_text(_LEFT + share * _INNER_WIDTH, text, anchor)


def _ticks(labels: Sequence[tuple[float, str]]) -> list[str]:
    """Draw labels below their places, from the right, for there the best settings are; none over another."""
    drawn: list[str] = []
    free = float(_WIDTH)
    for share, text in reversed(labels):
        half = len(text) * _LETTER / 2
        place = min(_LEFT + share * _INNER_WIDTH, _WIDTH - half)
        if place + half <= free:
            drawn.append(_x_text(place, text, "middle"))
            free = place - half
    return drawn


def _x_text(place: float, text: str, anchor: str) -> str:
    return f'<text x="{place:.2f}" y="{_HEIGHT - 12}" text-anchor="{anchor}">{escape(text)}</text>'
