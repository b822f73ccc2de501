"""The ledger's table: damage is found, one commit is one commit, and the indexes serve the questions."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

import reperio
from reperio import Collection


def _change(kb: Collection, sql: str) -> None:
    """Change the database behind the collection's back, as damage does."""
    generation = Path(kb.info().path) / kb.info().generation
    connection = apsw.Connection(str(generation / "chunks.db"))
    connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE records SET value = '{' WHERE key = 'b'", "1 records have a value that is no JSON"),
        ("UPDATE clock SET time = 5", "2 records are newer than the clock"),
        ("PRAGMA foreign_keys = off; DELETE FROM spaces", "2 records are in no space"),
    ],
)
def test_check_finds_damage(damage: str, found: str, kb: Collection) -> None:
    """Each kind with its cure."""
    ledger = kb.records("docs")
    ledger.put(["a", "b"], values=[1, {"x": 2}])
    assert kb.check().ok
    _change(kb, damage)
    [problem] = kb.check().problems
    assert found in problem.what
    assert "restore from a backup" in problem.cure


def test_a_damaged_value_is_no_answer(kb: Collection) -> None:
    """It is told as damage; the other records can still be read."""
    ledger = kb.records("docs")
    ledger.put(["a", "b"], values=[1, 2])
    _change(kb, "UPDATE records SET value = x'ff' WHERE key = 'b'")
    with pytest.raises(reperio.CollectionDamaged, match="restore from a backup"):
        ledger.list()
    assert ledger.get(["a"])[0].value == 1


def test_a_failing_put_stores_nothing(kb: Collection) -> None:
    """An error in the middle of the transaction leaves records and clock as they were, and the writer usable."""
    ledger = kb.records("docs")
    last = ledger.put(["a"], values=[1])
    _change(kb, "CREATE TRIGGER no BEFORE INSERT ON records WHEN new.key = 'm' BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(reperio.StorageFailed, match="no"):
        ledger.put(["a", "k", "m", "z"], values=[2, 2, 2, 2])
    assert [(record.key, record.value, record.time) for record in ledger.list()] == [("a", 1, last)]
    assert ledger.put(["k"]) > last
    assert kb.check().ok


def test_times_and_groups_have_their_index(kb: Collection) -> None:
    """What a list is narrowed by is looked up, and not searched for among all keys."""
    ledger = kb.records("docs")
    ledger.put([f"k{n}" for n in range(2000)], groups=[f"g{n // 2}" for n in range(2000)])
    generation = kb._handle.generation
    with generation.store.session() as session:
        asked: list[str] = []
        connection = session._cursor.connection
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: asked.append(event["sql"]))
        reading = session.ledger("", "docs")
        reading.list(before=1.0, after=None, groups=None, limit=10)
        reading.list(before=2e9, after=None, groups=["g7"], limit=10)
        reading.list(before=None, after=None, groups=None, limit=10)
        connection.trace_v2(0)
        plans = []
        for sql in [sql for sql in asked if "FROM records" in sql]:
            values = (1, *[None] * (sql.count("?") - 1))
            plans.append(" ".join(str(step[3]) for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)))
    by_time, by_group, by_key = plans
    assert "records_by_time (space=? AND time<?)" in by_time
    assert "records_by_group (space=? AND in_group=? AND time<?)" in by_group
    assert "autoindex" in by_key
    assert "TEMP B-TREE" not in by_key


WORKER = """
import os, sys, reperio
with reperio.open(sys.argv[1], dimension=4) as kb:
    ledger, keys = kb.records("docs"), [f"key-{n}" for n in range(300)]
    for number in range(10**9):
        ledger.put(keys, values=[number] * 300)
        os.write(1, b"%d\\n" % number)
"""


@pytest.mark.crash
def test_a_kill_leaves_one_put_or_the_next(tmp_path: Path) -> None:
    """After SIGKILL at any time, all records are of one put: the last acknowledged, or the one under way."""
    rng, last = random.Random(7), -1
    for _ in range(6):
        worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "kb")], stdout=subprocess.PIPE)
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        os.kill(worker.pid, signal.SIGKILL)
        told = worker.stdout.read().split()
        worker.wait()
        worker.stdout.close()
        last = int(told[-1]) if told else 0
        with reperio.open(tmp_path / "kb", read_only=True) as kb:
            records = kb.records("docs").list()
            assert kb.check().ok
        assert len(records) == 300
        assert {record.value for record in records} in ({last}, {last + 1})
        assert len({record.time for record in records}) == 1
