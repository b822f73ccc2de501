"""Retrievers of LangChain and LlamaIndex as searches, without importing either.

from reperio.evaluation import from_langchain, from_llama_index, gate, read_golden

gate(None, read_golden("golden.yaml"), search=from_langchain(vector_store))
gate(None, read_golden("golden.yaml"), search=from_llama_index(index))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from reperio.errors import InvalidInput
from reperio.types import Chunk

Where: TypeAlias = "Mapping[str, Any] | None"
ToFilter: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""Makes a framework's filter of a question's ``where``."""


def from_langchain(
    source: Any, *, to_filter: ToFilter | None = None, id_field: str = "", scores: bool = False
) -> Callable[..., Any]:
    """Return a search that asks a LangChain vector store or retriever.

    Args:
        source: a vector store, asked for as many documents as the gate needs, with the question's filter; or a
            retriever, which takes neither: it answers with as many as it is set to, and a question with a filter is
            refused.
        to_filter: makes the store's filter of a question's ``where``; None passes ``where`` as it is.
        id_field: metadata field that holds a document's id, for stores that leave ``Document.id`` empty.
        scores: ask a store for relevance scores, which ``nothing_above`` needs. Plain scores are distances in some
            stores, so they are never taken.

    Raises:
        InvalidInput: it is neither a store nor a retriever; or a retriever is to give scores.
    """
    if callable(getattr(source, "similarity_search", None)):
        return _Store(source, to_filter, id_field, scores)
    if scores:
        raise InvalidInput("scores=True needs a vector store; a retriever gives documents alone")
    if callable(getattr(source, "invoke", None)):
        invoke = source.invoke

        def search(text: str) -> Any:
            return _identified(invoke(text), id_field)

        return search
    raise InvalidInput(
        f"{type(source).__name__} is no LangChain vector store (similarity_search) or retriever (invoke)"
    )


def from_llama_index(source: Any, *, to_filter: ToFilter | None = None) -> Callable[..., Any]:
    """Return a search that asks a LlamaIndex index, retriever or query engine.

    Args:
        source: an index, of which a retriever is made for as many nodes as the gate needs; or a retriever or query
            engine, which answers with as many as it is set to.
        to_filter: makes ``MetadataFilters`` of a question's ``where``, for an index. Without it, a question that has a
            filter is refused.

    Raises:
        InvalidInput: it is none of them.
    """
    if callable(getattr(source, "as_retriever", None)):
        return _filtered(source, to_filter) if to_filter else _plain(source)
    if callable(getattr(source, "retrieve", None)):
        retrieve = source.retrieve

        def search(text: str) -> Any:
            return retrieve(text)

        return search
    raise InvalidInput(f"{type(source).__name__} is no LlamaIndex index (as_retriever) or retriever (retrieve)")


class _Store:
    """Asks a vector store of LangChain."""

    def __init__(self, store: Any, to_filter: ToFilter | None, id_field: str, scores: bool) -> None:
        self._store, self._to_filter, self._id_field = store, to_filter, id_field
        self._ask = store.similarity_search_with_relevance_scores if scores else store.similarity_search

    def __call__(self, text: str, *, k: int, where: Where) -> Any:
        """Answer one question."""
        options = {} if where is None else {"filter": self._to_filter(where) if self._to_filter else dict(where)}
        return _identified(self._ask(text, k=k, **options), self._id_field)


def _identified(given: Sequence[Any], id_field: str) -> Any:
    """Return documents, or pairs with scores, under the ids that a metadata field holds."""
    if not id_field:
        return given
    pairs = [each if isinstance(each, tuple) else (each, None) for each in given]
    chunks = [(Chunk(_id(each, id_field), each.page_content, each.metadata), score) for each, score in pairs]
    return [chunk if score is None else (chunk, score) for chunk, score in chunks]


def _id(document: Any, field: str) -> str:
    if document.metadata.get(field) is None:
        raise InvalidInput(f"a document has no metadata field {field!r}; it has {', '.join(document.metadata)}")
    return str(document.metadata[field])


def _plain(source: Any) -> Callable[..., Any]:
    def search(text: str, *, k: int) -> Any:
        return source.as_retriever(similarity_top_k=k).retrieve(text)

    return search


def _filtered(source: Any, to_filter: ToFilter) -> Callable[..., Any]:
    def search(text: str, *, k: int, where: Where) -> Any:
        options = {} if where is None else {"filters": to_filter(where)}
        return source.as_retriever(similarity_top_k=k, **options).retrieve(text)

    return search
