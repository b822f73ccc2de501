"""Accidents of what asks: time limits, filters, options, caches and rerankers in front of a sound collection."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from world import HashedWords, World

from reperio import Collection, Hit
from reperio.evaluation import Search
from reperio.evaluation.contents.hashing import digest

Front: TypeAlias = Callable[[World, Collection, float], Search]
Answer: TypeAlias = "Callable[[Collection, str, int, Any, Any], list[Hit]]"


def _plain(collection: Collection, text: str, k: int, where: Any, mode: Any) -> list[Hit]:
    return collection.search(text, k=k, where=where, mode=mode)


def front(answer: Callable[..., list[Hit]], *, share: bool = False) -> Front:
    """Return what answers by *answer*, with the strength as its last argument; or a *share* of the questions."""

    def made(_world: World, collection: Collection, strength: float) -> Search:
        def search(text: str, *, k: int, where: Mapping[str, Any] | None, mode: Any) -> list[Hit]:
            if share and digest(text) % 1000 >= 1000 * strength:
                return _plain(collection, text, k, where, mode)
            return answer(collection, text, k, where, mode, strength)

        return search

    return made


def _least_score(collection: Collection, text: str, k: int, where: Any, mode: Any, strength: float) -> list[Hit]:
    hits = _plain(collection, text, k, where, mode)
    return [hit for hit in hits if hit.score >= hits[0].score * strength]


def _random(collection: Collection, text: str, k: int, where: Any, mode: Any, _: float) -> list[Hit]:
    hits = _plain(collection, text, 20 * k, where, mode)
    return [hits[at] for at in np.random.default_rng(digest(text)).permutation(len(hits))[:k]]


def _advert(collection: Collection, text: str, k: int, where: Any, mode: Any, _: float) -> list[Hit]:
    [first] = collection.search("page", k=1, where=where)
    return [first, *(hit for hit in _plain(collection, text, k, where, mode) if hit.chunk.id != first.chunk.id)][:k]


def _twice(collection: Collection, text: str, k: int, where: Any, mode: Any, _: float) -> list[Hit]:
    return [hit for hit in _plain(collection, text, k, where, mode) for _ in range(2)][:k]


def _lost_in(collection: Collection, text: str, k: int, where: Any, mode: Any, strength: float) -> list[Hit]:
    lost = mode == ("hybrid" if strength == 1 else "lexical")
    return _plain(collection, text, k, None if lost else where, mode)


def _fails_in(collection: Collection, text: str, k: int, where: Any, mode: Any, strength: float) -> list[Hit]:
    return [] if mode == ("hybrid" if strength == 1 else "lexical") else _plain(collection, text, k, where, mode)


def _one_mode(collection: Collection, text: str, k: int, where: Any, _: Any, strength: float) -> list[Hit]:
    return _plain(collection, text, k, where, "dense" if strength == 1 else "lexical")


def _prompted(collection: Collection, text: str, k: int, where: Any, mode: Any, strength: float) -> list[Hit]:
    phrase = "represent this sentence for searching relevant passages in a collection"
    words = phrase.split()[: int(strength)]
    return _plain(collection, " ".join([*words, text]), k, where, mode)


def _other_model(world: World, collection: Collection, share: float) -> Search:
    other = HashedWords([chunk.text for chunk in world.chunks], salt="other ")

    def search(text: str, *, k: int, where: Any, mode: Any) -> list[Hit]:
        if mode == "lexical" or digest(text) % 1000 >= 1000 * share:
            return _plain(collection, text, k, where, mode)
        return collection.search(vector=other.embed_queries([text])[0], k=k, where=where)

    return search


def _slow_questions(collection: Collection, text: str, k: int, where: Any, mode: Any, strength: float) -> list[Hit]:
    if digest(text) % 100 < 4:
        time.sleep(strength / 1e3)
    return _plain(collection, text, k, where, mode)


class _Counting:
    """Searches that know how many there were before."""

    def __init__(self, collection: Collection, wait: Callable[[int], float]) -> None:
        self._collection, self._wait, self._calls, self._last = collection, wait, 0, ""

    def search(self, text: str, *, k: int, where: Any, mode: Any) -> list[Hit]:
        self._calls += 1
        time.sleep(self._wait(self._calls))
        return _plain(self._collection, text, k, where, mode)


def _stalls(_: World, collection: Collection, share: float) -> Search:
    return _Counting(collection, lambda call: 0.15 * (call % round(1 / share) == 1)).search


def _cold(_: World, collection: Collection, seconds: float) -> Search:
    return _Counting(collection, lambda call: seconds * (call == 1)).search


def _stale_cache(_: World, collection: Collection, share: float) -> Search:
    kept: list[list[Hit]] = [[]]

    def search(text: str, *, k: int, where: Any, mode: Any) -> list[Hit]:
        if kept[0] and digest(text) % 1000 < 1000 * share:
            return kept[0][:k]
        kept[0] = _plain(collection, text, k, where, mode)
        return kept[0]

    return search


ASKED: dict[str, tuple[Front, tuple[float, float], bool]] = {
    "questions get nothing, share": (front(lambda *_: [], share=True), (0.03, 0.2), True),
    "least score, part of the best": (front(_least_score), (0.6, 0.9), True),
    "fewer hits, so many": (front(lambda c, t, k, w, m, s: _plain(c, t, min(k, int(s)), w, m)), (7, 3), True),
    "order reversed, share of questions": (
        front(lambda c, t, k, w, m, _: _plain(c, t, k, w, m)[::-1], share=True), (0.1, 0.5), False),
    "other hits at random, share of questions": (front(_random, share=True), (0.05, 0.3), False),
    "first hit dropped, share of questions": (
        front(lambda c, t, k, w, m, _: _plain(c, t, k + 1, w, m)[1:], share=True), (0.05, 0.3), False),
    "one chunk before all others, share of questions": (front(_advert, share=True), (0.1, 1), False),
    "each hit twice, share of questions": (front(_twice, share=True), (0.2, 1), False),
    "filter lost in one mode (1 hybrid, 2 lexical)": (front(_lost_in), (1, 2), True),
    "filter lost, share of questions": (
        front(lambda c, t, k, _w, m, _: _plain(c, t, k, None, m), share=True), (0.2, 1), True),
    "an error is swallowed in one mode (1 hybrid, 2 lexical)": (front(_fails_in), (1, 2), True),
    "one mode for all (1 dense, 2 lexical)": (front(_one_mode), (1, 2), False),
    "question cut to so many words": (
        front(lambda c, t, k, w, m, s: _plain(c, " ".join(t.split()[: int(s)]), k, w, m)), (6, 3), False),
    "needless words before the question": (front(_prompted), (2, 8), False),
    "question embedded by another model, share": (_other_model, (0.1, 1), False),
    "reranker that turns the first hits round, so many": (
        front(lambda c, t, k, w, m, s: (h := _plain(c, t, k, w, m))[: int(s)][::-1] + h[int(s) :]), (2, 10), False),
    "the answer to the last question, share of questions": (_stale_cache, (0.05, 0.3), False),
    "hits from a rank on": (front(lambda c, t, k, w, m, s: _plain(c, t, k + int(s), w, m)[int(s) :]), (1, 10), False),
    "4% of questions slow, ms": (front(_slow_questions), (200, 400), True),
    "calls that stall for 150 ms, share": (_stalls, (0.06, 0.12), True),
    "slow first call, seconds": (_cold, (2, 4), True),
}  # fmt: skip
"""Front, two strengths, and whether red is demanded whatever the answers, by what happened."""

SLOW = frozenset({"4% of questions slow, ms", "calls that stall for 150 ms, share", "slow first call, seconds"})
"""Those that only take time; the others are gated without a clock."""
