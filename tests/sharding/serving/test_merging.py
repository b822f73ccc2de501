"""Shards answer as one collection does that holds the same chunks: every option, to the last bit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reperio
from reperio import Chunk, Collection, Hit, ReperioWarning
from tests.property.test_filtered_search import TREES, some_metadata
from tests.sharding.serving.made import fill, make_shards, one_like, open_to_write

DIMENSION = 6
WORDS = [
    "reset",
    "password",
    "account",
    "the",
    "of",
    "and",
    "invoice",
    "東京",
    "京都",
    "résumé",
    "Résumé",
    "running",
    "runs",
    "run",
    "x1",
    "delivery",
    "12",
    "e-mail",
]
LAYOUTS: list[dict[str, Any]] = [
    {"shards": 3, "metric": "cosine", "count": 60},
    {"shards": 2, "metric": "l2", "count": 140, "lexical": "unicode61"},
    {"shards": 4, "metric": "inner_product", "count": 25, "dtype": "float16"},
    {"shards": 5, "metric": "cosine", "count": 9, "lexical": "trigram"},
    {"shards": 1, "metric": "l2", "count": 40},
    {"shards": 3, "metric": "inner_product", "count": 500},
]


class Overlap:
    """A reranker: the share of the query's letters in a text, with many equal scores."""

    def score(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        return [
            [round(len(set(query) & set(text)) / len(set(query)), 1) for text in its]
            for query, its in zip(queries, texts, strict=True)
        ]


def some_text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, weights=range(len(WORDS), 0, -1), k=rng.randrange(1, 14)))


def some_vector(rng: random.Random) -> list[float]:
    """Return one of few directions, so that many are equal, or nearly so once their lengths are 1; or any other."""
    if rng.random() < 0.7:
        direction, length = random.Random(rng.randrange(4)), rng.choice([1.0, 1.0, 0.3, 1.7, 7.1, 0.9])
        return [length * direction.gauss(0, 1) for _ in range(DIMENSION)]
    return [rng.gauss(0, 1) for _ in range(DIMENSION)]


@dataclass
class Pair:
    """Shards, and one collection with the same chunks; the same two with a scope."""

    shards: Collection
    one: Collection
    scoped: Collection
    one_scoped: Collection
    ids: list[str]
    vectors: np.typing.NDArray[np.float32]


def a_pair(root: Path, stack: ExitStack, number: int) -> Pair:
    layout, rng = dict(LAYOUTS[number]), random.Random(number)
    shards, count = layout.pop("shards"), layout.pop("count")
    manifest = make_shards(root / "shards", shards, dimension=DIMENSION, **layout)
    texts = [some_text(rng) for _ in range(count)]
    chunks = [Chunk(f"c{rng.randrange(10**9)}", rng.choice(texts), some_metadata(rng)) for _ in range(count)]
    vectors = np.array([some_vector(rng) for _ in chunks], dtype=np.float32)
    fill(root / "shards", manifest, chunks, vectors)
    again = [Chunk(one.id, f"{one.text} again", one.metadata) for one in chunks[:: max(2, count // 7)]]
    fill(root / "shards", manifest, again, vectors[:: max(2, count // 7)])
    for entry in manifest.shards[:2]:
        with open_to_write(root / "shards", entry) as kb:
            kb.delete(ids=kb.ids()[1::9])
    opened = stack.enter_context(reperio.open_shards(root / "shards"))
    given = {one.id: vector for one, vector in zip(chunks, vectors, strict=True)}
    one = stack.enter_context(one_like(opened, root / "one", given, dimension=DIMENSION, **layout))
    scope = {"tenant": {"$in": ["a", "c"]}}
    return Pair(
        opened,
        one,
        stack.enter_context(reperio.open_shards(root / "shards", scope=scope)),
        stack.enter_context(reperio.open(root / "one", read_only=True, scope=scope)),
        opened.ids(),
        opened.vectors(opened.ids()),
    )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Pair]]:
    with ExitStack() as stack:
        yield [a_pair(tmp_path_factory.mktemp("pair"), stack, number) for number in range(len(LAYOUTS))]


QUESTIONS = st.lists(st.sampled_from([*WORDS, "nowhere", "reset reset"]), min_size=1, max_size=6).map(" ".join)


@st.composite
def some_options(draw: st.DrawFn) -> dict[str, Any]:
    """Return options of a search that go together."""
    mode = draw(st.sampled_from(["dense", "lexical", "hybrid", "hybrid"]))
    options: dict[str, Any] = {"mode": mode, "k": draw(st.integers(1, 12) | st.just(400))}
    if mode == "hybrid":
        options["fusion"] = draw(st.sampled_from(["convex", "rrf"]))
        if options["fusion"] == "convex":
            options["weight"] = draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
        options["lexical_candidates"] = draw(st.none() | st.integers(1, 30))
    chosen = draw(st.sampled_from(["", "", "reranker", "diversity"]))
    if chosen == "reranker":
        options["reranker"] = Overlap()
    if chosen == "diversity":
        options["diversity"] = draw(st.sampled_from([0.0, 0.4, 1.0]))
    if draw(st.booleans()):
        options["candidates"] = options["k"] + draw(st.integers(0, 20))
    options["distinct"] = draw(st.booleans())
    options["min_score"] = draw(st.none() | st.sampled_from([-1.0, 0.2, 1.0]))
    options["where"] = draw(st.none() | TREES)
    return options


@pytest.mark.filterwarnings("ignore::reperio.ReperioWarning")  # of trigrams, for words of two letters
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(LAYOUTS) - 1), st.booleans(), QUESTIONS, st.integers(0, 10**6), some_options(), st.booleans())
def test_answers_are_those_of_one_collection(
    pairs: list[Pair], number: int, scoped: bool, question: str, seed: int, options: dict[str, Any], among: bool
) -> None:
    """Ids, texts, metadata, ranks, and all scores to the bit, for every way to ask."""
    pair, rng = pairs[number], random.Random(seed)
    left, right = (pair.scoped, pair.one_scoped) if scoped else (pair.shards, pair.one)
    # Sometimes the very vector of a chunk: then rounding puts cosines beyond 1, where they are still told apart.
    vector = pair.vectors[rng.randrange(len(pair.vectors))] if rng.random() < 0.3 else np.array(some_vector(rng))
    if among:
        options["ids"] = [*rng.sample(pair.ids, min(len(pair.ids), 8)), "absent"]
    asked: dict[str, Any] = {}
    if options["mode"] != "dense" or "reranker" in options:
        asked["query"] = question
    if options["mode"] != "lexical" or "diversity" in options:
        asked["vector"] = vector
    assert listed(left, asked, options) == listed(right, asked, options)


def listed(kb: Collection, asked: dict[str, Any], options: dict[str, Any]) -> list[Hit] | str:
    try:
        return list(kb.search(**asked, **options))
    except reperio.InvalidInput as error:  # distinct=True, and too many copies: both say so
        return str(error)


def test_the_chunks_nearest_to_a_stored_vector_are_in_the_order_of_one_collection(pairs: list[Pair]) -> None:
    """Rounding puts cosines beyond 1, where one collection still tells them apart, and then says 1."""
    for pair in pairs[:2]:
        for vector in pair.vectors:
            assert pair.shards.search(vector=vector, k=6) == pair.one.search(vector=vector, k=6)


def test_more_chunks_than_are_ranked_are_chosen_from_as_in_one_collection(tmp_path: Path) -> None:
    """Which rows the rare words retrieve is decided over all shards, and so are the steps after it."""
    rng = random.Random(5)
    words = [f"word{number}" for number in range(400)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    chunks = [
        Chunk(f"c{number}", " ".join(rng.choices(words, weights, k=rng.randrange(3, 40))), {"n": number % 3})
        for number in range(2000)
    ]
    vectors = np.ones((len(chunks), DIMENSION))
    fill(tmp_path / "shards", make_shards(tmp_path / "shards", 4, dimension=DIMENSION), chunks, vectors)
    given = dict.fromkeys([one.id for one in chunks], vectors[0])
    scope = {"n": {"$lt": 2}}
    with (
        reperio.open_shards(tmp_path / "shards") as shards,
        reperio.open_shards(tmp_path / "shards", scope=scope) as scoped,
        one_like(shards, tmp_path / "one", given, dimension=DIMENSION) as one,
        reperio.open(tmp_path / "one", read_only=True, scope=scope) as one_scoped,
    ):
        for number in range(60):
            question = " ".join(rng.choices(words, weights, k=rng.choice([1, 2, 5, 8, 25])))
            options: dict[str, Any] = {"mode": "lexical", "k": rng.choice([1, 10, 40])}
            if number % 3 == 0:
                options["where"] = {"n": 1}
            assert shards.search(question, **options) == one.search(question, **options)
            assert scoped.search(question, **options) == one_scoped.search(question, **options)


@pytest.mark.filterwarnings("ignore::reperio.ReperioWarning")
@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_many_questions_are_answered_like_one_after_the_other(pairs: list[Pair], mode: Any) -> None:
    """They go to each shard in one call."""
    for pair in pairs:
        rng = random.Random(3)
        texts = [some_text(rng) for _ in range(7)]
        vectors = np.array([some_vector(rng) for _ in texts])
        both: dict[str, Any] = {} if mode == "dense" else {"queries": texts}
        if mode != "lexical":
            both["vectors"] = vectors
        assert pair.shards.search_many(**both, mode=mode, k=5) == pair.one.search_many(**both, mode=mode, k=5)
    assert pairs[0].shards.search_many([], mode="lexical") == []


def test_what_is_read_without_a_question_is_the_same(pairs: list[Pair]) -> None:
    """By id and by filter, within a scope too, and what describes it."""
    for pair in pairs:
        for left, right in ((pair.shards, pair.one), (pair.scoped, pair.one_scoped)):
            for where in (None, {"tenant": "a"}, {"n": {"$gt": 3}}):
                assert left.ids(where=where) == right.ids(where=where)
                assert left.count(where=where) == right.count(where=where)
                assert left.get(where=where, limit=4, offset=2) == right.get(where=where, limit=4, offset=2)
            some = pair.ids[::5]
            assert left.get([*some, "absent"]) == right.get([*some, "absent"])
            assert left.get(some[0]) == right.get(some[0])
            assert [one in left for one in some] == [one in right for one in some]
            assert list(left) == list(right)
            assert len(left) == len(right)
            assert left.info().count == right.info().count
            assert left.info().metric is right.info().metric
            there = left.ids()
            assert np.array_equal(left.vectors(there), right.vectors(there))
        assert pair.shards.fingerprint() == pair.one.fingerprint()
        assert len(pair.shards.sample_queries(5)) == len(pair.one.sample_queries(5))


def test_a_question_without_words_warns_once(pairs: list[Pair]) -> None:
    """Not once for each shard, and never in a thread that nobody looks at."""
    with pytest.warns(ReperioWarning, match="not answered by words") as caught:
        assert pairs[3].shards.search("a", mode="lexical") == []
    assert len(caught) == 1


async def _found(kb: Collection) -> tuple[list[Hit], Any, int]:
    return await kb.asearch("reset password", mode="lexical"), await kb.aget(kb.ids()[0]), await kb.acount()


def test_twins_are_awaited(pairs: list[Pair]) -> None:
    """As those of any collection are."""
    import asyncio

    assert asyncio.run(_found(pairs[0].shards)) == asyncio.run(_found(pairs[0].one))
