"""Start actors as the replicas of shards, on different hosts, or find them by their names."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from reperio.errors import CollectionClosed, CollectionError, ReperioError, ShardUnavailable
from reperio.printable import one_line
from reperio.sharding.manifest import ShardEntry, ShardLayout
from reperio.sharding.serving.cluster.actors import ShardActor
from reperio.sharding.serving.cluster.connecting import NAMESPACE, READY, job_of, require_job
from reperio.sharding.serving.cluster.served import Served
from reperio.sharding.serving.replicas import Group, Replica
from reperio.sharding.serving.shard import THREADS
from reperio.types import Limits


class Starter:
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
        self._job = job_of(ray)

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
        until, why = time.monotonic() + READY, list[str]()
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
        replica.submit("ping", None).result(READY)
        if self._served is not None:
            self._served.require_current(self._ray)  # else what was started since `stop` has looked would run on
        return replica

    def _start(self, entry: ShardEntry, number: int) -> Replica:
        require_job(self._ray, self._job)
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
        self._job = job_of(ray)

    def submit(self, method: str, request: Any) -> Future[Any]:
        """Ask the actor."""
        require_job(self._ray, self._job)
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
        if job_of(self._ray) == self._job:  # else it has ended with it, or is not this program's
            self._ray.kill(self.actor)
