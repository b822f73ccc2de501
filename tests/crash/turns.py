"""Many writers and many readers of one collection, killed at random, again and again.

Each writer has ids of its own, so what must be there follows from its journal alone, whoever else writes: what was
acknowledged, and of the operation that it was killed in all or nothing.

Run one worker as ``python -m tests.crash.turns write|read COLLECTION JOURNAL NUMBER SEED``.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

import reperio
from reperio import Collection, CollectionLocked
from tests.concurrency.versions import DIMENSION, chunk, parsed, vector

ROOT = Path(__file__).resolve().parents[2]
OWN = 1000  # ids of one writer
_PATIENCE = 120.0  # seconds for a few operations, on a machine with other work
State = dict[int, int]
"""Version by number."""


def operation(seed: int, writer: int, number: int) -> tuple[str, State, list[int]]:
    """Return the kind of an operation, what it stores, and what it deletes: the same each time."""
    rng = random.Random(f"{seed} {writer} {number}")
    kind = rng.choices(["add", "delete", "optimize", "compact"], [80, 14, 4, 2])[0]
    ids = rng.sample(range(writer * OWN, writer * OWN + 150), rng.randint(1, 40))
    stored = dict.fromkeys(ids, number) if kind == "add" else {}
    return kind, stored, ids if kind == "delete" else []


def apply(state: State, seed: int, writer: int, number: int) -> State:
    """Return the state after an operation."""
    _, stored, deleted = operation(seed, writer, number)
    return {one: version for one, version in {**state, **stored}.items() if one not in deleted}


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

    def await_lines(self, number: int, after: float) -> None:
        """Wait until the journals have so many more lines: on a busy machine most lives would end while they open."""
        until, first = time.monotonic() + _PATIENCE, self._lines()
        while self._lines() < first + number:
            assert time.monotonic() < until, f"nobody goes on: {self._lines()} lines"
            time.sleep(0.005)
            self.keep_going()
        time.sleep(after)

    def _lines(self) -> int:
        journals = [self._journal(writer) for writer in range(self.count)]
        return sum(journal.stat().st_size for journal in journals if journal.exists()) // len("begin:1\ndone:1\n") * 2

    def kill(self, role: str, number: int) -> None:
        """Kill one worker."""
        process = self._running.pop((role, number))
        process.kill()
        assert process.wait() == -signal.SIGKILL, self._said(role, number).read_text()[-4000:]
        self.kills[role] += 1

    def stop(self) -> None:
        """Kill all."""
        for role, number in list(self._running):
            self.kill(role, number)

    def verify(self) -> None:
        """Require that the collection holds what was acknowledged, is whole, and shrinks to what is live."""
        with reperio.open(self.collection) as kb:
            report = kb.check()
            assert report.ok, report.problems
            found = [parsed(one) for one in kb]
            there = dict(found)
            assert len(there) == len(found)
            for writer in range(self.count):
                own = {one: version for one, version in there.items() if one // OWN == writer}
                possible = self._possible(writer)
                assert own in possible, f"writer {writer}: {_difference(own, possible)}"
            for one, version in found:
                assert np.array_equal(kb.vectors(f"c{one}")[0], vector(one, version)), one
            if there:
                kb.compact()
                assert kb.check().ok
                _require_small(kb, len(there))

    def _possible(self, writer: int) -> list[State]:
        state: State = {}
        lines = self._journal(writer).read_text().split() if self._journal(writer).exists() else []
        begun = None
        for line in lines:
            word, number = line.split(":")
            if word == "begin" and begun is not None:  # a life that ended in it: settled by what the next one found
                raise AssertionError(f"{writer}: {line} after an operation that was never settled")
            begun = int(number) if word == "begin" else None
            if word in ("done", "was"):
                state = apply(state, self.seed, writer, int(number))
        return [state] if begun is None else [state, apply(state, self.seed, writer, begun)]

    def _start(self, role: str, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.crash.turns", role, str(self.collection), str(self._journal(number))]
        with self._said(role, number).open("ab") as said:
            return subprocess.Popen(
                [*command, str(number), str(self.seed)], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT
            )

    def _journal(self, writer: int) -> Path:
        return self.directory / f"journal-{writer}"

    def _said(self, role: str, number: int) -> Path:
        return self.directory / f"{role}-{number}.log"


def kill_many(seed: int, directory: Path, *, count: int = 8, kills: int = 50) -> Counter[str]:
    """Kill workers one after another while the others go on; verify at the end, and return how many were killed."""
    rng = random.Random(seed)
    writers = Writers(directory, count, seed)
    try:
        for _ in range(kills):
            writers.keep_going()
            writers.await_lines(rng.randint(1, 12 * count), rng.random() ** 3 * 0.1)
            writers.kill(rng.choice(["write", "write", "read"]), rng.randrange(count))
    finally:
        writers.stop()
    writers.verify()
    return writers.kills


def _require_small(kb: Collection, live: int) -> None:
    # Of the files that grow with the chunks: the database has some pages for its tables, however few rows they hold.
    size = kb.info().disk
    assert size["vectors.f32"] == live * DIMENSION * 4
    assert sum(1 for name in size if name.startswith("index/snapshot")) <= 1, size


def _difference(own: State, possible: list[State]) -> str:
    told = []
    for state in possible:
        lost = {one: version for one, version in state.items() if own.get(one) != version}
        more = {one: version for one, version in own.items() if one not in state}
        told.append(f"missing or other {dict(list(lost.items())[:5])}, too many {dict(list(more.items())[:5])}")
    return " | ".join(told)


def _write(path: Path, journal: Path, writer: int, seed: int) -> None:
    number, begun = 0, None
    state: State = {}
    for line in journal.read_text().split() if journal.exists() else []:
        word, told = line.split(":")
        number, begun = int(told) + 1, int(told) if word == "begin" else None
        if word in ("done", "was"):
            state = apply(state, seed, writer, int(told))
    descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(word: str, which: int) -> None:
        os.write(descriptor, f"{word}:{which}\n".encode())

    kb = reperio.open(path, lock_timeout=120)
    if begun is not None:  # what the last life was killed in is there wholly, or not at all
        own = dict(parsed(one) for one in kb.get([f"c{writer * OWN + n}" for n in range(OWN)]))
        after = apply(state, seed, writer, begun)
        assert own in (state, after), _difference(own, [state, after])
        note("was" if own == after else "not", begun)
    while True:
        kind, stored, deleted = operation(seed, writer, number)
        note("begin", number)
        if kind == "add":
            made = [chunk(one, version) for one, version in stored.items()]
            kb.add(made, vectors=np.stack([vector(one, version) for one, version in stored.items()]))
        elif kind == "delete":
            kb.delete(ids=[f"c{one}" for one in deleted])
        else:
            with suppress(CollectionLocked):  # another builds for longer
                kb.compact() if kind == "compact" else kb.optimize(index="SQ8")
        note("done", number)
        number += 1


def _read(path: Path, number: int) -> None:
    rng = random.Random()
    with reperio.open(path, read_only=bool(number % 2)) as kb:
        while True:
            for hit in kb.search(vector=vector(rng.randrange(8 * OWN), 1), k=20):
                one, version = parsed(hit.chunk)
                found = kb.get(f"c{one}")
                assert found is None or parsed(found)[1] >= version, "an older version after a newer one"
            some = list(kb.get([f"c{rng.randrange(8) * OWN + n}" for n in range(50)]))
            for one in some:
                parsed(one)


if __name__ == "__main__":
    warnings.simplefilter("ignore", reperio.ReperioWarning)
    role, collection, journal, number, seed = sys.argv[1:]
    if role == "write":
        _write(Path(collection), Path(journal), int(number), int(seed))
    _read(Path(collection), int(number))
