"""Query → hits: the newest view first, a read transaction when a commit has come in between."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from orjson import loads

from recollect import index
from recollect.collection.generation import OpenGeneration
from recollect.collection.handle import Handle
from recollect.contract import Settings
from recollect.errors import CollectionDamaged, CollectionError, EmbeddingContractError, InvalidVectors
from recollect.types import Chunk, FloatMatrix, Hit

Prepare = Callable[[Settings], FloatMatrix]
"""Makes checked query vectors for a generation: the next one may be of another dimension and model."""


def retrieve_one(handle: Handle, prepare: Prepare, k: int, recall: float) -> list[Hit]:
    """Answer one query from the newest view known; search again only if a commit has come in between."""
    generation = handle.glanced()
    view = generation.latest
    if view is None or not view.target.count:
        return retrieve_many(handle, prepare, k, recall)[0]
    prepared_for, queries = _prepared(handle, generation, prepare)
    if prepared_for is generation:
        rows, scores = index.search_one(view.target, queries[0], k, recall)
        try:
            found = generation.store.fetch_at(view.seq, rows)
            if found is not None:
                return [
                    Hit(Chunk(chunk_id, text, loads(metadata)), score, rank)
                    for (chunk_id, text, metadata, _), score, rank in zip(found, scores, count(1), strict=False)
                ]
        except (CollectionError, ValueError):
            pass  # compacted away meanwhile, or damaged: the session below tells
    return _retrieve(handle, prepare, prepared_for, queries, k, recall)[0]


def retrieve_many(handle: Handle, prepare: Prepare, k: int, recall: float) -> list[list[Hit]]:
    """Answer queries over one committed state."""
    generation, queries = _prepared(handle, handle.generation, prepare)
    return _retrieve(handle, prepare, generation, queries, k, recall) if len(queries) else []


def _prepared(handle: Handle, generation: OpenGeneration, prepare: Prepare) -> tuple[OpenGeneration, FloatMatrix]:
    """Prepare queries for a generation, or, where it refuses them, for the one that has replaced it."""
    while True:
        try:
            return generation, prepare(generation.settings)
        except (InvalidVectors, EmbeddingContractError):
            if handle.followed() is generation:
                raise
            generation = handle.generation


def _retrieve(
    handle: Handle, prepare: Prepare, generation: OpenGeneration, queries: FloatMatrix, k: int, recall: float
) -> list[list[Hit]]:
    while True:
        begun, session, view = handle.begin()
        with session:
            if begun is generation:
                ranked = index.search(view.target, queries, k, recall)
                chunks = session.fetch(sorted({row for rows, _ in ranked for row in rows}))
                break
        generation, queries = _prepared(handle, begun, prepare)
    try:
        return [
            [Hit(chunks[row], score, rank) for rank, (row, score) in enumerate(zip(rows, scores, strict=True), start=1)]
            for rows, scores in ranked
        ]
    except KeyError as missing:
        raise CollectionDamaged(
            f"{handle.root.root}: row {missing} is live but holds no chunk; run check(), restore from a backup"
        ) from None
