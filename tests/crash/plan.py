"""A deterministic plan of operations, and what the collection must hold after each atomic step of it.

Nothing here depends on what happened before: operation n is known from the seed and n alone, so a worker that was
killed anywhere is followed by one that goes on with the next operation.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DIMENSION = 16
BATCH = 16
KEPT = 3
"""Incremental backups that are kept."""

UNIVERSE = 240
"""Ids that the operations draw from, so that adding soon means replacing."""

Vector = npt.NDArray[np.float32]


class Item(NamedTuple):
    """A chunk and the seed of its vector; *model* is that of the last `reembed`, 0 for none since it was added."""

    text: str
    metadata: Mapping[str, object]
    key: tuple[int, int, int]
    model: int = 0

    @property
    def vector(self) -> Vector:
        """A unit vector that no other item shares: text, id and version decide it, or a model by the text alone."""
        return _by_model(self.model, self.text) if self.model else _unit(self.key)


class Model:
    """An embedder; each number is another one."""

    dimension = DIMENSION

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"model {number}"

    def embed_passages(self, texts: Sequence[str]) -> Vector:
        return np.stack([_by_model(self.number, text) for text in texts])

    embed_queries = embed_passages


def _by_model(number: int, text: str) -> Vector:
    return _unit((number, zlib.crc32(text.encode())))


def _unit(key: tuple[int, ...]) -> Vector:
    made = np.random.default_rng(key).standard_normal(DIMENSION, dtype=np.float32)
    return made / np.linalg.norm(made)


State = Mapping[str, Item]
Acknowledge = Callable[[int], None]


@dataclass(frozen=True)
class Operation:
    """One call on the collection.

    Attributes:
        kind: add, delete, delete_where, optimize, compact, reembed, backup, increment or reopen.
        items: for add, in the order of adding.
        ids: for delete.
        before: for delete_where: versions below go.
        index: for optimize; None for the recommended one.
        model: for reembed.
        batch: chunks per commit.
    """

    kind: str
    items: tuple[tuple[str, Item], ...] = ()
    ids: tuple[str, ...] = ()
    before: int = 0
    index: str | None = None
    model: int = 0
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
        if self.kind == "delete_where" and steps:
            return {key: item for key, item in state.items() if _version(item) >= self.before}
        if self.kind == "reembed" and steps:
            return {key: item._replace(model=self.model) for key, item in state.items()}
        return state


def _version(item: Item) -> int:
    version = item.metadata["version"]
    assert isinstance(version, int)
    return version


def item(seed: int, number: int, version: int) -> tuple[str, Item]:
    """Make chunk *number*; from one version to the next its metadata changes, now and then its text or vector too."""
    chunk_id = f"c{number:04d}"
    text = f"chunk {number} of plan {seed}, wording {version // 2} " + "x" * (number * 7 % 300)
    metadata = {"version": version, "tags": [number % 3, f"v{version}"]}
    return chunk_id, Item(text, metadata, (seed, number, version // 3))


KINDS = {
    "add": 34,
    "delete": 11,
    "delete_where": 5,
    "optimize": 15,
    "compact": 9,
    "reembed": 6,
    "backup": 5,
    "increment": 7,
    "reopen": 6,
    "bulk": 2,
}
"""What a random operation is, and how often among a hundred."""


def random_operation(seed: int, n: int) -> Operation:
    """Return operation *n* of an endless plan."""
    if n == 0:
        return _add(seed, 0, range(UNIVERSE))
    rng = random.Random(f"{seed}/{n}")
    (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
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
    if kind == "delete_where":
        return Operation("delete_where", before=rng.randrange(n))
    return Operation(kind, model=n if kind == "reembed" else 0)


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
        Operation("increment"),
        Operation("reopen"),
        _add(seed, 7, range(12)),
        Operation("increment"),
        Operation("delete_where", before=2),
        Operation("reembed", model=11),
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
