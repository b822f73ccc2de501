from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, StorageFailed
from tests.limits import file_size_limit


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[Collection]:
    """Open a collection whose database is longer than a few pages."""
    with reperio.open(tmp_path / "kb", dimension=4, auto_optimize=False) as kb:
        kb.add([Chunk("long", "x" * 200_000)], vectors=np.eye(1, 4))
        yield kb


@pytest.mark.parametrize("incremental", [False, True])
def test_a_copy_that_cannot_be_written_is_told_of_where_it_was_to_be(
    incremental: bool, kb: Collection, tmp_path: Path
) -> None:
    """What fails there is said of the destination, with SQLite's code where it has no message, not of the source."""
    told = "SQLITE_IOERR_WRITE; check"
    with file_size_limit(100_000), pytest.raises(StorageFailed, match=told) as refused:
        kb.backup(tmp_path / "copy", incremental=incremental)
    assert str(tmp_path / "copy") in str(refused.value)
    assert str(tmp_path / "kb") not in str(refused.value)
    kb.backup(tmp_path / "copy", incremental=incremental)


def test_a_copy_that_cannot_be_made_says_why(kb: Collection, tmp_path: Path) -> None:
    """Where no file can be made, the error is that of the file system, and nothing is taken for missing or damaged."""
    generation, session = kb._handle.session()
    with session, pytest.raises(StorageFailed, match=r"absent.copy\.db: No such file") as refused:
        session.copy_to(tmp_path / "absent" / "copy.db")
    assert refused.value.errno == errno.ENOENT
    with generation.store.session() as session:
        assert session.problems() == []
