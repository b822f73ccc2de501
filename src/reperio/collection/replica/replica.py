"""Take over what others have committed at an origin, and commit there what is written here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from reperio import layout
from reperio.collection.generation.creating import unnamed
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.replica.content import require_chunks, require_records, settings_of
from reperio.collection.replica.held import Held, held_by
from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, OriginDiverged, OriginNotFound, OriginUnavailable
from reperio.origins import Address, Change, Origin, OriginState, Position, Pulled, connect
from reperio.printable import logger
from reperio.store import Elsewhere, NewChunk, Replacement
from reperio.types import Progress

_log = logger("reperio.origin")


class Pulling(NamedTuple):
    """An origin, and how it is taken over when a collection is opened.

    Attributes:
        address: of the origin.
        progress: called per block.
        reset: give up what the origin does not have.
    """

    address: Address
    progress: Progress | None = None
    reset: bool = False


class Replica:
    """The way from one directory to its origin. For the threads of one handle.

    Args:
        pulling: the origin.
        timeout: seconds for each answer of the server.

    Attributes:
        latest: what the origin has last said of itself; None before the first answer.
        heard: when that was, by `time.monotonic`.
        trouble: why it could not be asked since, in words; empty when it could.
    """

    def __init__(self, pulling: Pulling, *, timeout: float) -> None:
        self.pulling, self._timeout = pulling, timeout
        self.origin: Origin = connect(pulling.address, timeout=timeout)
        self._asking = threading.RLock()
        self.latest: OriginState | None = None
        self.heard = 0.0
        self.trouble = ""

    @property
    def where(self) -> str:
        """The address of the origin, without its password."""
        return self.origin.where

    def another(self) -> Origin:
        """Return a connection of its own to the origin, for a thread that waits for news."""
        return connect(self.pulling.address, timeout=self._timeout)

    def ask(self) -> OriginState:
        """Ask the origin for its newest state."""
        with self._asking:
            try:
                state = self.origin.state()
            except OriginUnavailable as error:
                self.trouble = str(error)
                raise
            self.latest, self.heard, self.trouble = state, time.monotonic(), ""
            if state.settings.get("filling"):
                raise OriginNotFound(
                    f"{self.where} is being made of a collection and is not complete; wait, or, where that was "
                    "interrupted, run it again: reperio origin create URL KB"
                )
            return state

    def catch_up(self, generation: OpenGeneration, progress: Progress | None = None, *, reset: bool = False) -> None:
        """Take over what others have committed since, inside a turn.

        Args:
            generation: where to.
            progress: called per block.
            reset: take over everything, and give up what the origin does not have.

        Raises:
            NewGeneration: everything was embedded again: a new generation is needed, and was not made.
            OriginUnavailable, OriginRefused, OriginNotFound, OriginDiverged: nothing was changed.
        """
        position = self.ask().position
        if reset:
            held = Held(Position(position.origin, 0, ""), self.where, complete=True, committed=0.0)
        else:
            held = self.require_held(generation)
        if position == held.position and held.complete:
            return
        with self._asking, self.origin.changes(held.position) as pulled:
            self._require_settings(generation, pulled, reset=reset)
            _apply(generation, held, pulled, progress)
            self.latest, self.heard = pulled.state, time.monotonic()
            _log.info("%s: at commit %d of %s", generation.paths.root, pulled.state.position.number, self.where)

    def put_again(self, old: OpenGeneration, target: layout.Generation) -> None:
        """Make one commit at the origin that replaces every chunk by what a new generation has, inside a turn.

        Raises:
            Outdated: others have committed since `catch_up`; nothing was changed.
        """
        settings = Settings.read(target.settings)
        fresh = OpenGeneration(target, settings, read_only=False)
        try:
            with fresh.store.session() as session:
                matrix = fresh.matrix_of(session)
                chunks = [NewChunk(*one[1:4]) for block in session.scan_all() for one in block]
            change = Change(chunks, matrix, replaced=[chunk.id for chunk in chunks], settings=settings.to_json())
            fresh.store.note(self.elsewhere(old, change))
        finally:
            fresh.close()

    def clone(
        self,
        old: OpenGeneration,
        target: layout.Generation,
        build: Callable[[OpenGeneration, OpenGeneration, Progress | None], None],
        progress: Progress | None = None,
    ) -> None:
        """Make a new generation of all that the origin has, inside a turn; complete there when this returns.

        Args:
            old: the generation in use.
            target: the new one.
            build: builds an index like that of the old one for the new one.
            progress: called per block.
        """
        start = Position((self.latest or self.ask()).position.origin, 0, "")
        with self._asking, self.origin.changes(start) as pulled:
            settings = settings_of(pulled.state.settings, self.where)
            with unnamed(target, settings) as scratch:
                fresh = OpenGeneration(scratch, settings, read_only=False)
                try:
                    _apply(fresh, Held(start, self.where, complete=False, committed=0.0), pulled, progress)
                    build(old, fresh, progress)
                finally:
                    fresh.close()

    def elsewhere(self, generation: OpenGeneration, change: Change) -> Elsewhere:
        """Return what makes a change at the origin before it is made here; inside a turn, after `catch_up`."""
        held = self.require_held(generation)
        settings = generation.settled()
        unknown = self.latest is not None and self.latest.settings.get("embedding") is None
        if change.settings is None and settings.contract is not None and unknown:
            change = replace(change, settings=settings.to_json())  # of the first embedder
        to = held.position.next()
        entry = held._replace(position=to, where=self.where, committed=time.time()).to_entry()
        return Elsewhere(entry, partial(self._append, change, held.position, to))

    def require_held(self, generation: OpenGeneration) -> Held:
        """Return what the directory has of the origin; refuse one that has none of it, but chunks of its own."""
        with generation.store.session() as session:
            held, rows = held_by(session), session.state.rows
        if held is None:
            if rows:
                raise OriginDiverged(
                    f"{generation.paths.root.parent} has chunks that were not written through {self.where}; take an "
                    "empty directory for the replica, make an origin of this one (reperio origin create URL KB), or "
                    "give these chunks up: reperio pull KB --origin URL --reset"
                )
            state = self.latest or self.ask()
            held = Held(Position(state.position.origin, 0, ""), self.where, complete=False, committed=0.0)
        return held

    def close(self) -> None:
        """End the connection."""
        with self._asking:
            self.origin.close()

    def in_child(self) -> Replica:
        """Return a replica for a forked child, which leaves the connection to its parent."""
        self.origin.abandon()
        return Replica(self.pulling, timeout=self._timeout)

    def _append(self, change: Change, after: Position, to: Position) -> None:
        with self._asking:
            try:
                self.origin.append(change, after, to)
            except OriginUnavailable as error:
                self.trouble = str(error)
                raise

    def _require_settings(self, generation: OpenGeneration, pulled: Pulled, *, reset: bool) -> None:
        told = settings_of(pulled.state.settings, self.where)
        ours = generation.settled()
        if (told.metric, told.dtype, told.lexical) != (ours.metric, ours.dtype, ours.lexical):
            if reset:
                raise NewGeneration
            raise OriginDiverged(
                f"{generation.paths.root.parent} and {self.where} differ in metric, dtype or lexical; clone the origin "
                "into another directory"
            )
        if ours.contract is None and told.contract is not None and told.dimension == ours.dimension:
            generation.keep_contract(told.contract)  # before the chunks of that embedder
        elif told.to_json() != ours.to_json():
            raise NewGeneration


class NewGeneration(Exception):
    """The origin has every chunk embedded by another model."""


def require_complete(held: Held | None, where: str) -> None:
    """Refuse to use a replica that has not all of a state yet, without its origin."""
    if held is not None and not held.complete:
        raise CollectionDamaged(
            f"{where} is being cloned from {held.where}, and that is not finished; finish it: reperio pull {where} "
            "--origin URL, or reperio.open(path, origin=…)"
        )


def _apply(generation: OpenGeneration, held: Held, pulled: Pulled, progress: Progress | None) -> None:
    """Take over all changes: of a replica that is read, in one transaction; of one being cloned, block by block."""
    store, state = generation.store, pulled.state
    reached = Held(state.position, held.where, complete=True, committed=state.committed)
    if held.complete:
        everything = held.position.number == 0
        store.take_over(_replacements(pulled, held.where, progress), reached.to_entry(), instead=everything)
        return
    for one, number in _steps(pulled, held.where, progress):
        position = held.position
        if number - 1 > position.number:  # of the last commit there may be more in the next block
            position = Position(state.position.origin, number - 1, pulled.token_of(number - 1))
        held = held._replace(position=position)
        store.take_over([one], held.to_entry())
    store.take_over([], reached.to_entry())


def _replacements(pulled: Pulled, where: str, progress: Progress | None) -> Iterator[Replacement]:
    return (one for one, _ in _steps(pulled, where, progress))


def _steps(pulled: Pulled, where: str, progress: Progress | None) -> Iterator[tuple[Replacement, int]]:
    """Yield what is to be replaced, and the number of the commit that the last of it came in."""
    for ids in pulled.deleted():
        yield Replacement(deleted=ids), 0
    for names in pulled.forgotten():
        yield Replacement(forgotten=names), 0
    for records in pulled.records():
        require_records(records, where)
        yield Replacement(records=records), 0
    done = 0
    for chunks, vectors, number in pulled.blocks():
        require_chunks(chunks, vectors, where)
        yield Replacement(chunks, vectors), number
        done += len(chunks)
        if progress is not None:
            progress("pull", done, pulled.chunks)
