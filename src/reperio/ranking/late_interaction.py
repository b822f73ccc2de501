"""Reranking by the embedding model itself, token by token: no further model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from reperio.errors import InvalidInput
from reperio.types import FloatMatrix

_BLOCK = 256  # texts whose token vectors are held at once: 100 MB at 256 tokens of 384 dimensions

_Part: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]]]


@runtime_checkable
class TokenEmbedder(Protocol):
    """An embedder that also gives the vectors of the single tokens, before they are pooled into one."""

    def embed_tokens(self, texts: Sequence[str], *, query: bool) -> Sequence[npt.NDArray[np.floating[Any]]]:
        """Return an array of shape (tokens, d) per text, without special tokens; (0, d) for a text of none.

        Args:
            texts: to embed, with the query prompt or the passage prompt put before each.
            query: which of the two.
        """
        ...


class LateInteractionReranker:
    """A `Reranker` that looks for each token of the query the nearest token of the text (MaxSim).

    The score is the mean over the query's tokens of the highest cosine to a token of the text, in [−1, 1]: the sum of
    Khattab and Zaharia 2020 (ColBERT, section 3.3), divided by their number, so that it does not grow with the length
    of a query. A text without tokens scores −1, and without tokens in the query all texts score 0, which leaves them as
    they were.

    An ordinary embedding model was not trained for this. It still orders dense and lexical lists better on both text
    sets measured, and hybrid lists on one of them; the other's stay as good as they were, within the margin
    (eval/results/reranking.md). The texts are embedded at every search, which takes as long as a cross-encoder of the
    same size.

    Args:
        embedder: that of the collection, with ``embed_tokens`` besides; `SentenceTransformerEmbedder` has it.

    Raises:
        InvalidInput: the embedder has no ``embed_tokens``.
    """

    def __init__(self, embedder: TokenEmbedder) -> None:
        if not isinstance(embedder, TokenEmbedder):
            raise InvalidInput(
                f"{type(embedder).__name__} has no embed_tokens(texts, query=…), by which late interaction compares; "
                "use SentenceTransformerEmbedder, or another reranker"
            )
        self._embedder = embedder

    def score(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return the MaxSim of each query's texts; a text that several queries share is embedded once per block."""
        scores: list[list[float]] = []
        for some, their_texts in _blocks(queries, texts):
            asked = [_normalised(tokens) for tokens in self._embedder.embed_tokens(some, query=True)]
            different = list(dict.fromkeys(text for its in their_texts for text in its))
            made = self._embedder.embed_tokens(different, query=False)
            tokens = {text: _normalised(matrix) for text, matrix in zip(different, made, strict=True)}
            for query, its in zip(asked, their_texts, strict=True):
                scores.append([max_similarity(query, tokens[text]) for text in its])
        return scores


def max_similarity(query: FloatMatrix, text: FloatMatrix) -> float:
    """Return the mean over a query's tokens, (m, d), of the highest dot product with a token of the text, (n, d)."""
    if not len(query):
        return 0.0
    # One product per text: in a product over all candidates a score would round differently with its neighbours, and
    # equal texts would not be equals. Embedding the texts takes a hundred times as long.
    return float((query @ text.T).max(axis=1).mean()) if len(text) else -1.0


def _blocks(queries: Sequence[str], texts: Sequence[Sequence[str]]) -> Iterator[_Part]:
    start = held = 0
    for end, its in enumerate(texts):
        if held and held + len(its) > _BLOCK:
            yield queries[start:end], texts[start:end]
            start, held = end, 0
        held += len(its)
    if start < len(queries):
        yield queries[start:], texts[start:]


def _normalised(tokens: npt.NDArray[np.floating[Any]]) -> FloatMatrix:
    matrix = np.asarray(tokens, dtype=np.float32)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    normalised: FloatMatrix = np.divide(matrix, norms, out=np.zeros_like(matrix), where=norms > 0)
    return normalised
