"""Run in the actors of a Ray cluster: shards, and the catalog of those that are served under a name."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Protocol

from reperio.errors import ReperioError
from reperio.sharding.manifest import ShardManifest, read_manifest
from reperio.sharding.serving.messages import Failed, error_of
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


class Actors(Protocol):
    """The replicas that run under a name."""

    def shards(self) -> set[str]:
        """Return the names of the shards that have any."""
        ...

    def end(self, shard: str) -> None:
        """End those of a shard."""
        ...


class Catalog:
    """Tell clients which shards are served under a name by now.

    Args:
        root: the directory of the sharded collection.
        replicas: of each shard.
        limits: how much one call may ask for.
        trust_index: False: replicas read no index file.
        token: tells this from whatever was served under the name before; the names of its actors have it.
        actors: the replicas that run.
    """

    def __init__(self, root: str, replicas: int, limits: Limits, trust_index: bool, token: str, actors: Actors) -> None:
        self._root = Path(root)
        self._told = {
            "root": root, "replicas": replicas, "limits": limits, "trust_index": trust_index, "token": token
        }  # fmt: skip
        self._actors = actors
        self._names = actors.shards()  # where Ray has started this again: of shards that were exchanged since, too

    def told(self) -> dict[str, Any]:
        """Return how to open the shards."""
        return self._told

    def served(self) -> dict[str, Any]:
        """Return how to open the shards, and the manifest as it is now, as JSON; or why it cannot be read."""
        try:
            manifest = read_manifest(self._root)
        except ReperioError as error:
            return {**self._told, "manifest": Failed(type(error).__name__, str(error))}
        names = {entry.name for entry in manifest.shards}
        for name in self._names - names:
            timer = threading.Timer(_FAREWELL, self._leave, (name,))
            timer.daemon = True
            timer.start()
        self._names = names
        return {**self._told, "manifest": manifest.to_json()}

    def _leave(self, name: str) -> None:
        if name not in self._names:  # a backup that was restored may have brought it back
            self._actors.end(name)


def manifest_of(told: dict[str, Any], where: str) -> ShardManifest:
    """Return the manifest that a catalog has told of."""
    if isinstance(told["manifest"], Failed):
        raise error_of(told["manifest"])
    return ShardManifest.from_json(told["manifest"], where)
