"""Import a folder of LangChain's FAISS store, without executing its pickle."""

from __future__ import annotations

import os

from reperio.arguments import to_path
from reperio.importers.langchain_faiss.folder import read_folder
from reperio.importers.replacing import origin_key
from reperio.importers.storing import ImportReport, Options, Target, bring_in
from reperio.types import Embedder, Lexical, Limits, Metric, Progress


def import_langchain_faiss(
    folder: str | os.PathLike[str],
    kb: Target,
    *,
    index_name: str = "index",
    metric: Metric | str | None = None,
    embedder: Embedder | str | None = None,
    lexical: Lexical | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Bring what LangChain's ``FAISS.save_local(folder, index_name)`` has written into a collection.

    Ids, texts, metadata and vectors are kept; values of metadata that JSON does not know become what stands for them,
    and the report counts them. The pickle is read without executing it, and what it holds besides documents and plain
    data is refused. Everything is read and checked before the collection is touched. A second import changes nothing.

    Args:
        folder: with ``{index_name}.faiss`` and ``{index_name}.pkl``.
        kb: an open collection, or its directory, which is created if absent.
        index_name: as passed to ``save_local``.
        metric: how the vectors are compared in the collection; None for what the index says: "l2" or "inner_product".
            Whether LangChain normalised them (``normalize_L2``) is recorded nowhere: if so, "cosine" is what is meant.
        embedder: the model that made the vectors, for a directory: with it, the collection can be asked with texts, and
            a few documents are embedded again to see whether it is the one. From an index that does not hold its
            vectors as they were added (codes, or an IVF after a delete), all texts are embedded again.
        lexical: how a new collection cuts texts into words, as in `reperio.open`.
        limits: as in `reperio.open`, for a directory; a longer text or metadata is refused before anything is stored.
        progress: as by `Collection.add`.

    Raises:
        UnsafePickle: the pickle holds something else; it is named.
        InvalidInput: the folder is incomplete, damaged, or does not fit the collection; or chunks that are
            not from it would be replaced.
        InvalidChunk: a text or metadata is beyond *limits*; nothing was stored.
        InvalidVectors: a vector cannot be stored; nothing was.
        EmbeddingContractError: the embedder is not the one that made the vectors.
        CollectionReadOnly, CollectionLocked, StorageFailed, EmbedderFailed, MissingDependency.
    """
    path = to_path("folder", folder)
    return bring_in(
        lambda _: read_folder(path, index_name),
        kb,
        origin=origin_key("langchain-faiss", os.path.realpath(path), index_name),
        options=Options(metric, embedder, lexical, limits),
        progress=progress,
    )
