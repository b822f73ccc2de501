"""Call an embedder again that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from reperio.errors import EmbedderFailed, RetryLater
from reperio.optional import OptionalImport
from reperio.printable import logger

if TYPE_CHECKING:
    from tenacity import RetryCallState

ATTEMPTS = 8
LONGEST = 120.0
"""Seconds between two attempts at most, where nobody says how long."""

_BUSY = (429, 503, 529)
"""The answers of a web service that is there and has too much to do."""

_log = logger("reperio.ingestion")
_Result = TypeVar("_Result")


def with_retries(call: Callable[[], _Result]) -> _Result:
    """Call until the embedder does not ask for another time; the last failure is raised as it is.

    An embedder asks by raising `RetryLater`, or whatever has a ``status_code`` of 429, 503 or 529, as the errors of the
    usual clients of web services have.
    """
    with OptionalImport("ingestion", "tenacity", extra="ingest"):
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    grows = wait_random_exponential(multiplier=1, max=LONGEST)

    def wait(state: RetryCallState) -> float:
        after = _after(_asking(_error(state)))
        return grows(state) if after is None else after

    def tell(state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0
        _log.warning("%s; the embedder is asked again in %.0f s", _asking(_error(state)), seconds)

    retrying = Retrying(
        retry=retry_if_exception(lambda error: _asking(error) is not None),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait,
        before_sleep=tell,
        reraise=True,
    )
    return retrying(call)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asking(error: BaseException | None) -> BaseException | None:
    """Return the error by which an embedder asks to be called again; None where it does not."""
    if isinstance(error, RetryLater):
        return error
    cause = error.__cause__ if isinstance(error, EmbedderFailed) else None
    return cause if getattr(cause, "status_code", None) in _BUSY else None


def _after(error: Any) -> float | None:
    """Return how many seconds to wait, as the error says; None where it does not."""
    if isinstance(error, RetryLater):
        return error.after
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, TypeError, ValueError):  # it may be a date
        return None
