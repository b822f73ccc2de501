"""One SVG per measurement: axes with units, colours that colour-blind people can tell apart, shapes beside colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from measuring import Figures, goal_of

# Okabe and Ito's palette.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#D9CB00",  # theirs, #F0E442, is too pale on white
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#888888"

_FAMILIES: tuple[tuple[str, str, str], ...] = (  # name, colour, marker; in the order of `_family`
    ("scan of all codes", GREY, "s"),
    ("IVF, Flat or SQ8", SKY, "v"),
    ("IVF, 4-bit PQ", BLUE, "^"),
    ("IVF, RaBitQ", PURPLE, "P"),
    ("HNSW, Flat or fp16", ORANGE, "o"),
    ("HNSW, SQ8", GREEN, "D"),
    ("NSG", BLACK, "x"),
    ("SymphonyQG", YELLOW, "h"),
)


def sweep(results: Figures, path: Path) -> None:
    """Draw memory against time at each recall: all indexes of the sweep, and what `optimize` chose."""
    levels = sorted({goal["recall"] for goal in results["goals"]})
    figure = Figure(figsize=(4.2 * len(levels), 4.6), layout="constrained")
    axes = figure.subplots(1, len(levels), squeeze=False, sharex=True, sharey=True)[0]
    for ax, level in zip(axes, levels, strict=True):
        quickest = _quickest(results["swept"], level)
        for number, (name, colour, marker) in enumerate(_FAMILIES):
            members = [one for one in quickest if _family(one["index"]) == number]
            ax.plot(
                [one["bytes_per_vector"] for one in members],
                [one["p50_us"] for one in members],
                marker, color=colour, markersize=4.5, alpha=0.75, label=name,
            )  # fmt: skip
        mine = [goal for goal in results["goals"] if goal["recall"] == level]
        for goal, (mark, size, filled) in zip(
            mine, (("*", 15, True), ("p", 16, False), ("X", 13, False)), strict=False
        ):
            ours = goal["ours"]
            ax.plot(
                max(ours["bytes_per_vector"], 1), ours["p50_us"]["median"], mark, color=RED, markersize=size,
                markerfacecolor=RED if filled else "none", label=f"optimize, prefer {goal['prefer']}", zorder=5,
            )  # fmt: skip
        ax.axvline(
            results["room"] * max(mine[0]["ours"]["bytes_per_vector"], 1), color=RED, linestyle=":", linewidth=1,
            label=f"{results['room']}× the memory of the first",
        )  # fmt: skip
        _logarithmic(ax)
        ax.set(title=f"recall@10 ≥ {level:.2f}", xlabel="bytes per vector in memory")
    axes[0].set_ylabel("p50 of one query, µs")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    _save(figure, path)


def growth(results: Figures, path: Path) -> None:
    """Draw time against the number of vectors, with the fitted lines and the paper's slopes."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    ax = figure.subplots()
    colours = SKY, BLUE, RED, GREEN, ORANGE, PURPLE  # three recalls with two engines
    for fit, colour, marker in zip(results["fits"], colours, "o^DsvP", strict=False):
        mine = [one for one in results["measured"] if (one["recall"], one["engine"]) == (fit["recall"], fit["engine"])]
        sizes, times = [one["rows"] for one in mine], [one["p50_us"]["median"] for one in mine]
        ax.plot(sizes, times, marker, color=colour, label=f"recall {goal_of(fit)}: α = {fit['alpha']:.2f}")
        ends = (sizes[0], sizes[-1])
        ax.plot(ends, [fit["t0_us"] * n ** fit["alpha"] for n in ends], "-", color=colour, linewidth=1)
        slope = fit["paper_alpha"]
        if slope:
            start = fit["t0_us"] * sizes[0] ** fit["alpha"]
            ax.plot(
                ends, [start, start * (ends[1] / ends[0]) ** slope], ":", color=colour, linewidth=1.5,
                label=f"the paper's slope at {fit['recall']:.2f}: α = {slope:.2f}",
            )  # fmt: skip
    _logarithmic(ax)
    ax.set(title="What optimize chose, by size", xlabel="vectors", ylabel="p50 of one query, µs")
    ax.legend(frameon=False)
    _save(figure, path)


def large(results: Figures, path: Path) -> None:
    """Draw build time, memory, latency and recall against the number of vectors."""
    steps = results["steps"]
    sizes = [step["rows"] for step in steps]
    figure = Figure(figsize=(9.6, 7.2), layout="constrained")
    (time, memory), (latency, recall) = figure.subplots(2, 2)
    names = list(dict.fromkeys(stage["name"] for step in steps for stage in step["stages"]))
    for name, colour, marker in zip(names, (GREY, SKY, BLUE, GREEN, ORANGE, PURPLE), "so^DvP", strict=False):
        found = [
            (step["rows"], stage["seconds"]) for step in steps for stage in step["stages"] if stage["name"] == name
        ]
        time.plot(*zip(*found, strict=True), f"-{marker}", color=colour, label=name)
    time.set(title="Time per stage", ylabel="seconds")
    limits = results["limits"]
    lines: Sequence[tuple[str, Sequence[float], str, str]] = (
        ("add, peak", [step["peaks"]["add"]["anonymous_kib"] for step in steps], GREY, "s"),
        ("optimize, peak", [step["peaks"]["optimize"]["anonymous_kib"] for step in steps], BLUE, "^"),
        ("serving, peak", [step["serving"]["anonymous_kib"] for step in steps], GREEN, "D"),
    )
    for name, values, colour, marker in lines:
        memory.plot(sizes, [value / 2**20 for value in values], f"-{marker}", color=colour, label=name)
    for limit, colour in ((limits["building_gib"], BLUE), (limits["serving_gib"], GREEN)):
        memory.axhline(limit, color=colour, linestyle=":", linewidth=1.2)
    memory.set(title="Memory without mapped pages, limits dotted", ylabel="GiB")
    kinds: Sequence[tuple[str, Sequence[Figures], str, str]] = (
        ("warm", [step["serving"]["warm_us"] for step in steps], GREEN, "D"),
        ("cold", [step["cold"]["search_us"] for step in steps], ORANGE, "o"),
    )
    for name, found_us, colour, marker in kinds:
        for key, style in (("p50", "-"), ("p95", "--")):
            values = [one[key] for one in found_us]
            latency.plot(sizes, values, style + marker, color=colour, label=f"{key} {name}")
    latency.set(title="Time of a search, chunks included", ylabel="µs")
    low, high = zip(*(step["serving"]["interval_99"] for step in steps), strict=True)
    found = [step["serving"]["knn_recall"] for step in steps]
    spans = [[a - b for a, b in zip(found, low, strict=True)], [b - a for a, b in zip(found, high, strict=True)]]
    recall.errorbar(sizes, found, yerr=spans, fmt="-D", color=GREEN, capsize=3, label="found, 99% interval")
    recall.axhline(results["recall"], color=BLACK, linestyle=":", linewidth=1.2, label="asked for")
    recall.set(title="recall@10", ylabel="knn recall@10", xscale="log")
    _ticks(recall.xaxis)
    recall.grid(visible=True, linewidth=0.4, alpha=0.5)
    for ax in (time, memory, latency):
        _logarithmic(ax)
    for ax in (time, memory, latency, recall):
        ax.set_xlabel("vectors")
        ax.legend(framealpha=0.85, edgecolor="none", handlelength=3, fontsize="small")
    _save(figure, path)


def _quickest(swept: Sequence[Figures], level: float) -> list[Figures]:
    """Return each index's quickest setting that reaches the level."""
    best: dict[str, Figures] = {}
    for one in swept:
        known = best.get(one["index"])
        if one["knn_recall"] >= level and (known is None or one["p50_us"] < known["p50_us"]):
            best[one["index"]] = one
    return list(best.values())


def _family(index: str) -> int:
    tests = (
        ("SymphonyQG" in index, 7),
        ("NSG" in index, 6),
        ("HNSW" in index and "SQ8" in index, 5),
        ("HNSW" in index, 4),
        ("RaBitQ" in index, 3),
        ("IVF" in index and "PQ" in index.split("IVF")[1], 2),
        ("IVF" in index, 1),
    )
    return next((number for found, number in tests if found), 0)


def _logarithmic(ax: Axes) -> None:
    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        _ticks(axis)
    ax.grid(visible=True, which="major", linewidth=0.4, alpha=0.5)


def _ticks(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(FuncFormatter(_short))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float, _: Any = None) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _save(figure: Figure, path: Path) -> None:
    # The same figures give the same file: no date, no random ids.
    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "path"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
