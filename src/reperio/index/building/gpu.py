"""Use a graphics card for what takes longest: k-means, the nearest list of each row, the links of a graph.

What comes back is an index of FAISS for processors, which opens on any machine. Nothing is searched on the card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from reperio import forks
from reperio.arguments import nearest
from reperio.errors import DeviceUnavailable, IndexBuildFailed, InvalidInput, MissingDependency
from reperio.index.library.loading import innermost, load_faiss
from reperio.types import FloatMatrix, Metric

Device: TypeAlias = Literal["auto", "cpu", "gpu"]
DEVICES: tuple[Device, ...] = get_args(Device)
FEWEST_ROWS = 1024  # with 3 or 4 rows the copy of a graph from the card never ends (FAISS issue 4260)
Flat: TypeAlias = Callable[[int, int, "FloatMatrix | None"], Any]
"""(dimension, FAISS's number of a metric, vectors) → an index of FAISS that compares every vector."""
Links: TypeAlias = npt.NDArray[np.int32]


class Card:
    """The first card that CUDA shows (`CUDA_VISIBLE_DEVICES` chooses), with FAISS's memory on it.

    Args:
        faiss: FAISS, built for cards.
    """

    def __init__(self, faiss: Any) -> None:
        self._faiss = faiss
        self._resources = faiss.StandardGpuResources()

    @property
    def builds_graphs(self) -> bool:
        """Say whether this FAISS was built with cuVS, which has CAGRA."""
        return has_cuvs(self._faiss)

    def flat(self, dimension: int, metric: int, vectors: FloatMatrix | None = None) -> Any:
        """Return an index on the card that compares every vector, as float32.

        Args:
            dimension: of the vectors.
            metric: FAISS's number.
            vectors: what is in it at first.

        Raises:
            IndexBuildFailed: the card could not do it.
        """
        plain = self._faiss.IndexFlat(dimension, metric)
        if vectors is not None:
            plain.add(vectors)
        try:
            return self._faiss.index_cpu_to_gpu(self._resources, 0, plain)
        except RuntimeError as error:
            raise IndexBuildFailed(f"the card could not take {plain.ntotal:,} centroids: {error}") from error

    def links(self, vectors: FloatMatrix, degree: int, metric: Metric) -> Links:
        """Return the neighbours of each row in a CAGRA graph, (n, degree).

        Memory: the vectors on the card, and a copy of them here.

        Args:
            vectors: float32 (n, d), of at least `FEWEST_ROWS` rows.
            degree: neighbours of each row.
            metric: of the collection. Vectors compared by cosine are of length 1, and get the links of L2.

        Raises:
            IndexBuildFailed: the card could not do it.
        """
        faiss = self._faiss
        # float32 always: with float16 the inner product never comes back.
        number = faiss.METRIC_INNER_PRODUCT if metric is Metric.INNER_PRODUCT else faiss.METRIC_L2
        config = faiss.GpuIndexCagraConfig()
        config.graph_degree, config.intermediate_graph_degree = degree, 2 * degree
        try:
            graph = faiss.GpuIndexCagra(self._resources, vectors.shape[1], number, config)
            graph.train(vectors)
            copied = faiss.IndexHNSWCagra()
            copied.base_level_only = True
            graph.copyTo(copied)
        except (RuntimeError, MemoryError) as error:
            raise IndexBuildFailed(f"the card could not build a graph over {len(vectors):,} rows: {error}") from error
        return ground_links(copied)


def ground_links(graph: Any) -> Links:
    """Return the neighbours of each row on the ground level of an HNSW, (n, 2·M); −1 where there are fewer."""
    faiss = load_faiss()
    degree = int(graph.hnsw.nb_neighbors(0))
    first = faiss.vector_to_array(graph.hnsw.offsets)[:-1].astype(np.int64)
    every = faiss.rev_swig_ptr(graph.hnsw.neighbors.data(), graph.hnsw.neighbors.size())
    return np.ascontiguousarray(every[first[:, None] + np.arange(degree)])


def to_device(device: Any) -> Device:
    """Return the device if it is one.

    Raises:
        InvalidInput: it is none; the message names the nearest.
    """
    if device in DEVICES:
        return device  # type: ignore[no-any-return]  # it is one of the three strings
    name = str(device).lower()
    near = {"cuda": "gpu", "card": "gpu"}.get(name) or nearest(name, DEVICES) or DEVICES[0]
    raise InvalidInput(f"device is {device!r:.40}; pass {near!r} (it is one of {', '.join(DEVICES)})")


def find_card(device: Device) -> Card | None:
    """Return the card to build with; None for the processor.

    Args:
        device: "cpu" looks for no card; "auto" takes one if it is there, and says nothing if not.

    Raises:
        MissingDependency: "gpu", and this FAISS cannot use a card.
        DeviceUnavailable: "gpu", and there is no card, or not in a forked child.
    """
    if device == "cpu":
        return None
    try:
        return _card()
    except (DeviceUnavailable, MissingDependency):
        if device == "auto":
            return None
        raise


def _card() -> Card:
    faiss = load_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        raise MissingDependency(
            "device='gpu' needs a FAISS for graphics cards, and the one installed has none; run: pip uninstall "
            "faiss-cpu, then pip install 'reperio[gpu]' (or 'reperio[gpu-cuvs]', which builds graphs as well); or pass "
            "device='cpu'"
        )
    if forks.in_child():  # CUDA does not survive a fork, and FAISS ends the process for that
        raise DeviceUnavailable(
            "a forked process cannot use a graphics card; start it with the method 'spawn', or pass device='cpu'"
        )
    if not faiss.get_num_gpus():
        raise DeviceUnavailable(
            "there is no graphics card that CUDA can use; look at the output of nvidia-smi and at "
            "CUDA_VISIBLE_DEVICES, or pass device='cpu'"
        )
    try:
        return Card(faiss)
    except RuntimeError as error:
        raise DeviceUnavailable(f"the graphics card cannot be used ({error}); pass device='cpu'") from error


def has_cuvs(faiss: Any) -> bool:
    """Say whether a FAISS was built with cuVS."""
    return hasattr(faiss, "GpuIndexCagra")


@contextmanager
def clustering_on(flat: Flat | None, index: Any) -> Iterator[None]:
    """Let the k-means of an IVF compare with another index while it is trained; nothing changes for other indexes.

    Args:
        flat: makes that index, as `Card.flat` does; None for FAISS's own.
        index: not trained yet.
    """
    inner = innermost(index)
    if flat is None or not hasattr(inner, "quantizer"):
        yield
        return
    # A graph over the centroids is trained with L2 by FAISS, a plain list of them with the metric of the index.
    metric = inner.metric_type if inner.quantizer_trains_alone == 0 else load_faiss().METRIC_L2
    other = flat(inner.d, metric, None)  # by a name of its own: FAISS has a mere pointer to it
    inner.clustering_index = other
    try:
        yield
    finally:
        inner.clustering_index = None


def assigning_on(flat: Flat | None, index: Any) -> AbstractContextManager[None]:
    """Return the block in which another index finds the list of each row that is added; without effect on other kinds.

    Rows whose codes are of what their centroid leaves are assigned by FAISS's own: it would ask a card for each
    centroid, one by one.

    Args:
        flat: makes that index, as `Card.flat` does; None for FAISS's own.
        index: trained.
    """
    inner = innermost(index)
    if flat is None or not hasattr(inner, "quantizer") or getattr(inner, "by_residual", False):
        return nullcontext()
    return _Assigning(inner, flat)


class _Assigning:
    """The block of `assigning_on`, entered as often as wished: around it the IVF is as it was, and can be saved."""

    def __init__(self, inner: Any, flat: Flat) -> None:
        self._inner = inner
        self._own = load_faiss().downcast_index(inner.quantizer)
        self._other = flat(inner.d, self._own.metric_type, self._own.reconstruct_n(0, inner.nlist))

    def __enter__(self) -> None:
        self._inner.quantizer = self._other

    def __exit__(self, *failure: object) -> None:
        self._inner.quantizer = self._own
