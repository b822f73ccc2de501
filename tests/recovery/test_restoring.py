"""The way back from a backup that is damaged, of others, or written to meanwhile."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Collection, CollectionDamaged, ReperioWarning
from tests.collection.grown import D, content, content_at, flip, grow


@pytest.fixture(params=["float32", "float16"])
def kb(request: pytest.FixtureRequest, path: Path) -> Any:
    with reperio.open(path, dimension=D, dtype=request.param, auto_optimize=False) as collection:
        yield collection


@pytest.mark.parametrize("incremental", [False, True])
def test_a_damaged_index_is_left_out(incremental: bool, kb: Collection, tmp_path: Path) -> None:
    """It costs no chunk: warnings name it, at the line that called, and the first writer rebuilds it."""
    grow(kb, 0, 300)
    kb.optimize(index="SQ8")
    kb.backup(tmp_path / "b", incremental=incremental)
    for path in (tmp_path / "b").glob("packs/*.pack" if incremental else "gen-*/index/*.faiss"):
        flip(path, -3)  # the index is what was written last
    with pytest.warns(ReperioWarning, match="left out") as warned:
        reperio.restore(tmp_path / "b", tmp_path / "restored")
    assert [one.filename for one in warned] == [__file__]
    with reperio.open(tmp_path / "restored", auto_optimize=False) as restored:
        assert content(restored) == content(kb)
        with pytest.warns(ReperioWarning, match="cannot be used") as warned:
            restored.search(vector=np.ones(D))
        assert [one.filename for one in warned] == [__file__]
        restored.optimize(index="SQ8")
        assert restored.check().ok


@pytest.mark.parametrize("incremental", [False, True])
def test_an_index_of_others_is_not_restored(incremental: bool, kb: Collection, tmp_path: Path) -> None:
    """With trust_index=False its file is neither read nor brought along, nor is what it was chosen for."""
    grow(kb, 0, 300)
    kb.optimize(index="SQ8")
    kb.backup(tmp_path / "b", incremental=incremental)
    reperio.restore(tmp_path / "b", tmp_path / "restored", trust_index=False)
    assert not list((tmp_path / "restored").rglob("*.faiss"))
    with reperio.open(tmp_path / "restored", read_only=True) as restored:
        assert restored.info().index is None
    assert content_at(tmp_path / "restored") == content(kb)


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_what_is_whole_of_a_damaged_backup_comes_back(
    incremental: bool, cut: bool, kb: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With mend=True all chunks that are whole are restored, and the others are listed; without, it is refused."""
    grow(kb, 0, 2000)
    kb.optimize(index="SQ8")
    kb.backup(tmp_path / "b", incremental=incremental)
    (file,) = (tmp_path / "b").glob("packs/000001.pack" if incremental else "gen-*/vectors.*")
    vectors = kb.vectors(["c1500"]).astype(kb.info().dtype).tobytes()
    at = file.read_bytes().index(vectors)
    flip(file, at)
    if cut:
        os.truncate(file, at + len(vectors))
    with pytest.raises(CollectionDamaged, match="mend=True"):
        reperio.restore(tmp_path / "b", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    done = reperio.restore(tmp_path / "b", tmp_path / "restored", mend=True)
    assert done.chunks == 2000 - len(done.lost)
    assert any("chunk 'c1500'" in line for line in done.lost)
    assert "lost: " in caplog.text
    assert cut or len(done.lost) == 1
    assert [entry.name for entry in (tmp_path / "restored").iterdir() if "damaged" in entry.name] == []
    with reperio.open(tmp_path / "restored", read_only=True) as restored:
        assert restored.check().ok
        whole = restored.ids()
        assert len(whole) == done.chunks > 1000
        assert restored.get(whole) == kb.get(whole)
        assert restored.vectors(whole).tobytes() == kb.vectors(whole).tobytes()


def test_what_is_restored_beside_writers_is_whole(kb: Collection, path: Path, tmp_path: Path) -> None:
    """Restoring a folder while retention removes what is read, or a collection while it is compacted, goes on."""
    grow(kb, 0, 500)
    kb.backup(tmp_path / "backups", incremental=True)
    finished = threading.Event()

    def work() -> None:
        while not finished.is_set():
            kb.compact()
            kb.backup(tmp_path / "backups", incremental=True, keep=1)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            for number in range(20):
                reperio.restore(path if number % 2 else tmp_path / "backups", tmp_path / str(number))
        finally:
            finished.set()
        working.result(60)
    for number in range(20):
        assert content_at(tmp_path / str(number))["chunks"] == list(kb)
