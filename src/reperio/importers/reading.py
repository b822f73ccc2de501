"""Read files and numbers that other programs have written, within bounds."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

from reperio import layout
from reperio.errors import InvalidInput, StorageFailed

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a regular file.

    Args:
        path: of the file; a link is refused.
        most: bytes that are read at most.

    Raises:
        InvalidInput: it has more.
        StorageFailed: it cannot be read.
    """
    try:
        return layout.read_regular(path, most)
    except StorageFailed as error:
        if error.errno != errno.EFBIG:
            raise
        raise InvalidInput(f"{path} has more than {most:,} bytes; so many are read at most") from None


def to_integer(value: Any) -> int | None:
    """Return an integer of 64 bits, or the one that a text is; None for 1.5, True, NaN, "+-5", 10**400 and the like."""
    if type(value) is str and _INTEGER.fullmatch(value):
        value = int(value)
    return value if type(value) is int and _LEAST <= value <= _MOST else None
