"""Check a collection through its handle, and mend what can be mended.

This is the way for a collection that can be opened. `reperio.recovery` is the way for a directory, whatever is wrong
with it; what both do is in `upkeep`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from reperio import layout
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.handle import Handle
from reperio.collection.upkeep import checking
from reperio.collection.upkeep.building import BACKGROUND, Order, build_index, cores, like
from reperio.collection.upkeep.salvaging import put_aside, report_losses, salvage
from reperio.errors import CollectionDamaged, ReperioError
from reperio.printable import logger
from reperio.types import CheckReport, Problem, Progress

_log = logger("reperio.collection")


def mend(handle: Handle, progress: Progress | None) -> CheckReport:
    """Check a collection, mend what can be mended, and check it again.

    An index that cannot be used is rebuilt. Any other damage leads to a new generation, which holds every chunk whose
    checksum holds, with its vector, and all readable records. The old generation's files stay in the directory under
    the name ``damaged-gen-…``: they may be the only copy of what was lost.

    Args:
        handle: the writer's.
        progress: called as ``progress("mend", chunks kept, rows looked at)``.
    """
    with handle.maintaining(), handle.turn() as generation:
        before = check_now(handle)
        if before.ok:
            return before
        if all(problem.kind == "index" for problem in before.problems):
            lost: list[str] = []
            _rebuild_index(handle, generation)
            _log.info("%s: mended: its index is rebuilt", handle.root.root)
        else:
            lost = _replace(handle, generation, progress)
        after = check_now(handle)
    return replace(after, mended=[problem for problem in before.problems if problem not in after.problems], lost=lost)


def check_now(handle: Handle) -> CheckReport:
    """Check the generation in use."""
    while True:
        generation = None
        try:
            generation, session = handle.session()
            with session:
                report = checking.check(generation, session)
        except CollectionDamaged as error:
            report = CheckReport([Problem.of(error)], 0)
        if report.ok or generation is None or handle.newer_than(generation) is None:
            return report
        # Another process has put another generation in use, and removed what was looked at.


def _rebuild_index(handle: Handle, generation: OpenGeneration) -> None:
    order = _order(generation) or BACKGROUND
    generation.forget_index()
    handle.publish(generation, build_index(generation, order, workers=cores()))


def _replace(handle: Handle, old: OpenGeneration, progress: Progress | None) -> list[str]:
    order = _order(old)

    def write(target: layout.Generation) -> list[str]:
        lost = salvage(old.paths, old.settings, target, progress)
        put_aside(old.paths)
        return lost

    lost = handle.replace(old, write)
    report_losses(handle.root, old.paths, handle.generation.paths, lost)
    if order is not None:
        # Without an index searches are slower, but right: what was salvaged is in use either way.
        with contextlib.suppress(ReperioError):
            handle.publish(handle.generation, build_index(handle.generation, order, workers=cores()))
    return lost


def _order(generation: OpenGeneration) -> Order | None:
    """Return the order for an index like the one in use, or for exact search if that was asked for.

    None where there was neither, or where what is stored about it cannot be read.
    """
    try:
        found = generation.description()
    except ReperioError:
        return None
    return None if found is None else like(found)
