"""Follow CURRENT: the generation that is in use at the path of a collection."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from reperio import layout
from reperio.collection.generation.opened import OpenGeneration
from reperio.errors import CollectionClosed, CollectionDamaged, StorageFailed

Signature: TypeAlias = "tuple[int, int, int, int]"
"""The identity of a CURRENT file: device, inode, and when it was written and moved."""


class InUse:
    """The generation in use, as far as a handle has looked; `follow` looks again.

    Args:
        current: the file CURRENT, by the path as the user named it.
        open_generation: opens a generation.
        in_memory: the directory goes with the process that has made it.

    Attributes:
        generation: the one in use.
        kept: the one that a turn under way writes to, which stays open until it ends.
        keeps: called with a generation that another one has replaced, and with that one; True leaves it open.
    """

    def __init__(
        self, current: Path, open_generation: Callable[[layout.Generation], OpenGeneration], *, in_memory: bool
    ) -> None:
        self._current = current
        self._open = open_generation
        self._in_memory = in_memory
        self._following = threading.RLock()  # Ctrl-C at the end of a `with` may leave it held
        self.kept: OpenGeneration | None = None
        self.keeps: Callable[[OpenGeneration, OpenGeneration], bool] = lambda old, new: False  # noqa: ARG005  # by name
        self._signature, self.generation = self._opened(current)

    def follow(self, current: Path | None = None, *, taking: bool = False) -> OpenGeneration:
        """Return the generation that a CURRENT names, and use it from now on.

        Another one is in use after another process, or a `replace` here that was interrupted (Ctrl-C, a failing sync)
        when CURRENT was replaced already. Writing to the old one would lose it.

        Args:
            current: the file, in a turn in the directory that is locked; None for the path as the user named it.
            taking: keep it open until the turn ends, whatever other threads find at the path meanwhile.
        """
        current = current or self._current
        if taking or self._read_signature(current) != self._signature:
            with self._following:
                if self._read_signature(current) != self._signature:
                    old = self.generation
                    self._signature, self.generation = self._opened(current)
                    if old is not self.kept and not self.keeps(old, self.generation):
                        old.close()
                if taking:
                    self.kept = self.generation
                return self.generation
        return self.generation

    def require_there(self) -> None:
        """Raise where nothing is at the path any more, or no collection."""
        self._read_signature(self._current)

    def open_again(self) -> None:
        """Open everything again, in a forked child."""
        self._following, self.kept = threading.RLock(), None
        self._signature, self.generation = self._opened(self._current)

    def _opened(self, current: Path) -> tuple[Signature, OpenGeneration]:
        """Open the generation that CURRENT names, and read CURRENT again if it changed meanwhile.

        Without links: a link that is switched later leads none of its paths into another collection.
        """
        while True:
            signature = self._read_signature(current)
            try:
                generation = self._open(layout.Layout(Path(os.path.realpath(current.parent))).read_current())
            except (CollectionDamaged, CollectionClosed, StorageFailed):
                if self._read_signature(current) == signature:
                    raise
                continue
            if self._read_signature(current) == signature:
                return signature, generation
            generation.close()

    def _read_signature(self, current: Path) -> Signature:
        try:
            status = current.stat()
        except FileNotFoundError:
            if not current.parent.exists():
                if self._in_memory:
                    raise CollectionClosed(
                        f"{layout.IN_MEMORY} is gone: the process that had made it has closed it, or has ended"
                    ) from None
                raise CollectionClosed(
                    f"{current.parent} was moved or removed; nothing was written. Put it back, or close this handle "
                    "and open the collection again"
                ) from None
            # A directory that was not there a moment ago may have come back since, by a restore: it is looked at again.
            if not layout.is_there(current):
                raise CollectionDamaged(f"{current} is missing; restore from a backup") from None
            return self._read_signature(current)
        except OSError as error:
            raise layout.storage_failure(error, current, "look at") from error
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
