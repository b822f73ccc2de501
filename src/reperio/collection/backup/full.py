"""Copy one commit as a collection of its own."""

from __future__ import annotations

import errno
from pathlib import Path

from reperio import index, layout, store
from reperio.collection.generation.creating import name_current
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.upkeep import checking
from reperio.errors import CollectionDamaged, StorageFailed
from reperio.printable import logger
from reperio.store import Session

_log = logger("reperio.collection")


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
        layout.make_directory(paths.root)
    store.copy(session, generation.store.map(session.state.rows), paths)
    layout.write_settings(paths.settings, generation.settled().to_json())
    if generation.trust_index:
        _copy_index(generation, session, paths)
    else:
        store.forget_snapshot(paths.database)
    index.copy_kept(generation.paths.index, paths.index)
    name_current(fresh, paths)


def _copy_index(generation: OpenGeneration, session: Session, target: layout.Generation) -> None:
    """Copy the index in use; without it, the backup's first writer builds it."""
    found = session.snapshot()
    for name in index.files_of(found.name, found.description) if found is not None else ():  # "exact" has no file
        try:
            layout.copy_regular(generation.paths.index / name, target.index / name)
        except StorageFailed as error:
            if error.errno != errno.ENOENT:  # a writer replaced the index meanwhile
                raise
