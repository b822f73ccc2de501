"""Recollect: an embedded retrieval component for LLM applications.

A collection is a directory that keeps chunk text, metadata, vectors and a trained FAISS index together:

    import recollect
    from recollect import Chunk

    with recollect.open("kb") as kb:
        kb.add([Chunk(id="faq-17", text="…", metadata={"lang": "en"})])
        hits = kb.search("how do I reset my password", k=5)

The names below are the public ones, in the order in which they are met.
"""

from recollect.collection import (
    BackupInfo,
    Collection,
    Diagnosis,
    Finding,
    QueryLog,
    Records,
    advise,
    backups,
    diagnose,
    open,
    restore,
)
from recollect.embedders import DEFAULT_EMBEDDER, SentenceTransformerEmbedder
from recollect.errors import (
    CollectionClosed,
    CollectionDamaged,
    CollectionError,
    CollectionExists,
    CollectionLocked,
    CollectionNotFound,
    CollectionReadOnly,
    EmbedderFailed,
    EmbeddingContractError,
    IndexBuildFailed,
    InvalidChunk,
    InvalidInput,
    InvalidVectors,
    MissingDependency,
    NotACollection,
    RecollectError,
    RecollectWarning,
    RerankerFailed,
    StorageFailed,
    UnknownOption,
    UnsafePickle,
    UnsupportedFormat,
)
from recollect.filters import Filter, field
from recollect.index import Goal, Recipe
from recollect.progress import progress_bar
from recollect.ranking import CallableReranker, CrossEncoderReranker, LateInteractionReranker
from recollect.types import (
    AddResult,
    CheckReport,
    Chunk,
    CollectionInfo,
    Embedder,
    Hit,
    IndexInfo,
    Limits,
    Metric,
    OperatingPoint,
    Progress,
    Record,
    Reranker,
)

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_EMBEDDER",
    "AddResult",
    "BackupInfo",
    "CallableReranker",
    "CheckReport",
    "Chunk",
    "Collection",
    "CollectionClosed",
    "CollectionDamaged",
    "CollectionError",
    "CollectionExists",
    "CollectionInfo",
    "CollectionLocked",
    "CollectionNotFound",
    "CollectionReadOnly",
    "CrossEncoderReranker",
    "Diagnosis",
    "Embedder",
    "EmbedderFailed",
    "EmbeddingContractError",
    "Filter",
    "Finding",
    "Goal",
    "Hit",
    "IndexBuildFailed",
    "IndexInfo",
    "InvalidChunk",
    "InvalidInput",
    "InvalidVectors",
    "LateInteractionReranker",
    "Limits",
    "Metric",
    "MissingDependency",
    "NotACollection",
    "OperatingPoint",
    "Progress",
    "QueryLog",
    "Recipe",
    "RecollectError",
    "RecollectWarning",
    "Record",
    "Records",
    "Reranker",
    "RerankerFailed",
    "SentenceTransformerEmbedder",
    "StorageFailed",
    "UnknownOption",
    "UnsafePickle",
    "UnsupportedFormat",
    "advise",
    "backups",
    "diagnose",
    "field",
    "open",
    "progress_bar",
    "restore",
]
