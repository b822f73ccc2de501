"""Deduplicate vectors with SemHash, for duplicates.py, which starts this with another Python; prints one JSON object.

    python duplicates_semhash.py VECTORS.npy THRESHOLD

Every record has a text of its own, so that SemHash compares vectors alone, as it is compared with.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from semhash import SemHash


class NoModel:
    """Stands where the vectors are ready."""

    def encode(self, *_: object, **__: object) -> np.ndarray:
        """Tell that SemHash embeds, whose time is not what is compared."""
        raise AssertionError("the vectors are ready, and SemHash asks for others")


vectors, threshold = np.load(sys.argv[1]), float(sys.argv[2])
records = [f"record {row}" for row in range(len(vectors))]
started = time.perf_counter()
index = SemHash.from_embeddings(vectors, records, model=NoModel())
built = time.perf_counter()
result = index.self_deduplicate(threshold)
ended = time.perf_counter()
selected = [int(record.split()[1]) for record in result.selected]
print(
    json.dumps(
        {
            "version": version("semhash"),
            "build_s": round(built - started, 1),
            "search_s": round(ended - built, 1),
            "selected": selected,
        }
    )
)
