"""Reperio: an embedded retrieval component for LLM applications.

A collection is a directory that keeps chunk text, metadata, vectors and a trained FAISS index together:

    import reperio
    from reperio import Chunk

    with reperio.open("kb") as kb:
        kb.add([Chunk(id="faq-17", text="…", metadata={"lang": "en"})])
        hits = kb.search("how do I reset my password", k=5)

The names below are the public ones. `open` is one of them and is not in ``__all__``: after ``from reperio import *``
a program that opens a file would open a collection instead.
"""

from typing import TYPE_CHECKING, Any

from reperio.collection import BackupInfo, Collection, Records, advise
from reperio.collection import open as open
from reperio.collection.duplicates import Duplicate, DuplicateGroup, DuplicatePair
from reperio.collection.originating import create_origin, origin_status, pull
from reperio.embedding import DEFAULT_EMBEDDER, OnnxEmbedder, SentenceTransformerEmbedder
from reperio.errors import (
    CollectionClosed,
    CollectionDamaged,
    CollectionError,
    CollectionExists,
    CollectionLocked,
    CollectionNotFound,
    CollectionReadOnly,
    DeviceUnavailable,
    EmbedderFailed,
    EmbeddingContractError,
    IndexBuildFailed,
    InvalidChunk,
    InvalidInput,
    InvalidVectors,
    MissingDependency,
    NotACollection,
    OriginDiverged,
    OriginNotFound,
    OriginRefused,
    OriginUnavailable,
    ReperioError,
    ReperioWarning,
    RerankerFailed,
    RetryLater,
    ShardBuildFailed,
    ShardUnavailable,
    ShardWriteFailed,
    StorageFailed,
    UnknownOption,
    UnsupportedFormat,
)
from reperio.filters import Filter, field
from reperio.index import Goal, Recipe
from reperio.progress import progress_bar
from reperio.query_log import QueryLog
from reperio.ranking import CallableReranker, CrossEncoderReranker, LateInteractionReranker
from reperio.recovery import Diagnosis, Finding, backups, diagnose, restore
from reperio.types import (
    AddResult,
    CheckReport,
    Chunk,
    CollectionInfo,
    Dtype,
    Embedder,
    Fusion,
    Hit,
    IndexInfo,
    Lexical,
    Limits,
    Metric,
    Mode,
    OperatingPoint,
    OriginInfo,
    Problem,
    Progress,
    Record,
    Reranker,
)

if TYPE_CHECKING:
    from reperio.evaluation.gate import gate
    from reperio.ingestion import ingest
    from reperio.sharding.building.build import build_shards
    from reperio.sharding.serving.opening import open_shards
    from reperio.sharding.writing import ShardWriter

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
    "DeviceUnavailable",
    "Diagnosis",
    "Dtype",
    "Duplicate",
    "DuplicateGroup",
    "DuplicatePair",
    "Embedder",
    "EmbedderFailed",
    "EmbeddingContractError",
    "Filter",
    "Finding",
    "Fusion",
    "Goal",
    "Hit",
    "IndexBuildFailed",
    "IndexInfo",
    "InvalidChunk",
    "InvalidInput",
    "InvalidVectors",
    "LateInteractionReranker",
    "Lexical",
    "Limits",
    "Metric",
    "MissingDependency",
    "Mode",
    "NotACollection",
    "OnnxEmbedder",
    "OperatingPoint",
    "OriginDiverged",
    "OriginInfo",
    "OriginNotFound",
    "OriginRefused",
    "OriginUnavailable",
    "Problem",
    "Progress",
    "QueryLog",
    "Recipe",
    "Record",
    "Records",
    "ReperioError",
    "ReperioWarning",
    "Reranker",
    "RerankerFailed",
    "RetryLater",
    "SentenceTransformerEmbedder",
    "ShardBuildFailed",
    "ShardUnavailable",
    "ShardWriteFailed",
    "ShardWriter",
    "StorageFailed",
    "UnknownOption",
    "UnsupportedFormat",
    "advise",
    "backups",
    "build_shards",
    "create_origin",
    "diagnose",
    "field",
    "gate",
    "ingest",
    "open_shards",
    "origin_status",
    "progress_bar",
    "pull",
    "restore",
]

_LAZY = {
    "ShardWriter": "reperio.sharding.writing",
    "build_shards": "reperio.sharding.building.build",
    "gate": "reperio.evaluation",
    "ingest": "reperio.ingestion",
    "open_shards": "reperio.sharding.serving.opening",
}


def __getattr__(name: str) -> Any:
    """Import what few programs need only when it is asked for, so that ``import reperio`` stays light."""
    if name not in _LAZY:
        raise AttributeError(f"module 'reperio' has no attribute {name!r}")
    from importlib import import_module

    # Kept, so that the next look-up does not come here.
    found = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
