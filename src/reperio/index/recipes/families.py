"""The families of indexes: what each is called, what it weighs, how long it takes to build.

Bytes are those of the file; times are those of `times`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.index.library.symphony import NARROWEST, STANDARD, Shape
from reperio.index.recipes import times
from reperio.index.recipes.goal import Recipe
from reperio.index.recipes.times import NOTHING, REFERENCE, Machine, Work
from reperio.types import Metric

# Training sample per centroid of a product quantizer, FAISS's own upper bound: more change nothing but the time.
POINTS_PER_CENTROID = 256
COARSE_POINTS = 64  # training sample per list of an IVF: FAISS warns below 39
# Below this many rows all codes are scanned: 16 bytes in a register at a time, it costs less than probing.
SINGLE_LIST_ROWS = 20_000
GRAPH_ROWS = 10_000  # from here on a walk over a graph is quicker than a scan of all codes
# From this many lists on their centroids are searched by a graph: comparing all would cost more than the lists.
HNSW_LISTS = 4096
WIDE, NARROW = 256, 16  # dimensions from which a 4-bit code covers two dimensions, and one; below, 8 bits per dimension
# Dimensions up to which reducing a query costs less than it saves: 20 µs; 57 at 1,024, and 200 out of cache.
CHEAP_TRANSFORM = 768
# Share of the variance held by the first i + 1 principal components, shape (dimension,).
Spectrum: TypeAlias = npt.NDArray[np.float64]
_GRAPH_SHARE, _CODES_SHARE = 0.90, 0.85  # of the variance, that the kept dimensions must hold
_ASSUMED = {_GRAPH_SHARE: 0.58, _CODES_SHARE: 0.50}  # part of the dimensions that does, for sentence embeddings
_REDUCIBLE = range(128, 2049)  # below, little is gained; above, finding and applying the components costs too much
_WORTH_REDUCING = 0.8  # a reduction to more than this part of the dimensions is not worth its multiplication
_TRAINING_ROWS = 65_536  # for the ranges of 8-bit codes
# Rows in view while the neighbours of a row are sought: with 100 recall is .006 less at equal effort (0018).
SYMPHONY_CONSTRUCTION = 200
_HNSW, _CAGRA = re.compile(r"\bHNSW([0-9]+)"), re.compile(r"\bCAGRA([0-9]+)", re.IGNORECASE)
# Of the time that the settings of a graph of 8-bit codes take to be measured, what those of others take.
_GRAPH, _SYMPHONY, _LISTS, _SCAN = 1.0, 0.55, 0.8, 0.15
_EXACT_RATE = 13.5e9  # bytes of vectors compared per second, on the one thread of a query


class Reduction(NamedTuple):
    """To how many dimensions, and why, in words."""

    kept: int
    words: str


@dataclass(frozen=True, slots=True)
class Data:
    """Facts that the rule goes by: number of vectors, dimension, metric, the spectrum if measured, and the machine."""

    rows: int
    dimension: int
    metric: Metric = Metric.COSINE
    spectrum: Spectrum | None = None
    machine: Machine = REFERENCE

    @property
    def exact_milliseconds(self) -> float:
        """Time to compare one query with every vector, on one thread."""
        return 1e3 * self.rows * self.dimension * 4 / _EXACT_RATE

    @property
    def fine(self) -> int:
        """Dimensions per 4-bit code that lose little."""
        return 2 if self.dimension >= WIDE else 1

    def reduction(self, share: float) -> Reduction | None:
        """Return the fewest dimensions, in multiples of 32, that hold *share* of the variance; None if too many."""
        dimension = self.dimension
        # With fewer rows than this the components are noise, and their matrix outweighs what it saves.
        if dimension not in _REDUCIBLE or self.rows < max(GRAPH_ROWS, 4 * dimension):
            return None
        if self.spectrum is None:
            needed, words = math.ceil(_ASSUMED[share] * dimension), f"{share:.0%} of the variance, assumed"
        else:
            needed, words = int(np.searchsorted(self.spectrum, share)) + 1, f"{share:.0%} of the variance"
        kept = 32 * math.ceil(needed / 32)
        return Reduction(kept, f"{kept} dimensions hold {words}") if kept <= _WORTH_REDUCING * dimension else None

    def matrix_bytes(self, kept: int) -> float:
        """Return a vector's share of the matrix that reduces to *kept* dimensions; 0 where nothing is reduced."""
        return 4 * kept * self.dimension / self.rows if kept < self.dimension else 0.0

    def seconds(self, work: Work, share: float, training_rows: int) -> float:
        """Return the seconds to train and fill an index by some work, and to measure it.

        Args:
            work: beyond what the disk does.
            share: see `times.measuring`.
            training_rows: of its sample.
        """
        work += times.measuring(self.rows, self.dimension, share)
        work += times.paging(self.rows, self.dimension, min(self.rows, training_rows), self.machine.memory)
        return work.on(self.machine)


def nlist_for(rows: int) -> int:
    """Return the number of lists for codes scanned by SIMD: the power of two nearest to √rows."""
    # The Faiss paper (section 5) gives about 15 to 20 times √N for codes compared one by one. Fast-scan compares 32 at
    # once, so longer lists cost little and fewer centroids are compared: measured at a million rows, 1,024 lists answer
    # faster than 4,096 and 16,384 at equal recall.
    return 1 << max(0, round(math.log2(max(1.0, math.sqrt(rows)))))


def graphs(data: Data, construction: int) -> list[Recipe]:
    """Return HNSW over 8-bit codes, of reduced vectors where that pays, 16-bit and 32-bit floats; quickest first."""
    whole = _graph(data, 32, "SQ8", construction, "a graph over 8-bit codes: the fewest distances per query")
    smaller = _graph(data, 16, "SQ8", construction, "the graph with half the links: smaller, more steps")
    half = _graph(data, 32, "SQfp16", construction, "a graph over 16-bit floats: for values that 8 bits blur")
    full = _graph(data, 32, "Flat", construction, "a graph over the vectors themselves: no rounding, most memory")
    reduction = data.reduction(_GRAPH_SHARE)
    if reduction is None:
        return [whole, smaller, half, full]
    why = "a graph over 8-bit codes, the fewest distances per query"
    reduced = _graph(data, 24, "SQ8", construction, why, reduction)
    smaller = _graph(data, 16, "SQ8", construction, "the graph with fewer links: smaller, more steps", reduction)
    first = [reduced, whole] if data.dimension <= CHEAP_TRANSFORM else [whole, reduced]
    return [*first, smaller, half, full]


def _graph(
    data: Data, links: int, storage: str, construction: int, reason: str, reduction: Reduction | None = None
) -> Recipe:
    kept = reduction.kept if reduction else data.dimension
    width = {"SQ8": 1, "SQfp16": 2, "Flat": 4}[storage]
    # 2·M links on the ground level, M on each above, which one row in M reaches; an offset and a level.
    linked = 4 * (2 * links + links / (links - 1)) + 12
    work = times.reading(data.rows, data.dimension, kept) + times.linking(data.rows, kept, construction, width)
    return Recipe(
        (f"PCA{kept}," if reduction else "") + f"HNSW{links},{storage},Refine({mask_codes(data.dimension)})",
        reason + (f"; {reduction.words}" if reduction else ""),
        training_rows=0 if storage == "Flat" and not reduction else _TRAINING_ROWS,
        construction=construction,
        bytes_per_vector=kept * width
        + linked
        + math.ceil(data.dimension / 8)
        + data.matrix_bytes(kept)
        + _ranges(data, kept, storage)
        + _ranges(data, data.dimension, "PQ"),
        seconds=data.seconds(work, _GRAPH, _TRAINING_ROWS),
    )


def on_card(recipe: Recipe) -> Recipe:
    """Return an HNSW as the CAGRA graph with as many links that a graphics card builds."""
    factory = _HNSW.sub(lambda match: f"CAGRA{2 * int(match[1])}", recipe.factory)
    reason = recipe.reason.replace("a graph", "a graph built on the card", 1)
    # Without upper levels it is no larger; how long a card takes only a card tells.
    return replace(recipe, factory=factory, reason=reason, construction=0, seconds=None)


def on_processor(factory: str) -> str:
    """Return the factory string of the HNSW with as many links as a CAGRA graph; any other string as it is."""
    return _CAGRA.sub(lambda match: f"HNSW{int(match[1]) // 2}", factory)


def symphony(data: Data, shape: Shape = STANDARD) -> Recipe | None:
    """Return a graph of SymphonyQG with 4-bit codes next to it; None below the dimensions that it takes."""
    if data.dimension < NARROWEST:
        return None
    dimension = data.dimension
    return Recipe(
        shape.factory,
        "a graph whose neighbours are compared 32 at once: the quickest there is; newer rows get graphs of their own",
        training_rows=_TRAINING_ROWS,
        construction=SYMPHONY_CONSTRUCTION,
        bytes_per_vector=shape.row_bytes(dimension) + 2 * (math.ceil(dimension / 8) + _ranges(data, dimension, "PQ")),
        seconds=data.seconds(times.symphony(data.rows, dimension), _SYMPHONY, _TRAINING_ROWS),
    )


def mask_codes(dimension: int) -> str:
    """Return FAISS's name of the codes kept with a graph for searches under masks (0009): of four dimensions each."""
    parts = math.ceil(dimension / 4)
    return (f"Pad{4 * parts}," if 4 * parts != dimension else "") + f"PQ{parts}x4"


def codes(data: Data, memory: int | None) -> list[Recipe]:
    """Return 4-bit codes in lists (8-bit ones below 16 dimensions), best first; the coarsest are last.

    Args:
        data: what is known of the vectors.
        memory: bytes for the index; codes that just fit are added where those of all components do not.
    """
    fine, lists = data.fine, 1 if data.rows < SINGLE_LIST_ROWS else nlist_for(data.rows)
    if data.dimension < NARROW:
        return [_in_lists(data, "SQ8", lists, "8-bit codes: below 16 dimensions 4 bits lose too much")]
    plain = product(data, fine, lists, f"4-bit codes of {_dimensions(fine)} each, compared 32 at once")
    if data.dimension < 2 * NARROW:
        return [plain]
    coarse = product(
        data, 2 * fine, lists, f"4-bit codes of {2 * fine} dimensions each: half the size, more candidates"
    )
    reduction = data.reduction(_CODES_SHARE) if lists > 1 else None
    if reduction is None:
        return [plain, coarse]
    why = "4-bit codes, compared 32 at once"
    reduced = [product(data, fine, lists, why, choice) for choice in _fitting(data, reduction, lists, memory)]
    coarsest = product(data, 2 * fine, lists, "coarse 4-bit codes, many candidates", reduction)
    if data.metric is Metric.INNER_PRODUCT:
        # Where norms differ, the error of a long vector's code outweighs a short one's score: fine codes first.
        return [plain, *reduced, coarse, coarsest]
    # Correlated and wide: codes of four dimensions are as small as those of the components, and need no matrix.
    first = [*reduced, coarse] if data.dimension <= CHEAP_TRANSFORM else [coarse, *reduced]
    return [*first, plain, coarsest]


def _fitting(data: Data, reduction: Reduction, lists: int, memory: int | None) -> list[Reduction]:
    """Return the reduction, and, if its codes are too large, the one to most components whose codes are not."""
    found = [reduction]
    for kept in range(reduction.kept, 2 * reduction.kept // 3, -32):
        if memory is None or size(product(data, data.fine, lists, "", Reduction(kept, "")), data.rows) <= memory:
            return found if kept == reduction.kept else [*found, Reduction(kept, f"{kept} dimensions fit the memory")]
    return found


def product(data: Data, per_code: int, lists: int, reason: str, reduction: Reduction | None = None) -> Recipe:
    """Return a product quantizer with 4-bit codes of *per_code* dimensions, scanned by SIMD."""
    kept = reduction.kept if reduction else per_code * math.ceil(data.dimension / per_code)
    parts = kept // per_code
    return _in_lists(
        data,
        f"PQ{parts}x4fs",
        lists,
        reason + (f"; {reduction.words}" if reduction else ""),
        # Rotated at random, which spreads the variance evenly over the codes: 2 to 4% of recall at equal size.
        front=f"PCAR{kept}," if reduction else f"Pad{kept}," if kept != data.dimension else "",
        kept=kept,
        code=(parts + 1) // 2,
        encoding=Work(16e-9 * data.rows * kept, parts * 2e-3),
    )


def others(data: Data) -> list[Recipe]:
    """Return the families that are seldom the best, quickest first: one bit per dimension, lists, and plain scans."""
    dimension, found = data.dimension, []
    if data.rows >= SINGLE_LIST_ROWS:
        if dimension >= 64:
            found.append(_rabitq(data))
        lists = _nlist_one_by_one(data.rows)
        found += [
            _in_lists(data, "SQ8", lists, "8-bit codes compared one by one: few candidates, many bytes read"),
            _in_lists(data, "Flat", lists, "the vectors themselves in lists: no rounding, all their memory"),
        ]
    for storage, width, reason in (
        ("SQ8", 1, "8-bit codes, all scanned: simple, and slow beyond some 10,000 rows"),
        ("SQfp16", 2, "16-bit floats, all scanned: nearly exact, at a third of the time"),
    ):
        total = width * dimension + _ranges(data, dimension, storage)
        seconds = data.seconds(times.reading(data.rows, dimension, dimension), _SCAN, _TRAINING_ROWS)
        found.append(Recipe(storage, reason, _TRAINING_ROWS, bytes_per_vector=total, seconds=seconds))
    return found


def _rabitq(data: Data) -> Recipe:
    # Under the inner product it needs more candidates than under L2: .911 against .945 of 10 among 30 (0005).
    return _in_lists(
        data,
        "RaBitQfs",
        nlist_for(data.rows),
        "one bit per dimension: no codes to train, slower to compare",
        code=math.ceil(data.dimension / 8) + 8,
        encoding=Work(20e-10 * data.rows * data.dimension),
    )


def _in_lists(
    data: Data,
    storage: str,
    lists: int,
    reason: str,
    *,
    front: str = "",
    kept: int | None = None,
    code: int | None = None,
    encoding: Work = NOTHING,
) -> Recipe:
    """Return an IVF.

    Args:
        data, lists, reason: the vectors, the number of lists, and why, for people.
        storage, front: FAISS's names of what is in the lists, and of what comes before.
        kept: dimensions after it; None for all.
        code: bytes of one, for codes scanned by SIMD; None for those of the storage.
        encoding: work to train and make the codes.
    """
    rows, kept = data.rows, kept or data.dimension
    graph = lists >= HNSW_LISTS
    # Codes scanned by SIMD fill each list up to a multiple of 32.
    stored = code * (1 + 16 * lists / rows) if code else kept * {"SQ8": 1, "Flat": 4}[storage]
    centroids = lists * (4 * kept + (272 if graph else 0)) / rows
    training = max(lists * COARSE_POINTS, 16 * POINTS_PER_CENTROID, 20_000 if front.startswith("PCA") else 0)
    work = times.reading(rows, data.dimension, kept) + encoding
    work += times.clustering(rows, lists, kept, COARSE_POINTS, data.dimension)
    work += times.assigning(rows, lists, kept, graph=graph)
    return Recipe(
        f"{front}IVF{lists}{'_HNSW32' if graph else ''},{storage}",
        f"{reason}; " + ("all scanned" if lists == 1 else f"a part of {lists:,} lists scanned"),
        training_rows=training,
        bytes_per_vector=stored + 8 + centroids + data.matrix_bytes(kept) + _ranges(data, kept, storage),
        seconds=data.seconds(work, _LISTS if lists > 1 else _SCAN, training),
    )


def _ranges(data: Data, kept: int, storage: str) -> float:
    """Return a vector's share of what the codes are decoded with: a range, or 16 centroids, per dimension."""
    return (8 if storage == "SQ8" else 64 if "PQ" in storage else 0) * kept / data.rows


def _nlist_one_by_one(rows: int) -> int:
    """Return the paper's number of lists, 16·√rows, as a power of two; at least 32 rows per list."""
    # At most 16,384: finding the centroids takes the square of their number, 20 minutes there and hours beyond.
    return min(1 << round(math.log2(16 * math.sqrt(rows))), 1 << int(math.log2(rows / 32)), 16_384)


def _dimensions(count: int) -> str:
    return "one dimension" if count == 1 else f"{count} dimensions"


def size(recipe: Recipe, rows: int) -> int:
    """Return the predicted bytes of the whole index."""
    return math.ceil((recipe.bytes_per_vector or 0.0) * rows)
