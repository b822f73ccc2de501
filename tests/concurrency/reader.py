"""A process that reads a collection and answers questions about it, one JSON line each.

Run as ``python -m tests.concurrency.reader PATH``. Questions: ``["search", vector, k]``, ``["all"]``, ``["count"]``,
``["checked"]`` (every chunk searched by its own vector). The collection is opened once, at the beginning.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np

import reperio
from reperio import Collection

from .versions import parsed, vector


def main(path: str) -> None:
    """Answer until standard input ends."""
    warnings.simplefilter("error")
    with reperio.open(path, read_only=True) as kb:
        _say("open")
        for line in sys.stdin:
            _say(answer(kb, *json.loads(line)))


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def answer(kb: Collection, question: str, *arguments: Any) -> Any:
    """Answer one question."""
    if question == "search":
        values, k = arguments
        hits = kb.search(vector=np.array(values, dtype=np.float32), k=k)
        return [[*parsed(hit.chunk), hit.score] for hit in hits]
    if question == "count":
        return kb.count()
    stored = [parsed(found) for found in kb]
    if question == "checked":
        for number, version in stored:
            hits = kb.search(vector=vector(number, version), k=2)
            assert parsed(hits[0].chunk) == (number, version)
            assert abs(hits[0].score - 1) < 1e-4
    return stored


if __name__ == "__main__":
    main(*sys.argv[1:])
