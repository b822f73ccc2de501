"""Import a collection of a Chroma directory."""

from __future__ import annotations

import os

from reperio.arguments import to_path
from reperio.importers.chroma.folder import read_folder
from reperio.importers.replacing import origin_key
from reperio.importers.storing import ImportReport, Options, Target, bring_in
from reperio.types import Embedder, Lexical, Limits, Metric, Progress


def import_chroma(
    folder: str | os.PathLike[str],
    kb: Target,
    *,
    collection: str | None = None,
    metric: Metric | str | None = None,
    embedder: Embedder | str | None = None,
    lexical: Lexical | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Bring a collection of what ``chromadb.PersistentClient(folder)`` has written into a collection.

    Ids, documents, metadata and vectors are kept, also those that lie in Chroma's write-ahead log alone. So is the
    metric: a score is minus the distance under l2, and 1 minus the distance under cosine and inner product. Nothing of
    Chroma is imported, and its pickle is read without executing it. Everything is read and checked before the
    collection is touched. An import that was interrupted goes on when it is called again; a second one changes nothing.

    Tried with the folders of chromadb 0.4.24, 0.5.23 and 1.5.9. No program may write the folder meanwhile.

    Args:
        folder: with ``chroma.sqlite3``.
        kb: an open collection, or its directory, which is created if absent.
        collection: name or id of Chroma's collection; None where there is only one.
        metric: how the vectors are compared in the collection; None for what Chroma says ("hnsw:space").
        embedder: the model that made the vectors, for a directory: with it, the collection can be asked with texts, and
            a few documents are embedded again to see whether it is the one.
        lexical: how a new collection cuts texts into words, as in `reperio.open`.
        limits: as in `reperio.open`, for a directory; a longer text or metadata is refused before anything is stored.
        progress: as by `Collection.add`.

    Raises:
        UnsupportedFormat: a version of Chroma wrote it whose files are not known.
        UnsafePickle: its pickle holds something else than Chroma writes; it is named.
        InvalidInput: the folder is incomplete, damaged, or does not fit the collection; or chunks that are
            not from it would be replaced.
        InvalidChunk: a text or metadata is beyond *limits*; nothing was stored.
        InvalidVectors: a vector cannot be stored; nothing was.
        EmbeddingContractError: the embedder is not the one that made the vectors.
        CollectionReadOnly, CollectionLocked, StorageFailed, EmbedderFailed.
    """
    path = to_path("folder", folder)
    return bring_in(
        lambda opened: read_folder(path, collection, opened),
        kb,
        origin=origin_key("chroma", os.path.realpath(path), str(collection)),
        options=Options(metric, embedder, lexical, limits),
        progress=progress,
    )
