"""Hold the generations of a shard: the one in use, and one of another model as long as others need it."""

from __future__ import annotations

import hashlib
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import orjson

from reperio.collection.generation.opened import OpenGeneration, View
from reperio.collection.handle.handle import REPLACED, Handle
from reperio.errors import CollectionClosed
from reperio.sharding.serving.messages import Spaces
from reperio.store import Session


@dataclass(frozen=True, slots=True)
class Held:
    """A generation, and what a router needs to know of it.

    Attributes:
        generation: its files.
        space: key of its vector space.
        token: tells it from every other generation that this directory may ever have.
        settings: as `Settings.to_json` writes them.
    """

    generation: OpenGeneration
    space: str
    token: str
    settings: dict[str, Any]


class Generations:
    """The generations that a shard can answer from.

    A generation of the same model simply takes the place of the one before. One of another model does not: as long as
    other shards have not been embedded again, questions come with vectors of the old model. So the old generation stays
    open, though its files are gone, until routers release it. Likewise where the whole directory is gone, since the
    shard was split or merged: until all routers know of the new shards, it answers as it was.

    Args:
        handle: of the collection, for reading.
        threads: that search at a time: each needs a connection, and none can be opened to files that are gone.
    """

    def __init__(self, handle: Handle, threads: int) -> None:
        self._handle = handle
        self._threads = threads
        self._lock = threading.RLock()
        self._known: dict[int, Held] = {}
        self._kept: list[Held] = []
        self._is_gone = False
        handle.keep_replaced(self._keeps)
        self.newest()

    def newest(self) -> Held:
        """Return the generation that CURRENT names, or the last that it named."""
        return self._held(self._current())

    def begin(self, spaces: Spaces | None = None) -> tuple[Held, Session, View] | None:
        """Begin a session in a generation of one of these spaces, or of any for None; None where there is none.

        The caller ends it (``with session:``).
        """
        held = self.newest()
        if spaces is not None and held.space not in spaces:
            with self._lock:
                kept = next((one for one in self._kept if one.space in spaces), None)
            return None if kept is None else self._begun(kept)
        try:
            return held, *held.generation.begin()
        except REPLACED:  # while it was begun
            if self._current() is held.generation:
                raise
            return self.begin(spaces)

    def begin_newest(self) -> tuple[Held, Session, View]:
        """Begin a session in the newest generation, whatever its space."""
        begun = self.begin()
        assert begun is not None  # there is always one
        return begun

    def begin_at(self, token: str) -> tuple[Held, Session, View] | None:
        """Begin a session in one very generation; None where it is no longer held."""
        held = self.newest()
        if held.token != token:
            with self._lock:
                kept = next((one for one in self._kept if one.token == token), None)
            if kept is None:
                return None
            held = kept
        return self._begun(held)

    def _begun(self, held: Held) -> tuple[Held, Session, View] | None:
        """Begin a session in a generation; None where it was released, or replaced, while it was begun."""
        try:
            return held, *held.generation.begin()
        except REPLACED:
            with self._lock:
                if held in self._kept:
                    raise
            if self._current() is held.generation:
                raise
            return None

    def all(self) -> list[Held]:
        """Return all that can be answered from, the newest first."""
        newest = self._held(self._current(), look=not self._is_gone)
        with self._lock:
            return [newest, *reversed(self._kept)]

    def release(self, spaces: Spaces) -> None:
        """Close what is kept of other spaces than these: no router asks for it any more."""
        with self._lock:
            going = [one for one in self._kept if one.space not in spaces]
            self._kept = [one for one in self._kept if one.space in spaces]
        for one in going:
            one.generation.close()

    def close(self) -> None:
        """Close what is kept."""
        self.release(frozenset())

    def _current(self) -> OpenGeneration:
        """Return the generation in use; the last one where the directory is gone."""
        try:
            generation = self._handle.current()
        except CollectionClosed:
            self._is_gone = True
            return self._handle.generation
        self._is_gone = False
        return generation

    def _keeps(self, old: OpenGeneration, new: OpenGeneration) -> bool:
        with self._lock:
            before = self._known.pop(id(old), None)
            if before is None or before.space == self._held(new).space:
                return False
            self._kept.append(before)
            return True

    def _held(self, generation: OpenGeneration, *, look: bool = False) -> Held:
        """Return a generation as it is known; *look* at the contract that the first `add` by text may have recorded."""
        held = self._known.get(id(generation))
        if held is not None and held.generation is generation and not (look and held.settings["embedding"] is None):
            return held
        with self._lock:
            # Another thread may have followed CURRENT since: it is kept then, and its files may be gone.
            kept = next((one for one in self._kept if one.generation is generation), None)
            if kept is not None:
                return kept
            fresh = held is None or held.generation is not generation
            held = self._known[id(generation)] = _described(generation)
            if fresh:
                self._warm(generation)
            return held

    def _warm(self, generation: OpenGeneration) -> None:
        """Open all that answers need, while the files have their names."""
        with ExitStack() as stack:
            for _ in range(self._threads):
                session, _view = generation.begin()
                stack.enter_context(session)


def _described(generation: OpenGeneration) -> Held:
    settings = generation.settled().to_json()
    space = {name: settings[name] for name in ("dimension", "metric", "lexical", "embedding")}
    key = hashlib.blake2b(orjson.dumps(space, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
    # An inode is not used again as long as the file is open, which it is as long as the generation is held.
    return Held(generation, key, f"{generation.paths.name}:{generation.paths.database.stat().st_ino}", settings)
