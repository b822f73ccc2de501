"""Draw 100 million and a billion vectors of length 1,024 on 10 to 100 hosts, from what was measured on one.

    python eval/shards/model.py --measure    # measure what a call of an actor costs, then draw
    python eval/shards/model.py              # draw again, with the call as it was measured last

This is paper: nobody has run it. What goes in is measured by eval/bench/large.py (index, memory, latency by size),
eval/bench/growth.py (latency against size), eval/bench/shards_build.py (building) and here (calls). What is assumed
about hosts is in `HOSTS`, and named on the page.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent.parent / "results"
HOSTS = {
    "cores": 16,
    "memory_gib": 128,
    "disk_gib": 2_000,
    "price_per_hour": 1.0,
    "embedded_per_second": 1_000,  # texts, on the cards or processors of one host
    "stall": 1e-3,  # of a question to one shard: the disk, the scheduler, a process that is started again
    "stall_s": 2.0,
}
SIZES, COUNTS, REPLICAS, HEDGE_S, DRAWS, DIMENSION = (10**8, 10**9), (10, 20, 50, 100), 2, 0.25, 20_000, 1024
GIB = 2**30
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
Figures = dict[str, Any]


def measured_call(calls: int = 50, rounds: int = 40) -> Figures:
    """Return what a call of an actor costs its caller, when as many are sent at once as there are shards."""
    import ray

    with tempfile.TemporaryDirectory(prefix="rm", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(address="local", num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, _temp_dir=folder)

        class Answer:
            def answer(self, question: Any) -> tuple[Any, list[str]]:
                return question[:64], ["an answer of some words"] * 10

        actors = [ray.remote(Answer).options(num_cpus=0.1).remote() for _ in range(4)]
        question = np.zeros(DIMENSION, dtype=np.float32)
        ray.get([actor.answer.remote(question) for actor in actors])
        one, many, cpu = [], [], time.process_time()
        for _ in range(rounds):
            began = time.perf_counter()
            ray.get(actors[0].answer.remote(question))
            one.append(time.perf_counter() - began)
        cpu = time.process_time()
        for _ in range(rounds):
            began = time.perf_counter()
            ray.get([actors[at % len(actors)].answer.remote(question) for at in range(calls)])
            many.append(time.perf_counter() - began)
        cpu = (time.process_time() - cpu) / rounds / calls
        ray.shutdown()
    return {"one_ms": round(1e3 * float(np.median(one)), 3), "caller_cpu_ms": round(1e3 * cpu, 4), "calls": calls}


def inputs() -> Figures:
    """Return what was measured, per row, with where it is from."""
    large = json.loads((RESULTS / "large.json").read_text())["steps"]
    build = json.loads((RESULTS / "shards-build.json").read_text())
    last, before = large[-1], large[-2]
    serving = last["serving"]
    stages = {stage["name"]: stage["seconds"] for stage in last["stages"]}
    run = build["runs"][-1]
    grown = json.loads((RESULTS / "growth.json").read_text())
    anonymous = serving["anonymous_at_rest_kib"] - before["serving"]["anonymous_at_rest_kib"]
    return {
        "measured_rows": last["rows"],
        "disk_bytes": last["disk_bytes"] / last["rows"],
        "index_bytes": last["bytes_per_vector"],
        "anonymous_bytes": anonymous * 1024 / (last["rows"] - before["rows"]),
        "vector_bytes": 2 * DIMENSION,  # float16
        "p50_us": serving["warm_us"]["p50"],
        "p95_us": serving["warm_us"]["p95"],
        "p99_us": serving["warm_us"]["p99"],
        "alpha": _alpha(grown),
        # By the length of the vectors: they are most of what is read and written.
        "build_core_us": 1e6 * sum(run["tasks_cpu_s"].values()) / run["chunks"] * DIMENSION / 384,
        "index_core_us": 1e6 * 2 * (stages["index"] + stages["train"]) / last["rows"],
        "tune_core_s": 2 * stages["tune"],
        "serial": (run["stages"]["plan"] + run["stages"]["finish"]) / run["seconds"],
    }


def _alpha(grown: Any) -> float:
    """Return the exponent of latency against size, wherever growth.json has it."""
    if isinstance(grown, dict):
        for name, value in grown.items():
            if name == "alpha" and isinstance(value, float):
                return value
        grown = list(grown.values())
    for value in grown if isinstance(grown, list) else ():
        found = _alpha(value)
        if found:
            return found
    return 0.0


def latency(facts: Figures, call: Figures, rows: float, shards: int, *, hedged: bool) -> Figures:
    """Return quantiles of a question to all shards, in milliseconds, drawn."""
    chance = np.random.default_rng(7)
    scale = (rows / facts["measured_rows"]) ** facts["alpha"]
    points = np.log([facts["p50_us"], facts["p95_us"], facts["p99_us"]]) + np.log(scale)
    normal = np.array([0.0, 1.645, 2.326])

    def drawn(size: tuple[int, int]) -> np.ndarray:
        z = chance.standard_normal(size)
        slope, first = np.diff(points) / np.diff(normal), (points[1] - points[0]) / normal[1]
        log = np.where(z < normal[1], points[0] + first * z, points[1] + slope[1] * (z - normal[1]))
        stalled = chance.random(size) < HOSTS["stall"]
        return np.exp(log) / 1e6 + stalled * HOSTS["stall_s"]

    seconds = drawn((DRAWS, shards))
    if hedged:
        late = seconds > HEDGE_S
        seconds[late] = np.minimum(seconds[late], HEDGE_S + drawn((1, int(late.sum())))[0])
    fan = 1e-3 * (call["one_ms"] + call["caller_cpu_ms"] * shards)  # the caller sends and takes them one by one
    whole = 1e3 * (seconds.max(axis=1) + fan)
    return {name: round(float(np.quantile(whole, q)), 1) for name, q in QUANTILES.items()}


def drawn_at(facts: Figures, call: Figures, rows: int, hosts: int) -> Figures:
    """Return one row of the table: a shard per host, and two replicas of each."""
    each = rows / hosts
    copies = REPLICAS * each
    hot = copies * (facts["vector_bytes"] + facts["index_bytes"] + facts["anonymous_bytes"]) / GIB
    needed = copies * (facts["index_bytes"] + facts["anonymous_bytes"]) / GIB
    building = each * (facts["disk_bytes"] + facts["vector_bytes"]) / GIB  # one copy, and its parts
    cores = hosts * HOSTS["cores"]
    build = (
        rows * (facts["build_core_us"] + facts["index_core_us"]) / 1e6 / cores + facts["tune_core_s"] / HOSTS["cores"]
    )
    return {
        "rows": rows,
        "hosts": hosts,
        "disk_gib": round(max(copies * facts["disk_bytes"] / GIB, building)),
        "memory_all_gib": round(hot),
        "memory_index_gib": round(needed, 1),
        "build_h": round(build / 3600, 2),
        "embed_h": round(rows / hosts / HOSTS["embedded_per_second"] / 3600, 1),
        "hedged": latency(facts, call, each, hosts, hedged=True),
        "alone": latency(facts, call, each, hosts, hedged=False),
        "caller_questions_per_s": round(1e3 / (call["caller_cpu_ms"] * hosts)),
        "price_per_day": round(24 * hosts * HOSTS["price_per_hour"]),
    }


def limits(row: Figures) -> list[str]:
    """Return what of a host does not do, worst first."""
    told = []
    if row["memory_index_gib"] > 0.8 * HOSTS["memory_gib"]:
        told.append("memory for the indexes")
    if row["disk_gib"] > 0.8 * HOSTS["disk_gib"]:
        told.append("disk")
    if row["memory_all_gib"] > 0.8 * HOSTS["memory_gib"]:
        told.append("vectors are read from the disk")
    return told


def page(facts: Figures, call: Figures, rows: list[Figures]) -> str:
    """Return shards-model.md."""
    lines = [
        "# A hundred million and a billion, on paper",
        "",
        f"`python eval/shards/model.py`, {time.strftime('%Y-%m-%d')}: vectors of length {DIMENSION:,} kept as "
        "float16, a shard per host, "
        f"{REPLICAS} replicas of each. **Nobody has run this**: it is drawn from what was measured on one machine.",
        "",
        "| rows | hosts | disk, GiB a host | memory, all / indexes alone, GiB a host | build, h | embed, h | "
        "p50 / p95 / p99, ms | "
        "without hedging | questions/s of one caller's core | a day | does not fit |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        with_hedge, alone = (
            " / ".join(f"{row[how][q]:,}" for q in ("p50", "p95", "p99")) for how in ("hedged", "alone")
        )
        lines.append(
            f"| {row['rows']:,} | {row['hosts']} | {row['disk_gib']:,} | {row['memory_all_gib']:,} / "
            f"{row['memory_index_gib']:,} | {row['build_h']} | {row['embed_h']} | {with_hedge} | {alone} | "
            f"{row['caller_questions_per_s']:,} | {row['price_per_day']:,} | {', '.join(limits(row)) or '–'} |"
        )
    lines += [
        "",
        "**Measured**, and where: "
        f"disk {facts['disk_bytes']:,.0f} B a row, index {facts['index_bytes']:.0f}, memory that grows with the rows "
        f"{facts['anonymous_bytes']:.0f}; a question p50 {facts['p50_us']:,.0f}, p95 {facts['p95_us']:,.0f}, p99 "
        f"{facts['p99_us']:,.0f} µs at {facts['measured_rows']:,} rows ([large](large.md)), growing with "
        f"N^{facts['alpha']:.3f} "
        "([growth](growth.md), at a length of 384). "
        f"Building takes {facts['build_core_us']:.0f} µs of a core per row, scaled by the length from 384 "
        f"([shards-build](shards-build.md)), the index {facts['index_core_us']:.0f} more, and tuning "
        f"{facts['tune_core_s']:.0f} s of a "
        f"core per shard. A call of an actor takes {call['one_ms']} ms, and of {call['calls']} at once each takes "
        f"{call['caller_cpu_ms']} ms of the caller's core (`eval/shards/model.py --measure`).",
        "",
        "**Assumed**: hosts of "
        f"{HOSTS['cores']} cores, {HOSTS['memory_gib']} GiB, {HOSTS['disk_gib']:,} GiB of disk, at "
        f"{HOSTS['price_per_hour']} an hour; "
        f"{HOSTS['embedded_per_second']:,} texts embedded a second by each; one question to a shard in "
        f"{1 / HOSTS['stall']:,.0f} is held "
        f"up for {HOSTS['stall_s']} s. All pages that a question needs are in memory; the network is left out.",
        "",
        "**What breaks first**",
        "",
        *breaks(facts, rows),
        "",
    ]
    return "\n".join(lines)


def breaks(facts: Figures, rows: list[Figures]) -> list[str]:
    """Return what the table says, in sentences."""
    largest, smallest = rows[-1], rows[-len(COUNTS)]
    return [
        f"1. **Memory.** A billion on {smallest['hosts']} hosts need {smallest['memory_all_gib']:,} GiB each "
        "for all vectors to stay in "
        f"memory, and {smallest['memory_index_gib']:,} for the indexes. Where they do not stay, a question "
        "reads its candidates from the "
        "disk, and the cold figures of [large](large.md) hold: 17 ms at p95, for each shard.",
        f"2. **The caller.** At {largest['hosts']} shards one core sends and takes "
        f"{largest['caller_questions_per_s']:,} questions a second: "
        "each costs a call to every shard. More callers help, fewer and larger shards more.",
        f"3. **The tail.** With {largest['hosts']} shards nearly every tenth question meets one that is held "
        "up: p95 is "
        f"{largest['alone']['p95']:,} ms without hedging and {largest['hedged']['p95']:,} with it. It is the "
        "hedging time then, which should "
        "come down with the p99 of a shard.",
        f"4. **Not building.** Embedding takes {smallest['embed_h']:,} hours where writing and indexing take "
        f"{smallest['build_h']}. "
        f"Both are tasks, and parallel, except for a part that was measured at {facts['serial']:.1%}.",
    ]


def main() -> None:
    """Draw, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    out = RESULTS / "shards-model.json"
    call = measured_call() if given.measure or not out.exists() else json.loads(out.read_text())["call"]
    facts = inputs()
    rows = [drawn_at(facts, call, size, hosts) for size in SIZES for hosts in COUNTS]
    results = {"date": time.strftime("%Y-%m-%d"), "hosts": HOSTS, "call": call, "measured": facts, "rows": rows}
    out.write_text(json.dumps(results, indent=2) + "\n")
    told = page(facts, call, rows)
    out.with_suffix(".md").write_text(told)
    print(told)


if __name__ == "__main__":
    main()
