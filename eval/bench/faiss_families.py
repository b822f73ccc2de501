"""Every family of FAISS index worth trying on one set of unit vectors, built with as little repeated work as possible.

What indexes have in common is made once: a PCA and the vectors it reduces, the centroids of an IVF, the graph of an
HNSW, which is built over float32 and then searched over each kind of storage. None of this makes an index worse than
the one that its factory string alone would give; PCA centres, as FAISS does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from measuring import Floats

from reperio.index.library.loading import innermost, load_faiss, threads

CANDIDATES = (10, 15, 20, 30, 40, 60, 100)
PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
BREADTHS = (12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384)
SAMPLE = 65_536
_OPQ_SAMPLE = 16_384  # with SAMPLE its training takes minutes; recall is the same


@dataclass(frozen=True)
class Graph:
    """An HNSW to build: *reduced* dimensions by PCA (0: all), *degree* M, efConstruction, and the kind of storage."""

    reduced: int
    degree: int
    construction: int
    storage: str

    @property
    def name(self) -> str:
        """The factory string and efConstruction."""
        front = f"PCA{self.reduced}," if self.reduced else ""
        return f"{front}HNSW{self.degree},{self.storage} (efConstruction {self.construction})"


@dataclass(frozen=True)
class Sizes:
    """What is built: `PLAN` for the whole, `SMALL` to see that it runs.

    *per_code*: dimensions per 4-bit code of product quantization; behind a PCA only the last of them.
    """

    reduced: tuple[int, ...] = (160, 192, 224, 256)
    lists: tuple[int, ...] = (128, 256, 512, 1024)
    per_code: tuple[int, ...] = (4, 3, 2)
    graph_reduced: tuple[int, ...] = (0, 192, 224, 256)
    degrees: tuple[int, ...] = (16, 24, 32, 48)
    storages: tuple[str, ...] = ("Flat", "SQfp16", "SQ8")
    construction: int = 100
    more_constructions: tuple[int, ...] = (40, 200)
    others: tuple[str, ...] = ("NSG32,Flat",)
    slow: tuple[str, ...] = ("OPQ96_192,IVF256,PQ96x4fs",)


PLAN = Sizes()
SMALL = Sizes((16,), (16, 32), (2,), (0, 16), (16,), ("Flat", "SQ8"), 40, (100,), ("NSG16,Flat",), ())


@dataclass(eq=False)
class Built:
    """An index, ready to be searched.

    Attributes:
        name: what was built.
        index: FAISS's.
        bytes: per vector, of the index written to a file.
        seconds: to build, without what it shares with others.
        rescored: False where FAISS's own distances are exact already.
        efforts: values to try for its knob; (0,) where it has none.
        graph: the graph, for those that can be built with more or less care.
    """

    name: str
    index: Any
    bytes: float
    seconds: float
    rescored: bool
    efforts: tuple[int, ...]
    graph: Graph | None = None
    _kind: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self._kind = type(innermost(self.index)).__name__

    @property
    def walks(self) -> bool:
        """Say whether it is a graph, whose effort is at least the number of candidates."""
        return "HNSW" in self._kind or "NSG" in self._kind

    def params(self, effort: int) -> Any | None:
        """Return FAISS's search parameters; sets the index itself where it takes none (NSG)."""
        faiss = load_faiss()
        if "IVF" in self._kind:
            params = faiss.SearchParametersIVF(nprobe=effort)
        elif "HNSW" in self._kind:
            params = faiss.SearchParametersHNSW(efSearch=effort)
        else:
            if "NSG" in self._kind:
                innermost(self.index).nsg.search_L = effort
            return None
        outer = type(faiss.downcast_index(self.index)).__name__
        return faiss.SearchParametersPreTransform(index_params=params) if outer == "IndexPreTransform" else params

    def nearest(self, queries: Floats, count: int, effort: int) -> npt.NDArray[np.int64]:
        """Return the rows found for many queries by all cores, (n, count), nearest first."""
        with threads(len(os.sched_getaffinity(0))):
            rows: npt.NDArray[np.int64] = self.index.search(queries, count, params=self.params(effort))[1]
        return rows

    def finder(self, count: int, effort: int) -> Callable[[Floats], npt.NDArray[np.int64]]:
        """Return a function that finds the rows nearest to one query: FAISS's C interface, kept buffers."""
        pointer = load_faiss().swig_ptr
        distances: Floats = np.empty((1, count), dtype=np.float32)
        rows: npt.NDArray[np.int64] = np.empty((1, count), dtype=np.int64)
        asked: Floats = np.empty((1, self.index.d), dtype=np.float32)
        near, ids, buffer = pointer(distances), pointer(rows), pointer(asked)
        index, params, found = self.index, self.params(effort), rows[0]

        def find(query: Floats) -> npt.NDArray[np.int64]:
            asked[0] = query
            index.search_c(1, buffer, count, near, ids, params)
            return found

        return find


class Workshop:
    """Builds indexes over one matrix.

    Args:
        matrix: float32 (n, d), rows of norm 1.
        sizes: what to build.
        workers: threads.
    """

    def __init__(self, matrix: Floats, sizes: Sizes, workers: int) -> None:
        self.matrix = matrix
        self._sizes = sizes
        self._workers = workers
        chosen = np.random.default_rng(0).choice(len(matrix), min(len(matrix), SAMPLE), replace=False)
        self._chosen = np.sort(chosen)
        self._pca: tuple[int, Any, Floats] = (0, None, matrix)
        self._walk: tuple[tuple[int, int, int], Any] = ((0, 0, 0), None)

    def scans_and_lists(self) -> Iterator[Built]:
        """Build all scans and all IVF indexes, with and without PCA."""
        for reduced in (0, *self._sizes.reduced):
            dimension = reduced or self.matrix.shape[1]
            shares = self._sizes.per_code[-1:] if reduced else self._sizes.per_code
            codes = [f"PQ{dimension // share}x4fs" for share in shares if dimension % share == 0]
            for factory in (*(() if reduced else ("Flat", "SQfp16")), "SQ8", *codes):
                yield self._plain(reduced, factory)
            for lists in self._sizes.lists:
                first = self._plain(reduced, f"IVF{lists},Flat")
                yield first
                quantizer = load_faiss().downcast_index(innermost(first.index).quantizer)
                centroids = quantizer.reconstruct_n(0, lists)
                for factory in ("SQ8", *codes, "RaBitQfs"):
                    yield self._plain(reduced, f"IVF{lists},{factory}", centroids)

    def others(self, *, slow: bool = False) -> Iterator[Built]:
        """Build single examples of what does not pay: NSG; and, if *slow*, OPQ, whose training takes minutes."""
        faiss = load_faiss()
        for factory in (*self._sizes.others, *(self._sizes.slow if slow else ())):
            started = time.perf_counter()
            with threads(self._workers):
                index = faiss.index_factory(self.matrix.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
                index.train(self.matrix[self._chosen[:: max(1, len(self._chosen) // _OPQ_SAMPLE)]])
                index.add(self.matrix)
            yield self._built(factory, index, started, BREADTHS if "NSG" in factory else PROBES)

    def graphs(self) -> Iterator[Built]:
        """Build the graphs of all sizes at one efConstruction."""
        for reduced in self._sizes.graph_reduced:
            for degree in self._sizes.degrees:
                for storage in self._sizes.storages:
                    yield self.graph(Graph(reduced, degree, self._sizes.construction, storage))

    def graph(self, wanted: Graph) -> Built:
        """Build one graph, or take the one built last where only the storage differs."""
        faiss = load_faiss()
        transform, vectors = self._reduced(wanted.reduced)
        started = time.perf_counter()
        walk = self._walked(wanted, vectors)
        if wanted.storage == "Flat":
            index = faiss.IndexHNSWFlat(vectors.shape[1], wanted.degree, faiss.METRIC_INNER_PRODUCT)
        else:
            quantizer = faiss.ScalarQuantizer
            kind = {"SQ8": quantizer.QT_8bit, "SQfp16": quantizer.QT_fp16}[wanted.storage]
            index = faiss.IndexHNSWSQ(vectors.shape[1], kind, wanted.degree, faiss.METRIC_INNER_PRODUCT)
        index.hnsw = walk.hnsw  # a copy
        storage = faiss.downcast_index(index.storage)
        with threads(self._workers):
            storage.train(vectors[self._chosen])
            storage.add(vectors)
        index.ntotal, index.is_trained = storage.ntotal, True
        return self._built(wanted.name, _behind(transform, index), started, BREADTHS, wanted)

    def _walked(self, wanted: Graph, vectors: Floats) -> Any:
        key = (wanted.reduced, wanted.degree, wanted.construction)
        if self._walk[0] != key:
            faiss = load_faiss()
            made = faiss.IndexHNSWFlat(vectors.shape[1], wanted.degree, faiss.METRIC_INNER_PRODUCT)
            made.hnsw.efConstruction = wanted.construction
            with threads(self._workers):
                made.add(vectors)
            self._walk = key, made
        return self._walk[1]

    def _plain(self, reduced: int, factory: str, centroids: Floats | None = None) -> Built:
        """Build an index; *centroids*: those of an IVF, already trained."""
        faiss = load_faiss()
        transform, vectors = self._reduced(reduced)
        started = time.perf_counter()
        with threads(self._workers):
            index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
            if centroids is not None:
                faiss.downcast_index(index.quantizer).add(centroids)
            index.train(vectors[self._chosen])
            index.add(vectors)
        name = f"PCA{reduced},{factory}" if reduced else factory
        lists = index.nlist if factory.startswith("IVF") else 0
        efforts = tuple(probes for probes in PROBES if probes <= lists) or (0,)
        return self._built(name, _behind(transform, index), started, efforts)

    def _reduced(self, dimension: int) -> tuple[Any | None, Floats]:
        if dimension == 0:
            return None, self.matrix
        if self._pca[0] != dimension:
            faiss = load_faiss()
            transform = faiss.PCAMatrix(self.matrix.shape[1], dimension)
            with threads(self._workers):
                transform.train(self.matrix[self._chosen])
                self._pca = dimension, transform, transform.apply(self.matrix)
        return self._pca[1], self._pca[2]

    def _built(
        self, name: str, index: Any, started: float, efforts: tuple[int, ...], graph: Graph | None = None
    ) -> Built:
        seconds = time.perf_counter() - started
        size = load_faiss().serialize_index(index).size / len(self.matrix)
        rescored = "PCA" in name or "Flat" not in name
        return Built(name, index, round(float(size), 1), round(seconds, 2), rescored, efforts, graph)


def _behind(transform: Any | None, index: Any) -> Any:
    """Put a transform that the index's vectors have already been through in front of it."""
    if transform is None:
        return index
    # FAISS's Python wrapper keeps both parts alive; the transform is shared.
    outer = load_faiss().IndexPreTransform(transform, index)
    outer.ntotal, outer.is_trained = index.ntotal, True
    return outer
