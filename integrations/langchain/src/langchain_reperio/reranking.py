"""Reperio's rerankers where LangChain reranks: on documents that were retrieved already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, field_validator
from reperio import Chunk, Hit, Reranker
from reperio.errors import InvalidInput
from reperio.ranking import rerank


class ReperioRerank(BaseDocumentCompressor):
    """A document compressor that puts documents into a reranker's order and keeps its scores.

    On the documents of a `ReperioVectorStore`, ``reranker=`` of the search itself does the same in one step, with
    candidates enough to choose from; this one is for documents of any origin, such as several retrievers'.

    Attributes:
        reranker: any `reperio.Reranker`.
        top_n: how many to keep; None for all of them.
        score_key: where the score goes in the metadata of the documents returned; an older entry of that name, such as
            an earlier reranker's, is replaced. None leaves the metadata alone. The documents passed in never change.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    reranker: Any
    top_n: int | None = None
    score_key: str | None = "relevance_score"

    @field_validator("reranker")
    @classmethod
    def _is_reranker(cls, given: Any) -> Any:
        if not isinstance(given, Reranker):
            raise InvalidInput(
                f"reranker is a {type(given).__name__} without a score method; wrap a function in "
                "reperio.CallableReranker, or pass a reperio.CrossEncoderReranker"
            )
        return given

    @field_validator("top_n")
    @classmethod
    def _counts(cls, given: int | None) -> int | None:
        if given is not None and given < 1:
            raise InvalidInput(f"top_n is {given}; it must be at least 1, or None for all documents")
        return given

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return copies of *documents*, best first; equal scores in the order they came in.

        Args:
            documents: in any order, with or without ids, repeated or not.
            query: what they shall answer.
            callbacks: not used; a reranker reports nothing.

        Raises:
            RerankerFailed: the reranker raised, or did not give a finite score for each document.
        """
        del callbacks
        # The position stands for the id: documents may have none, or the same one twice.
        hits = [Hit(Chunk(str(at), each.page_content), 0.0, at + 1) for at, each in enumerate(documents)]
        (ordered,) = rerank(self.reranker, [query], [hits])
        return [self._scored(documents[int(hit.chunk.id)], hit.score) for hit in ordered[: self.top_n]]

    def _scored(self, document: Document, score: float) -> Document:
        added = {} if self.score_key is None else {self.score_key: score}
        return document.model_copy(update={"metadata": {**document.metadata, **added}})
