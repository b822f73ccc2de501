"""Write what is whole of a damaged generation into a new one, list what is not, and keep the damaged files.

The one way to mend chunks: `Collection.check(fix=True)`, `reperio.diagnose(mend=True)` and `reperio.restore(mend=True)`
all come here.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from reperio import index, layout
from reperio.collection.generation.creating import unnamed
from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged
from reperio.printable import logger
from reperio.store import DamagedStore, Lost, NewChunk, Store, supersede
from reperio.types import Progress

_log = logger("reperio.collection")


def report_losses(root: layout.Layout, old: layout.Generation, target: layout.Generation, lost: list[str]) -> None:
    """Write to the log what was mended, and a warning for each loss."""
    _log.info("%s: mended: %s keeps what is whole of %s, %d lost", root.root, target.name, old.name, len(lost))
    for line in lost:
        _log.warning("%s: lost: %s", root.root, line)


def replace_damaged(root: layout.Layout, progress: Progress | None = None, *, keep: bool = True) -> list[str]:
    """Put a new generation in use instead of a damaged one, in a collection that nobody has open.

    Args:
        root: the collection; its lock is held, or nobody else knows of it yet.
        progress: as in `salvage`.
        keep: keep the damaged files under a second name. False where they are a copy of a backup.

    Returns:
        A line per loss.

    Raises:
        CollectionDamaged, StorageFailed: as for `salvage`; the damaged generation stays in use.
    """
    old = root.read_current()
    settings = Settings.read(old.settings)
    old, target = replace(old, dtype=settings.dtype), root.next_generation()
    lost = salvage(old, settings, target, progress)
    if keep:
        put_aside(old)
        report_losses(root, old, target, lost)
    root.write_current(target)
    supersede(old)
    root.retire(old)
    return lost


def salvage(
    paths: layout.Generation, settings: Settings, target: layout.Generation, progress: Progress | None = None
) -> list[str]:
    """Write what is whole of a generation into a new one, which no CURRENT names yet; return a line per loss.

    Args:
        paths: the damaged generation, with its dtype; it is only read.
        settings: settings of the collection.
        target: the new one. Files that an interrupted rewriting left there are put aside.
        progress: called as ``progress("mend", chunks kept, rows looked at)``.

    Raises:
        CollectionDamaged: no chunk can be read. An empty collection must not replace one that may still be recovered
            by other means.
        StorageFailed: nothing is left at the target.
    """
    if layout.is_directory(target.root):
        put_aside(target)
        shutil.rmtree(target.root, ignore_errors=True)
    damaged = DamagedStore(paths, settings.dimension)
    try:
        with unnamed(target, settings) as scratch:
            fresh = Store(scratch, settings.dimension, read_only=False)
            try:
                lost = _copy_whole(damaged, fresh, progress)
            finally:
                fresh.close()
            index.copy_kept(paths.index, scratch.index)  # the user's queries, of which there may be no other copy
    finally:
        damaged.close()
    return lost


def _copy_whole(damaged: DamagedStore, fresh: Store, progress: Progress | None) -> list[str]:
    done = 0
    for chunks, vectors in damaged.whole():
        # A damaged page can bring back a row that was replaced, so an id may occur twice. The later row is the newer.
        older = fresh.existing([chunk.id for chunk in chunks])
        newest = {chunk.id: position for position, chunk in enumerate(chunks)}
        places = sorted(newest.values())
        kept = [NewChunk(*chunks[place][1:4]) for place in places]
        fresh.put(kept, vectors[places], [one.row for one in older.values()])
        done += len(kept)
        if progress is not None:
            progress("mend", done, damaged.rows)
    if not done and (damaged.chunks or damaged.lost()):
        raise CollectionDamaged(f"{damaged.path}: no chunk of it can be read any more; restore from a backup")
    entries, unreadable = damaged.entries()
    lost: list[Lost] = damaged.lost()
    if lost:  # a replica that has lost chunks does not have the state of its origin any more
        entries = [entry for entry in entries if not entry.space.startswith("\0")]
    fresh.put_records(entries, max([damaged.clock(), *(entry.time for entry in entries)]))
    lines = [str(one) for one in lost]
    return [*lines, f"{unreadable} records of the ledger cannot be read"] if unreadable else lines


def put_aside(paths: layout.Generation) -> Path:
    """Give the files of a generation a second name, ``damaged-gen-…``, which nobody removes; return the directory.

    By hard links and not by a rename: the collection must have its old generation until CURRENT names the new one, and
    the next writer removes any generation that CURRENT does not name.
    """
    number = 0
    while layout.is_there(aside := paths.root.with_name(f"damaged-{paths.name}{f'-{number}' if number else ''}")):
        number += 1
    with layout.storage_errors(aside, "write"):
        layout.make_directory(aside)
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
