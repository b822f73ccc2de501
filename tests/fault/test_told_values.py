"""Values that no writer has written, in backups, exports, baselines and query logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import reperio
from reperio import Chunk, CollectionDamaged, InvalidInput, ReperioError
from reperio.collection.backup.packs import read_sealed, write_sealed
from reperio.evaluation import read_baseline
from reperio.exchange import export_collection, import_collection
from reperio.query_log.reading import read_log

D = 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a collection of three chunks and a record."""
    with reperio.open(tmp_path / "kb", dimension=D, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{i}", "text", {}) for i in range(3)], vectors=np.eye(D)[:3])
        kb.records("space").put(["key"])
    return tmp_path / "kb"


STATES: dict[str, Any] = {
    **{f"facts {value!r}": {"facts": value} for value in ({}, [], None, "x", {"chunks": 1})},
    **{
        f"chunks {value!r}": {"facts": {"chunks": value, "bytes": 1}} for value in ("3", -1, 2.5, True, None, 2**64 - 1)
    },
    **{f"bytes {value!r}": {"facts": {"chunks": 1, "bytes": value}} for value in ("many", [], 1e300)},
    **{
        f"time {value!r}": {"time": value} for value in (5, None, "soon", [], "2026-01-01T00:00:00+00:00" * 100, "\x1b")
    },
    **{f"files {value!r}": {"files": value} for value in ([], {"chunks.db": 5}, {"chunks.db": "zz"}, None)},
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_of_a_backup_that_cannot_be_is_damage(name: str, root: Path, tmp_path: Path) -> None:
    """A backup that says of itself what none says is told as damaged, and is in no other's way."""
    folder = tmp_path / "backups"
    with reperio.open(root, read_only=True) as kb:
        for _ in range(2):
            kb.backup(folder, incremental=True)
    path = folder / "states" / "000002.json"
    write_sealed(path, orjson.dumps(orjson.loads(read_sealed(path)) | STATES[name]))
    with pytest.raises(CollectionDamaged, match=r"000002\.json cannot be read"):
        reperio.restore(folder, tmp_path / "restored")
    assert [info.number for info in reperio.backups(folder)] == [1]
    assert [bool(info.problems) for info in reperio.backups(folder, verify=True)] == [False, True]
    assert reperio.restore(folder, tmp_path / "first", number=1).chunks == 3


MANIFESTS = {
    **{f"clock {value}": ("clock", value) for value in ('"inf"', "1e999", "-1", "true", "null", "[]", '"1"', "NaN")},
    **{f"chunks {value}": ("chunks", value) for value in ("-1", "2.5", '"3"', "true", "1e300")},
    **{f"records {value}": ("records", value) for value in ("-1", "[]", "null")},
    **{f"files {value}": ("files", value) for value in ("[]", "5", '{"chunks.jsonl": 5}')},
    **{f"settings {value}": ("settings", value) for value in ("[]", "5", '{"dimension": 0}')},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_cannot_be_is_refused(name: str, root: Path, tmp_path: Path) -> None:
    """A manifest of values that no export has is refused by name; no collection is made of it."""
    export_collection(root, tmp_path / "export", format="jsonl")
    path = tmp_path / "export" / "manifest.json"
    content = json.loads(path.read_bytes())
    key, value = MANIFESTS[name]
    content[key] = "PLACE"
    path.write_text(json.dumps(content).replace('"PLACE"', value))
    with pytest.raises(InvalidInput, match=r"manifest\.json"):
        import_collection(tmp_path / "export", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("time", ["1e999", "NaN", "-1e999", '"soon"', "true", "null"])
def test_a_record_of_an_export_has_a_time(time: str, root: Path, tmp_path: Path) -> None:
    """A time that never comes would be that of every put from then on."""
    export_collection(root, tmp_path / "export", format="jsonl")
    manifest, records = tmp_path / "export" / "manifest.json", tmp_path / "export" / "records.jsonl"
    manifest.write_bytes(orjson.dumps(orjson.loads(manifest.read_bytes()) | {"files": {}}))
    content = orjson.loads(records.read_bytes())
    records.write_text(json.dumps(content | {"time": "PLACE"}).replace('"PLACE"', time))
    with pytest.raises(InvalidInput, match=r"records\.jsonl"):
        import_collection(tmp_path / "export", tmp_path / "again")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"format": 1, "depth": ' + "9" * 400 + "}", "9" * 5000, '{"format": ' + "9" * 400 + "}"]
)
def test_a_baseline_that_cannot_be_is_refused(content: str, tmp_path: Path) -> None:
    """Nesting without end and numbers beyond every float are no baseline."""
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(InvalidInput, match="accept writes it again"):
        read_baseline(path)


def test_a_number_of_a_baseline_fits_a_float(tmp_path: Path) -> None:
    """An integer of 400 digits is no measure."""
    objects = ("settings", "index", "latency", "neighbours", "machine", "asked", "labels", "versions", "ids")
    content: dict[str, Any] = {"format": 1, "made": "", "profile": None, "depth": 1, **{key: {} for key in objects}}
    path = tmp_path / "b.json"
    path.write_text(json.dumps(content | {"values": {"nDCG@10": {"q": 10**400}}}))
    with pytest.raises(InvalidInput, match="values"):
        read_baseline(path)


LINES = (
    "[" * 100_000,
    "9" * 5000,
    '{"query": "q", "k": ' + "9" * 400 + "}",
    '{"query": "q", "k": 1e999}',
    '{"query": "q", "k": true}',
    '{"query": "q", "mode": ["dense"]}',
    '{"query": "q", "where": {"n": NaN}}',
    '{"query": "q", "where": {"n": {"$gt": Infinity}}}',
    '{"query": "q", "where": ' + '{"$not": ' * 50 + "{}" + "}" * 51,
    '{"query": "q", "ids": [1]}',
    '{"query": ["q"]}',
    '{"query": null}',
)


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_query_log_that_cannot_be_is_refused(line: str, tmp_path: Path) -> None:
    """A line that nobody has logged is refused with its place, in few words."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"query": "fine"}\n' + line + "\n")
    with pytest.raises(ReperioError, match=r"log\.jsonl:2") as refused:
        read_log(path)
    assert len(str(refused.value)) < 1500
