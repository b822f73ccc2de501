"""Mending: what is whole goes into a new generation, what is not is listed, and the damaged files are kept."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reperio import index, layout
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.transfer import unnamed
from reperio.collection.upkeep import checking
from reperio.collection.upkeep.maintainer import BACKGROUND, Order, build_index, cores, like
from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, ReperioError
from reperio.printable import logger
from reperio.store import Lost, NewChunk, Store, Wreck
from reperio.types import CheckReport, Progress

if TYPE_CHECKING:
    from reperio.collection.handle.handle import Handle

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


def tell(root: layout.Layout, old: layout.Generation, target: layout.Generation, lost: list[str]) -> None:
    """Say in the log what was mended, and, as a warning each, what was lost."""
    _log.info("%s: mended: %s keeps what is whole of %s, %d lost", root.root, target.name, old.name, len(lost))
    for line in lost:
        _log.warning("%s: lost: %s", root.root, line)


def salvage(
    paths: layout.Generation, settings: Settings, target: layout.Generation, progress: Progress | None = None
) -> list[str]:
    """Write what is whole of a generation into a new one, which no CURRENT names yet; return a line per loss.

    Args:
        paths: the damaged generation, with its dtype; it is only read.
        settings: of the collection.
        target: the new one. What an interrupted rewriting has left there is put aside.
        progress: called as ``progress("mend", chunks kept, rows looked at)``.

    Raises:
        CollectionDamaged: no chunk can be read: an empty collection would take the place of one that a backup, or
            somebody with more patience, may still bring back.
        StorageFailed: nothing is left at the target.

    """
    if layout.is_directory(target.root):
        put_aside(target)
        shutil.rmtree(target.root, ignore_errors=True)
    wreck = Wreck(paths, settings.dimension)
    try:
        with unnamed(target, settings) as scratch:
            fresh = Store(scratch, settings.dimension, read_only=False)
            try:
                lost = _copy_whole(wreck, fresh, progress)
            finally:
                fresh.close()
            index.copy_kept(paths.index, scratch.index)  # the user's queries, of which there may be no other copy
    finally:
        wreck.close()
    return lost


def _copy_whole(wreck: Wreck, fresh: Store, progress: Progress | None) -> list[str]:
    done = 0
    for chunks, vectors in wreck.whole():
        # An id twice: a damaged page has brought back a row that was replaced; the later one is the newer.
        older = fresh.existing([chunk.id for chunk in chunks])
        newest = {chunk.id: position for position, chunk in enumerate(chunks)}
        places = sorted(newest.values())
        kept = [NewChunk(*chunks[place][1:4]) for place in places]
        fresh.put(kept, vectors[places], [one.row for one in older.values()])
        done += len(kept)
        if progress is not None:
            progress("mend", done, wreck.rows)
    if not done and (wreck.chunks or wreck.lost()):
        raise CollectionDamaged(f"{wreck.path}: no chunk of it can be read any more; restore from a backup")
    entries, unreadable = wreck.entries()
    fresh.put_records(entries, max([wreck.clock(), *(entry.time for entry in entries)]))
    lost: list[Lost] = wreck.lost()
    lines = [str(one) for one in lost]
    return [*lines, f"{unreadable} records of the ledger cannot be read"] if unreadable else lines


def put_aside(paths: layout.Generation) -> Path:
    """Give the files of a generation a second name, ``damaged-gen-…``, which nobody removes; return the directory.

    By hard links: the collection must not be without the old generation before CURRENT names the new one, and the old
    one is removed by whoever finds that CURRENT names another.
    """
    number = 0
    while layout.is_there(aside := paths.root.with_name(f"damaged-{paths.name}{f'-{number}' if number else ''}")):
        number += 1
    with layout.storage_errors(aside, "write"):
        aside.mkdir()
        for path in paths.root.iterdir():
            if layout.is_regular(path) and not path.name.endswith("-shm"):
                _second_name(path, aside / path.name)
        layout.sync_directory(aside)
        layout.sync_directory(aside.parent)
    return aside


def _second_name(path: Path, target: Path) -> None:
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        layout.copy_regular(path, target)
