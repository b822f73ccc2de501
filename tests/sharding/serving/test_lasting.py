"""A handle of shards lasts: it is closed under questions, survives forks and restores, and keeps to its deadline."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import (
    Chunk,
    CollectionClosed,
    CollectionDamaged,
    EmbeddingContractError,
    ReperioWarning,
    ShardUnavailable,
)
from reperio.index.exact.crowd import Crowd
from reperio.sharding.serving.collection import ShardedCollection
from reperio.sharding.serving.fleet import Fleet
from reperio.sharding.serving.replicas import Group
from tests.sharding.serving.cluster import wait_until
from tests.sharding.serving.made import fill, make_shards

DIMENSION = 8
VECTORS = np.random.default_rng(0).standard_normal((60, DIMENSION)).astype(np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "shards"
    _make(path)
    return path


def _make(path: Path, text: str = "text") -> None:
    manifest = make_shards(path, 2, dimension=DIMENSION)
    fill(path, manifest, [Chunk(f"c{number}", f"{text} {number}") for number in range(60)], VECTORS)


def test_closed_under_questions(root: Path) -> None:
    """Each thread that asks is told so, and none goes on for ever."""
    for _ in range(5):
        kb = reperio.open_shards(root)
        told = list[CollectionClosed]()

        def ask(kb: Any = kb, told: Any = told) -> None:
            try:
                while True:
                    kb.search(vector=VECTORS[0], k=3)
            except CollectionClosed as error:
                told.append(error)

        clients = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(0.02)
        kb.close()
        for client in clients:
            client.join(10)
        assert len(told) == 4


def test_closing_does_not_wait_for_shards_that_are_being_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cluster that takes up to a minute; what comes too late is closed, too."""
    kb = reperio.open_shards(root)
    handle = kb._shards
    opened, going, late = handle._open_fleet, threading.Event(), list[Fleet]()

    def slowly(_: Fleet | None) -> Fleet | None:
        going.wait(10)
        late.append(opened(None))  # type: ignore[arg-type]  # there is one
        return late[0]

    monkeypatch.setattr(handle, "_open_fleet", slowly)
    monkeypatch.setattr(handle, "_ahead", True)
    monkeypatch.setattr(handle, "_seen", None)
    assert kb.count() == 60
    kb.close()
    assert not late, "closing waited for what is being opened"
    going.set()
    wait_until(lambda: bool(late) and late[0]._closed, "closed")


_FORKING = """
import os, sys, threading
import numpy as np, reperio
kb, other = reperio.open_shards(sys.argv[1]), reperio.open(sys.argv[2], dimension=8, auto_optimize=False)
def asked():
    return [hit.chunk.id for hit in kb.search("text", vector=np.ones(8), mode="hybrid", k=5)], kb.count()
expected, stop, failed = asked(), threading.Event(), []
def ask():
    while not stop.is_set():
        try:
            assert asked() == expected
            other.count()
        except BaseException as error:
            failed.append(error)
            return
threads = [threading.Thread(target=ask) for _ in range(4)]
def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
child(lambda: asked() == expected and asked() == expected)
child(lambda: kb.close() is None)
for thread in threads:
    thread.start()
for _ in range(5):
    child(lambda: asked() == expected)
    other.delete(ids=["a"])  # its lock is not held for ever
stop.set()
for thread in threads:
    thread.join()
assert not failed, failed
assert asked() == expected
kb.close()
"""


def test_shards_survive_a_fork(root: Path, tmp_path: Path) -> None:
    """In the child they open themselves again, whatever the threads of the parent were at; the parent goes on."""
    done = subprocess.run(
        [sys.executable, "-c", _FORKING, str(root), str(tmp_path / "one")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_is_alone_among_the_vectors() -> None:
    """The threads that its parent counted are not there, and a lock that they held is open."""
    crowd, inside, leave = Crowd(), threading.Event(), threading.Event()

    def stay() -> None:
        with crowd, crowd._lock:
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(10)
    child = os.fork()
    if child == 0:
        with crowd:
            os._exit(crowd._inside)
    answered, _, _ = select.select([os.pidfd_open(child)], [], [], 10)
    leave.set()
    thread.join()
    if not answered:
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


class Silent:
    """A replica that answers nothing."""

    name = "silent"

    def submit(self, method: str, request: Any) -> Future[Any]:  # noqa: ARG002
        return Future()

    def close(self) -> None:
        pass


def _silenced(kb: ShardedCollection) -> Callable[[], None]:
    group = kb._shards.fleet().router.groups[0]
    replica = group.members[0].replica
    group.members[0].replica = Silent()  # type: ignore[assignment]
    return replica.close


def test_partial_answers_come_to_the_first_question_too(root: Path) -> None:
    """Also before it is known which model the shards have."""
    with reperio.open_shards(root, deadline=0.6, allow_partial=True) as kb:
        close = _silenced(kb)
        with pytest.warns(ReperioWarning, match="without the shards shard-000001"):
            found = kb.search(vector=VECTORS[0], k=3)
        assert found.missing == ("shard-000001",)  # type: ignore[attr-defined]
        assert len(found) == 3
        close()


def test_what_other_shards_hold_is_read_while_one_is_waited_for(root: Path) -> None:
    """A thread that asks which model the shards have keeps no other one waiting."""
    with reperio.open_shards(root, deadline=3) as kb:
        other = next(key for key in kb.ids() if kb._shards.fleet().place_of(key) == 1)
        close = _silenced(kb)

        def ask() -> None:
            with pytest.raises(ShardUnavailable):
                kb.search(vector=VECTORS[0], k=3)

        client = threading.Thread(target=ask)
        client.start()
        time.sleep(0.2)
        assert kb.get(other) is not None
        assert client.is_alive(), "it waited for the other's deadline"
        client.join()
        close()


def test_what_is_restored_to_the_same_path_is_searched(root: Path, tmp_path: Path) -> None:
    """As in a plain collection, though identity and generation are the same."""
    shutil.copytree(root, tmp_path / "backup")
    with reperio.open_shards(root) as kb:
        kb.search(vector=VECTORS[0], k=3)
        with reperio.ShardWriter(root) as writer:
            writer.delete(ids=["c0"])
        assert kb.get("c0") is None
        shutil.rmtree(root)
        assert kb.count() == 59
        (tmp_path / "backup").rename(root)
        assert kb.count() == 60
        assert kb.search(vector=VECTORS[0], k=1)[0].chunk.id == "c0"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metric": "l2"}, CollectionDamaged, "has metric l2 .*is a shard of another collection"),
        ({"dimension": 4}, EmbeddingContractError, "vectors, 4 dimensions; vectors, 8 dimensions"),
    ],
)
def test_a_shard_of_another_collection_is_told(
    root: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """By what it differs in: to embed again helps only where that is the model."""
    make_shards(tmp_path / "other", 2, **{"dimension": DIMENSION, **options})
    place = root / "shards" / "shard-000001"
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "other" / "shards" / "shard-000001", place)
    with reperio.open_shards(root) as kb, pytest.raises(error, match=message):
        kb.search(vector=VECTORS[0], k=3)


def test_replicas_are_not_blamed_for_the_sleep_of_their_client() -> None:
    """A client that was stopped, as by Ctrl-Z, would end the replicas of all others."""
    group = Group("shard", [Silent()], lambda _: Silent())  # type: ignore[list-item, return-value, arg-type]
    group.members[0].probe = Future(), time.monotonic() - 100
    group.forgive()
    group.look_after(0.1, 2.0)
    assert not group.members[0].lost
