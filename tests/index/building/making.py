"""The process that builds an index and may be killed at it.

Run as ``python -m tests.index.building.making`` with one argument, JSON: what to build from which ``.npy`` file,
which is mapped. It prints a line of JSON per report of progress; *out* receives the index.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import faiss
import numpy as np

from reperio import Metric
from reperio.index.building import filling, training
from reperio.index.building.resuming import Saving
from reperio.index.recipes.goal import Recipe


def main(asked: dict[str, str | int | None]) -> None:
    """Build, report, write."""
    if asked["block_rows"]:
        filling.BLOCK_ROWS = asked["block_rows"]
    matrix = np.load(asked["matrix"], mmap_mode="r")
    recipe = Recipe(asked["factory"], "a test", training_rows=asked["training_rows"], construction=20)
    _report("begin", _resident())
    index = training.build(
        recipe,
        matrix,
        Metric(asked["metric"]),
        workers=asked["workers"],
        progress=lambda stage, done, _: _report(stage, done),
        scratch=Path(asked["scratch"]) if asked["scratch"] else None,
        saving=Saving(seconds=0, share=math.inf, finished=True),  # a kill may also come before the last line
    )
    faiss.write_index(index, asked["out"])


def _report(stage: str, done: int) -> None:
    sys.stdout.write(json.dumps([stage, done]) + "\n")
    sys.stdout.flush()


def _resident() -> int:
    """Return the bytes of this process that no file backs."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
