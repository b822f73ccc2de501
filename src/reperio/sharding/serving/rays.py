"""Serve shards with Ray: actors as replicas, on different hosts, found by name. The only module that imports Ray."""

from __future__ import annotations

import logging
import re
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from reperio.errors import CollectionClosed, CollectionError, InvalidInput, ReperioError, ShardUnavailable
from reperio.optional import OptionalImport
from reperio.printable import one_line
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
            told.update(_ask(ray, name, "served"))
            return manifest_of(told, address)

        def use(manifest: ShardManifest) -> Fleet | None:
            layout = ShardLayout(Path(told["root"]))
            served = Served(name, told["token"])
            starter = _Starter(ray, layout, told["replicas"], told["limits"], told["trust_index"], served)
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
    told = _ask(ray, name, "told")
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
    starter = _Starter(ray, ShardLayout(root), replicas, told["limits"], told["trust_index"], served)

    def use(manifest: ShardManifest) -> list[str]:
        for group in [starter.group(entry) for entry in manifest.shards]:
            starter.require_ready(group)
        return [entry.name for entry in manifest.shards]

    try:
        return followed(lambda: read_manifest(root), use)
    except BaseException:
        if told["token"] == token:
            _end(ray, name)
        raise


def stop(name: str, *, address: str | None) -> None:
    """End what is served under a name, whatever has become of its directory.

    Raises:
        ShardUnavailable: nothing is.
    """
    _require_name(name)
    ray = connect(address or "auto")
    if not _end(ray, name):
        _catalog(ray, name)  # raises


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
            ray.init(
                address=address,
                namespace=NAMESPACE,
                include_dashboard=None if address else False,
                logging_level=logging.WARNING,  # else it tells of each connection
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ShardUnavailable(
                f"no Ray cluster{f' at {address}' if address not in (None, 'auto') else ''}: {error!s:.300}; start one "
                "with: ray start --head"
            ) from error
    elif address not in (None, "auto"):
        _require_connected(ray, str(address))
    return ray


def _require_connected(ray: Any, address: str) -> None:
    """Refuse the address of another cluster than this program is connected to: Ray allows one at a time."""
    found = ray.get_runtime_context().gcs_address
    (host, port), (own, own_port) = address.rsplit(":", 1), found.rsplit(":", 1)
    if int(port) != int(own_port) or not _addresses(host) & _addresses(own):
        raise InvalidInput(
            f"this program is connected to the Ray cluster at {found}, and can have one at a time, not {address} as "
            "well; name that one, or call ray.shutdown() first"
        )


def _addresses(host: str) -> set[str]:
    """Return the addresses of a host, which may be this one by any of its names."""
    import ray

    bare = host.strip("[]")
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(bare, None)}
    except OSError:
        found = {bare}
    here = {"127.0.0.1", "::1", ray.util.get_node_ip_address()}
    return found | here if found & here else found


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
        self._job = _job(ray)

    def submit(self, method: str, request: Any) -> Future[Any]:
        """Ask the actor."""
        _require_job(self._ray, self._job)
        future: Future[Any] = self.actor.answer.remote(method, request).future()
        return future

    def is_lost(self, error: BaseException) -> bool:
        """Say whether the actor, its process or its host is gone, or cannot be reached."""
        known = self._ray.exceptions
        return isinstance(error, known.RayError) and not isinstance(error, known.RayTaskError)

    def told(self, error: BaseException) -> BaseException:
        """Return an error of ours; what was raised in the actor has Ray's traceback in its message."""
        if isinstance(error, ReperioError) or not isinstance(error, Exception):
            return error  # not of Ray; Ctrl-C, for example
        last = (str(error).strip().splitlines() or [""])[-1]  # before it comes the traceback, which is in the cause
        raised = CollectionError(
            f"{self.name} has failed ({one_line(last):.600}); if another version of Reperio runs there, end what it "
            "serves and serve it again"
        )
        raised.__cause__ = error
        return raised

    def require_inheritable(self) -> None:
        """Raise `CollectionClosed`: what connects a process to Ray does not survive a fork."""
        raise CollectionClosed(
            f"{self.name} was opened through Ray by the process that forked this one, and a forked child has no "
            'connection to Ray; open it before that in a process of its own (start method "spawn"), or again here'
        )

    def close(self) -> None:
        """End the actor, if it is this program's."""
        if self._owned:
            self.kill()

    def kill(self) -> None:
        """End the actor by force, stopped or not."""
        if _job(self._ray) == self._job:  # else it has ended with it, or is not this program's
            self._ray.kill(self.actor)


def _job(ray: Any) -> str | None:
    """Return what tells this program's connection to a cluster from a later one; None without one."""
    return str(ray.get_runtime_context().get_job_id()) if ray.is_initialized() else None


def _require_job(ray: Any, job: str | None) -> None:
    # Ray itself would connect again, or start another cluster.
    if job is None or _job(ray) != job:
        raise ShardUnavailable(
            "this program has ended its connection to Ray since (ray.shutdown()); open the shards again"
        )


class _Starter:
    """Start the actors of shards, or find them by their names.

    Args:
        ray: the package, connected.
        layout: where the shards are.
        replicas: of each shard.
        limits, trust_index: as for `Shard`.
        served: what they belong to; None for actors that end with this program.
    """

    def __init__(
        self,
        ray: Any,
        layout: ShardLayout,
        replicas: int,
        limits: Limits,
        trust_index: bool,
        served: Served | None = None,
    ) -> None:
        self._ray, self._layout, self._replicas = ray, layout, replicas
        self._limits, self._trust_index, self._served = limits, trust_index, served
        self._hosts: dict[tuple[str, int], str] = {}
        self._job = _job(ray)

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
        if self._served is not None:
            self._served.require_current(self._ray)
        replica = self._start(entry, number)
        replica.submit("ping", None).result(_READY)
        if self._served is not None:
            self._served.require_current(self._ray)  # else what was started since `stop` has looked would run on
        return replica

    def _start(self, entry: ShardEntry, number: int) -> Replica:
        _require_job(self._ray, self._job)
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = self._hosts[entry.name, number] = self._host_for(entry.name, number)
        options: dict[str, Any] = {"scheduling_strategy": NodeAffinitySchedulingStrategy(where, soft=True)}
        if self._served is not None:
            options |= {"name": self._served.name_of(entry.name, number), "namespace": NAMESPACE}
            options |= {"lifetime": "detached", "get_if_exists": True}
        # One place more than it answers questions at a time, so that a probe is answered while all are taken.
        remote = self._ray.remote(num_cpus=0, max_concurrency=THREADS + 1)(ShardActor)
        path = str(self._layout.shard(entry))
        actor = remote.options(**options).remote(path, self._limits, self._trust_index)
        return RayReplica(self._ray, f"{entry.name}/{number}", actor, owned=self._served is None)

    def _host_for(self, shard: str, number: int) -> str:
        """Return the host for a replica: one without another of this shard, of these the one with fewest of ours.

        One that is gone, and not known to be, is no harm: then Ray chooses.
        """
        others = {key: host for key, host in self._hosts.items() if key != (shard, number)}
        taken = {host for key, host in others.items() if key[0] == shard}
        hosts: list[str] = sorted(node["NodeID"] for node in self._ray.nodes() if node["Alive"])
        return min(hosts, key=lambda host: (host in taken, list(others.values()).count(host)))


class Served:
    """What is served under a name, from `serve` to `stop`; Ray brings it into the catalog's process.

    Args:
        name: of the catalog.
        token: of the catalog. What is served later under the same name has another one, and other actors: a client that
            has slept through the exchange starts none that others take for the new ones.
    """

    def __init__(self, name: str, token: str) -> None:
        self._name, self._token = name, token

    def name_of(self, shard: str, number: int) -> str:
        """Return the name of an actor."""
        return f"{self._name}/{self._token}/{shard}/{number}"

    def shards(self) -> set[str]:
        """Return the names of the shards that have actors."""
        return {name.split("/")[2] for name in _names(f"{self._name}/{self._token}/")}

    def end(self, shard: str) -> None:
        """End the actors of a shard."""
        import ray

        _kill(ray, _names(f"{self._name}/{self._token}/{shard}/"))

    def require_current(self, ray: Any) -> None:
        """Raise `ShardUnavailable` where it was ended; what a client has started since goes with it."""
        try:
            if _ask(ray, self._name, "told")["token"] == self._token:
                return
        except ShardUnavailable:
            if _is_there(ray, self._name):
                raise  # it does not answer
        _kill(ray, _names(f"{self._name}/{self._token}/"))
        raise _not_served(self._name)


def _names(prefix: str) -> list[str]:
    """Return the names of our actors that begin with a prefix."""
    from ray.util import list_named_actors

    each = list_named_actors(all_namespaces=True)
    return [one["name"] for one in each if one["namespace"] == NAMESPACE and one["name"].startswith(prefix)]


def _kill(ray: Any, names: list[str]) -> None:
    for name in names:
        try:
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))
        except ValueError:
            continue  # gone already


def _end(ray: Any, name: str) -> bool:
    """End the catalog of a name, and all actors; say whether there was anything."""
    # The catalog first: a client that starts an actor looks afterwards whether the catalog is still there.
    names = [*([name] if _is_there(ray, name) else []), *_names(f"{name}/")]
    _kill(ray, names)
    _kill(ray, _names(f"{name}/"))
    return bool(names)


def _fleet(
    manifest: ShardManifest, where: str, old: Fleet | None, starter: _Starter, hedge: float, served: str = ""
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


def _is_there(ray: Any, name: str) -> bool:
    try:
        ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return False
    return True


def _catalog(ray: Any, name: str) -> Any:
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise _not_served(name) from None


def _not_served(name: str) -> ShardUnavailable:
    return ShardUnavailable(
        f"no shards are served under the name {name!r} in this cluster; serve them with: "
        f"reperio shards serve DIR --name {name}"
    )


def _ask(ray: Any, name: str, method: str) -> Any:
    """Ask the catalog of a name."""
    catalog = _catalog(ray, name)
    try:
        return ray.get(getattr(catalog, method).remote(), timeout=_READY)
    except (AttributeError, ray.exceptions.RayTaskError) as error:
        raise ReperioError(
            f"the catalog of {name!r} is of another version of Reperio ({error!s:.300}); end it with: "
            f"reperio shards stop {name}"
        ) from error
    except ray.exceptions.RayError as error:
        raise ShardUnavailable(f"the catalog of {name!r} does not answer ({error}); look at its cluster") from error


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r:.120} cannot be a name: letters, digits, '.', '_' and '-', at most 100")
