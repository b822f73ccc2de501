"""The exceptions of Reperio: each says what is wrong, where, and the cure.

An operation that raises one of these has left the collection as it was.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import cast

_OURS = ("reperio", "langchain_reperio", "llama_index.vector_stores.reperio")


class ReperioError(Exception):
    """Base of all errors raised by Reperio on purpose.

    Attributes:
        ids: of an adapter's call that adds many texts: the ids of all of them, made ones included; else empty.
        stored_ids: of these, the ids of the texts that were stored before the call failed.
    """

    ids: Sequence[str] = ()
    stored_ids: Sequence[str] = ()


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
    """A newer version of Reperio wrote the collection, or one of another store, whose files no importer here knows."""


class StorageFailed(CollectionError, OSError):
    """The file system refused: full, read-only, or no permission. ``errno`` is set."""


class ShardBuildFailed(CollectionError):
    """A task that builds shards was lost again and again; what was made is kept, and the same build goes on there."""


class ShardWriteFailed(CollectionError):
    """Some shards have stored their part of a call, and others have not; the same call again completes it.

    Attributes:
        stored_ids: ids whose part is stored, or deleted.
        failed_ids: ids whose part is not.
        failures: the error of each shard that failed, by its name.
    """

    failed_ids: Sequence[str] = ()

    def __init__(self, message: str, failures: Mapping[str, ReperioError] | None = None) -> None:
        super().__init__(message)
        self.failures: dict[str, ReperioError] = dict(failures or {})


class OriginUnavailable(CollectionError):
    """The server of an origin cannot be reached, or does not answer; searches go on, nothing is written."""


class OriginRefused(CollectionError):
    """The server of an origin was reached, and does not let this happen: a password, a permission, a setting."""


class OriginNotFound(CollectionError):
    """The server has no origin of that name."""


class OriginDiverged(CollectionError):
    """Directory and origin have commits that the other one does not have; both are as they were."""


class ShardUnavailable(CollectionError):
    """No replica of a shard has answered within the deadline; the message names the shards, the others are served.

    Attributes:
        shards: names of the shards that did not answer.
    """

    shards: Sequence[str] = ()


class EmbeddingContractError(ReperioError):
    """The embedder's vectors differ from those the collection was built with."""


class EmbedderFailed(ReperioError):
    """A model could not be loaded, or returned something that is no set of vectors."""


class RetryLater(EmbedderFailed):
    """Raised by an embedder that asks to be called again later, as a service does at its rate limit.

    `ingest` waits and calls again; whatever else embeds lets it pass.

    Args:
        message: what happened.
        after: seconds to wait; None where that is not known.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class RerankerFailed(ReperioError):
    """A reranker could not be loaded, raised, or did not give one finite score per candidate."""


class IndexBuildFailed(ReperioError):
    """FAISS refused the index that was asked for."""


class DeviceUnavailable(ReperioError):
    """No graphics card can be used here; the message says why, and how to go on without one."""


class MissingDependency(ReperioError, ImportError):
    """An optional package is not installed; the message holds the pip command."""


class ReperioWarning(UserWarning):
    """An index was damaged, missing or unusable, and is rebuilt; or texts were longer than their model takes."""


def warn_caller(message: str) -> None:
    """Warn, pointing at the line outside this package that the call came from."""
    # By hand, since the `skip_file_prefixes` of `warnings.warn` came with Python 3.12.
    level, frame = 1, cast("FrameType | None", sys._getframe(0))
    while frame is not None and frame.f_globals.get("__name__", "").startswith(tuple(f"{name}." for name in _OURS)):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, ReperioWarning, stacklevel=level)
