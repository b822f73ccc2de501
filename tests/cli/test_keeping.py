"""``reperio export``, ``restore``, ``doctor`` and incremental ``backup``, as they are typed."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk
from tests.cli.test_main import own_lines, refused, run, run_json


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    with reperio.open(tmp_path / "kb", dimension=4, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{i}", f"text {i}") for i in range(20)], vectors=np.eye(20, 4) + 0.1)
        kb.records("docs").put(["a"])
    return tmp_path / "kb"


def test_export_and_import(filled: Path, tmp_path: Path) -> None:
    """Out and back by two commands, in both formats; errors are one line and leave nothing."""
    for written in ("parquet", "jsonl"):
        out, again = tmp_path / written, tmp_path / f"{written}-kb"
        result = run("export", filled, out, "--format", written, columns=200)
        assert (result.exit_code, own_lines(result)) == (0, [])
        assert result.stdout.split() == f"20 chunks and 1 records of {filled} are written to {out}".split()
        result = run("import", "export", out, "--into", again, columns=200)
        assert result.stdout.split() == f"20 chunks and 1 records of {out} are in the new {again}".split()
        assert run_json("info", again)["count"] == 20
    assert run_json("export", filled, tmp_path / "third")["chunks"] == 20
    assert run_json("import", "export", tmp_path / "third", "--into", tmp_path / "fourth")["metric"] == "cosine"
    assert "format is 'csv'" in refused("export", filled, tmp_path / "new", "--format", "csv")
    assert "already exists" in refused("export", filled, tmp_path / "third")
    assert "no export" in refused("import", "export", filled, "--into", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_backup_and_restore(filled: Path, tmp_path: Path) -> None:
    """Backups into one folder, the older ones removed; any that is left comes back."""
    folder = tmp_path / "backups"
    for _ in range(3):
        assert run("backup", filled, folder, "--incremental", "--keep", "2").exit_code == 0
    assert "are verified and in" in run("restore", folder, tmp_path / "newest", columns=200).stdout
    done = run_json("restore", folder, tmp_path / "second", "--number", "2")
    assert (done["number"], done["chunks"]) == (2, 20)
    assert "no backup 1; there are: 2, 3" in refused("restore", folder, tmp_path / "first", "--number", "1")
    assert "--keep is for --incremental" in refused("backup", filled, tmp_path / "new", "--keep", "2")
    assert run_json("check", tmp_path / "newest")["ok"]


def test_backups_are_listed_verified_and_mended(filled: Path, tmp_path: Path) -> None:
    """With --verify the exit code is 1 for a damaged one, of which --mend restores the rest; plain ones are refused."""
    folder = tmp_path / "backups"
    for number in range(2):
        with reperio.open(filled, auto_optimize=False) as kb:
            kb.optimize(index="SQ8")
            kb.add([Chunk(f"d{number}", "more")], vectors=[[1.0, 0.0, 0.0, number]])
            kb.backup(folder, incremental=True)
    listed = run("backups", folder, columns=200)
    assert (listed.exit_code, len(listed.stdout.splitlines())) == (0, 2)
    assert listed.stdout.startswith("1: 20")
    assert run("backups", folder, "--verify").stdout.count(", whole") == 2
    pack = folder / "packs" / "000002.pack"
    content = bytearray(pack.read_bytes())
    with reperio.open(filled, read_only=True) as kb:
        content[content.index(kb.vectors(["d1"]).tobytes())] ^= 1
    pack.write_bytes(content)
    result = run("backups", folder, "--verify", columns=300)
    assert result.exit_code == 1
    assert "chunks, " in result.stdout.splitlines()[0]
    assert result.stdout.splitlines()[0].endswith("whole")
    assert "2: " in result.stdout.splitlines()[1]
    assert "– vectors.f32: 1 of 1 blocks" in result.stdout
    assert run("backups", folder, "--verify", "--json").exit_code == 1
    assert [one["number"] for one in run_json("backups", folder)["backups"]] == [1, 2]
    assert "--mend" in refused("restore", folder, tmp_path / "new")
    done = json.loads(run("restore", folder, tmp_path / "new", "--mend", "--distrust-index", "--json").stdout)
    assert (done["chunks"], len(done["lost"])) == (21, 1)
    result = run("restore", folder, tmp_path / "again", "--mend", columns=300)
    assert result.exit_code == 0
    assert "lost: row 21: chunk 'd1'" in result.stdout + result.stderr
    assert "reperio check verifies" in refused("backups", filled)


def test_the_doctor(filled: Path) -> None:
    """Sound: exit code 0; damaged: 1, with the cost and the cure; mended: 0, with what was lost."""
    assert run("doctor", filled).stdout.strip() == "sound: nothing to be done"
    (vectors,) = filled.glob("gen-*/vectors.f32")
    content = bytearray(vectors.read_bytes())
    content[5 * 16] ^= 0xFF
    vectors.write_bytes(content)
    result = run("doctor", filled, columns=400)
    assert result.exit_code == 1
    assert "damage: chunk 'c5' (row 5)" in result.stdout
    assert "cost: 1 chunks (row 5: chunk 'c5'); 19 are whole" in result.stdout
    assert "cure: keep what is whole, list the rest (--mend does it)" in result.stdout
    result = run("doctor", filled, "--mend", columns=400)
    assert result.exit_code == 0
    assert "lost: row 5: chunk 'c5'" in result.stdout
    assert "note: " in result.stdout
    found = run_json("doctor", filled)
    assert found["ok"]
    assert [finding["kind"] for finding in found["findings"]] == ["note"]
    assert run_json("info", filled)["count"] == 19


def test_each_room_logs_what_it_does(filled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO, under reperio.ROOM: what was opened, indexed, backed up, restored, rewritten, imported; no texts."""
    from reperio.exchange import export_collection, import_collection

    with caplog.at_level(logging.INFO, logger="reperio"), reperio.open(filled, auto_optimize=False) as kb:
        kb.optimize(index="SQ8")
        kb.backup(tmp_path / "full")
        kb.backup(tmp_path / "more", incremental=True)
        reperio.restore(tmp_path / "more", tmp_path / "restored")
        kb.delete(ids=["c3"])
        kb.compact()
        export_collection(kb, tmp_path / "out", format="jsonl")
        import_collection(tmp_path / "out", tmp_path / "again")
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    for part in ("opened for writing, 20 chunks", "index in use: SQ8", "20 chunks backed up", "for backup 1",
                 "SQ8 built over 20 rows", "restored from backup 1", "19 chunks and 1 records exported as jsonl",
                 "gen-000002 in use instead of gen-000001", "19 chunks and 1 records imported"):  # fmt: skip
        assert any(part in line for line in told), part
    rooms = ("collection", "index", "store", "ingestion")
    assert {record.name for record in caplog.records} <= {f"reperio.{room}" for room in rooms}
    assert not any("text 1" in line for line in told)
