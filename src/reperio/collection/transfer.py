"""Whole collections on the move: created, backed up, written anew without what was deleted."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from reperio import index, layout, store
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.upkeep import checking
from reperio.collection.upkeep.maintainer import build_index, cores, like
from reperio.embedding.contract import Contract, Settings, embed
from reperio.errors import CollectionDamaged, IndexBuildFailed, InvalidInput, StorageFailed
from reperio.printable import logger
from reperio.store import NewChunk, Session, Store, StoredChunk, require_intact
from reperio.types import Embedder, Progress
from reperio.vectors import StoredMatrix, to_stored

_log = logger("reperio.collection")


def create(root: Path, settings: Settings) -> None:
    """Create an empty collection: complete under its name, or not there at all.

    Raises:
        CollectionExists: another process created something there in the meantime.

    """
    with layout.new_directory(root) as fresh:
        paths = layout.Generation(fresh / layout.FIRST_GENERATION, settings.dtype)
        lay_out(paths, settings)
        name_current(fresh, paths)
    _log.info("%s: created: %s, %d dimensions, %s", root, settings.metric.value, settings.dimension, settings.dtype)


def backup(generation: OpenGeneration, session: Session, destination: Path) -> None:
    """Write a copy of the session's commit; it opens like any collection.

    Raises:
        CollectionExists: the destination is not empty.
        CollectionDamaged: something is not what was stored.

    """
    layout.require_vacant(destination, "for the backup")
    require_whole(generation, session)
    with layout.new_directory(destination) as fresh:
        write_copy(generation, session, fresh)
    _log.info("%s: %d chunks backed up in %s", generation.paths.root, session.state.live, destination)


def require_whole(generation: OpenGeneration, session: Session) -> None:
    """Refuse to back up what would not restore: older backups may be removed for it.

    All is verified that `restore` verifies but the index, which a restored collection can do without.

    Raises:
        CollectionDamaged: something is not what was stored.

    """
    problems = checking.check(generation, session, with_index=False).problems
    if problems:
        more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
        raise CollectionDamaged(
            f"{generation.paths.root} is not backed up, as it would not restore: {problems[0]}{more}. What is whole is "
            "kept by check(fix=True) or reperio doctor --mend; backups from before are as they were"
        )


def write_copy(generation: OpenGeneration, session: Session, fresh: Path) -> None:
    """Write the session's commit as a collection into an empty directory, durably.

    An index that is not trusted is not copied, and forgotten with what it was chosen for.
    """
    paths = layout.Generation(fresh / layout.FIRST_GENERATION, generation.settings.dtype)
    with layout.storage_errors(fresh, "write"):
        paths.root.mkdir()
    store.copy(session, generation.store.map(session.state.rows), paths)
    layout.write_settings(paths.settings, generation.settled().to_json())
    if generation.trust_index:
        _copy_index(generation, session, paths)
    else:
        store.forget_snapshot(paths.database)
    index.copy_kept(generation.paths.index, paths.index)
    name_current(fresh, paths)


def rewrite(
    old: OpenGeneration, target: layout.Generation, *, embedder: Embedder | None, progress: Progress | None
) -> None:
    """Write the live chunks into a new generation, rows renumbered densely, with the records and a like index.

    Args:
        old: the writer's generation; nothing may be written to it meanwhile.
        target: the new paths; complete there when this returns, in use once CURRENT names it.
        embedder: embeds every text again and becomes the contract; None keeps the vectors.
        progress: called per block.

    """
    settings = old.settled()
    if embedder is not None:
        settings = replace(settings, dimension=embedder.dimension, contract=Contract.of(embedder))
    # The target is there when an attempt before was cut short after its rename, and CURRENT does not name it.
    shutil.rmtree(target.root, ignore_errors=True)
    with unnamed(target, settings) as scratch:
        fresh = OpenGeneration(scratch, settings, read_only=False)
        try:
            _copy_live(old, fresh.store, embedder, progress)
            with old.store.session() as session:
                fresh.store.take_records(session)
            if embedder is None:  # the queries of another model would say nothing about the new vectors
                index.copy_kept(old.paths.index, fresh.paths.index)
            _build_alike(old, fresh, progress)
        finally:
            fresh.close()


@contextmanager
def unnamed(target: layout.Generation, settings: Settings) -> Iterator[layout.Generation]:
    """Yield an empty generation to be filled, which gets the name of *target*, durably, when that is done, or goes."""
    scratch = layout.Generation(target.root.with_name(target.name + ".new"), settings.dtype)
    shutil.rmtree(scratch.root, ignore_errors=True)
    with layout.storage_errors(scratch.root, "create"):
        scratch.root.mkdir()
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
        paths.root.mkdir(exist_ok=True)
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


def _copy_index(generation: OpenGeneration, session: Session, target: layout.Generation) -> None:
    """Copy the index in use; without it, the backup's first writer builds it."""
    found = session.snapshot()
    name = index.file_of(found.name) if found is not None else None  # "exact" has no file
    if name is not None:
        try:
            layout.copy_regular(generation.paths.index / name, target.index / name)
        except StorageFailed as error:
            if error.errno != errno.ENOENT:  # a writer replaced the index meanwhile
                raise


def _copy_live(old: OpenGeneration, fresh: Store, embedder: Embedder | None, progress: Progress | None) -> None:
    done = 0
    with old.store.session() as session:
        matrix = old.store.map(session.state.rows)
        for block in session.scan_all():
            require_intact(block, matrix, old.paths.root)
            chunks = [NewChunk(chunk.id, chunk.text, chunk.metadata) for chunk in block]
            vectors = _vectors(block, matrix, embedder, old.settings)
            fresh.put(chunks, vectors, [])
            done += len(block)
            if progress is not None:
                progress("copy" if embedder is None else "reembed", done, session.state.live)


def _vectors(
    block: list[StoredChunk], matrix: StoredMatrix, embedder: Embedder | None, settings: Settings
) -> StoredMatrix:
    if embedder is None:
        return matrix.take(np.array([chunk.row for chunk in block]), axis=0)
    empty = next((chunk.id for chunk in block if not chunk.text.strip()), None)
    if empty is not None:
        raise InvalidInput(f"chunk {empty!r} has no text to embed; delete it or give it text, then try again")
    made = embed(embedder, [chunk.text for chunk in block], settings.metric, queries=False)
    return to_stored(made, settings.dtype, what=f"vectors from {embedder.name}")


def _build_alike(old: OpenGeneration, fresh: OpenGeneration, progress: Progress | None) -> None:
    record = old.record()
    if record is None:
        return
    try:
        build_index(fresh, like(record), writing=threading.RLock(), workers=cores(), progress=progress)
    except IndexBuildFailed as error:
        # An index asked for when there were more rows; what was compacted is worth more than how it is searched.
        _log.warning("the compacted collection is searched exactly for now: %s", error)
