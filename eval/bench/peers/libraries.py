# ruff: noqa: ARG002, D102  # the methods, said once in catalogue.Subject, get what any of the subjects needs
"""Subjects that are an index in memory with a dict of chunks beside it: what one writes by hand in an afternoon.

Neither part is durable before everything has been saved. The dict holds ready Python objects: nothing to parse per hit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from corpus import Corpus, Floats, K, Mark, Plain

CONSTRUCTION = 200
"""efConstruction of every graph that lets one choose."""

Kept: TypeAlias = dict[int, Plain]


def save_chunks(folder: Path, chunks: Iterable[Plain]) -> None:
    """Write the dict as JSON, one line per row; no pickle, which would run what it finds."""
    with open(folder / "chunks.jsonl", "w") as file:
        file.writelines(json.dumps(chunk, ensure_ascii=False) + "\n" for chunk in chunks)


def load_chunks(folder: Path) -> Kept:
    """Return the dict: row → chunk."""
    import orjson

    with open(folder / "chunks.jsonl", "rb") as file:
        return {row: tuple(orjson.loads(line)) for row, line in enumerate(file)}


class FaissGraph:
    """`IndexHNSWFlat` and a dict; one OpenMP thread per search."""

    def __init__(self, m: int) -> None:
        import faiss

        self._faiss, self._m = faiss, m

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        vectors = np.ascontiguousarray(corpus.vectors)
        index = self._faiss.IndexHNSWFlat(vectors.shape[1], self._m, self._faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = CONSTRUCTION
        index.add(vectors)
        mark("index")
        self._faiss.write_index(index, str(folder / "index.faiss"))
        save_chunks(folder, chunks)

    def open(self, folder: Path, dimension: int) -> None:
        self.enter_thread()
        self._index = self._faiss.read_index(str(folder / "index.faiss"))
        self._chunks = load_chunks(folder)

    def enter_thread(self) -> None:
        self._faiss.omp_set_num_threads(1)

    def set(self, ef: int) -> None:
        self._index.hnsw.efSearch = ef

    def search(self, vector: Floats) -> list[Plain]:
        rows = self._index.search(vector[None], K)[1][0]
        return [self._chunks[row] for row in rows.tolist()]

    def plain(self, found: list[Plain]) -> list[Plain]:
        return found


class FaissCodes:
    """4-bit PQ codes scanned by SIMD, FAISS's own refinement from a copy of the vectors in memory, and a dict."""

    def __init__(self, lists: bool) -> None:
        import faiss

        self._faiss, self._lists = faiss, lists

    def _factory(self, rows: int, dimension: int) -> str:
        lists = 2 ** round(np.log2(max(1, 0.9 * np.sqrt(rows)))) if self._lists else 0  # 256 of 100k, 1024 of 1M
        return (f"IVF{lists}," if lists else "") + f"PQ{dimension // 2}x4fs,RFlat"

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        vectors = np.ascontiguousarray(corpus.vectors)
        factory = self._factory(*vectors.shape)
        index = self._faiss.index_factory(vectors.shape[1], factory, self._faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        mark("index")
        self._faiss.write_index(index, str(folder / "index.faiss"))
        save_chunks(folder, chunks)

    def open(self, folder: Path, dimension: int) -> None:
        self.enter_thread()
        self._index = self._faiss.read_index(str(folder / "index.faiss"))
        self._base = self._faiss.downcast_index(self._index.base_index)
        self._chunks = load_chunks(folder)

    def enter_thread(self) -> None:
        self._faiss.omp_set_num_threads(1)

    def set(self, k_factor: int, nprobe: int | None = None) -> None:
        self._index.k_factor = k_factor
        if nprobe is not None:
            self._base.nprobe = min(nprobe, self._base.nlist)

    def search(self, vector: Floats) -> list[Plain]:
        rows = self._index.search(vector[None], K)[1][0]
        return [self._chunks[row] for row in rows.tolist() if row >= 0]

    def plain(self, found: list[Plain]) -> list[Plain]:
        return found


class Hnswlib:
    """hnswlib over inner products (its "cosine" would normalise in Python once more) and a dict."""

    def __init__(self, m: int) -> None:
        import hnswlib

        self._hnswlib, self._m = hnswlib, m

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        vectors = corpus.vectors
        index = self._hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(max_elements=len(vectors), ef_construction=CONSTRUCTION, M=self._m)
        index.add_items(vectors, np.arange(len(vectors)))
        mark("index")
        index.save_index(str(folder / "index.hnsw"))
        save_chunks(folder, chunks)

    def open(self, folder: Path, dimension: int) -> None:
        self._index = self._hnswlib.Index(space="ip", dim=dimension)
        self._index.load_index(str(folder / "index.hnsw"))
        self._chunks = load_chunks(folder)

    def enter_thread(self) -> None: ...

    def set(self, ef: int) -> None:
        self._index.set_ef(ef)

    def search(self, vector: Floats) -> list[Plain]:
        rows = self._index.knn_query(vector, k=K, num_threads=1)[0][0]
        return [self._chunks[row] for row in rows.tolist()]

    def plain(self, found: list[Plain]) -> list[Plain]:
        return found


class Usearch:
    """usearch and a dict; its file mapped rather than read, which is as quick to search and quicker to open."""

    def __init__(self, m: int, dtype: str) -> None:
        from usearch.index import Index

        self._class, self._m, self._dtype = Index, m, dtype

    def _empty(self, dimension: int) -> Any:
        return self._class(
            ndim=dimension, metric="ip", dtype=self._dtype, connectivity=self._m, expansion_add=CONSTRUCTION
        )

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        vectors = corpus.vectors
        index = self._empty(vectors.shape[1])
        index.add(np.arange(len(vectors)), vectors)
        mark("index")
        index.save(str(folder / "index.usearch"))
        save_chunks(folder, chunks)

    def open(self, folder: Path, dimension: int) -> None:
        self._index = self._empty(dimension)
        self._index.view(str(folder / "index.usearch"))
        self._chunks = load_chunks(folder)

    def enter_thread(self) -> None: ...

    def set(self, ef: int) -> None:
        self._index.expansion_search = ef

    def search(self, vector: Floats) -> list[Plain]:
        rows = self._index.search(vector, K, threads=1).keys
        return [self._chunks[row] for row in rows.tolist()]

    def plain(self, found: list[Plain]) -> list[Plain]:
        return found


class Turbovec:
    """turbovec's 4-bit codes, its candidates rescored with NumPy from the vectors in memory, and a dict.

    It has no rescoring of its own, and its codes alone do not reach a recall of 0.95.
    """

    def __init__(self) -> None:
        import turbovec

        self._class = turbovec.TurboQuantIndex

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        vectors = np.ascontiguousarray(corpus.vectors)
        index = self._class(dim=vectors.shape[1], bit_width=4)
        sample = np.random.default_rng(0).choice(len(vectors), min(4096, len(vectors)), replace=False)
        index.calibrate(vectors[np.sort(sample)])
        index.add(vectors)
        mark("index")
        index.sync(str(folder / "index.tv"))
        np.save(folder / "vectors.npy", vectors)
        save_chunks(folder, chunks)

    def open(self, folder: Path, dimension: int) -> None:
        self._index = self._class.load(str(folder / "index.tv"))
        self._index.prepare()
        self._vectors = np.load(folder / "vectors.npy")
        self._chunks = load_chunks(folder)

    def enter_thread(self) -> None: ...

    def set(self, candidates: int) -> None:
        self._candidates = candidates

    def search(self, vector: Floats) -> list[Plain]:
        rows = self._index.search(vector[None], self._candidates)[1][0]
        scores = self._vectors[rows] @ vector
        return [self._chunks[row] for row in rows[np.argsort(-scores)[:K]].tolist()]

    def plain(self, found: list[Plain]) -> list[Plain]:
        return found
