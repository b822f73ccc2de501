"""A process that has imported everything, and forks one worker after another: importing takes longer than most lives.

Run as ``python -m tests.crash.nursery``. It reads a line of JSON per worker (module, arguments, output, stopped) and
answers with two lines: the process id, and the status once the worker has ended. Nothing but imports is done before the
fork, so that the worker inherits no thread, no lock and no open collection.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PRELOADED = ("faiss", "tests.crash.worker", "tests.fault.stubborn")
_MAY_BE_TRACED = 0x59616D61  # PR_SET_PTRACER: where Yama is on, only a process that says so is traced by a sibling


class Child:
    """A forked process, as `subprocess.Popen` would show it.

    Args:
        answers: the nursery's standard output, unbuffered.
        pid: of the process.
    """

    def __init__(self, answers: Any, pid: int) -> None:
        self.pid = pid
        self._answers = answers
        self._status: int | None = None
        self._tracer: subprocess.Popen[bytes] | None = None

    def trace(self, *strace: str) -> None:
        """Attach strace, and let the process go on, which has stopped itself before its work."""
        self._tracer = subprocess.Popen(["strace", *strace, "-p", str(self.pid)], stderr=subprocess.PIPE)
        assert self._tracer.stderr is not None
        told = self._tracer.stderr.readline()
        assert b" attached" in told, told
        os.kill(self.pid, signal.SIGCONT)

    def poll(self) -> int | None:
        """Return the status, or None while it lives."""
        if self._status is None and select.select([self._answers], [], [], 0)[0]:
            self.wait()
        return self._status

    def wait(self, seconds: float = 120) -> int:
        """Return the status once it has ended, and its tracer too; it is killed when that takes longer than *seconds*.

        Raises:
            TimeoutError: it was killed.
        """
        late = self._status is None and not select.select([self._answers], [], [], seconds)[0]
        if late:
            os.kill(self.pid, signal.SIGKILL)
        if self._status is None:
            self._status = int(self._answers.readline())
        if self._tracer is not None:
            self._tracer.communicate()
        if late:
            raise TimeoutError(f"a worker was killed after {seconds} s")
        return self._status

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal; a process that has ended by itself shows so by its status."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Nursery:
    """The process that forks, as seen by those who want workers; one worker lives at a time."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._child: Child | None = None

    def fork(self, module: str, *arguments: str, output: Path, strace: tuple[str, ...] = ()) -> Child:
        """Begin a worker, ``module.main(*arguments)``.

        Args:
            module: to be imported, where it is not.
            arguments: passed on.
            output: a file that gets what it prints.
            strace: options to trace it with, from its first call on; none where it is not to be traced.
        """
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        order = {"module": module, "arguments": arguments, "output": str(output), "stopped": bool(strace)}
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        requests.write(json.dumps(order).encode() + b"\n")
        self._child = Child(answers, int(answers.readline()))
        if strace:
            self._child.trace(*strace)
        return self._child

    def close(self) -> None:
        """End it, unless it is another's: of the process that this one was forked from."""
        if os.getpid() != self._owner:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Fork until standard input ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    while line := sys.stdin.readline():
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _live(**order)
            return
        if order["stopped"]:
            os.waitpid(pid, os.WUNTRACED)
        _answer(pid)
        _answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _live(module: str, arguments: list[str], output: str, *, stopped: bool) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (descriptor, 1), (descriptor, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(descriptor)
    if stopped:
        ctypes.CDLL(None).prctl(_MAY_BE_TRACED, ctypes.c_ulong(-1 & (1 << 64) - 1), 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
    importlib.import_module(module).main(*arguments)


if __name__ == "__main__":
    main()
