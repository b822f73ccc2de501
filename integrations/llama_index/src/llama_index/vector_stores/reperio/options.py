"""A VectorStoreQuery as the options of the core's search. Pure; what has no effect in a mode is refused, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from reperio import InvalidInput, Reranker
from reperio.arguments import unknown_option

OPTIONS = ("recall", "candidates", "mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k")
"""Options of `ReperioVectorStore.query` besides the query: a retriever's vector_store_kwargs."""

_MMR = OPTIONS[2:]
_DEFAULT_THRESHOLD = 0.5  # LlamaIndex's own
_NEVER = ("output_fields", "embedding_field")


@dataclass(frozen=True, slots=True)
class Plan:
    """One search.

    Attributes:
        options: options of `reperio.Collection.search`, without where= and ids=.
        dense: whether the scores are those of the vectors.
        listed: whether nothing is searched for: the filters alone say what is wanted.
    """

    options: dict[str, Any]
    dense: bool
    listed: bool = False


def to_plan(query: VectorStoreQuery, options: Mapping[str, Any], reranker: Reranker | None) -> Plan:
    """Return how *query* is to be answered.

    Args:
        query: of any mode; the learner modes are refused.
        options: see `OPTIONS`.
        reranker: for SEMANTIC_HYBRID.

    Raises:
        InvalidInput: (a ValueError) a mode that is not offered, something that the mode lacks or has no use for.
        UnknownOption: an option that does not exist.
    """
    if not isinstance(query, VectorStoreQuery):
        raise InvalidInput(f"query is a {type(query).__name__}; pass a VectorStoreQuery, or ask by a retriever")
    for name in ("doc_ids", "node_ids"):
        if isinstance(getattr(query, name), str):
            raise InvalidInput(f"{name} is one string, of which each letter would be an id; pass a list of ids")
    _require_known(options)
    mode = VectorStoreQueryMode(query.mode)
    make = _MAKERS.get(mode)
    if make is None:
        raise InvalidInput(
            f"query mode {mode.value!r} is not offered; choose {', '.join(repr(known.value) for known in _MAKERS)}"
        )
    _require_use(query, options, mode)
    plan = make(query, options, reranker)
    plan.options.update({name: options[name] for name in ("recall", "candidates") if options.get(name) is not None})
    return plan


def _dense(query: VectorStoreQuery, options: Mapping[str, Any], _: Reranker | None) -> Plan:
    selected = query.filters is not None or query.doc_ids is not None or bool(query.node_ids)
    if selected and query.query_embedding is None and query.query_str is None:
        idle = next((name for name in ("recall", "candidates") if options.get(name) is not None), None)
        if idle is not None:
            raise InvalidInput(f"{idle} has no effect in a query by filters alone; leave it out")
        return Plan({"limit": query.similarity_top_k}, dense=False, listed=True)
    return Plan({"vector": _vector(query), "k": query.similarity_top_k}, dense=True)


def _lexical(query: VectorStoreQuery, _: Mapping[str, Any], __: Reranker | None) -> Plan:
    k = query.similarity_top_k if query.sparse_top_k is None else query.sparse_top_k
    return Plan({"query": _text(query), "k": k, "mode": "lexical"}, dense=False)


def _hybrid(query: VectorStoreQuery, options: Mapping[str, Any], _: Reranker | None) -> Plan:
    k = query.similarity_top_k if query.hybrid_top_k is None else query.hybrid_top_k
    wanted: dict[str, Any] = {"query": _text(query), "vector": _vector(query), "k": k, "mode": "hybrid"}
    if query.alpha is not None:
        wanted["weight"] = query.alpha
    if query.sparse_top_k is not None:
        wanted["lexical_candidates"] = query.sparse_top_k
    if query.hybrid_top_k is not None and options.get("candidates") is None:
        wanted["candidates"] = max(k, query.similarity_top_k)
    return Plan(wanted, dense=False)


def _reranked(query: VectorStoreQuery, options: Mapping[str, Any], reranker: Reranker | None) -> Plan:
    if reranker is None:
        raise InvalidInput(
            "query mode 'semantic_hybrid' reranks, and the store has no reranker; pass reranker= to "
            "ReperioVectorStore, e.g. reperio.CrossEncoderReranker(…), or choose 'hybrid'"
        )
    plan = _hybrid(query, options, None)
    plan.options["reranker"] = reranker
    return plan


def _various(query: VectorStoreQuery, options: Mapping[str, Any], _: Reranker | None) -> Plan:
    threshold = options.get("mmr_threshold")
    if threshold is None:  # 0 is a threshold: all for variety
        threshold = _DEFAULT_THRESHOLD if query.mmr_threshold is None else query.mmr_threshold
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise InvalidInput(f"mmr_threshold is {threshold!r}; it lies between 0 (variety) and 1 (relevance)")
    wanted = {"vector": _vector(query), "k": query.similarity_top_k, "diversity": 1.0 - threshold}
    prefetched = _prefetched(query.similarity_top_k, options)
    if prefetched is not None:
        wanted["candidates"] = prefetched
    return Plan(wanted, dense=True)


_MAKERS: dict[VectorStoreQueryMode, Callable[[VectorStoreQuery, Mapping[str, Any], Reranker | None], Plan]] = {
    VectorStoreQueryMode.DEFAULT: _dense,
    VectorStoreQueryMode.SPARSE: _lexical,
    VectorStoreQueryMode.TEXT_SEARCH: _lexical,
    VectorStoreQueryMode.HYBRID: _hybrid,
    VectorStoreQueryMode.SEMANTIC_HYBRID: _reranked,
    VectorStoreQueryMode.MMR: _various,
}


def _prefetched(k: int, options: Mapping[str, Any]) -> int | None:
    factor, fixed = options.get("mmr_prefetch_factor"), options.get("mmr_prefetch_k")
    given = [name for name in ("mmr_prefetch_factor", "mmr_prefetch_k", "candidates") if options.get(name) is not None]
    if len(given) > 1:
        raise InvalidInput(f"{' and '.join(given)} say the same twice; pass one of them")
    if factor is not None:
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1 <= factor < float("inf"):
            raise InvalidInput(f"mmr_prefetch_factor is {factor!r}; it is a number from 1 up")
        return ceil(k * factor)
    if fixed is not None and (isinstance(fixed, bool) or not isinstance(fixed, int) or fixed < k):
        raise InvalidInput(f"mmr_prefetch_k is {fixed!r}; it is at least similarity_top_k, {k}")
    return fixed


def _vector(query: VectorStoreQuery) -> list[float]:
    if query.query_embedding is None:
        raise InvalidInput(
            f"query mode {_name(query)!r} needs query_embedding; 'text_search' goes without, and so does 'default' "
            "with filters, doc_ids or node_ids alone, without query_str"
        )
    return query.query_embedding


def _text(query: VectorStoreQuery) -> str:
    if query.query_str is None:
        raise InvalidInput(f"query mode {_name(query)!r} needs query_str; 'default' goes without")
    return query.query_str


def _name(query: VectorStoreQuery) -> str:
    return VectorStoreQueryMode(query.mode).value


def _require_known(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in OPTIONS:
            raise unknown_option("query", name, OPTIONS)


def _require_use(query: VectorStoreQuery, options: Mapping[str, Any], mode: VectorStoreQueryMode) -> None:
    """Refuse what this mode would ignore."""
    fused = mode in (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID)
    lexical = mode in (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH)
    various = mode is VectorStoreQueryMode.MMR
    useful = {
        "alpha": fused,
        "hybrid_top_k": fused,
        "sparse_top_k": fused or lexical,
        "mmr_threshold": various,
        **dict.fromkeys(_NEVER, False),
    }
    idle = [name for name, used in useful.items() if not used and getattr(query, name) is not None]
    if not various:
        idle += [name for name in _MMR if options.get(name) is not None]
    if lexical and options.get("recall") is not None:
        idle.append("recall")
    if idle:
        raise InvalidInput(
            f"{idle[0]} has no effect in query mode {mode.value!r}; leave it out, or choose another mode"
        )
