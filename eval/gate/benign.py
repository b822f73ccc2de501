"""Variations that change files, and no answer that matters: none of them may turn the gate red."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from healthy import PLAIN, Recorded, TextSet, chunks, opened, stored
from models import Kept, minilm

import reperio
from reperio.index.building import training


@dataclass(frozen=True)
class Given:
    """What a variation works on.

    Attributes:
        path: of a copy of the healthy collection.
        texts: that it holds.
        embedder: of the collection.
        seed: of this one.
        kept: vectors made before.
    """

    path: Path
    texts: TextSet
    embedder: Recorded
    seed: int
    kept: Kept


@dataclass(frozen=True)
class Varied:
    """How a variation is gated, where that is part of it.

    Attributes:
        embedder: None for that of the collection.
        limits: changed limits of the gate.
        cores: that the gate may use; None for all.
    """

    embedder: Any = None
    limits: dict[str, Any] = field(default_factory=dict)
    cores: set[int] | None = None


def rebuilt(given: Given) -> Varied:
    """Build the index again, with another seed of k-means and other held-out queries."""
    with _writing(given) as collection, _seeded(given.seed):
        collection.optimize(index=PLAIN.factory, queries=_some(given))
    return Varied()


def reordered(given: Given) -> Varied:
    """Ingest everything again, in another order, which trains another index as well."""
    order = np.random.default_rng(given.seed).permutation(len(given.texts.passages))
    held = chunks(given.texts)
    _again(given, [held[at] for at in order], given.texts.passage_vectors[order])
    return Varied()


def compacted(given: Given) -> Varied:
    """Replace some chunks by others and back again, and compact."""
    rows = np.random.default_rng(given.seed).permutation(len(given.texts.passages))[: len(given.texts.passages) // 25]
    held = chunks(given.texts)
    with _writing(given) as collection:
        for change in ({"again": 1}, {}):
            some = [replace(held[at], metadata={**held[at].metadata, **change}) for at in rows]
            collection.add(some, vectors=given.texts.passage_vectors[rows])
        collection.compact()
        if given.seed % 2:  # else the index that the compaction brought
            collection.optimize(index=PLAIN.factory, queries=given.texts.query_vectors)
    return Varied()


def restored(given: Given) -> Varied:
    """Take a backup and put it in the collection's place; incremental every other time."""
    copy = given.path.with_name("restored")
    shutil.rmtree(copy, ignore_errors=True)
    with opened(given.path, given.embedder) as collection:
        if given.seed % 2:
            backups = given.path.with_name("backups")
            shutil.rmtree(backups, ignore_errors=True)
            collection.backup(backups, incremental=True)
            reperio.restore(backups, copy)
        else:
            collection.backup(copy)
    shutil.rmtree(given.path)
    copy.rename(given.path)
    return Varied()


def other_threads(given: Given) -> Varied:
    """Gate on one core, or with two threads asking."""
    if given.seed % 2:
        return Varied(cores={given.seed // 2 % (os.cpu_count() or 1)})
    return Varied(limits={"threads": 2})


def half_precision(given: Given) -> Varied:
    """Store what the model makes in bfloat16, in another order; ask as before, or in bfloat16 as well."""
    texts = given.texts

    def passages(some: Any) -> Any:
        return minilm(precision="bfloat16").embed_passages(some)

    def questions(some: Any) -> Any:
        return minilm(precision="bfloat16").embed_queries(some)

    vectors = given.kept.vectors("bfloat16", texts.passages, passages)
    order = np.random.default_rng(given.seed).permutation(len(texts.passages))
    held = chunks(texts)
    _again(given, [held[at] for at in order], vectors[order])
    if given.seed % 2:
        return Varied()
    asked = given.kept.vectors("bfloat16-questions", texts.queries, questions)
    return Varied(embedder=Recorded(texts, given.embedder.model, asked))


VARIATIONS: dict[str, Callable[[Given], Varied]] = {
    "index rebuilt with another seed": rebuilt,
    "ingested in another order": reordered,
    "chunks replaced and back, compacted": compacted,
    "backed up and restored": restored,
    "one core, or two threads asking": other_threads,
    "embedded in bfloat16": half_precision,
}


def _writing(given: Given) -> reperio.Collection:
    return reperio.open(given.path, embedder=given.embedder, auto_optimize=False)


def _again(given: Given, held: Any, vectors: Any) -> None:
    shutil.rmtree(given.path)
    queries = _some(given)
    stored(given.path, held, vectors, embedder=given.embedder, kind=PLAIN, queries=queries)


def _some(given: Given) -> Any:
    count = len(given.texts.query_vectors)
    return given.texts.query_vectors[np.random.default_rng(given.seed).permutation(count)[: max(30, count // 3)]]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let k-means begin elsewhere: FAISS takes its seed from the index, and the package leaves it as it is."""
    set_effort = training._set_effort

    def seeded(inner: Any) -> None:
        set_effort(inner)
        inner.cp.seed = seed + 1

    training._set_effort = seeded
    try:
        yield
    finally:
        training._set_effort = set_effort
