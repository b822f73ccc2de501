"""Changes that do no harm: none of them may turn the gate red."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from stored import GERMAN, State
from world import SEED, World

from reperio import Chunk


def _reordered(world: World, seed: int) -> State:
    order = np.random.default_rng(seed).permutation(len(world.chunks))
    return [world.chunks[at] for at in order], world.vectors[order]


def _grown(world: World, seed: int) -> State:
    """Add a twentieth: half of it to the sources there are, half from a new one in another language."""
    rows = world.rows(0.05, seed=SEED + seed)
    fresh = []
    for place, at in enumerate(rows):
        old, other = world.chunks[at], world.chunks[at - len(world.chunks) // 2]
        text = GERMAN.format(*old.text.split()[:4], *"xxxx") if place % 2 else _of_both(old.text, other.text)
        metadata = {**old.metadata, **({"source": f"blog/{seed}.html"} if place % 2 else {})}
        fresh.append(Chunk(f"new{at}", f"{place} {text}", metadata))
    return [*world.chunks, *fresh], np.concatenate(
        [world.vectors, world.embedder.embed_passages([c.text for c in fresh])]
    )


def _of_both(text: str, other: str) -> str:
    """Return every second word of two texts: a new text, and of neither a near duplicate."""
    return " ".join([*text.split()[::2], *other.split()[1::2]])


def _few_gone(world: World, seed: int) -> State:
    answers = {key for query in world.questions for key in query.expect}
    some = [at for at in world.rows(0.02, seed=SEED + seed) if world.chunks[at].id not in answers]
    gone = set(some[: max(1, len(world.chunks) // 400)])
    kept = [at for at in range(len(world.chunks)) if at not in gone]
    return [world.chunks[at] for at in kept], world.vectors[kept]


def _revised(world: World, seed: int) -> State:
    held, vectors, rows = list(world.chunks), world.vectors.copy(), world.rows(0.03, seed=SEED + seed)
    for at in rows:
        held[at] = replace(held[at], text=f"{held[at].text} Revised in edition {seed}.")
    vectors[rows] = world.embedder.embed_passages([held[at].text for at in rows])
    return held, vectors


def _other_day(world: World, seed: int) -> State:
    day = f"2026-11-{2 + seed % 28:02}"
    return [replace(chunk, metadata={**chunk.metadata, "made": day}) for chunk in world.chunks], world.vectors


def _new_field(world: World, seed: int) -> State:
    held = list(world.chunks)
    for at in world.rows(0.1 + 0.02 * seed, seed=SEED + seed):
        held[at] = replace(held[at], metadata={**held[at].metadata, "checked": True})
    return held, world.vectors


def _spaces(world: World, seed: int) -> State:
    held = list(world.chunks)
    for at in world.rows(0.5, seed=SEED + seed):
        held[at] = replace(held[at], text=f" {held[at].text}\n")
    return held, world.vectors


def _rounding(world: World, seed: int) -> State:
    noise = np.random.default_rng(seed).normal(scale=2e-4, size=world.vectors.shape)
    return world.chunks, (world.vectors + noise).astype(np.float32)


def _retitled(world: World, seed: int) -> State:
    held = list(world.chunks)
    for at in world.rows(0.004, seed=SEED + seed):
        held[at] = replace(held[at], metadata={**held[at].metadata, "title": f"A title of edition {seed}"})
    return held, world.vectors


HARMLESS = {
    "ingested in another order": _reordered,
    "a twentieth is new": _grown,
    "a few chunks are deleted": _few_gone,
    "three in a hundred texts are revised": _revised,
    "ingested on another day": _other_day,
    "a field is added": _new_field,
    "spaces around texts": _spaces,
    "embedded in another precision": _rounding,
    "a few titles corrected": _retitled,
    "nothing changed": lambda world, _seed: (world.chunks, world.vectors),
}
