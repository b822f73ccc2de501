"""Write what is whole of a damaged generation into a new one, list what is not, and keep the damaged files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from reperio import index, layout
from reperio.collection.generation.creating import unnamed
from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged
from reperio.printable import logger
from reperio.store import Lost, NewChunk, Store, Wreck
from reperio.types import Progress

_log = logger("reperio.collection")


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
