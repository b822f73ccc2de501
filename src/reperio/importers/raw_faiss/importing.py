"""Import an index that was kept next to a list of texts."""

from __future__ import annotations

import os

from reperio.arguments import to_path
from reperio.importers.raw_faiss.joining import Columns, read_pair
from reperio.importers.replacing import origin_key
from reperio.importers.storing import ImportReport, Options, Target, bring_in
from reperio.types import Embedder, Lexical, Limits, Metric, Progress


def import_faiss(
    index: str | os.PathLike[str],
    kb: Target,
    *,
    texts: str | os.PathLike[str],
    text_field: str = "text",
    id_field: str = "id",
    number_field: str | None = None,
    metric: Metric | str | None = None,
    embedder: Embedder | str | None = None,
    lexical: Lexical | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Bring an index that ``faiss.write_index`` has written, and the texts of its vectors, into a collection.

    Row after row, the texts belong to the vectors in the order in which these were added; or, with *number_field*, to
    those that were added with that number (``add_with_ids``). Other fields become metadata. Everything is read and
    checked before the collection is touched. An import that was interrupted goes on when it is called again; a second
    one changes nothing.

    Args:
        index: the index: flat, HNSW or NSG over flat, IVF over flat, a refining flat one, or an IDMap over any of them.
        kb: an open collection, or its directory, which is created if absent.
        texts: a .jsonl, .csv (with a header) or .parquet file, one row per vector.
        text_field: field with the text.
        id_field: field with the id of the chunk; where there is none, the vector's number is its id.
        number_field: field with FAISS's number of the vector.
        metric: how the vectors are compared in the collection; None for what the index says: "l2" or "inner_product".
            Vectors that were normalised for an inner product are "cosine".
        embedder: the model that made the vectors, for a directory: with it, the collection can be asked with texts, and
            a few documents are embedded again to see whether it is the one. From an index that does not hold its
            vectors as they were added (PQ, SQ, PCA, …), all texts are embedded again.
        lexical: how a new collection cuts texts into words, as in `reperio.open`.
        limits: as in `reperio.open`, for a directory; a longer text or metadata is refused before anything is stored.
        progress: as by `Collection.add`.

    Raises:
        InvalidInput: a file cannot be read, the two do not belong together, or they do not fit the collection; or
            chunks that are not from there would be replaced.
        VectorsLost: the index does not hold its vectors, and there is no embedder.
        InvalidChunk: a text or metadata is beyond *limits*; nothing was stored.
        InvalidVectors: a vector cannot be stored; nothing was.
        EmbeddingContractError: the embedder is not the one that made the vectors.
        CollectionReadOnly, CollectionLocked, StorageFailed, EmbedderFailed, MissingDependency.
    """
    path, rows = to_path("index", index), to_path("texts", texts)
    columns = Columns(text_field, id_field, number_field)
    return bring_in(
        lambda _: read_pair(path, rows, columns),
        kb,
        origin=origin_key("faiss", os.path.realpath(path), os.path.realpath(rows)),
        options=Options(metric, embedder, lexical, limits),
        progress=progress,
    )
