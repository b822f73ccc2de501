"""Add chunks: check, embed, compare with what is stored, and put, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from typing import Any

from reperio.arguments import is_iterable
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.embedder import LazyEmbedder
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.inside import require_replaceable
from reperio.collection.write.batches import batches
from reperio.collection.write.preparing import Ahead, Prepared, check_chunks, embed_ahead, prepare, require_sizes
from reperio.errors import EmbedderFailed, ReperioError
from reperio.origins import Change
from reperio.store import NewChunk
from reperio.types import AddResult, Chunk, Embedder, Progress
from reperio.vectors import StoredMatrix, to_matrix, to_stored


def add(
    handle: Handle,
    lazy: LazyEmbedder,
    chunks: Iterable[Chunk],
    vectors: Any | None,
    batch_size: int,
    progress: Progress | None,
) -> AddResult:
    """Store chunks, a commit per batch; see `Collection.add`."""
    total = None
    if type(chunks) is list or (isinstance(chunks, Sized) and is_iterable(chunks)):
        total = len(chunks)
    result: AddResult | None = None
    done, cut = 0, 0 if vectors is not None else lazy.texts_cut()
    try:
        for batch, part in batches(chunks, vectors, batch_size):
            try:
                stored = _add_batch(handle, lazy, batch, part, done)
            except ReperioError as error:
                error.args = (f"{error}{_told_stored(error, batch, done)}",)
                raise
            result = stored if result is None else result + stored
            done += len(batch)
            if progress is not None:
                progress("add", done, total)
    finally:
        if vectors is None:
            lazy.tell_cut(lazy.texts_cut() - cut)
    return result or AddResult()


def check(handle: Handle, chunks: Sequence[Chunk], first: int = 0) -> list[NewChunk]:
    """Return chunks ready to be compared with what is stored; refuse the first that could not be stored, by its id.

    Args:
        handle: limits and scope are its.
        chunks: of one batch, or all before the first batch, by a caller that stores all or nothing.
        first: number of the first chunk in the whole input, for messages.
    """
    checked = check_chunks(chunks, first)
    require_sizes(checked, handle.limits)
    if handle.scope.tree is not None:
        handle.scope.require(checked)
    return checked


def _told_stored(error: ReperioError, batch: list[Chunk], done: int) -> str:
    """Say which chunks are stored, where a batch was refused."""
    if done:
        first = getattr(batch[0], "id", None)
        return f" [the {done} chunks of the batches before are stored; from chunk {done} ({first!r:.80}) on, none is]"
    return " [no chunk of this call is stored]" if isinstance(error, EmbedderFailed) else ""


def _add_batch(handle: Handle, lazy: LazyEmbedder, batch: list[Chunk], vectors: Any | None, first: int) -> AddResult:
    """Store a batch in one commit.

    Args:
        handle: of a writer.
        lazy: embeds where there are no vectors.
        batch: chunks.
        vectors: one each, or None.
        first: number of the first chunk in the whole input, for messages.
    """
    checked = check(handle, batch, first)
    ahead = _embedded_ahead(handle, lazy, checked) if vectors is None else None

    def attempt(generation: OpenGeneration) -> Prepared:
        # Vectors that are brought need no contract, and the file need not be read again for each of them.
        settings = generation.settled() if vectors is None else generation.settings
        store = generation.store
        seen = store.state.seq
        if handle.scope.tree is not None:
            with store.session() as session:
                require_replaceable(handle.scope, generation, session, [chunk.id for chunk in checked])
        given: StoredMatrix | None = None
        embedder: Embedder | None = None
        if vectors is not None:
            matrix = to_matrix(
                vectors, dimension=settings.dimension, metric=settings.metric, what="vectors", first=first
            )
            given = to_stored(matrix, settings.dtype, what="vectors", first=first)
        else:
            embedder = lazy.get(settings)
        prepared = prepare(checked, given, store=store, embedder=embedder, settings=settings, ahead=ahead)
        if prepared.result.embedded and embedder is not None and settings.contract is None:
            contract = lazy.contract(embedder)
            generation.keep_contract(contract)  # before the commit: no chunk is stored whose embedder is unknown
            lazy.replace(embedder, contract)
        if prepared.chunks:
            elsewhere = handle.origin.elsewhere(generation, lambda: _change(generation, prepared))
            store.put(prepared.chunks, prepared.matrix, prepared.replaced, seen=seen, elsewhere=elsewhere)
        else:
            store.require_permitted()  # that everything is stored already is an answer, too
        return prepared

    prepared = handle.commit(attempt)
    handle.maintainer.consider()
    return prepared.result


def _change(generation: OpenGeneration, prepared: Prepared) -> Change:
    ids = generation.store.existing([chunk.id for chunk in prepared.chunks]) if prepared.replaced else ()
    return Change(prepared.chunks, prepared.matrix, replaced=list(ids))


def _embedded_ahead(handle: Handle, lazy: LazyEmbedder, chunks: list[NewChunk]) -> Ahead:
    """Embed outside the lock: a model may take seconds, and other writers need not wait for it."""
    generation, session = handle.session()
    with session:
        ids = [chunk.id for chunk in chunks]
        # Before: whether a text need be embedded would tell whether it is that of a chunk outside.
        require_replaceable(handle.scope, generation, session, ids)
        existing = session.get(ids)
    settings = handle.settings()  # another thread may have compacted that generation away meanwhile
    embedder = lazy.get(settings)
    if embedder is not None and settings.contract is None:
        lazy.contract(embedder)  # made here, without the lock, and recorded once chunks are embedded by it
    return embed_ahead(chunks, existing, embedder=embedder, settings=settings)
