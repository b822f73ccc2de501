"""Writers of one collection take turns, per commit: in one process and in many, nothing is lost and nobody starves."""

from __future__ import annotations

import gc
import os
import random
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, CollectionLocked, InvalidInput, layout
from tests.crash.verification import check_no_leftovers

from .turn_worker import Worker, add
from .versions import DIMENSION, parsed, vector

WRITERS, TURNS = 4, 40
MOST_WAITED = 60  # others' turns; as a lottery among three it is exceeded once in 10^10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a collection with 50 chunks."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        add(kb, list(range(50)), 0)
    return tmp_path / "kb"


@pytest.fixture
def kb(path: Path) -> Iterator[Collection]:
    with reperio.open(path, auto_optimize=False, lock_timeout=60) as kb:
        yield kb


def found(kb: Collection, number: int, version: int) -> tuple[int, int]:
    """Return number and version of what is nearest to a version of a chunk."""
    return parsed(kb.search(vector=vector(number, version), k=1)[0].chunk)


def require(path: Path, expected: dict[int, int]) -> None:
    """Require that just these are stored, each with its own vector, and that all is whole."""
    with reperio.open(path, read_only=True) as reader:
        assert reader.check().ok
        assert dict(map(parsed, reader)) == expected
        ids = [f"c{one}" for one in expected]
        assert np.allclose(reader.vectors(ids), np.stack([vector(*one) for one in expected.items()]), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_handles_of_one_process_see_each_others_commits_at_once(seed: int, path: Path) -> None:
    """Whatever one of three writes, and whoever compacts or builds, the next search of each has it."""
    rng, expected = random.Random(seed), dict.fromkeys(range(50), 0)
    with ExitStack() as stack:
        handles = [stack.enter_context(reperio.open(path, auto_optimize=False)) for _ in range(3)]
        for version in range(1, 60):
            numbers = rng.sample(range(60), rng.randint(1, 5))
            writer = rng.choice(handles)
            kind = rng.choices(("add", "delete", "compact", "optimize"), (60, 25, 8, 7))[0]
            if kind == "add":
                add(writer, numbers, version)
                expected.update(dict.fromkeys(numbers, version))
            elif kind == "delete":
                deleted = [one for one in numbers if expected.pop(one, None) is not None]
                assert writer.delete(ids=[f"c{one}" for one in numbers]) == len(deleted)
            elif kind == "compact":
                writer.compact()
            else:
                writer.optimize(index=rng.choice(("SQ8", "exact")))
            for handle in rng.sample(handles, 3):
                for number in numbers:
                    if number in expected:
                        assert found(handle, number, expected[number]) == (number, expected[number])
                    else:
                        assert handle.get(f"c{number}") is None
                assert handle.count() == len(expected)
        for handle in handles:
            assert dict(map(parsed, handle)) == expected
    require(path, expected)


def test_a_search_that_is_answered_from_memory_sees_what_another_process_has_committed(kb: Collection) -> None:
    """A search trusts its last commit to be the newest only until somebody else has had a turn."""
    path = kb.info().path
    with Worker(Path(path)) as other:
        for version in range(1, 40):
            if version % 3 == 0:
                add(kb, [8], version)
            known = version - 1 if version > 1 else 0
            for _ in range(2):
                assert found(kb, 7, known) == (7, known)
            store = kb._handle.generation.store
            assert store._known == (store._turns.mark(), kb._handle.generation.latest.seq)  # the second read nothing
            if version % 5 == 0:
                assert other.ask("delete", [7]) == 1
                assert found(kb, 7, known)[0] != 7
            assert other.ask("add", [7], version) == "done"
            assert found(kb, 7, version) == (7, version)
            assert other.ask("search", 7, version)[0] == [7, version]
        assert other.ask("compact") > 0
        assert found(kb, 7, 39) == (7, 39)
        assert other.ask("add", [7], 40) == "done"
        assert found(kb, 7, 40) == (7, 40)


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


def test_tenants_of_one_path_write_side_by_side(path: Path) -> None:
    """Handles of different scopes, each with its threads, see and change what is theirs, and nothing else."""
    with ExitStack() as stack:
        tenants = {
            name: stack.enter_context(reperio.open(path, scope={"tenant": name}, auto_optimize=False))
            for name in ("a", "b", "c")
        }

        def work(name: str, thread: int) -> None:
            kb = tenants[name]
            for number in range(10):
                ids = [f"{name}-{thread}-{number}-{n}" for n in range(3)]
                vectors = np.stack([vector(ord(name), number * 10 + n) for n in range(3)])
                kb.add([Chunk(one, one, {"tenant": name}) for one in ids], vectors=vectors)
                assert kb.delete(ids=ids[0]) == 1
                hits = kb.search(vector=vectors[1], k=500)
                assert {hit.chunk.metadata["tenant"] for hit in hits} == {name}

        with ThreadPoolExecutor(6) as threads:
            for one in [threads.submit(work, name, thread) for name in tenants for thread in range(2)]:
                one.result(120)
        for name, kb in tenants.items():
            expected = {f"{name}-{t}-{number}-{n}" for t in range(2) for number in range(10) for n in (1, 2)}
            assert set(kb.ids()) == expected
    with reperio.open(path, read_only=True) as reader:
        assert reader.count() == 50 + 3 * 40
        assert reader.check().ok


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


def test_an_index_is_built_while_others_write_without_a_pause(path: Path) -> None:
    """A build in the background waits for its short turns like everybody else: it does not give up for them."""
    over = threading.Event()

    def write() -> None:
        with reperio.open(path, auto_optimize=False, lock_timeout=120) as busy:
            while not over.is_set():
                with busy._handle.turn():
                    over.wait(0.001)

    with ThreadPoolExecutor(3) as threads, reperio.open(path, lock_timeout=120) as kb:
        writers = [threads.submit(write) for _ in range(2)]
        try:
            add(kb, list(range(1000, 7000)), 1)
            for _ in range(1200):
                if kb.info().index is not None:
                    break
                over.wait(0.05)
            assert kb.info().index is not None
        finally:
            over.set()
        for writer in writers:
            writer.result(60)


def test_a_writer_that_trusts_no_index_removes_none_that_is_being_built(path: Path) -> None:
    """It waits for the lease, as all that builds or removes indexes does."""
    with (
        reperio.open(path, auto_optimize=False) as kb,
        kb._handle.maintaining(),
        pytest.raises(CollectionLocked, match="which is building an index or rewriting it"),
    ):
        reperio.open(path, trust_index=False, lock_timeout=0.1)


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


def test_writers_do_not_wait_for_an_index_that_is_being_built(kb: Collection, path: Path) -> None:
    """Others add, delete and search during a build, whose index is used for what it covers, and not for the rest."""
    answers: list[Any] = []
    with Worker(path, lock_timeout=0.2) as other:

        def progress(*_: object) -> None:
            if not answers:
                answers.append(other.ask("add", [80], 1))
                answers.append(other.ask("delete", [3]))
                answers.append(other.ask("search", 80, 1)[0])
                answers.append(other.ask("optimize", "SQ8"))

        kb.optimize(index="SQ8", progress=progress)
        assert answers[:3] == ["done", 1, [80, 1]]
        assert re.search(rf"CollectionLocked.*process {os.getpid()} .*, which is building an index or", answers[3])
        assert kb.info().index.factory == "SQ8"
        assert found(kb, 80, 1) == (80, 1)
        assert found(kb, 3, 0) != (3, 0)
        assert other.ask("optimize", "SQ8") == "done"
    require(path, {one: 0 for one in range(50) if one != 3} | {80: 1})


def test_writers_wait_for_a_compaction_and_go_on_in_the_new_generation(kb: Collection, path: Path) -> None:
    """Nothing is stored in what is being copied: whoever does not wait that long is refused, and the others wait."""
    refused: list[str] = []
    with Worker(path, lock_timeout=0.1) as impatient, Worker(path, lock_timeout=120) as patient:
        assert impatient.ask("delete", [4]) == 1

        def progress(*_: object) -> None:
            if not refused:
                refused.append(impatient.ask("add", [81], 1))
                patient.tell("add", [82], 1)

        assert kb.compact(progress=progress) == 1
        assert re.search(rf"CollectionLocked.*process {os.getpid()} .*which is writing", refused[0])
        assert patient.answer() == "done"
        assert impatient.ask("add", [81], 1) == "done"
        assert found(kb, 82, 1) == (82, 1)
        assert patient.ask("search", 81, 1)[0] == [81, 1]
    assert (path / "CURRENT").read_text() == "gen-000002\n"
    require(path, {one: 0 for one in range(50) if one != 4} | {81: 1, 82: 1})


def test_a_handle_used_in_a_call_of_another_is_refused_and_not_a_deadlock(kb: Collection, path: Path) -> None:
    """A callback that writes through a second handle is told that this very process has the turn."""
    refused: list[str] = []
    with reperio.open(path, auto_optimize=False, lock_timeout=0.1) as second:

        def progress(*_: object) -> None:
            with pytest.raises(
                CollectionLocked,
                match=rf"process {os.getpid()} on .* \(this one, through another handle\), which is writing",
            ):
                add(second, [83], 1)
            refused.append(second.get("c5").text)

        kb.compact(progress=progress)
        assert set(refused) == {"5/0"}
        add(second, [83], 1)
    assert kb.get("c83") is not None


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


def test_everybody_gets_a_turn(path: Path, tmp_path: Path) -> None:
    """Of four processes that add all the time, none waits for more than 60 turns of others, and nothing is lost."""
    log = tmp_path / "log"
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(path, lock_timeout=120)) for _ in range(WRITERS)]
        for number, worker in enumerate(workers, start=1):
            worker.tell("take turns", number, TURNS, str(log))
        stored = [one for worker in workers for one in worker.answer()]
    require(path, dict.fromkeys(range(50), 0) | dict.fromkeys(stored, 1))
    waited: Counter[int] = Counter()
    worst = 0
    wanting: set[int] = set()
    for line in log.read_text().splitlines():
        word, number = line.split()
        if word == "wants":
            wanting.add(int(number))
            waited[int(number)] = 0
            continue
        wanting.remove(int(number))
        for one in wanting:
            waited[one] += 1
        worst = max(worst, waited[int(number)])
    assert len(stored) == WRITERS * TURNS
    assert worst <= MOST_WAITED
