"""Compare a graph of SymphonyQG with the graphs of FAISS, and write eval/results/graphs.{json,md}.

    python eval/bench/graphs.py            # some six minutes on two cores
    python eval/bench/graphs.py --quick    # 20,000 rows, printed only

Three collections over the same vectors and chunks, one per index. Half of the held-out questions go to `optimize`,
recall and times come from the others. `search` is timed whole, with its ten chunks, one thread, in rounds that take
turns; "index" is the part of it that finds the rows. Then eight threads at once, and opening with a first search.

The data is no part of the repository: eval/README.md. Exit 0 measured, 2 could not measure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Data, DataMissing, Figures, chunk_id, interleave, knn_recall, machine, p50, ratios, row_of, spread

import reperio
from reperio import Chunk, Collection
from reperio.index import search_one

RESULTS = Path(__file__).resolve().parents[1] / "results"
INDEXES = {
    "SymphonyQG32, 8 bits": "symphonyqg",
    "PCA224, HNSW24, 8 bits": "PCA224,HNSW24,SQ8,Refine(PQ96x4)",
    "HNSW32, float32": "HNSW32,Flat",
}
LEVELS = (0.90, 0.95, 0.99)
ROUNDS, THREADS = 5, 8


def build(folder: Path, data: Data, factory: str, number: int) -> tuple[Collection, Figures]:
    """Return a collection with one index, and what building it took."""
    kb = reperio.open(folder / f"kb-{number}", dimension=data.dimension, auto_optimize=False)
    kb.add([Chunk(chunk_id(row), text) for row, text in enumerate(data.texts)], vectors=data.base)
    stages: dict[str, float] = {}
    last = [time.perf_counter()]

    def told(stage: str, _: int, __: int | None) -> None:
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - last[0]
        last[0] = now

    started = time.perf_counter()
    info = kb.optimize(index=factory, queries=data.queries[::2], progress=told)
    assert info is not None
    seconds = time.perf_counter() - started
    return kb, {
        "factory": info.factory,
        "bytes per vector": round(info.bytes / data.rows),
        "optimize s": round(seconds, 1),
        "of it measuring s": round(stages.get("tune", 0.0), 1),
    }


def rows_found(kb: Collection, queries: Any, recall: float) -> list[list[int]]:
    """Return the rows that a search finds, per query."""
    return [[row_of(hit) for hit in kb.search(vector=query, recall=recall)] for query in queries]


def index_alone(kb: Collection, recall: float) -> Callable[[Any], object]:
    """Return what finds rows and scores, without chunks."""
    kb.search(vector=np.ones(kb.info().dimension, dtype=np.float32))
    view = kb._handle.generation.latest
    assert view is not None
    return partial(_find, view.target, recall)


def _find(target: Any, recall: float, query: Any) -> object:
    return search_one(target, query, 10, recall)


def at_once(kb: Collection, queries: Any, recall: float, pool: ThreadPoolExecutor) -> float:
    """Return the searches per second of eight threads."""
    parts = [queries[i::THREADS] for i in range(THREADS)]

    def work(part: Any) -> None:
        for query in part:
            kb.search(vector=query, recall=recall)

    started = time.perf_counter()
    list(pool.map(work, parts))
    return len(queries) / (time.perf_counter() - started)


def opening(path: str, query: Any) -> float:
    """Return the ms from opening to a first answer, in a process of its own that has imported everything."""
    script = (
        "import sys, time, numpy as np, faiss, reperio, rabitqlib\n"
        "query = np.frombuffer(bytes.fromhex(sys.stdin.read()), dtype=np.float32)\n"
        "started = time.perf_counter()\n"
        "kb = reperio.open(sys.argv[1], read_only=True)\n"
        "kb.search(vector=query)\n"
        "print(1e3 * (time.perf_counter() - started))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, path]
    return float(
        subprocess.run(command, input=query.tobytes().hex(), capture_output=True, text=True, check=True).stdout
    )


def measure(folder: Path, data: Data) -> Figures:
    """Return everything, by index."""
    asked, nearest = data.queries[1::2], data.nearest[1::2]
    made = {name: build(folder, data, factory, i) for i, (name, factory) in enumerate(INDEXES.items())}
    figures: Figures = {name: facts for name, (_, facts) in made.items()}
    for level in LEVELS:
        for name, (kb, _) in made.items():
            figures[name][f"recall at {level}"] = knn_recall(rows_found(kb, asked, level), nearest)
        whole = {name: partial(_timed_search, kb, level, asked) for name, (kb, _) in made.items()}
        alone = {name: partial(p50, index_alone(kb, level), asked) for name, (kb, _) in made.items()}
        with ThreadPoolExecutor(THREADS) as pool:
            many = {name: partial(at_once, kb, asked, level, pool) for name, (kb, _) in made.items()}
            for what, subjects in (("search µs", whole), ("index µs", alone), ("q/s, 8 threads", many)):
                found = interleave(ROUNDS, subjects)
                first = found[next(iter(found))]
                for name, values in found.items():
                    figures[name][f"{what} at {level}"] = spread(values, 0)
                    figures[name][f"{what} at {level}, ratio"] = ratios(values, first)
    paths = {name: kb.info().path for name, (kb, _) in made.items()}
    for kb, _ in made.values():
        kb.close()
    del made
    found = interleave(ROUNDS, {name: partial(opening, path, asked[0]) for name, path in paths.items()})
    for name, values in found.items():
        figures[name]["open and first search ms"] = spread(values, 1)
    return figures


def _timed_search(kb: Collection, recall: float, queries: Any) -> float:
    return p50(lambda query: kb.search(vector=query, recall=recall), queries)


def page(results: Figures) -> str:
    """Return the page as Markdown."""
    names = list(INDEXES)
    lines = [
        "# A graph of SymphonyQG next to FAISS's",
        "",
        f"`python eval/bench/graphs.py`, {results['date']}: {results['rows']:,} real embeddings of "
        f"{results['dimension']} dimensions, 500 questions that were not measured with; median (least–greatest) of "
        f"{ROUNDS} rounds that took turns. {results['machine']['cpu']}, {results['machine']['cores']} cores.",
        "",
        "| | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for key in results["figures"][names[0]]:
        if key.endswith("ratio"):
            continue
        cells = []
        for name in names:
            value = results["figures"][name][key]
            cells.append(
                f"{value['median']:,} ({value['low']:,}–{value['high']:,})" if isinstance(value, dict) else f"{value}"
            )
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, and write or print."""
    parser = argparse.ArgumentParser(description="Compare graphs.")
    parser.add_argument("--quick", action="store_true", help="20,000 rows, printed only")
    quick = parser.parse_args().quick
    import pages

    try:
        data = Data(pages.data_folder(), 20_000 if quick else 100_000)
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="graphs-") as folder:
        figures = measure(Path(folder), data)
    results = {
        "date": pages.today(), "rows": data.rows, "dimension": data.dimension, "machine": machine(), "figures": figures,
    }  # fmt: skip
    print(page(results))
    if not quick:
        (RESULTS / "graphs.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "graphs.md").write_text(page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
