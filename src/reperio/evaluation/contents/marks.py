"""Checksums by which a baseline knows all chunks: which are there, and whether texts, metadata and vectors are theirs.

Chunks are put into 1,024 buckets by the hash of their id. Of each bucket the sum of the hashes of its ids is kept, and
likewise of its texts, its metadata and its vectors. A single change anywhere changes the sum of one bucket, whatever
the order of the rows; and how many buckets changed tells how many chunks did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

BUCKETS = 1024
KINDS = ("ids", "texts", "metadata", "vectors")
DIGITS = 8  # hexadecimal, of a sum

Hashes = npt.NDArray[np.uint64]


class Marks:
    """Sums of hashes by bucket, while chunks are gone through."""

    def __init__(self) -> None:
        self._sums = {kind: np.zeros(BUCKETS, dtype=np.uint64) for kind in KINDS}

    def add(self, ids: Hashes, **others: Hashes) -> None:
        """Count a block of chunks: hashes of their ids, and under *texts*, *metadata* and *vectors* of these."""
        buckets = (ids % BUCKETS).astype(np.int64)
        for kind, hashes in {"ids": ids, **others}.items():
            # Mixed with the id: two chunks that exchange their texts would leave the plain sum as it is.
            np.add.at(self._sums[kind], buckets, mixed(hashes, ids))

    def to_text(self) -> dict[str, str]:
        """Return the sums as they are kept: hexadecimal digits, one bucket behind the other."""
        return {
            kind: "".join(f"{value & 0xFFFFFFFF:0{DIGITS}x}" for value in sums.tolist())
            for kind, sums in self._sums.items()
        }


def mixed(hashes: Hashes, ids: Hashes) -> Hashes:
    """Return numbers that depend on both, spread over all 64 bits."""
    found: Hashes = (hashes ^ (ids * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xBF58476D1CE4E5B9)
    found ^= found >> np.uint64(31)
    return np.asarray(found * np.uint64(0x94D049BB133111EB) ^ (found >> np.uint64(29)), dtype=np.uint64)


def bucket_of(id_hash: int) -> int:
    """Return the bucket of a chunk by the hash of its id."""
    return id_hash % BUCKETS


def changed(before: Mapping[str, str], now: Mapping[str, str], kind: str) -> set[int]:
    """Return the buckets of which the sums of a kind differ."""
    old, new = before.get(kind, ""), now.get(kind, "")
    if old == new:
        return set()
    return {at for at in range(BUCKETS) if old[at * DIGITS : (at + 1) * DIGITS] != new[at * DIGITS : (at + 1) * DIGITS]}


def most_changes(buckets: int) -> float:
    """Return how many changes explain so many changed buckets, all but certainly; infinite where all changed."""
    if not buckets:
        return 0.0
    if buckets >= BUCKETS:
        return math.inf
    # Changes fall into buckets by chance, some into the same (linear counting, Whang et al. 1990, with its error).
    expected = -BUCKETS * math.log1p(-buckets / BUCKETS)
    load = expected / BUCKETS
    return expected + 3 * math.sqrt(BUCKETS * (math.exp(load) - load - 1))
