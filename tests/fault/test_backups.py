from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import reperio
from reperio import Chunk, CollectionNotFound, ReperioError
from tests.crash.plan import DIMENSION, item
from tests.crash.verification import check_answers

from .backups import LACKING, back_up_amid_writes, open_old_format

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("seed", range(2))
def test_a_backup_amid_writes_is_one_state(seed: int, tmp_path: Path) -> None:
    """Backups taken while a writer works have the digest of one of its states, restored anywhere, without index too."""
    assert back_up_amid_writes(seed, tmp_path / "work") == {"whole": 3, "increments": 3}


def test_what_a_killed_first_backup_leaves_is_no_obstacle(tmp_path: Path) -> None:
    """A first incremental backup that was refused or killed before its folder had its mark can be made again."""
    folder = tmp_path / "increments"
    folder.mkdir()
    (folder / "reperio-backups.new").write_bytes(b"")
    with reperio.open(tmp_path / "kb", dimension=DIMENSION) as kb:
        kb.backup(folder, incremental=True)
    assert len(reperio.backups(folder)) == 1


def test_a_folder_with_nothing_but_its_mark_has_no_backups(tmp_path: Path) -> None:
    """A first incremental backup killed right after its folder got its mark: there is none to list or restore."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION) as kb:
        kb.backup(tmp_path / "increments", incremental=True)
        for folder in ("states", "packs"):
            shutil.rmtree(tmp_path / "increments" / folder)
        with pytest.raises(CollectionNotFound):
            reperio.backups(tmp_path / "increments")
        with pytest.raises(ReperioError):
            reperio.restore(tmp_path / "increments", tmp_path / "restored")
        kb.backup(tmp_path / "increments", incremental=True)
    assert len(reperio.backups(tmp_path / "increments")) == 1


@pytest.mark.parametrize(("incremental", "times"), [(False, 12), (True, 60)], ids=["whole", "incremental"])
def test_a_backup_outlives_the_generation_it_began_with(incremental: bool, times: int, tmp_path: Path) -> None:
    """A backup under which compact puts another generation in use, again and again, is whole, or begins anew."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        made = [item(1, number, 0) for number in range(60)]
        kb.add([Chunk(key, one.text, one.metadata) for key, one in made], vectors=[one.vector for _, one in made])
        finished = threading.Event()

        def compact() -> None:
            while not finished.is_set():
                kb.compact()

        with ThreadPoolExecutor(1) as pool:
            compacting = pool.submit(compact)
            try:
                for number in range(times):
                    kb.backup(tmp_path / ("all" if incremental else str(number)), incremental=incremental)
            finally:
                finished.set()
            compacting.result(60)
    source = tmp_path / ("all" if incremental else f"{times - 1}")
    reperio.restore(source, tmp_path / "restored")
    with reperio.open(tmp_path / "restored", read_only=True) as kb:
        check_answers(kb, dict(made))


@pytest.mark.parametrize("number", range(len(LACKING)))
def test_an_old_format_is_read_and_written(number: int, tmp_path: Path) -> None:
    """A collection of an older format version, which lacks what came later, answers the same and takes new chunks."""
    assert open_old_format(number, tmp_path) == {f"format {number + 1}": 1}
