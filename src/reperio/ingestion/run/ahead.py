"""Go through an iterator in a thread of its own, a bounded number of steps ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

from typing_extensions import Self

_Step = TypeVar("_Step")
_LOOK = 0.2  # seconds after which a thread that waits looks whether it is still wanted
_PATIENCE = 10.0


class _End:
    """The last thing in the queue: how the iterator ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Ahead(Generic[_Step]):
    """Files are read while others are embedded: ``with Ahead(steps, 64) as ahead: for step in ahead: …``.

    Args:
        steps: gone through in the thread; what it raises is raised here.
        most: steps that may be waiting.
    """

    def __init__(self, steps: Iterator[_Step], most: int) -> None:
        self._steps = steps
        self._queue: Queue[_Step | _End] = Queue(most)
        self._stopped = threading.Event()
        # A daemon: what is stored is safe, and Python's end need not wait for a text that is being split.
        self._thread = threading.Thread(target=self._run, name="reperio-ingest", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while True:  # so that the thread, which may be waiting for room, goes on and sees that it is over
            try:
                self._queue.get_nowait()
            except Empty:
                break
        self._thread.join(_PATIENCE)

    def __iter__(self) -> Iterator[_Step]:
        while True:
            step = self._queue.get()
            if isinstance(step, _End):
                if step.error is not None:
                    raise step.error
                return
            yield step

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for step in self._steps:
                if not self._put(step):
                    return
        except BaseException as raised:  # raised again where the steps are wanted
            error = raised
        self._put(_End(error))

    def _put(self, step: _Step | _End) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(step, timeout=_LOOK)
            except Full:
                continue
            return True
        return False
