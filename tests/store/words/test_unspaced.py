"""Words of languages that put no spaces between them, next to all others."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import reperio
from reperio import Chunk
from reperio.layout import Lexical
from reperio.store.words import tokenizers, unspaced
from tests.store.words.test_lexical import bm25, found, match, stored

CHINESE = ("永和九年，歲在癸丑，暮春之初。", "光合作用把光能转化为化学能", "北京大学的学生在图书馆学习", "我喜欢喝绿茶")
JAPANESE = (
    "東京都に住んでいます。",
    "昨日、新しい自転車を買った",
    "ラーメンとカレーが好きだ",
    "図書館は月曜日に休みます",
)
THAI = ("ฉันชอบกินข้าวผัด", "วันนี้อากาศดีมาก", "เขาไปโรงเรียนทุกวัน", "น้ำในแม่น้ำใสมาก")
THAI_WORDS = ("กิน", "ข้าว", "ผัด", "วัน", "อากาศ", "ดี", "มาก", "เขา", "ไป", "โรงเรียน", "ทุก", "น้ำ", "แม่น้ำ", "ใส", "ชอบ")
OTHERS = ("plain words", "Straße und Café", "한국어를 배우고 있습니다", "हिन्दी में शब्द")

_LETTER = st.one_of(
    st.characters(min_codepoint=0x0E00, max_codepoint=0x0EFF),
    st.characters(min_codepoint=0x1000, max_codepoint=0x11FF),
    st.characters(min_codepoint=0x1780, max_codepoint=0x17DF),
    st.characters(min_codepoint=0x3000, max_codepoint=0x31FF),
    st.characters(min_codepoint=0xFF00, max_codepoint=0xFFEF),
    st.sampled_from("東京都光能 aä1.\u0301\u093f\u200b\ufe00\U000e0100\U00020000\uac00\ud7a3"),
)


def cut(tokenizer: tokenizers.Tokenizer, text: str) -> list[str]:
    """Cut a text by FTS5 itself."""
    name, *arguments = tokenizer.arguments
    made = apsw.Connection(":memory:").fts5_tokenizer(name, arguments)
    data = text.encode(errors="replace")
    tokens: list[str] = made(data, apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=False, include_colocated=False)
    return tokens


def pairs_of(text: str) -> set[str]:
    """Return every two letters that follow each other."""
    return {text[place : place + 2] for place in range(len(text) - 1) if text[place : place + 2].isalpha()}


@pytest.mark.parametrize("words", ["porter", "unicode61"])
def test_every_word_of_two_characters_is_found(words: Lexical) -> None:
    """Any two characters of Chinese or Japanese, and each word of Thai, find the chunks that hold them first."""
    chunks = (*CHINESE, *JAPANESE, *THAI, *OTHERS)
    asked = {pair for text in (*CHINESE, *JAPANESE) for pair in pairs_of(text)} | set(THAI_WORDS)
    assert len(asked) > 90
    with stored(*chunks, words=words) as store:
        for word in asked:
            holding = {row for row, text in enumerate(chunks) if word in text}
            assert set(found(store, word, count=len(holding))) == holding, word
            assert len(word) > 2 or set(found(store, word, count=20)) == holding, word


@pytest.mark.parametrize("words", ["porter", "unicode61"])
def test_one_character_is_a_word(words: Lexical) -> None:
    """茶 is tea: a character that is asked for alone is found wherever it is, at an end or inside."""
    with stored("绿茶", "茶", "茶道", "喝茶的人", "咖啡", words=words) as store:
        assert sorted(found(store, "茶")) == [0, 1, 2, 3]
        assert found(store, "茶道")[0] == 2
        assert found(store, "茶道", count=1) == [2]


def test_words_of_all_kinds_stand_next_to_each_other() -> None:
    """Latin words and numbers inside a run are words, with their endings cut; a run does not reach across them."""
    with stored("Python入門2024年版", "入出門", "running in 東京", "年と版") as store:
        assert found(store, "python") == found(store, "2024") == found(store, "入門") == found(store, "年版") == [0]
        assert found(store, "run 東京") == [2]
        assert found(store, "門年") == []


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("ｶﾞｿﾘﾝ", "ガソリン"),
        ("ガソリン", "ｶﾞｿﾘﾝ"),
        ("ＡＢＣ１２３", "abc123"),
        (unicodedata.normalize("NFD", "ガソリンがある"), "ガソリン"),
        (unicodedata.normalize("NFD", "한국어"), "한국"),
        ("葛\U000e0100飾区", "葛飾"),
        ("⽇本", "日本"),
        ("น้\u0e4d\u0e32", "น้ำ"),
    ],
)
def test_one_way_to_write_finds_another(written: str, asked: str) -> None:
    """Half and full width, composed and decomposed, with a variant of the glyph: the same word."""
    with stored("something else", written) as store:
        assert found(store, asked) == [1]


@pytest.mark.parametrize("word", ["हिन्दी", "தமிழ்", "বাংলা", "ಕನ್ನಡ", "සිංහල"])
def test_vowel_signs_cut_no_word(word: str) -> None:
    """A word of an Indic script is one word, and not found by its consonants."""
    with stored(f"{word} text", "text") as store:
        assert found(store, word) == [0]
        assert found(store, word[0]) == []


def test_scores_are_bm25_of_characters_and_pairs() -> None:
    """By the textbook, in which a text is its characters and pairs, and a question its pairs."""
    chunks = [*CHINESE, *JAPANESE]
    written = {row: unspaced.written_out(text).replace("，", " ").replace("。", " ") for row, text in enumerate(chunks)}
    with stored(*chunks) as store:
        for question in ("图书馆学习", "図書館 東京", "茶", "学生喝茶"):
            expected = bm25(
                {row: text.replace("、", " ") for row, text in written.items()}, unspaced.asked_for(question)
            )
            assert dict(match(store, question)) == pytest.approx(expected)


@pytest.mark.parametrize("words", ["porter", "unicode61"])
def test_other_languages_keep_their_scores(words: Lexical, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the digit, whatever else is on the page: as in an index without pairs."""
    chunks = [
        *("The databases of a café are running, naïvely: 3.14 or e\u0301clair", "Straße, Größe, „Ja“ — 50 € 👍 ❤️ 1️⃣"),
        *("Привет, как дела? Ёлка", "Καλημέρα κόσμε", "كتاب في المكتبة مُحَمَّد", "שלום עולם", "İstanbul'da ığdır ½ ﬁne Ⅳ"),
        *("running database of the street", "a b c", "", "?!", "x" * 300, "snake_case CamelCase e-mail@host.org"),
    ]
    questions = [*chunks, "run", "database café", "größe", "👍", "ёлка привет", "e", "1", "of the running"]
    with stored(*chunks, words=words) as store:
        now = [match(store, question, 50) for question in questions]
    monkeypatch.setattr(tokenizers, "newest", lambda name: tokenizers.Tokenizer(name, False))
    with stored(*chunks, words=words) as store:
        assert now == [match(store, question, 50) for question in questions]


@settings(deadline=None, max_examples=300)
@given(text=st.text(_LETTER, max_size=40), words=st.sampled_from(["porter", "unicode61"]))
@example(text="น้ำ", words="porter")
@example(text="\u0e49\u0e01", words="porter")
def test_texts_are_counted_as_they_are_indexed(text: str, words: Lexical) -> None:
    """Cutting a text for a score gives the tokens that FTS5 has indexed; a question finds the text it is."""
    kind = tokenizers.Tokenizer(words, True)
    text = text.encode(errors="replace").decode()
    rest, tokens = kind.split(text)
    assert Counter([*cut(kind, rest), *tokens]) == Counter(cut(kind, kind.of_chunk(text)))
    assert set(cut(kind, kind.of_question(text))) <= set(cut(kind, kind.of_chunk(text)))


def test_a_scope_counts_for_itself(tmp_path: Path) -> None:
    """What a scope finds, and by what scores, is what a collection without the other chunks would say."""
    mine = [Chunk(f"m{number}", text, {"who": "me"}) for number, text in enumerate((*CHINESE, *JAPANESE))]
    theirs = [Chunk(f"t{number}", text * 3, {"who": "them"}) for number, text in enumerate((*JAPANESE, *THAI))]
    for name, chunks in (("both", mine + theirs), ("alone", mine)):
        with reperio.open(tmp_path / name, dimension=2) as kb:
            kb.add(chunks, vectors=[[1.0, number] for number in range(len(chunks))])
    with (
        reperio.open(tmp_path / "both", scope={"who": "me"}, read_only=True) as scoped,
        reperio.open(tmp_path / "alone", read_only=True) as alone,
    ):
        for question in ("図書館", "东京", "学习", "休みます", "茶"):
            both = [
                [(hit.chunk.id, hit.score) for hit in kb.search(question, mode="lexical")] for kb in (scoped, alone)
            ]
            assert both[0] == both[1]
