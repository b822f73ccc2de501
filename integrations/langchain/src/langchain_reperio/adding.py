"""Storing and deleting documents: the half of a store that writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables.config import run_in_executor
from reperio import Chunk, Collection
from reperio.arguments import is_iterable, require_count
from reperio.errors import EmbedderFailed, InvalidInput, ReperioError
from typing_extensions import Never

from langchain_reperio.awaiting import Vectors, awaited, twin
from langchain_reperio.conversion.documents import OnBlank, from_chunk, to_chunks, without_blanks
from langchain_reperio.conversion.embedder import LangChainEmbedder
from langchain_reperio.conversion.filters import DocumentFilter, to_narrowed
from langchain_reperio.options import refuse_unknown

BATCH = 1000
ADDING = ("batch_size", "on_blank", "derive_ids")
_STAMP = "current_time"  # LangChain's time-weighted retriever passes it along, after putting it into the metadata
_UNSTORED = " [no chunk of this call is stored]"  # the core's, of one batch


class Adding:
    """The methods of a store that write, and those that read by id."""

    _collection: Collection

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = BATCH,
        on_blank: OnBlank = "skip",
        derive_ids: bool = False,
        **unknown: Never,
    ) -> list[str]:
        """Store texts, durably; one whose id is stored already replaces it. Unchanged texts are not embedded again.

        Args:
            texts: to embed and store.
            metadatas: one object per text. JSON's values come back exactly as they are; dates, sets and the like as
                what stands for them, which `langchain_reperio.conversion.values` lists.
            ids: one per text; None, also for single ones, makes one.
            batch_size: texts per commit.
            on_blank: what becomes of texts in which there is nothing, like an empty page: "skip" leaves them out with
                a warning that names their positions and sources, and what is stored under their ids stays; "error"
                refuses the call.
            derive_ids: make missing ids of text and metadata (equal ones of one call are numbered), instead of random
                UUIDs, so that adding the same texts again stores none twice.
            **unknown: none.

        Returns:
            The ids of the texts stored, in their order, those made here included.

        Raises:
            InvalidInput: numbers that differ, an id given twice, or what cannot be stored.

        Where a batch is refused, those before it are stored: the error's ``stored_ids`` are their ids, and its ``ids``
        those of all texts of the call that are not blank. So it is with whatever else ends the call, as Ctrl-C
        (`KeyboardInterrupt`) does, or the cancellation of an awaited one, which ends when its batch is stored.
        """
        refuse_unknown("add_texts", unknown, ("ids", *ADDING, _STAMP))
        chunks = without_blanks(to_chunks(texts, metadatas, ids, derive_ids=derive_ids), on_blank)
        return self._add(chunks, None, batch_size)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = BATCH,
        on_blank: OnBlank = "skip",
        derive_ids: bool = False,
        **unknown: Never,
    ) -> list[str]:
        """Await `add_texts`; the embeddings' own coroutines are awaited, batch by batch."""
        refuse_unknown("aadd_texts", unknown, ("ids", *ADDING, _STAMP))
        found = await run_in_executor(None, to_chunks, texts, metadatas, ids, derive_ids=derive_ids)
        chunks = without_blanks(found, on_blank)
        require_count("batch_size", batch_size)
        all_ids = [chunk.id for chunk in chunks]
        vectors = Vectors()
        stored: list[str] = []
        for first in range(0, len(chunks), batch_size):
            part = chunks[first : first + batch_size]
            try:
                await vectors.serve(partial(run_in_executor, None, self._embed_new, part))
                await vectors.serve(partial(self._store, part, stored))
            except BaseException as error:
                _tell(error, all_ids, len(stored))
                raise
            vectors.forget()
        return all_ids

    def add_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = BATCH,
        derive_ids: bool = False,
        **unknown: Never,
    ) -> list[str]:
        """Store texts with vectors that are there already, blank ones too; otherwise as `add_texts`."""
        refuse_unknown("add_embeddings", unknown, ("ids", "batch_size", "derive_ids"))
        if not is_iterable(text_embeddings):
            raise InvalidInput(f"text_embeddings is a {type(text_embeddings).__name__}; pass pairs of text and vector")
        pairs = list(text_embeddings)
        chunks = to_chunks([text for text, _ in pairs], metadatas, ids, derive_ids=derive_ids)
        return self._add(chunks, [vector for _, vector in pairs], batch_size)

    def delete(
        self,
        ids: list[str] | None = None,
        *,
        filter: DocumentFilter = None,  # noqa: A002  # LangChain's word for it
        delete_all: bool = False,
        **kwargs: Any,
    ) -> bool:
        """Delete documents, durably and in one commit.

        Args:
            ids: of the documents; one that is not there is no error. An empty list deletes nothing.
            filter: or whatever matches.
            delete_all: or everything. LangChain's None for all is refused without it: too often a None is a mistake.
            **kwargs: none.

        Returns:
            True: afterwards none of them is there.

        Raises:
            InvalidInput: none of the three, or more than one.
        """
        refuse_unknown("delete", kwargs, ("ids", "filter", "delete_all"))
        if (ids is not None) + (filter is not None) + bool(delete_all) != 1:
            raise InvalidInput(
                "delete takes ids, filter= or delete_all=True, exactly one; delete_all deletes everything"
            )
        if delete_all:
            ids = self._collection.ids()
        if ids is not None:
            _refuse_string(ids)
            self._collection.delete(ids=ids)
        else:
            self._collection.delete(**to_narrowed(self._collection, filter))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents that there are under *ids*, in that order; those that are missing are left out.

        Raises:
            InvalidInput: *ids* is one string, of which each letter would be an id.
        """
        _refuse_string(ids)
        return [from_chunk(chunk) for chunk in self._collection.get(list(ids))]

    aadd_embeddings = twin(add_embeddings)
    adelete = twin(delete)
    aget_by_ids = twin(get_by_ids)

    def _add(self, chunks: list[Chunk], vectors: list[Sequence[float]] | None, batch_size: int) -> list[str]:
        ids = [chunk.id for chunk in chunks]
        stored = 0

        def note(_: str, done: int, __: int | None) -> None:
            nonlocal stored
            stored = done

        try:
            self._collection.add(chunks, vectors=vectors, batch_size=batch_size, progress=note)
        except BaseException as error:
            if not isinstance(error, ReperioError):  # Ctrl-C may come between a commit and what tells of it
                stored += self._among(chunks[stored : stored + batch_size])
            _tell(error, ids, stored)
            raise
        return ids

    async def _store(self, batch: list[Chunk], stored: list[str]) -> None:
        """Store a batch in a thread, and put its ids into *stored*.

        A thread cannot be cancelled: its end is waited for, as only that says whether the batch is stored.
        """

        async def end() -> BaseException | None:
            try:
                await self._collection.aadd(batch, batch_size=len(batch))
            except BaseException as error:  # a task that raised SystemExit would end the loop, past this call
                return error
            return None

        storing = asyncio.ensure_future(end())
        cancelled: asyncio.CancelledError | None = None
        while not storing.done():
            try:
                await asyncio.wait([storing])
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
        ended = storing.result()
        if ended is None:
            stored += [chunk.id for chunk in batch]
        if cancelled is not None:
            raise cancelled
        if ended is not None:
            raise ended

    def _among(self, batch: list[Chunk]) -> int:
        """Return how many chunks of a batch are stored: all, or none."""
        try:
            return len(batch) if self._collection.get([chunk.id for chunk in batch]) == batch else 0
        except ReperioError:  # closed meanwhile, say
            return 0

    def _embed_new(self, chunks: list[Chunk]) -> None:
        """Ask the embedder for the vectors that adding these chunks will need, which raises where some are missing."""
        embedder = self._collection.embedder
        if not isinstance(embedder, LangChainEmbedder) or awaited(embedder.embedding) is None:
            return  # the collection embeds, in the thread that stores
        known = {chunk.id: chunk.text for chunk in self._collection.get([chunk.id for chunk in chunks])}
        new = [chunk.text for chunk in chunks if known.get(chunk.id) != chunk.text]
        if new:
            embedder.embed_passages(new)


def _refuse_string(ids: object) -> None:
    if isinstance(ids, str):
        raise InvalidInput(f"ids is one string; pass a list of ids: [{ids!r:.80}]")
    if not is_iterable(ids):
        raise InvalidInput(f"ids is a {type(ids).__name__}; pass a list of ids")


def _tell(error: BaseException, ids: list[str], stored: int) -> None:
    """Let an error, or what else ends a call, say which texts are stored."""
    told: Any = error
    told.ids, told.stored_ids = ids, ids[:stored]
    known = (
        f"[{stored} of {len(ids)} texts are stored, under this error's stored_ids; its ids are those of all, with "
        "which adding them again stores none twice]"
    )
    if not isinstance(error, ReperioError):
        if hasattr(told, "add_note"):  # Python 3.11 and later
            told.add_note(known)
        return
    message = str(error).removesuffix(_UNSTORED)
    if stored:
        message += f" {known}"
    elif isinstance(error, EmbedderFailed):
        message += _UNSTORED
    error.args = (message,)
