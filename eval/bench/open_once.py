"""Open a collection and search once, in this fresh process, and print what it took as JSON. Run by opening.py."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import microseconds

import reperio
from reperio.index.library.loading import load_faiss


def memory() -> dict[str, float]:
    """Return MiB: resident; private and dirty or anonymous, i.e. not reclaimable without swap."""
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        found[name.rstrip(":")] = int(value) / 1024
    return {"rss": found["Rss"], "anonymous": found["Anonymous"]}


def main(path: str, queries_path: str, read_only: bool, recall: float = 0.95) -> None:
    """Measure: everything is imported and the question is at hand before the clock starts."""
    load_faiss()
    queries = np.load(queries_path)
    before = memory()
    started = time.perf_counter()
    kb = reperio.open(path, read_only=read_only)
    opened = time.perf_counter()

    def search(query: Any) -> None:
        kb.search(vector=query, k=10, recall=recall)

    search(queries[0])
    searched = time.perf_counter()
    after = memory()
    passed = microseconds(search, queries)
    later = memory()
    kb.close()
    print(
        json.dumps(
            {
                "open_s": opened - started,
                "first_search_s": searched - opened,
                "both_s": searched - started,
                "before": before,
                "after": after,
                "later": later,
                "first_pass_us": dict(zip(("p50", "p99"), np.percentile(passed, (50, 99)).tolist(), strict=True)),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "read_only", *map(float, sys.argv[4:]))
