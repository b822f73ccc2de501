"""What runs in the actors of a Ray cluster: shards, and the catalog of what is served under a name."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reperio.sharding.manifest import ShardManifest, read_manifest
from reperio.sharding.serving.shard import Shard
from reperio.types import Limits

_FAREWELL = 60.0  # seconds until the actors of shards that were exchanged end: routers know of it by then


class ShardActor:
    """One replica of a shard.

    Args:
        path: the directory of the shard, as this host sees it.
        limits: how much one call may ask for.
        trust_index: False: read no index file.
    """

    def __init__(self, path: str, limits: Limits, trust_index: bool) -> None:
        self._shard = Shard(path, limits=limits, trust_index=trust_index)

    def answer(self, method: str, request: Any) -> Any:
        """Answer a router: see `Shard.answer`."""
        return os.getpid() if method == "process" else self._shard.answer(method, request)


class Catalog:
    """What is served under a name: clients learn from it which shards there are by now.

    Args:
        root: the directory of the sharded collection.
        replicas: of each shard.
        limits: how much one call may ask for.
        trust_index: False: replicas read no index file.
        end: ends the replicas of a shard, by its name.
    """

    def __init__(self, root: str, replicas: int, limits: Limits, trust_index: bool, end: Callable[[str], None]) -> None:
        self._root = Path(root)
        self._told = {"root": root, "replicas": replicas, "limits": limits, "trust_index": trust_index}
        self._end = end
        self._names: set[str] = set()

    def served(self) -> dict[str, Any]:
        """Return how to open the shards, and the manifest as it is now, as JSON."""
        manifest = read_manifest(self._root)
        names = {entry.name for entry in manifest.shards}
        for name in self._names - names:
            timer = threading.Timer(_FAREWELL, self._end, (name,))
            timer.daemon = True
            timer.start()
        self._names = names
        return {**self._told, "manifest": manifest.to_json()}


def manifest_of(told: dict[str, Any], where: str) -> ShardManifest:
    """Return the manifest that a catalog has told of."""
    return ShardManifest.from_json(told["manifest"], where)
