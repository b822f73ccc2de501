"""Check a collection, and mend what can be mended."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace

from reperio import layout
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.handle import Handle
from reperio.collection.upkeep import checking
from reperio.collection.upkeep.maintainer import BACKGROUND, Order, build_index, cores, like
from reperio.collection.upkeep.salvaging import put_aside, salvage, tell
from reperio.errors import CollectionDamaged, ReperioError
from reperio.printable import logger
from reperio.types import CheckReport, Progress

_log = logger("reperio.collection")
_INDEX = "index: "


def mend(handle: Handle, progress: Progress | None) -> CheckReport:
    """Check a collection, mend what can be mended, and check it again.

    A bad index is built anew. Any other damage is answered with a new generation that holds every chunk whose checksum
    holds, with its vector, and all readable records; the old generation's files stay in the directory under the name
    ``damaged-gen-…``: they may be the only copy of what was lost.

    Args:
        handle: of the writer.
        progress: called as ``progress("mend", chunks kept, rows looked at)``.

    """
    handle.require_writable()
    with handle.building, handle.writing:
        handle.require_writable()
        handle.require_place()
        before = check_now(handle)
        if before.ok:
            return before
        if all(problem.startswith(_INDEX) for problem in before.problems):
            lost: list[str] = []
            _rebuild_index(handle.owned())
            handle.maintainer.forget()
            _log.info("%s: mended: its index is built anew", handle.root.root)
        else:
            lost = _replace(handle, progress)
        after = check_now(handle)
    return replace(after, mended=[line for line in before.problems if line not in after.problems], lost=lost)


def check_now(handle: Handle) -> CheckReport:
    """Check the generation in use."""
    try:
        generation, session = handle.session()
        with session:
            return checking.check(generation, session)
    except CollectionDamaged as error:
        return CheckReport([str(error)], 0)


def _order(generation: OpenGeneration) -> Order:
    """Return the order for an index like the one recorded, if that can be read."""
    try:
        return like(generation.record())
    except ReperioError:
        return BACKGROUND


def _had_index(generation: OpenGeneration) -> bool:
    """Say whether an index is recorded, or that searches are to be exact; where neither was, none is asked for."""
    try:
        return generation.record() is not None
    except ReperioError:
        return False


def _rebuild_index(generation: OpenGeneration) -> None:
    order = _order(generation)
    generation.forget_index()
    build_index(generation, order, writing=threading.RLock(), workers=cores())


def _replace(handle: Handle, progress: Progress | None) -> list[str]:
    old = handle.owned()
    order = _order(old) if _had_index(old) else None

    def write(target: layout.Generation) -> list[str]:
        lost = salvage(old.paths, old.settings, target, progress)
        put_aside(old.paths)
        return lost

    lost = handle.replace(old, write)
    tell(handle.root, old.paths, handle.generation.paths, lost)
    if order is not None:
        with contextlib.suppress(ReperioError):  # an index is disposable: without one, searches are exact
            build_index(handle.owned(), order, writing=handle.writing, workers=cores())
    handle.maintainer.forget()
    return lost
