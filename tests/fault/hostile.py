"""What a hostile or careless caller passes, and what the directory around a collection must look like afterwards."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reperio import Chunk, Collection
from tests.crash.plan import DIMENSION

Call = Callable[[Collection], object]

QUERY = np.eye(DIMENSION, dtype=np.float32)[0]
SURROGATE, NUL = "a\ud800b", "a\0b"
STRINGS = (
    *("", " ", ".", "..", "../../etc/passwd", "/etc/passwd", "~", "$HOME", "%s%n", "a" * 100_000),
    *(
        "'; DROP TABLE chunks; --",
        '" OR 1=1 --',
        "\\",
        "\n",
        "\r\n",
        "\t",
        "\x1b[31m",
        "\u202e",
        "\ufeff",
        "😀",
        "\u00e9",
        "e\u0301",
    ),
    *("__import__('os').system('x')", "{{7*7}}", "${jndi:ldap://x}", "<script>", "file:///etc/passwd", NUL),
    *("NaN", "null", "true", "-0", "1e999", "\uffff", "\U0010ffff"),
)
"""All of them are Unicode text, and therefore an id, a text and a key like any other."""


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def _circular() -> Mapping[str, Any]:
    made: dict[str, Any] = {}
    made["self"] = made
    return made


def _search(**options: Any) -> Call:
    return lambda kb: kb.search(**{"vector": QUERY, **options})


def _where(where: Any) -> Call:
    return lambda kb: kb.search(vector=QUERY, where=where)


def _adding(chunk: Any, vector: Any = None) -> Call:
    return lambda kb: kb.add([chunk], vectors=[QUERY if vector is None else vector])


REFUSED: dict[str, Call] = {
    **{f"k={k!r}": _search(k=k) for k in (0, -1, 1.0, "5", None, True, 2**31, 2**63, 10**30, math.nan, math.inf)},
    **{f"recall={r!r}": _search(recall=r) for r in (0, -1, 1.1, math.nan, math.inf, "0.9", None, True)},
    **{f"mode={m!r}": _search(mode=m) for m in ("", "DENSE", None, 5, SURROGATE)},
    **{f"diversity={d!r}": _search(diversity=d) for d in (-1, 2, math.nan, "x")},
    **{f"weight={w!r}": _search(query="a", mode="hybrid", weight=w) for w in (-1, 2, math.nan, "x")},
    **{f"min_score={s!r}": _search(min_score=s) for s in (math.nan, "x")},
    **{f"candidates={c!r}": _search(candidates=c) for c in (0, -5, 2**40, "x", 1.5)},
    **{
        f"vector {name}": _search(vector=vector)
        for name, vector in {
            "NaN": np.full(DIMENSION, np.nan),
            "Inf": np.full(DIMENSION, np.inf),
            "zero": QUERY * 0,
            "short": QUERY[:3],
            "empty": [],
            "complex": QUERY * 1j,
            "text": "abc",
            "objects": [object()] * DIMENSION,
            "deep": [[[1.0]]],
            "ragged": [[1.0], [1.0, 2.0]],
            "huge": np.full(DIMENSION, 1e38, dtype=np.float64) * 1e20,
        }.items()
    },
    **{
        f"where {name}": _where(where)
        for name, where in {
            "a string": "lang = 'en'",
            "a list": [1],
            "an unknown operator": {"a": {"$where": "sleep(9)"}},
            "an operator at the top": {"$gt": 1},
            "nested": _nested(200),
            "circular": _circular(),
            "NaN": {"a": math.nan},
            "a surrogate": {SURROGATE: 1},
            "a surrogate as value": {"a": SURROGATE},
            "bytes": {"a": b"x"},
            "an object": {"a": object()},
            "a number as key": {1: 1},
            "too many": {"$or": [{"a": 1}] * 100_000},
            "too long": {"a": "x" * 10_000_000},
            "too many values": {"a": {"$in": list(range(1_000_000))}},
            "a huge integer": {"a": 10**100_000},
        }.items()
    },
    **{
        f"chunk {name}": _adding(chunk)
        for name, chunk in {
            "none": None,
            "a tuple": ("id", "text"),
            "an id of None": Chunk(None),
            "an empty id": Chunk(""),
            "a number as id": Chunk(7),
            "bytes as text": Chunk("x", b"x"),
            "a surrogate in the id": Chunk(SURROGATE),
            "a surrogate in the text": Chunk("x", SURROGATE),
            "a surrogate in metadata": Chunk("x", "", {"a": SURROGATE}),
            "a surrogate as key": Chunk("x", "", {SURROGATE: 1}),
            "NaN in metadata": Chunk("x", "", {"a": math.nan}),
            "a huge integer": Chunk("x", "", {"a": 2**64}),
            "an object": Chunk("x", "", {"a": object()}),
            "a set": Chunk("x", "", {"a": {1}}),
            "circular": Chunk("x", "", _circular()),
            "nested": Chunk("x", "", _nested(10_000)),
            "a number as key": Chunk("x", "", {1: 1}),
            "metadata that is a list": Chunk("x", "", [1]),
        }.items()
    },
    "vectors missing": lambda kb: kb.add([Chunk("x"), Chunk("y")], vectors=[QUERY]),
    "vectors too many": lambda kb: kb.add([Chunk("x")], vectors=[QUERY, QUERY]),
    "no embedder": lambda kb: kb.add([Chunk("x", "text")]),
    "batch_size": lambda kb: kb.add([Chunk("x")], vectors=[QUERY], batch_size=0),
    "ids of another type": lambda kb: kb.get([1, 2]),
    "ids that are a number": lambda kb: kb.get(5),
    "an option that is none": lambda kb: kb.search(vector=QUERY, kk=5),
    "delete everything": lambda kb: kb.delete(where={}),
    "delete nothing": lambda kb: kb.delete(),
    "offset": lambda kb: kb.get(offset=-1),
    "an index that is a program": lambda kb: kb.optimize(index="IVF4,Flat; import os"),
    "an index of a billion lists": lambda kb: kb.optimize(index="IVF1000000000,Flat"),
    "an index that is none": lambda kb: kb.optimize(index="\0"),
    "memory": lambda kb: kb.optimize(memory="lots"),
    "memory below zero": lambda kb: kb.optimize(memory=-5),
    "a query of a megabyte": lambda kb: kb.search("word " * 200_000, mode="lexical"),
    "a query that is none": lambda kb: kb.search(5, mode="lexical"),
    "a backup over the collection": lambda kb: kb.backup(kb.info().path),
    "a backup with NUL": lambda kb: kb.backup("a\0b"),
    "a backup with a name too long": lambda kb: kb.backup(f"{kb.info().path}-{'x' * 5000}"),
    "a space of records without name": lambda kb: kb.records(""),
    "a space of records with a surrogate": lambda kb: kb.records(SURROGATE).put(["x"]),
}
"""Calls that must be refused with a typed error and leave the collection as it was."""


def surroundings(directory: Path) -> dict[str, str]:
    """Return every file and link below *directory* but those of the collection ``kb``, with a hash of its content."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if name.split("/")[0] == "kb":
            continue
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "directory"
        raw = content.encode() if isinstance(content, str) else content
        found[name] = hashlib.sha256(raw).hexdigest()
    return found
