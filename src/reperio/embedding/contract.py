"""The embedding contract: which embedder made the vectors, and eight canary texts to recognise it by.

A name proves little (weights are revised, prompts forgotten, pooling changed), vectors do: on opening, the canaries
are embedded again and compared with the vectors recorded at creation.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reperio import forks
from reperio.errors import CollectionDamaged, EmbedderFailed, EmbeddingContractError, ReperioError
from reperio.layout import DTYPES, LEXICAL, Dtype, Lexical, read_settings
from reperio.types import Embedder, FloatMatrix, Metric
from reperio.vectors import cosines, to_matrix

MAX_DIMENSION = 65_536
"""Of a vector, in any collection."""

AGREEMENT = 0.999
"""Least cosine between a canary's vectors: the same model in bfloat16 stays above it, another model is far below."""

# Short and long, plain and technical, other scripts, digits: what tells tokenizers, prompts and poolings apart.
CANARIES = (
    "The cat sat on the mat.",
    "How do I reset my password?",
    "def mean(values): return sum(values) / len(values)",
    "Die Lieferung verzögert sich um drei bis vier Werktage.",
    "Invoice 2024-00317: 1,249.50 EUR, due within 30 days.",
    "光合作用把光能转化为化学能。",
    "error: connection refused (os error 111)",
    "Photosynthesis turns light energy into chemical energy; in plants it takes place in the chloroplasts, whose "
    "green pigment absorbs mainly red and blue light, and it releases oxygen as a by-product.",
)

_TOLD = ("revision", "query_prompt", "passage_prompt")  # what an embedder may tell of itself
_MOST_CANARIES, _LONGEST_CANARY = 64, 4096  # that a file may name; there are eight short ones
_LONGEST_VECTOR = 1e19


@dataclass(frozen=True, slots=True)
class Contract:
    """The origin of a collection's vectors."""

    name: str
    revision: str  # as the embedder tells it, like its prompts; empty where it does not
    query_prompt: str
    passage_prompt: str
    canaries: tuple[str, ...]  # the texts
    passages: FloatMatrix  # their vectors as stored texts, (n, d)
    queries: FloatMatrix  # and as questions

    @classmethod
    def of(cls, embedder: Embedder) -> Contract:
        """Draw up the contract of an embedder."""
        passages, queries = (embed(embedder, CANARIES, Metric.INNER_PRODUCT, queries=asked) for asked in (False, True))
        return cls(embedder.name, **_described(embedder), canaries=CANARIES, passages=passages, queries=queries)

    def require(self, embedder: Embedder, collection: str) -> None:
        """Raise `EmbeddingContractError` unless *embedder* makes the recorded vectors of *collection*, a path."""
        if embedder.dimension != self.passages.shape[1]:
            self._refuse(embedder, collection, f"{embedder.dimension} dimensions, not {self.passages.shape[1]}")
        for role, recorded in (("passages", self.passages), ("queries", self.queries)):
            made = embed(embedder, self.canaries, Metric.INNER_PRODUCT, queries=role == "queries")
            agreement = cosines(made, recorded)
            if agreement.min() < AGREEMENT:
                text = self.canaries[int(agreement.argmin())]
                difference = (
                    f"embedded as {role}, the canary {text[:40]!r} has cosine {agreement.min():.4f} to its recorded "
                    f"vector, {AGREEMENT} is required"
                )
                self._refuse(embedder, collection, difference)
            norms = np.linalg.norm(made, axis=1) / np.linalg.norm(recorded, axis=1)
            if abs(norms - 1).max() > 0.05:
                self._refuse(embedder, collection, f"vectors of {norms.mean():.3g} times the recorded length")

    def _refuse(self, embedder: Embedder, collection: str, difference: str) -> None:
        also = [
            f"{key} {value!r} instead of {getattr(self, key)!r}"
            for key, value in _described(embedder).items()
            if value != getattr(self, key)
        ]
        raise EmbeddingContractError(
            f"{collection} was embedded with {self.name!r}; {embedder.name!r} differs: "
            f"{'; '.join([difference, *also])}. Open it with the recorded embedder, or embed every text again: "
            f"reperio reembed {collection} --embedder {embedder.name}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; vectors as base64 of little-endian float32."""
        return {
            **{key: getattr(self, key) for key in ("name", *_TOLD)},
            "canaries": [
                {"text": text, "passage": _encode(passage), "query": _encode(query)}
                for text, passage, query in zip(self.canaries, self.passages, self.queries, strict=True)
            ],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any], dimension: int) -> Contract:
        """Read a recorded contract.

        Raises:
            KeyError, TypeError, ValueError: it is not what `to_json` has returned.
        """
        canaries = content["canaries"]
        if not 1 <= len(canaries) <= _MOST_CANARIES:  # all of them are embedded when a collection is opened
            raise ValueError(f"it has {len(canaries)} canaries; 1 to {_MOST_CANARIES} are read")
        return cls(
            **{key: _require_text(content[key], key) for key in ("name", *_TOLD)},
            canaries=tuple(_require_text(canary["text"], "a canary's text", _LONGEST_CANARY) for canary in canaries),
            passages=_decode([canary["passage"] for canary in canaries], dimension),
            queries=_decode([canary["query"] for canary in canaries], dimension),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that a collection is created with: the content of collection.json."""

    dimension: int
    metric: Metric
    contract: Contract | None  # None where vectors are brought ready-made
    dtype: Dtype = "float32"  # also where the file does not say
    lexical: Lexical = "porter"  # how texts are cut into words; "none" where the file does not say, as in format 1

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "dimension": self.dimension,
            "metric": self.metric.value,
            "dtype": self.dtype,
            "lexical": self.lexical,
            "embedding": self.contract and self.contract.to_json(),
        }

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read collection.json; raise what `from_json` and `layout.read_settings` raise."""
        return cls.from_json(read_settings(path), str(path))

    @classmethod
    def from_json(cls, content: dict[str, Any], where: str) -> Settings:
        """Read recorded settings.

        Raises:
            CollectionDamaged: they are not what was written.
        """
        try:
            dimension, embedding = content["dimension"], content["embedding"]
            if type(dimension) is not int or not 1 <= dimension <= MAX_DIMENSION:
                raise ValueError(f"dimension is {dimension!r:.60}; it is a whole number from 1 to {MAX_DIMENSION:,}")
            contract = None if embedding is None else Contract.from_json(embedding, dimension)
            dtype = content.get("dtype", "float32")
            if dtype not in DTYPES:
                raise ValueError(f"dtype is {dtype!r:.60}")
            lexical = content.get("lexical", "none")
            if lexical not in LEXICAL:
                raise ValueError(f"lexical is {lexical!r:.60}")
            return cls(dimension, Metric(content["metric"]), contract, dtype, lexical)
        except (KeyError, ValueError, TypeError) as error:
            raise CollectionDamaged(f"{where} cannot be read ({error!s:.200}); restore from a backup") from None


def embed(embedder: Embedder, texts: Sequence[str], metric: Metric, *, queries: bool) -> FloatMatrix:
    """Run an embedder and check what it returns: shape, dtype, finiteness; normalised under cosine.

    Raises:
        EmbedderFailed: it raised (that error is the cause), or gave the wrong number of vectors.
        InvalidVectors: vectors that cannot be stored, with the row named.
    """
    forks.spare_torch()
    try:
        made = embedder.embed_queries(texts) if queries else embedder.embed_passages(texts)
    except ReperioError:
        raise
    except Exception as error:  # a model, a network: whatever it was, the caller learns that there are no vectors
        raise EmbedderFailed(
            f"{embedder.name} raised {type(error).__name__} over {len(texts)} texts: {error!s:.500}"
        ) from error
    matrix = to_matrix(made, dimension=embedder.dimension, metric=metric, what=f"vectors from {embedder.name}")
    if len(matrix) != len(texts):
        raise EmbedderFailed(f"{embedder.name} returned {len(matrix)} vectors for {len(texts)} texts")
    return matrix


def _described(embedder: Embedder) -> dict[str, str]:
    return {key: str(getattr(embedder, key, "") or "") for key in _TOLD}


def _encode(vector: FloatMatrix) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _decode(vectors: list[str], dimension: int) -> FloatMatrix:
    made = np.stack([np.frombuffer(base64.b64decode(vector, validate=True), dtype="<f4") for vector in vectors])
    if made.shape[1] != dimension:
        raise ValueError(f"a canary's vector has {made.shape[1]} values, not {dimension}")
    # NaN agrees with every vector, or with none, by how it is asked.
    if not (np.linalg.norm(made.astype(np.float64), axis=1) < _LONGEST_VECTOR).all():
        raise ValueError("a canary's vector is not finite, or its length has no square in float32")
    return made


def _require_text(value: Any, name: str, longest: int = 1 << 16) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{name} is {value!r:.60}; it is a text of at most {longest:,} characters")
    return value
