"""Accidents that were kept back: written from what other teams report, and run only when the gate's rules were done.

Each names where it was reported. A rule that is changed because of one of them must be said to be, in
docs/gate-detection.md: from then on it is no longer kept back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus

import numpy as np
from asked import Front, front
from stored import Change, State, metadata, text, vectors
from world import Vectors, World

from reperio import Chunk, Collection, Hit
from reperio.evaluation import Search
from reperio.evaluation.contents.hashing import digest

_BATCH = 16  # texts that are embedded at once
_LIGATURE = re.compile("ffi|ffl|ff|fi|fl")
_DIGIT = re.compile(r"\d")
_SCRAPED = re.compile(r"[^A-Za-z ]+")


def _shuffled_batches(world: World, share: float) -> State:
    """Answer some batches in another order than that of their texts."""
    found, rng = world.vectors.copy(), np.random.default_rng(11)
    starts = range(0, len(world.chunks) - _BATCH, _BATCH)
    for start in rng.permutation(starts)[: max(1, round(share * len(starts)))].tolist():
        found[start : start + _BATCH] = found[start + rng.permutation(_BATCH)]
    return world.chunks, found


def _pairs_share(world: World, rows: list[int]) -> Vectors:
    """Give every second of the rows the vector of the one before it."""
    return np.repeat(world.vectors[rows[::2]], 2, axis=0)[: len(rows)]


def _titled(world: World, rows: list[int]) -> Vectors:
    chunks = [world.chunks[at] for at in rows]
    texts = [f"Title: {each.metadata['title']}\nKind: {each.metadata['kind']}\n{each.text}" for each in chunks]
    return world.embedder.embed_passages(texts)


def _overlapping(world: World, share: float) -> State:
    """Cut a share of the pages with windows that overlap by half: chunks between every two neighbours."""
    fresh = []
    for at in sorted(world.rows(share)):
        if at + 1 < len(world.chunks):
            own, following = world.chunks[at], world.chunks[at + 1]
            half, begin = len(own.text) // 2, len(following.text) // 2
            fresh.append(replace(own, id=f"{own.id}-half", text=f"{own.text[half:]} {following.text[:begin]}"))
    return _with(world, fresh)


def _old_versions(world: World, share: float) -> State:
    """Ingest pages of today under new ids, and leave those of yesterday, in which the figures are others."""
    old = [
        replace(chunk, id=f"{chunk.id}@2024", text=_DIGIT.sub(lambda digit: str((int(digit[0]) + 3) % 10), chunk.text))
        for chunk in (world.chunks[at] for at in world.rows(share))
    ]
    return _with(world, old)


def _with(world: World, fresh: list[Chunk]) -> State:
    added = world.embedder.embed_passages([chunk.text for chunk in fresh])
    return [*world.chunks, *fresh], np.concatenate([world.vectors, added])


def _without_longest(world: World, share: float) -> State:
    """Leave out what a bulk request refuses by its size, and only logs."""
    order = np.argsort([-len(chunk.text) for chunk in world.chunks], kind="stable")
    kept = np.sort(order[max(1, round(share * len(order))) :]).tolist()
    return [world.chunks[at] for at in kept], world.vectors[kept]


def _renumbered(world: World, share: float) -> State:
    """Give ids by position, and put a page before a share of the rest: they all have the number of their neighbour."""
    first = round(len(world.chunks) * (1 - share))
    ids = [chunk.id for chunk in world.chunks]
    moved = [*ids[:first], *ids[first + 1 :], f"c{len(ids)}"]
    return [replace(chunk, id=own) for chunk, own in zip(world.chunks, moved, strict=True)], world.vectors


def _filtered_afterwards(
    collection: Collection, text: str, k: int, where: Mapping[str, Any] | None, mode: Any, strength: float
) -> list[Hit]:
    """Filter what is found instead of what is searched."""
    if not where:
        return collection.search(text, k=k, mode=mode)
    allowed = set(collection.ids(where=where))
    found = collection.search(text, k=round(k * strength), mode=mode)
    return [hit for hit in found if hit.chunk.id in allowed][:k]


def _cached_without_filter(_: World, collection: Collection, share: float) -> Search:
    """Keep answers by the text of the question alone."""
    kept: dict[str, list[Hit]] = {}

    def search(text: str, *, k: int, where: Any, mode: Any) -> list[Hit]:
        if digest(text) % 1000 >= 1000 * share:
            return collection.search(text, k=k, where=where, mode=mode)
        if text not in kept:
            kept[text] = collection.search(text, k=k, where=where, mode=mode)
        return kept[text][:k]

    return search


def _by_id(collection: Collection, text: str, k: int, where: Any, mode: Any, _: float) -> list[Hit]:
    return sorted(collection.search(text, k=k, where=where, mode=mode), key=lambda hit: hit.chunk.id)


def _one_leg(collection: Collection, text: str, k: int, where: Any, mode: Any, strength: float) -> list[Hit]:
    leg = "dense" if strength == 1 else "lexical"
    return collection.search(text, k=k, where=where, mode=leg if mode == "hybrid" else mode)


def _quoted(collection: Collection, text: str, k: int, where: Any, mode: Any, strength: float) -> list[Hit]:
    asked = quote_plus(text) if strength == 1 else text.replace("'", "&#39;").replace(" ", "\u00a0", 2)
    return collection.search(asked, k=k, where=where, mode=mode)


def _narrowed(collection: Collection, text: str, k: int, where: Any, mode: Any, strength: float) -> list[Hit]:
    return collection.search(text, k=k, where={**(where or {}), "year": {"$gte": int(strength)}}, mode=mode)


KEPT_STORED: dict[str, tuple[Change, tuple[float, float], bool]] = {
    # firecrawl/anydoc#172, tabulapdf/tabula#83, py-pdf/pypdf#1351
    "ligatures dropped, share of a source": (text(lambda own: _LIGATURE.sub("", own), "wiki"), (0.3, 1), False),
    # yfedoseev/pdf_oxide#803, py-pdf/pypdf#2262
    "spaces between words lost, share": (text(lambda own: own.replace(" ", "")), (0.05, 0.3), True),
    # a cleaner that leaves letters only; open-source pipelines copy it from one another
    "digits and signs stripped, share": (text(lambda own: _SCRAPED.sub("", own)), (0.3, 1), False),
    # run-llama/llama_index#19537, googleapis/js-genai#1207, 0xPlaygrounds/rig#2348
    "batches answered in another order, share": (_shuffled_batches, (0.02, 0.3), True),
    # open-metadata/OpenMetadata#29703
    "pairs of texts have one vector, share": (vectors(_pairs_share), (0.01, 0.2), True),
    # alphasolutionsrepo/interakt#35
    "embedded with labels that are not in the contract, share": (vectors(_titled), (0.1, 1), False),
    # yixuantt/MultiHop-RAG#25
    "windows that overlap by half, share": (_overlapping, (0.2, 1), False),
    # what several posts on retrieval in production call stale documents
    "old versions left under other ids, share": (_old_versions, (0.05, 0.3), True),
    # a post-mortem of an indexing incident: bulk requests refused, only logged
    "longest texts refused, share": (_without_longest, (0.01, 0.1), True),
    # ids by position (chunk_0, chunk_1 …), a page put before
    "ids renumbered, share": (_renumbered, (0.05, 1), True),
    # a date read in another time zone falls into the year before
    "a year too early, share": (
        metadata(lambda own: {**own, "year": own["year"] - 1}), (0.05, 0.5), True),
    # paths of the machine that ingests: an absolute path instead of wiki/…
    "sources by their absolute path, share": (
        metadata(lambda own: {**own, "source": f"/builds/docs/{own['source']}"}), (0.1, 1), True),
}  # fmt: skip
"""As in `stored.STORED`."""

KEPT_ASKED: dict[str, tuple[Front, tuple[float, float], bool]] = {
    # filtering behind an approximate search; the candidates are so many times k
    "filtered after the search, candidates": (front(_filtered_afterwards), (1, 2), True),
    # cache keys that lack what the answer depends on
    "cached without the filter, share of questions": (_cached_without_filter, (0.2, 1), True),
    # results of parallel requests that are merged without their scores
    "hits ordered by id, share of questions": (front(_by_id, share=True), (0.1, 1), False),
    # "alpha=1" in a configuration of hybrid search
    "hybrid asks one leg alone (1 dense, 2 lexical)": (front(_one_leg), (1, 2), False),
    # a question that was quoted for a URL, or escaped for a page, once too often
    "the question escaped (1 quoted, 2 entities)": (front(_quoted), (1, 2), False),
    # a filter of another team's default: only what is recent
    "a further filter, from a year on": (front(_narrowed), (2012, 2018), False),
}  # fmt: skip
"""As in `asked.ASKED`."""
