"""Make the methods of a collection awaitable, each in a thread, so that none stops an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial, wraps
from typing import Any, TypeVar

from typing_extensions import ParamSpec

P = ParamSpec("P")
Result = TypeVar("Result")

_WRITES = 8  # at once; they take turns in any case


def twin(method: Callable[P, Result], *, writes: bool = False) -> Callable[P, Coroutine[Any, Any, Result]]:
    """Return the twin of a method that is to be awaited: same arguments, same result, same errors.

    It runs in a thread, with the context of the caller. A search keeps that thread for a fraction of a millisecond, and
    lets go of Python's lock where FAISS and SQLite work. Cancelling the await leaves the call to its end: what it
    stores is stored.

    Args:
        method: of a collection.
        writes: it may wait for the turn of another process. Such calls have threads of their own: in those of the loop
            a few of them would keep all searches waiting.
    """

    @wraps(method)
    async def awaited(*args: P.args, **kwargs: P.kwargs) -> Result:
        call = partial(contextvars.copy_context().run, method, *args, **kwargs)
        threads = _writers(os.getpid()) if writes else None
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    awaited.__name__ = f"a{method.__name__}"
    awaited.__qualname__ = f"Collection.a{method.__name__}"
    awaited.__doc__ = f"Await `{method.__name__}`, which runs in a thread meanwhile: same arguments, result and errors."
    return awaited


@cache
def _writers(process: int) -> ThreadPoolExecutor:
    """Return the threads for writing; a forked child has none of its parent's."""
    return ThreadPoolExecutor(_WRITES, thread_name_prefix=f"reperio-write-{process}")
