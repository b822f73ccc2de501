"""Await the embeddings' own coroutines where a call that runs in a thread needs vectors.

A call runs in a thread, for FAISS and SQLite cannot be awaited. Where it comes to a text whose vector is missing, it
ends with `Unembedded`; the text is embedded by ``aembed_query`` or ``aembed_documents`` in the event loop, and the call
is made again. So no thread waits for an embedding: any number of them are awaited at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from reperio.errors import EmbedderFailed, ReperioError
from typing_extensions import ParamSpec

P = ParamSpec("P")
Result = TypeVar("Result")
Vector = Sequence[float]


class Unembedded(ReperioError):
    """A call needs vectors of texts that are not embedded yet; `Vectors.serve` catches it."""

    def __init__(self, embedding: Embeddings, texts: Sequence[str], *, queries: bool) -> None:
        super().__init__(f"{len(texts)} texts are not embedded yet")
        self.embedding = embedding
        self.texts = list(dict.fromkeys(texts))
        self.queries = queries


class Vectors:
    """The vectors that were awaited for one call, or for the calls of one method."""

    def __init__(self) -> None:
        self._made: dict[tuple[bool, str], Vector] = {}

    async def serve(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return what *call* returns, made again after each embedding that it needs."""
        while True:
            token = _serving.set(self)
            try:
                return await call()
            except Unembedded as found:
                missing = found
            finally:
                _serving.reset(token)
            await self._embed(missing)

    def of(self, embedding: Embeddings, texts: Sequence[str], *, queries: bool) -> list[Vector]:
        """Return the vectors of texts.

        Raises:
            Unembedded: some are missing.
        """
        missing = [text for text in texts if (queries, text) not in self._made]
        if missing:
            raise Unembedded(embedding, missing, queries=queries)
        return [self._made[queries, text] for text in texts]

    def forget(self) -> None:
        """Forget the vectors of texts that are stored by now."""
        self._made.clear()

    async def _embed(self, missing: Unembedded) -> None:
        embedding, texts = missing.embedding, missing.texts
        made: list[Any]
        try:
            if missing.queries:
                made = await asyncio.gather(*(embedding.aembed_query(text) for text in texts))
            else:
                made = await embedding.aembed_documents(texts)
        except ReperioError:
            raise
        except Exception as error:  # a model, a network: as the core does where it embeds itself
            raise EmbedderFailed(
                f"{type(embedding).__name__} raised {type(error).__name__} over {len(texts)} texts: {error!s:.500}"
            ) from error
        if len(made) != len(texts):
            raise EmbedderFailed(f"{type(embedding).__name__} returned {len(made)} vectors for {len(texts)} texts")
        self._made.update(zip(((missing.queries, text) for text in texts), made, strict=True))


_serving: ContextVar[Vectors | None] = ContextVar("langchain_reperio_vectors", default=None)


def awaited(embedding: Embeddings) -> Vectors | None:
    """Return the vectors awaited for the call in progress; None where the embeddings are called as they are.

    That is outside an asynchronous method, and where the embeddings have no coroutines of their own: what LangChain
    gives them would run in a thread, and so does the call.
    """
    own = any(
        getattr(type(embedding), name, None) is not getattr(Embeddings, name)
        for name in ("aembed_query", "aembed_documents")
    )
    return _serving.get() if own else None


def is_served() -> bool:
    """Say whether an asynchronous method made the call in progress."""
    return _serving.get() is not None


def twin(method: Callable[P, Result]) -> Callable[P, Coroutine[Any, Any, Result]]:
    """Return the twin of a method, which is awaited: same arguments, same result, same errors."""
    name = method.__name__

    @wraps(method)
    async def twinned(*args: P.args, **kwargs: P.kwargs) -> Result:
        bound: Callable[..., Result] = getattr(args[0], name)  # a subclass may have one of its own
        return await Vectors().serve(lambda: run_in_executor(None, bound, *args[1:], **kwargs))

    twinned.__name__ = f"_a{name[1:]}" if name.startswith("_") else f"a{name}"
    twinned.__doc__ = f"Await `{name}`: same arguments, result and errors. The embeddings' own coroutines are awaited."
    return twinned
