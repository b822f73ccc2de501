"""The shards as one thing that can be asked: their router, and the vector space that all of them share by now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from reperio.embedding.contract import AGREEMENT, Contract, Settings
from reperio.errors import CollectionDamaged, EmbeddingContractError, ShardUnavailable
from reperio.sharding.manifest import ShardManifest
from reperio.sharding.serving.messages import Described, Spaces
from reperio.sharding.serving.router import Router
from reperio.vectors import cosines


@dataclass(frozen=True, slots=True)
class Space:
    """The vector space that questions are asked in.

    Attributes:
        keys: by which the shards know it.
        settings: of the collections.
    """

    keys: Spaces
    settings: Settings


class Fleet:
    """All shards, opened.

    Args:
        router: of the shards.
        where: the directory, or the address, for messages.
        place_of: returns the place of the shard that an id belongs to.
        manifest: that names the shards.
        served: the token of the catalog that serves them; empty without one.

    Attributes:
        size: number of shards.
    """

    def __init__(
        self, router: Router, where: str, place_of: Callable[[str], int], manifest: ShardManifest, served: str
    ) -> None:
        self.router = router
        self.where = where
        self.place_of = place_of
        self.manifest = manifest
        self.served = served
        self.size = len(router.groups)
        self._lock = threading.Lock()
        self._looking = threading.Lock()  # not the same: users come and go while shards are asked for their spaces
        self._space: Space | None = None
        self._users = 0
        self._retired = False
        self._closed = False

    def space(self, until: float, missing: set[int] | None = None) -> Space:
        """Return the space that all shards can answer in: as it was found last; see `look`."""
        return self._space or self.look(until, missing=missing)

    def look(self, until: float, *, before: Space | None = None, missing: set[int] | None = None) -> Space:
        """Find the newest space that all shards can answer in, and let them forget what is older.

        Args:
            until: deadline.
            before: space that has turned out not to do; what another thread has found since is returned.
            missing: places of shards that are not asked, and takes those that do not answer; None to raise then. Half
                of the time is left for the question itself.

        Raises:
            EmbeddingContractError: the shards have no space in common.
            ShardUnavailable: a shard has not answered within the deadline; with *missing*, none has.
        """
        now = time.monotonic()
        if missing is not None:
            until = now + (until - now) / 2
        if not self._looking.acquire(timeout=max(0.0, until - now)):
            raise ShardUnavailable(
                f"the shards of {self.where} have not said within the deadline which model they have"
            )
        try:
            if before is not None and self._space is not None and self._space is not before:
                return self._space
            asked = dict.fromkeys(place for place in range(self.size) if missing is None or place not in missing)
            answers: dict[int, Described] = self.router.ask("describe", asked, until=until, missing=missing)
            if not answers:
                raise none_answers(self.where, [group.name for group in self.router.groups])
            spaces = {self.router.groups[place].name: answers[place].spaces for place in sorted(answers)}
            found = _common(spaces, self.where)
            if self._space is not None and self._space.keys == found.keys:
                return self._space  # the same object: an embedder is held to its contract once
            self._space = found
        finally:
            self._looking.release()
        if len(answers) == self.size and all(next(iter(answer.spaces)) in found.keys for answer in answers.values()):
            self.router.tell("release", found.keys)
        return found

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep it open during the block, though another fleet may take its place."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                last = self._retired and not self._users
            if last:
                self._close()

    @property
    def is_retired(self) -> bool:
        """Whether another fleet has taken its place."""
        return self._retired

    def retire(self) -> None:
        """Close as soon as nobody uses it."""
        with self._lock:
            self._retired = True
            last = not self._users
        if last:
            self._close()

    def _close(self) -> None:
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self.router.close()


def none_answers(where: str, names: Sequence[str]) -> ShardUnavailable:
    """Return the error of a partial answer of which there would be no part."""
    error = ShardUnavailable(f"{where}: no shard has answered; look at their hosts, and try again")
    error.shards = tuple(names)
    return error


def _common(shards: Mapping[str, Mapping[str, dict[str, Any]]], where: str) -> Space:
    """Return the newest space of the first shard that all others have as well."""
    read = [{key: Settings.from_json(content, where) for key, content in spaces.items()} for spaces in shards.values()]
    for one in read[0].values():
        alike = [{key for key, other in spaces.items() if _alike(one, other)} for spaces in read]
        if all(alike):
            keys = frozenset().union(*alike)
            theirs = [each for spaces in read for key, each in spaces.items() if key in keys]
            return Space(keys, next((each for each in theirs if each.contract is not None), one))
    newest = {name: next(iter(spaces.values())) for name, spaces in zip(shards, read, strict=True)}
    (first, own), *others = newest.items()
    for name, other in others:
        if (other.metric, other.lexical) != (own.metric, own.lexical):  # which no embedding changes
            raise CollectionDamaged(
                f"{where}: {first} has metric {own.metric.value} and words {own.lexical}, {name} has "
                f"{other.metric.value} and {other.lexical}: one of them is a shard of another collection; "
                "restore from a backup"
            )
    every = [each for spaces in read for each in spaces.values()]
    named = sorted({f"{one.contract.name if one.contract else 'vectors'}, {one.dimension} dimensions" for one in every})
    raise EmbeddingContractError(
        f"the shards of {where} were embedded by different models ({'; '.join(named)}), and no answer mixes them; "
        "embed the others again as well"
    )


def _alike(one: Settings, other: Settings) -> bool:
    same = (one.dimension, one.metric, one.lexical) == (other.dimension, other.metric, other.lexical)
    return same and (one.contract is None or other.contract is None or _same(one.contract, other.contract))


def _same(one: Contract, other: Contract) -> bool:
    """Say whether two contracts are of one model: its vectors of the canaries differ in the last bits by machine."""
    told = ("name", "revision", "query_prompt", "passage_prompt", "canaries")
    if any(getattr(one, name) != getattr(other, name) for name in told):
        return False
    pairs = (one.passages, other.passages), (one.queries, other.queries)
    return all(float(np.min(cosines(*pair))) >= AGREEMENT for pair in pairs)
