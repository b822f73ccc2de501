"""The process that goes in to a directory of others, by one of the doors that stand open.

Forked from the nursery with DOOR COLLECTION TOLD. TOLD is a file that gets what came of it: "done", or the error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import reperio
from reperio import Chunk
from reperio.recovery.doctor import diagnose

QUERY = [1.0, 0.0, 0.0, 0.0]


def _add(path: str) -> object:
    return reperio.open(path, trust_index=False, auto_optimize=False).add([Chunk("x", "x")], vectors=[QUERY])


DOORS: dict[str, Callable[[str], object]] = {
    "open": lambda path: reperio.open(path, read_only=True).search(vector=QUERY),
    "open_for_writing": _add,
    "restore": lambda path: reperio.restore(path, path + "-restored"),
    "restore_mended": lambda path: reperio.restore(path, path + "-restored", mend=True),
    "mend": lambda path: diagnose(path, mend=True),
}


def main(door: str, path: str, told: str) -> None:
    """Go in."""
    try:
        came = f"done {DOORS[door](path)}"
    except reperio.ReperioError as error:
        came = f"{type(error).__name__} {error}"
    Path(told).write_text(came)
