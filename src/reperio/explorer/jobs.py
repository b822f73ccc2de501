"""Work that takes longer than a page may: it goes on in a thread, tells how far it is, and can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from reperio.errors import ReperioError
from reperio.printable import logger

Result = TypeVar("Result")
_log = logger("reperio.explorer")


class _Stopped(Exception):
    """Ends a job that nobody wants any more."""


class Job(Generic[Result]):
    """One piece of work; it begins at once.

    Attributes:
        result: what came; None until it is done.
        error: why nothing came, in words; empty otherwise.
        done, total: how far it is; *total* is 0 while that is unknown.
        ended: when it ended, by a clock that only runs forward; None while it runs.
    """

    def __init__(self, name: str, work: Callable[[Job[Result]], Result]) -> None:
        self.result: Result | None = None
        self.error = ""
        self.done, self.total = 0, 0
        self.ended: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name=f"reperio-studio-{name}", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it is not over yet."""
        return self.ended is None

    def stop(self, *, wait: float = 0.0) -> None:
        """Have it end soon, and wait for that for some seconds."""
        self._stopping.set()
        self._thread.join(wait)

    def wait(self, seconds: float) -> None:
        """Wait for its end, for so long at most."""
        self._thread.join(seconds)

    def wanted(self) -> bool:
        """Say whether it is to go on."""
        return not self._stopping.is_set()

    def progress(self, stage: str, done: int, total: int | None) -> None:  # noqa: ARG002  # as the facade calls it
        """Note how far it is; raise what ends it where it was stopped."""
        self.done, self.total = done, total or 0
        if not self.wanted():
            raise _Stopped

    def _run(self, work: Callable[[Job[Result]], Result]) -> None:
        try:
            self.result = work(self)
        except _Stopped:
            self.error = "stopped"
        except ReperioError as error:
            self.error = str(error)
        except Exception as error:  # nobody waits for this thread: the page tells
            _log.exception("a job of the studio failed")
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self.ended = time.monotonic()
