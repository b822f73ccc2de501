"""Names that the database of others tells: none is a path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import reperio
from reperio import ReperioWarning
from reperio.collection.backup.packs import read_sealed
from tests.fault.directories import QUERY, SECRET, execute, name_index, plant, quietly

HOSTILE_NAMES = [
    "../../../secret",
    "/etc/passwd",
    "snapshot-000001.faiss/../../../../secret",
    "snapshot-000001.faiss\0",
    "snapshot-000001.faiss\n",
    "snapshot-٠٠٠٠٠١.faiss",
    "../collection.json",
    "queries.npy",
    "snapshot-000001.faiss#0x1",
    ".",
    "",
]


@pytest.mark.parametrize("trust_index", [True, False])
def test_a_snapshots_name_is_no_path_when_restored(trust_index: bool, kb: Path, tmp_path: Path) -> None:
    """A name that leads out of the restored collection replaces nothing there."""
    plant(kb)
    with quietly():
        reperio.restore(kb, tmp_path / "home" / "kb", trust_index=trust_index)
    assert (tmp_path / "home" / ".bashrc").read_text() == "# mine\n"
    assert sorted(entry.name for entry in (tmp_path / "home").iterdir()) in ([".bashrc"], [".bashrc", "kb"])


@pytest.mark.parametrize("trust_index", [True, False])
def test_a_snapshots_name_is_no_path_when_backed_up(trust_index: bool, kb: Path, tmp_path: Path) -> None:
    """Likewise when the collection is backed up through a handle."""
    plant(kb)
    with reperio.open(kb, read_only=True, trust_index=trust_index) as opened:
        opened.backup(tmp_path / "home" / "kb")
    assert (tmp_path / "home" / ".bashrc").read_text() == "# mine\n"


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_only_an_index_goes_into_a_backup_as_one(name: str, kb: Path, tmp_path: Path) -> None:
    """Whatever name the database tells, nothing but files that we name goes into backups, and none is removed."""
    name_index(kb, name)
    for trust_index in (True, False):
        full, folder = tmp_path / f"full-{trust_index}", tmp_path / f"folder-{trust_index}"
        with reperio.open(kb, read_only=True, trust_index=trust_index) as opened:
            opened.backup(full)
            opened.backup(folder, incremental=True)
        content = [path.read_bytes() for path in (*full.rglob("*"), *folder.rglob("*")) if path.is_file()]
        assert not any(SECRET.encode() in one or b"root:" in one for one in content)
        named = json.loads(read_sealed(folder / "states" / "000001.json"))["files"]
        assert set(named) <= {"chunks.db", "collection.json", "vectors.f32", "index/queries.npy"}
    with quietly(), reperio.open(kb, auto_optimize=False) as opened:
        assert len(opened.search(vector=QUERY, k=20)) == 20
    assert (tmp_path / "secret").read_text() == SECRET
    assert {"chunks.db", "collection.json"} <= {entry.name for entry in (kb / "gen-000001").iterdir()}


@pytest.mark.parametrize("file", ["../../../secret", "/etc/passwd", "snapshot-000001.faiss\0", "queries.npy"])
def test_a_record_names_only_a_file_of_an_index(file: str, kb: Path) -> None:
    """The file in an index's record is compared before it is looked for, by readers, by check and by optimize."""
    execute(kb, "UPDATE snapshots SET record = json_set(record, '$.file', ?)", file)
    with reperio.open(kb, read_only=True) as opened:
        with pytest.warns(ReperioWarning, match="which no index has"):
            assert len(opened.search(vector=QUERY, k=20)) == 20
        assert any("which no index has" in problem.what for problem in opened.check().problems)
    with reperio.open(kb, auto_optimize=False) as opened:
        assert opened.optimize(index="SQ8") is not None
        assert opened.check().ok


def test_an_index_that_is_not_trusted_is_not_copied(kb: Path, tmp_path: Path) -> None:
    """Neither into a backup nor into a folder of them; the copy knows of none, and is whole."""
    with reperio.open(kb, read_only=True, trust_index=False) as opened:
        opened.backup(tmp_path / "full")
        opened.backup(tmp_path / "folder", incremental=True)
    reperio.restore(tmp_path / "folder", tmp_path / "unpacked")
    for copied in (tmp_path / "full", tmp_path / "unpacked"):
        assert [entry.name for entry in (copied / "gen-000001" / "index").iterdir()] == ["queries.npy"]
        with reperio.open(copied, read_only=True) as opened:
            assert opened.check().ok
            assert opened.info().index is None
            assert opened.count() == 20
