from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import reperio
from reperio import Chunk, StorageFailed
from tests.limits import file_size_limit

from .plan import DIMENSION, State, item
from .small_disk import CASES, private_mounts, run_on_small_disk
from .verification import check_answers, check_no_creation_left, check_no_leftovers, verify

pytestmark = pytest.mark.crash


@pytest.mark.skipif(not private_mounts(), reason="mounting a small file system takes root and unshare")
@pytest.mark.parametrize("case", sorted(CASES))
def test_a_full_disk_costs_nothing_that_was_acknowledged(case: str, tmp_path: Path) -> None:
    """On a full disk the operation fails with StorageFailed, the collection is as it was, and the handle goes on."""
    run_on_small_disk(case, tmp_path)


@pytest.fixture
def stored() -> State:
    """Make what the collection holds before the limit is reached."""
    return dict(item(1, number, 0) for number in range(400))


@pytest.fixture
def kb(tmp_path: Path, stored: State) -> Iterator[reperio.Collection]:
    """Open a collection that holds *stored*, with an index."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        chunks = [Chunk(key, made.text, made.metadata) for key, made in stored.items()]
        kb.add(chunks, vectors=[made.vector for made in stored.values()])
        kb.optimize(index="IVF1,PQ8x4fs", queries=[item(2, number, 0)[1].vector for number in range(30)])
        yield kb


WRITES: dict[str, Callable[[reperio.Collection, Path], object]] = {
    "add": lambda kb, _: kb.add([Chunk("new", "n" * 100)], vectors=[item(3, 0, 0)[1].vector]),
    "delete": lambda kb, _: kb.delete(ids=list(dict(item(1, number, 0) for number in range(400)))),
    "optimize": lambda kb, _: kb.optimize(index="HNSW32,Flat"),
    "optimize, exact": lambda kb, _: kb.optimize(index="exact"),
    "compact": lambda kb, _: kb.compact(),
    "backup": lambda kb, directory: kb.backup(directory / "copy"),
}


@pytest.mark.parametrize("limit", [0, 100, 4096, 20_000])
@pytest.mark.parametrize("name", sorted(WRITES))
def test_a_write_that_is_cut_off_is_refused(
    name: str, limit: int, kb: reperio.Collection, stored: State, tmp_path: Path
) -> None:
    """A write beyond the process's file size limit fails with StorageFailed, changes nothing, and succeeds later."""
    before = kb.info().index
    with file_size_limit(limit), pytest.raises(StorageFailed):
        WRITES[name](kb, tmp_path)
    assert kb.info().index == before
    check_answers(kb, stored)
    assert kb.check().ok
    check_no_leftovers(tmp_path / "kb")
    check_no_creation_left(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    WRITES[name](kb, tmp_path)
    assert kb.check().ok
    kb.close()
    new = {} if name != "add" else {"new": None}
    with reperio.open(tmp_path / "kb", auto_optimize=False) as again:
        assert {chunk.id for chunk in again} == (set() if name == "delete" else stored.keys() | new.keys())
    if name == "backup":
        verify(tmp_path / "copy", [stored])
