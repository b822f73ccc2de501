"""Convert rows as stored to what FAISS takes, by all cores: a block is made while the one before is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TypeAlias

import numpy as np

from reperio.printable import logger
from reperio.types import FloatMatrix
from reperio.vectors import StoredMatrix

_log = logger("reperio.index")
_PART_ROWS = 512  # converted at a time: 2 MiB at 1,024 dimensions, which the cache holds
_Converting: TypeAlias = tuple[FloatMatrix, Iterable[None]]  # where rows go, and what to wait for


def converted_ahead(
    blocks: Iterable[StoredMatrix],
    convert: Callable[[StoredMatrix], FloatMatrix],
    width: int,
    pool: Executor,
) -> Iterator[FloatMatrix]:
    """Yield blocks of rows as *convert* makes them, each while the next one is made.

    Args:
        blocks: rows as stored.
        convert: gives some rows as float32; called with parts of one size, by several threads.
        width: components of what it gives.
        pool: of those threads.
    """
    before: _Converting | None = None
    for block in blocks:
        begun = _begin(block, convert, width, pool)
        if before is not None:
            yield _ended(before)
        before = begun
    if before is not None:
        yield _ended(before)


def converted(
    block: StoredMatrix, convert: Callable[[StoredMatrix], FloatMatrix], width: int, pool: Executor
) -> FloatMatrix:
    """Return one block as *convert* makes it."""
    return _ended(_begin(block, convert, width, pool))


def _begin(
    block: StoredMatrix, convert: Callable[[StoredMatrix], FloatMatrix], width: int, pool: Executor
) -> _Converting:
    # In parts of one size: how a matrix product is rounded depends on that as well.
    made = np.empty((len(block), width), dtype=np.float32)

    def convert_part(start: int) -> None:
        made[start : start + _PART_ROWS] = convert(block[start : start + _PART_ROWS])

    starts = range(0, len(block), _PART_ROWS)
    try:
        return made, pool.map(convert_part, starts)
    except RuntimeError as error:  # Python ends, waits for this build, and lets no pool begin; or there is no thread
        _log.debug("one thread converts %d rows: %s", len(block), error)
        return made, map(convert_part, starts)


def _ended(begun: _Converting) -> FloatMatrix:
    made, converting = begun
    for _ in converting:
        pass
    return made
