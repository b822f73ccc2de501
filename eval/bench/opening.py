"""(c) Opening an optimized collection in a fresh process, and the memory it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Bench, Figures, interleave, spread

_CHILD = Path(__file__).with_name("open_once.py")
TARGET_S = 0.5


def measure(bench: Bench) -> Figures:
    """Measure open plus first search in fresh processes, with the files in the page cache and without."""
    path, _ = bench.collection()
    questions = bench.directory / "queries.npy"
    np.save(questions, bench.data.queries[: bench.scale.queries])
    runs: dict[str, list[dict[str, Any]]] = {}

    def subject(name: str, mode: str, cold: bool) -> Callable[[], float]:
        def run() -> float:
            if cold:
                forget(path)
            found = _child(path, questions, mode)
            runs.setdefault(name, []).append(found)
            return float(found["both_s"])

        return run

    subjects = {
        f"{mode}, {'cold' if cold else 'warm'}": subject(f"{mode}, {'cold' if cold else 'warm'}", mode, cold)
        for mode in ("writer", "read_only")
        for cold in (False, True)
    }
    interleave(bench.scale.processes, subjects)
    return {
        "processes": bench.scale.processes,
        "files_mib": round(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 2**20, 1),
        "target_s": TARGET_S,
        "by_way": {name: _summary(found) for name, found in runs.items()},
    }


def forget(path: Path) -> None:
    """Ask the kernel to drop the collection's files from the page cache; pages that someone has mapped stay."""
    for file in path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _child(path: Path, questions: Path, mode: str) -> dict[str, Any]:
    command = [sys.executable, str(_CHILD), str(path), str(questions), mode]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _summary(runs: list[dict[str, Any]]) -> Figures:
    figures: Figures = {name: spread([run[name] for run in runs], 3) for name in ("open_s", "first_search_s", "both_s")}
    for when in ("before", "after", "later"):
        figures[f"{when}_mib"] = {kind: spread([run[when][kind] for run in runs]) for kind in ("rss", "anonymous")}
    return figures
