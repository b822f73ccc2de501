"""Serve shards with Ray: actors as replicas, on different hosts, found by name. The only module that imports Ray."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput, ShardUnavailable
from reperio.optional import OptionalImport
from reperio.sharding.manifest import ShardEntry, ShardLayout, ShardManifest, read_manifest
from reperio.sharding.reaching import require_reachable
from reperio.sharding.serving.actors import Catalog, ShardActor, manifest_of
from reperio.sharding.serving.fleet import Fleet
from reperio.sharding.serving.following import fleet_of, followed
from reperio.sharding.serving.replicas import Group, Replica
from reperio.sharding.serving.shard import THREADS
from reperio.types import Limits

NAMESPACE = "reperio"
"""The namespace of Ray in which all of our actors have their names."""

_READY = 60.0  # seconds that a replica has to open its shard
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ADDRESS = re.compile(r"ray://(?:([^/\s]+:[0-9]{1,5})?/)?([^/\s]+)")


def started(
    root: Path, replicas: int, limits: Limits, *, trust_index: bool, hedge: float
) -> Callable[[Fleet | None], Fleet | None]:
    """Return what opens fleets whose actors end with this program."""
    ray = connect(None)

    def opened(old: Fleet | None) -> Fleet | None:
        starter = _Starter(ray, ShardLayout(root), replicas, limits, trust_index)
        return followed(lambda: read_manifest(root), lambda manifest: _fleet(manifest, str(root), old, starter, hedge))

    return opened


def attached(address: str, *, hedge: float) -> Callable[[Fleet | None], Fleet | None]:
    """Return what opens fleets of actors that `serve` keeps under a name."""
    host, name = parse(address)
    ray = connect(host or "auto")

    def opened(old: Fleet | None) -> Fleet | None:
        told: dict[str, Any] = {}

        def read() -> ShardManifest:
            told.update(_ask(ray, _catalog(ray, name), name))
            return manifest_of(told, address)

        def use(manifest: ShardManifest) -> Fleet | None:
            layout = ShardLayout(Path(told["root"]))
            starter = _Starter(ray, layout, told["replicas"], told["limits"], told["trust_index"], name)
            return _fleet(manifest, address, old, starter, hedge)

        return followed(read, use)

    return opened


def serve(
    root: Path, name: str, *, address: str | None, replicas: int, limits: Limits, trust_index: bool = True
) -> list[str]:
    """Keep shards open in a Ray cluster, under a name, until `stop`; return the names of the shards.

    Done again it starts what is missing.

    Raises:
        InvalidInput: another directory is served under the name.
        ShardUnavailable: there is no cluster, or a shard cannot be opened there.
    """
    _require_name(name)
    read_manifest(root)  # errors of the directory are told before anything is started
    ray = connect(address or "auto")
    remote = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Catalog)
    keeping = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    catalog = remote.options(**keeping).remote(str(root), replicas, limits, trust_index, _Ender(name, replicas))
    told = _ask(ray, catalog, name)
    if told["root"] != str(root):
        raise InvalidInput(
            f"{name!r} is the name of what is served from {told['root']}; choose another one, or end that with: "
            f"reperio shards stop {name}"
        )
    starter = _Starter(ray, ShardLayout(root), told["replicas"], told["limits"], told["trust_index"], name)

    def use(manifest: ShardManifest) -> list[str]:
        for group in [starter.group(entry) for entry in manifest.shards]:
            starter.require_ready(group)
        return [entry.name for entry in manifest.shards]

    return followed(lambda: read_manifest(root), use)


def stop(name: str, *, address: str | None) -> None:
    """End what is served under a name.

    Raises:
        ShardUnavailable: nothing is.
    """
    ray = connect(address or "auto")
    catalog = _catalog(ray, name)
    told = _ask(ray, catalog, name)
    manifest = manifest_of(told, name)
    ray.kill(catalog)
    for entry in manifest.shards:
        _Ender(name, told["replicas"])(entry.name)


def connect(address: str | None) -> Any:
    """Return Ray, connected to a cluster.

    Args:
        address: of the cluster; "auto" for the one on this host; None to start one where this program has none.

    Raises:
        MissingDependency: Ray is not installed.
        ShardUnavailable: there is no cluster.
    """
    with OptionalImport("serving shards in a cluster", "Ray", extra="ray", instead="open_shards without serve="):
        import ray
    if not ray.is_initialized():
        try:
            require_reachable(address)
            ray.init(address=address, namespace=NAMESPACE, include_dashboard=None if address else False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ShardUnavailable(
                f"no Ray cluster at {address}: {error!s:.300}; start one with: ray start --head"
            ) from error
    return ray


def parse(address: str) -> tuple[str | None, str]:
    """Return the cluster's HOST:PORT, None for the one on this host, and the name that is served there."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InvalidInput(f"{address!r:.200} is no address of shards; write ray://NAME, or ray://HOST:PORT/NAME")
    _require_name(match[2])
    return match[1], match[2]


class RayReplica:
    """An actor that answers for a shard.

    Args:
        ray: the package.
        name: for messages.
        actor: its handle.
        owned: it ends with the fleet that has started it.
    """

    def __init__(self, ray: Any, name: str, actor: Any, *, owned: bool) -> None:
        self.name = name
        self.actor = actor
        self._ray, self._owned = ray, owned

    def submit(self, method: str, request: Any) -> Future[Any]:
        """Ask the actor."""
        future: Future[Any] = self.actor.answer.remote(method, request).future()
        return future

    def is_lost(self, error: BaseException) -> bool:
        """Say whether the actor, its process or its host is gone, or cannot be reached."""
        known = self._ray.exceptions
        return isinstance(error, known.RayError) and not isinstance(error, known.RayTaskError)

    def close(self) -> None:
        """End the actor, if it is this program's."""
        if self._owned:
            self.kill()

    def kill(self) -> None:
        """End the actor by force, stopped or not."""
        self._ray.kill(self.actor)


class _Starter:
    """Start the actors of shards, or find them by their names.

    Args:
        ray: the package, connected.
        layout: where the shards are.
        replicas: of each shard.
        limits, trust_index: as for `Shard`.
        name: under which they are served; None for actors that end with this program.
    """

    def __init__(
        self,
        ray: Any,
        layout: ShardLayout,
        replicas: int,
        limits: Limits,
        trust_index: bool,
        name: str | None = None,
    ) -> None:
        self._ray, self._layout, self._replicas = ray, layout, replicas
        self._limits, self._trust_index, self._name = limits, trust_index, name
        self._hosts: dict[tuple[str, int], str] = {}

    def group(self, entry: ShardEntry) -> Group:
        """Start the replicas of a shard, and do not wait for them."""
        return Group(
            entry.name,
            [self._start(entry, number) for number in range(self._replicas)],
            lambda number: self._start_and_wait(entry, number),
        )

    def require_ready(self, group: Group) -> None:
        """Wait until a replica answers.

        Raises:
            ShardUnavailable: none does.
        """
        # All are asked at once: one whose host has just died may keep its caller waiting until Ray knows of that.
        waiting = {member.replica.submit("ping", None): member for member in group.members}
        until, why = time.monotonic() + _READY, list[str]()
        while waiting:
            done, _ = wait(waiting, max(0.0, until - time.monotonic()), return_when=FIRST_COMPLETED)
            for future in done or list(waiting):
                member = waiting.pop(future)
                try:
                    future.result(0)
                except Exception as error:  # of Ray, or of the shard as it was opened: the message has it
                    why.append(f"{type(error).__name__}: {error}"[-600:])
                    member.lost = True
                else:
                    return
        unavailable = ShardUnavailable(
            f"no replica of {group.name} could be started; every host of the cluster must see {self._layout.root} "
            f"[{'; '.join(why)}]"
        )
        unavailable.shards = (group.name,)
        raise unavailable

    def _start_and_wait(self, entry: ShardEntry, number: int) -> Replica:
        replica = self._start(entry, number)
        replica.submit("ping", None).result(_READY)
        return replica

    def _start(self, entry: ShardEntry, number: int) -> Replica:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = self._hosts[entry.name, number] = self._host_for(entry.name, number)
        options: dict[str, Any] = {"scheduling_strategy": NodeAffinitySchedulingStrategy(where, soft=True)}
        if self._name is not None:
            options |= {"name": _name_of(self._name, entry.name, number), "namespace": NAMESPACE}
            options |= {"lifetime": "detached", "get_if_exists": True}
        # One place more than it answers questions at a time, so that a probe is answered while all are taken.
        remote = self._ray.remote(num_cpus=0, max_concurrency=THREADS + 1)(ShardActor)
        path = str(self._layout.shard(entry))
        actor = remote.options(**options).remote(path, self._limits, self._trust_index)
        return RayReplica(self._ray, f"{entry.name}/{number}", actor, owned=self._name is None)

    def _host_for(self, shard: str, number: int) -> str:
        """Return the host for a replica: one without another of this shard, of these the one with fewest of ours.

        One that is gone, and not known to be, is no harm: then Ray chooses.
        """
        others = {key: host for key, host in self._hosts.items() if key != (shard, number)}
        taken = {host for key, host in others.items() if key[0] == shard}
        hosts: list[str] = sorted(node["NodeID"] for node in self._ray.nodes() if node["Alive"])
        return min(hosts, key=lambda host: (host in taken, list(others.values()).count(host)))


class _Ender:
    """End the replicas of a shard that is served under a name; Ray brings it into the catalog's process.

    Args:
        name: under which they are served.
        replicas: of each shard.
    """

    def __init__(self, name: str, replicas: int) -> None:
        self._name, self._replicas = name, replicas

    def __call__(self, shard: str) -> None:
        import ray

        for number in range(self._replicas):
            try:
                ray.kill(ray.get_actor(_name_of(self._name, shard, number), namespace=NAMESPACE))
            except ValueError:
                continue  # gone already


def _fleet(manifest: ShardManifest, where: str, old: Fleet | None, starter: _Starter, hedge: float) -> Fleet | None:
    fresh: list[Group] = []

    def group(entry: ShardEntry) -> Group:
        fresh.append(starter.group(entry))
        return fresh[-1]

    fleet = fleet_of(manifest, where, old, group, hedge=hedge)
    try:
        for each in fresh:
            starter.require_ready(each)
    except BaseException:
        if fleet is not None:
            fleet.retire()
        raise
    return fleet


def _catalog(ray: Any, name: str) -> Any:
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise ShardUnavailable(
            f"no shards are served under the name {name!r} in this cluster; serve them with: "
            f"reperio shards serve DIR --name {name}"
        ) from None


def _ask(ray: Any, catalog: Any, name: str) -> Any:
    try:
        return ray.get(catalog.served.remote(), timeout=_READY)
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    except ray.exceptions.RayError as error:
        raise ShardUnavailable(f"the catalog of {name!r} does not answer ({error}); look at its cluster") from error


def _name_of(name: str, shard: str, number: int) -> str:
    return f"{name}/{shard}/{number}"


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r:.120} cannot be a name: letters, digits, '.', '_' and '-', at most 100")
