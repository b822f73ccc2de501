"""Follow the manifest: another fleet for another generation of it, with the replicas that stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from reperio.errors import ReperioError
from reperio.sharding.manifest import ShardEntry, ShardManifest
from reperio.sharding.serving.fleet import Fleet
from reperio.sharding.serving.replicas import Group
from reperio.sharding.serving.router import Router

Result = TypeVar("Result")


def followed(read: Callable[[], ShardManifest], use: Callable[[ShardManifest], Result]) -> Result:
    """Return what *use* returns for the manifest, or for the next one where shards were exchanged meanwhile."""
    while True:
        manifest = read()
        try:
            return use(manifest)
        except ReperioError:
            if read().version == manifest.version:
                raise


def fleet_of(
    manifest: ShardManifest,
    where: str,
    old: Fleet | None,
    group: Callable[[ShardEntry], Group],
    *,
    hedge: float,
    frozen: float = 2.0,
    served: str = "",
) -> Fleet | None:
    """Return the fleet of a manifest, with the replicas that *old* has already; None where *old* is that fleet.

    Args:
        manifest: that names the shards.
        where: the directory or address, for messages.
        old: the fleet in use.
        group: opens the replicas of a shard.
        hedge, frozen: see `Router`.
        served: token of the catalog that serves them.
    """
    if old is not None and (old.served, old.manifest.version) == (served, manifest.version):
        return None
    known: Mapping[str, Group] = {} if old is None else {one.name: one for one in old.router.groups}
    same = old is not None and (old.served, old.manifest.identity) == (served, manifest.identity)
    fresh, groups = list[Group](), list[Group]()
    try:
        for entry in manifest.shards:
            if old is not None and same and entry in old.manifest.shards:
                groups.append(known[entry.name])
            else:
                fresh.append(group(entry))
                groups.append(fresh[-1])
    except BaseException:
        for each in fresh:
            each.use().close()
        raise
    places = {entry.name: place for place, entry in enumerate(manifest.shards)}
    router = Router(groups, hedge=hedge, frozen=frozen)
    return Fleet(router, where, lambda chunk_id: places[manifest.shard_of(chunk_id).name], manifest, served)
