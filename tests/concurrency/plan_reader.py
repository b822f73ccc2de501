"""A process that reads a collection on which a crash plan is at work.

Run as ``python -m tests.concurrency.plan_reader PATH``. Questions: ``["checked"]`` (everything read, a few searches,
each hit compared with what is stored: text by id comes back), ``["search", vector]`` (id and text of the best hit).
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np

import reperio
from reperio import Collection
from tests.crash.plan import DIMENSION


def main(path: str) -> None:
    """Answer until standard input ends."""
    warnings.simplefilter("error")
    rng = np.random.default_rng(1)
    with reperio.open(path, read_only=True) as kb:
        _say("open")
        for line in sys.stdin:
            question, *arguments = json.loads(line)
            if question == "search":
                best = kb.search(vector=np.array(arguments[0], dtype=np.float32), k=1)[0].chunk
                _say([best.id, best.text])
            else:
                _say(_checked(kb, rng))


def _checked(kb: Collection, rng: np.random.Generator) -> dict[str, str]:
    for query in rng.standard_normal((5, DIMENSION), dtype=np.float32):
        hits = kb.search(vector=query, k=4)
        for hit in hits:
            number = int(hit.chunk.id[1:])
            assert hit.chunk.text.startswith(f"chunk {number} of plan 3, wording "), hit
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return {found.id: found.text for found in kb}


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
