"""Build shards, or split and merge them, until the end or until killed: ``python killed_child.py build|exchange …``."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from reperio.sharding import build_shards, merge, read_manifest, split
from reperio.types import Progress

SHARDS, ROWS = 3, 40


def _one_by_one(function: Any, tasks: Iterable[Any]) -> Iterator[Any]:
    return map(function, tasks)


def build(source: str, into: str) -> None:
    build_shards(source, into, shards=SHARDS, recall=None, partition_rows=ROWS, map=_one_by_one)


def exchange(root: str, _: str, progress: Progress | None = None) -> None:
    """Split the first shard and merge all of them again, for ever."""
    from pathlib import Path

    while True:
        names = [entry.name for entry in read_manifest(Path(root)).shards]
        if len(names) < 4:
            split(root, names[0], recall=None, progress=progress)
        else:
            merge(root, names[:2], recall=None, progress=progress)


if __name__ == "__main__":
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    {"build": build, "exchange": exchange}[sys.argv[1]](*sys.argv[2:])
