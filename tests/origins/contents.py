"""What the tests of origins store, and how they compare what two hosts have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import reperio
from reperio import Chunk, Collection

D = 8


def vector(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return one of many different vectors."""
    return np.random.default_rng(number).standard_normal(D).astype(np.float32)


def add(kb: Collection, numbers: list[int], version: int = 0) -> None:
    """Store chunks whose text and vector tell number and version."""
    chunks = [Chunk(f"c{n}", f"text {n} version {version}", {"n": n, "version": version}) for n in numbers]
    kb.add(chunks, vectors=np.stack([vector(1000 * version + n) for n in numbers]))


def contents(kb: Collection) -> dict[str, Any]:
    """Return all that a collection holds, to the bit."""
    ids = sorted(kb.ids())
    vectors = kb.vectors(ids) if ids else []
    chunks = {chunk.id: chunk for chunk in kb}
    records = [(one.key, one.value, one.group, one.time) for one in kb.records("space").list()]
    found = {key: (chunks[key].text, chunks[key].metadata, vectors[n].tobytes()) for n, key in enumerate(ids)}
    return {"chunks": found, "records": records}


def both(url: str, tmp_path: Path, **options: Any) -> tuple[Collection, Collection]:
    """Open two replicas, as on two hosts, that take over what is new only when they are asked to."""
    options = {"follow": 0, "auto_optimize": False, **options}
    return (
        reperio.open(tmp_path / "first", origin=url, **options),
        reperio.open(tmp_path / "second", origin=url, **options),
    )
