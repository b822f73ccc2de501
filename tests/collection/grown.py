"""A collection that grows, what it holds, and a bit of it that turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import reperio
from reperio import Chunk, Collection

D = 32


def content(kb: Collection) -> dict[str, Any]:
    ids = kb.ids()
    records = kb.records("docs").list()
    return {"chunks": list(kb), "vectors": kb.vectors(ids).tobytes() if ids else b"", "records": records}


def content_at(path: Path) -> dict[str, Any]:
    with reperio.open(path, read_only=True) as kb:
        assert kb.check().ok
        return content(kb)


def grow(kb: Collection, first: int, count: int) -> None:
    vectors = np.random.default_rng(first).standard_normal((count, D)).astype(np.float32)
    kb.add([Chunk(f"c{first + i}", f"text {first + i} " * 9, {"i": i}) for i in range(count)], vectors=vectors)
    kb.records("docs").put([f"batch {first}"], values=[count])


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
