"""Index files that are mapped, and verified once per machine."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import reperio
from reperio import Chunk, ReperioWarning
from reperio.index import remove_others, searcher_of
from reperio.index.library import files, verified
from reperio.index.library.files import FileUnusable, Written, read_file, share_file, write_file
from reperio.index.library.huge_pages import HUGE
from tests.index.library.test_files import FACTORIES, Watch, lists_elsewhere, written

D = 32
KINDS = (
    "Flat", "SQ8", "PQ8x4", "PQ16x4fs", "HNSW8,Flat", "HNSW8,SQ8", "HNSW8,PQ8x4", "NSG8,Flat", "IVF4,Flat", "IVF4,SQ8",
    "IVF4,PQ8x4", "IVF4,PQ16x4fs", "IVF4,RaBitQ", "PCA16,HNSW8,SQ8", "PCA16,HNSW8,SQ8,Refine(PQ16x4)",
    "IVF4,PQ16x4fs,Refine(SQ8)", "PCA16,IVF4_HNSW4,PQ16x4fs",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(verified.VARIABLE, raising=False)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the files that are read whole."""
    counted: list[int] = []
    real = files.names_a_file

    def names_a_file(blocks: Any, size: int) -> bool:
        counted.append(size)
        return real(blocks, size)

    monkeypatch.setattr(files, "names_a_file", names_a_file)
    return counted


def vectors(rows: int = 600) -> Any:
    return np.random.default_rng(0).standard_normal((rows, D)).astype(np.float32)


def index_file(path: Path, factory: str = "HNSW8,SQ8", *, rows: int = 600) -> Written:
    index = faiss.index_factory(D, factory)
    index.train(vectors(rows))
    index.add(vectors(rows))
    return write_file(index, path)


def aged(path: Path, seconds: float = 60.0) -> None:
    """Let the next look at the file find it changed long ago, as far as its own times go."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a file that has just been written for one that was left alone for a while."""
    monkeypatch.setattr(verified, "_SETTLED", -60.0)


@pytest.mark.parametrize("factory", KINDS)
def test_a_mapped_index_answers_as_a_read_one_does(factory: str, tmp_path: Path) -> None:
    """Rows and distances are equal to the bit, whatever the kind of index, for one query and for many."""
    record = index_file(tmp_path / "index", factory)
    read, shared = read_file(tmp_path / "index", record), share_file(tmp_path / "index", record)
    assert (shared.d, shared.ntotal, shared.metric_type) == (read.d, read.ntotal, read.metric_type)
    queries = vectors()[:40] + 0.1
    for one, other in zip(read.search(queries, 10), shared.search(queries, 10), strict=True):
        assert one.tobytes() == other.tobytes()
    mine, theirs = searcher_of(read), searcher_of(shared)
    found = [each.search_one(queries[0], 10, each.params(8, 10)).copy() for each in (mine, theirs)]
    assert found[0].tolist() == found[1].tolist()
    if mine.codes is not None:
        assert theirs.codes is not None
        packed = [codes.all.search_one(queries[0], 10).copy() for codes in (mine.codes, theirs.codes)]
        assert packed[0].tolist() == packed[1].tolist()


def test_the_parts_of_a_graph_lie_in_the_mapping(tmp_path: Path) -> None:
    """Links and codes are not copied: their addresses are those of the mapped file."""
    shared = share_file(tmp_path / "index", index_file(tmp_path / "index"))
    (view,) = shared.referenced_objects
    low = view.ctypes.data
    storage = faiss.downcast_index(shared.storage)
    for address in (int(shared.hnsw.neighbors.data()), int(storage.codes.data())):
        assert low <= address < low + len(view)


def test_an_index_outlives_its_name(tmp_path: Path) -> None:
    """Its file is removed, as by `optimize` and `compact`, and the index that was mapped from it goes on answering."""
    record = index_file(tmp_path / "snapshot-000001.faiss")
    shared = share_file(tmp_path / "snapshot-000001.faiss", record)
    before = shared.search(vectors()[:40], 10)[1]
    remove_others(tmp_path)
    assert not (tmp_path / "snapshot-000001.faiss").exists()
    assert (shared.search(vectors()[:40], 10)[1] == before).all()


@pytest.mark.usefixtures("settled")
def test_a_file_is_verified_once(tmp_path: Path, reads: list[int]) -> None:
    """The second time it is not read whole; `read_file` and `verify_file` read it each time."""
    record = index_file(tmp_path / "index")
    for _ in range(3):
        share_file(tmp_path / "index", record)
    assert len(reads) == 1
    read_file(tmp_path / "index", record)
    files.verify_file(tmp_path / "index", record)
    assert len(reads) == 3


def test_a_file_that_has_just_been_changed_is_not_remembered(tmp_path: Path, reads: list[int]) -> None:
    """A change within one tick of the clock would leave no trace in its times."""
    record = index_file(tmp_path / "index")
    for _ in range(2):
        share_file(tmp_path / "index", record)
    assert len(reads) == 2


def _in_place(path: Path) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replaced(path: Path) -> None:
    status, other = path.stat(), path.with_name("other")
    shutil.copy(path, other)
    _in_place(other)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", [_in_place, _replaced])
def test_a_changed_file_is_verified_again(change: Callable[[Path], None], tmp_path: Path) -> None:
    """Also where its length and the time of its last change are what they were."""
    record = index_file(tmp_path / "index")
    share_file(tmp_path / "index", record)
    change(tmp_path / "index")
    with pytest.raises(FileUnusable, match="SHA-256 is not the one recorded"):
        share_file(tmp_path / "index", record)


@pytest.mark.usefixtures("settled")
def test_another_record_of_the_same_file_is_not_vouched_for(tmp_path: Path) -> None:
    """Remember the checksum that was computed, not that the file is good."""
    record = index_file(tmp_path / "index")
    share_file(tmp_path / "index", record)
    with pytest.raises(FileUnusable, match="SHA-256 is not the one recorded"):
        share_file(tmp_path / "index", record._replace(sha256="0" * 64))


@pytest.mark.usefixtures("settled")
def test_who_is_careful_verifies_each_time(tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """With REPERIO_VERIFY=always, or any other word, nothing is believed and nothing noted; "once" is the default."""
    record = index_file(tmp_path / "index")
    share_file(tmp_path / "index", record)
    for word in ("always", "allways"):
        monkeypatch.setenv(verified.VARIABLE, word)
        share_file(tmp_path / "index", record)
    assert len(reads) == 3
    monkeypatch.setenv(verified.VARIABLE, "once")
    share_file(tmp_path / "index", record)
    assert len(reads) == 3


def _by_others(place: Path) -> None:
    place.chmod(0o777)


def _of_links(place: Path) -> None:
    for note in place.iterdir():
        note.unlink()
        note.symlink_to("/dev/null")


def _a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.write_bytes(b"")


def _a_link(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))
    place.symlink_to(place.with_name("elsewhere"))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", [_by_others, _of_links, _a_file, _a_link, shutil.rmtree])
def test_notes_that_others_may_have_made_are_not_believed(
    change: Callable[[Path], None], tmp_path: Path, reads: list[int]
) -> None:
    """Where the directory of notes can be written by others, is a link or no directory, the file is read instead."""
    record = index_file(tmp_path / "index")
    share_file(tmp_path / "index", record)
    place = tmp_path / "cache" / "reperio" / "verified"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    change(place)
    assert share_file(tmp_path / "index", record).ntotal == 600
    assert len(reads) == 2


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("home", ["", "relative", "/proc/none/such"])
def test_without_a_cache_an_index_is_read_all_the_same(
    home: str, tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is verified each time."""
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    monkeypatch.setenv("HOME", "/proc/none")
    record = index_file(tmp_path / "index")
    for _ in range(2):
        assert share_file(tmp_path / "index", record).ntotal == 600
    assert len(reads) == 2


@pytest.mark.usefixtures("settled")
def test_notes_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number has a limit; the newest stay."""
    monkeypatch.setattr(verified, "_MOST", 4)
    record = index_file(tmp_path / "index")
    for number in range(12):
        os.utime(tmp_path / "index", (number, number))
        share_file(tmp_path / "index", record)
        assert verified.is_verified((tmp_path / "index").stat(), record.sha256)
    assert len(list((tmp_path / "cache" / "reperio" / "verified").iterdir())) <= 5


@pytest.mark.parametrize("name", FACTORIES)
def test_lists_elsewhere_are_refused_before_they_are_mapped(name: str, tmp_path: Path) -> None:
    """Its checksum agrees, and FAISS opens nothing; the refusal is not remembered as a success."""
    victim = tmp_path / "letter"
    victim.write_bytes(b"")
    record = written(lists_elsewhere(FACTORIES[name], victim), tmp_path / "index")
    watch = Watch(victim)
    for _ in range(2):
        with pytest.raises(FileUnusable, match="lists are in another file"):
            share_file(tmp_path / "index", record)
    assert not watch.opened()


def test_what_cannot_be_mapped_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system or a limit may refuse a mapping."""
    record = index_file(tmp_path / "index")
    monkeypatch.setattr(files, "map_file", lambda *_: None)
    assert share_file(tmp_path / "index", record).search(vectors()[:3], 1)[1].ravel().tolist() == [0, 1, 2]


def test_a_file_is_written_in_huge_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write but the last is a huge page, at its place: so the page cache can hold it in such."""
    sizes: list[int] = []
    real = os.write

    def write(descriptor: int, data: Any) -> int:
        sizes.append(len(data))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    record = index_file(tmp_path / "index", "Flat", rows=40_000)
    assert sizes == [HUGE] * (record.bytes // HUGE) + [record.bytes % HUGE]


@pytest.mark.usefixtures("settled")
def test_a_collection_brings_no_note_of_its_own(tmp_path: Path) -> None:
    """Whatever lies in its directory, an index that is not what was recorded is refused when it is first opened."""
    with reperio.open(tmp_path / "kb", dimension=D, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{row}", "text") for row in range(600)], vectors=vectors())
        kb.optimize(index="HNSW8,SQ8")
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        expected = [hit.chunk.id for hit in kb.search(vector=vectors()[5], k=3)]
    shutil.copytree(tmp_path / "cache" / "reperio", tmp_path / "kb" / "reperio")
    (snapshot,) = (tmp_path / "kb").rglob("*.faiss")
    _in_place(snapshot)
    with (
        reperio.open(tmp_path / "kb", read_only=True) as kb,
        pytest.warns(ReperioWarning, match="SHA-256 is not the one recorded"),
    ):
        assert [hit.chunk.id for hit in kb.search(vector=vectors()[5], k=3)] == expected


@pytest.mark.usefixtures("settled")
def test_a_check_reads_the_index_each_time(tmp_path: Path, reads: list[int]) -> None:
    """Use what is remembered for opening only; `check` looks at every byte."""
    with reperio.open(tmp_path / "kb", dimension=D, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{row}", "text") for row in range(600)], vectors=vectors())
        kb.optimize(index="HNSW8,SQ8")
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        kb.search(vector=vectors()[5], k=3)
        before = len(reads)
        assert not kb.check().problems
        assert not kb.check().problems
        assert len(reads) == before + 2
