"""Lexical search: BM25 as defined, exactly as many rows as match, and questions that are only data."""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reperio
from reperio import CheckReport, Chunk, Collection
from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, InvalidInput, ReperioWarning, StorageFailed
from reperio.layout import Generation, Lexical
from reperio.store import NewChunk, Store, copy
from reperio.store.words import lexical, tokenizers
from reperio.store.words.postings import Postings, Word

D = 4
WORDS = ["ash", "birch", "cedar", "fir", "oak", "pine", "yew"]
texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


def put(store: Store, chunks: dict[str, str], replaced: Sequence[int] = ()) -> None:
    if not chunks:
        return
    new = [NewChunk(key, text, "{}") for key, text in chunks.items()]
    store.put(new, np.zeros((len(new), D), np.float32), replaced)


@contextmanager
def stored(*chunks: str, words: Lexical = "porter") -> Iterator[Store]:
    with TemporaryDirectory() as directory:
        Store.create(Generation(Path(directory)), words)
        store = Store(Generation(Path(directory)), D, read_only=False)
        try:
            put(store, {str(number): text for number, text in enumerate(chunks)})
            yield store
        finally:
            store.close()


def match(store: Store, text: str, count: int = 10, allowed: Sequence[bool] | None = None) -> list[tuple[int, float]]:
    bits = None if allowed is None else np.packbits(np.array(allowed, dtype=bool), bitorder="little")
    with store.session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore", ReperioWarning)  # of questions without words: test_unanswerable.py
        rows, scores = session.match(text, count=count, allowed=bits)
    return list(zip(rows.tolist(), scores.tolist(), strict=True))


def found(store: Store, text: str, **options: int) -> list[int]:
    return [row for row, _ in match(store, text, **options)]


def bm25(chunks: dict[int, str], question: str) -> dict[int, float]:
    """Score lower-case words without endings by the textbook, one chunk after the other."""
    cut = {row: text.split() for row, text in chunks.items()}
    mean = sum(map(len, cut.values())) / len(cut) if cut else 0
    holding = Counter(word for words in cut.values() for word in set(words))
    scores = {}
    for row, words in cut.items():
        numbers, score = Counter(words), 0.0
        for word, times in Counter(question.split()).items():
            holders = holding[word]
            if numbers[word]:
                idf = math.log(1 + (len(cut) - holders + 0.5) / (holders + 0.5))
                norm = 1.2 * (1 - 0.75 + 0.75 * len(words) / mean)
                score += times * idf * numbers[word] * 2.2 / (numbers[word] + norm)
        if score:
            scores[row] = score
    return scores


def best(scores: dict[int, float], count: int) -> list[tuple[int, float]]:
    return sorted(scores.items(), key=lambda item: (-round(item[1], 9), item[0]))[:count]


@settings(deadline=None, max_examples=60)
@given(
    first=st.lists(texts, max_size=12),
    second=st.lists(texts, max_size=8),
    dead=st.sets(st.integers(0, 11)),
    question=texts,
    count=st.integers(1, 25),
    mask=st.none() | st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_scores_are_bm25_after_updates_and_deletes_and_under_masks(
    first: list[str], second: list[str], dead: set[int], question: str, count: int, mask: list[bool] | None
) -> None:
    """A search equals the textbook's BM25 over the live chunks, cut to the mask; equal scores come by row."""
    with stored(*first) as store:
        put(
            store,
            {"0" if i == 0 and first else f"n{i}": text for i, text in enumerate(second)},
            [0][: len(first) and len(second)],
        )
        chunks = dict(enumerate(first + second))
        if first and second:
            del chunks[0]
        gone = sorted(dead & chunks.keys())
        store.delete(gone)
        chunks = {row: text for row, text in chunks.items() if row not in gone}
        allowed = None if mask is None else mask[: len(first) + len(second)]
        expected = {row: s for row, s in bm25(chunks, question).items() if allowed is None or allowed[row]}
        got = match(store, question, count, allowed)
        assert [(row, pytest.approx(score)) for row, score in best(expected, count)] == got
        with store.session() as session:
            assert session.problems() == []


@pytest.fixture(scope="module")
def forest() -> Iterator[tuple[Store, dict[int, str]]]:
    """12,000 chunks in which 48 words are rare enough to retrieve, and three are not."""
    rng = np.random.default_rng(5)
    rare = [f"w{number}" for number in range(48)]
    chunks = [
        " ".join([*rng.choice(rare, rng.integers(1, 4)), *rng.choice(["the", "of", "and"], rng.integers(1, 9))])
        for _ in range(12_000)
    ]
    with stored(*chunks) as store:
        yield store, dict(enumerate(chunks))


@pytest.mark.parametrize("question", ["w1 the of", "w1 w2 w3", " ".join(f"w{n}" for n in range(48)), "of"])
def test_many_chunks_give_the_best_by_bm25(forest: tuple[Store, dict[int, str]], question: str) -> None:
    """Retrieving by rare words, promising rows first, finds the scores that scoring every chunk finds."""
    store, chunks = forest
    got = match(store, question, 10)
    scores = bm25(chunks, question)
    assert [score for _, score in got] == pytest.approx([score for _, score in best(scores, 10)], rel=1e-6)
    assert all(scores[row] == pytest.approx(score) for row, score in got)


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("question", ["w7", "w7 w8 the", "the", "w1 nothing", "and of the"])
def test_a_mask_is_never_short(forest: tuple[Store, dict[int, str]], share: float, question: str) -> None:
    """As many rows as match come back, up to the count, all of them allowed, with scores that do not depend on it."""
    store, chunks = forest
    allowed = np.random.default_rng(int(share * 1e4)).random(len(chunks)) < share
    asked = set(question.split())
    holding = {row for row, text in chunks.items() if allowed[row] and asked & set(text.split())}
    for count in (1, 10, 500):
        got = match(store, question, count, allowed.tolist())
        assert len(got) == len({row for row, _ in got}) == min(count, len(holding))
        assert {row for row, _ in got} <= holding
        assert got == sorted(got, key=lambda item: (-item[1], item[0]))


HOSTILE = [
    *('"', '""', "'", "* ", "apple*", "-apple", "+apple", "^apple", "apple AND NOT pear", "NEAR(apple pear, 2)", "OR"),
    *("text:apple", "{text}: apple", "lexical : apple", '"apple" + "pear', "(apple", "apple)", "apple\0pear", "\0"),
    *("%s {0} ?1 :x @y", "'; DROP TABLE chunks; --", "apple\\", "rank MATCH bm25", "🍎 apple", "e\u0301", "\ud800b"),
]


@pytest.mark.parametrize("words", ["porter", "unicode61", "trigram"])
@pytest.mark.parametrize("question", HOSTILE)
def test_a_question_is_data(question: str, words: Lexical) -> None:
    """Whatever has a meaning in FTS5 or SQL finds what its words find, and no more."""
    with stored("one apple daily", "green pears", "cherries, plums", words=words) as store:
        rows = found(store, question)
        assert 0 in rows or "apple" not in question
        if words != "trigram":  # of which a few letters in common are enough
            assert (0 in rows) == ("apple" in question)
            plain = " ".join(re.findall(r"\w+", question.replace("\ud800", " ")))
            assert rows == found(store, plain)
        assert len(found(store, "apple pears cherries plums")) == 3


@settings(deadline=None, max_examples=150)
@given(question=st.text(max_size=60), words=st.sampled_from(["porter", "unicode61", "trigram"]))
def test_every_text_can_be_stored_and_asked(question: str, words: Lexical) -> None:
    """Any text is a question, and finds the chunk that holds it, unless it has no word at all."""
    storable = question.encode(errors="replace").decode()
    with stored(storable, "another one", words=words) as store:
        rows = found(store, question)
        if words != "trigram" and re.search(r"[a-z0-9]", question):
            assert 0 in rows
        assert set(rows) <= {0, 1}


def test_words_are_cut_as_chosen() -> None:
    """Porter finds other endings, unicode61 does not; accents count for neither; trigrams find inside a word."""
    chunks = ("Relational databases in cafés", "光合作用把光能转化为化学能")
    with stored(*chunks) as store:
        assert found(store, "relation database") == found(store, "CAFE") == [0]
        assert found(store, "光合作用") == [1]
    with stored(*chunks, words="unicode61") as store:
        assert found(store, "relation database") == []
        assert found(store, "CAFES") == [0]
    with stored(*chunks, words="trigram") as store:
        assert found(store, "光合作用是什么") == [1]
        assert found(store, "tabas") == [0]
        assert found(store, "光") == []


def test_a_word_weighs_as_often_as_it_is_asked() -> None:
    """As Lucene has it: asked three times, in whatever form, a word gives three times its score."""
    with stored("a cat", "a dog and a cat", "a dog") as store:
        once, thrice = dict(match(store, "cat")), dict(match(store, "cats cat CAT"))
        assert thrice == pytest.approx({row: 3 * score for row, score in once.items()})
        assert found(store, "cats cat CAT dog") == [0, 1, 2]
        assert found(store, "cat dog dog dog") == [2, 1, 0]


def test_a_long_question_leaves_its_stop_words_out() -> None:
    """From 20 words on, English stop words neither find nor score; a question of nothing else keeps them."""
    short, filler = "the fox and the owl", "with that into then"
    with stored("the fox", "an owl", "the and into", "badger", "it was the badger that was with the other") as store:
        assert 2 in found(store, short)
        long = " ".join([short, *[filler] * 4])
        assert match(store, long) == match(store, "fox owl")
        assert set(found(store, " ".join(["the", *[filler] * 5]))) == {0, 2, 4}
    with stored("the fox", "the and into", words="unicode61") as store:
        assert set(found(store, long)) == {0, 1}


def test_a_question_of_very_many_words_looks_few_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many different words are asked, so many are looked up, those first that are asked most often."""
    looked: list[str] = []
    count = Postings.count

    def counting(self: Postings, word: Word) -> int:
        looked.append(word.token)
        return count(self, word)

    monkeypatch.setattr(Postings, "count", counting)
    with stored("needle", "n1 thread", "n5000") as store:
        many = " ".join(f"n{number}" for number in range(5001))
        rows = found(store, f"{many} needle needle")
    assert len(looked) == lexical.MAX_COUNTED
    assert looked[0] == "needl"
    assert rows == [0, 1]  # and not row 2, whose word is one of the last


def test_a_long_question_is_bounded_by_its_rarest_words() -> None:
    """Of more than 64 words the rarest count; text beyond the limit is refused with both numbers."""
    common = [f"common{number}" for number in range(lexical.MAX_WORDS + 20)]
    with stored(" ".join(common), " ".join([*common, "needle"])) as store:
        rows = match(store, " ".join([*common, "needle"]))
        assert [row for row, _ in rows] == [1, 0]
        assert rows == match(store, " ".join([*common[: lexical.MAX_WORDS - 1], "needle"]))
        with pytest.raises(InvalidInput, match=r"the query has 32,769 characters; at most 32,768"):
            match(store, "x" * (lexical.MAX_CHARACTERS + 1))


@pytest.mark.parametrize("question", ["", " \n", "?!", "zebra", "the"])
def test_a_question_without_a_stored_word_finds_nothing(question: str) -> None:
    """No words, no stored words: no rows, whatever the mask."""
    with stored("cat", "dog") as store:
        assert match(store, question) == match(store, question, allowed=[True, True]) == []
    with stored() as store:
        assert match(store, question) == []


def test_a_failed_commit_leaves_no_words() -> None:
    """Words are of the same transaction: where the chunk is not, neither are they."""
    with stored("cat") as store:
        with pytest.raises(StorageFailed):
            put(store, {"fresh": "zebra", "0": "an id that is taken"})
        assert found(store, "zebra") == []
        put(store, {"fresh": "zebra"})
        assert found(store, "zebra") == [1]


def test_without_an_index_only_dense_search_is_left(tmp_path: Path) -> None:
    """Where no words are kept, asking for them says so; a copy is like its original."""
    with stored("cat", words="none") as store:
        with pytest.raises(InvalidInput, match=r"no lexical index \(lexical='none'\)"):
            match(store, "cat")
        store.delete([0])
    with stored("cat", "dog") as store, store.session() as session:
        copy(session, store.map(2), Generation(tmp_path))
    copied = Store(Generation(tmp_path), D, read_only=True)
    assert found(copied, "dogs") == [1]
    copied.close()


def test_an_index_of_another_kind_is_damage() -> None:
    """A table of that name which Reperio has not made is not searched."""
    with stored("cat", words="none") as store:
        with store.session() as session:
            database = Path(session._cursor.connection.filename)
        connection = apsw.Connection(str(database))
        connection.execute("CREATE VIRTUAL TABLE lexical USING fts5(text)")
        connection.close()
        with pytest.raises(CollectionDamaged, match=r"its (lexical index is|table 'lexical)"):
            match(store, "cat")


def asked(kb: Collection, text: str) -> list[str]:
    generation, session = kb._handle.session()
    with session:
        rows, _ = session.match(text, count=10)
        chunks = session.fetch(rows.tolist(), generation.store.map(session.state.rows))
    return [chunks[row].id for row in rows.tolist()]


def vectors(count: int) -> np.ndarray:
    return np.eye(8, dtype=np.float32)[:count]


@pytest.mark.parametrize("words", ["porter", "trigram"])
def test_words_survive_update_backup_compaction_and_reopening(path: Path, tmp_path: Path, words: Lexical) -> None:
    """Every copy of a collection finds what the collection finds, and nothing that was deleted or replaced."""
    with reperio.open(path, dimension=8, lexical=words) as kb:
        kb.add([Chunk("a", "cats purr"), Chunk("b", "dogs bark"), Chunk("c", "cats hiss")], vectors=vectors(3))
        kb.add([Chunk("a", "owls hoot")], vectors=vectors(1))
        kb.delete(ids="b")
        assert asked(kb, "cats dogs") == ["c"]
        kb.backup(tmp_path / "copy")
        kb.compact()
        assert (asked(kb, "cats dogs purr"), asked(kb, "owls")) == (["c"], ["a"])
        assert kb.check().ok
    for where in (path, tmp_path / "copy"):
        with reperio.open(where, read_only=True) as kb:
            assert (asked(kb, "cats dogs"), asked(kb, "owls")) == (["c"], ["a"])
            assert kb._handle.generation.settings.lexical == words
            with kb._handle.generation.store.session() as session:
                assert lexical.tokenizer_of(session._cursor) == tokenizers.newest(words)


def test_the_choice_is_fixed_at_creation(path: Path) -> None:
    """Another choice than the recorded one is refused, and so is one that does not exist."""
    with pytest.raises(InvalidInput, match=r"lexical is 'snowball'; choose 'porter', 'unicode61', 'trigram', 'none'"):
        reperio.open(path, dimension=8, lexical="snowball")
    reperio.open(path, dimension=8).close()
    reperio.open(path, lexical="porter").close()
    with pytest.raises(InvalidInput, match=r"has lexical porter, fixed when it was created"):
        reperio.open(path, lexical="trigram")


def test_settings_of_the_first_format_mean_no_index() -> None:
    """A file that does not speak of words was written when there were none."""
    content = Settings(8, reperio.Metric.COSINE, None).to_json()
    del content["lexical"]
    assert Settings.from_json(content, "here").lexical == "none"
    with pytest.raises(CollectionDamaged, match=r"lexical is 'latin'"):
        Settings.from_json(content | {"lexical": "latin"}, "here")


def test_a_sound_index_is_not_called_corrupt_by_a_connection_that_saw_an_older_one(tmp_path: Path) -> None:
    """Check, delete every chunk through the writer's connection, check again through the same reader's."""
    with reperio.open(tmp_path / "kb", dimension=4, auto_optimize=False) as kb:
        chunks = [Chunk(str(number), f"alpha beta number {number}") for number in range(50)]
        kb.add(chunks, vectors=np.eye(50, 4, dtype=np.float32) + 1)
        assert kb.check().ok
        kb.delete(ids=kb.ids())
        assert kb.check() == CheckReport([], 0)
