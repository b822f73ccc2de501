"""The records and protocols that cross rooms: plain data, no behaviour that needs a library."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatMatrix: TypeAlias = npt.NDArray[np.float32]
"""float32, shape (n, d), C-contiguous: the currency of the `vectors` and `index` rooms."""

Rows: TypeAlias = npt.NDArray[np.int64]
"""Row numbers, int64: minted by the store alone, never reused within a generation."""

Progress: TypeAlias = Callable[[str, int, "int | None"], None]
"""Called as ``progress(stage, done, total)``; *total* is None while it is unknown.

The stages are "add", "ingest", "train", "index", "answers", "tune", "copy", "reembed", "mend", "import", "export",
"compare", "gate", "ask", "neighbours", and of shards "spread", "fill" and "shards". In the stage "add", *done* counts
chunks that are durable: a batch is reported after its commit, never before. In the stage "ingest" it counts bytes of
files, about.
"""


Mode: TypeAlias = Literal["dense", "lexical", "hybrid"]
"""The ways of finding chunks: by vector, by words, or by both."""

Fusion: TypeAlias = Literal["convex", "rrf"]
"""The ways of making one list of two in hybrid search: the weighted sum of min-max scores, or reciprocal ranks."""

Dtype: TypeAlias = Literal["float32", "float16"]
"""The types that vectors are kept as."""

Lexical: TypeAlias = Literal["porter", "unicode61", "trigram", "none"]
"""The tokenizers of lexical search; "none" keeps no lexical index."""


CONTEXT_FIELD = "embedding_context"
"""The metadata field whose text is embedded before that of the chunk: the document's title and headings."""


class Metric(str, enum.Enum):
    """The comparison of vectors. A member equals its string: ``Metric("l2") == "l2"``.

    Scores are higher-is-better for every metric: see `Hit.score`.
    """

    COSINE = "cosine"
    INNER_PRODUCT = "inner_product"
    L2 = "l2"


# Chunk and Hit are not frozen: a frozen dataclass takes twice as long to make, 10 µs of every search (0002).
@dataclass(slots=True)
class Chunk:
    """The unit that is stored and retrieved.

    Args:
        id: the user's own, non-empty, unique in the collection; adding it again replaces the chunk.
        text: what was embedded, and what a search gives back. May be empty with ready vectors.
        metadata: a JSON object (string keys; numbers, strings, booleans, null, lists, objects). Where it has a text
            under "embedding_context", that is embedded before the chunk's text; a search gives the text alone.
    """

    id: str
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Hit:
    """One result of a search.

    Attributes:
        chunk: the chunk found.
        score: higher is better. cosine: the cosine in [−1, 1]; inner product: the inner product;
            l2: minus the squared Euclidean distance (0 is a perfect match).
            After fusion or reranking it is the score these gave, which is what the hits are ordered by.
        rank: 1 for the best.
        scores: where more than one score went into the order, each by its name: "dense" (by vector), "lexical" (BM25),
            "fused", "rerank". A list that did not find the chunk has no entry. None where `score` is the only one.
    """

    chunk: Chunk
    score: float
    rank: int
    scores: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one call may ask for; passed to `open`, and refused beyond, never clamped. For untrusted callers.

    Filters have limits of their own, which are fixed (docs/filters.md).

    Args:
        k: hits of one search, and its candidates.
        queries: questions of one `Collection.search_many`.
        hits: hits and candidates of one `Collection.search_many`, over all its questions.
        question: characters of a question: a model takes time and memory for all, also beyond what it reads.
        batch: chunks per commit (``batch_size`` of `Collection.add`): a batch is held in memory.
        text: characters of a chunk's text.
        metadata: characters of a chunk's metadata as JSON.
        heavy: searches for many rows (`HEAVY` hits and candidates together) that run at a time in one handle; the
            others wait, rather than all of them together exhausting the memory. None for one per core, and two at
            least.
        idle: database connections kept open between searches, two file descriptors each. More are opened while more
            threads search, and closed afterwards; of each, SQLite keeps one descriptor for the next that is opened.
    """

    k: int = 10_000
    queries: int = 100_000
    hits: int = 10_000_000
    question: int = 65_536
    batch: int = 100_000
    text: int = 16_777_216
    metadata: int = 1_048_576
    heavy: int | None = None
    idle: int = 64


HEAVY = 50_000
"""Hits and candidates of one call, over all its questions, from which it counts as heavy: some 50 MB of chunks."""


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one key in a `Records`.

    Attributes:
        key: unique in its space.
        value: any JSON value, or None.
        group: what it belongs to, e.g. a document; None for nothing.
        time: of its put, in seconds since the epoch; see `Records.time`.
    """

    key: str
    value: Any
    group: str | None
    time: float


@dataclass(frozen=True, slots=True)
class AddResult:
    """The result of one `Collection.add`, in chunks.

    Attributes:
        added: ids that were new.
        updated: ids whose chunk was replaced.
        unchanged: ids whose text, metadata and vector were already stored; nothing was written.
        embedded: texts that went through the embedder.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    embedded: int = 0

    def __add__(self, other: AddResult) -> AddResult:
        return AddResult(
            self.added + other.added,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.embedded + other.embedded,
        )


@runtime_checkable
class Embedder(Protocol):
    """Makes vectors of texts. Anything with these four members will do.

    Attributes:
        name: what the embedding contract records, e.g. a model's name or path.
        dimension: length of every vector.

    An embedder may also have ``revision``, ``query_prompt`` and ``passage_prompt`` (strings), which the
    contract records, and ``max_tokens`` (int) and ``tokenizer``, by which ingestion cuts documents.
    """

    @property
    def name(self) -> str:
        """Name of the model, which the contract records."""
        ...

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        ...

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
        """Return an array of shape (len(texts), dimension) for texts to be stored."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
        """Return an array of shape (len(texts), dimension) for questions."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Reads query and text together, and says how well they fit. Anything with this method will do.

    For a plain function of one query there is `CallableReranker`.
    """

    def score(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> Sequence[Sequence[float]]:
        """Return one score per text, higher is better, finite: ``scores[i][j]`` is that of ``texts[i][j]``.

        Args:
            queries: of one search, or all those of a `search_many`, so that a model can fill its batches across them.
            texts: one non-empty list per query, best first as retrieved; the same text may occur repeatedly.
        """
        ...


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One way to search an index, and what it measurably gives.

    Attributes:
        k: results asked for when it was measured.
        effort: `nprobe` of an IVF, `efSearch` of HNSW; 0 where the index has no such knob.
        candidates: rows fetched per query and rescored exactly; 0 for exact search.
        recall: knn recall@k, mean over the held-out queries.
        low, high: the 99% confidence interval of that mean.
        p50, p95: µs per query on one thread, rescoring included, chunks not.
        rate: queries per second in one batch on all cores.
    """

    k: int
    effort: int
    candidates: int
    recall: float
    low: float
    high: float
    p50: float
    p95: float
    rate: float


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The index in use, as recorded with its snapshot.

    Attributes:
        factory: FAISS factory string.
        rows: rows [0, rows) are in it; newer ones are searched exactly.
        bytes: size of the snapshot file, close to its size in memory.
        reason: why this index.
        created: UTC time, ISO 8601.
        recall: what it was chosen for.
        queries: which queries it was measured with, in words.
        points: the ways to search it that are worth having, cheapest first; exact search among them.
    """

    factory: str
    rows: int
    bytes: int
    reason: str
    created: str
    recall: float
    queries: str
    points: tuple[OperatingPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class OriginInfo:
    """What is known of the origin of a replica.

    Attributes:
        where: its address, without the password.
        commit: number of the last commit that the directory has.
        committed: when that was made, in seconds since the epoch, by the server's clock; 0 where it is not known.
        newest: number of the newest commit that the origin has told of.
        age: seconds since the origin has last answered; None where it has not yet, through this handle.
        trouble: why it did not answer since; empty where it did.
    """

    where: str
    commit: int
    committed: float
    newest: int
    age: float | None
    trouble: str


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """The facts that `Collection.info` returns.

    Attributes:
        path: the directory; ":memory:" for a collection in memory.
        count: chunks that can be found.
        deleted: rows that deletes and updates left behind; `Collection.compact` drops them. None through a scope, as
            what follows: it would tell how much others store.
        tail: rows newer than the index, searched exactly; None through a scope.
        dimension: length of every vector.
        metric: how vectors are compared.
        dtype: of the stored vectors, "float32" or "float16".
        embedder: name recorded in the embedding contract; None where vectors are brought ready-made.
        index: None while every search is exact, and through a scope.
        disk: bytes by file name; empty through a scope.
        generation: the generation in use.
        format_version: of the files.
        origin: where the truth is, for a replica; None for a collection of its own, and through a scope.
    """

    path: str
    count: int
    deleted: int | None
    tail: int | None
    dimension: int
    metric: Metric
    dtype: str
    embedder: str | None
    index: IndexInfo | None
    disk: Mapping[str, int]
    generation: str
    format_version: int
    origin: OriginInfo | None = None


ProblemKind: TypeAlias = Literal["damage", "index", "waste", "note"]
"""The severity of a problem.

damage: chunks, records or settings are damaged; index: only the index is, searches are slower but right; waste: space
or time is lost; note: good to know, nothing to do.
"""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a check found; printed, it is one line.

    Attributes:
        kind: how bad it is. It decides how the problem is mended.
        what: what is wrong, and where.
        cure: what to do about it.
    """

    kind: ProblemKind
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{'index: ' if self.kind == 'index' else ''}{self.what}; {self.cure}"

    @classmethod
    def of(cls, error: Exception) -> Problem:
        """Return the damage that an error reports: the messages of this package end with their cure."""
        what, semicolon, cure = str(error).rpartition("; ")
        return Problem("damage", what, cure) if semicolon else Problem("damage", str(error), "restore from a backup")


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of `Collection.check`.

    Attributes:
        problems: what is wrong; empty for a sound collection.
        rows: number of chunks whose checksum was verified.
        mended: after ``check(fix=True)``: the problems that were there before.
        lost: after ``check(fix=True)``: what could not be kept, one line each; empty where everything was.
    """

    problems: Sequence[Problem]
    rows: int
    mended: Sequence[Problem] = ()
    lost: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.problems
