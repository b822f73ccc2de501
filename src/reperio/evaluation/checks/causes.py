"""Find out why stored vectors are not those of their texts, by making them in the ways that go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from reperio.collection import Collection
from reperio.embedding.contract import embed
from reperio.embedding.passages import passage
from reperio.errors import ReperioError
from reperio.types import Chunk, FloatMatrix, Metric
from reperio.vectors import cosines

_TRIED = 4  # chunks that are embedded in other ways
_FEW_VALUES = 0.6  # of the components that differ from each other; rounded ones are fewer
_CUT = 1 / 8  # of the components at the end that are all zeros
_LONG = 5  # chunks, from which on their lengths tell something
_PROMPTS = (
    "passage: ", "query: ", "search_document: ", "search_query: ", "document: ", "title: none | text: ",
    "Represent this sentence for searching relevant passages: ",
)  # fmt: skip
_REEMBED = "reperio reembed makes all vectors again"


def cause(
    collection: Collection,
    chunks: Sequence[Chunk],
    made: FloatMatrix,
    stored: FloatMatrix,
    off: npt.NDArray[np.bool_],
    agreement: float,
) -> str:
    """Return the likely cause.

    Args:
        collection: that holds the chunks.
        chunks: that were compared, n of them.
        made, stored: their vectors as made now, and as stored: (n, d).
        off: which of them differ: (n,).
        agreement: least cosine of equal vectors.
    """
    rows = np.flatnonzero(off)
    if _is_rounded(stored[rows], made[rows]):
        return f"vectors were rounded to few values (int8, binary) before they were stored; {_REEMBED}"
    kept = _kept_components(stored[rows], made[rows])
    if kept:
        return f"vectors were cut to {kept} of {made.shape[1]} components, the rest are zeros; {_REEMBED}"
    some = rows[:_TRIED]
    for what, vectors in _variants(collection, [chunks[at] for at in some]):
        if (cosines(vectors, stored[some]) >= agreement).mean() > 0.5:
            return f"the texts were embedded {what}; {_REEMBED}"
    other = _elsewhere(collection, [chunks[at] for at in some], made[some], agreement)
    if other:
        return f"rows are shifted against their texts, or texts were swapped: {other}; {_REEMBED}"
    if off.mean() > 0.9:  # no edit of some texts explains nearly all
        return f"the texts were embedded by another model, or in another way; {_REEMBED}"
    lengths = np.array([len(chunk.text) for chunk in chunks])
    if off.sum() >= _LONG and np.median(lengths[off]) > 1.5 * np.median(lengths[~off]):
        return "the long texts are off: they were cut before they were embedded"
    return f"texts were changed without being embedded again; {_REEMBED}"


def _is_rounded(stored: FloatMatrix, made: FloatMatrix) -> bool:
    """Say whether most vectors have fewer different components than a model gives."""
    different = [len(np.unique(row)) / max(1, len(np.unique(own))) for row, own in zip(stored, made, strict=True)]
    zeros = (stored == 0).mean()
    return bool(np.median(different) < _FEW_VALUES and zeros < 0.5)


def _kept_components(stored: FloatMatrix, made: FloatMatrix) -> int:
    """Return how many components are left of vectors that end in zeros; 0 where they do not."""
    dimension = stored.shape[1]
    used = [int(np.flatnonzero(row)[-1]) + 1 if row.any() else 0 for row in stored]
    kept = max(used, default=0)
    whole = np.abs(made[:, kept:]).any() if kept < dimension else False
    return kept if whole and 0 < kept <= (1 - _CUT) * dimension else 0


def _variants(collection: Collection, chunks: Sequence[Chunk]) -> Iterator[tuple[str, FloatMatrix]]:
    """Yield ways to embed these chunks that are known to happen, in words and as vectors."""
    embedder = collection.embedder
    if embedder is None:
        return
    passages = [passage(chunk.text, chunk.metadata) for chunk in chunks]
    plain = [chunk.text for chunk in chunks]

    def made(texts: Sequence[str], *, queries: bool = False) -> FloatMatrix:
        return embed(embedder, texts, Metric.INNER_PRODUCT, queries=queries)

    try:
        if plain != passages:
            yield "without their context (title and headings)", made(plain)
        yield "as questions, with the prompt of these", made(passages, queries=True)
        for prompt in _PROMPTS:
            yield f"behind {prompt!r}, which the contract does not name", made([prompt + text for text in passages])
        yield "in lower case", made([text.lower() for text in passages])
    except ReperioError:
        return  # an embedder that refuses some text ends the search for causes, and not the check


def _elsewhere(collection: Collection, chunks: Sequence[Chunk], made: FloatMatrix, agreement: float) -> str:
    """Say under which other chunks these chunks' vectors lie; nothing where that is so of fewer than half."""
    if collection.info().metric is not Metric.COSINE:
        return ""
    found = []
    for chunk, hits in zip(chunks, collection.search_many(vectors=made, k=1, recall=1.0), strict=True):
        if hits and hits[0].chunk.id != chunk.id and hits[0].score >= agreement and hits[0].chunk.text != chunk.text:
            found.append(f"the vector of {chunk.id!r} lies under {hits[0].chunk.id!r}")
    return found[0] if 2 * len(found) >= len(chunks) else ""
