"""Text sets that need no model: chunks with sources and metadata, questions with what answers them, and an embedder."""

from __future__ import annotations

import re
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reperio import Chunk
from reperio.evaluation import GoldenQuery, GoldenSet

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "reranking"), str(HERE.parents[2] / "examples")]

Vectors: TypeAlias = npt.NDArray[np.float32]

SETS = ("scifact", "squad-dev", "python-docs")
SOURCES = ("handbook", "wiki", "support")
SEED = 20_261_129
_QUESTIONS = 300
_MODES = ("dense", "dense", "hybrid", "dense", "lexical")
_WORD = re.compile(r"\w+")


class HashedWords:
    """An embedder of words: each has a random direction, and weighs the more, the rarer it is in the set.

    Args:
        texts: by which rarity is told.
        salt: another one is another model.
    """

    dimension = 192

    def __init__(self, texts: Sequence[str], salt: str = "") -> None:
        self.name, self.salt = "hashed-words", salt
        often = Counter(word for text in texts for word in set(_words(text)))
        self._rarity = {word: float(np.log(1 + len(texts) / count)) for word, count in often.items()}
        self._most = float(np.log(1 + len(texts)))

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return vectors, float32 (n, d)."""
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(out, texts, strict=True):
            for word, count in Counter(_words(text)).items():
                vector += np.float32(self._rarity.get(word, self._most) * (1 + np.log(count))) * _direction(
                    self.salt + word
                )
            if not vector.any():
                vector[0] = 1.0
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    embed_queries = embed_passages


@lru_cache(maxsize=200_000)
def _direction(word: str) -> Vectors:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=HashedWords.dimension).astype(np.float32)


def _words(text: str) -> list[str]:
    return [word[:7] for word in _WORD.findall(text.lower())]  # a stem, nearly


@dataclass(frozen=True)
class World:
    """A healthy collection, before it is stored.

    Attributes:
        name: of the text set.
        chunks, vectors: in the order of adding.
        questions: all there are; golden sets are their beginnings.
        embedder: of both.
    """

    name: str
    chunks: list[Chunk]
    vectors: Vectors
    questions: list[GoldenQuery]
    embedder: HashedWords

    def golden(self, size: int | None = None) -> GoldenSet:
        """Return the first so many questions; all for None."""
        return GoldenSet(self.questions[:size])

    def rows(self, share: float, source: str = "", seed: int = SEED) -> list[int]:
        """Return a share of the rows, of one source or of all; always the same."""
        some = [at for at, chunk in enumerate(self.chunks) if not source or chunk.metadata["source"].startswith(source)]
        return np.random.default_rng(seed).permutation(some)[: max(1, round(share * len(some)))].tolist()


def world(name: str) -> World:
    """Load a text set, give its chunks metadata, and embed it."""
    texts, questions = _python_docs() if name == "python-docs" else _judged(name)
    chunks = [Chunk(f"c{at}", text, _metadata(at)) for at, text in enumerate(texts)]
    embedder = HashedWords(texts)
    order = np.random.default_rng(SEED).permutation(len(questions))[:_QUESTIONS]
    asked = [_question(place, *questions[at], chunks) for place, at in enumerate(order)]
    return World(name, chunks, embedder.embed_passages(texts), asked, embedder)


def _metadata(at: int) -> dict[str, Any]:
    return {
        "source": f"{SOURCES[at * 7 % 3]}/page{at // 12}.html",
        "access": "internal" if at % 5 == 0 else "public",
        "lang": "en" if at % 4 else "de",
        "kind": "Guide" if at % 2 else "Reference",
        "year": 2010 + at % 15,
        "title": f"Page {at // 12} of {SOURCES[at * 7 % 3]}",
        "made": "2026-11-01",
    }


def _question(place: int, text: str, right: set[int], chunks: list[Chunk]) -> GoldenQuery:
    query = GoldenQuery(f"q{place}", text, {f"c{at}": 1 for at in sorted(right)}, mode=_MODES[place % len(_MODES)])
    if place % 4:
        return query
    field = "access" if place % 8 else "lang"
    return replace(query, where={field: {"$in": sorted({chunks[at].metadata[field] for at in right})}})


def _judged(name: str) -> tuple[list[str], list[tuple[str, set[int]]]]:
    from text_sets import load  # scripts import each other by their names alone

    found = load(name)
    return found.passages, [(text, right) for text, right in zip(found.queries, found.relevant, strict=True) if right]


def _python_docs() -> tuple[list[str], list[tuple[str, set[int]]]]:
    """Return the standard library's documentation; a question is six telling words of the middle of its answer."""
    from python_docs import collect

    texts = [chunk.text for chunk in collect()]
    often = Counter(word for text in texts for word in set(_words(text)))
    questions = []
    for at, text in enumerate(texts):
        words = [word for word in _WORD.findall(text)[8:40] if len(word) > 3]
        if len(words) >= 10:
            telling = set(sorted(words, key=lambda word: (-often[word.lower()[:7]], word))[:8])
            questions.append((" ".join(word for word in words if word in telling), {at}))
    return texts, questions
