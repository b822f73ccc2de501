"""Ten million vectors of 1,024 dimensions on a small machine: build, memory, recall and latency, step by step.

    python eval/bench/large.py --work /big/disk --rows 500000,1000000,2000000,4000000,10000000
    python eval/bench/large.py --quick          # small sizes, printed only (unless --out says where to)

One collection grows along one stream (clustered.py); at each number of rows `optimize` builds anew over all of them, a
fresh read-only process is measured warm, another one cold. Each stage is a process of its own, whose memory is sampled
from outside. Results are written after every step; a run that was interrupted goes on with --resume, after the last
stage that it finished.

--until-seconds stops before a step that would not fit, judged by the growth so far; so does a disk too small for it.
Exit 0 measured (as far as it went, which the page says), 1 a stage failed, 2 could not begin.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import math
import mmap
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pages
import plots
from measuring import Figures, machine
from watching import SAMPLE_SECONDS, Outcome, StageFailed, run

LIMITS = {"building_gib": 8, "serving_gib": 3, "bytes_per_vector": 128}
FULL = (500_000, 1_000_000, 2_000_000, 4_000_000, 10_000_000)
QUICK = (3000, 6000)
_CHUNK_BYTES = 500
"""Disk per chunk in the database, amply, its log included."""

_SPARE_BYTES = 2 << 30
_GROWTH = 1.2  # exponent of time against rows while only one step is known
_STAGES = Path(__file__).with_name("large_stages.py")
_COLD = "fsync and posix_fadvise(DONTNEED) on each; mincore counts what stayed"


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.queries < 60:
        parser.error("--queries: at least 60, half of them to tune with")
    out = options.out or (None if options.quick else pages.RESULTS)
    with tempfile.TemporaryDirectory(prefix="reperio-large-", dir=options.work) as scratch:
        work = Path(options.work or scratch)
        if (work / "kb").exists() and not options.resume:
            print(f"{work / 'kb'} is there already; go on with it by --resume, or remove it", file=sys.stderr)
            return 2
        return Run(options, work, out).go()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure large collections.")
    parser.add_argument("--rows", type=lambda text: [int(part) for part in text.split(",")], metavar="N,…")
    parser.add_argument("--dimension", type=int)
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--prefer", choices=("latency", "throughput", "memory"), default="latency")
    parser.add_argument("--memory", type=int, default=LIMITS["bytes_per_vector"], help="bytes per vector for optimize")
    parser.add_argument("--queries", type=int, default=1000, help="held out; half tune, half measure")
    parser.add_argument("--commit", type=int, default=20_000, help="rows per commit")
    parser.add_argument("--seed", type=int, default=20_240, help="of the stream")
    parser.add_argument("--until-seconds", type=float, default=math.inf, metavar="S")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the collection; default: a temporary one")
    parser.add_argument("--resume", action="store_true", help="go on with the collection in --work")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; default eval/results, unless --quick")
    parser.add_argument("--note", default="", help="kept with the figures, e.g. that the machine was shared")
    return parser


class Run:
    """One run, over all numbers of rows.

    Args:
        options: from the command line.
        work: where the collection grows.
        out: where results go; None to print only.
    """

    def __init__(self, options: argparse.Namespace, work: Path, out: Path | None) -> None:
        self._options = options
        self._work = work
        self._out = out
        self._sizes: Sequence[int] = sorted(options.rows or (QUICK if options.quick else FULL))
        dimension = options.dimension or (64 if options.quick else 1024)
        self._collection = work / "kb"
        self._kept_in = work / "step.json"
        if not options.resume:
            self._kept_in.unlink(missing_ok=True)
        self._settings: Figures = {
            "collection": str(self._collection),
            "truth": str(work / "truth.npz"),
            "dimension": dimension,
            "dtype": options.dtype,
            "recall": options.recall,
            "prefer": options.prefer,
            "queries": 200 if options.quick else options.queries,
            "commit": options.commit,
            "seed": options.seed,
        }
        self._began = time.monotonic()
        self._load = os.getloadavg()[0]
        self._structure: Figures = {}
        self._steps: list[Figures] = self._earlier()
        self._stopped = ""

    def go(self) -> int:
        """Do all steps that fit; return the exit status."""
        try:
            rows = min(self._sizes[-1], 100_000)
            self._structure = self._stage("structure", {"rows": rows}).result
            for rows in self._sizes:
                if any(step["rows"] >= rows for step in self._steps):
                    continue
                self._stopped = self._obstacle(rows)
                if self._stopped:
                    break
                _say(f"{rows:,} rows …")
                self._steps.append(self._step(rows))
                self._write()
                self._kept_in.unlink()
        except StageFailed as error:
            self._stopped = f"Stopped: {error}."
            print(error, file=sys.stderr)
            if self._steps:
                self._write()
            return 1
        if not self._steps:
            print(self._stopped, file=sys.stderr)
            return 2
        print(self._write())
        return 0

    def _step(self, rows: int) -> Figures:
        # The generator has its own threads.
        added = self._once(rows, "add", {"rows": rows}, {"OPENBLAS_NUM_THREADS": "1"})
        optimized = self._once(rows, "optimize", {"memory": self._options.memory * rows})
        exact = self._once(rows, "truth", {"rows": rows}).result
        served = self._once(rows, "serve", {"nearest": exact["rows"]})
        resident = _drop_cache(self._collection)
        asked = self._once(rows, "cold", {})
        found, kept = optimized.result, self._kept(rows)
        return {
            "rows": rows,
            "seconds": round(sum(each["seconds"] for each in kept.values())),
            "index": found["index"],
            "reason": found["reason"],
            "effort": found.get("effort", 0),
            "candidates": found.get("candidates", 0),
            "recall_by_tuning_queries": found.get("recall_by_its_own_queries", 1.0),
            "bytes_per_vector": round(found["bytes"] / rows, 2),
            "stages": [*_added(added.result), *_built(optimized, rows)],
            "peaks": {"add": added.peaks, "optimize": optimized.peaks},
            "peaks_of_optimize_by_stage": optimized.stage_peaks,
            "serving": {
                **served.result,
                "anonymous_kib": served.peaks["anonymous_kib"],
                "mapped_kib": served.peaks["mapped_kib"],
            },
            "cold": {**asked.result, "share_of_pages_still_cached": resident},
            "disk_bytes": sum(path.stat().st_size for path in self._collection.rglob("*") if path.is_file()),
            "hardness": exact["hardness"],
            "exact_answers_seconds": round(exact["seconds"], 1),
        }

    def _once(self, rows: int, name: str, more: Figures, environment: dict[str, str] | None = None) -> Outcome:
        """Run a stage of the step to *rows*; one that a run which was interrupted has finished is not repeated."""
        kept = self._kept(rows)
        if name not in kept:
            started = time.monotonic()
            outcome = self._stage(name, more, environment)
            kept[name] = {"seconds": time.monotonic() - started, "outcome": dataclasses.asdict(outcome)}
            fresh = self._kept_in.with_suffix(".new")
            fresh.write_text(json.dumps({"of": self._asked(rows), "stages": kept}))
            fresh.replace(self._kept_in)
        return Outcome(**kept[name]["outcome"])

    def _kept(self, rows: int) -> dict[str, Figures]:
        """Return what the stages of the step to *rows* that are finished gave."""
        if not self._kept_in.exists():
            return {}
        kept: Figures = json.loads(self._kept_in.read_text())
        return kept["stages"] if kept["of"] == self._asked(rows) else {}

    def _asked(self, rows: int) -> Figures:
        return self._settings | {"rows": rows, "bytes_per_vector": self._options.memory}

    def _stage(self, name: str, more: Figures, environment: dict[str, str] | None = None) -> Outcome:
        path = self._work / "settings.json"
        path.write_text(json.dumps({**self._settings, **more}))
        started = time.monotonic()
        outcome = run(_STAGES, [name, str(path)], environment)
        peak = outcome.peaks.get("anonymous_kib", 0) / 2**20
        _say(f"  {name}: {time.monotonic() - started:.1f} s, at most {peak:.2f} GiB anonymous")
        return outcome

    def _obstacle(self, rows: int) -> str:
        """Return why there can be no step to *rows*; empty when nothing is known to be in its way."""
        done = self._steps[-1]["rows"] if self._steps else 0
        width = self._settings["dimension"] * (2 if self._settings["dtype"] == "float16" else 4)
        # The index thrice: the one before, the new one, and what is kept to go on from after an interruption.
        wanted = (rows - done) * (width + _CHUNK_BYTES) + 3 * rows * self._options.memory + _SPARE_BYTES
        free = shutil.disk_usage(self._work).free
        if not self._options.quick and free < wanted:
            return (
                f"Stopped before {rows:,} rows: about {wanted / 2**30:.0f} GiB of disk are wanted, {free / 2**30:.0f} "
                "are free."
            )
        seconds = self._predicted(rows)
        left = self._options.until_seconds - (time.monotonic() - self._began)
        if seconds > left:
            return (
                f"Stopped before {rows:,} rows: by the growth so far the step would take {seconds:,.0f} s, and "
                f"{max(0.0, left):,.0f} of {self._options.until_seconds:,.0f} s were left."
            )
        return ""

    def _predicted(self, rows: int) -> float:
        """Return how long the step to *rows* should take; 0 while nothing is known."""
        if not self._steps:
            return 0.0
        last = self._steps[-1]
        growth = _GROWTH
        if len(self._steps) > 1:
            before = self._steps[-2]
            growth = math.log(_rest(last) / _rest(before)) / math.log(last["rows"] / before["rows"])
        rest = _rest(last) * (rows / last["rows"]) ** min(1.6, max(1.0, growth))
        fresh = last["rows"] - (self._steps[-2]["rows"] if len(self._steps) > 1 else 0)
        return float(rest + (rows - last["rows"]) * _adding(last) / fresh)

    def _earlier(self) -> list[Figures]:
        """Return the steps of the run that is gone on with."""
        path = self._out / "large.json" if self._out is not None else None
        if not self._options.resume or path is None or not path.exists():
            return []
        steps: list[Figures] = orjson.loads(path.read_bytes())["steps"]
        return steps

    def _write(self) -> str:
        options, steps = self._options, self._steps
        hardness = {f"{name}, at {one['rows']:,} rows": one for name, one in self._structure.items()}
        hardness[f"generated, as stored, at {steps[-1]['rows']:,} rows"] = steps[-1]["hardness"]
        results = {
            "machine": machine(),
            "date": pages.today(),
            "quick": options.quick,
            "seconds": round(time.monotonic() - self._began),
            "load_before": round(self._load, 2),
            "note": options.note,
            "limits": {**LIMITS, "bytes_per_vector": options.memory},
            "sampled_every_ms": round(SAMPLE_SECONDS * 1000),
            "cold_how": _COLD,
            "stopped": self._stopped or f"Measured up to {steps[-1]['rows']:,} rows.",
            **{key: value for key, value in self._settings.items() if key not in ("collection", "truth")},
            "hardness": hardness,
            "steps": steps,
        }  # fmt: skip
        page = pages.large(results)
        if self._out is not None:
            pages.write(self._out, "large", results, page)
            plots.large(results, self._out / "large.svg")
        return page


def _added(result: Figures) -> list[Figures]:
    rate = result["added"] / result["add_seconds"] if result["add_seconds"] else 0
    return [
        {"name": "generate (waited for)", "seconds": result["seconds"] - result["add_seconds"], "rows_per_second": 0},
        {"name": "add", "seconds": result["add_seconds"], "rows_per_second": round(rate)},
    ]


def _built(outcome: Outcome, rows: int) -> list[Figures]:
    """Return seconds by stage of `optimize`; several recipes may have been tried, their stages are added up."""
    seconds: dict[str, float] = {}
    for name, took, _ in outcome.segments:
        if name != "start":
            seconds[name] = seconds.get(name, 0.0) + took
    rest = outcome.result["seconds"] - sum(seconds.values())
    stages = [
        {"name": name, "seconds": took, "rows_per_second": round(rows / took) if name == "index" and took else 0}
        for name, took in seconds.items()
    ]
    return [*stages, {"name": "rest of optimize", "seconds": max(0.0, rest), "rows_per_second": 0}]


def _adding(step: Figures) -> float:
    return float(sum(stage["seconds"] for stage in step["stages"][:2]))


def _rest(step: Figures) -> float:
    return max(0.1, float(step["seconds"]) - _adding(step))


def _drop_cache(collection: Path) -> float:
    """Drop the page cache of all files of a collection that nobody has open; return the share of pages that stayed."""
    stayed = pages_in_all = 0
    for path in (path for path in collection.rglob("*") if path.is_file() and path.stat().st_size):
        with open(path, "rb") as file:
            os.fsync(file.fileno())  # dirty pages cannot be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            here, count = _resident(file.fileno())
        stayed, pages_in_all = stayed + here, pages_in_all + count
    return round(stayed / max(1, pages_in_all), 4)


def _resident(descriptor: int) -> tuple[int, int]:
    """Return how many pages of a file are in memory, and how many it has."""
    size = os.fstat(descriptor).st_size
    count = -(-size // mmap.PAGESIZE)
    vector = (ctypes.c_ubyte * count)()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    # A private writable mapping, never written to: ctypes takes the address of nothing else.
    with mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        start: Any = ctypes.c_ubyte.from_buffer(mapped)
        failed = libc.mincore(ctypes.addressof(start), size, vector)
        del start  # else the mapping cannot be closed
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(page & 1 for page in bytes(vector)), count


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
