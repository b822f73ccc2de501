"""Backups taken while others write, and restored elsewhere."""

from __future__ import annotations

import hashlib
import random
import shutil
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import orjson

import reperio
from reperio import Chunk, Collection
from tests.crash.plan import DIMENSION, State, after_operations, random_operation, scripted_operations
from tests.crash.verification import check_answers, verify
from tests.crash.worker import run

from .damages import DATABASE, SETTINGS, make_original

LACKING = {2: ("records", "spaces", "clock"), 1: ("records", "spaces", "clock", "lexical")}
"""Tables that collections of older format versions do not have."""

OPERATIONS = 12
BACKUPS = 3


def digest(chunks: Iterator[tuple[str, str, object]]) -> str:
    """Return a hash of ids, texts and metadata, in whatever order they come."""
    lines = sorted(orjson.dumps(chunk, option=orjson.OPT_SORT_KEYS) for chunk in chunks)
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def digest_of(state: State) -> str:
    """Return the digest that a collection in this state has."""
    return digest((key, item.text, dict(item.metadata)) for key, item in state.items())


def open_old_format(number: int, directory: Path) -> Counter[str]:
    """Make what an older version has written of some state: digest and answers are the same, and it takes more."""
    version = 1 + number % len(LACKING)
    stop = 1 + random.Random(number).randrange(len(scripted_operations()))
    state = after_operations({}, scripted_operations()[:stop])
    root = make_original(directory / "old", stop)
    (database,), (settings,) = root.glob(DATABASE), root.glob(SETTINGS)
    connection = apsw.Connection(str(database))
    for table in LACKING[version]:
        connection.execute(f"DROP TABLE {table}")
    connection.close()
    recorded = orjson.loads(settings.read_bytes()) | {"format_version": version}
    if "lexical" in LACKING[version]:
        del recorded["lexical"]
    settings.write_bytes(orjson.dumps(recorded))
    with reperio.open(root, read_only=True) as kb:
        assert digest((chunk.id, chunk.text, chunk.metadata) for chunk in kb) == digest_of(state)
    verify(root, [state])
    return Counter({f"format {version}": 1})


class Writer:
    """Works through a random plan, and remembers each state that any of its commits made.

    Attributes:
        states: in order; the last of them may not be committed yet.
        done: number of those that are acknowledged, less one.
    """

    def __init__(self, kb: Collection, seed: int) -> None:
        self.kb = kb
        self._seed = seed
        self.states: list[State] = [{}]
        self.done = 0
        self.begun = threading.Event()

    def work(self, path: Path) -> None:
        """Do the operations of the plan but its backups."""
        for n in range(OPERATIONS):
            operation = random_operation(self._seed, n)
            if operation.kind in ("backup", "increment", "reopen", "bulk"):
                continue
            before = self.states[-1]
            self.states += [operation.after(before, step) for step in range(1, operation.steps + 1)]
            first = len(self.states) - operation.steps - 1
            run(self.kb, operation, path, lambda step, first=first: self._acknowledge(first + step))
            self._acknowledge(len(self.states) - 1)

    def _acknowledge(self, number: int) -> None:
        self.done = number
        self.begun.set()


def back_up_amid_writes(seed: int, directory: Path) -> Counter[str]:
    """Back up three times, whole and by increments, amid random operations; each copy is one state of that time.

    The whole ones are copied elsewhere, the increments restored. Then the copy's index is taken away: it answers the
    same.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    taken: list[list[State]] = []
    with reperio.open(directory / "kb", dimension=DIMENSION) as kb, ThreadPoolExecutor(1) as pool:
        writer = Writer(kb, seed)
        working = pool.submit(writer.work, directory / "kb")
        assert writer.begun.wait(60)
        for number in range(BACKUPS):
            threading.Event().wait(rng.uniform(0, 0.2))
            first = writer.done
            kb.backup(directory / f"whole {number}")
            kb.backup(directory / "increments", incremental=True)
            taken.append(writer.states[first:])
        working.result(120)
    increments = reperio.backups(directory / "increments")
    assert len(increments) == BACKUPS
    for number, (states, info) in enumerate(zip(taken, increments, strict=True)):
        elsewhere = directory / "elsewhere" / str(number)
        shutil.copytree(directory / f"whole {number}", elsewhere / "copied")
        shutil.rmtree(directory / f"whole {number}")
        reperio.restore(directory / "increments", elsewhere / "restored", number=info.number)
        for path in (elsewhere / "copied", elsewhere / "restored"):
            _check(path, states)
    shutil.rmtree(directory)
    return Counter({"whole": BACKUPS, "increments": BACKUPS})


def _check(path: Path, states: list[State]) -> None:
    with reperio.open(path, read_only=True) as kb:
        found = digest((chunk.id, chunk.text, chunk.metadata) for chunk in kb)
        matching = [state for state in states if digest_of(state) == found]
        assert matching, "the backup is no state that there was while it was taken"
    state = verify(path, matching)
    for snapshot in path.glob("gen-*/index/*"):
        shutil.rmtree(snapshot) if snapshot.is_dir() else snapshot.unlink()
    with warnings.catch_warnings(), reperio.open(path, auto_optimize=False) as kb:
        warnings.simplefilter("ignore", reperio.ReperioWarning)  # that the index is missing
        check_answers(kb, state)
        kb.add([Chunk("one more")], vectors=[[1.0] * DIMENSION])
        assert kb.count() == len(state) + 1
