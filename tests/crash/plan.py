"""A deterministic plan of operations, and what the collection must hold after each atomic step of it.

Nothing here depends on what happened before: operation n is known from the seed and n alone, so a worker that was
killed anywhere is followed by one that goes on with the next operation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DIMENSION = 16
BATCH = 16
UNIVERSE = 240
"""Ids that the operations draw from, so that adding soon means replacing."""

Vector = npt.NDArray[np.float32]


class Item(NamedTuple):
    """A chunk and the seed of its vector."""

    text: str
    metadata: Mapping[str, object]
    key: tuple[int, int, int]

    @property
    def vector(self) -> Vector:
        """A unit vector that no other item shares: text, id and version decide it."""
        made = np.random.default_rng(self.key).standard_normal(DIMENSION, dtype=np.float32)
        return made / np.linalg.norm(made)


State = Mapping[str, Item]
Acknowledge = Callable[[int], None]


@dataclass(frozen=True)
class Operation:
    """One call on the collection.

    Attributes:
        kind: add, delete, optimize, compact, backup or reopen.
        items: for add, in the order of adding.
        ids: for delete.
        index: for optimize; None for the recommended one.
        batch: chunks per commit.

    """

    kind: str
    items: tuple[tuple[str, Item], ...] = ()
    ids: tuple[str, ...] = ()
    index: str | None = None
    batch: int = BATCH

    @property
    def steps(self) -> int:
        """How many times it acknowledges: an add once per batch."""
        return -(-len(self.items) // self.batch) if self.kind == "add" else 1

    def after(self, state: State, steps: int) -> State:
        """Return what is stored once *steps* of it are done."""
        if self.kind == "add":
            return {**state, **dict(self.items[: steps * self.batch])}
        if self.kind == "delete" and steps:
            return {key: item for key, item in state.items() if key not in self.ids}
        return state


def item(seed: int, number: int, version: int) -> tuple[str, Item]:
    """Make chunk *number*; from one version to the next its metadata changes, now and then its text or vector too."""
    chunk_id = f"c{number:04d}"
    text = f"chunk {number} of plan {seed}, wording {version // 2} " + "x" * (number * 7 % 300)
    metadata = {"version": version, "tags": [number % 3, f"v{version}"]}
    return chunk_id, Item(text, metadata, (seed, number, version // 3))


def random_operation(seed: int, n: int) -> Operation:
    """Return operation *n* of an endless plan."""
    if n == 0:
        return _add(seed, 0, range(UNIVERSE))
    rng = random.Random(f"{seed}/{n}")
    kind = rng.choices(("add", "delete", "optimize", "compact", "backup", "reopen", "bulk"), (40, 15, 15, 12, 6, 6, 2))[
        0
    ]
    if kind == "add":
        return _add(seed, n, sorted(rng.sample(range(UNIVERSE), rng.randint(5, 70))))
    if kind == "bulk":  # beyond what is searched exactly: the index is extended in the background
        return _add(seed, n, range(UNIVERSE, UNIVERSE + 4500), batch=1500)
    if kind == "delete":
        beyond = [f"c{number:04d}" for number in range(UNIVERSE, UNIVERSE + 4500)]
        chosen = [f"c{number:04d}" for number in rng.sample(range(UNIVERSE), rng.randint(1, 30))]
        return Operation("delete", ids=(*chosen, *beyond))
    if kind == "optimize":
        return Operation("optimize", index=rng.choice(("IVF1,PQ8x4fs", "HNSW8,SQ8", None)))
    return Operation(kind)


def scripted_operations() -> list[Operation]:
    """Return the short plan that is killed at each of its system calls."""
    seed = 7
    return [
        _add(seed, 0, range(48)),
        _add(seed, 2, range(10, 40, 3)),
        Operation("delete", ids=("c0003", "c0010", "c0044")),
        Operation("optimize", index="IVF1,PQ8x4fs"),
        _add(seed, 4, range(40, 60)),
        Operation("optimize", index="HNSW8,SQ8"),
        Operation("compact"),
        Operation("backup"),
        Operation("reopen"),
        _add(seed, 7, range(12)),
        Operation("optimize"),
    ]


def scripted(seed: int, n: int) -> Operation:
    """Return operation *n* of the short plan; the seed is not used."""
    del seed
    return scripted_operations()[n]


def after_operations(state: State, operations: Iterable[Operation]) -> State:
    """Return what is stored once all of *operations* are done."""
    for operation in operations:
        state = operation.after(state, operation.steps)
    return state


def _add(seed: int, version: int, numbers: range | list[int], batch: int = BATCH) -> Operation:
    return Operation("add", items=tuple(item(seed, number, version) for number in numbers), batch=batch)
