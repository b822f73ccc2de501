"""Make a generation: empty, or complete under its name once it is filled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reperio import layout
from reperio.embedding.contract import Settings
from reperio.printable import logger
from reperio.store import Entry, Store

_log = logger("reperio.collection")


def create(root: Path, settings: Settings, first: Entry | None = None) -> None:
    """Create an empty collection: complete under its name, or not there at all.

    Args:
        root: the directory.
        settings: of the collection.
        first: a record that it has from the beginning.

    Raises:
        CollectionExists: another process created something there in the meantime.
        InvalidInput: it is inside a collection, or inside shards.
    """
    layout.require_outside(root, "for the collection")
    with layout.new_directory(root) as fresh:
        paths = layout.Generation(fresh / layout.FIRST_GENERATION, settings.dtype)
        lay_out(paths, settings)
        if first is not None:
            store = Store(paths, settings.dimension, read_only=False)
            try:
                store.take_over([], first)
            finally:
                store.close()
        name_current(fresh, paths)
    _log.info("%s: created: %s, %d dimensions, %s", root, settings.metric.value, settings.dimension, settings.dtype)


@contextmanager
def unnamed(target: layout.Generation, settings: Settings) -> Iterator[layout.Generation]:
    """Yield an empty generation to be filled, which gets the name of *target*, durably, when that is done, or goes."""
    scratch = layout.Generation(target.root.with_name(target.name + ".new"), settings.dtype)
    shutil.rmtree(scratch.root, ignore_errors=True)
    with layout.storage_errors(scratch.root, "create"):
        layout.make_directory(scratch.root)
    made = layout.Opened(scratch.root)
    try:
        lay_out(scratch, settings)
        yield scratch
        made.require()  # another collection at the path may have such a directory, too
        with layout.storage_errors(target.root, "write"):
            layout.sync_directory(scratch.index)
            layout.sync_directory(scratch.root)
            scratch.root.rename(target.root)
            layout.sync_directory(target.root.parent)
    except BaseException:
        if made.is_in_place():
            shutil.rmtree(scratch.root, ignore_errors=True)
        raise
    finally:
        made.close()


def lay_out(paths: layout.Generation, settings: Settings) -> None:
    """Make the files of an empty generation, durably, in its directory, which is empty or not there."""
    with layout.storage_errors(paths.root, "create"):
        layout.make_directory(paths.root, exist_ok=True)
    layout.write_settings(paths.settings, settings.to_json())
    Store.create(paths, settings.lexical)
    with layout.storage_errors(paths.root, "create"):
        layout.sync_directory(paths.root)


def name_current(root: Path, paths: layout.Generation) -> None:
    """Make a generation whose files are all written the one in use."""
    with layout.storage_errors(root, "create"):
        layout.sync_directory(paths.index)
        layout.sync_directory(paths.root)
    layout.Layout(root).write_current(paths)
