"""Look at all vectors without the model: equal ones of different texts, zeros, constants, lengths."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reperio.collection import Collection
from reperio.evaluation.contents.marks import Hashes
from reperio.evaluation.contents.profile import VectorProfile
from reperio.types import FloatMatrix

_SHOWN = 3
_SEED = 20_261_129


@dataclass(frozen=True, slots=True)
class Suspects:
    """Ids of some chunks whose vector cannot be that of their text.

    Attributes:
        shared: chunks that have one vector and different texts.
        zeros, constant: chunks whose vector is all zeros, or one value in all places.
    """

    shared: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()


@dataclass
class VectorTally:
    """All vectors, while they are gone through; about 20 bytes a row are kept."""

    suspects: Suspects = field(default_factory=Suspects)
    _hashes: list[Hashes] = field(default_factory=list)
    _texts: list[Hashes] = field(default_factory=list)
    _norms: list[npt.NDArray[np.float32]] = field(default_factory=list)
    _zeros: list[int] = field(default_factory=list)
    _constant: list[int] = field(default_factory=list)
    _rows: int = 0

    def add(self, matrix: FloatMatrix, texts: Hashes) -> Hashes:
        """Look at vectors (n, d) of texts with these hashes of `texts.seen`; return the vectors' own hashes."""
        hashed = hashes(matrix)
        norms = np.linalg.norm(matrix, axis=1)
        self._norms.append(norms.astype(np.float32))
        self._hashes.append(hashed)
        self._texts.append(texts)
        self._zeros += (self._rows + np.flatnonzero(norms == 0)).tolist()
        if matrix.shape[1] > 1:
            same = (matrix == matrix[:, :1]).all(axis=1) & (norms > 0)
            self._constant += (self._rows + np.flatnonzero(same)).tolist()
        self._rows += len(matrix)
        return hashed

    def norms(self) -> npt.NDArray[np.float32]:
        """Return the lengths of all vectors."""
        return np.concatenate(self._norms) if self._norms else np.empty(0, np.float32)

    def to_profile(self, collection: Collection) -> VectorProfile:
        """Return the figures."""
        shared, largest = self._shared()
        if not len(shared) and not self._zeros and not self._constant:
            return VectorProfile()
        ids = collection.ids()
        self.suspects = Suspects(
            *(tuple(ids[row] for row in rows[:_SHOWN]) for rows in (shared, self._zeros, self._constant))
        )
        return VectorProfile(len(shared), largest, len(self._zeros), len(self._constant))

    def _shared(self) -> tuple[list[int], int]:
        """Return the rows whose vector a different text has too, and how many texts the largest group has."""
        if not self._rows:
            return [], 0
        own, texts = np.concatenate(self._hashes), np.concatenate(self._texts)
        pairs = np.unique(np.stack([own, texts], axis=1), axis=0)[:, 0]  # each text of a vector once
        several, counts = np.unique(pairs, return_counts=True)
        wanted = several[counts > 1]
        if not len(wanted):
            return [], 0
        return np.flatnonzero(np.isin(own, wanted)).tolist(), int(counts.max())


def hashes(matrix: FloatMatrix) -> Hashes:
    """Return a hash of each row of a matrix (n, d) by its bits."""
    bits = np.ascontiguousarray(matrix).view(np.uint32).astype(np.uint64)
    weights = np.random.default_rng(_SEED).integers(1, 1 << 63, size=bits.shape[1], dtype=np.uint64) | np.uint64(1)
    found = (bits * weights).sum(axis=1, dtype=np.uint64)
    return np.asarray(found ^ (found >> np.uint64(29)), dtype=np.uint64)
