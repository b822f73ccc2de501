"""Which index for which collection: a rule, with its reason. Pure; FAISS is not needed to ask.

The figures behind the numbers are in docs/decisions/0003-first-recipes.md; the choice measured on the
collection's own data is the work of `tuning`, later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

EXACT_ROWS = 1024
"""Rows up to which exact search costs no more than 0.05 ms beyond an index: less than building one is worth."""

TAIL_ROWS = 4096
"""Rows beyond the index whose exact search costs about what the index costs at 50,000 rows (384 dimensions: 0.2 ms)."""

POINTS_PER_CENTROID = 256
"""Training sample per centroid, FAISS's own upper bound: more points change nothing but the time."""

SINGLE_LIST_ROWS = 20_000
"""Below this many rows all codes are scanned: 16 bytes in a register at a time, it costs less than probing."""

WIDE, NARROW = 256, 16
"""Dimensions from which a 4-bit code covers two dimensions, and one; below, 8 bits per dimension."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """An index to build.

    Attributes:
        factory: FAISS factory string; empty for none, i.e. exact search.
        reason: one line for people.
        training_rows: rows to sample for training; 0 for an index that needs none.
        bytes_per_vector: predicted size of the index; None where only building tells.
        requested: True when the user named the index; it is then kept when the collection grows.

    """

    factory: str
    reason: str
    training_rows: int = 0
    bytes_per_vector: float | None = None
    requested: bool = False

    @property
    def exact(self) -> bool:
        """True when no index is to be built."""
        return not self.factory


def choose(rows: int, dimension: int) -> Recipe:
    """Choose the index for a collection of this size.

    Returns:
        Exact search up to `EXACT_ROWS`, then 4-bit product quantization scanned by SIMD (FAISS `PQ{m}x4fs`),
        partitioned by IVF into about √rows lists from `SINGLE_LIST_ROWS` on; candidates are always rescored exactly
        from the vector file.

    """
    if rows <= EXACT_ROWS:
        return Recipe("", f"up to {EXACT_ROWS:,} rows exact search is as fast as an index")
    if dimension < 4:
        return Recipe("", "vectors of fewer than 4 dimensions are no larger than their codes")
    codes, code_bytes = _codes(dimension)
    padded = dimension + dimension % 2 if dimension >= WIDE else dimension
    pad = f"Pad{padded}," if padded != dimension else ""
    lists = 1 if rows < SINGLE_LIST_ROWS else nlist_for(rows)
    coarse = f"IVF{lists}" if lists < 16_384 else f"IVF{lists}_HNSW32"
    kind = "all codes scanned" if lists == 1 else f"a part of {lists} lists scanned"
    return Recipe(
        f"{pad}{coarse},{codes}",
        f"{rows:,} rows: {code_bytes:,} bytes of code per vector in memory, {kind}, rescored from the vector file",
        training_rows=max(lists * 64, 16 * POINTS_PER_CENTROID),
        bytes_per_vector=code_bytes + 8 + lists * padded * 4 / rows,
    )


def _codes(dimension: int) -> tuple[str, int]:
    """Return the storage part of the factory string, and its bytes per vector.

    Two dimensions per 4-bit code suffice for wide embeddings, whose dimensions are correlated; narrow ones need a code
    per dimension, and the narrowest 8 bits.
    """
    if dimension >= WIDE:
        half = (dimension + 1) // 2
        return f"PQ{half}x4fs", (half + 1) // 2
    if dimension >= NARROW:
        return f"PQ{dimension}x4fs", (dimension + 1) // 2
    return "SQ8", dimension


def nlist_for(rows: int) -> int:
    """Return the power of two nearest to √rows.

    The Faiss paper (section 5) gives about 15 to 20 times √N for codes compared one by one. Fast-scan compares
    32 at once, so longer lists cost little and fewer centroids are compared: measured at a million rows, 1,024
    lists answer faster than 4,096 and 16,384 at equal recall.
    """
    return 1 << max(0, round(math.log2(max(1.0, math.sqrt(rows)))))


def requested(factory: str) -> Recipe:
    """Wrap a factory string, or the family name "hnsw" or "exact", that the user named."""
    family = factory.strip().lower()
    if family in ("exact", "flat"):
        return Recipe("", "exact search, as requested", requested=True)
    if family == "hnsw":
        return Recipe("HNSW32,SQ8", "HNSW over 8-bit codes, as requested", training_rows=65_536, requested=True)
    return Recipe(factory.strip(), f"{factory.strip()}, as requested", training_rows=1 << 18, requested=True)


def extension_is_due(rows: int, covered: int) -> bool:
    """Say whether searching the rows beyond the index exactly costs more than the index does, or would."""
    return rows - covered > (TAIL_ROWS if covered > 0 else EXACT_ROWS)


def training_is_due(rows: int, trained_for: int) -> bool:
    """Say whether the collection outgrew the index: it would get twice as many lists, or a first partition."""
    if trained_for < SINGLE_LIST_ROWS:
        return rows >= SINGLE_LIST_ROWS
    return nlist_for(rows) > nlist_for(trained_for)
