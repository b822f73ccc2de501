"""Accidents of what is stored: metadata, texts, vectors, and which chunks there are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from world import HashedWords, Vectors, World

from reperio import Chunk

State: TypeAlias = tuple[list[Chunk], Vectors]
Change: TypeAlias = Callable[[World, float], State]
Own: TypeAlias = dict[str, Any]

GERMAN = "die Seite {} ist nicht für {} und auch mit der Anleitung {} wird es auf dem Tisch zu {} oder"


def metadata(change: Callable[[Own], Own], source: str = "", *, only: Callable[[Own], bool] = lambda _: True) -> Change:
    """Return what changes the metadata of a share of the chunks."""

    def changed(world: World, share: float) -> State:
        held = list(world.chunks)
        rows = [at for at in world.rows(1, source) if only(dict(held[at].metadata))]
        for at in rows[: max(1, round(share * len(rows)))]:
            held[at] = replace(held[at], metadata=change(dict(held[at].metadata)))
        return held, world.vectors

    return changed


def text(change: Callable[[str], str], source: str = "", *, stale: bool = False) -> Change:
    """Return what changes the texts of a share of the chunks, and embeds them again unless they are *stale*."""

    def changed(world: World, share: float) -> State:
        held, vectors, rows = list(world.chunks), world.vectors.copy(), world.rows(share, source)
        for at in rows:
            held[at] = replace(held[at], text=change(held[at].text))
        if not stale:
            vectors[rows] = world.embedder.embed_passages([held[at].text for at in rows])
        return held, vectors

    return changed


def vectors(change: Callable[[World, list[int]], Vectors]) -> Change:
    """Return what changes the vectors of a share of the chunks."""

    def changed(world: World, share: float) -> State:
        found, rows = world.vectors.copy(), world.rows(share)
        found[rows] = change(world, rows)
        return world.chunks, found

    return changed


def without(source: str = "", *, newest: bool = False) -> Change:
    """Return what leaves a share of the chunks out."""

    def changed(world: World, share: float) -> State:
        count = len(world.chunks)
        gone = set(range(round(count * (1 - share)), count)) if newest else set(world.rows(share, source))
        kept = [at for at in range(count) if at not in gone]
        return [world.chunks[at] for at in kept], world.vectors[kept]

    return changed


def _again(source: str = "") -> Change:
    """Ingest a share of the chunks twice, under other ids."""

    def changed(world: World, share: float) -> State:
        rows = world.rows(share, source)
        copies = [replace(world.chunks[at], id=f"{world.chunks[at].id}-again") for at in rows]
        return [*world.chunks, *copies], np.concatenate([world.vectors, world.vectors[rows]])

    return changed


def _other_ids(world: World, share: float) -> State:
    held = list(world.chunks)
    for at in world.rows(share):
        held[at] = replace(held[at], id=f"{held[at].id}-v2")
    return held, world.vectors


def _exchanged(world: World, share: float) -> State:
    held, rows = list(world.chunks), world.rows(share)
    for at, other in zip(rows, np.roll(rows, 1).tolist(), strict=True):
        held[at] = replace(held[at], metadata=world.chunks[other].metadata)
    return held, world.vectors


def _merged(world: World, share: float) -> State:
    held, found, rows = list(world.chunks), world.vectors.copy(), world.rows(share)
    for at in rows:
        held[at] = replace(held[at], text=held[at].text + " " + held[(at + 1) % len(held)].text)
    found[rows] = world.embedder.embed_passages([held[at].text for at in rows])
    return held, found


def _shifted(world: World, share: float) -> State:
    found, first = world.vectors.copy(), round(len(world.chunks) * (1 - share))
    found[first:] = np.roll(found[first:], 1, axis=0)
    return world.chunks, found


def _noise(world: World, rows: list[int]) -> Vectors:
    rng = np.random.default_rng(5)
    return world.vectors[rows] + rng.normal(scale=0.05, size=(len(rows), world.embedder.dimension)).astype(np.float32)


def _cut(world: World, rows: list[int]) -> Vectors:
    kept = np.arange(world.embedder.dimension) < world.embedder.dimension // 2
    return (world.vectors[rows] * kept).astype(np.float32)


def _salted(world: World, rows: list[int]) -> Vectors:
    other = HashedWords([chunk.text for chunk in world.chunks], salt="other ")
    return other.embed_passages(_texts(world, rows))


def _texts(world: World, rows: Sequence[int]) -> list[str]:
    return [world.chunks[at].text for at in rows]


def _set(**changes: Callable[[Any], Any]) -> Callable[[Own], Own]:
    return lambda own: {**own, **{name: change(own[name]) for name, change in changes.items()}}


def _lacking(name: str) -> Callable[[Own], Own]:
    return lambda own: {key: value for key, value in own.items() if key != name}


def _garbage(given: str) -> str:
    letters = random.Random(given)
    return "".join(letters.choice("abcdefghijklmnop  ") for _ in given)


def _accents(given: str) -> str:
    return given.replace("e", "é", 6).encode().decode("latin-1")


def _german(given: str) -> str:
    some = given.split()
    return " ".join(GERMAN.format(*(some[at : at + 4] + ["x"] * 4)[:4]) for at in range(0, min(len(some), 24), 4))


_BANNER = "We use cookies to give you the best experience. Accept all. "
_NOT_FOUND = "404 not found. The page you are looking for is not here or was moved to another place."

STORED: dict[str, tuple[Change, tuple[float, float], bool]] = {
    "internal chunks became public, share": (
        metadata(_set(access=lambda _: "public"), only=lambda own: own["access"] == "internal"), (0.02, 1), True),
    "public chunks became internal, share": (
        metadata(_set(access=lambda _: "internal"), only=lambda own: own["access"] == "public"), (0.01, 0.2), True),
    "access field lost, share": (metadata(_lacking("access")), (0.01, 0.2), True),
    "access written otherwise, share": (metadata(_set(access=str.upper)), (0.01, 0.3), True),
    "access is null, share": (metadata(_set(access=lambda _: None)), (0.01, 0.2), True),
    "access is a list, share": (metadata(_set(access=lambda value: [value])), (0.02, 0.5), True),
    "language field exchanged, share": (
        metadata(_set(lang=lambda value: "en" if value == "de" else "de")), (0.02, 0.2), True),
    "a field lost, share": (metadata(_lacking("kind")), (0.05, 0.5), True),
    "a field lost in one source, share of it": (metadata(_lacking("kind"), "wiki"), (0.05, 1), True),
    "case of values changed, share": (metadata(_set(kind=str.lower)), (0.09, 0.5), True),
    "a year as text, share": (metadata(_set(year=str)), (0.1, 0.33), True),
    "a year that is 1970, share": (metadata(_set(year=lambda _: 1970)), (0.05, 0.5), True),
    "titles emptied, share": (metadata(_set(title=lambda _: "")), (0.05, 0.5), True),
    "a text became a list, share": (metadata(_set(kind=lambda value: [value])), (0.05, 0.5), True),
    "metadata nested one level deeper, share": (metadata(lambda own: {"meta": own}), (0.1, 1), True),
    "metadata of other chunks, share": (_exchanged, (0.05, 0.5), False),
    "pages are not found, share of a source": (text(lambda _: _NOT_FOUND, "wiki"), (0.06, 0.3), True),
    "pages are not found, each with its address, share of a source": (
        text(lambda own: f"{_NOT_FOUND} {own[:12]}", "wiki"), (0.06, 0.3), True),
    "a banner before the texts of a source, share of it": (text(lambda own: _BANNER + own, "wiki"), (0.3, 1), True),
    "a footer behind the texts of a source, share of it": (
        text(lambda own: f"{own} {_BANNER}", "wiki"), (0.3, 1), True),
    "another language, share of a source": (text(_german, "wiki"), (0.1, 0.5), True),
    "wrong encoding, share": (text(_accents), (0.05, 0.3), True),
    "markup left in, share": (text(lambda own: f"<div class='a'><p>{own}</p></div>"), (0.05, 0.5), True),
    "texts emptied, share": (text(lambda _: ""), (0.03, 0.2), True),
    "texts cut to 100 characters, share": (text(lambda own: own[:100]), (0.2, 1), False),
    "texts are noise, share": (text(_garbage), (0.05, 0.3), False),
    "texts twice under other ids, share": (_again(), (0.05, 0.5), True),
    "a source twice under other ids, share of it": (_again("support"), (0.1, 1), True),
    "two texts in one, share": (_merged, (0.2, 1), False),
    "one constant vector, share": (vectors(lambda world, rows: np.ones_like(world.vectors[rows])), (0.002, 0.05), True),
    "the vector of one other chunk, share": (
        vectors(lambda world, rows: np.broadcast_to(world.vectors[0], world.vectors[rows].shape)), (0.002, 0.05), True),
    "texts changed and vectors not, share": (
        text(lambda own: "Quite another beginning of this text. " + own[::-1], stale=True), (0.005, 0.05), True),
    "vectors shifted by one row, share": (_shifted, (0.05, 1), True),
    "vectors with noise, share": (vectors(_noise), (0.1, 1), False),
    "vectors of signs alone, share": (vectors(lambda world, rows: np.sign(world.vectors[rows])), (0.1, 1), False),
    "vectors cut to half, share": (vectors(_cut), (0.1, 1), False),
    "embedded behind a prompt, share": (
        vectors(lambda world, rows: world.embedder.embed_passages([f"passage: {own}" for own in _texts(world, rows)])),
        (0.2, 1), False),
    "embedded by another model, share": (vectors(_salted), (0.05, 1), False),
    "chunks missing, share": (without(), (0.01, 0.2), True),
    "chunks of a source missing, share of it": (without("wiki"), (0.06, 1), True),
    "newest chunks missing, share": (without(newest=True), (0.02, 0.2), True),
    "other ids, share": (_other_ids, (0.05, 1), True),
}  # fmt: skip
"""Change, two strengths, and whether red is demanded whatever the answers, by what happened."""
