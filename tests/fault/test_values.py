"""Values that no writer has written, in the files of a collection, of its index record and of its ledger."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import orjson
import pytest

import reperio
from reperio import Chunk, CollectionDamaged, ReperioError, ReperioWarning
from reperio.exchange import export_collection
from reperio.store import schema

D = 4
VECTORS = np.random.default_rng(3).standard_normal((20, D)).astype(np.float32)
DATABASE = "gen-000001/chunks.db"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection of 20 chunks, of which two are deleted, with a record in its ledger."""
    root = tmp_path_factory.mktemp("values") / "kb"
    with reperio.open(root, dimension=D, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{i}", f"text number {i}", {"n": i}) for i in range(20)], vectors=VECTORS)
        kb.delete(ids=["c3", "c4"])
        kb.records("space").put(["key"], values=[1])
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "kb"))


def alter(root: Path, *statements: str) -> None:
    """Change what the database says, whatever its tables allow."""
    connection = apsw.Connection(str(root / DATABASE))
    connection.pragma("ignore_check_constraints", True)
    for statement in statements:
        connection.execute(statement)
    connection.pragma("writable_schema", True)  # of `unbind` nothing is to be seen but what it has let in
    for _, name, _, sql in schema._created():
        if name != "lexical":  # the one table that there is of several kinds
            connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, name))
    connection.close()


def unbind(root: Path) -> None:
    """Take NOT NULL from the database's tables, which damage does not ask either."""
    connection = apsw.Connection(str(root / DATABASE))
    connection.pragma("writable_schema", True)
    connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '')")
    connection.close()


def settle(root: Path, **changes: Any) -> None:
    """Change what collection.json says."""
    path = root / "gen-000001" / "collection.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | changes))


def refusals(root: Path) -> Iterator[ReperioError]:
    """Go in by every door that stands open to a directory of others, and yield what each raises."""
    doors: list[Callable[[], object]] = [
        lambda: reperio.open(root, read_only=True).close(),
        lambda: reperio.open(root, auto_optimize=False, trust_index=False).close(),
        lambda: reperio.restore(root, root.with_name("restored"), trust_index=False),
    ]
    for door in doors:
        with pytest.raises(ReperioError) as refused:
            door()
        assert not root.with_name("restored").exists()
        yield refused.value


def _canary(values: list[float]) -> dict[str, str]:
    vector = base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode()
    return {"text": "a", "passage": vector, "query": vector}


def _contract(**changes: Any) -> dict[str, Any]:
    named = dict.fromkeys(("name", "revision", "query_prompt", "passage_prompt"), "x")
    return {**named, "canaries": [_canary([1.0] * D)], **changes}


SETTINGS: dict[str, dict[str, Any]] = {
    **{f"dimension {value!r}": {"dimension": value} for value in (0, -4, 10**12, 65_537, "4", 4.9, True, None, [4])},
    **{f"metric {value!r}": {"metric": value} for value in ("best", 1, [])},
    **{f"dtype {value!r}": {"dtype": value} for value in ("float64", [], None)},
    **{f"lexical {value!r}": {"lexical": value} for value in ("fast", {}, 1)},
    **{f"embedding {value!r}": {"embedding": value} for value in ([1], "x", {}, 5)},
    "no canaries": {"embedding": _contract(canaries=[])},
    "canaries by name": {"embedding": _contract(canaries={"text": "a"})},
    "a name that is a number": {"embedding": _contract(name=5)},
    "a text that is a list": {"embedding": _contract(canaries=[{**_canary([1.0] * D), "text": ["a"]}])},
    "a thousand canaries": {"embedding": _contract(canaries=[_canary([1.0] * D)] * 1000)},
    "a long canary": {"embedding": _contract(canaries=[{**_canary([1.0] * D), "text": "a" * 10_000}])},
    "no base64": {"embedding": _contract(canaries=[{"text": "a", "passage": "%%%", "query": "AAAA"}])},
    "base64 with other characters": {
        "embedding": _contract(canaries=[{**_canary([1.0] * D), "query": "%" + _canary([1.0] * D)["query"]}])
    },
    "half a float": {"embedding": _contract(canaries=[{"text": "a", "passage": "AAA=", "query": "AAA="}])},
    "another length": {"embedding": _contract(canaries=[_canary([1.0] * (D + 1))])},
    "NaN": {"embedding": _contract(canaries=[_canary([float("nan")] * D)])},
    "vectors whose squares are beyond float32": {"embedding": _contract(canaries=[_canary([3e38] * D)])},
    "Inf": {"embedding": _contract(canaries=[_canary([float("inf")] * D)])},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_be_are_damage(name: str, root: Path) -> None:
    """Whatever collection.json says that no writer wrote is `CollectionDamaged`, by every way in, and in few words."""
    settle(root, **SETTINGS[name])
    for refused in refusals(root):
        assert isinstance(refused, CollectionDamaged)
        assert "collection.json cannot be read" in str(refused)
        assert len(str(refused)) < 1000
    with pytest.raises(CollectionDamaged):
        reperio.restore(root, root.with_name("restored"), mend=True)
    (finding,) = reperio.diagnose(root).findings
    assert (finding.kind, finding.mends) == ("damage", False)


def test_deep_settings_are_damage(root: Path) -> None:
    """JSON nested without end is refused, and no stack overflows."""
    (root / "gen-000001" / "collection.json").write_bytes(b"[" * 200_000)
    assert all(isinstance(refused, CollectionDamaged) for refused in refusals(root))
    assert not reperio.diagnose(root).ok


STATES = {
    "a negative commit": "UPDATE state SET seq = -4",
    "the last commit there is": "UPDATE state SET seq = 9223372036854775807",
    "a commit that is text": "UPDATE state SET seq = 'x'",
    "half a commit": "UPDATE state SET seq = 4.5",
    "rows that are a blob": "UPDATE state SET rows = x'0102'",
    "rows beyond all": "UPDATE state SET rows = 9223372036854775807",
    "fewer than no rows": "UPDATE state SET rows = -1, live = -1",
    "live chunks as text": "UPDATE state SET live = 'many'",
    "an index named by a blob": "UPDATE state SET snapshot = x'ff'",
    "an index named by text that is none": "UPDATE state SET snapshot = CAST(x'ff' AS TEXT)",
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_cannot_be_is_damage(name: str, root: Path) -> None:
    """A state with numbers that no commit has is `CollectionDamaged`; the doctor loses nothing to it."""
    alter(root, "PRAGMA foreign_keys=0", STATES[name])
    assert all(isinstance(refused, CollectionDamaged) for refused in refusals(root))
    mended = reperio.diagnose(root, mend=True)
    assert mended.mended
    assert not mended.lost
    with reperio.open(root, read_only=True) as kb:
        assert kb.count() == 18


_FEW_BYTES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import reperio
root, door = sys.argv[1:]
try:
    if door == "doctor":
        diagnosis = reperio.diagnose(root, mend=True, trust_index=False)
        print("lost", len(diagnosis.lost))
    elif door == "restore":
        reperio.restore(root, root + "-restored", trust_index=False)
    else:
        reperio.open(root, read_only=door == "read", trust_index=False, auto_optimize=False)
except reperio.CollectionDamaged as error:
    print("CollectionDamaged", error)
"""


@pytest.mark.parametrize("door", ["read", "write", "restore", "doctor"])
@pytest.mark.parametrize("held", ["a tombstone", "a chunk"])
def test_few_bytes_that_claim_many_rows_are_damage(door: str, held: str, root: Path) -> None:
    """A vector file of holes, and one tombstone or chunk at its end, ask for no memory by the row."""
    rows = 1 << 34
    if held == "a tombstone":
        buried, live = f"INSERT INTO tombstones VALUES ({rows}, {rows - 1})", 0
    else:
        buried, live = f"INSERT INTO chunks VALUES ({rows - 1}, 'x', 'y', '{{}}', 0)", rows
    alter(
        root,
        *("DELETE FROM chunks", "DELETE FROM tombstones", buried),
        f"UPDATE state SET rows = {rows}, live = {live}",
    )
    os.truncate(root / "gen-000001" / "vectors.f32", rows * D * 4)
    ran = subprocess.run(
        [sys.executable, "-c", _FEW_BYTES, str(root), door], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("lost 0" if door == "doctor" else "CollectionDamaged"), ran.stdout


RECORDS: dict[str, Any] = {
    **{f"{name} a list": {name: [1]} for name in ("file", "sha256", "metric", "factory", "reason", "created")},
    **{f"{name} -1": {name: -1} for name in ("bytes", "rows", "dimension", "trained_for", "revision")},
    **{f"{name} text": {name: "many"} for name in ("bytes", "rows", "gather", "distortion", "points", "types")},
    **{f"goal {goal!r}": {"goal": goal} for goal in ([], 5, [2.0, "latency", None], [0.9, "best", None], ["x"] * 3)},
    "goal with endless memory": {"goal": [0.9, "latency", -1]},
    **{f"point {point!r}": {"points": [point]} for point in ([], 5, [1] * 8, [10, 0, 1e300, *[0.5] * 6], ["x"] * 9)},
    "types of numbers": {"types": [5]},
    "requested a text": {"requested": "yes"},
}


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection with an index."""
    root = tmp_path_factory.mktemp("values") / "kb"
    vectors = np.random.default_rng(3).standard_normal((1000, D)).astype(np.float32)
    with reperio.open(root, dimension=D, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{i}", f"text {i}", {}) for i in range(1000)], vectors=vectors)
        kb.optimize(index="SQ8")
    return root


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_an_index_that_cannot_be_is_done_without(name: str, indexed: Path, tmp_path: Path) -> None:
    """Of an index whose record no build has written nothing is believed: searches are exact, and `info` tells none."""
    root = Path(shutil.copytree(indexed, tmp_path / "kb"))
    with apsw.Connection(str(root / DATABASE)) as connection:
        found: Any = connection.execute("SELECT record FROM snapshots").get
        changed = orjson.dumps(orjson.loads(found) | RECORDS[name]).decode()
        connection.execute("UPDATE snapshots SET record = ?", (changed,))
    with reperio.open(root, read_only=True) as kb:
        with pytest.warns(ReperioWarning, match="its description cannot be read"):
            hits = kb.search(vector=[1.0] * D, k=5, recall=0.9)
        assert len(hits) == 5
        assert kb.info().index is None
        assert any("description cannot be read" in problem.what for problem in kb.check().problems)
    with reperio.open(root, auto_optimize=False) as kb:
        kb.optimize(index="SQ8", queries=np.random.default_rng(4).standard_normal((30, D)))
        assert kb.info().index is not None
        assert kb.check().ok


LEDGERS = {
    "a key that is a blob": "UPDATE records SET key = x'6b6579'",
    "a time that is text": "UPDATE records SET time = 'now'",
    "a time that never ends": "UPDATE records SET time = 9e999",
    "a group that is a number": "UPDATE records SET in_group = x'05'",
    "a value that is a blob": "UPDATE records SET value = CAST('1' AS BLOB)",
}


@pytest.mark.parametrize("name", LEDGERS)
def test_a_record_that_cannot_be_is_damage(name: str, root: Path, tmp_path: Path) -> None:
    """A record with fields of another type is told by check, exported by nobody, and left out by mending."""
    alter(root, LEDGERS[name])
    with reperio.open(root, auto_optimize=False) as kb:
        if "value" not in name:  # which is read as bytes, and says what it said
            with pytest.raises(CollectionDamaged, match="record"):
                kb.records("space").list()
        with pytest.raises(CollectionDamaged, match="record"):
            export_collection(kb, tmp_path / "export", format="jsonl")
        assert any("another type" in problem.what for problem in kb.check().problems)
        report = kb.check(fix=True)
        assert any("ledger" in line for line in report.lost)
        assert kb.check().ok
        assert kb.records("space").list() == []


@pytest.mark.parametrize("time", ["9e999", "'soon'", "-9e999"])
def test_a_clock_that_cannot_be_is_damage(time: str, root: Path) -> None:
    """A clock without a finite time stops no other: puts are refused, and mending sets it by the records."""
    alter(root, f"UPDATE clock SET time = {time}")
    with reperio.open(root, auto_optimize=False) as kb:
        with pytest.raises(CollectionDamaged, match="clock"):
            kb.records("space").put(["other"])
        assert not kb.check().ok
        kb.check(fix=True)
        (record,) = kb.records("space").list()
        assert record.time < kb.records("space").put(["other"]) < 1e11
