"""A writer or a reader of a collection that others write too, and are killed.

Run as ``python -m tests.crash.turn_worker write|read DIRECTORY NUMBER SEED COUNT``; the collection is DIRECTORY/kb.
"""

from __future__ import annotations

import random
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

import reperio
from reperio import Collection, CollectionLocked, Hit
from tests.concurrency.versions import Vector, chunk, parsed, vector

from .turn_plan import OWN, USED, Journal, State, difference, operation

_PATIENCE = 120.0
_PAUSE = 0.02  # seconds, on average, between two looks of a reader: eight that never pause leave writers no processor


def stored(kb: Collection, writer: int) -> dict[int, int]:
    """Return the versions of what is stored of one writer, as of one commit."""
    return dict(parsed(one) for one in kb.get([f"c{writer * OWN + number}" for number in range(USED)]))


def write(directory: Path, number: int, seed: int) -> None:
    """Go on after the last life, for ever."""
    journal = Journal(directory, seed, number)
    journal.read()
    kb = reperio.open(directory / "kb", lock_timeout=_PATIENCE)
    own, possible = stored(kb, number), journal.possible()
    assert own in possible, difference(own, possible)
    if journal.begun is not None:  # what the last life was killed in is there wholly, or not at all
        journal.note("was" if own == possible[-1] else "not", journal.begun)
    while True:
        journal.read()
        which = journal.next
        journal.note("begin", which)
        do(kb, *operation(seed, number, which))
        journal.note("done", which)
        if which % 10 == 0:
            journal.read()
            assert stored(kb, number) == journal.state, difference(stored(kb, number), [journal.state])


def do(kb: Collection, kind: str, added: State, deleted: list[int]) -> None:
    """Do one operation."""
    if kind == "add":
        made = [chunk(one, version) for one, version in added.items()]
        kb.add(made, vectors=np.stack([vector(one, version) for one, version in added.items()]))
    elif kind == "delete":
        kb.delete(ids=[f"c{one}" for one in deleted])
    else:
        with suppress(CollectionLocked):  # another builds for longer
            kb.compact() if kind == "compact" else kb.optimize(index="SQ8")


def read(directory: Path, number: int, seed: int, count: int) -> None:
    """Search and get for ever, and compare all that is found with what the writers have noted before and after."""
    rng = random.Random()
    journals = [Journal(directory, seed, writer) for writer in range(count)]
    with reperio.open(directory / "kb", read_only=bool(number % 2)) as kb:
        while True:
            time.sleep(_PAUSE * 2 * rng.random())
            for journal in journals:
                journal.read()
            writer = rng.randrange(count)
            known = journals[writer].state
            wanted = rng.choice([*known.items()]) if known else (0, 0)
            hits = kb.search(vector=vector(*wanted), k=20)
            found = stored(kb, writer)
            passed = [journal.read() for journal in journals]
            assert found in passed[writer], difference(found, passed[writer])
            _check(hits, vector(*wanted), passed)
            if all(state.get(wanted[0]) == wanted[1] for state in passed[writer]):
                assert hits, f"{wanted} is not found, nor is anything else"
                assert parsed(hits[0].chunk) == wanted, f"{wanted} is not found by its own vector, but {hits[0]}"


def _check(hits: list[Hit], query: Vector, passed: list[list[State]]) -> None:
    """Require that each hit was stored meanwhile, in the version that it shows, with the score of its own vector."""
    assert len({hit.chunk.id for hit in hits}) == len(hits)
    for hit in hits:
        one, version = parsed(hit.chunk)
        assert any(state.get(one) == version for state in passed[one // OWN]), f"{hit} was not stored meanwhile"
        away = vector(one, version) - query
        assert abs(hit.score + float(away @ away)) < 1e-4, f"{hit} has the score of another vector"


def main(role: str, directory: str, number: str, seed: str, count: str) -> None:
    """Do what is asked until killed."""
    warnings.simplefilter("ignore", reperio.ReperioWarning)
    if role == "write":
        write(Path(directory), int(number), int(seed))
    read(Path(directory), int(number), int(seed), int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
