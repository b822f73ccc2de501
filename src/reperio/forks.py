"""Compute in a forked child, which inherits the state of its parent's threads but not the threads.

A fork copies the thread that calls it and no other. OpenMP (GNU's, in PyTorch and FAISS) keeps its pool per calling
thread: in the child that one thread still has a pool whose members are gone, and waits for them for ever at its next
parallel region. With one thread there is no such region. Threads that the child starts get pools of their own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

_FORKED_WITHOUT_EXEC = 0x40  # PF_FORKNOEXEC of Linux, in the flags of /proc/self/stat


class Renewable(Protocol):
    """Know of threads, and forget them in a forked child, which does not have them."""

    def renew(self) -> None:
        """Be as new: called in the child."""


def renew_in_children(what: Renewable) -> None:
    """Have something renewed in every child that is forked, as long as anybody refers to it."""
    _RENEWED.add(what)


class ForkSafeLock:
    """A lock that a forked child finds open, whoever held it in the parent."""

    __slots__ = ("__weakref__", "_kind", "_lock")

    def __init__(self, kind: Callable[[], Any] = threading.Lock) -> None:
        self._kind = kind  # or threading.RLock
        self._lock = kind()
        renew_in_children(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *failure: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget who held it: a thread that the child does not have."""
        self._lock = self._kind()


def in_child() -> bool:
    """Say whether this process was forked by one that may have computed with threads."""
    return _survivor is not None


def spare_torch() -> None:
    """Let PyTorch compute with one thread in the thread that outlived a fork; call it before a model is used."""
    if _survivor is None or threading.get_ident() != _survivor:
        return
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


def _inherited() -> int | None:
    """Find the thread that outlived a fork that came before this import: the parent may have used another library."""
    if not {"torch", "faiss"} & sys.modules.keys():
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The name of the command, which stands in brackets, may hold spaces and brackets itself.
        flags = int(Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[6])
        if flags & _FORKED_WITHOUT_EXEC:
            return threading.main_thread().ident
    return None


def _forked() -> None:
    global _survivor
    _survivor = threading.get_ident()
    for each in list(_RENEWED):
        each.renew()


_RENEWED: weakref.WeakSet[Renewable] = weakref.WeakSet()
_survivor = _inherited()
os.register_at_fork(after_in_child=_forked)
