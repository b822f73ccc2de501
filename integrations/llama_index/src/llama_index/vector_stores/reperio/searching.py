"""Queries: the half of a store that answers."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryResult
from reperio import Collection, Filter, Metric, Reranker
from reperio.filters import all_of

from llama_index.vector_stores.reperio.conversion.documents import from_chunk
from llama_index.vector_stores.reperio.conversion.filters import of_documents, to_filter
from llama_index.vector_stores.reperio.conversion.scores import to_similarity
from llama_index.vector_stores.reperio.options import to_plan


class Searching:
    """The methods of a store that search."""

    recall: float

    _collection: Collection | None
    _metric: Metric
    _reranker: Reranker | None

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find the nodes that answer best: exactly min(k, those that match), best first.

        Filters, doc_ids and node_ids must all hold. An empty node_ids restricts nothing (retrievers pass it always),
        an empty doc_ids matches nothing. Similarities are as in the table of `scores`, higher is better.

        In mode DEFAULT with neither query_embedding nor query_str, they alone select: the first similarity_top_k nodes
        in the order of adding, without similarities.

        Args:
            query: modes DEFAULT, SPARSE and TEXT_SEARCH (by words, no embedding needed), HYBRID (alpha 0 = words, 1 =
                vectors; hybrid_top_k results, of the best sparse_top_k by words), SEMANTIC_HYBRID (reranked), MMR.
            kwargs: a retriever's vector_store_kwargs: recall, candidates, mmr_threshold (wins over the query's),
                mmr_prefetch_factor or mmr_prefetch_k.

        Raises:
            InvalidInput: (a ValueError) a mode that is not offered; something missing, or without effect in the mode.
        """
        plan = to_plan(query, kwargs, self._reranker)
        where = self._restricted(query)
        if self._collection is None:
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        if plan.listed:
            return self._selected(query, where, plan.options["limit"])
        if "mode" not in plan.options or plan.options["mode"] != "lexical":
            plan.options.setdefault("recall", self.recall)
        hits = self._collection.search(where=where, ids=query.node_ids or None, **plan.options)
        return VectorStoreQueryResult(
            nodes=[from_chunk(hit.chunk) for hit in hits],
            similarities=[to_similarity(hit.score, self._metric, dense=plan.dense) for hit in hits],
            ids=[hit.chunk.id for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query`, in a thread."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _selected(self, query: VectorStoreQuery, where: Filter | None, limit: int) -> VectorStoreQueryResult:
        assert self._collection is not None  # asked by `query`
        if query.node_ids:
            chunks = self._collection.get(query.node_ids, where=where)[:limit]
        else:
            chunks = self._collection.get(where=where, limit=limit)
        return VectorStoreQueryResult(nodes=[from_chunk(chunk) for chunk in chunks], ids=[chunk.id for chunk in chunks])

    def _restricted(self, query: VectorStoreQuery) -> Filter | None:
        wanted = [] if query.filters is None else [to_filter(query.filters)]
        if query.doc_ids is not None:
            wanted.append(of_documents(query.doc_ids))
        return all_of(wanted) if wanted else None
