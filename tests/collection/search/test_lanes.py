"""As many threads search at a time as there are lanes; nobody waits long for one, and a forked child has its own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk
from reperio.collection.search import lanes as module
from reperio.collection.search import retrieving
from reperio.collection.search.lanes import Lanes


def test_lanes_are_given_in_the_order_of_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more threads than lanes are inside, and who has waited longest is next."""
    monkeypatch.setattr(module, "_PATIENCE", 60.0)
    lanes, order = Lanes(1), list[int]()

    def visit(number: int) -> None:
        with lanes:
            assert len(lanes._holders) == 1
            order.append(number)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(5)]
    with lanes:
        for number, thread in enumerate(threads, start=1):
            thread.start()
            while len(lanes._waiting) < number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]
    assert not lanes._holders
    assert not lanes._waiting


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every comeback for straight, one for a loop, and let nothing run out."""
    for name in ("_PATIENCE", "_STRAIGHT_BACK", "_STINT"):
        monkeypatch.setattr(module, name, 60.0)
    monkeypatch.setattr(module, "_ROUND", 600.0)
    monkeypatch.setattr(module, "_LOOP", 1)


def queue(lanes: Lanes, work: Callable[[], object]) -> threading.Thread:
    """Start a thread that works in a lane, and return it once it waits for one."""

    def run() -> None:
        with lanes:
            work()

    waiting, thread = len(lanes._waiting), threading.Thread(target=run)
    thread.start()
    while len(lanes._waiting) == waiting:
        time.sleep(0.001)
    return thread


@pytest.mark.usefixtures("endless")
def test_a_loop_keeps_its_lane_for_a_stint(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another waits; when the stint is over, or too many wait, the lane is handed on at once."""
    lanes, order = Lanes(1), list[str]()

    def visit(name: str) -> threading.Thread:
        return queue(lanes, lambda: order.append(name))

    with lanes:
        first = visit("first")  # who leaves for the first time may be gone for long
    with lanes:
        order.append("mine")
        second = visit("second")
    for _ in range(3):
        with lanes:
            order.append("mine")
    monkeypatch.setattr(module, "_STINT", 0.0)
    with lanes:
        order.append("mine")
    second.join()
    monkeypatch.setattr(module, "_STINT", 60.0)
    with lanes:
        third = visit("third")
        fourth = visit("fourth")
        monkeypatch.setattr(module, "_ROUND", 60.0)
    for thread in (first, third, fourth):
        thread.join()
    assert order == ["first", *["mine"] * 5, "second", "third", "fourth"]
    assert not lanes._holders
    assert not lanes._kept


@pytest.mark.usefixtures("endless")
def test_a_thread_that_goes_elsewhere_is_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one that asks a few questions at a time: it hands its lane on, and is not looked at for a while."""
    monkeypatch.setattr(module, "_LOOP", 4)
    loop = module._Loop()

    def ask(questions: int) -> list[bool]:
        kept = []
        for _ in range(questions):
            if loop.left:
                loop.note()
            loop.since = time.monotonic()
            kept.append(loop.leave())
        return kept

    assert ask(6) == [False] * 4 + [True] * 2
    loop.comebacks = 0
    assert ask(3) == [False] * 3
    monkeypatch.setattr(module, "_STRAIGHT_BACK", 0.0)
    assert ask(module._PASSES) == [False] * module._PASSES
    monkeypatch.setattr(module, "_STRAIGHT_BACK", 60.0)
    assert ask(6) == [False] * 4 + [True] * 2


@pytest.mark.usefixtures("endless")
def test_a_lane_that_nobody_comes_back_to_is_found() -> None:
    """By the first of those who wait, long before it would go on without a lane; also next to one who holds another."""
    lanes, slow, inside = Lanes(2), threading.Event(), list[bool]()
    lanes._holders |= {1, 2}
    threads = [queue(lanes, slow.wait), *(queue(lanes, lambda: inside.append(True)) for _ in range(2))]
    lanes._leave(1, keeps=True)
    assert lanes._kept.keys() == {1}
    lanes._leave(2)
    lanes._kept[1] = 0.0  # it should have been back long ago
    for thread in threads[1:]:
        thread.join(30)
    assert inside == [True] * 2
    assert len(lanes._holders) == 1
    slow.set()
    threads[0].join()
    assert not lanes._holders


def test_who_waits_in_vain_goes_on_and_then_nobody_waits() -> None:
    """Lanes that are held by what reads a disk keep nobody for long."""
    lanes, inside = Lanes(1), list[bool]()

    def visit() -> None:
        with lanes:
            inside.append(threading.get_ident() in lanes._holders)

    def run() -> None:
        thread = threading.Thread(target=visit)
        thread.start()
        thread.join()

    with lanes:
        run()
        assert lanes._pause_until > 0
        lanes._pause_until = time.monotonic() + 600
        run()
    run()
    assert inside == [False, False, True]
    assert not lanes._holders
    assert not lanes._waiting


def test_a_lane_that_an_interrupt_has_left_taken_is_taken_again() -> None:
    """By the same thread: no lane is lost."""
    lanes = Lanes(1)
    lanes.__enter__()
    with lanes:
        assert len(lanes._holders) == 1
    assert not lanes._holders


def test_a_forked_child_has_all_lanes() -> None:
    """Threads that held them in the parent are not there."""
    lanes = Lanes(1)
    lanes._holders.add(-1)
    lanes._lock.acquire()
    child = os.fork()
    if child == 0:  # no assertion may reach pytest's own process a second time
        with lanes:
            os._exit(0 if lanes._holders == {threading.get_ident()} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_searches_of_many_threads_are_those_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with one lane for all of them, and after an error in one."""
    lanes = Lanes(1)
    monkeypatch.setattr(retrieving, "LANES", lanes)
    vectors = np.random.default_rng(0).standard_normal((300, 8))
    with reperio.open(tmp_path / "kb", dimension=8) as kb:
        kb.add([Chunk(f"c{at}") for at in range(300)], vectors=vectors)
        expected = [[hit.chunk.id for hit in kb.search(vector=vector, k=5)] for vector in vectors[:40]]
        found: dict[int, list[str]] = {}

        def ask(place: int) -> None:
            for at in range(place, 40, 8):
                found[at] = [hit.chunk.id for hit in kb.search(vector=vectors[at], k=5)]

        threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found[at] for at in range(40)] == expected
    with pytest.raises(reperio.CollectionClosed):
        kb.search(vector=vectors[0])
    assert not lanes._holders
