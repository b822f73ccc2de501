"""Pages for people from the results of the longer measurements; where those are kept, and where the data is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import orjson
from measuring import Figures, goal_of

_ROOT = Path(__file__).resolve().parents[2]
RESULTS = _ROOT / "eval" / "results"


def data_folder() -> Path:
    """Return where the real vectors should be: eval/README.md."""
    return Path(os.environ.get("REPERIO_DATA") or _ROOT.parent / "shared" / "data" / "realq")


def today() -> str:
    """Return the date, UTC."""
    return datetime.now(timezone.utc).date().isoformat()


def write(out: Path, name: str, results: Figures, page: str) -> None:
    """Write the figures and the page beside each other, each replaced in one step: a run may be interrupted."""
    out.mkdir(parents=True, exist_ok=True)
    content = orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    for path, data in ((out / f"{name}.json", content), (out / f"{name}.md", page.encode())):
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(data)
        fresh.replace(path)


def sweep(results: Figures) -> str:
    """Return sweep.md for the content of sweep.json."""
    rows = []
    for goal in results["goals"]:
        ours, equal = goal["ours"], goal["ours_at_equal_recall"]
        rows.append([f"{goal['recall']:.2f}, {goal['prefer']}", "`optimize`, asked", *_setting(ours), "", ""])
        if equal:
            rows.append(["", "`optimize`, equal recall", *_setting({**ours, **equal}), "", ""])
        limit = f"best bare index, ≤ {results['room']}× its memory"
        for name, key in ((limit, "best_within_memory"), ("best of all", "best_of_all")):
            best = goal[key]
            rows.append(["", name, *(_setting(best) if best else ["–"] * 5), *_ratios(best)])
    head = [
        "recall@10, prefer",
        "",
        "index",
        "effort / candidates",
        "recall found",
        "p50 µs",
        "B/vector",
        "asked ÷ it",
        "equal ÷ it",
    ]
    return (
        "# Against the best of FAISS and of SymphonyQG\n\n"
        f"{results['rows']:,} vectors of {results['dimension']} dimensions; {results['queries']} held-out queries that "
        "`optimize` did not see, but by which the settings of bare indexes were chosen; one thread, single queries, "
        f"rescored exactly, chunks in neither. {results['indexes_tried']} bare indexes were built and searched with "
        f"every useful setting; the {results['raced_again']} best per race and ours were then timed side by side in "
        f"{results['rounds']} interleaved rounds: median (least – greatest). The target is a ratio of at most "
        f"{results['target']} within the memory. “FAISS alone”: within a memory that only its indexes keep to, which "
        "is what `optimize` chooses without the extra `graph`.\n\n"
        "“Asked”: `search(recall=…)` as stated, which takes the operating point whose lower bound reaches it: the "
        "price of certainty on questions not seen before is in it. “Equal recall”: the same index at the point "
        "that reaches the recall on the measuring questions, chosen by them as those of the bare indexes are.\n\n"
        f"{_table(head, rows)}\n\n![Memory against time](sweep.svg)\n\n{_origin('sweep', results)}\n"
    )


def growth(results: Figures) -> str:
    """Return growth.md for the content of growth.json."""
    rows = [
        [
            goal_of(one),
            f"{one['rows']:,}",
            f"`{one['index']}`",
            f"{one['knn_recall']:.4f}",
            span(one["p50_us"]),
            span(one["search_p50_us"]),
            span(one["open_and_first_search_ms"]),
            " / ".join(f"{one['first_pass_us'][at]['median']:,.0f}" for at in ("p50", "p99")),
            f"{one['bytes_per_vector']:,.0f}",
            f"{one['optimize_seconds']:,.0f}",
        ]
        for one in results["measured"]
    ]
    head = [
        "recall asked",
        "rows",
        "index",
        "recall found",
        "p50 µs",
        "with chunks, µs",
        "open and first search, ms",
        "first pass p50 / p99, µs",
        "B/vector",
        "`optimize` s",
    ]
    fits = [
        [goal_of(fit), f"{fit['t0_us']:.3g} µs", f"{fit['alpha']:.3f}", _optional(fit["paper_alpha"])]
        for fit in results["fits"]
    ]
    return (
        "# Growth\n\n"
        f"p50 of one query on one thread against the number of vectors ({results['dimension']} dimensions, grown from "
        f"real ones), with the index that `optimize` chose at each size; {results['queries']} real held-out queries "
        f"that it did not see; {results['rounds']} rounds interleaved over all sizes: median (least – greatest). "
        "“FAISS alone”: within a memory that only its indexes keep to, which is what `optimize` chooses without the "
        "extra `graph`. Opening: a fresh process, everything imported, files in the page cache; first pass: the same "
        "questions right after the first, with their chunks.\n\n"
        f"{_table(head, rows)}\n\n"
        "t = t₀ · N^α by least squares in logarithms, and α as the Faiss paper (arXiv 2401.08281) finds it for FAISS's "
        "best settings on other data:\n\n"
        f"{_table(['recall', 't₀', 'α', 'α in the paper'], fits)}\n\n"
        f"![Time against size](growth.svg)\n\n{_origin('growth', results)}\n"
    )


def large(results: Figures) -> str:
    """Return large.md for the content of large.json."""
    steps = results["steps"]
    stages = list(dict.fromkeys(stage["name"] for step in steps for stage in step["stages"]))
    head = ["rows", "index", "B/vector", "recall@10", "99% interval", "p50 / p95 warm, µs", "p50 / p95 cold, µs"]
    rows = [
        [
            f"{step['rows']:,}",
            f"`{step['index']}`",
            f"{step['bytes_per_vector']:.1f}",
            f"{step['serving']['knn_recall']:.4f}",
            "{:.4f} – {:.4f}".format(*step["serving"]["interval_99"]),
            _two(step["serving"]["warm_us"]),
            _two(step["cold"]["search_us"]),
        ]
        for step in steps
    ]
    times = [
        [
            f"{step['rows']:,}",
            *(_stage(next((stage for stage in step["stages"] if stage["name"] == name), None)) for name in stages),
        ]
        for step in steps
    ]
    memory = [
        [
            f"{step['rows']:,}",
            *(_mib(step["peaks"][kind]["anonymous_kib"]) for kind in ("add", "optimize")),
            _mib(step["peaks"]["optimize"]["high_water_kib"]),
            _mib(step["serving"]["anonymous_kib"]),
            _mib(step["serving"]["mapped_kib"]),
            f"{step['disk_bytes'] / 2**30:.2f} GiB",
        ]
        for step in steps
    ]
    kinds = ["rows", "add: anonymous", "optimize: anonymous", "optimize: high water"]
    kinds += ["serving: anonymous", "serving: mapped", "disk"]
    limits = results["limits"]
    stayed = max(step["cold"]["share_of_pages_still_cached"] for step in steps)
    return (
        "# The ten-million question\n\n"
        f"Vectors of {results['dimension']} dimensions, kept as {results['dtype']}, a stream with the structure of "
        "real embeddings (`eval/bench/clustered.py`). Wanted: peak memory while building at most "
        f"{limits['building_gib']} GiB and while serving at most {limits['serving_gib']} GiB without mapped pages, "
        f"recall@10 of at least {results['recall']} within {limits['bytes_per_vector']} B/vector.\n\n"
        f"{results['stopped']}\n\n"
        f"{_table(head, rows)}\n\n"
        f"Of {results['queries']} held-out queries, half went to `optimize`; the other half measured, in a fresh "
        "read-only process. The p50 is of the whole `search`, ten chunks with text and metadata included. Warm: after "
        "one pass over all queries. Cold: a fresh process after the page cache of all files of the collection was "
        f"dropped ({results['cold_how']}: at most {stayed:.1%}), each query once.\n\n"
        "Seconds per stage (rows/s where rows are counted); each step continues the one before, and `optimize` builds "
        "anew over all rows:\n\n"
        f"{_table(['rows', *stages], times)}\n\n"
        "Memory. Anonymous is `RssAnon` of /proc/PID/status: what the process allocated, without mapped files, whose "
        "pages the kernel may drop at any time; sampled from outside every "
        f"{results['sampled_every_ms']} ms. High water is `VmHWM`, mapped pages included.\n\n"
        f"{_table(kinds, memory)}\n\n"
        f"{_hardness(results['hardness'])}\n\n![Growth](large.svg)\n\n{_origin('large', results)}\n"
    )


def _hardness(found: Figures) -> str:
    rows = [
        [
            name,
            f"{one['rows']:,}",
            "{mean} / {median}".format(**one["local_intrinsic_dimension"]),
            "{mean} / {median}".format(**one["relative_contrast_at_10"]),
            f"{one.get('dimensions_with_90_percent_of_the_variance', '–')}",
        ]
        for name, one in found.items()
    ]
    head = ["vectors", "rows", "local intrinsic dimension", "relative contrast", "components with 90% of the variance"]
    return (
        "How hard the neighbours are to find, mean / median over the held-out queries (local intrinsic dimension: "
        "maximum likelihood over 100 neighbours; relative contrast: mean distance over the distance of the tenth "
        "neighbour; Euclidean distance of unit vectors):\n\n" + _table(head, rows)
    )


def _optional(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _stage(stage: Figures | None) -> str:
    if stage is None:
        return "–"
    rate = stage["rows_per_second"]
    seconds = stage["seconds"]
    return f"{seconds:,.{1 if seconds < 10 else 0}f}" + (f" ({rate:,.0f}/s)" if rate else "")


def _two(found: Figures) -> str:
    return f"{found['p50']:,.0f} / {found['p95']:,.0f}"


def _mib(kib: int) -> str:
    return f"{kib / 1024:,.0f} MiB"


def _setting(one: Figures) -> list[str]:
    return [
        f"`{one['index']}`",
        f"{one['effort']} / {one['candidates']}",
        f"{one['knn_recall']:.4f}",
        span(one["p50_us"]),
        f"{one['bytes_per_vector']:,.0f}",
    ]


def _ratios(best: Figures | None) -> list[str]:
    if not best:
        return ["–", "–"]
    return [span(best[key], 2) for key in ("ours_over_it", "ours_at_equal_recall_over_it")]


def span(values: Figures, digits: int = 0) -> str:
    """Return median (least – greatest)."""
    return "{} ({} – {})".format(*(f"{values[key]:,.{digits}f}" for key in ("median", "low", "high")))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _origin(name: str, results: Figures) -> str:
    facts, note = results["machine"], results["note"]
    return (
        f"<sub>`python eval/bench/{name}.py`{' --quick' if results['quick'] else ''}, {results['date']}, "
        f"{results['seconds']:,} s, load average before {results['load_before']}{'; ' + note if note else ''}. "
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, faiss {facts['faiss']}, reperio "
        f"{facts['reperio']}. Every detail: {name}.json.</sub>"
    )
