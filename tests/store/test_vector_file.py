"""The file of vectors, in both dtypes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from reperio.errors import CollectionClosed, CollectionDamaged
from reperio.layout import DTYPES, Dtype, Generation
from reperio.store import NewChunk, Store, vector_file

BOTH = pytest.mark.parametrize("dtype", list(DTYPES))
D = 5


def rows(count: int, dtype: Dtype, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, D)).astype(dtype)


@BOTH
def test_row_r_lies_at_its_byte(dtype: Dtype, tmp_path: Path) -> None:
    """Rows appended in two steps are mapped as one matrix of the stored dtype; the file holds nothing else."""
    path = tmp_path / "vectors"
    path.touch()
    first, second = rows(3, dtype), rows(4, dtype, seed=1)
    vector_file.Appender(path).append(first, 0)
    vector_file.Appender(path).append(second, 3)
    mapped = vector_file.map_rows(path, 7, D, dtype)
    assert mapped.dtype == dtype
    assert mapped.tobytes() == first.tobytes() + second.tobytes() == path.read_bytes()
    assert not mapped.flags.writeable


@BOTH
def test_what_lies_beyond_the_mark_is_overwritten(dtype: Dtype, tmp_path: Path) -> None:
    """An append begins at the mark, whatever a killed one has left there, and never shortens the file."""
    path = tmp_path / "vectors"
    path.touch()
    vector_file.Appender(path).append(rows(9, dtype), 0)
    kept, fresh = vector_file.map_rows(path, 2, D, dtype).copy(), rows(3, dtype, seed=2)
    vector_file.Appender(path).append(fresh, 2)
    np.testing.assert_array_equal(vector_file.map_rows(path, 5, D, dtype), np.concatenate((kept, fresh)))
    assert path.stat().st_size == 9 * D * np.dtype(dtype).itemsize


def test_a_replaced_file_is_opened_again(tmp_path: Path) -> None:
    """What is appended lies in the file at the path, not in the one that was there before."""
    path, appender = tmp_path / "vectors", vector_file.Appender(tmp_path / "vectors")
    path.touch()
    appender.append(rows(2, "float32"), 0)
    restored = tmp_path / "restored"
    restored.write_bytes(path.read_bytes())
    restored.rename(path)
    appender.append(rows(3, "float32", seed=1), 2)
    assert path.read_bytes() == rows(2, "float32").tobytes() + rows(3, "float32", seed=1).tobytes()


def test_a_closed_file_takes_nothing(tmp_path: Path) -> None:
    """After `close` another process may have the lock: nothing is written, and the file is not open any more."""
    path, appender = tmp_path / "vectors", vector_file.Appender(tmp_path / "vectors")
    path.touch()
    appender.append(rows(2, "float32"), 0)
    appender.close()
    with pytest.raises(CollectionClosed):
        appender.append(rows(1, "float32"), 2)
    assert path.read_bytes() == rows(2, "float32").tobytes()
    assert str(path.resolve()) not in {os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()}


@BOTH
def test_a_short_file_is_damage(dtype: Dtype, tmp_path: Path) -> None:
    """One byte less than is committed is told with both numbers; a missing file by its name."""
    path = Generation(tmp_path, dtype).vectors
    assert path.name == f"vectors.{DTYPES[dtype]}"
    with pytest.raises(CollectionDamaged, match=rf"{path.name} is missing"):
        vector_file.map_rows(path, 1, D, dtype)
    path.write_bytes(rows(4, dtype).tobytes()[:-1])
    vector_file.map_rows(path, 3, D, dtype)
    size = 4 * D * np.dtype(dtype).itemsize
    with pytest.raises(CollectionDamaged, match=rf"{path.name} holds {size - 1} bytes, {size} are committed"):
        vector_file.map_rows(path, 4, D, dtype)


@BOTH
def test_a_store_takes_only_its_own_dtype(dtype: Dtype, tmp_path: Path) -> None:
    """Vectors of the other width are not written, where they would lie across their neighbours."""
    paths = Generation(tmp_path, dtype)
    Store.create(paths)
    store = Store(paths, D, read_only=False)
    other: Dtype = "float16" if dtype == "float32" else "float32"
    try:
        store.put([NewChunk("a", "text", "{}")], rows(1, dtype), [])
        with pytest.raises(AssertionError):
            store.put([NewChunk("b", "text", "{}")], rows(1, other), [])
        assert (store.dtype, store.state.rows) == (dtype, 1)
        assert store.map(1).tobytes() == paths.vectors.read_bytes() == rows(1, dtype).tobytes()
    finally:
        store.close()
