"""A retriever with Reperio's own options as its fields."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict
from reperio.errors import InvalidInput

from langchain_reperio.options import SEARCH, refuse_unknown
from langchain_reperio.store import ReperioVectorStore

_SEARCH = ("k", "filter", *SEARCH)
_FIELDS = (*_SEARCH, "score_threshold", "score_key")


class ReperioRetriever(BaseRetriever):
    """A retriever with the options of a search as its fields, each of which ``invoke`` takes as well.

    ``ReperioRetriever(vectorstore=store, k=5, mode="hybrid", reranker=reranker).invoke("…", filter={"lang": "en"})``

    Attributes:
        vectorstore: a `ReperioVectorStore`.
        k: documents to return.
        filter, recall, mode, fusion, weight, candidates, reranker, distinct, min_score: as in
            `ReperioVectorStore.similarity_search`; None for the store's default.
        score_threshold: least relevance, 0 to 1; None for none.
        score_key: where the score goes in the metadata of the documents returned, e.g. "score"; None, the default,
            leaves the metadata as it was stored.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    vectorstore: ReperioVectorStore
    k: int = 4
    filter: Any = None
    recall: float | None = None
    mode: str | None = None
    fusion: str | None = None
    weight: float | None = None
    candidates: int | None = None
    reranker: Any = None
    distinct: bool | None = None
    min_score: float | None = None
    score_threshold: float | None = None
    score_key: str | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        del run_manager  # nothing is run that could report to it
        asked, threshold, key = self._asked(kwargs)
        if threshold is None:
            found = self.vectorstore.similarity_search_with_score(query, **asked)
        else:
            found = self.vectorstore.similarity_search_with_relevance_scores(query, score_threshold=threshold, **asked)
        return [_scored(document, score, key) for document, score in found]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        del run_manager
        asked, threshold, key = self._asked(kwargs)
        if threshold is None:
            found = await self.vectorstore.asimilarity_search_with_score(query, **asked)
        else:
            found = await self.vectorstore.asimilarity_search_with_relevance_scores(
                query, score_threshold=threshold, **asked
            )
        return [_scored(document, score, key) for document, score in found]

    def _asked(self, given: dict[str, Any]) -> tuple[dict[str, Any], float | None, str | None]:
        """Return the options of one search, its threshold, and the key of its scores."""
        refuse_unknown("invoke", given, _FIELDS)
        asked = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None} | given
        return asked, asked.pop("score_threshold", None), asked.pop("score_key", None)


def _scored(document: Document, score: float, key: str | None) -> Document:
    if key is None:
        return document
    if key in document.metadata:
        raise InvalidInput(
            f"document {document.id!r} has metadata {key!r} of its own, which the score would hide; choose another "
            "score_key"
        )
    document.metadata[key] = score
    return document
