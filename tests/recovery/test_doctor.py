"""What the doctor believes, and what it leaves alone: a state that lies, files that are missing, an index of others."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import reperio
from reperio import (
    Chunk,
    CollectionDamaged,
    Diagnosis,
    Finding,
    InvalidInput,
    ReperioError,
    StorageFailed,
    diagnose,
)
from reperio.layout import Generation
from reperio.store import DamagedStore

D = 16
ROWS, GONE = 500, 400
VECTORS = np.random.default_rng(5).standard_normal((ROWS, D), dtype=np.float32)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection of 500 rows, of which the last 100 hold a chunk."""
    path = tmp_path_factory.mktemp("doctor") / "kb"
    with reperio.open(path, dimension=D, metric="l2", auto_optimize=False) as kb:
        kb.add([Chunk(f"c{i}", f"text number {i} " * 20, {"i": i}) for i in range(ROWS)], vectors=VECTORS)
        kb.delete(ids=[f"c{i}" for i in range(GONE)])
    return path


@pytest.fixture
def kb(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "kb"))


def alter(path: Path, *statements: str) -> None:
    """Change what the database of generation 1 says."""
    connection = apsw.Connection(str(path / "gen-000001" / "chunks.db"))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def damages(found: Diagnosis) -> list[Finding]:
    """Return what is damaged, without what is only waste."""
    return [finding for finding in found.findings if finding.kind in ("damage", "index")]


def require_whole(path: Path) -> None:
    """Find each of the 100 chunks that live, by its vector."""
    with reperio.open(path, read_only=True) as opened:
        assert opened.check().ok
        assert opened.ids() == [f"c{i}" for i in range(GONE, ROWS)]
        for i in range(GONE, ROWS, 9):
            assert opened.search(vector=VECTORS[i], k=1)[0].chunk.id == f"c{i}"


def test_a_flipped_bit_of_the_state_costs_nothing(kb: Path) -> None:
    """A mark below live rows refuses every opening, before a vector is overwritten; mending keeps every chunk."""
    database, vectors = kb / "gen-000001" / "chunks.db", kb / "gen-000001" / "vectors.f32"
    content = bytearray(database.read_bytes())
    at = content.index(b"\x01\xf4\x64")  # rows=500, live=100
    content[at] ^= 1
    database.write_bytes(content)
    before = vectors.read_bytes()
    for read_only in (True, False):
        with pytest.raises(CollectionDamaged, match="244 rows"):
            reperio.open(kb, read_only=read_only)
    assert vectors.read_bytes() == before
    (finding,) = diagnose(kb).findings
    assert finding.mends
    assert finding.cost.startswith("no chunk; 100 are whole")
    found = diagnose(kb, mend=True)
    assert (found.ok, found.lost) == (True, ())
    require_whole(kb)


@pytest.mark.parametrize(
    "change",
    [
        "rows = 244",
        "rows = 450",
        "rows = 501",
        f"rows = {1 << 40}",
        "rows = 5000000",
        "rows = 200, live = 200",
        "live = 99",
        "live = 500",
        "rows = 0, live = 0",
        "rows = -500",
    ],
)
def test_a_state_that_lies_is_not_believed(change: str, kb: Path) -> None:
    """Rows and chunks are counted by the tables, too: nothing is lost, no loss is invented, nothing hangs."""
    alter(kb, f"UPDATE state SET {change}")
    with pytest.raises(CollectionDamaged):
        reperio.open(kb)
    found = diagnose(kb, mend=True)
    assert (found.ok, found.lost) == (True, ())
    require_whole(kb)


def test_what_state_and_tables_agree_on_is_missed(kb: Path) -> None:
    """Vectors cut off are losses, though the file does not reach so far; those the tables name have their ids."""
    vectors = kb / "gen-000001" / "vectors.f32"
    vectors.write_bytes(vectors.read_bytes()[: 490 * D * 4])
    found = diagnose(kb, mend=True)
    assert found.ok
    assert found.lost == tuple(f"row {i}: chunk 'c{i}'" for i in range(490, ROWS))


@pytest.mark.parametrize("last", [0, 480, 1 << 40])
@pytest.mark.parametrize("rows", [0, 244, 500, 1 << 40, None])
def test_the_rows_of_a_wreck_are_those_that_two_of_three_tell_of(rows: int | None, last: int, kb: Path) -> None:
    """State, tables and file may each be damaged: no row below the vectors is passed over, and no number is absurd."""
    alter(kb, "DELETE FROM tombstones WHERE number = 5")  # so that the tables alone do not settle it
    if last != 480:
        alter(kb, f"INSERT INTO tombstones VALUES (1000, {last + 1000 if last else 500})")
    if rows is None:
        alter(kb, "DELETE FROM state")
    else:
        alter(kb, f"UPDATE state SET rows = {rows}, live = min(live, {rows})")
    damaged = DamagedStore(Generation(kb / "gen-000001"), D)
    try:
        assert ROWS <= damaged.rows <= 2 * (ROWS + 1)
        assert sum(len(chunks) for chunks, _ in damaged.whole()) == ROWS - GONE
    finally:
        damaged.close()


@pytest.mark.parametrize("lost", ["DELETE FROM chunks", "UPDATE chunks SET crc = 1"])
def test_what_would_come_out_empty_is_not_mended(lost: str, kb: Path) -> None:
    """Where no chunk is whole, nothing is changed: an empty collection would take the damaged one's place."""
    alter(kb, lost)
    with writer_of(kb) as opened:
        if opened is not None:
            with pytest.raises(CollectionDamaged, match="no chunk of it can be read"):
                opened.check(fix=True)
    found = diagnose(kb, mend=True)
    assert not found.ok
    assert found.findings[0].cure == "restore from a backup"
    assert sorted(entry.name for entry in kb.iterdir()) == ["CURRENT", "LOCK", "MAINTENANCE", "gen-000001"]


@contextmanager
def writer_of(path: Path) -> Iterator[Any]:
    """Yield a writer, or None where the collection cannot be opened."""
    try:
        opened = reperio.open(path, auto_optimize=False)
    except CollectionDamaged:
        yield None
        return
    with opened:
        yield opened


def test_of_two_generations_the_usable_one_is_named(kb: Path) -> None:
    """CURRENT is lost, and so are settings or database of the newest: the one before is named, both are kept."""
    for name, missing in (("gen-000009", "collection.json"), ("gen-000010", "chunks.db")):
        shutil.copytree(kb / "gen-000001", kb / name)
        (kb / name / missing).unlink()
    shutil.copytree(kb / "gen-000001", kb / "gen-000011")
    (kb / "gen-000011" / "collection.json").write_bytes(b"{")
    (kb / "CURRENT").unlink()
    (finding,) = diagnose(kb).findings
    assert (finding.mends, finding.cure) == (True, "name gen-000001, the newest here")
    found = diagnose(kb, mend=True)
    assert found.ok
    assert len(found.mended) == 1
    require_whole(kb)
    reperio.open(kb, auto_optimize=False).close()
    assert sorted(entry.name for entry in kb.glob("damaged-*")) == [f"damaged-gen-0000{n}" for n in ("09", "10", "11")]


def test_current_is_named_though_no_mending_helps(kb: Path) -> None:
    """CURRENT is lost and no chunk is whole: the doctor tells both, one after the other, and raises nothing."""
    alter(kb, "UPDATE chunks SET crc = 1")
    (kb / "CURRENT").unlink()
    found = diagnose(kb, mend=True)
    assert not found.ok
    assert len(found.mended) == 1
    assert {(finding.cure, finding.mends) for finding in damages(found)} == {("restore from a backup", False)}


def test_no_generation_is_usable(kb: Path) -> None:
    """Where none is left that could be opened, CURRENT is not written."""
    (kb / "CURRENT").unlink()
    (kb / "gen-000001" / "chunks.db").unlink()
    found = diagnose(kb, mend=True)
    assert not found.ok
    assert found.findings[0].cure == "restore from a backup"
    assert not (kb / "CURRENT").exists()


@pytest.fixture
def indexed(kb: Path) -> Path:
    with reperio.open(kb, auto_optimize=False) as opened:
        opened.optimize(index="SQ8", queries=VECTORS[:40] + 0.01)
    return kb


def test_the_directory_of_indexes_may_be_missing(indexed: Path, tmp_path: Path) -> None:
    """A copy that leaves index/ out opens in every way, and the doctor builds the index anew."""
    shutil.rmtree(indexed / "gen-000001" / "index")
    other = shutil.copytree(indexed, tmp_path / "other")
    with reperio.open(other, trust_index=False, auto_optimize=False) as opened:
        assert opened.count() == ROWS - GONE
        opened.optimize(index="SQ8", queries=VECTORS[:40] + 0.01)
    (finding,) = damages(diagnose(indexed))
    assert finding.kind == "index"
    assert diagnose(indexed, mend=True).ok
    for path in (indexed, other):
        with reperio.open(path, read_only=True) as opened:
            assert opened.info().index is not None
        require_whole(path)


def test_a_file_in_the_place_of_the_indexes_is_refused(indexed: Path) -> None:
    """It is nobody's to remove: a typed error says what is in the way."""
    shutil.rmtree(indexed / "gen-000001" / "index")
    (indexed / "gen-000001" / "index").write_text("mine")
    with pytest.raises(StorageFailed, match="index"):
        reperio.open(indexed)
    assert (indexed / "gen-000001" / "index").read_text() == "mine"


def test_an_index_beside_what_cannot_be_mended_is_left(indexed: Path) -> None:
    """A damaged index is not mended alone: where the chunks need a backup, nothing is changed, and nothing raises."""
    (snapshot,) = indexed.glob("gen-*/index/snapshot-*")
    snapshot.write_bytes(b"x" * snapshot.stat().st_size)
    alter(indexed, "UPDATE chunks SET crc = 1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", reperio.ReperioWarning)
        found = diagnose(indexed, mend=True)
    assert not found.ok
    assert not any(finding.mends for finding in found.findings)
    assert found.mended == ()


def test_the_doctor_may_distrust_the_index(indexed: Path) -> None:
    """With trust_index=False its bytes are neither read nor judged; what is mended has none until one is built."""
    (snapshot,) = indexed.glob("gen-*/index/snapshot-*")
    snapshot.write_bytes(b"planted")
    assert diagnose(indexed, trust_index=False).ok
    alter(indexed, "UPDATE chunks SET crc = 1 WHERE id = 'c450'")
    found = diagnose(indexed, mend=True, trust_index=False)
    assert found.ok
    assert found.lost == ("row 450: chunk 'c450'",)
    with reperio.open(indexed, read_only=True) as opened:
        assert (opened.count(), opened.info().index) == (ROWS - GONE - 1, None)


def test_mending_is_in_the_log(kb: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO what was mended, at WARNING each loss; also where the collection could not be opened."""
    caplog.set_level(logging.INFO, logger="reperio.collection")
    vectors = kb / "gen-000001" / "vectors.f32"
    vectors.write_bytes(vectors.read_bytes()[: 499 * D * 4])
    (kb / "CURRENT").unlink()
    assert diagnose(kb, mend=True).ok
    told = [(record.levelno, record.getMessage().removeprefix(f"{kb}: ")) for record in caplog.records]
    assert (logging.INFO, "mended: CURRENT names gen-000001, the newest here") in told
    assert (logging.INFO, "mended: gen-000002 keeps what is whole of gen-000001, 1 lost") in told
    assert (logging.WARNING, "lost: row 499: chunk 'c499'") in told


@pytest.mark.parametrize("path", [None, 3, b"kb", [], "a\0b"])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    """What is no path is refused in words."""
    with pytest.raises(InvalidInput, match="path"):
        diagnose(path)


def examined(path: Path) -> None:
    """Raise what the doctor finds."""
    for finding in damages(diagnose(path)):
        raise CollectionDamaged(finding.what)


def _to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _to_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("file", ["CURRENT", "gen-000001/vectors.f32", "gen-000001/collection.json"])
@pytest.mark.parametrize("change", [_to_directory, _to_loop])
def test_what_cannot_be_read_is_told_in_words(file: str, change: Callable[[Path], None], kb: Path) -> None:
    """A directory, or a link that leads in a circle, in the place of a file is a typed error, with a cure."""
    change(kb / file)
    for call in (lambda: reperio.open(kb, read_only=True), lambda: reperio.open(kb), lambda: examined(kb)):
        with pytest.raises(ReperioError) as refused:
            call()
        assert file.rpartition("/")[2] in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("file", ["CURRENT", "gen-000001/vectors.f32", "gen-000001/collection.json"])
def test_what_may_not_be_read_is_told_in_words(file: str, kb: Path) -> None:
    """A file without permission is no damage: nobody is told to restore, and nothing is mended."""
    (kb / file).chmod(0)
    for call in (lambda: reperio.open(kb, read_only=True), lambda: diagnose(kb, mend=True)):
        with pytest.raises(StorageFailed, match="permission"):
            call()


def test_too_many_open_files_is_a_typed_error(indexed: Path) -> None:
    """Whatever the opening, the examination or the mending lacks a descriptor for; the next one goes on."""

    def write() -> None:
        with reperio.open(indexed, auto_optimize=False) as opened:
            opened.search(vector=VECTORS[0], k=1)
            opened.check()

    def read() -> None:
        with reperio.open(indexed, read_only=True) as opened:
            opened.search(vector=VECTORS[0], k=1)

    def mend() -> None:
        (indexed / "CURRENT").unlink(missing_ok=True)
        diagnose(indexed, mend=True)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    refused = 0
    for call in (write, read, mend):
        call()
        for more in range(12):
            taken = [os.open(os.devnull, os.O_RDONLY)]
            while taken[-1] <= max(int(entry.name) for entry in Path("/proc/self/fd").iterdir()) - 2:  # gaps
                taken.append(os.open(os.devnull, os.O_RDONLY))
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1 + more, hard))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", reperio.ReperioWarning)
                    call()
            except ReperioError:
                refused += 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for descriptor in taken:
                    os.close(descriptor)
    assert refused > 3
    (indexed / "CURRENT").write_text("gen-000001\n")
    require_whole(indexed)
