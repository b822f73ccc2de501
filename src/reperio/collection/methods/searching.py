"""Take a question's options, check them once, and have it answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy.typing as npt
from typing_extensions import Never

from reperio.arguments import id_list, refuse_unknown, require_flag
from reperio.collection.handle.embedder import LazyEmbedder
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import Where
from reperio.collection.methods.naming import methods_of_collection
from reperio.collection.methods.twins import twin
from reperio.collection.search.answering import Asker
from reperio.collection.search.request import (
    DEFAULT_RECALL,
    embed_queries,
    many_questions,
    one_question,
    to_request,
    to_texts,
)
from reperio.types import FloatMatrix, Fusion, Hit, Mode, Reranker


@methods_of_collection
class Searching:
    """The methods that find chunks for a question."""

    _handle: Handle
    _embedder: LazyEmbedder
    _asker: Asker

    def search(
        self,
        query: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        k: int = 10,
        recall: float = DEFAULT_RECALL,
        where: Where = None,
        mode: Mode = "dense",
        fusion: Fusion = "convex",
        weight: float = 0.5,
        candidates: int | None = None,
        lexical_candidates: int | None = None,
        reranker: Reranker | None = None,
        diversity: float | None = None,
        distinct: bool = False,
        min_score: float | None = None,
        ids: Iterable[str] | str | None = None,
        fresh: bool = False,
        **unknown: Never,
    ) -> list[Hit]:
        """Find the chunks that answer a question best.

        Returns exactly min(k, chunks that match) hits, best first, equal scores in the order of adding. Only
        *min_score*, *distinct*, and in lexical mode the words of the question, make it fewer.

        Args:
            query: a text; the collection's embedder embeds it.
            vector: a ready vector, shape (d,), instead of a text, or together with one whose words are needed.
            k: hits wanted, 1 to 10,000.
            recall: knn recall@k to aim at, in (0, 1]; above 0.999 the search is exact. Scores are exact always.
            where: only chunks whose metadata matches: a dictionary such as ``{"lang": "en", "year": {"$gte": 2023}}``,
                or a filter made with `reperio.field` (docs/filters.md).
            mode: "dense" (by vector), "lexical" (by words: BM25), or "hybrid": both, fused. A question that the lexical
                index cannot answer, such as one without words, warns (`ReperioWarning`).
            fusion: how hybrid search fuses: "convex", the weighted sum of min-max scores, or "rrf", reciprocal ranks.
            weight: weight of the dense list in "convex", 0 to 1.
            candidates: rows retrieved, among which reranker and diversity choose; k or more. Default 5 · k where there
                is something to choose. Hybrid search fuses the best 100 of each list at least.
            lexical_candidates: most rows that hybrid search takes from the lexical list, 1 to 10,000; None for as many
                as from the dense one.
            reranker: orders the candidates by reading query and text together; see `Reranker`.
            diversity: 0 to 1: trade relevance for variety among the hits (maximal marginal relevance with
                lambda = 1 − diversity); None to leave the order alone. The score stays that of the retrieval. Not
                together with a reranker, whose order it would undo.
            distinct: keep only the best of chunks with the same text, apart from case and white space.
            min_score: leave out hits with a lower score.
            ids: only chunks with one of these ids, which match *where* as well; an id that is absent is no error, and
                with none at all nothing is found.
            fresh: ask the origin first, and take over what other hosts have written up to now. What this host has
                written is found in any case.

        Raises:
            InvalidInput: an option that cannot be, or that lacks a text or vector it needs.
            CollectionDamaged: a chunk found is not what was stored, by its checksum; it is named.
            RerankerFailed: the reranker did not give a score for each candidate.
        """
        if unknown:
            refuse_unknown(Searching.search, unknown)
        handle = self._handle
        handle.require_open()
        if fresh is not False:
            require_flag("fresh", fresh)
            handle.origin.refresh()
        request = to_request(
            k,
            recall,
            handle.scope.tree if where is None else handle.scope.narrowed(where),
            most=handle.limits.k,
            mode=mode,
            fusion=fusion,
            weight=weight,
            candidates=candidates,
            lexical_candidates=lexical_candidates,
            reranker=reranker,
            diversity=diversity,
            distinct=distinct,
            min_score=min_score,
            ids=None if ids is None else tuple(dict.fromkeys(id_list(ids))),
        )
        batch = one_question(query, vector, request, self._embedder, handle.limits)
        return self._asker.ask(batch, request, where)

    def search_many(
        self,
        queries: Sequence[str] | None = None,
        *,
        vectors: npt.ArrayLike | None = None,
        k: int = 10,
        recall: float = DEFAULT_RECALL,
        where: Where = None,
        mode: Mode = "dense",
        fusion: Fusion = "convex",
        weight: float = 0.5,
        candidates: int | None = None,
        lexical_candidates: int | None = None,
        reranker: Reranker | None = None,
        diversity: float | None = None,
        distinct: bool = False,
        min_score: float | None = None,
        ids: Iterable[str] | str | None = None,
        fresh: bool = False,
        **unknown: Never,
    ) -> list[list[Hit]]:
        """Answer many questions at once, on all cores and over one committed state, and return one list of hits each.

        Args:
            queries: texts.
            vectors: ready vectors, shape (n, d), instead of texts, or together with texts whose words are needed.
            k, recall, where, mode, fusion, weight, candidates, lexical_candidates, reranker, diversity, distinct,
                min_score, ids, fresh: as in `search`. The reranker gets the candidates of all questions in one call.
        """
        refuse_unknown(Searching.search_many, unknown)
        handle = self._handle
        handle.require_open()
        if fresh is not False:
            require_flag("fresh", fresh)
            handle.origin.refresh()
        request = to_request(
            k,
            recall,
            handle.scope.narrowed(where),
            most=handle.limits.k,
            mode=mode,
            fusion=fusion,
            weight=weight,
            candidates=candidates,
            lexical_candidates=lexical_candidates,
            reranker=reranker,
            diversity=diversity,
            distinct=distinct,
            min_score=min_score,
            ids=None if ids is None else tuple(dict.fromkeys(id_list(ids))),
        )
        batch = many_questions(queries, vectors, request, self._embedder, handle.limits)
        return self._asker.ask_many(batch, request, where)

    def embed(self, queries: Sequence[str], **unknown: Never) -> FloatMatrix:
        """Return the vectors of questions, float32 (n, d), as `search` makes them; it need not make them again.

        Args:
            queries: texts.

        Raises:
            InvalidInput: a text that is empty; or the collection has no embedder.
        """
        refuse_unknown(Searching.embed, unknown)
        handle = self._handle
        handle.require_open()
        return embed_queries(self._embedder, to_texts(queries, handle.limits, "embed"), handle.settings())

    asearch, asearch_many, aembed = twin(search), twin(search_many), twin(embed)
