"""A handle may have the writing to itself, and says how long it waits for others."""

from __future__ import annotations

import gc
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import CollectionLocked, InvalidInput

from .turn_worker import Worker, add, with_fifty
from .versions import found, require


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a collection with 50 chunks."""
    return with_fifty(tmp_path / "kb")


def test_an_exclusive_handle_lets_nobody_else_write_until_it_is_closed(path: Path) -> None:
    """Others may open and search; their commits time out, and another that would be exclusive is refused."""
    with reperio.open(path, auto_optimize=False, lock_timeout=0.1) as other, Worker(path, lock_timeout=0.1) as far:
        add(other, [90], 1)
        with reperio.open(path, exclusive=True, auto_optimize=False) as only:
            told = rf"process {os.getpid()} .*, which has opened it with exclusive=True, since"
            for number in range(3):
                add(only, [91], number)
                assert found(other, 91, number) == (91, number)
                assert far.ask("search", 91, number)[0] == [91, number]
                with pytest.raises(CollectionLocked, match=told):
                    add(other, [92], 1)
                assert re.search(told, far.ask("add", [92], 1))
            with pytest.raises(CollectionLocked, match=told):
                reperio.open(path, exclusive=True, lock_timeout=0.1)
            only.optimize(index="SQ8")
            only.compact()
            with reperio.open(path, lock_timeout=0) as late:
                assert late.count() == 52
        add(other, [92], 1)
        assert far.ask("add", [93], 1) == "done"
    require(path, dict.fromkeys(range(50), 0) | {90: 1, 91: 2, 92: 1, 93: 1})


def test_an_exclusive_handle_waits_for_the_turn_under_way(path: Path) -> None:
    """Opening it is refused as long as somebody else is writing, and succeeds when that has ended."""
    with Worker(path) as stopped:
        stopped.tell("halt", signal.SIGSTOP, [61], 1)
        stopped.wait_until_stopped()
        with pytest.raises(CollectionLocked, match=f"process {stopped.pid} "):
            reperio.open(path, exclusive=True, lock_timeout=0.1)
        with ThreadPoolExecutor(1) as threads:
            opening = threads.submit(reperio.open, path, exclusive=True, lock_timeout=120)
            os.kill(stopped.pid, signal.SIGCONT)
            assert stopped.answer() == "done"
            with opening.result(120) as only:
                assert only.get("c61") is not None
                add(only, [62], 1)
    require(path, dict.fromkeys(range(50), 0) | {61: 1, 62: 1})


def test_handles_that_were_opened_and_forgotten_are_in_nobodys_way(path: Path) -> None:
    """A script that is run again and again in one process, as by Streamlit, opens and writes each time."""
    for number in range(10):
        kb = reperio.open(path, auto_optimize=False, lock_timeout=0)
        add(kb, [100 + number], 1)
        assert kb.count() == 51 + number
    only = reperio.open(path, auto_optimize=False, exclusive=True, lock_timeout=0)
    del only
    gc.collect()
    add(kb, [99], 1)
    require(path, dict.fromkeys(range(50), 0) | dict.fromkeys(range(99, 110), 1))


@pytest.mark.parametrize("bad", [-1, -0.001, float("nan"), float("inf"), "30", None, True, [1], 1 + 0j], ids=repr)
def test_a_timeout_that_is_no_number_of_seconds_is_refused(bad: Any, tmp_path: Path) -> None:
    """The error says what it may be, and nothing is created."""
    with pytest.raises(InvalidInput, match=r"lock_timeout is .*number of seconds, 0 or more"):
        reperio.open(tmp_path / "new", dimension=2, lock_timeout=bad)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("bad", ["false", 0, None, np.bool_(True)], ids=repr)
def test_an_exclusive_that_is_no_flag_is_refused(bad: Any, tmp_path: Path) -> None:
    """Neither a word nor a number says whether; and a reader excludes nobody."""
    with pytest.raises(InvalidInput, match="exclusive is"):
        reperio.open(tmp_path / "new", dimension=2, exclusive=bad)
    with pytest.raises(InvalidInput, match="leave it out, or read_only=True"):
        reperio.open(tmp_path / "new", dimension=2, exclusive=True, read_only=True)
    assert not (tmp_path / "new").exists()


def test_a_timeout_may_be_nothing_or_a_whole_number(path: Path) -> None:
    """0 is one attempt; a handle that has the collection to itself writes at once."""
    for timeout in (0, 0.0, 1):
        with reperio.open(path, lock_timeout=timeout, auto_optimize=False) as kb:
            add(kb, [50], 1)
            kb.compact()
