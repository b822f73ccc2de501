"""Open the collection of a store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import reperio
from langchain_core.embeddings import Embeddings
from reperio import Collection, Embedder, Filter, Limits, Metric
from reperio.arguments import to_path
from reperio.errors import CollectionNotFound, EmbeddingContractError, InvalidInput

from langchain_reperio.conversion.embedder import LangChainEmbedder, to_embedder

IN_MEMORY = ":memory:"
_CORES_CURE = "Open it with the recorded embedder"  # where the cure in the core's message begins


@dataclass(frozen=True, slots=True)
class Opening:
    """The options that a store opens its collection with; None for those of `reperio.open`.

    Attributes:
        embedding: makes the vectors.
        path: directory; None for memory.
        collection_name: folder below it.
        metric, dtype, lexical, scope, limits, read_only: as in `reperio.open`.
        must_exist: refuse to create a collection.
    """

    embedding: Embeddings | LangChainEmbedder | None
    path: str | os.PathLike[str] | None
    collection_name: str | None
    metric: Metric | str | None
    dtype: Literal["float32", "float16"] | None
    lexical: Literal["porter", "unicode61", "trigram", "none"] | None
    scope: Mapping[str, Any] | Filter | None
    limits: Limits | None
    read_only: bool
    must_exist: bool

    def require_none(self) -> None:
        """Refuse every option where a collection is open already."""
        given = [name for name in self.__slots__ if getattr(self, name) not in (None, False)]
        if given:
            raise InvalidInput(
                f"collection= is open already, so {', '.join(given)} {'is' if len(given) == 1 else 'are'} settled; "
                "pass them to reperio.open, the embedding as embedder=LangChainEmbedder(embedding)"
            )

    def open(self) -> Collection:
        """Open the collection, or create it.

        One that is empty is bound to the embedding, whatever model it was created with.
        """
        where = self._where()
        if self.must_exist and not _exists(where):
            raise CollectionNotFound(f"there is no collection at {where}; leave must_exist out to create one")
        embedder = None if self.embedding is None else to_embedder(self.embedding)
        try:
            return self._opened(where, embedder)
        except EmbeddingContractError as error:
            if embedder is None:
                raise
            if self.read_only or not _bound(where, embedder):
                raise _with_cure(error, where) from None
            return self._opened(where, embedder)

    def _opened(self, where: str | Path, embedder: Embedder | None) -> Collection:
        return reperio.open(
            where,
            embedder=embedder,
            metric=self.metric,
            dtype=self.dtype,
            lexical=self.lexical,
            scope=self.scope,
            read_only=self.read_only,
            limits=self.limits,
        )

    def _where(self) -> str | Path:
        if self.path is None or self.path == IN_MEMORY:
            if self.collection_name is not None:
                raise InvalidInput(
                    "collection_name is a folder below path, and this store is in memory, where each is a collection "
                    "of its own; pass path=, or leave collection_name out"
                )
            return IN_MEMORY
        path = to_path("path", self.path)
        return path if self.collection_name is None else path / _folder(self.collection_name)


def _folder(name: str) -> str:
    """Return a name that is one folder, for it may come from a request."""
    if not isinstance(name, str) or not name or name[0] in ".~" or set(name) & set("/\\:\0") or len(name) > 200:
        raise InvalidInput(
            f"collection_name is {name!r:.200}; it is the name of one folder below path, of at most 200 characters, "
            "without slashes or colons, and does not begin with a dot or a tilde"
        )
    return name


def _exists(where: str | Path) -> bool:
    if where == IN_MEMORY:
        return False
    try:
        reperio.open(where, read_only=True).close()
    except CollectionNotFound:
        return False
    return True


def _with_cure(error: EmbeddingContractError, where: str | Path) -> EmbeddingContractError:
    """Return the error with a cure for LangChain's embeddings, which no name loads on the command line."""
    told = str(error).partition(_CORES_CURE)[0].rstrip()
    return EmbeddingContractError(
        f"{told} Open the store with the embedding it was built with, or embed every text again: "
        f"with reperio.open({str(where)!r}) as kb: kb.reembed(LangChainEmbedder(embedding))"
    )


def _bound(where: str | Path, embedder: Embedder) -> bool:
    """Bind a collection in which nothing is stored to another model; say whether that was so."""
    if not _exists(where):
        return False
    with reperio.open(where) as collection:
        if collection.count():
            return False
        collection.reembed(embedder)  # of what another process has added since, every text is embedded
        return True
