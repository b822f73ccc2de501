"""As many threads search at a time as there are lanes; nobody waits long for one, and a forked child has its own."""

from __future__ import annotations

import os
import threading
import time
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


def test_who_comes_straight_back_keeps_its_lane_for_a_stint(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another waits; when the stint is over, or too many wait, the lane is handed on at once."""
    for name in ("_PATIENCE", "_STRAIGHT_BACK", "_STINT", "_ROUND"):
        monkeypatch.setattr(module, name, 60.0)
    lanes, order = Lanes(1), list[str]()

    def visit(name: str) -> threading.Thread:
        def run() -> None:
            with lanes:
                order.append(name)

        waiting, thread = len(lanes._waiting), threading.Thread(target=run)
        thread.start()
        while len(lanes._waiting) == waiting:
            time.sleep(0.001)
        return thread

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
    with lanes:
        third = visit("third")
        monkeypatch.setattr(module, "_STINT", 60.0)
        fourth = visit("fourth")
    for thread in (first, third, fourth):
        thread.join()
    assert order == ["first", *["mine"] * 5, "second", "third", "fourth"]
    assert not lanes._holders


def test_a_lane_that_nobody_comes_back_to_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of those who wait looks, long before it would go on without a lane."""
    for name in ("_PATIENCE", "_STRAIGHT_BACK", "_STINT"):
        monkeypatch.setattr(module, name, 60.0)
    monkeypatch.setattr(module, "_ROUND", 600.0)  # enough for three stints
    kept, inside = list[bool](), list[bool]()

    class Told(Lanes):
        def _keep(self) -> None:
            kept.append(True)
            super()._keep()

    def visit() -> None:
        with lanes:
            inside.append(threading.get_ident() in lanes._holders)

    lanes = Told(1)
    threads = [threading.Thread(target=visit) for _ in range(3)]
    own, now = threading.get_ident(), time.monotonic()
    lanes._left[own] = lanes._since[own] = now  # as if it had waited for a lane, and left while others waited
    with lanes:
        for number, thread in enumerate(threads, start=1):
            thread.start()
            while len(lanes._waiting) < number:
                time.sleep(0.001)
    for thread in threads:
        thread.join(30)
    assert kept == [True]  # for this thread, which never comes
    assert inside == [True] * 3
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
