"""How long a gate run takes on 100,000 chunks with 200 real questions: every check, by the command line.

python eval/gate/at_scale.py --work DIR
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

import reperio
from reperio.evaluation import GoldenQuery, GoldenSet

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from healthy import write_golden
from measuring import Data, chunk_id, machine  # scripts import each other by their names alone
from models import minilm
from text_sets import data_folder

ROWS, QUESTIONS = 100_000, 200
_RUNS = 2  # the first writes the baseline, the second is compared with it


def measured(work: Path) -> dict[str, Any]:
    """Build the collection if it is not there, gate it twice, and return what the second run took."""
    path, asked = prepared(work)
    asked.with_suffix(".baseline.json").unlink(missing_ok=True)
    taken, output, content = 0.0, "", {}
    for run in range(_RUNS):
        command = ["gate", str(path), "--golden", str(asked), "--json", *(["--accept"] if run == 0 else [])]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "reperio", *command], capture_output=True, text=True, check=False
        )  # fmt: skip
        taken, output = time.perf_counter() - started, done.stdout
        if done.returncode not in (0, 1) or not output:
            raise SystemExit(f"reperio {' '.join(command)} ended with {done.returncode}: {done.stderr}")
    content = json.loads(output)
    checks = {check["name"]: [check["verdict"], round(check["seconds"], 1)] for check in content["checks"]}
    return {"rows": ROWS, "questions": QUESTIONS, "seconds": round(taken, 1), "checks": checks, "machine": machine()}


def prepared(work: Path) -> tuple[Path, Path]:
    """Return the paths of the collection, built if it is not there, and of its golden set."""
    path, asked = work / "large", work / "large.jsonl"
    data = Data(data_folder() / "realq", ROWS)
    if not path.exists():
        _build(work / "large-unfinished", data)
        (work / "large-unfinished").rename(path)
    _write_golden(asked, data)
    return path, asked


def _build(path: Path, data: Data) -> None:
    """Store every vector with the question that it was made of; the rest of a kilobyte is metadata."""
    held = [
        replace(chunk, text=data.texts[row], metadata={**chunk.metadata, "context": chunk.text})
        for row, chunk in enumerate(data.chunks)
    ]
    with reperio.open(path, embedder=minilm(), auto_optimize=False) as collection:
        collection.add(held, vectors=data.base)
        collection.optimize(0.95, queries=data.queries)


def _write_golden(path: Path, data: Data) -> None:
    """Expect of a held-out question the stored question that is nearest to it."""
    with gzip.open(data_folder() / "realq" / "queries.jsonl.gz") as lines:
        texts = [orjson.loads(line)["text"] for line in lines]
    rows = np.random.default_rng(1).permutation(len(texts))[:QUESTIONS]
    right = [{chunk_id(int(data.nearest[row][0])): 1} for row in rows]
    modes = ["hybrid" if at % 4 == 0 else "dense" for at in range(len(rows))]
    queries = [
        GoldenQuery(f"q{row}", texts[row], expect, mode=mode)
        for row, expect, mode in zip(rows.tolist(), right, modes, strict=True)
    ]
    write_golden(GoldenSet(queries), path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a directory for the collection")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    print(json.dumps(measured(options.work), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
