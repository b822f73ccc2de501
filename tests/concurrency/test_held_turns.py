"""A turn that a caller holds: what is read in it is true until its end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio import Chunk, Collection, CollectionLocked, CollectionReadOnly, InvalidInput

COUNT = """
import sys, reperio
from reperio import Chunk
with reperio.open(sys.argv[1], lock_timeout=60) as kb:
    for _ in range(int(sys.argv[2])):
        with kb.turn():
            number = kb.get("counter").metadata["n"]
            kb.add([Chunk("counter", "t", {"n": number + 1})], vectors=[[1.0, 0.0]])
"""


@pytest.fixture
def counter(path: Path) -> Path:
    with reperio.open(path, dimension=2) as kb:
        kb.add([Chunk("counter", "t", {"n": 0})], vectors=[[1.0, 0.0]])
    return path


def test_no_update_of_a_process_is_lost(counter: Path) -> None:
    """Three processes read a number and store it plus one."""
    workers = [subprocess.Popen([sys.executable, "-c", COUNT, str(counter), "20"]) for _ in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    with reperio.open(counter, read_only=True) as kb:
        assert kb.get("counter").metadata == {"n": 60}


def test_one_of_many_threads_adds_what_is_absent(counter: Path) -> None:
    """Through one handle, and turns may be nested."""
    with reperio.open(counter) as kb, ThreadPoolExecutor(8) as threads:

        def add(number: int) -> bool:
            with kb.turn(), kb.turn():
                if kb.get("new") is not None:
                    return False
                kb.add([Chunk("new", str(number))], vectors=[[1.0, 0.0]])
                return True

        assert sum(threads.map(add, range(40))) == 1


def test_it_ends_with_an_error(counter: Path) -> None:
    """What was added before stays, and another handle writes."""
    with reperio.open(counter) as kb, reperio.open(counter, lock_timeout=0) as other:

        def fail() -> None:
            with kb.turn():
                kb.add([Chunk("a", "t")], vectors=[[1.0, 0.0]])
                with pytest.raises(CollectionLocked):
                    other.delete(ids="a")
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert other.delete(ids="a") == 1


INSIDE: dict[str, Callable[[Collection], Any]] = {
    "optimize": lambda kb: kb.optimize(index="exact"),
    "compact": lambda kb: kb.compact(),
    "close": lambda kb: kb.close(),
}


@pytest.mark.parametrize("call", INSIDE.values(), ids=INSIDE)
def test_what_would_wait_for_a_build_is_refused_inside(call: Callable[[Collection], Any], counter: Path) -> None:
    """A build ends by a turn: each would wait for the other for ever."""
    with reperio.open(counter) as kb:
        with kb.turn():
            with pytest.raises(InvalidInput, match="before or after the block"):
                call(kb)
            kb.add([Chunk("a", "t")], vectors=[[1.0, 0.0]])
        kb.compact()
        assert kb.count() == 2


def test_a_reader_has_none(counter: Path) -> None:
    """It could not write."""
    with reperio.open(counter, read_only=True) as kb, pytest.raises(CollectionReadOnly), kb.turn():
        pass
