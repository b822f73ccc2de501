"""The replicas of each shard: which is asked first, which is left out, and how a lost one is replaced."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, Protocol

from reperio.printable import logger
from reperio.sharding.serving.messages import weight_of
from reperio.sharding.serving.shard import THREADS, Shard

_log = logger("reperio.sharding")
_LOOK = 0.25  # seconds between two looks at the replicas
_ASLEEP = 1.5  # seconds between two looks from which on this process was stopped, or its machine was asleep
_SPAWNING = 1.0  # seconds between two attempts to start one
_OF_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)  # macOS knows of whole processes alone
_HANDING = 0.001  # seconds of a processor up to which an answer costs less than to hand the question to a thread
_READING = 0.004  # seconds that count where the disk was read: several requests to it are waited for at once


class Replica(Protocol):
    """One process, or thread pool, that answers for a shard.

    Attributes:
        name: of the shard and the replica, for messages.
    """

    name: str

    def submit(self, method: str, request: Any) -> Future[Any]:
        """Ask without waiting; an error of Reperio comes back as `Failed`."""

    def is_lost(self, error: BaseException) -> bool:
        """Say whether an error means that nobody answers here, rather than a fault in the answering."""

    def told(self, error: BaseException) -> BaseException:
        """Return what the caller is told of a fault in the answering."""

    def require_inheritable(self) -> None:
        """Raise `CollectionClosed` in a forked child that cannot open the shard again."""

    def close(self) -> None:
        """Give back what it holds; end it, where it is this program's."""

    def kill(self) -> None:
        """End it, though it does not answer."""


class LocalReplica:
    """A shard in this process: in the thread that asks, or in others where an answer takes longer than to hand it over.

    Args:
        name: of the shard.
        shard: opened.
    """

    def __init__(self, name: str, shard: Shard) -> None:
        self.name = name
        self._shard = shard
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"reperio-shard-{name}")
        self._took: dict[Hashable, float] = {}

    def submit(self, method: str, request: Any) -> Future[Any]:
        """Ask, and return when it is answered where answers to questions of the kind have been quick of late."""
        weight = weight_of(request)
        if weight is None:
            return self._threads.submit(self._shard.answer, method, request)
        kind = method, weight
        if self._took.get(kind, _HANDING) >= _HANDING:
            return self._threads.submit(self._timed, kind, method, request)
        answered: Future[Any] = Future()
        try:
            answered.set_result(self._timed(kind, method, request))
        except BaseException as error:
            answered.set_exception(error)
        return answered

    def _timed(self, kind: Hashable, method: str, request: Any) -> Any:
        # Time of the processor, since on the clock a question also waits for those of other threads.
        before = resource.getrusage(_OF_THREAD)
        answer = self._shard.answer(method, request)
        after = resource.getrusage(_OF_THREAD)
        took = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        if after.ru_inblock > before.ru_inblock:
            took += _READING
        known = self._took.get(kind, took)
        self._took[kind] = known + (took - known) / 4
        return answer

    def is_lost(self, error: BaseException) -> bool:  # noqa: ARG002  # a thread cannot be lost
        """Return False."""
        return False

    def told(self, error: BaseException) -> BaseException:
        """Return it as it is: its traceback leads into this process."""
        return error

    def require_inheritable(self) -> None:
        """Raise `CollectionClosed` where the shard was being read when this process was forked."""
        self._shard.require_undisturbed()

    def close(self) -> None:
        """Wait for what is being answered, and release the files."""
        self._threads.shutdown()
        self._shard.close()

    kill = close


class Member:
    """One replica in its group.

    Attributes:
        replica: that is asked.
        lost: nobody answers there any more.
    """

    def __init__(self, replica: Replica, number: int) -> None:
        self.replica = replica
        self.number = number
        self.lost = False
        self.probe: tuple[Future[Any], float] | None = None
        self._lock = threading.Lock()
        self._numbers = count()
        self._began: dict[int, float] = {}

    def ask(self, method: str, request: Any, told: Callable[[Future[Any]], None]) -> None:
        """Ask, and have *told* called with the answer, in another thread."""
        number = next(self._numbers)
        with self._lock:
            self._began[number] = time.monotonic()

        def done(future: Future[Any]) -> None:
            with self._lock:
                self._began.pop(number, None)
            told(future)

        try:
            future = self.replica.submit(method, request)
        except BaseException as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            future = failed
        future.add_done_callback(done)

    def age(self) -> float:
        """Return for how long the oldest question has been waiting for its answer, in seconds; 0 without any."""
        with self._lock:
            return time.monotonic() - min(self._began.values()) if self._began else 0.0

    @property
    def load(self) -> int:
        """Questions that wait for an answer."""
        return len(self._began)


class Group:
    """The replicas of one shard.

    Args:
        name: of the shard.
        replicas: that are open.
        spawn: starts another one in the place of number so-and-so, and returns when it answers; None where none can be.
    """

    def __init__(self, name: str, replicas: Sequence[Replica], spawn: Callable[[int], Replica] | None = None) -> None:
        self.name = name
        self._spawn = spawn
        self._lock = threading.Lock()
        self._turn = count()
        self._spawning: set[int] = set()
        self._closed = False
        self._users = 0
        self._told = ""
        self.members = [Member(replica, number) for number, replica in enumerate(replicas)]
        self.replaced = 0

    def use(self) -> Group:
        """Count one more that uses it, until its `close`."""
        with self._lock:
            self._users += 1
        return self

    def order(self, hedge: float) -> list[Member]:
        """Return the replicas to ask, the best first: those that answer, by load, in turns; late ones last."""
        members, turn = self.members, next(self._turn)
        there = [one for one in members if not one.lost]
        return sorted(
            there,
            key=lambda one: (one.probe is not None, one.age() > hedge, one.load, (one.number + turn) % len(members)),
        )

    def is_well(self, hedge: float) -> bool:
        """Say whether there is a replica that is neither lost nor late."""
        return any(not one.lost and one.probe is None and one.age() <= hedge for one in self.members)

    def may_recover(self) -> bool:
        """Say whether a lost replica is being replaced."""
        return self._spawn is not None

    def look_after(self, hedge: float, frozen: float) -> None:
        """Probe what is late, and replace what is lost or does not even answer a probe within *frozen* seconds."""
        for member in list(self.members):
            if member.lost:
                self._replace(member)
            elif member.probe is not None:
                answer, asked = member.probe
                if answer.done():
                    member.lost = answer.exception() is not None
                    member.probe = None
                elif time.monotonic() - asked > frozen:
                    _log.warning("%s does not answer: it is replaced", member.replica.name)
                    member.lost = True
                    self._replace(member)
            elif member.age() > hedge:
                member.probe = member.replica.submit("ping", None), time.monotonic()

    def forgive(self) -> None:
        """Give late replicas their time for a probe again: this process itself was stopped meanwhile."""
        for member in list(self.members):
            if member.probe is not None:
                member.probe = member.probe[0], time.monotonic()

    def close(self) -> None:
        """Close all replicas, when nobody else uses them."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            self._closed = True
        for member in self.members:
            if member.lost:
                continue
            try:
                member.replica.close()
            except Exception as error:  # of a cluster: the others are closed nevertheless
                _log.warning("%s could not be closed: %s", member.replica.name, error)

    def _replace(self, member: Member) -> None:
        with self._lock:
            if self._spawn is None or self._closed or member.number in self._spawning:
                return
            self._spawning.add(member.number)
        threading.Thread(target=self._start_another, args=(member,), name="reperio-replace", daemon=True).start()

    def _start_another(self, member: Member) -> None:
        assert self._spawn is not None
        try:
            member.replica.kill()
            fresh = Member(self._spawn(member.number), member.number)
        except Exception as error:  # a cluster, a host, a disk: it is tried again
            told, self._told = self._told, f"{type(error).__name__}: {error}"
            if told != self._told:  # else it was told a second ago
                _log.warning("%s cannot be replaced yet: %s", member.replica.name, self._told)
            time.sleep(_SPAWNING)
        else:
            with self._lock:
                self.members = [fresh if one is member else one for one in self.members]
                self.replaced += 1
                closed = self._closed
            _log.info("%s was replaced", fresh.replica.name)
            if closed:
                fresh.replica.close()
        finally:
            with self._lock:
                self._spawning.discard(member.number)


class Keeper:
    """A thread that looks after groups until it is closed.

    Args:
        groups: to look after.
        hedge: seconds after which a replica is late.
        frozen: seconds that a late one has to answer a probe.
    """

    def __init__(self, groups: Sequence[Group], *, hedge: float, frozen: float) -> None:
        self._groups = groups
        self._hedge, self._frozen = hedge, frozen
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="reperio-replicas", daemon=True).start()

    def close(self) -> None:
        """End the thread, soon."""
        self._closed.set()

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._closed.wait(_LOOK):
            before, looked = looked, time.monotonic()
            for group in self._groups:
                try:
                    if looked - before > _ASLEEP:
                        group.forgive()
                    group.look_after(self._hedge, self._frozen)
                except Exception:  # whatever a cluster raises: the thread goes on
                    _log.exception("the replicas of %s could not be looked after", group.name)
