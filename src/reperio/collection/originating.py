"""Make an origin of a collection, and bring a directory into step with one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from typing_extensions import Never

from reperio.arguments import refuse_unknown, require_flag, require_seconds, to_path
from reperio.collection import opening
from reperio.collection.facade import handle_of
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.replica.held import Held, held_by
from reperio.collection.replica.replica import Pulling
from reperio.errors import CollectionExists, InvalidInput, OriginDiverged
from reperio.layout import Layout
from reperio.origins import Change, Origin, OriginState, Position, connect, create, new_token
from reperio.store import Elsewhere, Entry, NewChunk, require_intact
from reperio.types import OriginInfo, Progress

Address = str | Callable[[], str]

_BLOCK = 1000  # chunks, or records, in a commit


def create_origin(
    origin: Address,
    collection: str | os.PathLike[str],
    *,
    reset: bool = False,
    timeout: float = 30.0,
    progress: Progress | None = None,
    **unknown: Never,
) -> OriginInfo:
    """Make an origin of a collection, which is a replica of it from then on.

    Its chunks and records are copied to the server; nobody can clone the origin before it is complete. Writes to the
    collection wait meanwhile. What was interrupted is begun again.

    Args:
        origin: ``postgresql://user@host/database?collection=name``, or ``redis://host:6379?collection=name``, or a
            function that returns such a URL.
        collection: the directory; an empty collection will do.
        reset: give up the origin that the collection has, e.g. because it is lost.
        timeout: seconds for each answer of the server.
        progress: called as ``progress("push", chunks copied, all)``.

    Raises:
        CollectionNotFound: there is no collection in the directory.
        CollectionExists: the server has an origin of that name.
        InvalidInput: the collection has an origin already, and *reset* is not given.
        OriginUnavailable, OriginRefused: the server cannot be used; the collection is as it was.
        InvalidChunk: the server cannot keep one of the chunks.
    """
    refuse_unknown(create_origin, unknown)
    require_flag("reset", reset)
    path = to_path("collection", collection)
    Layout(path.absolute()).require()
    with opening.open(path, auto_optimize=False) as opened:
        handle = handle_of(opened)
        with handle.maintaining(), handle.turn() as generation:
            with generation.store.session() as session:
                held, current = held_by(session), session.has_ledger()
            if not current:
                raise InvalidInput(
                    f"{path} has a format from before origins; bring it up to date: reperio compact {path}"
                )
            if held is not None and not (reset and held.complete):
                raise InvalidInput(
                    f"{path} is a replica of {held.where} already; where that is lost, pass reset=True, or --reset on "
                    "the command line"
                )
            settings = generation.settled().to_json()
            start = Position(new_token(), 0, new_token())
            server = create(origin, {**settings, "filling": True}, start, timeout=timeout)
            try:
                return _push(generation, server, start, settings, progress)
            except OriginDiverged:
                raise CollectionExists(
                    f"{server.where} is being made by another process, too; take another name, or clone that one when "
                    "it is complete"
                ) from None
            finally:
                server.close()


def pull(
    path: str | os.PathLike[str],
    origin: Address,
    *,
    reset: bool = False,
    timeout: float = 30.0,
    progress: Progress | None = None,
    **unknown: Never,
) -> OriginInfo:
    """Bring a directory into step with its origin; where there is no collection, clone it.

    A clone that is interrupted goes on where it was.

    Args:
        path: the directory.
        origin: as for `create_origin`.
        reset: give up what only the directory has: chunks of its own, commits that the origin has lost, or what
            belongs to another origin.
        timeout: seconds for each answer of the server.
        progress: called as ``progress("pull", chunks taken over, all)``.

    Raises:
        OriginUnavailable, OriginRefused, OriginNotFound: the origin cannot be used; the directory is as it was.
        OriginDiverged: directory and origin have what the other one lacks, and *reset* is not given.
    """
    refuse_unknown(pull, unknown)
    require_flag("reset", reset)
    pulling: Any = Pulling(origin, progress, reset)
    with opening.open(path, origin=pulling, follow=0, auto_optimize=False, lock_timeout=timeout) as opened:
        found = opened.info().origin
        assert found is not None  # it was opened with one
        return found


def origin_status(origin: Address, *, timeout: float = 30.0, **unknown: Never) -> OriginInfo:
    """Return what an origin is at.

    Args:
        origin: as for `create_origin`.
        timeout: seconds for its answer.

    Raises:
        OriginUnavailable, OriginRefused, OriginNotFound: it cannot be told.
    """
    refuse_unknown(origin_status, unknown)
    server = connect(origin, timeout=require_seconds("timeout", timeout))
    try:
        return to_info(server, server.state())
    finally:
        server.close()


def to_info(server: Origin, state: OriginState) -> OriginInfo:
    """Return what users are told of an origin that has just answered."""
    return OriginInfo(server.where, state.position.number, state.committed, state.position.number, 0.0, "")


def _push(
    generation: OpenGeneration, server: Origin, start: Position, settings: dict[str, Any], progress: Progress | None
) -> OriginInfo:
    """Copy all chunks and records to an empty origin; the last commit completes it, and makes this its replica."""
    store, at, done = generation.store, start, 0
    with store.session() as session:
        matrix = generation.matrix_of(session)
        records: list[Entry] = [entry for entry in session.entries() if not entry.space.startswith("\0")]
        for first in range(0, len(records), _BLOCK):
            at = _append(server, Change(records=records[first : first + _BLOCK]), at)
        for block in session.scan_all():
            require_intact(block, matrix, generation.paths.root)
            vectors = matrix.take(np.array([one.row for one in block]), axis=0)
            at = _append(server, Change([NewChunk(*one[1:4]) for one in block], vectors), at)
            done += len(block)
            if progress is not None:
                progress("push", done, session.state.live)
    last = at.next()
    held = Held(last, server.where, complete=True, committed=time.time())
    store.note(Elsewhere(held.to_entry(), lambda: server.append(Change(settings=settings), at, last)))
    state = server.state()
    return to_info(server, state)


def _append(server: Origin, change: Change, after: Position) -> Position:
    to = after.next()
    server.append(change, after, to)
    return to
