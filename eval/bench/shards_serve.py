"""Measure what shards cost a search: one collection, shards in one process, and shards served by Ray, in one run.

    python eval/bench/shards_serve.py                 # realq where it is, 16,000 rows; writes eval/results/

Contenders take turns in short rounds, so that a busy machine slows all of them; ratios to the one collection count. On
a machine of few cores shards cannot be quicker than one collection: here they share its cores, and all that they add is
seen. What they are for, memory and cores of several hosts, this cannot show.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np

import reperio
from reperio import Chunk, Collection
from reperio.collection.facade import handle_of
from reperio.sharding.manifest import ShardLayout, ShardManifest, write_manifest

ROOT = Path(__file__).resolve().parents[2]
REALQ = Path(os.environ.get("REPERIO_DATA") or ROOT.parent / "shared" / "data" / "realq")
RESULTS = ROOT / "eval" / "results"
SHARDS = (1, 2, 4, 8)
ROUNDS, QUESTIONS, CLIENTS, SECONDS = 6, 40, 8, 2.0
INDEX = "HNSW32,Flat"
MODES: dict[str, dict[str, Any]] = {
    "index, recall .95": {"k": 10, "recall": 0.95},
    "exact": {"k": 10, "recall": 1.0},
    "hybrid": {"k": 10, "recall": 0.95, "mode": "hybrid"},
}

Ask = Callable[[int], object]


def content(rows: int) -> tuple[list[Chunk], Any, Any, list[str]]:
    """Return chunks with texts of Zipf's words, their vectors, the vectors and the texts of questions."""
    if REALQ.exists():
        base, queries = (np.load(REALQ / name).astype(np.float32) for name in ("base.f16.npy", "queries.f16.npy"))
        base = base[:rows]
    else:
        rng = np.random.default_rng(0)
        centres = rng.standard_normal((200, 384))
        base = (centres[rng.integers(0, 200, rows)] + 0.7 * rng.standard_normal((rows, 384))).astype(np.float32)
        queries = (centres[rng.integers(0, 200, 500)] + 0.7 * rng.standard_normal((500, 384))).astype(np.float32)
    rng_words = random.Random(0)
    words = [f"word{number}" for number in range(20_000)]
    weights = np.cumsum([1 / (rank + 10) for rank in range(len(words))]).tolist()

    def text(length: int) -> str:
        return " ".join(rng_words.choices(words, cum_weights=weights, k=length))

    chunks = [Chunk(f"c{number}", text(60), {"n": number % 10}) for number in range(len(base))]
    return chunks, base, queries, [text(6) for _ in range(len(queries))]


def build_one(path: Path, chunks: Sequence[Chunk], vectors: Any) -> None:
    """Build one collection with an index."""
    with reperio.open(path, dimension=vectors.shape[1], auto_optimize=False) as kb:
        kb.add(chunks, vectors=vectors, batch_size=20_000)
        kb.optimize(index=INDEX)


def build_shards(path: Path, number: int, chunks: Sequence[Chunk], vectors: Any) -> None:
    """Build so many shards, each with an index."""
    (path / "shards").mkdir(parents=True)
    with reperio.open(":memory:", dimension=vectors.shape[1]) as template:
        manifest = ShardManifest.new(handle_of(template).settings(), number)
    places: dict[str, list[int]] = defaultdict(list)
    for place, chunk in enumerate(chunks):
        places[manifest.shard_of(chunk.id).name].append(place)
    for entry in manifest.shards:
        own = places[entry.name]
        build_one(ShardLayout(path).shard(entry), [chunks[place] for place in own], vectors[own])
    write_manifest(path, manifest)


def latencies(contenders: dict[str, Ask]) -> dict[str, list[float]]:
    """Let contenders answer the same questions in turns; return seconds."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for ask in contenders.values():
        for number in range(QUESTIONS):
            ask(number)
    for part in range(ROUNDS):
        for name, ask in contenders.items():
            for number in range(part * QUESTIONS, (part + 1) * QUESTIONS):
                begun = time.perf_counter()
                ask(number)
                taken[name].append(time.perf_counter() - begun)
    return taken


def rate(ask: Ask) -> float:
    """Return questions per second of some clients."""
    until, counts = time.perf_counter() + SECONDS, [0] * CLIENTS

    def client(place: int) -> None:
        while time.perf_counter() < until:
            ask(place * 1000 + counts[place])
            counts[place] += 1

    begun = time.perf_counter()
    threads = [threading.Thread(target=client, args=(place,)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


def asker(kb: Collection, queries: Any, texts: Sequence[str], options: dict[str, Any]) -> Ask:
    """Return what asks one question by its number."""
    if options.get("mode") == "hybrid":
        return lambda at: kb.search(texts[at % len(texts)], vector=queries[at % len(queries)], **options)
    return lambda at: kb.search(vector=queries[at % len(queries)], **options)


def measure(number: int, work: Path, queries: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Measure the contenders of so many shards next to the one collection."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        opened = {
            "one": stack.enter_context(reperio.open(work / "one", read_only=True)),
            "threads": stack.enter_context(reperio.open_shards(work / f"shards-{number}")),
            "ray": stack.enter_context(reperio.open_shards(work / f"shards-{number}", serve="ray", deadline=60)),
        }
        for mode, options in MODES.items():
            asks = {name: asker(kb, queries, texts, options) for name, kb in opened.items()}
            same = [asks[name](number) == asks["threads"](number) for name in ("ray",) for number in range(30)]
            taken = latencies(asks)
            rates = [{name: rate(ask) for name, ask in asks.items()} for _ in range(2)]
            found[mode] = {
                name: {
                    "p50_ms": float(np.percentile(seconds, 50)) * 1e3,
                    "p95_ms": float(np.percentile(seconds, 95)) * 1e3,
                    "rate": float(np.mean([each[name] for each in rates])),
                }
                for name, seconds in taken.items()
            }
            found[mode]["ray_answers_like_threads"] = bool(all(same))
    return found


def page(results: dict[str, Any]) -> str:
    """Write what is committed next to the figures."""
    lines = [
        "# What shards cost a search",
        "",
        f"`eval/bench/shards_serve.py`: {results['rows']:,} rows of {results['dimension']} dimensions, {INDEX} in each "
        f"shard, k = 10, {results['cores']} cores, load {results['load']} before and after. Each cell: p50 / p95 "
        f"in ms of one client, and questions per second of {CLIENTS} clients; in brackets the ratio to the one "
        "collection, which took turns with the others. Ray: two replicas of each shard, on one host. "
        f"Vectors: {results['vectors']}.",
        "",
    ]
    for mode in MODES:
        lines += [f"## {mode}", "", "| shards | one collection | in one process | served by Ray |", "|---|---|---|---|"]
        for number, found in results["shards"].items():
            one = found[mode]["one"]
            cells = [
                f"{each['p50_ms']:.2f} / {each['p95_ms']:.2f} ms ({each['p50_ms'] / one['p50_ms']:.1f}×), "
                f"{each['rate']:.0f}/s ({each['rate'] / one['rate']:.2f}×)"
                for each in (found[mode][name] for name in ("one", "threads", "ray"))
            ]
            lines.append(f"| {number} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Build what is missing, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--work", type=Path, help="keep what is built here")
    parser.add_argument("--out", type=Path, default=RESULTS / "shards-serve.json")
    given = parser.parse_args()
    chunks, base, queries, texts = content(given.rows)
    with tempfile.TemporaryDirectory() as temporary:
        import ray

        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        if not (work / "one").exists():
            build_one(work / "one", chunks, base)
        for number in SHARDS:
            if not (work / f"shards-{number}" / "shards.json").exists():
                build_shards(work / f"shards-{number}", number, chunks, base)
        ray.init(num_cpus=2, object_store_memory=150 << 20, include_dashboard=False, log_to_driver=False)
        load = [os.getloadavg()[0]]
        found = {str(number): measure(number, work, queries, texts) for number in SHARDS}
        load.append(os.getloadavg()[0])
    results = {
        "rows": len(base),
        "dimension": base.shape[1],
        "vectors": "realq" if REALQ.exists() else "drawn by chance around 200 centres",
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(each, 1) for each in load],
        "shards": found,
    }
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    given.out.with_suffix(".md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
