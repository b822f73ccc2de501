"""The results as a page of small tables, each with a line of advice on reading it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from measuring import Figures


def to_markdown(results: Figures) -> str:
    """Return bench.md for the content of bench.json."""
    sections = [_head(results)]
    for name, section in _SECTIONS.items():
        if name in results["parts"]:
            part = results["parts"][name]
            sections.append(f"{section(part['figures'])}\n\n{_origin(name, part)}")
    return "\n\n".join(sections) + "\n"


def _head(results: Figures) -> str:
    facts = results["machine"]
    return (
        "# Benchmarks\n\n"
        "Written by `make bench` (`eval/bench/run.py`); the same figures with every detail are in bench.json.\n"
        "Median (least – greatest) of interleaved rounds. Vectors and texts: 384-dimensional embeddings of real "
        "questions (eval/README.md).\n\n"
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; Python {facts['python']}, numpy "
        f"{facts['numpy']}, faiss {facts['faiss']}, SQLite {facts['sqlite_of_apsw']} (apsw) and "
        f"{facts['sqlite_of_python']} (sqlite3); reperio {facts['reperio']}."
    )


def _origin(name: str, part: Figures) -> str:
    note = f"; {part['note'].rstrip('.')}" if part["note"] else ""
    return (
        f"<sub>`python eval/bench/run.py --only {name}`{' (quick)' if part['quick'] else ''}, {part['date']}, "
        f"{part['rows']:,} rows, {part['seconds']:.0f} s, load average before {part['load_before']}{note}.</sub>"
    )


def _ingest(figures: Figures) -> str:
    rates, busy, split = figures["rows_per_second"], figures["rows_per_processor_second"], figures["split_us_per_row"]
    ratios, by_processor, to = figures["ratio"], figures["processor_ratio"], figures["ratio_to"]
    rows = [
        [name, _spread(rates[name], 0), _spread(busy[name], 0), to[name], _spread(ratios[name], 2), by_processor[name]]
        for name in rates
    ]
    rows = [[*row[:-1], _spread(row[-1], 2)] for row in rows]
    ways = list(split)
    kinds = [[kind, *(f"{split[way][kind]:.2f}" for way in ways)] for kind in split[ways[0]]]
    return "\n\n".join(
        (
            "## (a) Durable ingest of ready vectors",
            f"{figures['rows']:,} chunks of {figures['text_bytes']} B text and {figures['metadata_bytes']} B metadata, "
            f"batches of {figures['batch']:,}, each durable. A collection has an index of words, unless it is created "
            "with `lexical='none'`; so has the script that it is compared with. Ratios are taken round by round; the "
            f"target is {figures['target_ratio']}. `add` returns while an index of vectors may still be built: `close` "
            f"then took {_spread(figures['close_seconds_after_add'], 1)} s.",
            _table(["", "rows/s", "rows per processor second", "compared with", "ratio", "by processor time"], rows),
            "Where it goes, µs per row by cProfile, which slows Python code down: read it as shares.",
            _table(["", *ways], kinds),
        )
    )


def _overhead(figures: Figures) -> str:
    parts = [
        "## (b) What `search` costs beyond its index",
        f"p50 in µs of `search(vector=…, k=10)` with its ten chunks at recall {figures['recall']}; bare is the same "
        "index with the same parameters through its library's Python interface, one thread. The target is at most "
        f"{figures['target_us']} µs beyond. The sketch is the floor: the index, rescoring, one SELECT, JSON, and "
        "nothing checked. The steps of one search are timed one by one, and each finds the caches as the others leave "
        "them: together they may take longer than a search.",
    ]
    for factory, found in figures["indexes"].items():
        beyond = found["beyond_bare_us"]
        rows = [
            [name, _spread(values), _spread(beyond[name]) if name in beyond else ""]
            for name, values in found["p50_us"].items()
        ]
        steps = [[name, _spread(values)] for name, values in found["steps_us"].items()]
        steps.append(["checks of arguments, calls, and what is left", f"{found['calls_and_checks_us']}"])
        parts += [
            f"`{factory}`, {found['candidates']} candidates:",
            _table(["", "p50 µs", "beyond bare, µs"], rows),
            _table(["step", "µs"], steps),
        ]
    return "\n\n".join(parts)


def _opening(figures: Figures) -> str:
    rows = [
        [
            name,
            _spread(way["both_s"], 3),
            _spread(way["open_s"], 3),
            *(f"{way[f'{when}_mib'][kind]['median']:.0f}" for when in ("before", "after", "later") for kind in _KINDS),
        ]
        for name, way in figures["by_way"].items()
    ]
    heads = [f"{kind} {when}" for when in ("before", "after", "after 1,000 searches") for kind in _KINDS]
    return "\n\n".join(
        (
            "## (c) Opening",
            f"Open and first search in {figures['processes']} fresh processes each, after imports, in seconds; the "
            f"target is {figures['target_s']}. Memory in MiB: rss counts mapped pages of the "
            f"{figures['files_mib']:.0f} MiB of files, which the kernel takes back when it needs them; anonymous is "
            "what the process owns. Cold: the files were dropped from the page cache (the host below may still have "
            "them).",
            _table(["", "open + search", "of which open", *heads], rows),
        )
    )


_KINDS = ("rss", "anonymous")


_RECALLS = ("knn_recall", "recall_of_the_least_twentieth", "recall_of_the_hardest_tenth", "share_that_found_all")


def _recall(figures: Figures) -> str:
    parts = [
        "## (d) Recall asked for, recall found",
        f"knn recall@10 over {figures['queries']} held-out questions, against the exact neighbours; one search after "
        "the other. The default is 0.95. A found recall below the one asked for is a fault. At 1.0 the "
        "search is exact: what it seems to miss are neighbours that the given truth, by inner product of float16 "
        "values, and the cosine order differently. The least twentieth are the questions that found least; the hardest "
        "tenth are those of the lowest relative contrast (mean distance over the distance of the tenth nearest).",
    ]
    for label, one in figures["indexes"].items():
        parts.append(
            f"{label}: `{one['factory']}`, {one['bytes_per_vector']} bytes per vector, built in "
            f"{one['build_seconds']} s"
        )
        rows = [
            [asked, *(f"{found[name]:.4f}" for name in _RECALLS), _spread(found["p50_us"]), _spread(found["p95_us"])]
            for asked, found in one["by_recall"].items()
        ]
        head = ["asked", "found", "by the least twentieth", "by the hardest tenth", "share that found all"]
        parts.append(_table([*head, "p50 µs", "p95 µs"], rows))
    return "\n\n".join(parts)


def _growth(figures: Figures) -> str:
    rows = [
        [f"{int(size):,}", f"`{one['index']}`", _spread(one["p50_us"]), f"{one['knn_recall']:.4f}"]
        for size, one in figures["by_rows"].items()
    ]
    return "\n\n".join(
        (
            "## (f) The default search as a collection grows",
            "For orientation: p50 should grow far more slowly than the rows.",
            _table(["rows", "index", "p50 µs", "knn recall@10"], rows),
        )
    )


def _engines(figures: Figures) -> str:
    inserted, opened = figures["inserted_rows_per_second"], figures["open_and_read_state_p50_us"]
    fetched = figures["fetch_ten_rows_p50_us"]
    rows = [["durable inserts, rows/s", *(_spread(inserted[name], 0) for name in inserted)]]
    rows += [
        [f"fetch of ten random rows{what}, µs", *(_spread(fetched[name + what]) for name in inserted)]
        for what in ("", ", mapped")
    ]
    rows.append(["open and read the state, µs", *(_spread(opened[name]) for name in inserted)])
    return "\n\n".join(
        (
            "## (g) apsw against sqlite3",
            f"The store's own tables, statements and settings over {figures['rows']:,} rows, batches of 1,000 with a "
            "durable commit each. Inserts, apsw over sqlite3: "
            f"{_spread(figures['inserts_apsw_over_sqlite3'], 2)}.",
            _table(["", *inserted], rows),
        )
    )


def _exact(figures: Figures) -> str:
    rows = [[f"{int(n):,}", _spread(one["exact"]), _spread(one["index"])] for n, one in figures["p50_us"].items()]
    return "\n\n".join(
        (
            "## (h) Where an index begins to pay",
            f"p50 in µs of the same search, exact and with `{figures['index']}`; `EXACT_ROWS` belongs where they meet.",
            _table(["rows", "exact", "index"], rows),
        )
    )


def _embedding(figures: Figures) -> str:
    rows = [[name, _spread(values)] for name, values in figures["texts_per_second"].items()]
    cosine = figures["cosine_between"]
    return "\n\n".join(
        (
            "## (e) Embedding the demo's texts",
            f"{figures['texts']} chunks of {figures['mean_characters']} characters on average, "
            f"{figures['threads']} threads. bfloat16 over float32: {_spread(figures['bfloat16_over_float32'], 2)}; "
            f"cosine between the two at least {cosine['min']}. Chosen here by default: "
            f"{figures['precision_chosen_by_default']}.",
            _table(["precision", "texts/s"], rows),
        )
    )


_SECTIONS = {
    "ingest": _ingest,
    "overhead": _overhead,
    "opening": _opening,
    "recall": _recall,
    "embedding": _embedding,
    "growth": _growth,
    "engines": _engines,
    "exact": _exact,
}


def _spread(values: Figures, digits: int = 1) -> str:
    median, low, high = (f"{values[name]:,.{digits}f}" for name in ("median", "low", "high"))
    return f"{median} ({low} – {high})"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
