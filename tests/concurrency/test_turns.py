"""Writers of one collection take turns, per commit: in one process and in many, nothing is lost and nobody starves."""

from __future__ import annotations

import os
import random
import re
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
from reperio import Chunk, Collection, CollectionLocked

from .turn_worker import Worker, add, with_fifty
from .versions import found, parsed, require, vector

WRITERS, TURNS = 4, 40
MOST_WAITED = 60  # others' turns; as a lottery among three it is exceeded once in 10^10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a collection with 50 chunks."""
    return with_fifty(tmp_path / "kb")


@pytest.fixture
def kb(path: Path) -> Iterator[Collection]:
    with reperio.open(path, auto_optimize=False, lock_timeout=60) as kb:
        yield kb


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
