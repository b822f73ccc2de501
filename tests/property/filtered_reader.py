"""A process that reads collections under filters and answers one JSON line per question.

Run as ``python -m tests.property.filtered_reader PATH``, where PATH only names the caller's files. Questions:
``["open", path]``, after which every other is about that collection, through one handle; ``["count", where]``,
``["ids", where]``, ``["get", where, limit, offset]`` and ``["search", vector, k, recall, where]``.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np

import reperio
from reperio import Collection


def main() -> None:
    """Answer until standard input ends."""
    warnings.simplefilter("error")
    kb: Collection | None = None
    _say("open")
    for line in sys.stdin:
        question, *arguments = json.loads(line)
        if question == "open":
            if kb is not None:
                kb.close()
            kb = reperio.open(arguments[0], read_only=True)
            _say(kb.count())
        else:
            assert kb is not None
            _say(answer(kb, question, *arguments))


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def answer(kb: Collection, question: str, *arguments: Any) -> Any:
    """Answer one question."""
    if question == "count":
        return kb.count(where=arguments[0])
    if question == "ids":
        return kb.ids(where=arguments[0])
    if question == "get":
        where, limit, offset = arguments
        return [chunk.id for chunk in kb.get(where=where, limit=limit, offset=offset)]
    vector, k, recall, where = arguments
    hits = kb.search(vector=np.array(vector, dtype=np.float32), k=k, recall=recall, where=where)
    return [[hit.chunk.id, hit.score] for hit in hits]


if __name__ == "__main__":
    main()
