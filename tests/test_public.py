"""The public names of the package: what there is, what is loaded when, and what a star import leaves alone."""

from __future__ import annotations

import builtins
import subprocess
import sys

import reperio

NAMES = [
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
    "DEFAULT_EMBEDDER",
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


def test_the_public_names_are_these() -> None:
    """A name comes or goes on purpose, here and in the changelog."""
    assert sorted(reperio.__all__) == NAMES
    for name in [*NAMES, "open"]:
        assert getattr(reperio, name) is not None
        assert name in dir(reperio)


def test_a_star_import_leaves_the_builtin_open_alone() -> None:
    """Or a program that opens a file would create a collection."""
    space: dict[str, object] = {}
    exec("from reperio import *", space)
    assert space.get("open", builtins.open) is builtins.open
    assert space["Chunk"] is reperio.Chunk


def test_the_gate_and_ingestion_are_loaded_when_they_are_asked_for() -> None:
    """Importing the package must not cost what few programs need."""
    code = (
        "import sys, reperio\n"
        "def loaded(name): return any(each.startswith(name) for each in sys.modules)\n"
        "assert not loaded('reperio.evaluation') and not loaded('reperio.ingestion') and not loaded('pydantic')\n"
        "assert callable(reperio.ingest) and loaded('reperio.ingestion') and not loaded('reperio.evaluation')\n"
        "assert callable(reperio.gate) and reperio.gate is reperio.gate\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    """As of any module."""
    assert not hasattr(reperio, "UnsafePickle")
    assert not hasattr(reperio, "opne")
