"""A Ray cluster of several hosts on this machine, and signals to the processes of ours in it."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import Self

from reperio import Collection, Hit, ReperioError

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "OMP_NUM_THREADS": "1",
}
_MEMORY = 80 << 20  # of each object store


@contextmanager
def a_cluster(folder: Path, hosts: int) -> Iterator[Any]:
    """Run a cluster of a head and so many other hosts, each with processes of its own; connect this process to it."""
    given = {**_SETTINGS, "RAY_TMPDIR": str(folder)}
    (folder / "ray").mkdir()
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own making
        import ray
        from ray.cluster_utils import Cluster

        common = {"num_cpus": 1, "object_store_memory": _MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=common)
        try:
            # Before there are others: a client dies with the host that it is connected to.
            ray.init(address=cluster.address, namespace="reperio", log_to_driver=False, logging_level="ERROR")
            for _ in range(hosts):
                cluster.add_node(num_cpus=1, object_store_memory=_MEMORY)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def members(kb: Any) -> dict[str, list[Any]]:
    """Return the replicas of each shard as the router of *kb* has them now."""
    groups = kb._shards.fleet().router.groups
    return {group.name: [one for one in group.members if not one.lost] for group in groups}


def process_of(member: Any) -> int:
    """Return the process of a replica."""
    return int(member.replica.submit("process", None).result(30))


def send(process: int, number: signal.Signals) -> None:
    """Signal a process, after the proof that it descends from this one."""
    parent = process
    while parent != os.getpid():
        assert parent > 1, f"{process} is not of this test"
        parent = _parent_of(parent)
    os.kill(process, number)


def host_of_a_replica(cluster: Any, kb: Any) -> Any:
    """Return a host other than the head on which a replica of *kb* runs; on a busy machine it may be being replaced."""
    found: list[Any] = []

    def look() -> bool:
        ours = {_parent_of(process_of(member)) for each in members(kb).values() for member in each}
        found[:] = [host for host in cluster.worker_nodes if host.all_processes["raylet"][0].process.pid in ours]
        return bool(found)

    wait_until(look, "a replica on a host other than the head")
    return found[0]


def shared_host(cluster: Any, kb: Any) -> bool:
    """Say whether losing a host would lose every replica of a shard, or none."""
    theirs = {host.all_processes["raylet"][0].process.pid for host in cluster.worker_nodes}
    each = [[_parent_of(process_of(member)) in theirs for member in some] for some in members(kb).values()]
    return any(all(some) for some in each) or not any(any(some) for some in each)


def _parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def wait_until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for something that must come."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, f"in {seconds} s: not {what}"
        time.sleep(0.1)


@dataclass
class Traffic:
    """Clients that ask questions whose answers are known, until the block ends.

    Attributes:
        answered: questions that were answered rightly.
        wrong, failed: what was not, in words.
        worst: longest time for an answer, in seconds.
    """

    kb: Collection
    questions: Sequence[tuple[dict[str, Any], list[Hit]]]
    clients: int = 8
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    worst: float = 0.0

    def __enter__(self) -> Self:
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, answers: int) -> None:
        """Wait until so many more were answered."""
        wanted = self.answered + answers
        wait_until(lambda: self.answered >= wanted or bool(self.failed), f"{wanted} answers")

    def _ask(self, number: int) -> None:
        while not self._stop.is_set():
            options, expected = self.questions[number % len(self.questions)]
            number += 1
            begun = time.monotonic()
            try:
                found = self.kb.search(**options)
            except ReperioError as error:
                with self._lock:
                    self.failed.append(f"{type(error).__name__}: {error}")
                continue
            with self._lock:
                self.worst = max(self.worst, time.monotonic() - begun)
                if found == expected:
                    self.answered += 1
                else:
                    self.wrong.append(f"{options}: {found} instead of {expected}")
