"""Directories that others have made: names that lead elsewhere, links, and files of other kinds."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw
import numpy as np
import pytest

import reperio
from reperio import Chunk, CollectionDamaged, InvalidInput, ReperioError, ReperioWarning, StorageFailed
from reperio.collection.backup.packs import read_sealed, write_sealed
from reperio.evaluation import read_baseline, read_golden
from reperio.exchange import export_collection, import_collection
from reperio.importers.langchain_faiss import import_langchain_faiss
from reperio.query_log.reading import read_log, read_queries

QUERY = [1.0, 0.0, 0.0, 0.0]
SECRET = "-----BEGIN PRIVATE KEY-----"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection of 20 chunks with an index and kept queries."""
    path = tmp_path_factory.mktemp("whole") / "kb"
    vectors = np.random.default_rng(1).standard_normal((40, 4), dtype=np.float32)
    with reperio.open(path, dimension=4, auto_optimize=False) as made:
        made.add([Chunk(f"c{n}", f"text {n}") for n in range(20)], vectors=vectors[:20])
        made.optimize(index="SQ8", queries=vectors)
    return path


@pytest.fixture
def kb(whole: Path, tmp_path: Path) -> Path:
    """Copy the collection, beside another one, a secret, and a home with a file of its own."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".bashrc").write_text("# mine\n")
    (tmp_path / "secret").write_text(SECRET)
    shutil.copytree(whole, tmp_path / "other")
    return Path(shutil.copytree(whole, tmp_path / "kb"))


@contextmanager
def _quietly() -> Iterator[None]:
    """Ignore what is said of an index that cannot be used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReperioWarning)
        yield


def _execute(path: Path, sql: str, *values: object) -> None:
    with closing(apsw.Connection(str(path / "gen-000001" / "chunks.db"))) as connection:
        connection.execute(sql, values)


def _name_index(path: Path, name: object) -> None:
    _execute(path, "INSERT INTO snapshots(name, rows, record) SELECT ?, rows, record FROM snapshots", name)
    _execute(path, "UPDATE state SET snapshot = ?", name)


def _plant(path: Path) -> None:
    """Make the snapshot's name lead from the index to a planted file, and from a restored one to the user's."""
    _name_index(path, "../../../.bashrc")
    (path.parent / ".bashrc").write_text("planted\n")


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
    _plant(kb)
    with _quietly():
        reperio.restore(kb, tmp_path / "home" / "kb", trust_index=trust_index)
    assert (tmp_path / "home" / ".bashrc").read_text() == "# mine\n"
    assert sorted(entry.name for entry in (tmp_path / "home").iterdir()) in ([".bashrc"], [".bashrc", "kb"])


@pytest.mark.parametrize("trust_index", [True, False])
def test_a_snapshots_name_is_no_path_when_backed_up(trust_index: bool, kb: Path, tmp_path: Path) -> None:
    """Likewise when the collection is backed up through a handle."""
    _plant(kb)
    with reperio.open(kb, read_only=True, trust_index=trust_index) as opened:
        opened.backup(tmp_path / "home" / "kb")
    assert (tmp_path / "home" / ".bashrc").read_text() == "# mine\n"


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_only_an_index_goes_into_a_backup_as_one(name: str, kb: Path, tmp_path: Path) -> None:
    """Whatever name the database tells, nothing but files that we name goes into backups, and none is removed."""
    _name_index(kb, name)
    for trust_index in (True, False):
        full, folder = tmp_path / f"full-{trust_index}", tmp_path / f"folder-{trust_index}"
        with reperio.open(kb, read_only=True, trust_index=trust_index) as opened:
            opened.backup(full)
            opened.backup(folder, incremental=True)
        content = [path.read_bytes() for path in (*full.rglob("*"), *folder.rglob("*")) if path.is_file()]
        assert not any(SECRET.encode() in one or b"root:" in one for one in content)
        named = json.loads(read_sealed(folder / "states" / "000001.json"))["files"]
        assert set(named) <= {"chunks.db", "collection.json", "vectors.f32", "index/queries.npy"}
    with _quietly(), reperio.open(kb, auto_optimize=False) as opened:
        assert len(opened.search(vector=QUERY, k=20)) == 20
    assert (tmp_path / "secret").read_text() == SECRET
    assert {"chunks.db", "collection.json"} <= {entry.name for entry in (kb / "gen-000001").iterdir()}


@pytest.mark.parametrize("file", ["../../../secret", "/etc/passwd", "snapshot-000001.faiss\0", "queries.npy"])
def test_a_record_names_only_a_file_of_an_index(file: str, kb: Path) -> None:
    """The file in an index's record is compared before it is looked for, by readers, by check and by optimize."""
    _execute(kb, "UPDATE snapshots SET record = json_set(record, '$.file', ?)", file)
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


# What each place in a collection is, and what a link there may lead to, beside kb.
FILES = ["CURRENT", "gen-000001/collection.json", "gen-000001/chunks.db", "gen-000001/vectors.f32"]
LOGS = ["gen-000001/chunks.db-wal", "gen-000001/chunks.db-shm", "gen-000001/chunks.db-journal"]
FOLDERS = ["gen-000001", "gen-000001/index", "gen-000001/index/building"]


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _ways(kb: Path, tmp_path: Path) -> dict[str, Callable[[], object]]:
    return {
        "read": lambda: reperio.open(kb, read_only=True, trust_index=False).close(),
        "write": lambda: reperio.open(kb, auto_optimize=False).close(),
        "doctor": lambda: reperio.diagnose(kb, mend=True),
        "restore": lambda: reperio.restore(kb, tmp_path / "restored", trust_index=False),
        "mend": lambda: reperio.restore(kb, tmp_path / "restored", trust_index=False, mend=True),
    }


@pytest.mark.parametrize("place", [*FILES, *LOGS, *FOLDERS])
def test_a_link_in_a_collection_is_refused(place: str, kb: Path, tmp_path: Path) -> None:
    """A link to the same file, or folder, of another collection: nothing is read, written or removed through it."""
    (tmp_path / "other" / "gen-000001" / "index" / "building").mkdir()
    (tmp_path / "other" / "gen-000001" / "index" / "building" / "build-000000000007.faiss").write_bytes(b"theirs")
    for log in LOGS:
        (tmp_path / "other" / log).touch()
    before = _contents(tmp_path / "other")
    path = kb / place
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "other" / place)
    for way, call in _ways(kb, tmp_path).items():
        with pytest.raises(StorageFailed, match="journal" if place.endswith("journal") else f"{path.name}.*link"):
            call()
        assert path.is_symlink(), way
        assert _contents(tmp_path / "other") == before, way
        assert not (tmp_path / "restored").exists(), way


def test_a_generation_elsewhere_is_not_committed_to(kb: Path, tmp_path: Path) -> None:
    """A writer that clears superseded generations leaves those alone that a link leads to."""
    before = _contents(tmp_path / "other")
    (kb / "gen-000002").symlink_to(tmp_path / "other" / "gen-000001")
    (kb / "gen-000003.new").symlink_to(tmp_path / "other" / "gen-000001")
    (kb / "damaged-gen-000001").symlink_to(tmp_path / "other" / "gen-000001")
    reperio.open(kb, auto_optimize=False).close()
    assert reperio.diagnose(kb, mend=True).ok
    assert _contents(tmp_path / "other") == before


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
    _execute(kb, "UPDATE state SET rows = 19")  # it cannot be opened
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
    _execute(kb, "UPDATE state SET rows = 19")
    (kb / "gen-000001" / name).unlink()
    (kb / "gen-000001" / name).symlink_to(tmp_path / "secret")
    with pytest.raises(StorageFailed if mend or name != "index/queries.npy" else CollectionDamaged):
        reperio.restore(kb, tmp_path / "restored", mend=mend)
    assert not (tmp_path / "restored").exists()


def _bind(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": _bind,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
}


def _put(path: Path, kind: str) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    KINDS[kind](path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [*FILES, *LOGS])
def test_another_kind_of_file_is_named_at_once(place: str, kind: str, kb: Path, tmp_path: Path) -> None:
    """A named pipe, a socket, a device or a directory in the place of a file: nothing waits, or reads without end."""
    _put(kb / place, kind)
    for call in _ways(kb, tmp_path).values():
        with pytest.raises(StorageFailed, match=(kb / place).name):
            call()
    assert not (tmp_path / "restored").exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_as_the_lock_is_named(kind: str, kb: Path, tmp_path: Path) -> None:
    """Writers are refused; readers do without the lock."""
    _put(kb / "LOCK", kind)
    with pytest.raises(StorageFailed, match="LOCK"):
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
    _put(snapshot, kind)
    _put(index / "queries.npy", kind)
    (index / "building").mkdir(exist_ok=True)
    _put(index / "building" / "build.json", kind)
    with reperio.open(kb, read_only=True) as opened, pytest.warns(ReperioWarning, match="cannot be used"):
        assert len(opened.search(vector=QUERY, k=20)) == 20
    with reperio.open(kb, auto_optimize=False) as opened:
        assert opened.optimize(index="SQ8") is not None
        assert opened.check().ok


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
        _put(folder / place, kind)
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
        before = _contents(theirs)
        with pytest.raises(StorageFailed, match=f"{name}: it is a link"):
            opened.backup(folder, incremental=True, keep=1)
        with pytest.raises(StorageFailed, match=f"{name}: it is a link"):
            reperio.restore(folder, tmp_path / "restored")
    assert _contents(theirs) == before


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_among_what_is_read_is_named(kind: str, kb: Path, tmp_path: Path) -> None:
    """Query logs, golden sets, baselines, exports and LangChain's folders."""
    export_collection(kb, tmp_path / "export", format="jsonl")
    for number, file in enumerate(("manifest.json", "chunks.jsonl", "records.jsonl")):
        shutil.copytree(tmp_path / "export", tmp_path / f"export-{number}")
        _put(tmp_path / f"export-{number}" / file, kind)
        with pytest.raises(ReperioError, match=file.partition(".")[0]):
            import_collection(tmp_path / f"export-{number}", tmp_path / "imported")
    for name in ("log.jsonl", "log.txt", "log.npy", "golden.yaml", "baseline.json", "index.faiss", "index.pkl"):
        _put(tmp_path / name, kind)
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
    assert not (tmp_path / "imported").exists()


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
    with _quietly(), reperio.open(kb, auto_optimize=False) as opened:
        made = opened.optimize(index="SQ8")
        assert made is not None
        assert "stored vectors" in str(made.queries)
    (tmp_path / "q.npy").write_bytes(content)
    with suppress(InvalidInput):
        assert len(read_queries(tmp_path / "q.npy")) < 30
