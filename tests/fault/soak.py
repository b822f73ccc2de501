"""One writer, four reader processes, eight threads, for as long as one likes: no error, and nothing that grows.

Run as ``python -m tests.fault.soak read PATH CLOCK`` for a reader; `soak` starts them. CLOCK is a file of eight bytes
that everyone has mapped: the number of the last change of chunk 0 that was acknowledged. What a reader finds after it
has read the clock must be as new as that.
"""

from __future__ import annotations

import itertools
import mmap
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import reperio
from reperio import Collection
from tests.concurrency.versions import DIMENSION, chunk, parsed, vector
from tests.crash.processes import ENVIRONMENT

from .resources import Watched, require_bounded, summary

READERS, THREADS = 4, 8
NUMBERS = range(1, 400)
LOG_BYTES = 96 << 20
"""Of the write-ahead log: SQLite begins it anew from 64 MiB on, once no reader needs what is in it."""

PAUSE = 0.01
"""Seconds, at most, between the searches of one thread: without any, those who search leave no time to who writes."""

_PATIENCE = 120  # seconds for the processes to end when they are asked to


class Clock:
    """A number that one process sets and others read: eight bytes, mapped, written in one go."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with open(path, "r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")

    @property
    def now(self) -> int:
        """What was set last."""
        return self._numbers[0]

    @now.setter
    def now(self, number: int) -> None:
        self._numbers[0] = number


def soak(seconds: float, directory: Path, *, seed: int = 0) -> Counter[str]:
    """Work for *seconds*.

    Returns:
        How many operations of each kind there were.

    Raises:
        AssertionError: a reader saw less than what was acknowledged, something foreign, or an error; handles, memory
            or the log grew without bound.
    """
    directory.mkdir(parents=True, exist_ok=True)
    clock = Clock(directory / "clock")
    with reperio.open(directory / "kb", dimension=DIMENSION) as kb:
        traffic = Traffic(kb, clock, seed)
        traffic.add([0, *NUMBERS])
        readers = [_start(directory, number) for number in range(READERS)]
        watched = Watched([os.getpid(), *(reader.pid for reader in readers)], directory / "kb")
        try:
            tally = traffic.run(seconds, watched)
        finally:
            clock.now = -1  # the readers' sign to end
            statuses = [reader.wait(_PATIENCE) for reader in readers]
        told = [path.read_text(errors="replace") for path in sorted(directory.glob("reader-*"))]
        assert statuses == [0] * READERS, "\n".join(told)
        tally["searches of readers"] = sum(map(int, told))
        report = kb.check()
        assert report.ok, report.problems
    require_bounded(watched, log_bytes=LOG_BYTES)
    tally["samples"] = len(watched.samples)
    tally.update({f"most {what}": figure for what, figure in summary(watched).items()})
    return tally


def _start(directory: Path, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.fault.soak", "read", str(directory / "kb"), str(directory / "clock")]
    with open(directory / f"reader-{number}.stderr", "wb") as stderr:
        return subprocess.Popen([*command, str(number)], env=ENVIRONMENT, stdout=stderr, stderr=stderr)


class Traffic:
    """What the writing process does: one thread writes, one builds, eight search."""

    def __init__(self, kb: Collection, clock: Clock, seed: int) -> None:
        self.kb = kb
        self.clock = clock
        self.seed = seed
        self.finished = threading.Event()
        self.tally: Counter[str] = Counter()
        self._versions = itertools.count(1)

    def run(self, seconds: float, watched: Watched) -> Counter[str]:
        """Work for so long, and raise what any thread raised."""
        jobs = [self.write, self.keep, *[self.search] * THREADS]
        with ThreadPoolExecutor(len(jobs)) as pool:
            running = [pool.submit(job, random.Random(f"{self.seed}/{n}")) for n, job in enumerate(jobs)]
            until = time.monotonic() + seconds
            while time.monotonic() < until and not any(job.done() for job in running):
                watched.sample()
                self.finished.wait(min(1.0, seconds / 20))
            self.finished.set()
            for job in running:
                job.result(_PATIENCE)
        return self.tally

    def add(self, numbers: list[int]) -> None:
        """Store a new version of each number, and of chunk 0, whose version is the clock."""
        version = next(self._versions)
        chosen = sorted({0, *numbers})
        vectors = np.stack([vector(number, version) for number in chosen])
        self.kb.add([chunk(number, version) for number in chosen], vectors=vectors)
        self.clock.now = version
        self.tally["add"] += 1

    def write(self, rng: random.Random) -> None:
        """Add, replace, delete."""
        while not self.finished.is_set():
            numbers = rng.sample(NUMBERS, rng.randint(1, 60))
            if rng.random() < 0.3:
                self.kb.delete(ids=[f"c{number}" for number in numbers])
                self.tally["delete"] += 1
            elif rng.random() < 0.1:
                self.kb.delete(where={"version": {"$lt": self.clock.now // 2}})
                self.tally["delete by filter"] += 1
            else:
                self.add(numbers)

    def keep(self, rng: random.Random) -> None:
        """Build indexes, extend them, compact."""
        for work in itertools.cycle(("compact", "optimize", "optimize")):
            if self.finished.wait(rng.uniform(0, 0.3)):
                return
            if work == "compact":
                self.kb.compact()
                self.tally["compact"] += 1
            elif self.kb.count() > 40:
                try:
                    self.kb.optimize(index=rng.choice(("IVF1,PQ8x4fs", "HNSW8,SQ8", "IVF4,SQ8")))
                    self.tally["optimize"] += 1
                except reperio.IndexBuildFailed:  # the other thread has deleted nearly all meanwhile
                    self.tally["too few to train"] += 1

    def search(self, rng: random.Random) -> None:
        """Search until the end."""
        while not self.finished.wait(rng.uniform(0, PAUSE)):
            look(self.kb, self.clock, rng)
            self.tally["search"] += 1  # of eight threads some may be lost; it is a figure for people


def look(kb: Collection, clock: Clock, rng: random.Random) -> None:
    """Search and get, and require nothing foreign, nothing half there, and what the clock says."""
    before = clock.now
    if before < 0:
        return
    way = rng.randrange(4)
    if way == 0:
        found = kb.get("c0")
        assert found is not None
        assert parsed(found)[1] >= before, f"{found} after version {before} was acknowledged"
    elif way == 1:
        query = vector(0, before)
        hits = kb.search(vector=query, k=5, recall=1.0)
        if clock.now == before:  # nothing was acknowledged meanwhile, but something may have been stored
            newest = kb.get("c0")
            assert newest is not None
            assert parsed(hits[0].chunk) == (0, before) or parsed(newest)[1] > before
        _check(hits, query)
    else:
        query = vector(rng.choice(NUMBERS), max(1, before - rng.randrange(5)))
        where = {"version": {"$gte": before // 2}} if way == 2 else None
        _check(kb.search(vector=query, k=rng.randint(1, 20), where=where), query)


def _check(hits: list[reperio.Hit], query: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    assert hits, "chunk 0 is always there"
    assert len({hit.chunk.id for hit in hits}) == len(hits)
    for hit in hits:
        assert abs(hit.score - float(vector(*parsed(hit.chunk)) @ query)) < 1e-4, hit


def read(path: str, clock: str, number: str) -> None:
    """Read until the clock says that it is over; print how often."""
    told, rng, looks = Clock(Path(clock)), random.Random(int(number)), 0
    with reperio.open(path, read_only=True) as kb:
        while told.now >= 0:
            look(kb, told, rng)
            looks += 1
            time.sleep(rng.uniform(0, PAUSE))
    sys.stdout.write(f"{looks}\n")


if __name__ == "__main__":
    {"read": read}[sys.argv[1]](*sys.argv[2:])
