"""Random histories of the ledger against a dictionary, with a reader in this process and one in another."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import reperio
from reperio import Chunk, Record
from reperio.collection.handle.clock import Clock

ENDED = itertools.count()
SCOPES: list[Any] = [None, {"t": "a"}, {"t": {"$in": ["a", "b"]}}]
SPACES = st.sampled_from(["one", "two", "ключ"])
KEYS = st.sampled_from([f"k{n}" for n in range(8)] + ["K1", "é", "'; --", "x" * 1024, "%", " "])
GROUPS = st.none() | st.sampled_from(["", "g", "h", "G"])
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: TEXTS | st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)

OTHER = """
import dataclasses, json, sys, reperio
for line in sys.stdin:
    path, space = json.loads(line)
    with reperio.open(path, read_only=True) as kb:
        print(json.dumps([dataclasses.astuple(record) for record in kb.records(space).list()]), flush=True)
"""


class Machine(RuleBasedStateMachine):
    """Handles of several scopes, one writing at a time, beside (scope, space) → key → record."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.model: dict[tuple[int, str], dict[str, Record]] = {}
        self.seconds, self.last, self.copies = 1000.0, 0.0, 0

    @initialize()
    def create(self) -> None:
        self.path = self.directory / "kb"
        reperio.open(self.path, dimension=2).close()
        self.scope = 0
        self.kb = self.reader = None  # type: ignore[assignment]  # opened at once
        self.open(0)

    @rule(scope=st.integers(0, 2))
    def open(self, scope: int) -> None:
        """Open it again, with another scope."""
        for handle in (self.kb, self.reader):
            if handle is not None:
                handle.close()
        self.scope = scope
        self.kb = reperio.open(self.path, scope=SCOPES[scope])
        self.reader = reperio.open(self.path, scope=SCOPES[scope], read_only=True)
        self.kb._handle.clock = Clock(lambda: self.seconds)

    @rule(by=st.sampled_from([-500.0, -1e-7, 0.0, 1e-7, 30.0]))
    def set_the_clock(self, by: float) -> None:
        self.seconds += by

    @rule(space=SPACES, items=st.lists(st.tuples(KEYS, JSON, GROUPS), max_size=6))
    def put(self, space: str, items: list[tuple[str, Any, str | None]]) -> None:
        ledger = self.kb.records(space)
        between = ledger.time()
        assert between > self.last
        keys, values, groups = ([item[place] for item in items] for place in range(3))
        time = ledger.put(keys, values=values, groups=groups)
        if items:
            assert time > between
            self.last = time
            records = self.model.setdefault((self.scope, space), {})
            records.update({key: Record(key, value, group, time) for key, value, group in items})

    @rule(space=SPACES, keys=st.lists(KEYS, max_size=6))
    def delete(self, space: str, keys: list[str]) -> None:
        records = self.model.get((self.scope, space), {})
        assert self.kb.records(space).delete(keys) == len(records.keys() & set(keys))
        for key in keys:
            records.pop(key, None)

    @rule(number=st.integers(0, 3))
    def add_chunks(self, number: int) -> None:
        """Other commits go between."""
        self.kb.add([Chunk(f"{self.scope}-{number}", "text", {"t": "a"})], vectors=[[1.0, number]])

    @rule()
    def compact(self) -> None:
        self.open(0)
        self.kb.compact()

    @rule()
    def restore(self) -> None:
        """Go on with a backup."""
        self.open(0)
        self.copies += 1
        self.kb.backup(self.directory / f"copy-{self.copies}")
        self.path = self.directory / f"copy-{self.copies}"
        self.open(0)

    @rule(
        space=SPACES,
        keys=st.lists(KEYS, max_size=6),
        groups=st.none() | st.lists(GROUPS, max_size=3),
        limit=st.none() | st.integers(1, 5),
        data=st.data(),
    )
    def narrow(
        self, space: str, keys: list[str], groups: list[str | None] | None, limit: int | None, data: st.DataObject
    ) -> None:
        records = self.model.get((self.scope, space), {})
        times = sorted({record.time for record in records.values()} | {0.0, self.last})
        before, after = (data.draw(st.none() | st.sampled_from(times)) for _ in range(2))
        expected = [
            record
            for _, record in sorted(records.items())
            if (before is None or record.time < before)
            and (after is None or record.time > after)
            and (groups is None or record.group in groups)
        ][:limit]
        for kb in (self.kb, self.reader):
            found = kb.records(space)
            assert same(found.list(before=before, after=after, groups=groups, limit=limit), expected)
            assert same(found.get(keys), [records.get(key) for key in keys])

    @invariant()
    def every_space_holds_its_own(self) -> None:
        for space in ("one", "two", "ключ"):
            expected = [record for _, record in sorted(self.model.get((self.scope, space), {}).items())]
            assert same(self.kb.records(space).list(), expected)

    def teardown(self) -> None:
        self.open(0)
        assert self.kb.check().ok
        command = [sys.executable, "-c", OTHER]
        questions = "".join(json.dumps([str(self.path), space]) + "\n" for space in ("one", "two", "ключ"))
        if next(ENDED) % 5 == 0:  # another process takes half a second
            said = subprocess.run(command, input=questions, capture_output=True, text=True, check=True).stdout
            for space, line in zip(("one", "two", "ключ"), said.splitlines(), strict=True):
                expected = [record for _, record in sorted(self.model.get((0, space), {}).items())]
                assert same([Record(*found) for found in json.loads(line)], expected)
        self.kb.close()
        self.reader.close()
        shutil.rmtree(self.directory)


def same(left: list[Any], right: list[Any]) -> bool:
    """Compare with types: 1, 1.0 and True differ."""
    return repr(left) == repr(right)


@pytest.mark.parametrize("histories", [8, pytest.param(25, marks=pytest.mark.campaign)])
def test_random_histories_agree_with_a_dictionary(histories: int) -> None:
    """Puts, deletes, scopes, a clock that is set back, compaction, backup and other readers, in any order."""
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=histories, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
