"""A collection and what it must be: a dictionary beside it, filtered by the table and searched by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio import Chunk, Collection, Filter, Hit, Metric
from reperio.filters import to_dict
from reperio.layout import Dtype
from reperio.vectors import to_matrix, to_stored
from tests.brute_force import TOLERANCE, assert_top_k, scores
from tests.concurrency.test_processes import Reader
from tests.naive_filters import expected

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Stored:
    """What is stored under an id; *number* is its place in the order of adding."""

    number: int
    text: str
    metadata: dict[str, Any]
    vector: Vector


class Twin:
    """What a collection holds, and the judge of what its handles say."""

    def __init__(self, metric: str, dtype: Dtype = "float32") -> None:
        self.metric = metric
        self.dtype = dtype
        self.stored: dict[str, Stored] = {}
        self._numbers = 0

    def add(self, kb: Collection, chunks: Sequence[Chunk], vectors: npt.NDArray[np.float32]) -> None:
        """Add chunks that differ from what is stored."""
        kb.add(chunks, vectors=vectors)
        for chunk, vector in zip(chunks, vectors, strict=True):
            self.stored[chunk.id] = Stored(self._numbers, chunk.text, dict(chunk.metadata), vector)
            self._numbers += 1

    def delete_where(self, kb: Collection, tree: Filter) -> None:
        """Delete by filter."""
        going = self.matching(tree)
        assert kb.delete(where=tree) == len(going)
        for key in going:
            del self.stored[key]

    def matching(self, tree: Filter | None) -> list[str]:
        """Return the ids that a filter selects, in the order of adding."""
        found = [key for key, one in self.stored.items() if tree is None or expected(tree, one.metadata)]
        return sorted(found, key=lambda key: self.stored[key].number)

    def check(
        self,
        kb: Collection,
        tree: Filter,
        query: Vector,
        k: int,
        *,
        scope: Filter | None = None,
        recall: float = 1.0,
    ) -> None:
        """Ask everything that takes a filter; *scope* is that of the handle."""
        ids = [key for key in self.matching(tree) if scope is None or expected(scope, self.stored[key].metadata)]
        assert kb.count(where=tree) == len(ids)
        assert kb.ids(where=tree) == ids
        assert [(one.id, one.metadata) for one in kb.get(where=tree, limit=k, offset=1)] == [
            (key, self.stored[key].metadata) for key in ids[1 : 1 + k]
        ]
        queries = np.stack([query, -query, query])
        for hits, asked in (
            (kb.search(vector=query, k=k, recall=recall, where=tree), query),
            (kb.search(vector=-query, k=k, recall=recall, where=tree), -query),
            *zip(kb.search_many(vectors=queries, k=k, recall=recall, where=tree), queries, strict=True),
        ):
            self.check_hits(hits, ids, asked, k, exact=recall > 0.999)
        self._check_words(kb, tree, ids, query, k)

    def _check_words(self, kb: Collection, tree: Filter, ids: list[str], query: Vector, k: int) -> None:
        """Ask by words: lexical search gives those that match and hold the word, hybrid search as many as match."""
        having = {key for key in ids if "chunk" in self.stored[key].text.split()}
        lexical = kb.search("chunk", mode="lexical", k=k, where=tree)
        assert {hit.chunk.id for hit in lexical} <= having
        assert len(lexical) == min(k, len(having))
        for fusion in ("convex", "rrf"):
            hybrid = kb.search("chunk", vector=query, mode="hybrid", fusion=fusion, k=k, where=tree)
            assert {hit.chunk.id for hit in hybrid} <= set(ids)
            assert len({hit.chunk.id for hit in hybrid}) == len(hybrid) == min(k, len(ids))

    def check_hits(self, hits: Sequence[Hit], ids: list[str], query: Vector, k: int, *, exact: bool) -> None:
        """Require min(k, matches) hits, each of them a match, with its own chunk and score; the best, if *exact*."""
        for rank, hit in enumerate(hits, start=1):
            stored = self.stored[hit.chunk.id]
            assert (hit.rank, hit.chunk.text, hit.chunk.metadata) == (rank, stored.text, stored.metadata)
        self.check_scores([(hit.chunk.id, hit.score) for hit in hits], ids, query, k, exact=exact)

    def check_scores(
        self, found: Sequence[tuple[str, float]], ids: list[str], query: Vector, k: int, *, exact: bool
    ) -> None:
        """Do what `check_hits` does, of ids and scores alone."""
        places = {key: place for place, key in enumerate(ids)}
        pairs = [(places[key], score) for key, score in found]
        truth = self._truth(ids, query)
        if exact:
            assert_top_k(pairs, truth, k)
            return
        assert len({place for place, _ in pairs}) == len(pairs) == min(k, len(ids))
        assert [score for _, score in pairs] == sorted((score for _, score in pairs), reverse=True)
        for place, score in pairs:
            assert abs(score - truth[place]) <= TOLERANCE * max(1.0, float(np.abs(truth).max()))

    def check_process(self, reader: Reader, tree: Filter, query: Vector, k: int) -> None:
        """Ask the same of a reader in another process."""
        where, ids = to_dict(tree), self.matching(tree)
        assert reader.ask("count", where) == len(ids)
        assert reader.ask("ids", where) == ids
        assert reader.ask("get", where, k, 2) == ids[2 : 2 + k]
        found = reader.ask("search", query.tolist(), k, 1.0, where)
        self.check_scores([(key, score) for key, score in found], ids, query, k, exact=True)

    def relabelled(self, key: str, metadata: dict[str, Any]) -> tuple[Chunk, Vector]:
        """Return a stored chunk with other metadata and nothing else new."""
        one = replace(self.stored[key], metadata=metadata)
        return Chunk(key, one.text, one.metadata), one.vector

    def _truth(self, ids: list[str], query: Vector) -> npt.NDArray[np.float64]:
        """Return the score of every id. A vector is normalised before it is rounded to float16, and not again after."""
        if not ids:
            return np.empty(0)
        given = np.array([self.stored[key].vector for key in ids])
        if self.dtype == "float32":
            return scores(given, query, self.metric)
        matrix = to_matrix(given, dimension=len(query), metric=Metric(self.metric), what="vectors")
        rounded = to_stored(matrix, "float16", what="vectors")
        if self.metric == "cosine":
            return scores(rounded, query / np.linalg.norm(query.astype(np.float64)), "inner_product")
        return scores(rounded, query, self.metric)
