"""Chunks that say themselves which vector they must have, and a history of which of them was stored when."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import reperio
from reperio import Chunk, Collection, Hit

DIMENSION = 16

Vector = npt.NDArray[np.float32]


def vector(number: int, version: int) -> Vector:
    """Return the unit vector of a version of a chunk; no two share one."""
    made = np.random.default_rng((number, version)).standard_normal(DIMENSION, dtype=np.float32)
    return made / np.linalg.norm(made)


def chunk(number: int, version: int) -> Chunk:
    """Return a version of a chunk; its text names both."""
    return Chunk(f"c{number}", f"{number}/{version}", {"version": version})


def parsed(found: Chunk) -> tuple[int, int]:
    """Return number and version of a chunk, once id, text and metadata agree."""
    number, version = map(int, found.text.split("/"))
    assert found.id == f"c{number}"
    assert found.metadata == {"version": version}
    return number, version


def found(kb: Collection, number: int, version: int) -> tuple[int, int]:
    """Return number and version of what is nearest to a version of a chunk."""
    return parsed(kb.search(vector=vector(number, version), k=1)[0].chunk)


def require(path: Path, expected: dict[int, int]) -> None:
    """Require that just these are stored, each with its own vector, and that all is whole."""
    with reperio.open(path, read_only=True) as reader:
        assert reader.check().ok
        assert dict(map(parsed, reader)) == expected
        ids = [f"c{one}" for one in expected]
        assert np.allclose(reader.vectors(ids), np.stack([vector(*one) for one in expected.items()]), atol=1e-6)


class History:
    """What one writer did, operation by operation, so that a reader can tell what it may see.

    A search that ran while operations *first* to *last* were going on or done may see the state after any of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: dict[int, list[tuple[int, int | None]]] = {}
        self._counts = [0]
        self._done = 0

    def begin(self, changes: Mapping[int, int | None]) -> None:
        """Note an operation before it is called: version by number, None for a deletion."""
        with self._lock:
            operation = len(self._counts)
            count = self._counts[-1]
            for number, version in changes.items():
                known = self._changes.setdefault(number, [(0, None)])
                count += (version is not None) - (known[-1][1] is not None)
                known.append((operation, version))
            self._counts.append(count)

    def acknowledge(self) -> None:
        """Note that the operation begun last has returned."""
        with self._lock:
            self._done = len(self._counts) - 1

    def acknowledged(self) -> int:
        """Return the number of the last operation that has returned."""
        with self._lock:
            return self._done

    def begun(self) -> int:
        """Return the number of the last operation that has begun."""
        with self._lock:
            return len(self._counts) - 1

    def versions(self, number: int, first: int, last: int) -> set[int | None]:
        """Return the versions of a chunk in the states from *first* to *last*; None where it is absent."""
        with self._lock:
            known = list(self._changes.get(number, [(0, None)]))
        at_first = [version for operation, version in known if operation <= first][-1]
        return {at_first} | {version for operation, version in known if first < operation <= last}

    def counts(self, first: int, last: int) -> set[int]:
        """Return how many chunks there are in those states."""
        with self._lock:
            return set(self._counts[first : last + 1])

    def live(self, operation: int, numbers: Iterable[int]) -> list[int]:
        """Return those of *numbers* that are stored after an operation."""
        return [number for number in numbers if self.versions(number, operation, operation) != {None}]

    def check(self, hits: Sequence[Hit], query: Vector, k: int, first: int, last: int) -> None:
        """Require as many hits as there are to be found, each of a chunk that was stored, with its own score."""
        assert len(hits) in {min(k, count) for count in self.counts(first, last)}
        assert len({hit.chunk.id for hit in hits}) == len(hits)
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        for hit in hits:
            number, version = parsed(hit.chunk)
            assert version in self.versions(number, first, last), f"{hit} was not stored from {first} to {last}"
            assert abs(hit.score - float(vector(number, version) @ query)) < 1e-4
