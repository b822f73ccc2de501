"""Store what an importer has read: checked as a whole first, then added to a collection, and told in a report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from reperio import layout
from reperio.arguments import to_metric, to_path
from reperio.collection import Collection
from reperio.collection import open as open_collection
from reperio.collection.facade import handle_of
from reperio.collection.handle.embedder import resolve
from reperio.collection.write.preparing import check_chunks, require_sizes
from reperio.embedding.contract import embed
from reperio.errors import EmbeddingContractError, InvalidChunk, InvalidInput, InvalidVectors
from reperio.importers.conversion import Changed
from reperio.importers.replacing import Incoming, record, require_own
from reperio.index import VectorsLost
from reperio.types import Chunk, Embedder, FloatMatrix, Lexical, Limits, Metric, Progress, Rows
from reperio.vectors import cosines, to_matrix

Target: TypeAlias = "Collection | str | os.PathLike[str]"

_COMPARED = 8  # documents that are embedded again
_AGREEMENT = 0.99  # less than a contract asks: other libraries round, cut and pad in their own ways
_BLOCK = 1000  # vectors held in memory at once


@dataclass(frozen=True, slots=True)
class ForeignContent:
    """The content of another store, read and checked, before a collection is touched.

    Attributes:
        what: the source in messages, e.g. "the folder".
        kind: type of the index that was read.
        dimension, metric: of its vectors.
        documents: how many documents it holds.
        chunks: of the documents that have a vector.
        vectors: returns the vectors of the chunks at these places in *chunks*: float32 (len(places), d).
        lost: why *vectors* has none to give; None where it has.
        without_vector, without_document, duplicates, changed, notes: as in `ImportReport`.
    """

    what: str
    kind: str
    dimension: int
    metric: Metric
    documents: int
    chunks: Sequence[Chunk]
    vectors: Callable[[Rows], FloatMatrix]
    lost: str | None = None
    without_vector: tuple[str, ...] = ()
    without_document: tuple[int, ...] = ()
    duplicates: tuple[str, ...] = ()
    changed: tuple[Changed, ...] = ()
    notes: tuple[str, ...] = ()

    def blocks(self) -> Iterator[tuple[int, FloatMatrix]]:
        """Yield the vectors of the chunks in blocks, each with the number of its first."""
        for start in range(0, len(self.chunks), _BLOCK):
            yield start, self.vectors(np.arange(start, min(start + _BLOCK, len(self.chunks))))


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of one import, with what could not be carried over.

    Attributes:
        path: of the collection.
        created: it was made by this import.
        documents: in the source.
        added, updated, unchanged, embedded: as in `AddResult`, in chunks.
        index: type of the index that was read, by the name that its library has for it.
        dimension, metric: of the collection.
        unit_length: under l2 or inner product: all vectors have length 1, so that cosine would rank them the same, and
            have scores in [−1, 1].
        without_vector: ids of documents that have no vector in the index, or one that is lost and no text; they were
            not imported.
        without_document: numbers of vectors that no document belongs to; they were not imported.
        duplicates: ids with more than one vector; the one with the highest number was imported.
        changed: values that JSON cannot hold, and what they became.
        notes: what the source says of itself and a collection has no place for, one sentence each.
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
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True when every document was carried over as it was."""
        return not (self.without_vector or self.without_document or self.duplicates or self.changed)


class Options(NamedTuple):
    """What a collection is opened with, or made with; None for what it has, or by default gets.

    Attributes:
        metric: how the vectors are compared.
        embedder, lexical, limits: as in `reperio.open`.
    """

    metric: Metric | str | None
    embedder: Embedder | str | None
    lexical: Lexical | None
    limits: Limits | None

    def require_closed(self) -> None:
        """Refuse what belongs to a directory, where a collection is open already."""
        for name, value in (("embedder", self.embedder), ("lexical", self.lexical), ("limits", self.limits)):
            if value is not None:
                raise InvalidInput(f"{name} belongs to the directory of a collection; an open one has its own")


def bring_in(
    read: Callable[[ExitStack], ForeignContent],
    kb: Target,
    *,
    origin: str,
    options: Options,
    progress: Progress | None,
) -> ImportReport:
    """Store what *read* returns in a collection; nothing is stored where some of it cannot be.

    Args:
        read: reads and checks the source. It is called after the arguments are checked, with what closes at the end
            the files that it leaves open.
        kb, progress: as of the importers.
        origin: key of the source, from `origin_key`.
        options: as of the importers.
    """
    wanted = None if options.metric is None else to_metric(options.metric)
    with ExitStack() as opened:
        if isinstance(kb, Collection):
            options.require_closed()
            content = read(opened)
            _require_some(content)
            return _store(content, kb, wanted or content.metric, origin=origin, progress=progress)
        path = to_path("kb", kb)
        content = read(opened)
        _require_some(content)
        return _into_directory(content, path, options, origin, progress)


def _into_directory(
    content: ForeignContent, path: Path, options: Options, origin: str, progress: Progress | None
) -> ImportReport:
    wanted = content.metric if options.metric is None else to_metric(options.metric)
    loaded = None if options.embedder is None else resolve(options.embedder)
    created = not layout.Layout(path).is_collection()
    if created:  # what is refused leaves no empty collection behind
        _require_fit(content, loaded.dimension if loaded else content.dimension, wanted, wanted, str(path))
        _require_sizes(content, options.limits or Limits())
        _require_storable(content, loaded, wanted)
    with open_collection(
        path,
        embedder=loaded,
        dimension=content.dimension if created and loaded is None else None,
        metric=wanted if created else None,
        lexical=options.lexical,
        limits=options.limits,
    ) as collection:
        return replace(_store(content, collection, wanted, origin=origin, progress=progress), created=created)


def _store(
    content: ForeignContent, kb: Collection, metric: Metric, *, origin: str, progress: Progress | None
) -> ImportReport:
    info, limits = kb.info(), handle_of(kb).limits
    _require_fit(content, info.dimension, info.metric, metric, info.path)
    _require_sizes(content, limits)
    unit_length = _require_storable(content, kb.embedder, metric)
    incoming = Incoming(origin, content.what, content.chunks, None if content.lost else content.blocks())
    require_own(kb, incoming)
    record(kb, incoming)
    ready = None if content.lost else (vector for _, block in content.blocks() for vector in block)
    done = kb.add(content.chunks, vectors=ready, batch_size=min(_BLOCK, limits.batch), progress=progress)
    return ImportReport(
        path=info.path,
        created=False,
        documents=content.documents,
        added=done.added,
        updated=done.updated,
        unchanged=done.unchanged,
        embedded=done.embedded,
        index=content.kind,
        dimension=info.dimension,
        metric=metric,
        unit_length=unit_length and metric is not Metric.COSINE,
        without_vector=content.without_vector,
        without_document=content.without_document,
        duplicates=content.duplicates,
        changed=content.changed,
        notes=content.notes,
    )


def _require_sizes(content: ForeignContent, limits: Limits) -> None:
    """Check every chunk before the first is stored: its size, and that no other has its id."""
    ids = {chunk.id for chunk in content.chunks}
    if len(ids) < len(content.chunks):
        twice = next(key for key, count in Counter(chunk.id for chunk in content.chunks).items() if count > 1)
        raise InvalidInput(f"{content.what} has two documents with the id {twice!r:.80}, written as Unicode")
    for start in range(0, len(content.chunks), _BLOCK):
        try:
            require_sizes(check_chunks(content.chunks[start : start + _BLOCK], start), limits)
        except InvalidChunk as error:
            error.args = (f"{error} (on the command line --max-text or --max-metadata); nothing was imported",)
            raise


def _require_some(content: ForeignContent) -> None:
    """Refuse content of which nothing would be imported: its parts do not belong together."""
    if content.documents and not content.chunks:
        missing = "a text to embed" if content.lost else "a vector"
        named = ", ".join(f"{each!r:.80}" for each in content.without_vector[:3])
        raise InvalidInput(
            f"none of the {content.documents:,} documents of {content.what} has {missing} ({named}, …), so nothing can "
            "be imported: its files do not belong together; write them again with the program that made them"
        )


def _require_fit(content: ForeignContent, dimension: int, metric: Metric, wanted: Metric, path: str) -> None:
    if content.lost is None and content.dimension != dimension:
        raise InvalidInput(
            f"{content.what}'s vectors have {content.dimension} dimensions, those of {path} {dimension}; import them "
            "into another collection, or with the model that made them"
        )
    if metric is not wanted:
        raise InvalidInput(
            f"{content.what}'s vectors are compared by {wanted.value}, those of {path} by {metric.value}; pass "
            f"metric={metric.value!r} (--metric {metric.value}) if that is meant, or import into another collection"
        )


def _require_storable(content: ForeignContent, embedder: Embedder | None, metric: Metric) -> bool:
    """Check every vector before the first is stored; say whether all have length 1."""
    if content.lost is not None:
        if embedder is None:
            raise VectorsLost(
                f"{content.lost}; pass the model that embeds the texts again (embedder=, --embedder), or a "
                "collection with one"
            )
        return False  # unknown: there are no vectors
    unit = len(content.chunks) > 0
    for start, block in content.blocks():
        try:
            to_matrix(block, dimension=content.dimension, metric=metric, what=f"{content.what}'s vectors", first=start)
        except InvalidVectors as error:
            raise _naming(content, start, block, metric) or error from None
        unit = unit and bool((np.abs(np.linalg.norm(block, axis=1) - 1) < 1e-3).all())
    if embedder is not None:
        _require_agreement(content, embedder)
    return unit


def _naming(content: ForeignContent, start: int, block: FloatMatrix, metric: Metric) -> InvalidVectors | None:
    """Return the error for the first vector that cannot be stored, with its document: a user knows no rows."""
    for place, vector in enumerate(block):
        what = f"{content.what}'s vector of document {content.chunks[start + place].id!r:.80}"
        try:
            to_matrix(vector[None], dimension=content.dimension, metric=metric, what=what, first=start + place)
        except InvalidVectors as error:
            return error
    return None


def _require_agreement(content: ForeignContent, embedder: Embedder) -> None:
    """Embed a few documents again: with another model, every answer to a text would be wrong without a sign of it."""
    chosen = [place for place, chunk in enumerate(content.chunks) if chunk.text.strip()][:_COMPARED]
    if not chosen:
        return
    made = embed(embedder, [content.chunks[place].text for place in chosen], Metric.INNER_PRODUCT, queries=False)
    agreement = cosines(made, content.vectors(np.array(chosen)))
    if agreement.min() < _AGREEMENT:
        worst = content.chunks[chosen[int(agreement.argmin())]].id
        raise EmbeddingContractError(
            f"{embedder.name!r} did not make {content.what}'s vectors: document {worst!r:.80}, embedded again, has "
            f"cosine {agreement.min():.4f} to its vector, {_AGREEMENT} is required. Pass the model that made them; or "
            "none, and import them into a new collection, which is then asked with vectors"
        )
