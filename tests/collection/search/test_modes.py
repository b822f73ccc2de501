"""Lexical and hybrid search, rerankers, diversity, distinct texts, and what is refused."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import CallableReranker, Chunk, Collection, Hit, InvalidInput, Limits, RerankerFailed, field
from reperio.ranking import mmr
from reperio.store import Session
from tests.conftest import TrigramEmbedder, named

TOPICS = ["river bank water", "bank loan interest", "password reset mail", "solar panel roof", "garden water plants"]
QUESTION = "water from the bank of a river"
MODES: list[dict[str, Any]] = [{}, {"mode": "lexical"}, {"mode": "hybrid"}, {"mode": "hybrid", "fusion": "rrf"}]
EVEN = field("part") == 0
VECTOR = np.ones(64, dtype=np.float32)
UNUSED = 'fusion and weight are for mode="hybrid", and mode is {}; leave them out'


@pytest.fixture
def filled(kb: Collection) -> Collection:
    """Return a collection of 300 short texts about five things."""
    rng = random.Random(1)
    words = " ".join(TOPICS).split()
    kb.add(
        [
            Chunk(f"c{n}", f"{rng.choice(TOPICS)} {' '.join(rng.sample(words, 4))} {n}", {"part": n % 2, "n": n})
            for n in range(300)
        ]
    )
    return kb


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.chunk.id for hit in hits]


def overlap(query: str, texts: Sequence[str]) -> list[float]:
    """Score by common words: a reranker with opinions, and many equal scores."""
    return [float(len(set(query.split()) & set(text.split()))) for text in texts]


@pytest.mark.parametrize("options", MODES, ids=named)
@pytest.mark.parametrize("k", [1, 10, 120, 200])
def test_every_mode_keeps_to_the_filter(options: dict[str, Any], k: int, filled: Collection) -> None:
    """Hits match; dense and hybrid give min(k, matches), lexical those with a word; best first, ranks from 1."""
    matches = {chunk.id for chunk in filled if chunk.metadata["part"] == 0}
    hits = filled.search(QUESTION, k=k, where=EVEN, **options)
    many = filled.search_many(["interest on a loan", QUESTION], k=k, where=EVEN, **options)
    assert many[1] == hits
    for found in (hits, many[0]):
        assert set(ids(found)) <= matches
        assert len(set(ids(found))) == len(found)
        assert [hit.rank for hit in found] == list(range(1, len(found) + 1))
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    having = matches
    if options.get("mode") == "lexical":
        having = {one.id for one in filled.get(where=EVEN) if {"water", "bank", "river"} & set(one.text.split())}
    assert len(hits) == min(k, len(having))
    assert filled.search(QUESTION, k=k, where=field("nowhere").exists(), **options) == []
    one = filled.search(QUESTION, k=k, where={"n": 8}, **options)
    assert ids(one) == (["c8"] if "c8" in having else [])


def test_a_lexical_score_is_of_the_whole_collection(filled: Collection) -> None:
    """A filter leaves lexical hits out, and changes neither the scores nor the order of the others."""
    everything = filled.search(QUESTION, mode="lexical", k=300)
    inside = [(hit.chunk.id, hit.score) for hit in everything if hit.chunk.metadata["part"] == 0]
    for where in (EVEN, {"part": {"$lt": 1}}):
        hits = filled.search(QUESTION, mode="lexical", k=300, where=where)
        assert ids(hits) == [key for key, _ in inside]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in inside])


@pytest.mark.parametrize(("where", "k"), [(None, 10), (EVEN, 10), (EVEN, 130), ({"n": {"$lt": 7}}, 10)])
@pytest.mark.parametrize("weight", [0.5, 0.0, 0.8, 1.0])
def test_a_fused_score_is_made_of_its_parts(where: Any, k: int, weight: float, filled: Collection) -> None:
    """The convex sum of min-max scores, recomputed from the two searches it is of; components are their scores."""
    depth = max(k, 100)
    dense = {h.chunk.id: h.score for h in filled.search(QUESTION, k=depth, where=where)}
    lexical = {h.chunk.id: h.score for h in filled.search(QUESTION, k=depth, where=where, mode="lexical")}

    def stretched(scores: dict[str, float], key: str) -> float:
        low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
        return 0.0 if key not in scores else 1.0 if low == high else (scores[key] - low) / (high - low)

    for hit in filled.search(QUESTION, k=k, where=where, mode="hybrid", weight=weight):
        key = hit.chunk.id
        parts = {"dense": dense.get(key), "lexical": lexical.get(key), "fused": hit.score}
        assert hit.scores == {name: pytest.approx(value) for name, value in parts.items() if value is not None}
        assert hit.score == pytest.approx(weight * stretched(dense, key) + (1 - weight) * stretched(lexical, key))


@pytest.mark.parametrize("where", [None, EVEN])
def test_a_reciprocal_rank_is_made_of_ranks(where: Any, filled: Collection) -> None:
    """1 / (60 + rank) of each list that has the chunk."""
    ranks = [
        {hit.chunk.id: hit.rank for hit in filled.search(QUESTION, k=100, where=where, mode=mode)}
        for mode in ("dense", "lexical")
    ]
    for hit in filled.search(QUESTION, k=20, where=where, mode="hybrid", fusion="rrf"):
        assert hit.score == pytest.approx(sum(1 / (60 + of[hit.chunk.id]) for of in ranks if hit.chunk.id in of))


@pytest.mark.parametrize("options", MODES, ids=named)
def test_a_reranker_orders_all_candidates_and_loses_none(options: dict[str, Any], filled: Collection) -> None:
    """With as many candidates as hits, the same chunks come back, ordered by the reranker, both scores kept."""
    retrieved = filled.search(QUESTION, k=40, where=EVEN, **options)
    hits = filled.search(QUESTION, k=40, candidates=40, where=EVEN, reranker=CallableReranker(overlap), **options)
    by_id = {hit.chunk.id: hit for hit in retrieved}
    given = overlap(QUESTION, [hit.chunk.text for hit in retrieved])
    expected = sorted(range(len(retrieved)), key=lambda place: -given[place])
    assert ids(hits) == [retrieved[place].chunk.id for place in expected]
    for rank, hit in enumerate(hits, start=1):
        before = by_id[hit.chunk.id]
        name = "lexical" if options.get("mode") == "lexical" else "dense"
        assert hit.scores == {**(before.scores or {name: before.score}), "rerank": hit.score}
        assert hit.rank == rank
    many = filled.search_many(
        [QUESTION, "zzz", QUESTION], k=40, candidates=40, where=EVEN, reranker=CallableReranker(overlap), **options
    )
    assert many[0] == many[2] == hits


def test_a_reranker_chooses_among_the_candidates(filled: Collection) -> None:
    """Five candidates for each hit wanted, unless told otherwise; batches of all questions go in one call."""
    seen: list[list[int]] = []

    class Counting:
        def score(self, _queries: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[float]]:
            seen.append([len(some) for some in texts])
            return [[float(-place) for place in range(len(some))] for some in texts]

    plain = filled.search(QUESTION, k=4)
    assert ids(filled.search(QUESTION, k=4, reranker=Counting())) == ids(plain)
    assert ids(filled.search(QUESTION, k=4, candidates=9, reranker=Counting())) == ids(plain)
    filled.search_many([QUESTION] * 3, k=2, reranker=Counting(), where={"n": {"$lt": 6}})
    filled.search_many([], reranker=Counting())
    filled.search(QUESTION, where={"n": -1}, reranker=Counting())
    assert seen == [[20], [9], [6, 6, 6]]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _query, texts: [1.0] * (len(texts) - 1), r"scores of shape \(9,\) for 10 texts"),
        (lambda _query, texts: [float("nan")] * len(texts), "nan for text 0"),
        (lambda _query, texts: ["high"] * len(texts), "scores are of dtype"),
        (lambda _query, texts: dict.fromkeys(range(len(texts) - 1), 0.5), "no score for position 9"),
        (lambda _query, _texts: 1 / 0, "raised ZeroDivisionError: division by zero; search without reranker="),
    ],
)
def test_a_wrong_reranker_is_told_and_nothing_is_lost(function: Any, message: str, filled: Collection) -> None:
    """Whatever it answers or raises, no hit disappears in silence, and the next search is as before."""
    before = filled.search(QUESTION, k=10)
    for mode in ("dense", "hybrid"):
        with pytest.raises(RerankerFailed, match=message):
            filled.search(QUESTION, k=10, candidates=10, mode=mode, reranker=CallableReranker(function))
    assert filled.search(QUESTION, k=10) == before


@pytest.mark.parametrize("options", MODES, ids=named)
def test_distinct_goes_on_until_there_are_k(options: dict[str, Any], kb: Collection) -> None:
    """Behind hundreds of copies the k distinct texts are found; of each the best, in the order of the search."""
    copies = [Chunk(f"copy-{n}", ["The River  bank", "the river BANK"][n % 2], {"t": n % 3}) for n in range(400)]
    others = [Chunk(f"other-{n}", f"a river number {n} has water", {"t": n % 3}) for n in range(30)]
    kb.add(copies + others)
    for where, total in ((None, 31), (field("t") == 1, 11)):
        for k in (1, 5, 40):
            hits = kb.search("river bank", k=k, distinct=True, where=where, **options)
            assert len(hits) == min(k, total)
            assert len({" ".join(hit.chunk.text.lower().split()) for hit in hits}) == len(hits)
            assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
            assert hits[0].chunk.id in ("copy-0", "copy-1")
        many = kb.search_many(["river bank", "water number 7"], k=5, distinct=True, where=where, **options)
        assert [len(some) for some in many] == [5, 5]
    texts = kb.search("river bank", k=3, distinct=True, reranker=CallableReranker(overlap), **options)
    assert len({hit.chunk.text.lower() for hit in texts}) == 3


@pytest.mark.parametrize("options", MODES, ids=named)
def test_a_copy_is_read_once_to_be_left_out(
    options: dict[str, Any], kb: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind 2,000 copies a search reads each text at most once, and few chunks, however often it looks further."""
    kb.add([Chunk(f"copy-{n}", "the river bank") for n in range(2000)])
    kb.add([Chunk(f"other-{n}", f"river number {n}") for n in range(4)])
    fetched: list[int] = []
    read: list[int] = []
    fetch, texts = Session.fetch, Session.texts
    monkeypatch.setattr(Session, "fetch", lambda self, rows, matrix: fetched.extend(rows) or fetch(self, rows, matrix))
    monkeypatch.setattr(Session, "texts", lambda self, rows: read.extend(rows) or texts(self, rows))
    hits = kb.search("river bank", k=5, distinct=True, **options)
    assert len({hit.chunk.text for hit in hits}) == 5
    assert len(read) == len(set(read)) <= 2004
    assert len(fetched) <= 110


def test_distinct_has_a_limit(tmp_path: Path, embedder: TrigramEmbedder) -> None:
    """More rows than ten times the limit on k are not looked at: refused with the cure, which works."""
    with reperio.open(tmp_path / "kb", embedder=embedder, limits=Limits(k=20)) as kb:
        kb.add([Chunk(f"copy-{n}", "the river bank") for n in range(300)] + [Chunk("other", "a fox")])
        assert len(kb.search("river bank", k=1, distinct=True)) == 1
        with pytest.raises(InvalidInput, match=r"best 200 chunks have only 1 different texts, and 2 are wanted"):
            kb.search("river bank", k=2, distinct=True)
    with reperio.open(tmp_path / "kb", embedder=embedder, limits=Limits(k=31)) as kb:
        assert [hit.chunk.text for hit in kb.search("river bank", k=2, distinct=True)] == ["the river bank", "a fox"]


def test_texts_that_are_empty_are_all_distinct(tmp_path: Path) -> None:
    """Chunks without text consist of their vectors; none hides another."""
    with reperio.open(tmp_path / "kb", dimension=4) as kb:
        kb.add([Chunk(f"c{n}") for n in range(20)], vectors=np.random.default_rng(0).standard_normal((20, 4)))
        assert len(kb.search(vector=np.ones(4), k=15, distinct=True)) == 15


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("index", [None, "IVF1,PQ8x4fs"])
def test_diversity_is_mmr_on_the_true_vectors(metric: str, dtype: Any, index: str | None, tmp_path: Path) -> None:
    """The hits are those that MMR chooses among the candidates' own vectors, not an index's codes, under filters."""
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((400, 16), dtype=np.float32)
    with reperio.open(tmp_path / "kb", dimension=16, metric=metric, dtype=dtype) as kb:
        kb.add([Chunk(f"{n}", "", {"part": n % 2}) for n in range(400)], vectors=vectors)
        if index:
            kb.optimize(index=index)
        query = rng.standard_normal(16, dtype=np.float32)
        for diversity in (0.0, 0.3, 1.0):
            for where in (None, EVEN, field("part") == 2):
                retrieved = kb.search(vector=query, k=30, where=where)
                hits = kb.search(vector=query, k=6, candidates=30, diversity=diversity, where=where)
                rows = [int(hit.chunk.id) for hit in retrieved]
                as_stored = vectors[rows].astype(dtype) if metric != "cosine" else vectors[rows]
                order = mmr(query, as_stored, 6, lambda_mult=1 - diversity)
                assert ids(hits) == [retrieved[place].chunk.id for place in order]
                assert [hit.score for hit in hits] == [retrieved[place].score for place in order]
                assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
                (many,) = kb.search_many(vectors=query[None], k=6, candidates=30, diversity=diversity, where=where)
                assert ids(many) == ids(hits)
                assert [hit.score for hit in many] == pytest.approx([hit.score for hit in hits], abs=1e-5)


def test_diversity_in_lexical_mode_takes_a_text_and_a_vector(filled: Collection, embedder: TrigramEmbedder) -> None:
    """The embedder makes the vector, or it comes beside the text."""
    vector = embedder.embed_queries([QUESTION])[0]
    hits = filled.search(QUESTION, mode="lexical", k=5, diversity=0.5, where=EVEN)
    assert len(hits) == 5
    assert hits == filled.search(QUESTION, vector=vector, mode="lexical", k=5, diversity=0.5, where=EVEN)


@pytest.mark.parametrize("options", [*MODES, {"reranker": CallableReranker(overlap)}, {"distinct": True}], ids=named)
def test_min_score_cuts_where_it_says(options: dict[str, Any], filled: Collection) -> None:
    """Hits at or above the score stay, as they were; of none, nothing is left."""
    hits = filled.search(QUESTION, k=20, **options)
    least = hits[7].score
    assert filled.search(QUESTION, k=20, min_score=least, **options) == [hit for hit in hits if hit.score >= least]
    assert filled.search(QUESTION, k=20, min_score=-100, **options) == hits
    assert filled.search(QUESTION, k=20, min_score=1000, **options) == []


def test_words_and_vectors_of_different_questions(tmp_path: Path) -> None:
    """Without an embedder, hybrid search takes a text for the words and a vector beside it; lexical the text alone."""
    with reperio.open(tmp_path / "kb", dimension=4) as kb:
        kb.add([Chunk("a", "apple"), Chunk("b", "bear"), Chunk("c", "cloud")], vectors=np.eye(4, dtype=np.float32)[:3])
        assert ids(kb.search("bear", mode="lexical")) == ["b"]
        hits = kb.search("bear", vector=[0.9, 0.1, 0.05, 0.0], mode="hybrid", weight=0.4)
        assert ids(hits) == ["b", "a", "c"]
        assert kb.search_many(["bear"], vectors=np.array([[0.9, 0.1, 0.05, 0.0]]), mode="hybrid", weight=0.4) == [hits]
        with pytest.raises(InvalidInput, match="2 texts with 1 vectors; pass one vector per text"):
            kb.search_many(["a", "b"], vectors=np.ones((1, 4)), mode="hybrid")
        with pytest.raises(InvalidInput, match=r"^this collection has no embedder: search by vector="):
            kb.search("bear", mode="hybrid")


def test_a_collection_without_words_says_so(tmp_path: Path) -> None:
    """Where no lexical index is kept, words find nothing and say why, also when nothing matches."""
    with reperio.open(tmp_path / "kb", dimension=4, lexical="none") as kb:
        for _ in range(2):
            for where in (None, {"a": 1}):
                with pytest.raises(InvalidInput, match=r"^this collection has no lexical index"):
                    kb.search("bear", mode="lexical", where=where)
                with pytest.raises(InvalidInput, match=r"^this collection has no lexical index"):
                    kb.search("bear", vector=[1.0, 0, 0, 0], mode="hybrid", where=where)
            kb.add([Chunk("a", "bear")], vectors=np.eye(4, dtype=np.float32)[:1])
            kb.compact()


def test_the_tokenizer_is_the_one_asked_for(tmp_path: Path) -> None:
    """Porter finds other endings, unicode61 whole words only, trigram parts; a compaction changes nothing of it."""
    found: dict[str, list[list[str]]] = {}
    for name in ("porter", "unicode61", "trigram"):
        with reperio.open(tmp_path / name, dimension=4, lexical=name) as kb:
            kb.add([Chunk("a", "running"), Chunk("b", "gunny")], vectors=np.eye(4, dtype=np.float32)[:2])
            found[name] = [ids(kb.search(text, mode="lexical")) for text in ("runs", "running", "unn")]
            kb.compact()
            assert [ids(kb.search(text, mode="lexical")) for text in ("runs", "running", "unn")] == found[name]
    assert found["porter"] == [["a"], ["a"], []]
    assert found["unicode61"] == [[], ["a"], []]
    assert sorted(found["trigram"][2]) == ["a", "b"]


@pytest.mark.parametrize("question", ['"', "NEAR(a b)", "a* -b", "text:river", "AND OR NOT", "(((", "\0", "''"])
def test_a_question_is_never_syntax(question: str, filled: Collection) -> None:
    """Signs that FTS5 knows are data: such questions find what their words find, or nothing."""
    assert filled.search(f"{question} river", mode="lexical", k=5, where=EVEN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", reperio.ReperioWarning)  # some have no words
        filled.search(question, mode="lexical", k=5)
        assert len(filled.search(question, vector=VECTOR, mode="hybrid", k=5, where=EVEN)) == 5


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_question_that_is_no_unicode_is_refused(mode: Any, filled: Collection) -> None:
    """A lone surrogate is in no stored text, and no model takes it: the same error in every mode."""
    given: dict[str, Any] = {"vector": VECTOR} if mode == "hybrid" else {}
    with pytest.raises(InvalidInput, match="the query holds a lone surrogate at position 6"):
        filled.search("river \ud83d", mode=mode, **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "fuzzy"}, "mode is 'fuzzy'; choose 'dense', 'lexical', 'hybrid'"),
        ({"mode": None}, "mode is None; choose 'dense', 'lexical', 'hybrid'"),
        ({"mode": "hybrid", "fusion": "sum"}, "fusion is 'sum'; choose 'convex', 'rrf'"),
        ({"mode": "hybrid", "weight": 1.5}, "weight is 1.5; it is a number between 0 and 1"),
        ({"weight": 0.7}, UNUSED.format("'dense'")),
        ({"mode": "lexical", "fusion": "rrf"}, UNUSED.format("'lexical'")),
        (
            {"mode": "hybrid", "fusion": "rrf", "weight": 1},
            "weight is for fusion=\"convex\", and fusion is 'rrf'; leave it out",
        ),
        ({"diversity": float("nan")}, "diversity is nan; it is a number between 0 and 1"),
        ({"diversity": True}, "diversity is True; it is a number between 0 and 1"),
        (
            {"diversity": 0.5, "reranker": CallableReranker(overlap)},
            "diversity= goes by the vectors, and would undo the order that reranker= makes; leave one of them out",
        ),
        ({"distinct": "yes"}, "distinct is 'yes'; it is True or False"),
        ({"min_score": "0.5"}, "min_score is '0.5'; pass a number: hits with a lower score are left out"),
        ({"candidates": 9}, "candidates is 9; it lies between k (10) and 10,000"),
        ({"candidates": 10_001}, "candidates is 10001; it lies between k (10) and 10,000"),
        ({"candidates": 0}, "candidates is 0; it must be an integer of at least 1"),
        (
            {"reranker": overlap},
            "reranker is a function without a score method; wrap a function in CallableReranker, or pass a "
            "CrossEncoderReranker",
        ),
        ({"vector": VECTOR}, "search takes a text or vector=, one of the two"),
        ({"query": None}, "search takes a text or vector=, one of the two"),
        (
            {"query": None, "vector": VECTOR, "mode": "hybrid"},
            "mode='hybrid' needs a text; pass it together with vector=",
        ),
        (
            {"query": None, "vector": VECTOR, "mode": "lexical"},
            "mode='lexical' needs a text; pass it instead of vector=",
        ),
        (
            {"query": None, "vector": VECTOR, "reranker": CallableReranker(overlap)},
            "a reranker needs a text; pass it together with vector=",
        ),
        ({"vector": VECTOR, "mode": "lexical"}, 'mode="lexical" searches by words alone; leave vector= out'),
        ({"query": " "}, "the query is ' '; pass a text that is not empty, or vector="),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments: dict[str, Any], message: str, filled: Collection) -> None:
    """Each message says what was passed and what may be."""
    with pytest.raises(InvalidInput) as refused:
        filled.search(**{"query": "river", **arguments})
    assert str(refused.value) == message


def test_an_option_that_is_none_names_the_nearest(filled: Collection) -> None:
    """A misspelt option of a search is no search without it."""
    with pytest.raises(reperio.UnknownOption, match=r"^search\(\) has no option 'filter'; .*where"):
        filled.search("river", filter={"a": 1})
    with pytest.raises(reperio.UnknownOption, match=r"did you mean 'reranker'\?"):
        filled.search_many(["river"], rerank=CallableReranker(overlap))
