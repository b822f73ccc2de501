"""Serve shards with Ray: for one program, or under a name for many."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput
from reperio.sharding.manifest import ShardEntry, ShardLayout, ShardManifest, read_manifest
from reperio.sharding.serving.cluster.actors import Catalog, manifest_of
from reperio.sharding.serving.cluster.connecting import NAMESPACE, connect
from reperio.sharding.serving.cluster.served import Served, ask, end, require_served
from reperio.sharding.serving.cluster.starting import Starter
from reperio.sharding.serving.fleet import Fleet
from reperio.sharding.serving.following import fleet_of, followed
from reperio.sharding.serving.replicas import Group
from reperio.types import Limits

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ADDRESS = re.compile(r"ray://(?:([^/\s]+:[0-9]{1,5})?/)?([^/\s]+)")


def started(
    root: Path, replicas: int, limits: Limits, *, trust_index: bool, hedge: float
) -> Callable[[Fleet | None], Fleet | None]:
    """Return what opens fleets whose actors end with this program."""
    ray = connect(None)

    def opened(old: Fleet | None) -> Fleet | None:
        starter = Starter(ray, ShardLayout(root), replicas, limits, trust_index)
        return followed(lambda: read_manifest(root), lambda manifest: _fleet(manifest, str(root), old, starter, hedge))

    return opened


def attached(address: str, *, hedge: float) -> Callable[[Fleet | None], Fleet | None]:
    """Return what opens fleets of actors that `serve` keeps under a name."""
    host, name = parse(address)
    ray = connect(host or "auto")

    def opened(old: Fleet | None) -> Fleet | None:
        told: dict[str, Any] = {}

        def read() -> ShardManifest:
            told.update(ask(ray, name, "served"))
            return manifest_of(told, address)

        def use(manifest: ShardManifest) -> Fleet | None:
            layout = ShardLayout(Path(told["root"]))
            served = Served(name, told["token"])
            starter = Starter(ray, layout, told["replicas"], told["limits"], told["trust_index"], served)
            fleet = _fleet(manifest, address, old, starter, hedge, told["token"])
            try:
                served.require_current(ray)
            except BaseException:
                if fleet is not None:
                    fleet.retire()
                raise
            return fleet

        return followed(read, use)

    return opened


def serve(
    root: Path, name: str, *, address: str | None, replicas: int, limits: Limits, trust_index: bool = True
) -> list[str]:
    """Keep shards open in a Ray cluster, under a name, until `stop`; return the names of the shards.

    Done again it starts what is missing. Where that fails for the first time, nothing is left running.

    Raises:
        InvalidInput: another directory is served under the name, or this one with another number of replicas.
        ShardUnavailable: there is no cluster, or a shard cannot be opened there.
    """
    _require_name(name)
    read_manifest(root)  # errors of the directory are told before anything is started
    ray = connect(address or "auto")
    remote = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Catalog)
    keeping = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    token = secrets.token_hex(4)
    remote.options(**keeping).remote(str(root), replicas, limits, trust_index, token, Served(name, token))
    told = ask(ray, name, "told")
    if told["root"] != str(root):
        raise InvalidInput(
            f"{name!r} is the name of what is served from {told['root']}; choose another one, or end that with: "
            f"reperio shards stop {name}"
        )
    if told["replicas"] != replicas:
        raise InvalidInput(
            f"{name!r} is served with {told['replicas']} replicas of each shard, not with {replicas}; ask for as many, "
            f"or end it first with: reperio shards stop {name}"
        )
    served = Served(name, told["token"])
    starter = Starter(ray, ShardLayout(root), replicas, told["limits"], told["trust_index"], served)

    def use(manifest: ShardManifest) -> list[str]:
        for group in [starter.group(entry) for entry in manifest.shards]:
            starter.require_ready(group)
        return [entry.name for entry in manifest.shards]

    try:
        return followed(lambda: read_manifest(root), use)
    except BaseException:
        if told["token"] == token:
            end(ray, name)
        raise


def stop(name: str, *, address: str | None) -> None:
    """End what is served under a name, whatever has become of its directory.

    Raises:
        ShardUnavailable: nothing is.
    """
    _require_name(name)
    ray = connect(address or "auto")
    if not end(ray, name):
        require_served(ray, name)


def parse(address: str) -> tuple[str | None, str]:
    """Return the cluster's HOST:PORT, None for the one on this host, and the name that is served there."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InvalidInput(f"{address!r:.200} is no address of shards; write ray://NAME, or ray://HOST:PORT/NAME")
    _require_name(match[2])
    return match[1], match[2]


def _fleet(
    manifest: ShardManifest, where: str, old: Fleet | None, starter: Starter, hedge: float, served: str = ""
) -> Fleet | None:
    fresh: list[Group] = []

    def group(entry: ShardEntry) -> Group:
        fresh.append(starter.group(entry))
        return fresh[-1]

    fleet = fleet_of(manifest, where, old, group, hedge=hedge, served=served)
    try:
        for each in fresh:
            starter.require_ready(each)
    except BaseException:
        if fleet is not None:
            fleet.retire()
        raise
    return fleet


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r:.120} cannot be a name: letters, digits, '.', '_' and '-', at most 100")
