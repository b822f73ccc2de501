"""Chunks kept in memory while somebody else commits: a search never gives back what an acknowledged commit replaced.

Run as ``python -m tests.concurrency.test_recent_chunks ROLE DIRECTORY SEED`` the module is the other process: it writes
through a handle of its own, or searches until the writer has finished.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Collection

from .versions import DIMENSION, History, chunk, vector

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = range(40)
OPERATIONS = 120
# Few, so that nearly every chunk that a search finds has been found before.
QUERIES = [vector(1000, number) for number in range(12)]


class Plan:
    """What is written, one operation after the other, the same for a seed in every process."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.history = History()
        self.operations: list[tuple[str, list[int]]] = [("add", list(NUMBERS))]
        for _ in range(OPERATIONS):
            kind = rng.choices(("add", "delete", "compact"), (70, 25, 3))[0]
            self.operations.append((kind, rng.sample(NUMBERS, rng.randint(1, 6))))
        for version, (kind, numbers) in enumerate(self.operations):
            self.history.begin(
                dict.fromkeys(numbers, version) if kind == "add" else dict.fromkeys(numbers) if kind == "delete" else {}
            )

    def apply(self, kb: Collection, version: int) -> None:
        """Do one operation."""
        kind, numbers = self.operations[version]
        if kind == "add":
            vectors = np.stack([vector(number, version) for number in numbers])
            kb.add([chunk(number, version) for number in numbers], vectors=vectors)
        elif kind == "delete":
            kb.delete(ids=[f"c{number}" for number in numbers])
        else:
            kb.compact()


class Clock:
    """How far the writer is, in memory that processes share: operations begun and acknowledged."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            np.zeros(2, dtype=np.int64).tofile(file)
        self._numbers = np.memmap(file, dtype=np.int64, mode="r+", shape=(2,))

    @property
    def begun(self) -> int:
        return int(self._numbers[0])

    @begun.setter
    def begun(self, operations: int) -> None:
        self._numbers[0] = operations

    @property
    def acknowledged(self) -> int:
        return int(self._numbers[1])

    @acknowledged.setter
    def acknowledged(self, operations: int) -> None:
        self._numbers[1] = operations


def write(kb: Collection, plan: Plan, clock: Clock) -> None:
    """Do what is left of the plan, noting each operation before and after; leave time for searches in between."""
    for version in range(clock.acknowledged, len(plan.operations)):
        clock.begun = version + 1
        plan.apply(kb, version)
        clock.acknowledged = version + 1
        time.sleep(0.005)


def read(kb: Collection, plan: Plan, clock: Clock, seed: int) -> None:
    """Search until all is written, and hold every answer against the plan."""
    rng, known = random.Random(seed), 0
    while clock.acknowledged < len(plan.operations):
        query, k = rng.choice(QUERIES), rng.randint(1, 8)
        first = clock.acknowledged
        hits = kb.search(vector=query, k=k) if rng.random() < 0.9 else kb.search_many(vectors=query[None], k=k)[0]
        last = clock.begun
        plan.history.check(hits, query, k, first, last)
        known = max(known, len(kb._handle.generation.store._pool.recent))
    assert known > len(NUMBERS) // 2


def main(role: str, directory: str, seed: str) -> None:
    """Be the other process."""
    root, plan = Path(directory), Plan(int(seed))
    clock = Clock(root / "clock")
    if role == "write":
        with reperio.open(root / "kb", auto_optimize=False) as kb:
            write(kb, plan, clock)
    else:
        with reperio.open(root / "kb", read_only=True) as kb:
            sys.stdout.write("open\n")
            sys.stdout.flush()
            read(kb, plan, clock, int(seed))


def start(role: str, directory: Path, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.concurrency.test_recent_chunks", role, str(directory), str(seed)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if role == "read":
        assert process.stdout is not None
        if process.stdout.readline() != "open\n":
            finish(process)
    return process


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.fixture
def plan(request: pytest.FixtureRequest, tmp_path: Path) -> Plan:
    """Make the plan of a seed, and do its first operation."""
    made = Plan(request.param)
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        made.apply(kb, 0)
    clock = Clock(tmp_path / "clock")
    clock.begun = clock.acknowledged = 1
    return made


@pytest.mark.parametrize("plan", [11, pytest.param(12, marks=pytest.mark.campaign)], indirect=True, ids=str)
def test_another_process_writes(plan: Plan, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Threads that share a reader's handle, and a reader in a third process, never see what was replaced before."""
    seed = request.node.callspec.params["plan"]
    clock = Clock(tmp_path / "clock")
    with reperio.open(tmp_path / "kb", read_only=True) as reader, ThreadPoolExecutor(2) as pool:
        others = [start("read", tmp_path, seed), start("write", tmp_path, seed)]
        reading = [pool.submit(read, reader, plan, clock, number) for number in range(2)]
        finish(others[0])
        finish(others[1])
        for future in reading:
            future.result()


@pytest.mark.parametrize("plan", [21, pytest.param(22, marks=pytest.mark.campaign)], indirect=True, ids=str)
def test_this_process_writes(plan: Plan, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Threads that search the writer's own handle, and a reader in another process, never see what was replaced."""
    seed = request.node.callspec.params["plan"]
    clock = Clock(tmp_path / "clock")
    with reperio.open(tmp_path / "kb", auto_optimize=False) as kb, ThreadPoolExecutor(2) as pool:
        other = start("read", tmp_path, seed)
        reading = [pool.submit(read, kb, plan, clock, number) for number in range(2)]
        write(kb, plan, clock)
        for future in reading:
            future.result()
        finish(other)


if __name__ == "__main__":
    main(*sys.argv[1:])
