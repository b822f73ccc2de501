"""Open shards to search them: in threads of this process, or served by Ray."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from typing_extensions import Never

from reperio.arguments import refuse_unknown, require_count, require_flag, require_limits, require_seconds, to_path
from reperio.collection.handle.scope import Scope, Where
from reperio.errors import InvalidInput
from reperio.query_log.recording import QueryLog, QueryRecorder
from reperio.sharding.manifest import MANIFEST, ShardEntry, ShardLayout, read_manifest
from reperio.sharding.serving.asking import FollowingEmbedder
from reperio.sharding.serving.collection import ShardedCollection
from reperio.sharding.serving.fleet import Fleet
from reperio.sharding.serving.following import fleet_of, followed
from reperio.sharding.serving.handle import ShardsHandle
from reperio.sharding.serving.replicas import Group, LocalReplica
from reperio.sharding.serving.shard import Shard
from reperio.types import Embedder, Limits

RAY = "ray://"


def open_shards(
    path: str | os.PathLike[str],
    *,
    serve: Literal["ray"] | None = None,
    replicas: int = 2,
    embedder: Embedder | str | None = None,
    scope: Where = None,
    deadline: float = 10.0,
    hedge: float = 0.25,
    allow_partial: bool = False,
    trust_index: bool = True,
    limits: Limits | None = None,
    query_log: QueryLog | str | os.PathLike[str] | None = None,
    **unknown: Never,
) -> ShardedCollection:
    """Open shards to search them as one collection.

    Args:
        path: the directory that has ``shards.json``; or ``ray://NAME``, or ``ray://HOST:PORT/NAME``, for shards that
            ``reperio shards serve`` keeps open in a Ray cluster.
        serve: None opens the shards in threads of this process. "ray" starts actors for them in the Ray cluster that
            this program is connected to, or else in a new one on this host; they end with this program, or when it
            closes the shards. Every host of the cluster must see the directory at this path.
        replicas: actors for each shard, on different hosts as far as there are several.
        embedder: as for `open`; by default the recorded one is loaded when a question must first be embedded.
        scope: a filter that everything done through this is confined to, as for `open`.
        deadline: seconds for one call; then `ShardUnavailable`.
        hedge: seconds after which another replica of a shard is asked the same.
        allow_partial: answer a search though shards have not answered until the deadline. Such an answer is a
            `PartialHits`, whose ``missing`` names them, and a `ReperioWarning` tells of it. `get`, `ids`, `count` and
            the like are never partial.
        trust_index: False: read no index file, as for `open`; every search is exact.
        limits: how much one call may ask for.
        query_log: keep what is asked by text, as for `open`.

    Raises:
        CollectionNotFound, NotACollection, CollectionDamaged, UnsupportedFormat, StorageFailed: what is at the path
            cannot be used.
        ShardUnavailable: a shard does not answer, or nothing is served under the name.
        EmbeddingContractError: the shards, or the embedder, are not of one model.
        MissingDependency: Ray is not installed.
    """
    refuse_unknown(open_shards, unknown)
    require_flag("allow_partial", allow_partial)
    require_flag("trust_index", trust_index)
    require_count("replicas", replicas)
    if serve not in (None, "ray"):
        raise InvalidInput(f"serve is {serve!r:.60}; choose 'ray', or None for this process")
    allowed = require_limits(limits)
    confined = Scope(scope)
    wait, patience = require_seconds("hedge", hedge), require_seconds("deadline", deadline)
    log = query_log if query_log is None or isinstance(query_log, QueryLog) else QueryLog(query_log)
    opened = _Opening(allowed, trust_index, wait)
    served = isinstance(path, str) and path.startswith(RAY)
    if served or serve == "ray":
        from reperio.sharding.serving.cluster.serving import attached, started

        start: Callable[[Fleet | None], Fleet | None]
        if served:
            name, start = str(path), attached(str(path), hedge=wait)
        else:
            root = _root(path)
            name, start = str(root), started(root, replicas, allowed, trust_index=trust_index, hedge=wait)
    else:
        root = _root(path)
        name, start = str(root), lambda old: opened.fleet(root, old)
    handle = ShardsHandle(
        start,
        name,
        scope=confined,
        limits=allowed,
        deadline=patience,
        signature=None if served else lambda: _signature(Path(name)),
        ahead=served or serve == "ray",
    )
    with ExitStack() as undo:
        undo.callback(handle.close)
        lazy = FollowingEmbedder(embedder, name)
        if embedder is not None:
            lazy.get(handle.settings())
        recorder = None if log is None else QueryRecorder(log)
        undo.pop_all()
    return ShardedCollection(handle, lazy, recorder, allow_partial=allow_partial)


def _signature(root: Path) -> object:
    """Return what changes when the manifest is replaced; None where it cannot be looked at."""
    try:
        status = (root / MANIFEST).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _root(path: str | os.PathLike[str]) -> Path:
    return to_path("path", path).absolute()


class _Opening:
    """Open fleets in this process."""

    def __init__(self, limits: Limits, trust_index: bool, hedge: float) -> None:
        self._limits, self._trust_index, self._hedge = limits, trust_index, hedge

    def fleet(self, root: Path, old: Fleet | None) -> Fleet | None:
        """Open what the manifest names and *old* has not; None where *old* is of this manifest."""
        layout = ShardLayout(root)

        def group(entry: ShardEntry) -> Group:
            shard = Shard(layout.shard(entry), limits=self._limits, trust_index=self._trust_index)
            return Group(entry.name, [LocalReplica(entry.name, shard)])

        return followed(
            lambda: read_manifest(root),
            lambda manifest: fleet_of(manifest, str(root), old, group, hedge=self._hedge),
        )
