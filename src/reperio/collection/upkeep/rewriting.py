"""Write a generation again, without what was deleted, or with the vectors of another model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reperio import index, layout
from reperio.collection.generation.creating import unnamed
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.upkeep.building import build_index, cores, like, publish, remove_older
from reperio.embedding.contract import Contract, Settings, embed
from reperio.embedding.passages import stored_passage
from reperio.errors import IndexBuildFailed, InvalidInput
from reperio.printable import logger
from reperio.store import NewChunk, Store, StoredChunk, require_intact
from reperio.types import Embedder, FloatMatrix, Progress
from reperio.vectors import StoredMatrix, to_stored

_log = logger("reperio.collection")


def rewrite(
    old: OpenGeneration, target: layout.Generation, *, embedder: Embedder | None, progress: Progress | None
) -> None:
    """Write the live chunks into a new generation, rows renumbered densely, with the records and a similar index.

    Args:
        old: the writer's generation; nothing may be written to it meanwhile.
        target: the new paths; complete there when this returns, in use once CURRENT names it.
        embedder: embeds every text again and becomes the contract; None keeps the vectors.
        progress: called per block.
    """
    settings = old.settled()
    if embedder is not None:
        settings = replace(settings, dimension=embedder.dimension, contract=Contract.of(embedder))
    # The target is there when an attempt before was cut short after its rename, and CURRENT does not name it.
    shutil.rmtree(target.root, ignore_errors=True)
    with unnamed(target, settings) as scratch:
        fresh = OpenGeneration(scratch, settings, read_only=False)
        try:
            _copy_live(old, fresh.store, embedder, progress)
            with old.store.session() as session:
                fresh.store.take_records(session)
            if embedder is None:  # the queries of another model would say nothing about the new vectors
                index.copy_kept(old.paths.index, fresh.paths.index)
            build_alike(old, fresh, progress)
        finally:
            fresh.close()


class Remembering:
    """An embedder that embeds no passage twice, for a rewrite that may have to be begun again.

    Args:
        embedder: that embeds what is new.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, FloatMatrix] = {}
        self.name, self.dimension = embedder.name, embedder.dimension

    def embed_passages(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed the passages that were not embedded before."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            self._known.update(zip(new, self._embedder.embed_passages(new), strict=True))
        return np.stack([self._known[text] for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed queries."""
        return self._embedder.embed_queries(texts)

    def __getattr__(self, name: str) -> Any:
        """Return what else an embedder tells of itself, such as its revision."""
        return getattr(self._embedder, name)


def _copy_live(old: OpenGeneration, fresh: Store, embedder: Embedder | None, progress: Progress | None) -> None:
    done = 0
    with old.store.session() as session:
        matrix = old.store.map(session.state.rows)
        for block in session.scan_all():
            require_intact(block, matrix, old.paths.root)
            chunks = [NewChunk(chunk.id, chunk.text, chunk.metadata) for chunk in block]
            vectors = _vectors(block, matrix, embedder, old.settings)
            fresh.put(chunks, vectors, [])
            done += len(block)
            if progress is not None:
                progress("copy" if embedder is None else "reembed", done, session.state.live)


def _vectors(
    block: list[StoredChunk], matrix: StoredMatrix, embedder: Embedder | None, settings: Settings
) -> StoredMatrix:
    if embedder is None:
        return matrix.take(np.array([chunk.row for chunk in block]), axis=0)
    empty = next((chunk.id for chunk in block if not chunk.text.strip()), None)
    if empty is not None:
        raise InvalidInput(f"chunk {empty!r} has no text to embed; delete it or give it text, then try again")
    passages = [stored_passage(chunk.text, chunk.metadata) for chunk in block]
    made = embed(embedder, passages, settings.metric, queries=False)
    return to_stored(made, settings.dtype, what=f"vectors from {embedder.name}")


def build_alike(old: OpenGeneration, fresh: OpenGeneration, progress: Progress | None) -> None:
    """Build an index like that of *old* for a new generation, where it had one."""
    description = old.description()
    if description is None:
        return
    try:
        built = build_index(fresh, like(description), workers=cores(), progress=progress)
    except IndexBuildFailed as error:
        # The user asked for this index when there were more rows. A compacted collection without it is worth keeping.
        _log.warning("the compacted collection is searched exactly for now: %s", error)
        return
    publish(fresh, built)  # without a lock: nobody else knows of this generation yet
    remove_older(fresh, built)
