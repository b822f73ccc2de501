"""Let standard input end when the process is told to end.

The SDK reads it in a thread, which nothing interrupts: Ctrl-C would wait for the client's next line. So that thread
reads from a pipe of ours, which another thread fills and a signal ends.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE = 1 << 16


@contextmanager
def input_that_ends() -> Iterator[None]:
    """Replace descriptor 0 during the block, in the main thread; SIGINT and SIGTERM are the end of the input."""
    source, nowhere = os.dup(0), os.open(os.devnull, os.O_WRONLY)
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.close(reading)

    def pump() -> None:
        with suppress(OSError):  # of a terminal that is gone, or behind the end of the block
            while part := os.read(source, _AT_ONCE):
                while part:
                    part = part[os.write(writing, part) :]
        os.dup2(nowhere, writing, inheritable=False)

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # what a handler is called with
        # Not closed: its number could be another file's by the time that the thread writes again.
        os.dup2(nowhere, writing, inheritable=False)

    before = {each: signal.signal(each, end) for each in _SIGNALS}
    threading.Thread(target=pump, name="reperio-mcp-input", daemon=True).start()
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        os.dup2(source, 0)
