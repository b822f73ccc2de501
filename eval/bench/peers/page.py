"""The results as a page of tables, and as a plot of recall against latency."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from catalogue import OURS

Figures: TypeAlias = dict[str, Any]

_BOLD = "**{}**"


def to_markdown(results: Figures) -> str:
    """Return peers.md for the content of peers.json; it may be that of an interrupted run."""
    sections = [_head(results)]
    for rows, size in sorted(results["sizes"].items(), key=lambda pair: int(pair[0])):
        sections.append(f"## {int(rows):,} × {size['dimension']}")
        sections += [_race(size, target) for target in _targets(size)]
        sections += [_costs(size), _parameters(size)]
        sections += _failures(size)
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(results: Figures) -> str:
    facts = results["machine"]
    return (
        "# Next to the peers\n\n"
        "Written by `make bench-peers` (`eval/bench/peers/run.py`, which says how); every figure is in peers.json. "
        "Each hit comes back with about 800 B of text and 200 B of metadata, parsed; k = 10, real held-out questions. "
        "Half of them choose each subject's knob, the other half are measured. Each subject has a process of its own; "
        "all processes of a heat are alive at once and measured in turn, in blocks, round after round. Reperio takes "
        "part in every heat, so that ratios are of the same rounds.\n\n"
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; Python {facts['python']}, numpy "
        f"{facts['numpy']}, faiss {facts['faiss']}, SQLite {facts['sqlite_of_apsw']}; reperio {facts['reperio']}."
    )


def _targets(size: Figures) -> list[str]:
    names = {name for found in size["subjects"].values() for name in found.get("settings", ())}
    return sorted(name for name in names if not name.startswith("asked"))


def _settings(size: Figures, target: str) -> dict[str, Figures]:
    """Return what was measured for a target, by the row's name; a setting that is another's has that one's figures."""
    rows = {}
    for name, found in size["subjects"].items():
        for key, title in ((target, name), (f"asked {target}", f"{name}, asked for {target}")):
            setting = found.get("settings", {}).get(key)
            if setting is not None:
                same = found["settings"][setting["as"]] if "as" in setting else setting
                rows[title] = {**same, "reached": setting["reached"], "run": found["run"]}
    return {title: row for title, row in rows.items() if "warm" in row}


def _race(size: Figures, target: str) -> str:
    rows = _settings(size, target)
    if not rows:
        return ""
    ours = [title for title in rows if title.startswith(OURS) and "asked" not in title and rows[title]["reached"]]
    reference = min(ours, key=lambda title: float(rows[title]["warm"]["p50_us"]), default=None)
    lines = []
    for title, row in sorted(rows.items(), key=lambda pair: (not pair[1]["reached"], pair[1]["warm"]["p50_us"])):
        warm, first = row["warm"], [opened["first_pass"] for opened in row["opens"]]
        lines.append(
            [
                _BOLD.format(title) if title.startswith(OURS) else title,
                f"{row['recall']:.3f}{'' if row['reached'] else ' at most'}",
                *(_us(warm[f"p{rank}_us"]) for rank in (50, 95, 99)),
                _ratio(row, rows[reference]) if reference else "",
                " / ".join(_us(statistics.median(one[f"p{rank}_us"] for one in first)) for rank in (50, 99)),
                f"{warm['rate_8']:,}",
                _us(warm["cpu_us"]),
                ", ".join(f"{knob} {value}" for knob, value in row["knob"].items()),
            ]
        )
    heads = ["", "recall", "p50 µs", "p95", "p99", "p50 ÷ ours", "first pass p50 / p99", "8 threads, q/s", "CPU µs"]
    return "\n\n".join(
        (
            f"### knn recall@10 ≥ {target}",
            "The quickest setting that reached it on the tuning questions; recall and times are those of the measured "
            "ones. “Asked for”: Reperio searched with `recall=` as stated, nothing tuned from outside. First pass: "
            "each question for the first time in a fresh process. CPU: of all threads, per search by one caller. "
            f"p50 ÷ ours: median of the rounds (least – greatest), to {reference or 'nothing'}.",
            _table([*heads, "knob"], lines),
            _ahead(rows, reference),
        )
    )


def _ahead(rows: dict[str, Figures], reference: str | None) -> str:
    """Say who reached the recall and was quicker than the reference in the median of the rounds."""
    if reference is None:
        return f"No {OURS} reached it, so nobody is compared."
    medians = {
        title: statistics.median(ratios)
        for title, row in rows.items()
        if row["reached"] and not title.startswith(OURS) and (ratios := _ratios(row, rows[reference]))
    }
    quicker = sorted((ratio, title) for title, ratio in medians.items() if ratio < 1)
    said = "; ".join(f"{title} ({ratio:.2f})" for ratio, title in quicker) or "none"
    return f"Of {len(medians)} that reached it in the same rounds, quicker than {reference}: {said}."


def _ratio(row: Figures, reference: Figures) -> str:
    ratios = _ratios(row, reference)
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} – {max(ratios):.2f})"


def _ratios(row: Figures, reference: Figures) -> list[float]:
    """Return a row's p50 over the reference's, round by round, where both were measured in it."""
    theirs, ours = (
        {(measured["run"], one["heat"], one["round"]): one["p50_us"] for one in measured["rounds"]}
        for measured in (row, reference)
    )
    return [theirs[turn] / ours[turn] for turn in theirs if turn in ours]


def _costs(size: Figures) -> str:
    rows = []
    for name, found in size["subjects"].items():
        if "ingest" not in found:
            continue
        done, opens = (
            found["ingest"],
            [one for setting in found["settings"].values() for one in setting.get("opens", ())],
        )
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in done["stages"].items())
        rows.append(
            [
                _BOLD.format(name) if name.startswith(OURS) else name,
                f"{done['rows_per_s']:,} ({stages})",
                f"{_median(opens, 'open_s', 'first_s'):.3f}" if opens else "",
                f"{_median(opens, 'import_s'):.2f}" if opens else "",
                " / ".join(f"{statistics.median(one['later'][kind] for one in opens):,.0f}" for kind in _KINDS)
                if opens
                else "",
                f"{statistics.median(one['before']['rss'] for one in opens):,.0f}" if opens else "",
                f"{done['disk_mib']:,.0f}",
                found["durable"],
            ]
        )
    heads = ["ingested rows/s", "open + first search, s", "imports, s", "RssAnon / RSS, MiB", "RSS before", "disk, MiB"]
    return "\n\n".join(
        (
            "### What it costs",
            "Ingest: from chunks in memory until every file is synced, index included. Open: in a fresh process, "
            "imports apart, files in the page cache. Memory: after a first pass over the questions; RSS counts mapped "
            "files, RssAnon does not; “before” is Python with NumPy, before the subject was imported.",
            _table(["", *heads, "durable"], rows),
            _sooner(size),
        )
    )


def _sooner(size: Figures) -> str:
    """Say who opens and finds something sooner than the slowest handle of ours."""
    taken = {
        name: _median(opens, "open_s", "first_s")
        for name, found in size["subjects"].items()
        if (opens := [one for setting in found.get("settings", {}).values() for one in setting.get("opens", ())])
    }
    ours = [seconds for name, seconds in taken.items() if name.startswith(OURS)]
    if not ours:
        return ""
    sooner = [name for name, seconds in taken.items() if seconds < max(ours) and not name.startswith(OURS)]
    return f"Open and first search sooner than {OURS}'s slowest handle: {'; '.join(sooner) or 'none'}."


_KINDS = ("anonymous", "rss")


def _median(opens: Sequence[Figures], *keys: str) -> float:
    return statistics.median(sum(one[key] for key in keys) for one in opens)


def _parameters(size: Figures) -> str:
    rows = [
        [name, f"{found['package']} {found['release'] or ''}".strip(), found["parameters"], _origin(found)]
        for name, found in size["subjects"].items()
    ]
    return "\n\n".join(("### How each was set up", _table(["", "release", "parameters; knob", "measured"], rows)))


def _origin(found: Figures) -> str:
    note = f"; {found['note'].rstrip('.')}" if found["note"] else ""
    return f"{found['run'][:10]}{' (quick)' if found['quick'] else ''}, load before {found['load_before']}{note}"


def _failures(size: Figures) -> list[str]:
    rows = [[name, found["failed"]] for name, found in size["subjects"].items() if "failed" in found]
    return ["### Failed", _table(["", "with"], rows)] if rows else []


def _us(value: float) -> str:
    return f"{value:,.0f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def plot(results: Figures, path: Path) -> bool:
    """Draw recall against p50 for every size: lines from tuning, points as measured; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "reperio"  # the same figures make the same file
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    sizes = sorted(results["sizes"].items(), key=lambda pair: int(pair[0]))
    figure, axes = pyplot.subplots(1, len(sizes), figsize=(7 * len(sizes), 6.5), squeeze=False)
    for axis, (rows, size) in zip(axes[0], sizes, strict=True):
        own = 0
        for number, (name, found) in enumerate(size["subjects"].items()):
            curve = _front(found.get("curve", ()))
            if not curve:
                continue
            ours, colour = name.startswith(OURS), f"C{number % 10}"
            turn, own = (own, own + 1) if ours else (number // 10, own)
            style = {"color": "black" if ours else colour, "linestyle": ("-", "--", ":", "-.")[turn % 4]}
            label = f"{name} {found['release'] or ''}"
            axis.plot(*zip(*curve, strict=True), linewidth=2 if ours else 0.9, alpha=0.8, label=label, **style)
            points = [
                row for target in _targets(size) for title, row in _settings(size, target).items() if title == name
            ]
            at = [[row["recall"] for row in points], [row["warm"]["p50_us"] for row in points]]
            axis.scatter(*at, s=28, color=style["color"], zorder=3)
        axis.set(yscale="log", xlabel="knn recall@10", ylabel="p50, µs, text and metadata returned")
        axis.set_xlim(left=max(0.85, axis.get_xlim()[0]), right=1.002)
        for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_title(f"{int(rows):,} × {size['dimension']}: lines by tuning, points as measured")
        axis.grid(visible=True, which="both", alpha=0.2)
        axis.legend(fontsize=9.5, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True


def _front(curve: Iterable[Figures]) -> list[tuple[float, float]]:
    """Return the (recall, p50) that no other setting beats in both, by recall."""
    front: list[tuple[float, float]] = []
    for point in sorted(curve, key=lambda one: (-one["recall"], one["p50_us"])):
        if not front or point["p50_us"] < front[-1][1]:
            front.append((point["recall"], point["p50_us"]))
    return front[::-1]
