"""The exceptions of Reperio: each says what is wrong, where, and the cure.

An operation that raises one of these has left the collection as it was.

::

    ReperioError
    ├── InvalidInput (also ValueError)
    │   ├── InvalidChunk            an id, text or metadata that cannot be stored
    │   ├── InvalidVectors          wrong shape or dtype, NaN, Inf, zero vector, out of range
    │   ├── UnsafePickle            a file to be imported holds more than documents and plain data
    │   └── UnknownOption           (also TypeError) a misspelt option; names the nearest real one
    ├── CollectionError
    │   ├── CollectionNotFound      nothing at that path
    │   ├── NotACollection          something else is at that path
    │   ├── CollectionExists        a backup's destination is taken
    │   ├── CollectionLocked        others were writing for longer than lock_timeout; names the holder
    │   ├── CollectionReadOnly      a write through a read-only handle
    │   ├── CollectionClosed        used after close(), in a forked child, or when its directory was replaced
    │   ├── CollectionDamaged       what is on disk cannot be trusted
    │   ├── UnsupportedFormat       written by a newer Reperio
    │   └── StorageFailed           (also OSError) disk full, no permission, read-only file system
    ├── EmbeddingContractError      the embedder is not the one the vectors were made with
    ├── EmbedderFailed              a model cannot be loaded, or returns something unusable
    ├── RerankerFailed              a reranker raised, or gave no finite score for a candidate
    ├── IndexBuildFailed            FAISS refuses the index that was asked for
    └── MissingDependency           (also ImportError) prints the pip command

    ReperioWarning (UserWarning)  an index was rebuilt or could not be used; texts were cut before they were embedded
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import cast

_OURS = ("reperio", "langchain_reperio", "llama_index.vector_stores.reperio")


class ReperioError(Exception):
    """Base of all errors raised by Reperio on purpose."""


class InvalidInput(ReperioError, ValueError):
    """An argument that cannot be used; nothing was written."""


class InvalidChunk(InvalidInput):
    """An id, text or metadata that cannot be stored; the message names the chunk."""


class InvalidVectors(InvalidInput):
    """Vectors of a wrong shape, dtype or value; the message names the row."""


class UnsafePickle(InvalidInput):
    """A pickle to be imported holds more than documents; it was not executed, the message names what it holds."""


class UnknownOption(InvalidInput, TypeError):
    """An option that does not exist; the message names the nearest one that does."""


class CollectionError(ReperioError):
    """Something about the directory that holds the collection."""


class CollectionNotFound(CollectionError):
    """There is nothing at the path."""


class NotACollection(CollectionError):
    """The path exists and is something else."""


class CollectionExists(CollectionError):
    """The destination is already in use."""


class CollectionLocked(CollectionError):
    """Another process has its turn, or a build, for longer than this one waits; the message names that process."""


class CollectionReadOnly(CollectionError):
    """A write was asked of a handle opened with ``read_only=True``."""


class CollectionClosed(CollectionError):
    """The handle was closed, belongs to the parent of a forked process, or has lost its directory: open it again."""


class CollectionDamaged(CollectionError):
    """Files are missing, truncated or inconsistent; restore from a backup."""


class UnsupportedFormat(CollectionError):
    """The collection was written by a newer version of Reperio."""


class StorageFailed(CollectionError, OSError):
    """The file system refused: full, read-only, or no permission. ``errno`` is set."""


class EmbeddingContractError(ReperioError):
    """The embedder's vectors differ from those the collection was built with."""


class EmbedderFailed(ReperioError):
    """A model could not be loaded, or returned something that is no set of vectors."""


class RerankerFailed(ReperioError):
    """A reranker could not be loaded, raised, or did not give one finite score per candidate."""


class IndexBuildFailed(ReperioError):
    """FAISS refused the index that was asked for."""


class MissingDependency(ReperioError, ImportError):
    """An optional package is not installed; the message holds the pip command."""


class ReperioWarning(UserWarning):
    """An index was damaged, missing or unusable, and is rebuilt; or texts were longer than their model takes."""


def warn_caller(message: str) -> None:
    """Warn, pointing at the line outside this package that the call came from."""
    level, frame = 1, cast("FrameType | None", sys._getframe(0))
    while frame is not None and frame.f_globals.get("__name__", "").startswith(tuple(f"{name}." for name in _OURS)):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, ReperioWarning, stacklevel=level)
