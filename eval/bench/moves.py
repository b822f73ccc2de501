"""Count the calls of a warm `search(vector=)` and of an `add` of three chunks, and write eval/results/moves.md.

    python eval/bench/moves.py

Counted are the functions of the package that a call enters: calls, the files they lie in, and the moves, i.e. how often
a function is entered that lies in another file than the one entered before it. Comprehensions count as part of their
function, and a generator that is resumed is not entered again. The figures do not depend on the machine.
Exit 0 counted, 1 more moves than the target.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType

import numpy as np

import reperio
from reperio import Chunk, Collection

_PACKAGE = Path(reperio.__file__).parent
_RESULTS = Path(__file__).resolve().parents[1] / "results" / "moves.md"
_ROWS, _DIMENSION = 20_000, 64
_WARM = 20
TARGETS = {"search(vector=)": 16, "add of 3 chunks": 30}
"""Most moves of each call."""


def main() -> int:
    """Count, print the table and write the page; return the exit status."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((_ROWS, _DIMENSION), dtype=np.float32)
    with (
        tempfile.TemporaryDirectory(prefix="moves-") as folder,
        reperio.open(Path(folder) / "kb", dimension=_DIMENSION, auto_optimize=False) as kb,
    ):
        kb.add((Chunk(f"c{row}", f"text number {row}", {"n": row % 100}) for row in range(_ROWS)), vectors=vectors)
        kb.optimize(0.8, index="HNSW16", queries=vectors[:100])
        calls = {
            "search(vector=)": entered(lambda: kb.search(vector=vectors[7], recall=0.8)),
            "add of 3 chunks": entered(_adding(kb, vectors)),
        }
    text = to_markdown(calls)
    _RESULTS.write_text(text)
    print(text)
    return int(any(moves(calls[name]) > most for name, most in TARGETS.items()))


def entered(call: Callable[[], object]) -> list[str]:
    """Return the file of each function of the package that a warm *call* enters, in order."""
    for _ in range(_WARM):
        call()
    files: list[str] = []
    frames: dict[int, FrameType] = {}  # kept, so that no later frame gets the id of an earlier one

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event != "call" or id(frame) in frames or not path.is_relative_to(_PACKAGE):
            return
        frames[id(frame)] = frame
        if not frame.f_code.co_name.startswith("<") or frame.f_code.co_name == "<lambda>":
            files.append(str(path.relative_to(_PACKAGE)))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files


def moves(files: list[str]) -> int:
    """Return how often the file changes from one function entered to the next."""
    return sum(before != after for before, after in pairwise(files))


def to_markdown(calls: dict[str, list[str]]) -> str:
    """Return the counts as a page, with the files in the order in which they are entered."""
    rows = [
        f"| `{name}` | {len(files)} | {len(set(files))} | **{moves(files)}** | {TARGETS[name]} |"
        for name, files in calls.items()
    ]
    walks = [
        line
        for name, files in calls.items()
        for line in (
            "",
            f"## `{name}`",
            "",
            *(f"1. {after}" for before, after in pairwise(["", *files]) if before != after),
        )
    ]
    return "\n".join(
        [
            "# Moves between files",
            "",
            "Written by `eval/bench/moves.py`: functions of the package that one warm call enters, the files they lie",
            "in, and how often a function is entered in another file than the one before.",
            "",
            "| call | calls | files | moves | target |",
            "|---|---|---|---|---|",
            *rows,
            *walks,
            "",
        ]
    )


def _adding(kb: Collection, vectors: np.ndarray) -> Callable[[], object]:
    numbers = iter(range(_WARM + 1))

    def add() -> object:
        number = next(numbers)
        return kb.add([Chunk(f"x{number}-{at}", "some short text", {"n": at}) for at in range(3)], vectors=vectors[:3])

    return add


if __name__ == "__main__":
    raise SystemExit(main())
