"""Import what LlamaIndex's storage context has persisted."""

from __future__ import annotations

import os

from reperio.arguments import to_path
from reperio.importers.llama_index.folder import read_folder
from reperio.importers.replacing import origin_key
from reperio.importers.storing import ImportReport, Options, Target, bring_in
from reperio.types import Embedder, Lexical, Limits, Metric, Progress


def import_llama_index(
    folder: str | os.PathLike[str],
    kb: Target,
    *,
    namespace: str = "default",
    metric: Metric | str | None = None,
    embedder: Embedder | str | None = None,
    lexical: Lexical | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Bring what ``storage_context.persist(folder)`` has written into a collection.

    The vectors are those of a `SimpleVectorStore`, a `FaissVectorStore` or a `FaissMapVectorStore`; ids, texts,
    metadata and relationships are those of the nodes in the document store. `ReperioVectorStore`, of the package
    ``llama-index-vector-stores-reperio``, gives them back as the nodes that they were. Everything is read and checked
    before the collection is touched. An import that was interrupted goes on when it is called again; a second one
    changes nothing.

    Args:
        folder: with ``docstore.json``, ``index_store.json`` and ``default__vector_store.json``.
        kb: an open collection, or its directory, which is created if absent.
        namespace: of the vector store: "default", "image", or as passed to ``add_vector_store``.
        metric: how the vectors are compared in the collection; None for cosine with a `SimpleVectorStore`, and for what
            the index says with FAISS.
        embedder: the model that made the vectors, for a directory: with it, the collection can be asked with texts, and
            a few nodes are embedded again to see whether it is the one. From an index that does not hold its vectors as
            they were added, all texts are embedded again.
        lexical: how a new collection cuts texts into words, as in `reperio.open`.
        limits: as in `reperio.open`, for a directory; a longer text or metadata is refused before anything is stored.
        progress: as by `Collection.add`.

    Raises:
        InvalidInput: the folder is incomplete, damaged, or does not fit the collection; or chunks that are
            not from it would be replaced.
        InvalidChunk: a text or metadata is beyond *limits*; nothing was stored.
        InvalidVectors: a vector cannot be stored; nothing was.
        EmbeddingContractError: the embedder is not the one that made the vectors.
        CollectionReadOnly, CollectionLocked, StorageFailed, EmbedderFailed, MissingDependency.
    """
    path = to_path("folder", folder)
    return bring_in(
        lambda _: read_folder(path, namespace),
        kb,
        origin=origin_key("llama-index", os.path.realpath(path), namespace),
        options=Options(metric, embedder, lexical, limits),
        progress=progress,
    )
