from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reperio.index.exact.converting import converted, converted_ahead
from reperio.types import FloatMatrix
from reperio.vectors import StoredMatrix, to_float32

ROWS = np.random.default_rng(3).normal(size=(3000, 24)).astype(np.float16)


def blocks(step: int) -> Iterator[StoredMatrix]:
    return (ROWS[start : start + step] for start in range(0, len(ROWS), step))


@pytest.mark.parametrize("step", [1, 511, 512, 513, 1500, 5000])
@pytest.mark.parametrize("workers", [1, 3])
def test_blocks_come_in_order_and_whole(step: int, workers: int) -> None:
    """Rows are those that came, widened, whatever the blocks and the threads."""
    with ThreadPoolExecutor(workers) as pool:
        found = list(converted_ahead(blocks(step), to_float32, 24, pool))
    assert [len(block) for block in found] == [len(block) for block in blocks(step)]
    assert np.array_equal(np.concatenate(found), ROWS.astype(np.float32))


def test_no_block_is_nothing_to_do() -> None:
    """Without rows nothing is yielded."""
    with ThreadPoolExecutor(1) as pool:
        assert list(converted_ahead(iter(()), to_float32, 24, pool)) == []


def test_the_next_block_is_made_while_one_is_worked_on() -> None:
    """When the caller has the first block, rows of the second are being converted already, and none of the third."""
    begun, second = [], threading.Event()

    def convert(rows: StoredMatrix) -> FloatMatrix:
        number = int(np.flatnonzero((rows[0] == ROWS).all(axis=1))[0]) // 1000
        begun.append(number)
        if number == 1:
            second.set()
        return to_float32(rows)

    with ThreadPoolExecutor(2) as pool:
        made = converted_ahead(blocks(1000), convert, 24, pool)
        next(made)
        assert second.wait(30)
        assert 2 not in begun
        assert len(list(made)) == 2
    assert sorted(set(begun)) == [0, 1, 2]


def test_an_error_is_raised_for_the_block_it_belongs_to() -> None:
    """An error of a thread reaches the caller, who has had the blocks before."""

    def convert(rows: StoredMatrix) -> FloatMatrix:
        if np.array_equal(rows[0], ROWS[1000]):
            raise ValueError("no such rows")
        return to_float32(rows)

    with ThreadPoolExecutor(2) as pool:
        made = converted_ahead(blocks(1000), convert, 24, pool)
        assert np.array_equal(next(made), ROWS[:1000].astype(np.float32))
        with pytest.raises(ValueError, match="no such rows"):
            next(made)


def test_a_pool_that_takes_nothing_more_is_done_without() -> None:
    """While Python ends, no thread may begin: the caller's does it all."""
    with ThreadPoolExecutor(1) as pool:
        pass
    assert np.array_equal(converted(ROWS, to_float32, 24, pool), ROWS.astype(np.float32))
    assert np.array_equal(
        np.concatenate(list(converted_ahead(blocks(700), to_float32, 24, pool))), ROWS.astype(np.float32)
    )
