from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from reperio import InvalidInput, SentenceTransformerEmbedder
from reperio.ingestion.cutting.splitting import Splitter
from tests.conftest import TrigramEmbedder

pytest.importorskip("tokenizers", reason="it comes with sentence-transformers")
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SENTENCES = [f"Sentence {i} tells what is known about number {i * i}." for i in range(200)]
PROSE = "\n\n".join(" ".join(SENTENCES[i : i + 5]) for i in range(0, 200, 5))


class WordEmbedder(TrigramEmbedder):
    """Counts words as tokens, between two special ones, after a prompt of two words."""

    def __init__(self, max_tokens: int | None = 40) -> None:
        super().__init__()
        words = [*sorted(set(re.findall(r"\w+|[^\w\s]", PROSE))), "[CLS]", "[SEP]", "[UNK]"]
        ids = {word: i for i, word in enumerate(words)}
        self.tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
        self.tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        self.tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
        )
        self.max_tokens = max_tokens
        self.passage_prompt = "passage : "

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return super().embed_passages([self.passage_prompt + text for text in texts])

    def tokens(self, text: str) -> int:
        """Count what the model would see."""
        return len(self.tokenizer.encode(self.passage_prompt + text).ids)


def test_a_text_that_fits_is_one_piece() -> None:
    """Short text is not cut, and loses only the white space around it."""
    splitter = Splitter(TrigramEmbedder())
    assert splitter.split("  Two lines,\n\nand a half. \n") == [(2, "Two lines,\n\nand a half.")]
    assert splitter.split(" \n\t ") == []
    assert splitter.split("") == []


@pytest.mark.parametrize("markdown", [False, True])
def test_pieces_stand_where_they_say(markdown: bool) -> None:
    """`start` counts characters, not bytes, and together the pieces hold every word."""
    text = "# Überschrift 🙂\n\n" + "\n\n".join(
        f"Größe {i}: 漢字 and *plain* words, e.g. number {i}." for i in range(200)
    )
    pieces = Splitter(TrigramEmbedder(), max_tokens=120, overlap=0).split(text, markdown=markdown)
    assert len(pieces) > 50
    assert all(text[start : start + len(piece)] == piece for start, piece in pieces)
    between = [text[a + len(p) : b] for (a, p), (b, _) in itertools.pairwise(pieces)]
    assert "".join(between).strip() == ""
    assert all(len(piece) <= 120 for _, piece in pieces)


def test_characters_are_counted_without_a_tokenizer() -> None:
    """An embedder without tokenizer gets pieces of up to 1,000 characters by default."""
    lengths = [len(piece) for _, piece in Splitter(TrigramEmbedder()).split(PROSE)]
    assert max(lengths) <= 1000
    assert min(lengths[:-1]) > 500


@pytest.mark.parametrize(("asked", "limit"), [(None, 40), (17, 17), (40, 40)])
def test_tokens_with_prompt_and_special_tokens_stay_below_the_limit(asked: int | None, limit: int) -> None:
    """What the model sees of a piece, its prompt and special tokens, is never cut off."""
    embedder = WordEmbedder()
    pieces = Splitter(embedder, max_tokens=asked).split(PROSE)
    counts = [embedder.tokens(piece) for _, piece in pieces]
    assert max(counts) <= limit
    assert max(counts) > limit - 12  # a sentence has 11 tokens: the room is used


def test_a_long_window_is_not_filled_by_default() -> None:
    """An embedder for very long texts, or of unknown length, gets pieces of at most 512 tokens."""
    for embedder in (WordEmbedder(8192), WordEmbedder(None)):
        counts = [embedder.tokens(piece) for _, piece in Splitter(embedder).split(PROSE)]
        assert 400 < max(counts) <= 512


def test_pieces_overlap_by_whole_sentences_within_the_bound() -> None:
    """Each piece begins before the one before ends, by no more than asked for; without overlap none does."""
    embedder = WordEmbedder(60)
    text = " ".join(SENTENCES)
    pieces = Splitter(embedder, overlap=15).split(text)
    shared = [text[b : a + len(p)] for (a, p), (b, _) in itertools.pairwise(pieces)]
    assert all(re.fullmatch(r"Sentence \d+ [^.]*\.", part.strip()) for part in shared)
    bare = Splitter(embedder, overlap=0).split(text)
    assert all(b >= a + len(p) for (a, p), (b, _) in itertools.pairwise(bare))
    assert len(bare) < len(pieces)


def test_the_default_overlap_is_a_tenth() -> None:
    """A tenth of the room for text, in the unit of the room."""
    assert Splitter(TrigramEmbedder()).overlap == 100
    assert Splitter(WordEmbedder(104)).overlap == 10


def test_markdown_is_cut_at_its_headings() -> None:
    """Two sections that do not fit together are cut between, not in the middle of the second."""
    body = "One sentence of the body of this section. " * 6
    text = f"# First\n\n{body}\n\n# Second\n\n{body}\n\n# Third\n\n{body}"
    pieces = Splitter(TrigramEmbedder(), max_tokens=400, overlap=0).split(text, markdown=True)
    assert [piece.split("\n")[0] for _, piece in pieces] == ["# First", "# Second", "# Third"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; it must be an integer of at least 1"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"overlap": -1}, "overlap is -1; it must be an integer of at least 0"),
        ({"overlap": 36}, "overlap is 36, but only 36 fit"),
        ({"max_tokens": 41}, "'trigrams' cuts texts off after 40 tokens; choose at most 40"),
        ({"max_tokens": 4}, "special tokens and prompt of 'trigrams' take 4"),
    ],
)
def test_lengths_that_cannot_be_are_refused(options: dict[str, Any], reason: str) -> None:
    """More than the model takes, nothing at all, or an overlap as long as a piece: an error with the bound."""
    with pytest.raises(InvalidInput, match=reason):
        Splitter(WordEmbedder(), **options)


def test_a_strange_tokenizer_is_refused() -> None:
    """A tokenizer that cannot count tokens here is an error, not a silent count of characters."""
    embedder = WordEmbedder()
    embedder.tokenizer = str.split
    with pytest.raises(InvalidInput, match=r"needs a tokenizers\.Tokenizer"):
        Splitter(embedder)


@pytest.mark.model
def test_the_real_model_sees_every_token(minilm: SentenceTransformerEmbedder) -> None:
    """With MiniLM no piece exceeds its window of 256 tokens, and unbroken text is cut too."""
    tokenizer = minilm.tokenizer
    assert tokenizer is not None
    text = PROSE + "\n\n" + "x1y2" * 3000 + "\n\n" + "漢字" * 2000
    counts = [len(tokenizer.encode(piece).ids) for _, piece in Splitter(minilm).split(text)]
    assert max(counts) <= minilm.max_tokens
    assert max(counts) > 200
