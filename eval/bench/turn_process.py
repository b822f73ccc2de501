"""A process that adds to a collection which others add to as well, or searches it; `turns.py` starts it.

Each line of standard input is a task as JSON, each line of standard output what came of it. A task begins with the
collection open and everything made that it needs: only adds and searches are timed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Figures, Floats

import reperio
from reperio import Chunk, Collection
from reperio.layout import FileLock, lock

DIMENSION = 384
WORDS = 120
_VOCABULARY = 5000
_AXES = 24


class Waits:
    """Times each wait for a turn, and counts the turns that others have ended meanwhile."""

    def __init__(self, path: Path) -> None:
        self.seconds: list[float] = []
        self.turns: list[int] = []
        self._file = os.open(path / "LOCK", os.O_RDONLY | os.O_CREAT)
        self._acquire = FileLock.acquire

    def __enter__(self) -> None:
        waits, acquire = self, self._acquire

        def timed(self: FileLock, timeout: float = 0.0) -> None:
            before, began = waits.count(os.pread(waits._file, lock._MARK.size, lock._NOTE)), time.perf_counter()
            acquire(self, timeout)
            waits.seconds.append(time.perf_counter() - began)
            if before:
                waits.turns.append(waits.count(self.found) - before)

        FileLock.acquire = timed  # type: ignore[method-assign]  # the package has no place to ask for it

    def __exit__(self, *_: object) -> None:
        FileLock.acquire = self._acquire  # type: ignore[method-assign]  # as above
        os.close(self._file)

    @staticmethod
    def count(mark: bytes) -> int:
        """Return how many turns have ended; 0 where nobody has had one."""
        return int(lock._MARK.unpack(mark)[0]) if len(mark) == lock._MARK.size else 0


def vectors(count: int, seed: int) -> Floats:
    """Return vectors of norm 1 that lie near a space of few dimensions, as embeddings do."""
    axes = np.random.default_rng(0).standard_normal((_AXES, DIMENSION), dtype=np.float32)
    random = np.random.default_rng(seed)
    made = random.standard_normal((count, _AXES), dtype=np.float32) @ axes
    made += 0.3 * random.standard_normal((count, DIMENSION), dtype=np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def chunks(name: str, count: int, seed: int) -> list[Chunk]:
    """Return chunks of 120 words each, about 700 bytes."""
    words = np.random.default_rng(seed).integers(0, _VOCABULARY, (count, WORDS))
    return [
        Chunk(f"{name}-{row}", " ".join(f"w{word}" for word in some), {"source": name, "section": row % 17})
        for row, some in enumerate(words.tolist())
    ]


def add(kb: Collection, path: Path, task: Figures) -> Figures:
    """Add so many batches, or for so many seconds with a pause after each, and return when, and what was waited."""
    number, batch, batches = task["writer"], task["batch"], task.get("batches", 10**9)
    matrix = vectors(batch, number)
    made = [chunks(f"{number}-{at}", batch, at) for at in range(min(batches, task.get("kept", batches)))]
    report("ready")
    sys.stdin.readline()
    began = now = time.monotonic()
    until, done, waits = began + task.get("seconds", 1e9), 0, Waits(path)
    with waits:
        while done < batches and now < until:
            kb.add(made[done % len(made)], vectors=matrix)
            done += 1
            if task.get("pause"):
                time.sleep(task["pause"])
            now = time.monotonic()
    return {"began": began, "ended": now, "batches": done, "waits": waits.seconds, "turns": waits.turns}


def search(kb: Collection, task: Figures) -> Figures:
    """Search for so many seconds, and return how long each took."""
    questions = vectors(1000, 10**6)
    for question in questions[:50]:
        kb.search(vector=question, k=10)
    report("ready")
    sys.stdin.readline()
    until, taken = time.monotonic() + task["seconds"], []
    while time.monotonic() < until:
        began = time.perf_counter()
        kb.search(vector=questions[len(taken) % len(questions)], k=10)
        taken.append(time.perf_counter() - began)
    return {"searches": taken}


def report(what: Any) -> None:
    """Answer."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do tasks until standard input ends."""
    gc.disable()
    for line in sys.stdin:
        task = json.loads(line)
        path = Path(task["path"])
        with ExitStack() as stack:
            reading = task["what"] == "search"
            kb = stack.enter_context(reperio.open(path, read_only=True) if reading else _writer(path))
            done = search(kb, task) if reading else add(kb, path, task)
        report(done)  # once it is closed: the collection may be removed
        gc.collect()


def _writer(path: Path) -> Collection:
    return reperio.open(path, auto_optimize=False, lock_timeout=120)


if __name__ == "__main__":
    main()
