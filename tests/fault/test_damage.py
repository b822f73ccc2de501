from __future__ import annotations

from pathlib import Path

import apsw
import pytest

import reperio
from reperio import Chunk, CollectionDamaged
from reperio.store import schema
from tests.crash.plan import DIMENSION

from .damages import DATABASE, SNAPSHOT, VECTORS, damage, examine, make_original

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Make a collection, and another of the same kind."""
    return [make_original(tmp_path_factory.mktemp("originals") / str(stop), stop) for stop in (5, 6)]


@pytest.mark.parametrize(
    ("file", "count"),
    [
        *((SNAPSHOT, 16), (DATABASE, 15), (VECTORS, 5)),
        *(pytest.param(*case, marks=pytest.mark.campaign) for case in ((SNAPSHOT, 64), (DATABASE, 30), (VECTORS, 20))),
    ],
)
def test_damage_is_found_and_kills_nobody(file: str, count: int, originals: list[Path], tmp_path: Path) -> None:
    """A damaged index is refused and searched around; other damage is told by check() or hits nothing that is live."""
    tally = examine([damage(originals[0], file, number) for number in range(count)], originals, tmp_path / "work")
    assert sum(tally.values()) == count
    told = sum(number for verdict, number in tally.items() if not verdict.endswith("intact"))
    assert told > (count // 2 if file == SNAPSHOT else count // 8)


def _filled(path: Path) -> Path:
    vectors = [[float(row == column) for column in range(DIMENSION)] for row in range(8)]
    with reperio.open(path, dimension=DIMENSION, auto_optimize=False) as kb:
        kb.add([Chunk(f"c{row}", f"wording {row}", {"n": row}) for row in range(8)], vectors=vectors)
    return path


def _flip_text(root: Path) -> None:
    (database,) = root.glob(DATABASE)
    content = database.read_bytes()
    assert content.count(b"wording 3") == 1
    database.write_bytes(content.replace(b"wording 3", b"wordinG 3"))


def _flip_vector(root: Path) -> None:
    (vectors,) = root.glob(VECTORS)
    content = bytearray(vectors.read_bytes())
    content[(3 * DIMENSION + 5) * 4 + 2] = 0x40  # a component that was 0.0 is 2.0
    vectors.write_bytes(content)


@pytest.mark.parametrize("flip", [_flip_text, _flip_vector])
def test_check_names_the_chunk_whose_checksum_fails(flip: object, tmp_path: Path) -> None:
    """A flipped bit of a text or a vector is reported by check() under the chunk's id, and no other chunk is named."""
    assert callable(flip)
    root = _filled(tmp_path / "kb")
    flip(root)
    with reperio.open(root, read_only=True) as kb:
        named = [problem for problem in kb.check().problems if problem.what.startswith("chunk ")]
    assert len(named) == 1
    assert "'c3'" in named[0].what


@pytest.mark.parametrize("flip", [_flip_text, _flip_vector])
def test_a_search_never_returns_a_chunk_whose_checksum_fails(flip: object, tmp_path: Path) -> None:
    """A search that would return a damaged chunk says that the collection is damaged instead."""
    assert callable(flip)
    root = _filled(tmp_path / "kb")
    flip(root)
    query = [float(column == 3) for column in range(DIMENSION)]
    with reperio.open(root, read_only=True) as kb, pytest.raises(CollectionDamaged, match="c3"):
        kb.search(vector=query, k=1)


@pytest.mark.parametrize("flip", [_flip_text, _flip_vector])
def test_check_with_fix_keeps_all_that_is_whole(flip: object, tmp_path: Path) -> None:
    """check(fix=True) takes the damaged chunk out, names it, and leaves the seven others as they were."""
    assert callable(flip)
    root = _filled(tmp_path / "kb")
    flip(root)
    with reperio.open(root, auto_optimize=False) as kb:
        report = kb.check(fix=True)
        assert [line for line in report.lost if "'c3'" in line] == list(report.lost) != []
        assert kb.ids() == [f"c{row}" for row in range(8) if row != 3]
        assert kb.check().ok


def test_a_field_that_has_become_null_is_damage(tmp_path: Path) -> None:
    """A damaged record header makes NULL of a field that cannot be: a search says that the collection is damaged."""
    root = _filled(tmp_path / "kb")
    (database,) = root.glob(DATABASE)
    for sql in (
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'metadata TEXT NOT NULL', "
        "'metadata TEXT') WHERE name = 'chunks'",
        "UPDATE chunks SET metadata = NULL WHERE id = 'c3'",
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'metadata TEXT', "
        "'metadata TEXT NOT NULL') WHERE name = 'chunks'",
    ):
        connection = apsw.Connection(str(database))
        connection.execute(sql)
        connection.close()
    with reperio.open(root, read_only=True) as kb:
        for _ in range(2):  # the first search begins a session, the second takes the quick path
            with pytest.raises(CollectionDamaged):
                kb.search(vector=[float(column == 3) for column in range(DIMENSION)], k=3)


def test_a_length_beyond_all_limits_is_damage(tmp_path: Path) -> None:
    """SQLite calls a damaged length too big: that is damage, which check() reports, and no failure of the storage."""
    assert isinstance(
        schema.translate(apsw.TooBigError("string or blob too big"), tmp_path / "chunks.db"), CollectionDamaged
    )
