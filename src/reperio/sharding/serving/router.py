"""Send a question to all shards, and bring their answers within a deadline, whatever becomes of single replicas.

A replica that has not answered after the hedging time gets no blame, but company: another one is asked the same, and
the first answer counts. One that is lost is left out at once. Questions only read, so asking twice does no harm.
(Dean and Barroso 2013, The Tail at Scale, "hedged requests".)
"""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from reperio.errors import ShardUnavailable
from reperio.sharding.serving.messages import Failed, error_of
from reperio.sharding.serving.replicas import Group, Keeper, Member

_POLL = 0.05  # seconds after which is looked whether a replica has been replaced
# Errors of one replica's files, process or host: another replica may do better.
_OWN = ("CollectionDamaged", "CollectionNotFound", "NotACollection", "StorageFailed", "CollectionClosed")


class Router:
    """Ask shards.

    Args:
        groups: the replicas of each shard, in the order of the shards.
        hedge: seconds after which another replica is asked.
        frozen: seconds that a late replica has to answer a probe before it is replaced.
    """

    def __init__(self, groups: Sequence[Group], *, hedge: float, frozen: float) -> None:
        self.groups = [group.use() for group in groups]
        self.hedge = hedge
        self._keeper = None
        if any(group.may_recover() for group in groups):
            self._keeper = Keeper(groups, hedge=hedge, frozen=frozen)

    def ask(
        self, method: str, requests: Mapping[int, Any], *, until: float, missing: set[int] | None = None
    ) -> dict[int, Any]:
        """Return the answer of each shard that is asked, by its place.

        Args:
            method: of `Shard`.
            requests: by place of the shard.
            until: deadline, as `time.monotonic` has it.
            missing: takes the places of shards that did not answer; None to raise then.

        Raises:
            ShardUnavailable: a shard did not answer within the deadline.
            ReperioError: as a shard has raised it.
        """
        arrivals: queue.SimpleQueue[tuple[_Round, Member, Future[Any]]] = queue.SimpleQueue()
        rounds = [
            _Round(place, self.groups[place], method, request, self.hedge, arrivals)
            for place, request in requests.items()
        ]
        waiting = {one for one in rounds if one.begin()}
        for one in waiting:
            # Whoever takes a partial answer does not wait long for a shard none of whose replicas has answered of late.
            one.until = until if missing is None or one.was_well else min(until, time.monotonic() + self.hedge)
        while waiting := {one for one in waiting if time.monotonic() < one.until}:
            now = time.monotonic()
            try:
                one, member, future = arrivals.get(timeout=min(min(each.until, each.due) for each in waiting) - now)
            except (queue.Empty, ValueError):  # ValueError: due already
                for each in [each for each in waiting if each.due <= time.monotonic()]:
                    if not each.hedge_now():
                        waiting.discard(each)
                continue
            if one in waiting and (one.take(member, future) or not one.goes_on()):
                waiting.discard(one)
        return self._outcome(rounds, missing)

    def _outcome(self, rounds: Sequence[_Round], missing: set[int] | None) -> dict[int, Any]:
        for one in rounds:
            if one.error is not None:
                raise one.error
        away = [one for one in rounds if not one.answered]
        if away and missing is None:
            names = ", ".join(one.group.name for one in away)
            error = ShardUnavailable(
                f"no replica of {names} has answered; the other {len(self.groups) - len(away)} shards are there. Try "
                "again, look at the hosts of these shards, or open with allow_partial=True to be answered by the others"
            )
            error.shards = tuple(one.group.name for one in away)
            raise error
        if missing is not None:
            missing.update(one.place for one in away)
        return {one.place: one.answer for one in rounds if one.answered}

    def tell(self, method: str, request: Any) -> None:
        """Tell every replica something, and wait for no answer."""
        for group in self.groups:
            for member in group.order(self.hedge):
                member.ask(method, request, lambda _: None)

    def close(self) -> None:
        """Close all replicas."""
        if self._keeper is not None:
            self._keeper.close()
        for group in self.groups:
            group.close()


class _Round:
    """One shard's part of one call."""

    def __init__(
        self,
        place: int,
        group: Group,
        method: str,
        request: Any,
        hedge: float,
        arrivals: queue.SimpleQueue[tuple[_Round, Member, Future[Any]]],
    ) -> None:
        self.place, self.group = place, group
        self.due = self.until = math.inf
        self.was_well = group.is_well(hedge)
        self.answered, self.answer = False, None
        self.error: BaseException | None = None
        self._method, self._request, self._hedge, self._arrivals = method, request, hedge, arrivals
        self._asked: list[Member] = []
        self._open = 0

    def begin(self) -> bool:
        """Ask the first replica; say whether there is anything to wait for."""
        return self._ask_next() or self.goes_on()

    def hedge_now(self) -> bool:
        """Ask one more, since the hedging time is over; say whether there is anything to wait for."""
        return self._ask_next() or self.goes_on()

    def goes_on(self) -> bool:
        """Say whether an answer may still come: from a replica that was asked, another one, or one that is started."""
        if self.error is not None:
            return False
        if self._open:
            if not self._left():
                self.due = time.monotonic() + _POLL if self.group.may_recover() else math.inf
            return True
        if self._ask_next():
            return True
        self.due = time.monotonic() + _POLL
        return self.group.may_recover()

    def take(self, member: Member, future: Future[Any]) -> bool:
        """Take what a replica says; return whether the shard is done with."""
        self._open -= 1
        error = future.exception()
        if error is not None:
            if not member.replica.is_lost(error):
                self.error = member.replica.told(error)
                return True
            member.lost = True
            return False
        answer = future.result()
        if isinstance(answer, Failed):
            raised = error_of(answer)
            if answer.kind in _OWN and (self._open or self._left()):
                return False
            self.error = raised
            return True
        self.answered, self.answer = True, answer
        return True

    def _left(self) -> list[Member]:
        return [one for one in self.group.order(self._hedge) if one not in self._asked]

    def _ask_next(self) -> bool:
        left = self._left()
        if not left:
            return False
        member = left[0]
        self._asked.append(member)
        self._open += 1
        self.due = time.monotonic() + self._hedge
        member.ask(self._method, self._request, lambda future: self._arrivals.put((self, member, future)))
        return True
