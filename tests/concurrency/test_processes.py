from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from typing_extensions import Self

import reperio
from reperio import Collection, CollectionLocked
from tests.crash.plan import random_operation
from tests.crash.processes import Run, possible

from .versions import DIMENSION, Vector, chunk, parsed, vector

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 60


class Reader(AbstractContextManager["Reader"]):
    """A reader in another process, which opened the collection once."""

    def __init__(self, path: Path, *, words: str = "tests.concurrency.reader") -> None:
        self._errors = path.with_name(f"{path.name}.{next(_numbers)}.stderr")
        with open(self._errors, "wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", words, str(path)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self._line() == "open"

    def ask(self, question: str, *arguments: Any) -> Any:
        """Ask, and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([question, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._line()

    def search(self, query: Vector, k: int) -> list[tuple[int, int]]:
        """Return number and version of the chunks found."""
        return [(number, version) for number, version, _ in self.ask("search", query.tolist(), k)]

    def all(self) -> dict[int, int]:
        """Return version by number."""
        return dict(map(tuple, self.ask("all")))

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the reader has failed\n{self._errors.read_text()}"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        status = self._process.wait(60)
        self._process.stdout.close()
        if kind is None:
            assert status == 0, self._errors.read_text()
            assert not self._errors.read_text()


_numbers = itertools.count()


def _add(kb: Collection, numbers: range | list[int], version: int) -> None:
    vectors = np.stack([vector(number, version) for number in numbers])
    kb.add([chunk(number, version) for number in numbers], vectors=vectors)


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[Collection]:
    """Open a collection with 300 chunks for writing."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION) as kb:
        _add(kb, range(300), 0)
        yield kb


def test_readers_see_each_commit_at_their_next_search(kb: Collection, tmp_path: Path) -> None:
    """Three readers, opened once, see every add, upsert, delete, new index and new generation at the next search."""
    rng = random.Random(5)
    expected = dict.fromkeys(range(300), 0)
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(tmp_path / "kb")) for _ in range(3)]
        for version in range(1, ROUNDS):
            numbers = rng.sample(range(330), rng.randint(1, 20))
            _change(kb, rng, numbers, version, expected)
            for reader in readers:
                # The very first question after the commit is a search: nothing else may have refreshed the reader.
                for number in numbers[:2]:
                    query = vector(number, expected.get(number, 0))
                    hits = reader.search(query, 3)
                    assert len(hits) == 3
                    assert all(expected.get(found) == found_version for found, found_version in hits)
                    if number in expected:
                        assert hits[0] == (number, expected[number])
            assert rng.choice(readers).all() == expected
        assert [reader.ask("count") for reader in readers] == [len(expected)] * 3
        for reader in readers:
            assert dict(map(tuple, reader.ask("checked"))) == expected


def _change(kb: Collection, rng: random.Random, numbers: list[int], version: int, expected: dict[int, int]) -> None:
    """Make one or more commits, and note in *expected* what is stored now."""
    kind = rng.choice(("add", "add", "delete", "optimize", "compact", "compact and add"))
    if kind == "delete":
        kb.delete(ids=[f"c{number}" for number in numbers])
        for number in numbers:
            expected.pop(number, None)
    elif kind == "optimize":
        kb.optimize(index=rng.choice(("IVF1,PQ8x4fs", "HNSW8,SQ8", "exact")))
    if kind.startswith("compact"):
        kb.compact()
    if kind.endswith("add"):
        _add(kb, numbers, version)
        expected.update(dict.fromkeys(numbers, version))


class Halves:
    """An embedder that knows the version of each text, and gives the first half of its vector."""

    name = "halves"
    dimension = DIMENSION // 2

    def embed_passages(self, texts: Any) -> Any:
        return np.stack([self._vector(text) for text in texts])

    embed_queries = embed_passages

    def _vector(self, text: str) -> Vector:
        number, _, version = text.partition("/")
        known = number.isdigit() and version.isdigit()
        return vector(int(number), int(version))[: self.dimension] if known else vector(len(text), 0)[: self.dimension]


def test_a_reader_follows_a_change_of_model(kb: Collection, tmp_path: Path) -> None:
    """A reader that was opened before searches the vectors of the new model, in their dimension, at its next search."""
    with Reader(tmp_path / "kb") as reader:
        assert reader.search(vector(3, 0), 1) == [(3, 0)]
        kb.reembed(Halves())
        assert reader.search(vector(3, 0)[: Halves.dimension], 1) == [(3, 0)]


def test_readers_go_on_when_the_writer_is_killed(tmp_path: Path) -> None:
    """Readers answer rightly all along while a writer is killed and another one follows."""
    rng = random.Random(11)
    state: Any = {}
    first = 0
    with ExitStack() as stack:
        readers: list[Reader] = []
        for _ in range(4):
            run = Run(tmp_path, "random", seed=3, first=first)
            process = run.start()
            while run.position()[0] < first + 1 and process.poll() is None:
                time.sleep(0.001)  # the first operation fills the collection
            readers = readers or [
                stack.enter_context(Reader(run.collection, words="tests.concurrency.plan_reader")) for _ in range(2)
            ]
            until = run.position()[0] + rng.randint(2, 8)
            while run.position()[0] < until and process.poll() is None:
                for reader in readers:
                    reader.ask("checked")
            process.kill()
            assert process.wait() == -signal.SIGKILL, run.stderr()
            n, steps, begun = run.position()
            done = [random_operation(3, i) for i in range(first, n)]
            allowed = possible(state, done, random_operation(3, n), steps, begun=begun)
            seen = [reader.ask("checked") for reader in readers]
            assert seen[0] == seen[1]
            state = next(each for each in allowed if {key: made.text for key, made in each.items()} == seen[0])
            first = n + begun
        with reperio.open(run.collection) as kb:
            kb.add([reperio.Chunk("later", "later")], vectors=vector(1, 1)[None])
            for reader in readers:
                assert reader.ask("search", vector(1, 1).tolist())[0] == "later"


def test_a_second_writer_writes_too(kb: Collection, tmp_path: Path) -> None:
    """Another handle, of this process or another, stores its chunks, and everybody finds them."""
    program = (
        "import reperio, sys; from tests.concurrency.versions import *; kb = reperio.open(sys.argv[1]); "
        "kb.add([chunk(401, 1)], vectors=vector(401, 1)[None]); print(kb.count())"
    )
    with reperio.open(tmp_path / "kb") as second:
        _add(second, [400], 1)
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "kb")],
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "302\n"
        _add(kb, [402], 1)
        for handle in (kb, second):
            assert [handle.get(f"c{number}") for number in (400, 401, 402)] == [chunk(n, 1) for n in (400, 401, 402)]
            assert parsed(handle.search(vector=vector(401, 1), k=1)[0].chunk) == (401, 1)
            assert handle.count() == 303


def test_who_wants_an_exclusive_one_is_told_who_holds_the_lock(kb: Collection, tmp_path: Path) -> None:
    """A second one, in this process or another, is refused with the holder's process id."""
    kb.close()
    kb = reperio.open(tmp_path / "kb", exclusive=True)
    with pytest.raises(CollectionLocked, match=f"process {os.getpid()} on "):
        reperio.open(tmp_path / "kb", exclusive=True, lock_timeout=0)
    program = "import reperio, sys; reperio.open(sys.argv[1], exclusive=True, lock_timeout=0)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "kb")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "CollectionLocked" in done.stderr
    assert f"process {os.getpid()} on " in done.stderr
    kb.close()
    reperio.open(tmp_path / "kb", exclusive=True, lock_timeout=0).close()


def test_the_lock_is_free_after_sigkill(tmp_path: Path) -> None:
    """The lock goes with the process that held it, however that ended."""
    path = tmp_path / "kb"
    program = (
        "import reperio, sys; kb = reperio.open(sys.argv[1], dimension=2, exclusive=True); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        with pytest.raises(CollectionLocked, match=f"process {process.pid} on "):
            reperio.open(path, exclusive=True, lock_timeout=0)
        process.kill()
        process.wait()
    reperio.open(path, exclusive=True, lock_timeout=0).close()


def test_a_writer_goes_on_when_another_is_killed(tmp_path: Path) -> None:
    """A process that is killed at work, at any moment, keeps nobody from the next turn, and leaves it clean."""
    run = Run(tmp_path, "random", seed=1)
    process = run.start()
    while run.position()[0] < 1 and process.poll() is None:
        time.sleep(0.001)
    with reperio.open(run.collection, auto_optimize=False) as kb:
        kb.add([reperio.Chunk("one", "one")], vectors=vector(1, 1)[None])
        process.kill()
        process.wait()
        kb.add([reperio.Chunk("two", "two")], vectors=vector(2, 1)[None])
        assert kb.get("one") is not None
        assert kb.check().ok


def _untouched(path: Path) -> dict[str, tuple[int, int, int, bytes]]:
    # Not the WAL and its index: SQLite's readers keep their marks in the one, and create both where they are missing.
    files = [file for file in path.rglob("*") if file.is_file() and not file.name.endswith(("-wal", "-shm"))]
    assert len(files) > 4
    return {
        str(file.relative_to(path)): (
            (status := file.stat()).st_mtime_ns,
            status.st_size,
            status.st_ino,
            file.read_bytes(),
        )
        for file in files
    }


def _session(path: Path) -> None:
    with reperio.open(path, read_only=True) as reader:
        reader.search(vector=vector(1, 0), k=5)
        reader.search_many(vectors=vector(1, 0)[None], k=5)
        reader.get("c1")
        reader.count()
        reader.info()
        assert reader.check().ok
        assert len(list(reader)) == 300
        reader.backup(path.with_name("copy"))


@pytest.mark.parametrize("ending", [Collection.close, lambda kb: kb.count()])
def test_readers_never_write(ending: Callable[[Collection], object], kb: Collection, tmp_path: Path) -> None:
    """A read-only session leaves every file as it was, with a writer at work and without."""
    kb.delete(ids="c5")
    _add(kb, [5], 0)
    kb.optimize(index="IVF1,PQ8x4fs")
    ending(kb)
    before = _untouched(tmp_path / "kb")
    _session(tmp_path / "kb")
    assert _untouched(tmp_path / "kb") == before


def test_a_reader_finds_what_a_killed_writer_left_in_the_wal(tmp_path: Path) -> None:
    """A reader that comes after a killed writer reads its commits from the WAL, and leaves them to the next writer."""
    run = Run(tmp_path, "scripted", stop=5)
    assert run.start().wait() == 0, run.stderr()
    with reperio.open(run.collection, auto_optimize=False) as kb:
        stored = kb.count()
    program = (
        "import os, sys, reperio; kb = reperio.open(sys.argv[1]); "
        f"kb.add([reperio.Chunk('late', 'late')], vectors=[[1.0] + [0.0] * {DIMENSION - 1}]); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(run.collection)], check=False)
    assert done.returncode == -signal.SIGKILL
    before = _untouched(run.collection)
    for _ in range(2):
        with reperio.open(run.collection, read_only=True) as reader:
            assert reader.count() == stored + 1
            assert reader.search(vector=np.eye(DIMENSION, dtype=np.float32)[0], k=1)[0].chunk.id == "late"
    assert _untouched(run.collection) == before
    with reperio.open(run.collection) as kb:
        assert kb.count() == stored + 1
        assert kb.check().ok
