"""One subject in a process of its own: ingests, or opens and searches, as the driver tells it in lines of JSON.

python serving.py NAME FOLDER CORPUS
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from corpus import Corpus, Floats, row_of

WARMING = 50
"""Searches before the clock starts: whoever was measured before has the processor's caches."""


def memory() -> dict[str, float]:
    """Return MiB of this process: resident, and of it anonymous, i.e. not mapped from files."""
    found = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        name: round(int(found[key].split()[0]) / 1024, 1) for name, key in (("rss", "VmRSS"), ("anonymous", "RssAnon"))
    }


class Server:
    """Does what it is told; each public method is one command."""

    def __init__(self, name: str, folder: Path, corpus: Corpus) -> None:
        self._before = memory()
        started = time.perf_counter()
        from catalogue import ENTRIES

        self._subject = ENTRIES[name].make()
        self._import_s = time.perf_counter() - started
        self._folder, self._corpus = folder, corpus
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._knob: dict[str, Any] | None = None

    def ingest(self) -> dict[str, Any]:
        """Write everything, sync it, and return seconds by stage. The chunks are made before the clock starts."""
        chunks = list(self._corpus.chunks())
        self._folder.mkdir(parents=True)
        gc.collect()
        gc.freeze()  # else each full collection walks all of them, which is no subject's doing
        stages: dict[str, float] = {}
        last = time.perf_counter()

        def mark(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            stages[stage], last = round(now - last, 3), now

        self._subject.ingest(self._folder, self._corpus, chunks, mark)
        mark("saved")
        for file in (path for path in self._folder.rglob("*") if path.is_file()):
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        mark("synced")
        return {"rows": len(chunks), "stages": stages, "seconds": round(sum(stages.values()), 3)}

    def open(self, knob: dict[str, Any]) -> dict[str, Any]:
        """Open and search once. Imports are timed apart."""
        question = self._corpus.questions("measured")[0][0]
        started = time.perf_counter()
        self._subject.open(self._folder, self._corpus.vectors.shape[1])
        opened = time.perf_counter()
        self._set(knob)
        self._subject.search(question)
        done = time.perf_counter()
        took = {"import_s": self._import_s, "open_s": opened - started, "first_s": done - opened}
        gc.collect()
        gc.freeze()
        seconds = {name: round(value, 5) for name, value in took.items()}
        return seconds | {"before": self._before, "after": memory()}

    def memory(self) -> dict[str, float]:
        """Return what this process has resident now."""
        return memory()

    def hits(self, count: int) -> list[list[Any]]:
        """Return, of the first questions, all that is found: to be compared with what was put in."""
        return [
            list(self._subject.plain(self._subject.search(vector))) for vector in self._questions("measured", count)
        ]

    def one_by_one(self, which: str, count: int, start: int, warm: bool, knob: dict[str, Any]) -> dict[str, Any]:
        """Search for some questions one after the other; return µs and rows found of each, and CPU µs per search."""
        self._set(knob)
        questions = self._questions(which, count, start)
        if warm:
            for vector in questions[:WARMING]:
                self._subject.search(vector)
        clock, micros, found = time.perf_counter_ns, [], []
        busy = time.process_time()
        for vector in questions:
            before = clock()
            hits = self._subject.search(vector)
            micros.append((clock() - before) / 1000)
            found.append(hits)
        busy = time.process_time() - busy
        rows = [[row_of(chunk_id) for chunk_id, _, _ in self._subject.plain(hits)] for hits in found]
        return {"micros": micros, "rows": rows, "cpu_us": busy * 1e6 / len(questions)}

    def at_once(self, threads: int, count: int, start: int, knob: dict[str, Any]) -> dict[str, Any]:
        """Search for *count* questions, the measured ones over and over, in *threads* threads; return the rate."""
        self._set(knob)
        questions = self._questions("measured", count, start)
        pool, ready = self._pool(threads), threading.Barrier(threads, timeout=120)

        def search(mine: Floats) -> tuple[float, float]:
            self._subject.search(mine[0])
            ready.wait()
            started = time.perf_counter()
            for vector in mine:
                self._subject.search(vector)
            return started, time.perf_counter()

        parts = [pool.submit(search, questions[turn::threads]) for turn in range(threads)]
        starts, ends = zip(*(part.result() for part in parts), strict=True)
        return {"rate": len(questions) / (max(ends) - min(starts))}

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        if threads not in self._pools:
            self._pools[threads] = ThreadPoolExecutor(threads, initializer=self._subject.enter_thread)
        return self._pools[threads]

    def _set(self, knob: dict[str, Any]) -> None:
        if knob != self._knob:
            self._subject.set(**knob)
            self._knob = knob

    def _questions(self, which: str, count: int, start: int = 0) -> Floats:
        vectors, _ = self._corpus.questions(which)
        return np.ascontiguousarray(vectors[(start + np.arange(count)) % len(vectors)])


def main(name: str, folder: str, corpus: str) -> None:
    """Answer each line of the standard input with one line, until it ends."""
    # Libraries print what they like; answers go to what was the standard output, everything else to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    say: Callable[[Any], None] = partial(print, file=answers, flush=True)
    try:
        server = Server(name, Path(folder), Corpus(Path(corpus)))
        for line in sys.stdin:
            command = json.loads(line)
            say(json.dumps({"done": getattr(server, command.pop("do"))(**command)}))
    except Exception as error:  # whatever a library raises is a result: that subject failed
        say(json.dumps({"failed": f"{type(error).__name__}: {error}"}))
        traceback.print_exc()
    finally:
        os._exit(0)  # some libraries hang or crash when they are taken down; nothing is left to be saved here


if __name__ == "__main__":
    main(*sys.argv[1:])
