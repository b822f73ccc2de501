"""Stores in the three states in which the standard suites are run."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from langchain_reperio import ReperioVectorStore

_INDEXED = 2000


@contextmanager
def fresh(embeddings: Embeddings, path: Path) -> Iterator[ReperioVectorStore]:
    """Give an empty store that was just created."""
    with ReperioVectorStore(embeddings, path) as store:
        yield store


@contextmanager
def reopened(embeddings: Embeddings, path: Path) -> Iterator[ReperioVectorStore]:
    """Give a store that held documents, lost them, and was closed and opened since."""
    with ReperioVectorStore(embeddings, path) as store:
        store.add_texts(["one", "two", "three"], ids=["1", "2", "3"])
        store.delete(delete_all=True)
    with ReperioVectorStore(embeddings, path) as store:
        yield store


@contextmanager
def indexed(embeddings: Embeddings, path: Path) -> Iterator[ReperioVectorStore]:
    """Give an empty store whose index holds two thousand deleted documents, which every answer must avoid."""
    shutil.copytree(_emptied(len(embeddings.embed_query("any"))), path)
    with ReperioVectorStore(embeddings, path) as store:
        info = store.collection.info()
        assert info.index is not None
        assert info.index.rows == _INDEXED
        assert info.count == 0
        yield store


@lru_cache
def _emptied(dimension: int) -> Path:
    """Build that collection once: measuring its index takes two seconds, copying it none."""
    path = Path(mkdtemp(prefix="reperio-")) / "kb"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    vectors = np.random.default_rng(5).standard_normal((_INDEXED, dimension))
    with ReperioVectorStore(DeterministicFakeEmbedding(size=dimension), path) as store:
        store.add_embeddings([(f"text {at}", vector.tolist()) for at, vector in enumerate(vectors)])
        store.collection.optimize(index="IVF16,Flat")
        store.delete(delete_all=True)
    return path


STATES: dict[str, Callable[[Embeddings, Path], contextmanager[ReperioVectorStore]]] = {
    "fresh": fresh,
    "reopened": reopened,
    "indexed": indexed,
}
