"""Folders of backups that others have made: links, files of other kinds, states and packs that lie."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

import reperio
from reperio import CollectionDamaged, ReperioError, StorageFailed
from reperio.collection.backup.packs import read_sealed, write_sealed
from tests.fault.directories import KINDS, contents, put


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "place", ["reperio-backups", "LOCK", "states/000001.json", "packs/000001.pack", "packs/000001.index"]
)
def test_another_kind_of_file_among_backups_is_named(place: str, kind: str, kb: Path, tmp_path: Path) -> None:
    """A folder of incremental backups is listed, verified, restored and added to, or refused, at once."""
    folder = tmp_path / "folder"
    with reperio.open(kb, auto_optimize=False) as opened:
        opened.backup(folder, incremental=True)
        put(folder / place, kind)
        for call in (
            lambda: reperio.backups(folder),
            lambda: reperio.backups(folder, verify=True),
            lambda: reperio.restore(folder, tmp_path / "restored"),
            lambda: reperio.restore(folder, tmp_path / "mended", mend=True),
            lambda: opened.backup(folder, incremental=True, keep=1),
        ):
            with suppress(ReperioError):
                call()


@pytest.mark.parametrize("name", ["packs", "states"])
def test_a_link_among_backups_is_refused(name: str, kb: Path, tmp_path: Path) -> None:
    """Through a link in the place of packs/ or states/ nothing is written or removed."""
    folder, theirs = tmp_path / "folder", tmp_path / "theirs"
    with reperio.open(kb, auto_optimize=False) as opened:
        opened.backup(folder, incremental=True)
        shutil.move(folder / name, theirs)
        (theirs / "000007.pack").write_bytes(b"theirs")
        (folder / name).symlink_to(theirs)
        before = contents(theirs)
        with pytest.raises(StorageFailed, match=f"{name}: it is a link"):
            opened.backup(folder, incremental=True, keep=1)
        with pytest.raises(StorageFailed, match=f"{name}: it is a link"):
            reperio.restore(folder, tmp_path / "restored")
    assert contents(theirs) == before


STRANGE = [
    "chunks.db-journal",
    "chunks.db-wal",
    "../escaped",
    "/etc/escaped",
    "index/../../escaped",
    "index/snapshot-1.faiss",
    "index/snapshot-000001.faiss\0",
    "extra/index/snapshot-000001.faiss",
    "vectors.f32 ",
    "LOCK",
    "",
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_state_that_names_another_file_is_refused(name: str, kb: Path, tmp_path: Path) -> None:
    """A backup's description names files that a generation has, or is damaged; the backup before it restores."""
    folder = tmp_path / "folder"
    with reperio.open(kb, auto_optimize=False) as opened:
        opened.backup(folder, incremental=True)
        opened.backup(folder, incremental=True)
    state = json.loads(read_sealed(folder / "states" / "000002.json"))
    state["files"][name] = state["files"]["collection.json"]
    write_sealed(folder / "states" / "000002.json", json.dumps(state).encode())
    for mend in (False, True):
        with pytest.raises(CollectionDamaged, match="which no backup holds"):
            reperio.restore(folder, tmp_path / "restored", mend=mend)
    assert [info.number for info in reperio.backups(folder)] == [1]
    assert any("which no backup holds" in one.what for one in reperio.backups(folder, verify=True)[1].problems)
    assert reperio.restore(folder, tmp_path / "restored", number=1).chunks == 20
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("mend", [False, True])
@pytest.mark.parametrize(("block", "declared"), [("there", 0), ("there", 1 << 50), ("absent", 1 << 50)])
def test_a_state_that_repeats_a_block_fills_no_disk(
    block: str, declared: int, mend: bool, kb: Path, tmp_path: Path
) -> None:
    """What a backup restores to is bounded by what it says, and by what there is of it: nothing is written before."""
    folder = tmp_path / "folder"
    with reperio.open(kb, auto_optimize=False) as opened:
        opened.backup(folder, incremental=True)
    path = folder / "states" / "000001.json"
    state = json.loads(read_sealed(path))
    blocks = state["files"]["chunks.db"]
    repeated = [blocks[:40]] * 6000 if block == "there" else [f"{n:040x}" for n in range(6000)]
    state["files"]["chunks.db"] = "".join(repeated) + blocks  # 200 MB
    state["facts"]["bytes"] += declared
    write_sealed(path, json.dumps(state).encode())
    with pytest.raises(CollectionDamaged, match="would take 19"):
        reperio.restore(folder, tmp_path / "restored", mend=mend)
    assert not (tmp_path / "restored").exists()


def test_a_pack_index_that_lies_is_refused(kb: Path, tmp_path: Path) -> None:
    """Blocks longer than any, beyond any file, or half an entry: damaged, before memory is set aside for them."""
    folder = tmp_path / "folder"
    with reperio.open(kb, auto_optimize=False) as opened:
        opened.backup(folder, incremental=True)
    path = folder / "packs" / "000001.index"
    content = read_sealed(path)
    for changed in (
        content[:28] + b"\xff" * 4 + content[32:],
        content[:20] + b"\xff" * 8 + content[28:],
        content[:-1],
    ):
        write_sealed(path, changed)
        with pytest.raises(CollectionDamaged):
            reperio.restore(folder, tmp_path / "restored")
