"""Write through a collection's origin, where it has one, and take over what others have written there."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from reperio import layout
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.replica.following import Follower
from reperio.collection.replica.held import Held, held_by
from reperio.collection.replica.replica import NewGeneration, Replica
from reperio.collection.upkeep import rewriting
from reperio.errors import InvalidInput, OriginUnavailable
from reperio.origins import Change
from reperio.store import Elsewhere, Outdated, Session
from reperio.types import Embedder, Progress

Result = TypeVar("Result")
_LONGEST = 0.02  # seconds between two attempts at a commit that other hosts were quicker than


class Owner(Protocol):
    """A handle, as far as its origin needs it; each method is `Handle`'s."""

    name: str

    def turn(self) -> AbstractContextManager[OpenGeneration]:
        """Return the block in which nobody else writes."""
        ...

    def maintaining(self) -> AbstractContextManager[None]:
        """Return the block in which nobody else builds or rewrites."""
        ...

    def replace(self, old: OpenGeneration, write: Callable[[layout.Generation], None]) -> None:
        """Put a new generation in use."""
        ...

    def session(self) -> tuple[OpenGeneration, Session]:
        """Begin a session that searches nothing."""
        ...

    def require_open(self) -> None:
        """Raise where the handle cannot be used."""
        ...

    def require_writable(self) -> None:
        """Raise where it cannot be written through."""
        ...

    @property
    def generation(self) -> OpenGeneration:
        """The generation in use."""
        ...

    @property
    def origin(self) -> HandleOrigin:
        """The origin of its collection."""
        ...


class HandleOrigin:
    """The origin of a handle's collection, which may have none.

    Args:
        handle: of the collection.
        replica: the way to the origin that the handle was opened with; None without one.
        patience: seconds for a commit that other hosts are quicker than.

    Attributes:
        held: what the directory has of an origin, as of the last look; None for a collection of its own.
    """

    def __init__(self, handle: Owner, replica: Replica | None, patience: float) -> None:
        self._handle = handle
        self.replica = replica
        self._patience = patience
        self.held: Held | None = None
        self._follower: Follower | None = None
        self._every = 0.0  # seconds between two looks

    def find(self, generation: OpenGeneration) -> Held | None:
        """Return what the directory has of an origin, which another process may have made of it meanwhile."""
        with generation.store.session() as session:
            self.held = held_by(session)
        return self.held

    def commit(self, attempt: Callable[[OpenGeneration], Result]) -> Result:
        """Return what *attempt* returns, which writes here and at the origin: see `Handle.commit`."""
        while True:
            try:
                with self._handle.turn() as generation:
                    return self._attempted(attempt, generation)
            except NewGeneration:
                self.pull()

    def _attempted(self, attempt: Callable[[OpenGeneration], Result], generation: OpenGeneration) -> Result:
        replica, until, pause = self._required(), time.monotonic() + self._patience, 0.001
        while True:
            replica.catch_up(generation)
            try:
                return attempt(generation)
            except Outdated:
                if time.monotonic() > until:
                    raise OriginUnavailable(
                        f"{replica.where}: other hosts have committed before this one for {self._patience:g} s; "
                        "nothing was written, try again"
                    ) from None
                time.sleep(pause * random.random())  # else two hosts would go on in step
                pause = min(_LONGEST, 2 * pause)

    def _required(self) -> Replica:
        if self.replica is None:
            raise InvalidInput(f"{self._handle.name} was opened without an origin; open it with origin=…")
        return self.replica

    def elsewhere(self, generation: OpenGeneration, change: Callable[[], Change]) -> Elsewhere | None:
        """Return what makes a change at the origin, too, inside `commit`; None without an origin."""
        return None if self.replica is None else self.replica.elsewhere(generation, change())

    def pull(self, progress: Progress | None = None, *, reset: bool = False) -> None:
        """Take over what others have committed at the origin.

        Args:
            progress: called per block.
            reset: give up what the origin does not have.

        Raises:
            InvalidInput: there is no origin.
            OriginUnavailable, OriginRefused, OriginNotFound, OriginDiverged: nothing was changed.
        """
        handle, replica = self._handle, self._required()
        handle.require_writable()
        try:
            with handle.turn() as generation:
                replica.catch_up(generation, progress, reset=reset)
        except NewGeneration:
            with handle.maintaining(), handle.turn() as old:
                handle.replace(old, lambda target: replica.clone(old, target, rewriting.build_alike, progress))

    def refresh(self) -> None:
        """Take over what others have committed at the origin up to now; a collection without one is always fresh."""
        if self.replica is None:
            return
        self._handle.require_open()
        state = self.replica.ask()
        _, session = self._handle.session()
        with session:
            held = held_by(session)
        if held is None or held.position != state.position:
            self.pull()

    def reembed(self, embedder: Embedder, progress: Progress | None) -> None:
        """Embed everything again, here and at the origin, while this handle has its turn and may rewrite.

        What other hosts write meanwhile is embedded, too.
        """
        handle, replica = self._handle, self._required()
        remembering = rewriting.Remembering(embedder)

        def write(target: layout.Generation) -> None:
            rewriting.rewrite(handle.generation, target, embedder=remembering, progress=progress)
            replica.put_again(handle.generation, target)

        while True:
            self.pull()
            try:
                handle.replace(handle.generation, write)
            except Outdated:
                continue
            return

    def follow(self, every: float) -> None:
        """Take over in the background what others commit at the origin."""
        self._every = every
        if self.replica is not None and every > 0:
            self._follower = Follower(self._handle, self.replica, every)

    def require_own(self) -> None:
        """Refuse to write to a replica without its origin: nobody else would ever see it."""
        if self.held is not None and self.replica is None:
            raise InvalidInput(
                f"{self._handle.name} is a replica of {self.held.where}, which this handle does not know; open it "
                "with origin=…, or with --origin on the command line"
            )

    def stop_following(self) -> None:
        """Let the thread that follows end."""
        if self._follower is not None:
            self._follower.close()

    def close(self) -> None:
        """End the connection."""
        if self.replica is not None:
            self.replica.close()

    def begin_in_child(self) -> None:
        """Go on in a forked child, with a connection and a thread of its own."""
        if self.replica is not None:
            self.replica = self.replica.in_child()
            self.follow(self._every)
