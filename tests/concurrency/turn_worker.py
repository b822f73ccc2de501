"""A writer in a process of its own that does what it is told, one JSON line each; `Worker` starts it and asks.

Run as ``python -m tests.concurrency.turn_worker PATH OPTIONS``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from typing_extensions import Self

import reperio
from reperio import Collection
from reperio.store import NewChunk

from .versions import DIMENSION, chunk, parsed, vector

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """The process, as the test sees it.

    Args:
        path: of the collection.
        options: for `reperio.open`.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        command = [sys.executable, "-m", "tests.concurrency.turn_worker", str(path), json.dumps(options)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        assert self.answer() == "open"

    def ask(self, what: str, *arguments: Any) -> Any:
        """Tell it to do something, and wait for what it says."""
        self.tell(what, *arguments)
        return self.answer()

    def tell(self, what: str, *arguments: Any) -> None:
        """Tell it to do something, and do not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([what, *arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for what it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the worker has failed"
        return json.loads(line)

    def wait_until_stopped(self) -> None:
        """Wait until it has stopped itself."""
        assert os.WIFSTOPPED(os.waitpid(self.pid, os.WUNTRACED)[1])

    def kill(self) -> None:
        """Kill it, also where it has stopped."""
        self.process.kill()
        assert self.process.wait(60) == -signal.SIGKILL

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.process.poll() is None and kind is not None:
            self.process.kill()
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        assert kind is not None or status in (0, -signal.SIGKILL)


class _Halt:
    """Rows to be replaced that, when they are asked for, send a signal to this process: a put is under way then."""

    def __init__(self, which: int) -> None:
        self._which: int | None = which

    def __iter__(self) -> Iterator[int]:
        if self._which is not None:
            which, self._which = self._which, None
            os.kill(os.getpid(), which)
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True  # else nobody would ask


def halted(kb: Collection, which: int, numbers: list[int], version: int) -> None:
    """Send a signal to this process in the middle of a put."""
    new = [NewChunk(f"c{number}", f"{number}/{version}", json.dumps({"version": version})) for number in numbers]
    with kb._handle.turn() as generation:
        generation.store.put(new, np.stack([vector(number, version) for number in numbers]), _Halt(which))  # type: ignore[arg-type]  # what stands for a sequence


def with_fifty(path: Path) -> Path:
    """Make a collection with 50 chunks at *path*, and return that."""
    with reperio.open(path, dimension=DIMENSION, auto_optimize=False) as kb:
        add(kb, list(range(50)), 0)
    return path


def add(kb: Collection, numbers: list[int], version: int) -> None:
    """Store a version of chunks."""
    kb.add([chunk(one, version) for one in numbers], vectors=np.stack([vector(one, version) for one in numbers]))


def taking_turns(kb: Collection, writer: int, count: int, log: Path) -> list[int]:
    """Add so many chunks, each in a turn of its own, and note in a common file when a turn was wanted and begun."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(count):
        os.write(descriptor, f"wants {writer}\n".encode())
        with kb._handle.turn():
            os.write(descriptor, f"has {writer}\n".encode())
            add(kb, [writer * 1000 + number], 1)
    os.close(descriptor)
    return list(range(writer * 1000, writer * 1000 + count))


def do(kb: Collection, what: str, *arguments: Any) -> Any:
    """Do one thing, and return what is to be told."""
    if what == "add":
        add(kb, *arguments)
    elif what == "delete":
        return kb.delete(ids=[f"c{one}" for one in arguments[0]])
    elif what == "search":
        return [list(parsed(hit.chunk)) for hit in kb.search(vector=vector(*arguments), k=3)]
    elif what == "all":
        return sorted(list(parsed(one)) for one in kb)
    elif what == "compact":
        return kb.compact()
    elif what == "optimize":
        kb.optimize(index=arguments[0])
    elif what == "halt":
        halted(kb, *arguments)
    elif what == "kill while compacting":
        kb.compact(progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    elif what == "take turns":
        return taking_turns(kb, arguments[0], arguments[1], Path(arguments[2]))
    else:
        raise AssertionError(what)
    return "done"


def say(what: Any) -> None:
    """Answer."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(path: str, options: str) -> None:
    """Do what standard input says until it ends."""
    warnings.simplefilter("ignore", reperio.ReperioWarning)
    with reperio.open(path, **{"auto_optimize": False, "dimension": DIMENSION, **json.loads(options)}) as kb:
        say("open")
        for line in sys.stdin:
            try:
                say(do(kb, *json.loads(line)))
            except reperio.ReperioError as error:
                say(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
