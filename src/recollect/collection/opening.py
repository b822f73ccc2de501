"""Opening: find or create the directory, take the lock, check the contract."""

from __future__ import annotations

import os
from pathlib import Path

from typing_extensions import Never

from recollect import layout
from recollect.collection import transfer
from recollect.collection.arguments import refuse_unknown, require_count, to_metric
from recollect.collection.embedding import DEFAULT_EMBEDDER, LazyEmbedder, resolve
from recollect.collection.facade import Collection
from recollect.collection.handle import Handle
from recollect.contract import Contract, Settings
from recollect.errors import CollectionExists, InvalidInput
from recollect.store import supersede
from recollect.types import Embedder, Metric

MAX_DIMENSION = 65_536


def open(
    path: str | os.PathLike[str],
    *,
    embedder: Embedder | str | None = None,
    dimension: int | None = None,
    metric: Metric | str | None = None,
    dtype: layout.Dtype | None = None,
    read_only: bool = False,
    auto_optimize: bool = True,
    **unknown: Never,
) -> Collection:
    """Open the collection in a directory; create it if there is none.

    Args:
        path: the directory. A new one is created complete or not at all.
        embedder: a sentence-transformers name or local path, or an `Embedder`. On an existing collection it must make
            the vectors it was built with (eight canary texts are compared); by default the recorded one is loaded when
            a text is first to be embedded. A new collection without *embedder* and *dimension* takes
            ``sentence-transformers/all-MiniLM-L6-v2``.
        dimension: length of the vectors, for a new collection to which you bring your own.
        metric: "cosine" (default), "inner_product" or "l2"; fixed at creation.
        dtype: "float32" (default), or "float16", which takes half the disk and page cache and keeps 11 significant bits
            (cosine scores differ by less than 5e-4); fixed at creation.
        read_only: search only, beside a writer in this or another process; each commit is seen at the next search.
        auto_optimize: let a writer build and extend the index in the background as the collection grows; without it
            only `optimize` does.

    Raises:
        CollectionLocked: another writer has it open.
        CollectionNotFound: nothing there, and *read_only*.
        NotACollection, CollectionDamaged, UnsupportedFormat, StorageFailed: what is at the path cannot be used.
        EmbeddingContractError: the embedder is not the one the vectors were made with.
        InvalidInput: options that contradict each other, or what is recorded.

    """
    refuse_unknown(open, unknown)
    wanted = None if metric is None else to_metric(metric)
    if dtype is not None and dtype not in layout.DTYPES:
        raise InvalidInput(f"dtype is {dtype!r}; choose {', '.join(map(repr, layout.DTYPES))}")
    if dimension is not None:
        require_count("dimension", dimension)
        if dimension > MAX_DIMENSION:
            raise InvalidInput(f"dimension is {dimension}; at most {MAX_DIMENSION:,} is supported")
    root = layout.Layout(Path(path).absolute())
    if not root.is_collection():
        if read_only:
            root.require()
        embedder = _create(root, embedder, dimension, wanted, dtype or "float32")
    lock = None if read_only else layout.WriterLock(root.lock)
    handle: Handle | None = None
    try:
        if lock is not None:
            _remove_leftovers(root)
        handle = Handle(root, lock=lock, auto_optimize=auto_optimize)
        lazy = _checked_embedder(handle, embedder, dimension=dimension, metric=wanted, dtype=dtype)
    except BaseException:
        if handle is not None:
            handle.close(finish=False)
        elif lock is not None:
            lock.release()
        raise
    handle.maintainer.consider()
    return Collection(handle, lazy)


def _remove_leftovers(root: layout.Layout) -> None:
    """Remove what a killed writer left, after telling the readers that may still use it."""
    for paths in root.superseded():
        supersede(paths)
        root.retire(paths)
    root.remove_leftovers()


def _checked_embedder(
    handle: Handle,
    embedder: Embedder | str | None,
    *,
    dimension: int | None,
    metric: Metric | None,
    dtype: layout.Dtype | None,
) -> LazyEmbedder:
    """Compare what was passed to `open` with what is recorded; an embedder that was passed is checked at once."""
    path = str(handle.root.root)
    settings = handle.generation.settings
    _require_settings(settings, dimension=dimension, metric=metric, dtype=dtype, where=path)
    lazy = LazyEmbedder(embedder, path)
    if embedder is not None:
        lazy.get(settings)
    return lazy


def _require_settings(
    settings: Settings, *, dimension: int | None, metric: Metric | None, dtype: layout.Dtype | None, where: str
) -> None:
    recorded = {"dimension": settings.dimension, "metric": settings.metric.value, "dtype": settings.dtype}
    given = {"dimension": dimension, "metric": metric and metric.value, "dtype": dtype}
    for name, value in given.items():
        if value is not None and value != recorded[name]:
            raise InvalidInput(
                f"{where} has {name} {recorded[name]}, fixed when it was created; leave {name} out, or create "
                "another collection"
            )


def _create(
    root: layout.Layout,
    embedder: Embedder | str | None,
    dimension: int | None,
    metric: Metric | None,
    dtype: layout.Dtype,
) -> Embedder | None:
    """Create an empty collection and return its embedder, already loaded."""
    loaded: Embedder | None = None
    if embedder is not None or dimension is None:
        loaded = resolve(embedder if embedder is not None else DEFAULT_EMBEDDER)
        if dimension is not None and dimension != loaded.dimension:
            raise InvalidInput(
                f"dimension is {dimension}, but {loaded.name} makes {loaded.dimension}; leave dimension out"
            )
    contract = Contract.of(loaded) if loaded is not None else None
    size = loaded.dimension if loaded is not None else dimension
    assert size is not None  # one of the two was given
    try:
        transfer.create(root.root, Settings(int(size), metric or Metric.COSINE, contract, dtype))
    except CollectionExists:
        root.require()  # another process was faster: its collection is opened, if it is one
    return loaded
