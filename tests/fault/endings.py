"""Processes that end in every way but the proper one, and those that come after them.

Run as ``python -m tests.fault.endings CASE JOURNAL COLLECTION SEED``. The journal gets ``open`` and then one number per
acknowledged chunk, each with one ``os.write``.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

import reperio
from reperio import Chunk, Collection
from tests.crash.plan import DIMENSION
from tests.crash.processes import ENVIRONMENT
from tests.crash.verification import check_no_leftovers

_OURS = 1_000_000  # the chunk that this process stores, while the other is at work
_LIMIT = 60  # seconds; what takes longer hangs
ENDINGS = ("interrupted", "daemon", "spawned", "exiting", "killed", "terminated")


def end(case: str, number: int, directory: Path) -> Counter[str]:
    """Let a process work, end it in the way of *case*, and require every acknowledged chunk."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{case}/{number}")
    journal, path = directory / "journal", directory / "kb"
    with open(directory / "stderr", "wb") as stderr:
        command = [sys.executable, "-m", "tests.fault.endings", case, str(journal), str(path), str(number)]
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=stderr, stderr=stderr)
        ours: set[str] = set()
        try:
            _wait_for_first(journal, process)
            ours = _write_alongside(path)
            time.sleep(rng.uniform(0, 0.3))
            sent = {"interrupted": signal.SIGINT, "killed": signal.SIGKILL, "terminated": signal.SIGTERM}.get(case)
            if sent is not None:
                process.send_signal(sent)
            status = process.wait(_LIMIT)
        finally:
            process.kill()
            process.wait()
    told = (directory / "stderr").read_text(errors="replace")
    assert status in _STATUSES[case], f"status {status}\n{told}"
    assert "Fatal Python error" not in told, told
    _verify(path, journal, ours)
    return Counter({case: 1})


_STATUSES = {
    "interrupted": (0,),
    "daemon": (0,),
    "spawned": (0,),
    "exiting": (0,),
    "killed": (-signal.SIGKILL,),
    "terminated": (-signal.SIGTERM,),
}


def _wait_for_first(journal: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _LIMIT
    while not journal.exists() or journal.read_text().count("\n") < 3:
        assert time.monotonic() < until, "the process hangs"
        if process.poll() is not None:
            return
        time.sleep(0.002)


def _write_alongside(path: Path) -> set[str]:
    """Write while the process does: both take turns. Return what was stored."""
    with reperio.open(path) as kb:
        kb.add([_chunk(_OURS)], vectors=_vector(_OURS)[None])
        return {str(_OURS)}


def _verify(path: Path, journal: Path, ours: set[str]) -> None:
    acknowledged = {line for line in journal.read_text().splitlines() if line != "open"} | ours
    with reperio.open(path, auto_optimize=False) as kb:
        check_no_leftovers(path)
        stored = set(kb.ids())
        assert acknowledged <= stored, f"lost: {sorted(acknowledged - stored)[:9]}"
        for chunk_id in sorted(acknowledged)[::7]:
            assert kb.search(vector=_vector(int(chunk_id)), k=1, recall=1.0)[0].chunk == _chunk(int(chunk_id))
        assert kb.check().ok


def _chunk(number: int) -> Chunk:
    return Chunk(str(number), f"text {number}", {"n": number})


def _vector(number: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    made = np.random.default_rng(number).standard_normal(DIMENSION, dtype=np.float32)
    return made / np.linalg.norm(made)


class _Work:
    """Adds chunks, numbered on, and notes each that is acknowledged."""

    def __init__(self, journal: str, path: str, seed: int) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.path = path
        self.rng = random.Random(seed)
        self.next = 0
        self.kb: Collection

    def note(self, line: str) -> None:
        os.write(self._journal, f"{line}\n".encode())

    def open(self) -> None:
        self.kb = reperio.open(self.path, dimension=DIMENSION)
        self.note("open")

    def add(self, count: int) -> None:
        numbers = range(self.next, self.next + count)
        self.next += count
        self.kb.add([_chunk(number) for number in numbers], vectors=np.stack([_vector(number) for number in numbers]))
        self.note("\n".join(map(str, numbers)))

    def step(self) -> None:
        """Do one of the things that one does."""
        way = self.rng.random()
        if way < 0.7 or self.next < 50:
            self.add(self.rng.randint(1, 30))
        elif way < 0.85:
            self.kb.search(vector=_vector(self.rng.randrange(self.next)), k=3)
        elif way < 0.95:
            self.kb.optimize(index=self.rng.choice(("IVF1,PQ8x4fs", "HNSW8,SQ8")))
        else:
            self.kb.compact()


def interrupted(work: _Work) -> None:
    """Work until Ctrl-C, at any moment; the same handle then adds once more, and is closed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs have ignored
    work.open()
    try:
        while True:
            work.step()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    work.add(5)
    work.kb.close()


def killed(work: _Work) -> None:
    """Work until SIGKILL, or SIGTERM, which ends Python as suddenly."""
    work.open()
    while True:
        work.step()


def daemon(work: _Work) -> None:
    """End the main thread while daemon threads write, search and build; the handle is never closed."""
    work.open()
    work.add(60)

    def forever(what: Callable[[], object]) -> None:
        while True:
            what()

    for what in (
        lambda: work.add(3),
        lambda: work.kb.search(vector=_vector(1), k=5),
        lambda: work.kb.search_many(vectors=np.stack([_vector(n) for n in range(8)]), k=5),
        lambda: work.kb.optimize(index="IVF1,PQ8x4fs"),
    ):
        threading.Thread(target=forever, args=(what,), daemon=True).start()
    time.sleep(work.rng.uniform(0, 0.4))


def exiting(work: _Work) -> None:
    """End the interpreter with an open handle, amid an index build in the background."""
    work.open()
    for _ in range(5):
        work.step()


def spawned(work: _Work) -> None:
    """Let a spawned child take over from its parent as the writer, and take over from it."""
    work.open()
    work.add(40)
    work.kb.close()
    child = multiprocessing.get_context("spawn").Process(target=_child, args=(work.path, 40))
    child.start()
    child.join(_LIMIT)
    assert child.exitcode == 0
    work.open()
    work.next = 60
    work.note("\n".join(map(str, range(40, 60))))
    work.add(5)
    work.kb.close()


def _child(path: str, first: int) -> None:
    with reperio.open(path) as kb:
        numbers = range(first, first + 20)
        kb.add([_chunk(number) for number in numbers], vectors=np.stack([_vector(number) for number in numbers]))
        assert kb.search(vector=_vector(first), k=1)[0].chunk == _chunk(first)


def main(case: str, journal: str, path: str, seed: str) -> None:
    """Work until the end."""
    cases = {
        "interrupted": interrupted,
        "killed": killed,
        "terminated": killed,
        "daemon": daemon,
        "exiting": exiting,
        "spawned": spawned,
    }
    cases[case](_Work(journal, path, int(seed)))


if __name__ == "__main__":
    main(*sys.argv[1:])
