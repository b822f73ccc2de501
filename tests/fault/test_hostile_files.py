"""Directories that others have made: names that lead elsewhere, links, and files of other kinds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import reperio
from reperio import Chunk, CollectionDamaged, InvalidInput, ReperioError, ReperioWarning, StorageFailed
from reperio.evaluation import read_baseline, read_golden
from reperio.exchange import export_collection, import_collection
from reperio.importers.chroma import import_chroma
from reperio.importers.langchain_faiss import import_langchain_faiss
from reperio.importers.llama_index import import_llama_index
from reperio.query_log.reading import read_log, read_queries
from tests.fault.directories import FILES, FOLDERS, KINDS, LOGS, QUERY, SECRET, contents, execute, put, quietly, ways


@pytest.mark.parametrize("place", [*FILES, *LOGS, *FOLDERS])
def test_a_link_in_a_collection_is_refused(place: str, kb: Path, tmp_path: Path) -> None:
    """A link to the same file, or folder, of another collection: nothing is read, written or removed through it."""
    (tmp_path / "other" / "gen-000001" / "index" / "building").mkdir()
    (tmp_path / "other" / "gen-000001" / "index" / "building" / "build-000000000007.faiss").write_bytes(b"theirs")
    for log in LOGS:
        (tmp_path / "other" / log).touch()
    before = contents(tmp_path / "other")
    path = kb / place
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "other" / place)
    for way, call in ways(kb, tmp_path).items():
        with pytest.raises(StorageFailed, match="journal" if place.endswith("journal") else f"{path.name}.*link"):
            call()
        assert path.is_symlink(), way
        assert contents(tmp_path / "other") == before, way
        assert not (tmp_path / "restored").exists(), way


def test_a_generation_elsewhere_is_not_committed_to(kb: Path, tmp_path: Path) -> None:
    """A writer that clears superseded generations leaves those alone that a link leads to."""
    before = contents(tmp_path / "other")
    (kb / "gen-000002").symlink_to(tmp_path / "other" / "gen-000001")
    (kb / "gen-000003.new").symlink_to(tmp_path / "other" / "gen-000001")
    (kb / "damaged-gen-000001").symlink_to(tmp_path / "other" / "gen-000001")
    reperio.open(kb, auto_optimize=False).close()
    assert reperio.diagnose(kb, mend=True).ok
    assert contents(tmp_path / "other") == before


def test_a_collection_is_reached_through_a_link(kb: Path, tmp_path: Path) -> None:
    """The path of a collection itself may be a link, and its folder: that is how releases are switched."""
    (tmp_path / "live").symlink_to(kb.name)
    (tmp_path / "folder").symlink_to(tmp_path)
    for path in (tmp_path / "live", tmp_path / "folder" / "kb"):
        with reperio.open(path, auto_optimize=False) as opened:
            opened.add([Chunk("new", "text")], vectors=[QUERY])
            assert opened.check().ok
        assert reperio.diagnose(path, mend=True).ok
        reperio.restore(path, tmp_path / f"restored-{path.name}")


def test_links_of_a_damaged_backup_are_not_followed(kb: Path, tmp_path: Path) -> None:
    """What mends a backup copies the files that a collection has, and nothing that a link leads to."""
    execute(kb, "UPDATE state SET rows = 19")  # it cannot be opened
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text(SECRET)
    (kb / "README").symlink_to(tmp_path / "secret")
    (kb / "more").symlink_to(tmp_path / "theirs")
    (kb / "gen-000001" / "zero").symlink_to("/dev/zero")
    (kb / "gen-000001" / "chunks.db.bak").write_bytes(b"a stranger's")
    info = reperio.restore(kb, tmp_path / "restored", trust_index=False, mend=True)
    assert (info.chunks, info.lost) == (20, ())
    names = {str(path.relative_to(tmp_path / "restored")) for path in (tmp_path / "restored").rglob("*")}
    assert {name.rpartition("/")[2] for name in names} <= {
        *("CURRENT", "LOCK", "gen-000002", "index", "queries.npy", "collection.json", "vectors.f32"),
        *("chunks.db", "chunks.db-wal", "chunks.db-shm"),
    }


@pytest.mark.parametrize("mend", [False, True])
@pytest.mark.parametrize("name", ["chunks.db", "vectors.f32", "index/queries.npy"])
def test_a_backup_with_a_link_is_refused(name: str, mend: bool, kb: Path, tmp_path: Path) -> None:
    """A link in the place of one of its files is named, not followed, mended or not."""
    execute(kb, "UPDATE state SET rows = 19")
    (kb / "gen-000001" / name).unlink()
    (kb / "gen-000001" / name).symlink_to(tmp_path / "secret")
    with pytest.raises(StorageFailed if mend or name != "index/queries.npy" else CollectionDamaged):
        reperio.restore(kb, tmp_path / "restored", mend=mend)
    assert not (tmp_path / "restored").exists()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [*FILES, *LOGS])
def test_another_kind_of_file_is_named_at_once(place: str, kind: str, kb: Path, tmp_path: Path) -> None:
    """A named pipe, a socket, a device or a directory in the place of a file: nothing waits, or reads without end."""
    put(kb / place, kind)
    for call in ways(kb, tmp_path).values():
        with pytest.raises(StorageFailed, match=(kb / place).name):
            call()
    assert not (tmp_path / "restored").exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["LOCK", "MAINTENANCE"])
@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_as_a_lock_is_named(kind: str, name: str, kb: Path, tmp_path: Path) -> None:
    """Writers are refused; readers do without the locks."""
    put(kb / name, kind)
    with pytest.raises(StorageFailed, match=name):
        reperio.open(kb)
    with reperio.open(kb, read_only=True) as opened:
        assert opened.count() == 20
    reperio.restore(kb, tmp_path / "restored")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_as_the_index_is_done_without(kind: str, kb: Path) -> None:
    """An index is disposable, and so are kept queries and the record of a build."""
    index = kb / "gen-000001" / "index"
    (snapshot,) = index.glob("snapshot-*.faiss")
    put(snapshot, kind)
    put(index / "queries.npy", kind)
    (index / "building").mkdir(exist_ok=True)
    put(index / "building" / "build.json", kind)
    with reperio.open(kb, read_only=True) as opened, pytest.warns(ReperioWarning, match="cannot be used"):
        assert len(opened.search(vector=QUERY, k=20)) == 20
    with reperio.open(kb, auto_optimize=False) as opened:
        assert opened.optimize(index="SQ8") is not None
        assert opened.check().ok


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_among_what_is_read_is_named(kind: str, kb: Path, tmp_path: Path) -> None:
    """Query logs, golden sets, baselines, exports and folders of other stores."""
    export_collection(kb, tmp_path / "export", format="jsonl")
    for number, file in enumerate(("manifest.json", "chunks.jsonl", "records.jsonl")):
        shutil.copytree(tmp_path / "export", tmp_path / f"export-{number}")
        put(tmp_path / f"export-{number}" / file, kind)
        with pytest.raises(ReperioError, match=file.partition(".")[0]):
            import_collection(tmp_path / f"export-{number}", tmp_path / "imported")
    for name in ("log.jsonl", "log.txt", "log.npy", "golden.yaml", "baseline.json", "index.faiss", "index.pkl"):
        put(tmp_path / name, kind)
    with pytest.raises(StorageFailed, match=r"log\.jsonl"):
        reperio.open(kb, read_only=True, query_log=tmp_path / "log.jsonl")
    for read, name in (
        (read_log, "log.jsonl"),
        (read_queries, "log.jsonl"),
        (read_queries, "log.txt"),
        (read_queries, "log.npy"),
        (read_golden, "golden.yaml"),
        (read_baseline, "baseline.json"),
    ):
        with pytest.raises(InvalidInput, match=name):
            read(tmp_path / name)
    with pytest.raises(ReperioError, match=r"index\.(pkl|faiss)"):
        import_langchain_faiss(tmp_path, tmp_path / "imported")
    put(tmp_path / "chroma.sqlite3", kind)
    with pytest.raises(ReperioError, match=r"chroma\.sqlite3"):
        import_chroma(tmp_path, tmp_path / "imported")
    (tmp_path / "docstore.json").write_text("{}")
    put(tmp_path / "default__vector_store.json", kind)
    with pytest.raises(ReperioError, match=r"default__vector_store\.json"):
        import_llama_index(tmp_path, tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


def test_only_our_own_leftovers_are_removed(kb: Path) -> None:
    """What has nearly the name of something that a killed process left is somebody's, and in nobody's way."""
    root = kb / "gen-000001" / "index"
    strangers = [
        kb / "gen-0000001",
        kb / "gen-000002.newer",
        kb / "gen-٠٠٠٠٠٢",
        root / "snapshot-mine",
        root / "snapshot-000009.faiss.bak",
        root / "notes.new",
        root / "snapshot-000077.faiss",  # a directory
        root / "building" / "build-notes",
    ]
    for folder in strangers:
        folder.mkdir(parents=True)
        (folder / "mine").write_text("mine")
    files = [root / "snapshot-mine.txt", root / "list.npy.new", root / "building" / "build-7.faiss", kb / "gen-000009"]
    for path in files:
        path.write_text("mine")
    (root / "snapshot-000078.faiss").write_bytes(b"ours")
    (root / "snapshot-000079.faiss.new").write_bytes(b"ours")
    (root / "building" / "build-000000000007.faiss").write_bytes(b"ours")
    with reperio.open(kb, auto_optimize=False) as opened:
        opened.optimize(index="SQ8")
        assert opened.check().ok
    assert all((folder / "mine").read_text() == "mine" for folder in strangers)
    assert all(path.read_text() == "mine" for path in files)
    assert not list(root.glob("*78*")) + list(root.glob("*79*")) + list((root / "building").glob("*0007*"))


def test_what_only_looks_like_a_creation_is_left_alone(tmp_path: Path) -> None:
    """Files, links and folders called .kb.creating-… that we did not make neither block a creation nor go."""
    (tmp_path / ".kb.creating-x").mkdir()
    (tmp_path / ".kb.creating-x" / "mine").write_text("mine")
    (tmp_path / ".kb.creating-y").write_text("mine")
    (tmp_path / ".kb.creating-12-0123abcd").write_text("mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / ".kb.creating-13-0123abcd").symlink_to("theirs")
    os.mkfifo(tmp_path / ".kb.creating-14-0123abcd")
    (tmp_path / ".kb.creating-15-0123abcd").mkdir()  # ours, of a killed process
    before = {entry.name for entry in tmp_path.iterdir()}
    reperio.open(tmp_path / "kb", dimension=4).close()
    assert before - {entry.name for entry in tmp_path.iterdir()} == {".kb.creating-15-0123abcd"}
    assert (tmp_path / ".kb.creating-x" / "mine").read_text() == "mine"


_KILLED = """
import os, signal, sys, reperio
from reperio.collection.backup import incremental as incrementing
incrementing._files = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # once the database has been copied
with reperio.open(sys.argv[1], read_only=True) as kb:
    kb.backup(sys.argv[2], incremental=True)
"""


def test_a_killed_backup_leaves_no_copy_of_the_database_for_ever(kb: Path, tmp_path: Path) -> None:
    """The next backup removes it; what only looks like one stays. Listing and verifying are not disturbed."""
    folder = tmp_path / "folder"
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", _KILLED, kb, folder], check=False)
        assert killed.returncode == -9
    assert len(list(folder.glob(".database-*/chunks.db"))) >= 1
    assert reperio.backups(folder, verify=True) == []
    (folder / ".database-mine").mkdir()
    (folder / ".database-12345678").mkdir()
    (folder / ".database-12345678" / "notes").write_text("mine")
    (folder / ".database-1234567_").symlink_to(kb)
    with reperio.open(kb, read_only=True) as opened:
        opened.backup(folder, incremental=True)
    left = {entry.name for entry in folder.glob(".database-*")}
    assert left == {".database-mine", ".database-12345678", ".database-1234567_"}
    assert (folder / ".database-12345678" / "notes").read_text() == "mine"
    assert (kb / "gen-000001" / "chunks.db").is_file()
    assert [info.problems for info in reperio.backups(folder, verify=True)] == [()]


def test_a_stranger_deep_in_a_collection_costs_no_answer(kb: Path) -> None:
    """Folders nested deeper than Python's stack do not break info()."""
    deepest = (kb / "gen-000001").joinpath(*["d"] * 1100)
    subprocess.run(["mkdir", "-p", deepest], check=True)
    (kb / "gen-000001" / "away").symlink_to("/usr")
    try:
        with reperio.open(kb, read_only=True) as opened:
            assert set(opened.info().disk) >= {"chunks.db", "vectors.f32", "collection.json", "index/queries.npy"}
            assert "away" not in opened.info().disk
    finally:
        subprocess.run(["rm", "-rf", kb / "gen-000001" / "d"], check=True)


@pytest.mark.parametrize("shape", ["(100000000000, 4)", "(True, 4)", "(0, 4)", "(-1, 4)", "(29, 4)", "(1 << 70, 4)"])
def test_an_array_is_no_longer_than_its_file(shape: str, kb: Path, tmp_path: Path) -> None:
    """A header that asks for terabytes is refused as a user's array, and as kept queries done without."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(29 * 16)
    (kb / "gen-000001" / "index" / "queries.npy").write_bytes(content)
    with quietly(), reperio.open(kb, auto_optimize=False) as opened:
        made = opened.optimize(index="SQ8")
        assert made is not None
        assert "stored vectors" in str(made.queries)
    (tmp_path / "q.npy").write_bytes(content)
    with suppress(InvalidInput):
        assert len(read_queries(tmp_path / "q.npy")) < 30
