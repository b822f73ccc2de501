"""Moving house: a folder of LangChain's FAISS store becomes a collection, and its pickle is not executed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from reperio import layout
from reperio.arguments import to_metric, to_path
from reperio.collection import Collection
from reperio.collection import open as open_collection
from reperio.collection.handle.embedder import resolve
from reperio.embedding.contract import embed
from reperio.errors import EmbeddingContractError, InvalidInput
from reperio.importers.langchain_faiss.conversion import Changed
from reperio.importers.langchain_faiss.folder import Folder, read_folder
from reperio.index import VectorsLost
from reperio.types import Embedder, Lexical, Metric, Progress
from reperio.vectors import cosines, to_matrix

Target: TypeAlias = "Collection | str | os.PathLike[str]"

_COMPARED = 8  # documents that are embedded again
_AGREEMENT = 0.99  # less than a contract asks: other libraries round, cut and pad in their own ways


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of one import, with what could not be carried over.

    Attributes:
        path: of the collection.
        created: it was made by this import.
        documents: in the folder.
        added, updated, unchanged, embedded: as in `AddResult`, in chunks.
        index: FAISS's name for the type of the index that was read.
        dimension, metric: of the collection.
        unit_length: under l2 or inner product: all vectors have length 1, so that cosine would rank them the same, and
            have scores in [−1, 1].
        without_vector: ids of documents that have no vector in the index, or one that is lost and no text; they were
            not imported.
        without_document: numbers of vectors that no document belongs to; they were not imported.
        duplicates: ids with more than one vector; the one with the highest number was imported.
        changed: values that JSON cannot hold, and what they became.
    """

    path: str
    created: bool
    documents: int
    added: int
    updated: int
    unchanged: int
    embedded: int
    index: str
    dimension: int
    metric: Metric
    unit_length: bool
    without_vector: tuple[str, ...]
    without_document: tuple[int, ...]
    duplicates: tuple[str, ...]
    changed: tuple[Changed, ...]

    @property
    def complete(self) -> bool:
        """True when everything was carried over as it was."""
        return not (self.without_vector or self.without_document or self.duplicates or self.changed)


def import_langchain_faiss(
    folder: str | os.PathLike[str],
    kb: Target,
    *,
    index_name: str = "index",
    metric: Metric | str | None = None,
    embedder: Embedder | str | None = None,
    lexical: Lexical | None = None,
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
        progress: as by `Collection.add`.

    Raises:
        UnsafePickle: the pickle holds something else; it is named.
        InvalidInput: the folder is incomplete, damaged, or does not fit the collection.
        InvalidVectors: a vector cannot be stored; nothing was.
        EmbeddingContractError: the embedder is not the one that made the vectors.
        CollectionReadOnly, CollectionLocked, StorageFailed, EmbedderFailed, MissingDependency.
    """
    wanted = None if metric is None else to_metric(metric)
    folder = to_path("folder", folder)
    if isinstance(kb, Collection):
        for name, value in (("embedder", embedder), ("lexical", lexical)):
            if value is not None:
                raise InvalidInput(f"{name} belongs to the directory of a collection; an open one has its own")
        read = read_folder(folder, index_name)
        return _store(read, kb, wanted or read.index.metric, created=False, progress=progress)
    kb = to_path("kb", kb)
    read = read_folder(folder, index_name)
    wanted = wanted or read.index.metric
    loaded = None if embedder is None else resolve(embedder)
    created = not layout.Layout(kb).is_collection()
    if created:  # what is refused leaves no empty collection behind
        _require_fit(read, loaded.dimension if loaded else read.index.dimension, wanted, wanted, str(kb))
        _require_storable(read, loaded, wanted)
    with open_collection(
        kb,
        embedder=loaded,
        dimension=read.index.dimension if created and loaded is None else None,
        metric=wanted if created else None,
        lexical=lexical,
    ) as collection:
        return _store(read, collection, wanted, created=created, progress=progress)


def _store(read: Folder, kb: Collection, metric: Metric, *, created: bool, progress: Progress | None) -> ImportReport:
    info = kb.info()
    _require_fit(read, info.dimension, info.metric, metric, info.path)
    unit_length = _require_storable(read, kb.embedder, metric)
    ready = None if read.index.lost else (vector for _, block in read.blocks() for vector in block)
    done = kb.add(read.chunks, vectors=ready, progress=progress)
    return ImportReport(
        path=info.path,
        created=created,
        documents=read.documents,
        added=done.added,
        updated=done.updated,
        unchanged=done.unchanged,
        embedded=done.embedded,
        index=read.index.kind,
        dimension=info.dimension,
        metric=metric,
        unit_length=unit_length and metric is not Metric.COSINE,
        without_vector=read.without_vector,
        without_document=read.without_document,
        duplicates=read.duplicates,
        changed=read.changed,
    )


def _require_fit(read: Folder, dimension: int, metric: Metric, wanted: Metric, path: str) -> None:
    if read.index.lost is None and read.index.dimension != dimension:
        raise InvalidInput(
            f"the folder's vectors have {read.index.dimension} dimensions, those of {path} {dimension}; import them "
            "into another collection, or with the model that made them"
        )
    if metric is not wanted:
        raise InvalidInput(
            f"the folder's vectors are compared by {wanted.value}, those of {path} by {metric.value}; pass "
            f"metric={metric.value!r} (--metric {metric.value}) if that is meant, or import into another collection"
        )


def _require_storable(read: Folder, embedder: Embedder | None, metric: Metric) -> bool:
    """Check every vector before the first is stored; say whether all have length 1."""
    if read.index.lost is not None:
        if embedder is None:
            raise VectorsLost(
                f"{read.index.lost}; pass the model that embeds the texts again (embedder=, --embedder), or a "
                "collection with one"
            )
        return False  # unknown: there are no vectors
    unit = len(read.places) > 0
    for start, block in read.blocks():
        to_matrix(block, dimension=read.index.dimension, metric=metric, what="the folder's vectors", first=start)
        unit = unit and bool((np.abs(np.linalg.norm(block, axis=1) - 1) < 1e-3).all())
    if embedder is not None:
        _require_agreement(read, embedder)
    return unit


def _require_agreement(read: Folder, embedder: Embedder) -> None:
    """Embed a few documents again: with another model, every answer to a text would be wrong without a sign of it."""
    chosen = [place for place, chunk in enumerate(read.chunks) if chunk.text.strip()][:_COMPARED]
    if not chosen:
        return
    made = embed(embedder, [read.chunks[place].text for place in chosen], Metric.INNER_PRODUCT, queries=False)
    agreement = cosines(made, read.index.vectors(read.places[chosen]))
    if agreement.min() < _AGREEMENT:
        worst = read.chunks[chosen[int(agreement.argmin())]].id
        raise EmbeddingContractError(
            f"{embedder.name!r} did not make the folder's vectors: document {worst!r:.80}, embedded again, has cosine "
            f"{agreement.min():.4f} to its vector, {_AGREEMENT} is required. Pass the model that made them; or none, "
            "and import them into a new collection, which is then asked with vectors"
        )
