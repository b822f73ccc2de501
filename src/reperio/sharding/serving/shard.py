"""Answer for one shard: an ordinary collection, asked for its part of what all shards answer together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from reperio import index
from reperio.collection import open as open_collection
from reperio.collection.facade import handle_of
from reperio.collection.generation.masks import among
from reperio.collection.generation.opened import View
from reperio.collection.handle.scope import Scope
from reperio.collection.search.source import dense_lists, vectors_of
from reperio.errors import CollectionDamaged, ReperioError
from reperio.filters import Filter
from reperio.index import Target
from reperio.sharding.manifest import require_shard
from reperio.sharding.serving.generations import Generations
from reperio.sharding.serving.messages import (
    AskLists,
    Counted,
    CountWords,
    Described,
    Failed,
    Fetched,
    FetchRows,
    Listed,
    Moved,
    Narrowing,
    RankRows,
    Read,
    ReadIds,
    Scored,
    Select,
    Selected,
)
from reperio.store import Session
from reperio.types import CollectionInfo, FloatMatrix, Limits, Metric
from reperio.vectors import StoredMatrix

THREADS = 8
"""Questions that one replica answers at a time; more wait."""


class Shard:
    """One shard, open for reading. For any number of threads.

    Args:
        path: the directory of the collection.
        limits: how much one call may ask for.
        trust_index: False: read no index file.
    """

    def __init__(self, path: str | os.PathLike[str], *, limits: Limits | None = None, trust_index: bool = True) -> None:
        require_shard(Path(path))
        self._kb = open_collection(path, read_only=True, limits=limits, trust_index=trust_index)
        self._handle = handle_of(self._kb)
        self._filters = Scope(None)
        self._generations = Generations(self._handle, THREADS)
        self._methods: dict[str, Callable[[Any], Any]] = {
            "ping": lambda _: "pong",
            "describe": lambda _: self.describe(),
            "info": lambda _: self.info(),
            "release": self._generations.release,
            "count_words": self.count_words,
            "lists": self.lists,
            "rank": self.rank,
            "fetch": self.fetch,
            "select": self.select,
            "count": self.count,
            "read": self.read,
            "sample": self.sample,
        }

    def answer(self, method: str, request: Any) -> Any:
        """Do what a router asks, by name; an error of Reperio is returned as `Failed`, not raised."""
        known = self._methods.get(method)
        if known is None:
            return Failed(
                "UnsupportedFormat", f"{self._handle.root.root} is served by a Reperio without {method!r:.40}"
            )
        try:
            return known(request)
        except ReperioError as error:
            return Failed(type(error).__name__, str(error))

    def require_undisturbed(self) -> None:
        """Raise `CollectionClosed` in a child that was forked while this was being read."""
        self._handle.require_undisturbed()

    def close(self) -> None:
        """Release the files."""
        self._generations.close()
        self._kb.close()

    def describe(self) -> Described:
        """Say in which spaces this shard can answer."""
        return Described({held.space: held.settings for held in self._generations.all()})

    def info(self) -> CollectionInfo:
        """Describe the collection."""
        return self._kb.info()

    def count_words(self, asked: CountWords) -> Counted | Moved:
        """Count the words of questions."""
        begun = self._generations.begin(asked.spaces)
        if begun is None:
            return Moved()
        _, session, view = begun
        with session:
            target = self._target(session, view, asked.narrowing)
            return Counted([session.count_words(text, allowed=target.allowed) for text in asked.texts])

    def lists(self, asked: AskLists) -> Listed | Moved:
        """Retrieve for questions, all from one commit."""
        begun = self._generations.begin(asked.spaces)
        if begun is None:
            return Moved()
        held, session, view = begun
        with session:
            target = self._target(session, view, asked.narrowing)
            with self._admitted(asked):
                dense = words = None
                if asked.dense is not None:
                    assert asked.queries is not None  # the router has made them
                    found = dense_lists(target, asked.queries, asked.dense, asked.recall)
                    dense = [_unlimited(target, *each) for each in zip(found, asked.queries, strict=True)]
                if asked.lexical is not None:
                    assert asked.texts is not None  # likewise
                    assert asked.totals is not None
                    words = [
                        session.list_words(
                            text, count=asked.lexical, totals=totals, rank=asked.rank, allowed=target.allowed
                        )
                        for text, totals in zip(asked.texts, asked.totals, strict=True)
                    ]
                listed = Listed(held.token, self._generations.newest().space, dense, words)
                if not asked.eager:
                    return listed
                rows = {row for each, _ in dense or () for row in each}
                rows.update(row for each in words or () for row in each.rows.tolist())
                listed.chunks.update(session.fetch(sorted(rows), target.matrix))
                return listed

    def rank(self, asked: RankRows) -> Scored | Moved:
        """Rank rows by their words."""
        begun = self._generations.begin_at(asked.token)
        if begun is None:
            return Moved()
        _, session, view = begun
        with session:
            found = [
                session.rank_words(text, rows, totals=totals)
                for text, rows, totals in zip(asked.texts, asked.rows, asked.totals, strict=True)
            ]
            if any(len(each) < len(rows) for (each, _), rows in zip(found, asked.rows, strict=True)):
                return Moved()  # one of them is deleted, or this replica has not seen its commit yet
            best = {row for rows, _ in found for row in rows[: asked.chunks].tolist()}
            return Scored(found, session.fetch(sorted(best), view.target.matrix) if best else {})

    def fetch(self, asked: FetchRows) -> Fetched | Moved:
        """Read what rows hold. Rows never change: one that is live holds what it held when it was found."""
        begun = self._generations.begin_at(asked.token)
        if begun is None:
            return Moved()
        _, session, view = begun
        rows, matrix = list(asked.rows), view.target.matrix
        with session:
            if rows and max(rows) >= session.state.rows:
                return Moved()  # a replica that has not seen the commit yet
            if asked.what == "vectors":
                return Fetched(vectors=vectors_of(matrix, rows))
            if asked.what == "texts":
                texts = dict(session.texts(rows))
                return Fetched(texts=texts) if len(texts) == len(rows) else Moved()
            chunks = session.fetch(rows, matrix)
            return Fetched(chunks=chunks) if len(chunks) == len(rows) else Moved()

    def select(self, asked: Select) -> Selected:
        """Return the rows that match, in order, with their ids."""
        held, session, _ = self._generations.begin_newest()
        with session:
            rows = held.generation.matching(self._tree(asked.narrowing.where), session)[: asked.most]
            ids = session.ids_of(rows.tolist())
        if len(ids) < len(rows):
            lost = f"{len(rows) - len(ids)} of {len(rows)} live rows hold no chunk"
            raise CollectionDamaged(f"{self._handle.root.root}: {lost}; run check(), restore from a backup")
        return Selected(rows.astype(np.int64, copy=False), ids)

    def count(self, asked: Narrowing) -> int:
        """Return how many chunks match."""
        held, session, _ = self._generations.begin_newest()
        tree = self._tree(asked.where)
        with session:
            return session.state.live if tree is None else len(held.generation.matching(tree, session))

    def read(self, asked: ReadIds) -> Read:
        """Read chunks by id."""
        tree, ids = self._tree(asked.narrowing.where), list(asked.narrowing.ids or ())
        held, session, view = self._generations.begin_newest()
        matrix = view.target.matrix
        with session:
            rows = list(session.located(ids).values())
            # By the columns: what does not match is not read, so that its length does not show.
            rows = sorted(rows if tree is None else held.generation.among(tree, session, rows))
            found = session.stored(rows)
            if asked.what == "there":
                return Read({one.id: one.to_chunk() for one in found})
            session.require(found, matrix)
            vectors = _by_id([one.id for one in found], matrix, rows) if asked.what == "vectors" else {}
            return Read({one.id: one.to_chunk() for one in found}, vectors)

    def sample(self, number: int) -> FloatMatrix:
        """Return at most so many held-out queries; none of an empty shard."""
        if not self._kb.count():
            return np.empty((0, self._handle.settings().dimension), dtype=np.float32)
        return self._kb.sample_queries(number)

    def _admitted(self, asked: AskLists) -> AbstractContextManager[object]:
        number = max(0 if part is None else len(part) for part in (asked.texts, asked.queries))
        return self._handle.admitted(number * max(asked.dense or 0, asked.lexical or 0))

    def _target(self, session: Session, view: View, narrowing: Narrowing) -> Target:
        """Return what may be found, and let the session count words within the scope."""
        target = view.masks.at(self._tree(narrowing.where), session)
        scope = self._tree(narrowing.scope)
        if scope is not None:
            session.confine(view.masks.bits(scope, session))
        return target if narrowing.ids is None else among(target, session.rows_of(narrowing.ids))

    def _tree(self, where: Mapping[str, Any] | None) -> Filter | None:
        return self._filters.narrowed(where)


def _unlimited(
    target: Target, found: tuple[list[int], list[float]], query: FloatMatrix
) -> tuple[list[int], list[float]]:
    """Return cosines as computed: what rounding puts beyond 1 is still told apart, and so ordered, over all shards."""
    rows, scores = found
    if target.metric is not Metric.COSINE or not scores or (scores[0] < 1.0 and scores[-1] > -1.0):
        return found
    return rows, index.scores_of(target.matrix, np.array(rows, dtype=np.int64), query, target.metric).tolist()


def _by_id(ids: list[str], matrix: StoredMatrix, rows: list[int]) -> dict[str, FloatMatrix]:
    return dict(zip(ids, np.array(vectors_of(matrix, rows)), strict=True))
