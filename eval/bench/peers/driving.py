"""The driver's side: a subject's process, what to ask it, and within which time it has to answer."""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from catalogue import Entry, Knob
from corpus import Corpus, knn_recall, row_of

Figures: TypeAlias = dict[str, Any]

_SERVING = Path(__file__).with_name("serving.py")
_PLACE = re.compile(r"[~.\w-]*/[\w.+@-]+/[\w.+@:/-]+")
QUICK_ENOUGH = 4000.0
"""µs per search beyond which fewer questions are asked per block."""


class SubjectFailed(Exception):
    """A subject raised, died, took too long, or returned what was never put in."""


@dataclass(frozen=True)
class Limits:
    """Most seconds that one command may take."""

    ingest: float = 900
    other: float = 300


class Process:
    """A subject in a process of its own."""

    def __init__(self, entry: Entry, folder: Path, corpus: Corpus, limits: Limits) -> None:
        self._limits = limits
        self._log = open(folder.with_suffix(".log"), "ab")  # noqa: SIM115  # it is the process's, and closed with it
        self._process = subprocess.Popen(
            [sys.executable, str(_SERVING), entry.name, str(folder), str(corpus.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send a command and return its answer.

        Raises:
            SubjectFailed: with what the subject said; nothing in it names a place on this machine.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        limit = self._limits.ingest if do == "ingest" else self._limits.other
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SubjectFailed(f"{do}: the process has ended with {self._process.wait()}") from None
        if not select.select([self._process.stdout], [], [], limit)[0]:
            raise SubjectFailed(f"{do}: cut after {limit:.0f} s")
        answer = self._process.stdout.readline()
        if not answer:
            raise SubjectFailed(f"{do}: the process died with {self._process.wait()}")
        read = json.loads(answer)
        if "failed" in read:
            raise SubjectFailed(f"{do}: {_shown(read['failed'])}")
        return read["done"]

    @property
    def number(self) -> int:
        """The process's id."""
        return self._process.pid

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


def _shown(error: str) -> str:
    """Return an error without the places on this or any other machine that it names, and not too long."""
    error = _PLACE.sub("…", error)
    return error if len(error) <= 300 else error[:300] + " …"


@contextmanager
def running(entry: Entry, folder: Path, corpus: Corpus, limits: Limits) -> Iterator[Process]:
    """Start a subject's process and end it with the block."""
    process = Process(entry, folder, corpus, limits)
    try:
        yield process
    finally:
        process.close()


def ingest(entry: Entry, folder: Path, corpus: Corpus, limits: Limits) -> Figures:
    """Let a subject write everything, and see what it gives back from the disk; return seconds and sizes."""
    with running(entry, folder, corpus, limits) as process:
        found: Figures = process.ask("ingest")
    files = [path for path in folder.rglob("*") if path.is_file()]
    found["rows_per_s"] = round(found["rows"] / found["seconds"])
    found["disk_mib"] = round(sum(path.stat().st_blocks * 512 for path in files) / 2**20, 1)
    return found


def require_same(process: Process, corpus: Corpus, count: int = 3) -> None:
    """Compare what a subject finds for some questions, text and metadata included, with what was put in."""
    for hits in process.ask("hits", count=count):
        if len(hits) != 10:
            raise SubjectFailed(f"{len(hits)} hits instead of 10")
        for chunk_id, text, metadata in hits:
            if (chunk_id, text, metadata) != corpus.chunk(row_of(chunk_id)):
                raise SubjectFailed(f"the chunk {chunk_id} came back with another text or other metadata")


def measure(process: Process, corpus: Corpus, which: str, knob: Knob, **how: Any) -> Figures:
    """Search for questions one by one; return recall, percentiles and the processor's µs per search."""
    _, nearest = corpus.questions(which)
    count, start = how.pop("count", len(nearest)), how.pop("start", 0)
    found = process.ask("one_by_one", which=which, count=count, start=start, knob=knob, **how)
    exact = nearest[(start + np.arange(count)) % len(nearest)]
    return {
        "recall": knn_recall(found["rows"], exact),
        **percentiles(found["micros"]),
        "cpu_us": round(found["cpu_us"], 1),
    }


def percentiles(micros: Sequence[float]) -> Figures:
    """Return p50, p95 and p99 in µs."""
    values = np.percentile(micros, (50, 95, 99))
    return {f"p{rank}_us": round(float(value), 1) for rank, value in zip((50, 95, 99), values, strict=True)}


def settle(
    knobs: Mapping[str, Sequence[Any]], targets: Sequence[float], evaluate: Callable[[Knob], Figures]
) -> tuple[dict[float, Figures], list[Figures]]:
    """Find, for each target, the setting with the least p50 whose recall reaches it.

    For each combination of the further knobs, the least sufficient value of the first is found by bisection: its
    values ascend, and recall with them.

    Args:
        knobs: values by name; none for a subject that has none.
        targets: recalls.
        evaluate: returns at least ``recall`` and ``p50_us`` of a setting.

    Returns:
        By target the setting with its figures, and ``reached``; where nothing reaches it, the setting of best recall.
        And all settings that were evaluated.
    """
    tried: dict[str, Figures] = {}

    def at(knob: Knob) -> Figures:
        key = json.dumps(knob, sort_keys=True)
        if key not in tried:
            tried[key] = {"knob": knob, **evaluate(knob)}
        return tried[key]

    first, *others = knobs or [""]
    for combination in itertools.product(*(knobs[name] for name in others)):
        fixed = dict(zip(others, combination, strict=True))
        if not knobs:
            at({})
            continue
        values = knobs[first]
        for target in targets:
            low, high = 0, len(values) - 1
            while low < high:
                middle = (low + high) // 2
                if at({first: values[middle], **fixed})["recall"] >= target:
                    high = middle
                else:
                    low = middle + 1
            at({first: values[low], **fixed})
    points = list(tried.values())
    chosen = {}
    for target in targets:
        reaching = [point for point in points if point["recall"] >= target]
        best = min(reaching, key=lambda one: one["p50_us"]) if reaching else max(points, key=lambda one: one["recall"])
        chosen[target] = {**best, "reached": bool(reaching)}
    return chosen, points


def tune(entry: Entry, process: Process, corpus: Corpus, targets: Sequence[float]) -> Figures:
    """Choose a subject's settings by the tuning questions; where it takes a recall, add the targets as such."""
    whole = len(corpus.questions("tuning")[1])

    def evaluate(knob: Knob) -> Figures:
        probe = measure(process, corpus, "tuning", knob, count=min(20, whole), warm=False)
        slow = probe["p50_us"] > QUICK_ENOUGH
        return measure(process, corpus, "tuning", knob, count=min(whole, 250) if slow else whole, warm=False)

    chosen, curve = settle(entry.knobs, targets, evaluate)
    kept = ("knob", "reached", "p50_us")
    settings = {f"{target:g}": {key: found[key] for key in kept} for target, found in chosen.items()}
    if entry.promise:
        settings |= {f"asked {target:g}": {"knob": {entry.promise: target}, "reached": True} for target in targets}
    return {"settings": settings, "curve": sorted(curve, key=lambda point: float(point["recall"]))}


def open_fresh(entry: Entry, folder: Path, corpus: Corpus, limits: Limits, setting: Figures) -> Figures:
    """Open in a fresh process, search once, then for each measured question for the first time; return all of it.

    Of a slow subject, 250 questions will do. The files are in the page cache, as after a deployment that has just
    written or copied them.
    """
    with running(entry, folder, corpus, limits) as process:
        opened: Figures = process.ask("open", knob=setting["knob"])
        whole = len(corpus.questions("measured")[1])
        count = min(whole, 250) if setting.get("p50_us", 0) > QUICK_ENOUGH else whole
        first_pass = measure(process, corpus, "measured", setting["knob"], count=count, warm=False)
        later = process.ask("memory")
        require_same(process, corpus)
        return {**opened, "first_pass": first_pass, "later": later}


def heats(resident: Mapping[str, float], everywhere: Sequence[str], budget: float) -> list[list[str]]:
    """Divide subjects into groups that fit into memory together, those named *everywhere* in each.

    Args:
        resident: MiB by subject.
        everywhere: the reference that makes the groups comparable.
        budget: MiB per group; a subject that alone exceeds it still gets a group.
    """
    always = [name for name in resident if name in everywhere]
    base = sum(resident[name] for name in always)
    found: list[list[str]] = []
    room = 0.0
    for name in (name for name in resident if name not in always):
        if not found or resident[name] > room:
            found.append([*always])
            room = budget - base
        found[-1].append(name)
        room -= resident[name]
    return found or ([always] if always else [])


def block(process: Process, corpus: Corpus, knob: Knob, *, expected_us: float, turn: int, seconds: float) -> Figures:
    """Let a subject search one by one for a while, then from eight threads; return what it took.

    Args:
        process: of the subject.
        corpus: whose measured questions are asked, beginning elsewhere at each *turn*.
        knob: the setting.
        expected_us: µs per search, by which the number of questions is chosen.
        turn: counts the rounds.
        seconds: about what each of the two shall take; at least 50 searches, at most all questions once, and from
            the threads eight times.
    """
    whole = len(corpus.questions("measured")[1])
    count = int(min(whole, max(50, seconds * 1e6 / expected_us)))
    found = process.ask("one_by_one", which="measured", count=count, start=turn * 97, warm=True, knob=knob)
    cores = len(os.sched_getaffinity(0))
    many = int(min(8 * whole, max(50, seconds * 1e6 / expected_us * cores)))
    rate = process.ask("at_once", threads=8, count=many, start=turn * 97, knob=knob)["rate"]
    return {"micros": found["micros"], "cpu_us": found["cpu_us"], "rate": rate}
