"""The options of a search: what a store has by default, what a call asks for, and what there is none of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reperio import Fusion, Mode, Reranker
from reperio.arguments import require_count, require_recall, unknown_option
from reperio.errors import InvalidInput

SEARCH = ("recall", "mode", "fusion", "weight", "candidates", "reranker", "distinct", "min_score")
"""Options of a search besides its question, ``k`` and ``filter``: see `reperio.Collection.search`."""

MMR = ("recall", "mode", "fusion", "weight", "distinct", "min_score")
"""The same where maximal marginal relevance chooses: its candidates are ``fetch_k``, and it makes the order."""

BY_VECTOR = ("recall", "candidates", "distinct", "min_score")
"""The same where a vector is the question, and no text that words or a reranker could go by."""

MMR_BY_VECTOR = ("recall", "distinct", "min_score")

# Options of LangChain's FAISS store and of neighbouring methods: what took their place.
_MOVED = {
    "fetch_k": "filters are applied before the search, so that it never comes up short; leave it out",
    "score_threshold": "min_score= takes a score, and similarity_search_with_relevance_scores a score_threshold=",
}


@dataclass(frozen=True, slots=True)
class SearchDefaults:
    """Search defaults of a store, for calls that name no others; None for Reperio's own."""

    recall: float | None = None
    mode: Mode | None = None
    fusion: Fusion | None = None
    weight: float | None = None
    candidates: int | None = None
    reranker: Reranker | None = None

    def __post_init__(self) -> None:
        if self.recall is not None:
            require_recall(self.recall)

    def merged(self, asked: Mapping[str, Any], allowed: Sequence[str], method: str) -> dict[str, Any]:
        """Return the options of one search.

        A default that the search has no use for is left out: a weight where nothing is fused, a reranker where there
        is no text. What the call itself asks for is never left out: Reperio refuses what it cannot do.

        Args:
            asked: with the call.
            allowed: the options that its method has.
            method: its name, for the message.

        Raises:
            UnknownOption: *asked* has another one; the nearest is named.
        """
        refuse_unknown(method, asked, (*allowed, "filter"))
        found = {name: value for name in allowed if (value := getattr(self, name, None)) is not None}
        found.update(asked)
        if found.get("mode", "dense") != "hybrid":
            unused = {"fusion", "weight"}
        else:
            unused = {"weight"} if found.get("fusion", "convex") != "convex" else set()
        return {name: value for name, value in found.items() if name in asked or name not in unused}


def refuse_unknown(method: str, asked: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise `UnknownOption` for an option that *method* does not have, with what to use instead."""
    for name in asked:
        if name not in known:
            raise unknown_option(method, name, known, cure=_MOVED.get(name, ""))


def marginal(k: int, fetch_k: int, lambda_mult: float) -> dict[str, Any]:
    """Return LangChain's options of maximal marginal relevance as Reperio's.

    Fewer candidates than hits, as LangChain's FAISS store allows, would cut the result short: k of them are fetched
    then.
    """
    require_count("k", k)
    require_count("fetch_k", fetch_k)
    if isinstance(lambda_mult, bool) or not isinstance(lambda_mult, (int, float)) or not 0.0 <= lambda_mult <= 1.0:
        raise InvalidInput(f"lambda_mult is {lambda_mult!r}; from 0 (variety) to 1 (relevance)")
    return {"candidates": max(k, fetch_k), "diversity": 1.0 - lambda_mult}


def by_vector_alone(asked: Mapping[str, Any]) -> bool:
    """Say whether a search goes by the query's vector, and nothing reads its words."""
    return asked.get("mode", "dense") == "dense" and asked.get("reranker") is None
