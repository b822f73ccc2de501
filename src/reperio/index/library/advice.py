"""Tell the kernel how memory will be used, without keeping other threads waiting."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from functools import cache
from typing import Any

# Asked for at once, in bytes: of more, Linux reads no more than the device takes in one request.
_MOST_BYTES = max(1 << 17, mmap.PAGESIZE)
_WILL_NEED = getattr(mmap, "MADV_WILLNEED", None)


@cache
def madvise() -> Any | None:
    """Return `madvise` of the system, None where there is none; that of `mmap` keeps Python's lock while it runs."""
    advise = getattr(ctypes.CDLL(None), "madvise", None) if os.name == "posix" else None
    if advise is not None:
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        advise.restype = ctypes.c_int
    return advise


def will_need(starts: Iterable[int], size: int) -> None:
    """Ask for the pages of pieces of mapped files.

    Does not wait for them. It is a hint: what the system refuses is not done.

    Args:
        starts: addresses of the pieces.
        size: bytes of each.
    """
    advise = madvise()
    if advise is None or _WILL_NEED is None:
        return
    for start in starts:
        for low in range(start - start % mmap.PAGESIZE, start + size, _MOST_BYTES):
            advise(low, min(_MOST_BYTES, start + size - low), _WILL_NEED)
