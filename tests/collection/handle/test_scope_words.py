"""Words under a scope: scores, order and hits are those of a collection that holds nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import reperio
from reperio import Chunk, Collection, CollectionDamaged, Hit, InvalidInput, ReperioWarning, field
from reperio.layout import Lexical
from reperio.store.words import counts as word_counts

D = 8
WORDS = ["ash", "birch", "cedar", "fir", "oak", "pine", "the"]
texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
chunks = st.lists(st.tuples(st.booleans(), texts), min_size=1, max_size=25)
SEARCHES: list[dict[str, Any]] = [
    {"mode": "lexical"},
    {"mode": "lexical", "where": field("even") == True},  # noqa: E712  # this is how a filter is written
    {"mode": "hybrid", "vector": np.arange(1.0, D + 1)},
    {"mode": "hybrid", "vector": np.arange(1.0, D + 1), "fusion": "rrf"},
    {"mode": "hybrid", "vector": np.arange(1.0, D + 1), "where": field("even") == True},  # noqa: E712  # this is how a filter is written
]


def facts(hits: Sequence[Hit]) -> list[tuple[Any, ...]]:
    return [(hit.chunk.id, hit.score, hit.scores) for hit in hits]


def vectors(numbers: Sequence[int]) -> np.ndarray:
    return np.array([np.random.default_rng(number).standard_normal(D) for number in numbers], dtype=np.float32)


def add(kb: Collection, new: Sequence[tuple[int, bool, str]]) -> None:
    if new:
        kb.add(
            [
                Chunk(f"c{number}", text, {"tenant": "a" if mine else "b", "even": number % 2 == 0})
                for number, mine, text in new
            ],
            vectors=vectors([number for number, _, _ in new]),
        )


def same(shared: Collection, alone: Collection, question: str, k: int = 10) -> None:
    for options in SEARCHES:
        assert facts(shared.search(question, k=k, **options)) == facts(alone.search(question, k=k, **options))


@settings(deadline=None, max_examples=8)
@given(
    first=chunks,
    second=chunks,
    dead=st.sets(st.integers(0, 24)),
    questions=st.lists(texts.filter(bool), min_size=1, max_size=3),
    words=st.sampled_from(["porter", "trigram"]),
    few=st.sampled_from([0, word_counts.FEW]),
)
@example([(False, "")] * 3, [(True, "ash")], {0, 1, 2}, ["ash"], "porter", 0)  # all that is left is inside
def test_a_scope_answers_as_if_there_were_no_others(
    first: list[tuple[bool, str]],
    second: list[tuple[bool, str]],
    dead: set[int],
    questions: list[str],
    words: Lexical,
    few: int,
) -> None:
    """Scores, their parts, order and hits are those of a collection of the scope's chunks alone, after every commit."""
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("reperio.store.words.lexical.FEW", few)
        whole, only = Path(directory, "whole"), Path(directory, "only")
        reperio.open(whole, dimension=D, lexical=words, auto_optimize=False).close()
        with (
            reperio.open(whole, auto_optimize=False) as writer,
            reperio.open(whole, scope={"tenant": "a"}, read_only=True) as shared,
            reperio.open(only, dimension=D, lexical=words, auto_optimize=False) as alone,
        ):
            before = 0
            for batch in (first, second):
                new = [(before + number, *chunk) for number, chunk in enumerate(batch)]
                before += len(batch)
                add(writer, new)
                add(alone, [one for one in new if one[1]])
                for question in questions:
                    same(shared, alone, question)
            gone = [f"c{number}" for number in sorted(dead) if number < before]
            writer.delete(ids=gone)
            alone.delete(ids=gone)
            for question in questions:
                same(shared, alone, question)


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two collections: 6,000 chunks of two tenants, and the 2,000 of one of them alone."""
    directory = tmp_path_factory.mktemp("forest")
    rng = np.random.default_rng(3)
    new = []
    for number in range(6000):
        mine = number % 3 == 0
        # What is rare in one part is common in the other.
        rare = rng.choice(60 if mine else 12, rng.integers(1, 6))
        new.append((number, mine, " ".join([*(f"w{one}" for one in rare), *rng.choice(["the", "of"], 3)])))
    for name, some in (("whole", new), ("only", [one for one in new if one[1]])):
        with reperio.open(directory / name, dimension=D, auto_optimize=False) as kb:
            add(kb, some)
    return directory


@pytest.mark.parametrize("postings", [0, word_counts._TEXT_POSTINGS, 10**9], ids=["texts", "as chosen", "index"])
@pytest.mark.parametrize("question", ["w1 w2 the", "w40 w41 w42 of the", "w3 w3 w50", "w7", "of the"])
def test_which_candidates_are_ranked_depends_on_no_other_chunk(
    question: str, postings: int, forest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where far more rows hold a rare word than are ranked, those chosen are the same as alone, by either way."""
    monkeypatch.setattr(word_counts, "_TEXT_POSTINGS", postings)
    with (
        reperio.open(forest / "whole", scope={"tenant": "a"}, read_only=True) as shared,
        reperio.open(forest / "only", read_only=True) as alone,
    ):
        for k in (1, 10, 150):
            same(shared, alone, question, k)


def test_a_probe_counts_no_foreign_words(path: Path) -> None:
    """A tenant's own chunk scores the same, however many of another's hold its word."""
    scores = set()
    for secret in (0, 1, 50):
        place = path.with_name(f"kb-{secret}")
        with reperio.open(place, dimension=D, auto_optimize=False) as kb:
            add(kb, [(number, False, "merger" if number < secret else "note") for number in range(200)])
        with reperio.open(place, scope={"tenant": "a"}, auto_optimize=False) as mine:
            add(mine, [(500, True, "merger"), (501, True, "other")])
            hybrid = mine.search("merger", vector=vectors([500])[0], mode="hybrid")
            scores.add((mine.search("merger", mode="lexical")[0].score, hybrid[0].score))
    assert len(scores) == 1


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_a_scope_without_words_is_as_a_collection_without(mode: str, path: Path) -> None:
    """No lexical index is refused; an empty scope, or a question too short for trigrams, finds nothing by words."""
    options: dict[str, Any] = {"mode": mode} | ({"vector": np.ones(D)} if mode == "hybrid" else {})
    for words in ("none", "trigram"):
        place = path.with_name(words)
        with reperio.open(place, dimension=D, lexical=words, auto_optimize=False) as kb:
            add(kb, [(number, number > 2, "cedar and oak") for number in range(6)])
        for tenant, inside in (("a", 3), ("nobody", 0)):
            with reperio.open(place, scope={"tenant": tenant}, read_only=True) as scoped:
                if words == "none":
                    with pytest.raises(InvalidInput, match=r"^this collection has no lexical index"):
                        scoped.search("cedar", **options)
                else:
                    assert len(scoped.search("cedar", **options)) == inside
                    with pytest.warns(ReperioWarning, match="fewer than three characters"):
                        assert len(scoped.search("ce", **options)) == (inside if mode == "hybrid" else 0)


def test_what_is_known_of_words_takes_bounded_memory() -> None:
    """Beyond its bytes, the words used least recently are forgotten, and one that is too large is not kept."""
    counted = word_counts.ScopeCounted(limit=4000)
    for number in range(50):
        counted.put(f"w{number}", word_counts._Kept(1, 100, 10, np.arange(10, dtype=np.int32)))
    known = [number for number in range(50) if counted.get(f"w{number}", 1) is not None]
    assert known == list(range(50 - len(known), 50))
    assert 0 < len(known) * 340 <= 4000
    counted.put("large", word_counts._Kept(1, 1000, 900, np.arange(900, dtype=np.int32)))
    assert counted.get("large", 1) is None


@pytest.mark.parametrize(("size", "told"), [("00", False), ("FFFFFFFFFFFFFF70", True), ("8880808000", True)])
def test_damaged_lengths_in_the_index_of_words_are_told_or_taken_as_equal(size: str, told: bool, path: Path) -> None:
    """Within a scope of many chunks, lengths that no text has are damage; where all are 0, every hit is found."""
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        add(kb, [(number, True, f"cedar {number}") for number in range(word_counts.FEW + 44)])
        add(kb, [(1000, False, "cedar")])
    with apsw.Connection(str(path / "gen-000001" / "chunks.db")) as connection:
        connection.execute(f"UPDATE lexical_docsize SET sz = x'{size}'")
    with reperio.open(path, scope={"tenant": "a"}, read_only=True) as scoped:
        if told:
            with pytest.raises(CollectionDamaged, match="length"):
                scoped.search("cedar", mode="lexical")
        else:
            assert len(scoped.search("cedar", k=300, mode="lexical")) == 300
