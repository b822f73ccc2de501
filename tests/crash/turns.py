"""Many writers and many readers of one collection, killed at random, again and again.

Each writer has ids of its own, so what must be there follows from its journal alone, whoever else writes: what was
acknowledged, and of the operation that it was killed in all or nothing.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

import reperio
from reperio import Collection
from tests.concurrency.versions import DIMENSION, chunk, parsed, vector

from .turn_plan import OWN, Journal, difference
from .verification import check_no_leftovers

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 120.0  # seconds for a few operations, on a machine with other work
_LARGEST = 1.2  # times what the same chunks take that were never anything else


class Writers:
    """Writers of one collection, and their journals.

    Args:
        directory: for the collection and all else.
        count: writers, and as many readers.
        seed: of what they do, and of when they are killed.
    """

    def __init__(self, directory: Path, count: int, seed: int) -> None:
        self.directory, self.count, self.seed = directory, count, seed
        self.collection = directory / "kb"
        reperio.open(self.collection, dimension=DIMENSION, metric="l2").close()
        self._running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self.kills: Counter[str] = Counter()

    def keep_going(self) -> None:
        """Start whoever is not running; a worker that ended by itself has failed."""
        for key in [(role, number) for role in ("write", "read") for number in range(self.count)]:
            process = self._running.get(key)
            if process is not None and process.poll() is not None:
                raise AssertionError(f"{key} ended with {process.returncode}\n{self._said(*key).read_text()[-4000:]}")
            if process is None:
                self._running[key] = self._start(*key)

    def await_operations(self, number: int, after: float) -> None:
        """Wait until so many more were noted: on a busy machine most lives would end while they open."""
        until, first = time.monotonic() + _PATIENCE, self._noted()
        while self._noted() < first + number:
            assert time.monotonic() < until, f"nobody goes on: {self._noted()} operations"
            time.sleep(0.005)
            self.keep_going()
        time.sleep(after)

    def _noted(self) -> int:
        paths = [self.directory / f"journal-{writer}" for writer in range(self.count)]
        return sum(path.stat().st_size for path in paths if path.exists()) // len("begin:1000\ndone:1000\n")

    def kill(self, role: str, number: int) -> None:
        """Kill one worker."""
        process = self._running.pop((role, number))
        process.kill()
        assert process.wait() == -signal.SIGKILL, self._said(role, number).read_text()[-4000:]
        self.kills[role] += 1

    def stop(self) -> None:
        """End all, which counts as no kill."""
        for key, process in self._running.items():
            process.kill()
            assert process.wait() == -signal.SIGKILL, self._said(*key).read_text()[-4000:]
        self._running.clear()

    def verify(self) -> None:
        """Require that the collection holds what was acknowledged, is whole, and shrinks to what is live."""
        with reperio.open(self.collection, auto_optimize=False) as kb:
            check_no_leftovers(self.collection)
            there = self._verify_chunks(kb)
            kb.compact()
            assert kb.check().ok
            assert self._verify_chunks(kb) == there
            index = kb.info().index
        check_no_leftovers(self.collection)
        fresh = self.directory / "fresh"
        with reperio.open(fresh, dimension=DIMENSION, metric="l2", auto_optimize=False) as kb:
            if there:
                kb.add(
                    [chunk(*one) for one in there.items()], vectors=np.stack([vector(*one) for one in there.items()])
                )
            if index is not None:
                kb.optimize(index=index.factory)
        sizes = _size(self.collection), _size(fresh)
        assert sizes[0] <= _LARGEST * sizes[1], f"{sizes[0]} bytes, {sizes[1]} where nothing was ever replaced"

    def _verify_chunks(self, kb: Collection) -> dict[int, int]:
        report = kb.check()
        assert report.ok, report.problems
        found = [parsed(one) for one in kb]
        there = dict(found)
        assert len(there) == len(found) == kb.count() == report.rows
        for writer in range(self.count):
            own = {one: version for one, version in there.items() if one // OWN == writer}
            journal = Journal(self.directory, self.seed, writer)
            journal.read()
            assert own in journal.possible(), f"writer {writer}: {difference(own, journal.possible())}"
        assert {one // OWN for one in there} <= set(range(self.count))
        if there:
            vectors = np.stack([vector(*one) for one in found])
            assert np.array_equal(kb.vectors([f"c{one}" for one in there]), vectors)
            for one, hits in zip(found, kb.search_many(vectors=vectors, k=3), strict=True):
                assert parsed(hits[0].chunk) == one, f"{one} is not found by its own vector, but {hits[0]}"
        return there

    def _start(self, role: str, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.crash.turn_worker", role, str(self.directory)]
        with self._said(role, number).open("ab") as said:
            return subprocess.Popen(
                [*command, str(number), str(self.seed), str(self.count)],
                cwd=ROOT,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def _said(self, role: str, number: int) -> Path:
        return self.directory / f"{role}-{number}.log"


def kill_many(seed: int, directory: Path, *, count: int = 8, kills: int = 50) -> Counter[str]:
    """Kill workers one after another while the others go on; verify at the end, and return how many were killed."""
    rng = random.Random(seed)
    writers = Writers(directory, count, seed)
    try:
        for _ in range(kills):
            writers.keep_going()
            writers.await_operations(rng.randint(1, 4 * count), rng.random() ** 3 * 0.1)
            writers.kill(rng.choice(["write", "write", "read"]), rng.randrange(count))
    finally:
        writers.stop()
    writers.verify()
    return writers.kills


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
