"""A writer that is stopped or killed in its turn keeps nobody out for long, and leaves nothing half done."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import reperio
from reperio import Collection, CollectionLocked, layout
from tests.crash.verification import check_no_leftovers

from .turn_worker import Worker, add, with_fifty
from .versions import found, require


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a collection with 50 chunks."""
    return with_fifty(tmp_path / "kb")


@pytest.fixture
def kb(path: Path) -> Iterator[Collection]:
    with reperio.open(path, auto_optimize=False, lock_timeout=60) as kb:
        yield kb


def test_a_commit_of_a_process_that_is_killed_before_it_says_so_is_seen(kb: Collection, path: Path) -> None:
    """A turn that did not end well says nothing of whether it has committed: the next search looks."""
    assert found(kb, 7, 0) == found(kb, 7, 0) == (7, 0)
    with Worker(path) as other:
        other.tell("halt", signal.SIGKILL, [100, 101], 1)
        assert other.process.wait(60) == -signal.SIGKILL
    assert found(kb, 7, 0) == (7, 0)
    assert kb.get("c100") is None
    add(kb, [7], 1)
    assert found(kb, 7, 1) == (7, 1)


def test_whoever_waits_for_a_stopped_process_is_told_its_pid(path: Path) -> None:
    """The others' commits time out with its process id, their searches go on, and so do they when it is killed."""
    with (
        Worker(path) as stopped,
        Worker(path, lock_timeout=0.2) as other,
        reperio.open(path, auto_optimize=False, lock_timeout=0.2) as kb,
    ):
        assert stopped.ask("add", [60], 1) == "done"
        stopped.tell("halt", signal.SIGSTOP, [61, 62], 1)
        stopped.wait_until_stopped()
        told = rf"is locked by process {stopped.pid} on [^(]*, which is writing, since .*; wait, or end that process"
        with pytest.raises(CollectionLocked, match=told):
            add(kb, [63], 1)
        with pytest.raises(CollectionLocked, match=told):
            kb.delete(ids="c60")
        assert re.search(told, other.ask("add", [64], 1))
        assert found(kb, 60, 1) == (60, 1)
        assert other.ask("search", 60, 1)[0] == [60, 1]
        with pytest.raises(CollectionLocked, match=told):
            reperio.open(path, exclusive=True, lock_timeout=0)
        reperio.open(path, read_only=True).close()
        reperio.open(path, lock_timeout=0).close()
        stopped.kill()
        add(kb, [63], 1)
        assert other.ask("add", [64], 1) == "done"
    require(path, dict.fromkeys(range(50), 0) | {60: 1, 63: 1, 64: 1})


def test_a_stopped_process_that_is_next_is_named_by_those_behind_it(path: Path) -> None:
    """Not the process that had the turn before, which is done, and whose end would help nobody."""
    with (
        Worker(path, lock_timeout=120) as waiting,
        reperio.open(path, auto_optimize=False) as kb,
        reperio.open(path, auto_optimize=False, lock_timeout=0.2) as third,
    ):
        probe = layout.FileLock(path / "LOCK", purpose="", cure="")
        with kb._handle.turn():
            waiting.tell("add", [60], 1)
            with pytest.raises(CollectionLocked):
                probe.acquire()
            file = probe._opened()
            while file.queue():  # until it is the worker's
                file.leave_queue()
            while str(waiting.pid).encode() not in (path / "LOCK").read_bytes()[1024:]:
                pass
            os.kill(waiting.pid, signal.SIGSTOP)
            waiting.wait_until_stopped()
        with pytest.raises(CollectionLocked, match=rf"process {waiting.pid} on .*, which is next and does not go on"):
            add(third, [61], 1)
        waiting.kill()
        add(third, [61], 1)
    require(path, dict.fromkeys(range(50), 0) | {61: 1})


def test_a_stopped_process_goes_on_where_it_was(path: Path) -> None:
    """A stopped writer commits when it continues, and others that waited meanwhile commit after it."""
    with Worker(path) as stopped, reperio.open(path, auto_optimize=False, lock_timeout=120) as kb:
        stopped.tell("halt", signal.SIGSTOP, [61, 62], 1)
        stopped.wait_until_stopped()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(add, kb, [63], 1)
            os.kill(stopped.pid, signal.SIGCONT)
            assert stopped.answer() == "done"
            waiting.result(120)
    require(path, dict.fromkeys(range(50), 0) | {61: 1, 62: 1, 63: 1})


@pytest.mark.parametrize("waiting", [False, True])
def test_a_writer_that_is_killed_in_its_turn_leaves_the_next_one_clean(waiting: bool, path: Path) -> None:
    """Nothing of what it was writing is there, and the rows it had begun to fill hold the vectors of who comes next."""
    expected = dict.fromkeys(range(50), 0)
    with reperio.open(path, auto_optimize=False, lock_timeout=120) as kb, ThreadPoolExecutor(1) as threads:
        for life in range(1, 6):
            with Worker(path) as doomed:
                assert doomed.ask("add", [200 + life], life) == "done"
                doomed.tell("halt", signal.SIGSTOP, list(range(300, 310)), life)
                doomed.wait_until_stopped()
                if waiting:
                    next_ = threads.submit(add, kb, [life, 100 + life], life)
                doomed.kill()
                if not waiting:
                    next_ = threads.submit(add, kb, [life, 100 + life], life)
                next_.result(120)
            expected |= {200 + life: life, life: life, 100 + life: life}
            assert found(kb, 100 + life, life) == (100 + life, life)
            require(path, expected)
    reperio.open(path).close()
    check_no_leftovers(path)


def test_a_writer_killed_during_its_compaction_is_cleaned_up_after(path: Path) -> None:
    """While others have the collection open, what it left is in nobody's way; whoever opens it next removes it."""
    with reperio.open(path, auto_optimize=False) as kb:
        with Worker(path) as doomed:
            assert doomed.ask("delete", [1, 2]) == 2
            doomed.tell("kill while compacting")
            assert doomed.process.wait(60) == -signal.SIGKILL
        add(kb, [70], 1)
        assert kb.compact() == 2
        assert found(kb, 70, 1) == (70, 1)
    require(path, {one: 0 for one in range(50) if one not in (1, 2)} | {70: 1})
    reperio.open(path).close()
    check_no_leftovers(path)
