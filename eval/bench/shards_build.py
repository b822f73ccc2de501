"""Build shards of many rows with one worker of Ray and with two: time, and the part that only one process can do.

    python eval/bench/shards_build.py --rows 200000    # a quarter of an hour on two quiet cores
    python eval/bench/shards_build.py --quick          # small, printed only

The rows are synthetic, since building does not look at what they say: texts of 40 words, and vectors of length 384.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from measuring import Figures, machine

from reperio.sharding.building.build import build_shards
from reperio.sharding.building.on_ray import run_on_ray

DIMENSION, WORDS, SHARDS = 384, 40, 4
_BLOCK = 10_000


class Timed:
    """A task that also says how long it took, and how much of a processor."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, task: Any) -> tuple[Any, float, float]:
        """Return the result, seconds, and seconds of a processor."""
        began, cpu = time.perf_counter(), time.process_time()
        found = self.function(task)
        return found, time.perf_counter() - began, time.process_time() - cpu


def write_rows(path: Path, rows: int) -> None:
    """Write rows as JSON lines, always the same ones."""
    chance = np.random.default_rng(11)
    words = np.array([f"word{at:04d}" for at in range(5000)])
    with open(path, "wb") as file:
        for first in range(0, rows, _BLOCK):
            count = min(_BLOCK, rows - first)
            vectors = chance.standard_normal((count, DIMENSION)).astype(np.float32)
            texts = words[chance.zipf(1.3, size=(count, WORDS)) % 5000]
            for at in range(count):
                line = {"id": f"row-{first + at}", "text": " ".join(texts[at]), "n": first + at, "vector": vectors[at]}
                file.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))


def built(source: Path, into: Path, workers: int, recall: float | None) -> Figures:
    """Build with so many workers, and return what it took."""
    import ray

    with tempfile.TemporaryDirectory(prefix="rr", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=workers,
            object_store_memory=100 << 20,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=folder,
        )
        # The first task of a worker waits for its process, which is Ray's time, and once per worker.
        list(run_on_ray(_nothing, list(range(2 * workers))))
        tasks: dict[str, list[tuple[float, float]]] = {"spread": [], "fill": []}

        def run(function: Any, some: Sequence[Any]) -> Iterator[Any]:
            for found, wall, cpu in run_on_ray(Timed(function), some):
                tasks[function.__name__].append((wall, cpu))
                yield found

        own, began, load = time.process_time(), time.perf_counter(), os.getloadavg()[0]
        report = build_shards(source, into, shards=SHARDS, recall=recall, map=run)
        seconds = time.perf_counter() - began
        figures = {
            "workers": workers,
            "chunks": report.chunks,
            "seconds": round(seconds, 2),
            "rows_per_second": round(report.chunks / seconds),
            "stages": {name: round(value, 3) for name, value in report.seconds.items()},
            "driver_cpu_s": round(time.process_time() - own, 2),
            "tasks": {name: len(found) for name, found in tasks.items()},
            "tasks_wall_s": {name: round(sum(wall for wall, _ in found), 2) for name, found in tasks.items()},
            "tasks_cpu_s": {name: round(sum(cpu for _, cpu in found), 2) for name, found in tasks.items()},
            "load_before": round(load, 1),
            "load_after": round(os.getloadavg()[0], 1),
        }
        ray.shutdown()
    return figures


def _nothing(_: int) -> None:
    import reperio.sharding.building.tasks  # noqa: F401  # what a worker imports once

    time.sleep(0.2)


def page(results: Figures) -> str:
    """Return shards-build.md for the content of shards-build.json."""
    on, runs = results["machine"], results["runs"]
    by = {run["workers"]: run for run in runs}
    lines = [
        "# Building shards",
        "",
        f"`{results['command']}`, {results['date']}: {results['rows']:,} rows × {DIMENSION}, JSON lines → {SHARDS} "
        f"shards{'' if results['recall'] else ', without indexes'}.",
        f"{on['cpu']}, {on['cores']} cores, Python {on['python']}, Ray {results['ray']}.",
        "The machine is shared with other work (load below): seconds of processor time say more than seconds.",
        "",
        "| workers | seconds | rows a second | processor s of tasks | of the driver | serial part | load |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        cpu = sum(run["tasks_cpu_s"].values())
        serial = run["stages"]["plan"] + run["stages"]["finish"]
        lines.append(
            f"| {run['workers']} | {run['seconds']} | {run['rows_per_second']:,} | {cpu:.1f} | {run['driver_cpu_s']} | "
            f"{serial:.2f} s, {serial / run['seconds']:.1%} | {run['load_before']} to {run['load_after']} |"
        )
    one, two = by.get(1), by.get(2)
    if one and two:
        cpu = [sum(run["tasks_cpu_s"].values()) for run in (one, two)]
        lines += [
            "",
            f"Two workers took {one['seconds'] / two['seconds']:.2f} times less time than one: "
            f"{one['seconds'] / two['seconds'] / 2:.0%} of linear, on what the other work left of the cores. "
            f"Their tasks took {cpu[1] / cpu[0]:.2f} times the processor time of one worker's. "
            f"While there were tasks, the two workers were busy {_busy(two):.0%} of the time.",
        ]
    lines += [
        "",
        "*Serial part*: reading the source's size and cutting it, and writing the manifest. Nothing else waits for one",
        "process, but the shards wait for the last partition. *Driver*: what Ray and the bookkeeping take meanwhile.",
        "",
    ]
    return "\n".join(lines)


def _busy(run: Figures) -> float:
    return float(
        sum(run["tasks_wall_s"].values()) / (run["workers"] * (run["stages"]["spread"] + run["stages"]["fill"]))
    )


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--workers", default="1,2,2,1", help="interleaved, so that both have the same neighbours")
    parser.add_argument("--recall", type=float, default=None, help="build indexes for it, too")
    parser.add_argument("--work", type=Path, default=None, help="a directory with room for six times the vectors")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = 4_000 if given.quick else given.rows
    import ray

    with tempfile.TemporaryDirectory(dir=given.work, prefix="shards-build-") as folder:
        source = Path(folder, "rows.jsonl")
        write_rows(source, rows)
        best: dict[int, Figures] = {}
        for number, workers in enumerate(map(int, given.workers.split(","))):
            figures = built(source, Path(folder, f"shards-{number}"), workers, given.recall)
            print(json.dumps(figures), flush=True)
            # The less disturbed of the rounds.
            if workers not in best or figures["seconds"] < best[workers]["seconds"]:
                best[workers] = figures
    results = {
        "command": "python eval/bench/shards_build.py"
        + (f" --rows {rows}" if rows != 200_000 else "")
        + (f" --recall {given.recall}" if given.recall else ""),
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
        "recall": given.recall,
        "ray": ray.__version__,
        "machine": machine(),
        "runs": [best[workers] for workers in sorted(best)],
    }
    print(page(results))
    if not given.quick:
        out = Path(__file__).parent.parent / "results"
        (out / "shards-build.json").write_text(json.dumps(results, indent=2) + "\n")
        (out / "shards-build.md").write_text(page(results))


if __name__ == "__main__":
    main()
