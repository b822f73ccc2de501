"""Make the methods of a collection awaitable, each in a thread, so that none stops an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

from typing_extensions import ParamSpec

P = ParamSpec("P")
Result = TypeVar("Result")


def twin(method: Callable[P, Result]) -> Callable[P, Coroutine[Any, Any, Result]]:
    """Return the twin of a method that is to be awaited: same arguments, same result, same errors.

    It runs in a thread of the loop's own, with the context of the caller. A search keeps that thread for a fraction of
    a millisecond, and lets go of Python's lock where FAISS and SQLite work. A commit may wait there for the turn of
    another process. Cancelling the await leaves the call to its end: what it stores is stored.
    """

    @wraps(method)
    async def awaited(*args: P.args, **kwargs: P.kwargs) -> Result:
        return await asyncio.to_thread(method, *args, **kwargs)

    awaited.__name__ = f"a{method.__name__}"
    awaited.__qualname__ = f"Collection.a{method.__name__}"
    awaited.__doc__ = f"Await `{method.__name__}`, which runs in a thread meanwhile: same arguments, result and errors."
    return awaited
