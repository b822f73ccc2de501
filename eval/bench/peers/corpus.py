"""What every subject is given, at one size: vectors, chunks, questions and their exact answers.

Kept in a folder, so that each subject's process maps it. This module imports next to nothing, because the memory of
that process is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from measuring import Data

K = 10
TEXT_BYTES = 800
_BLOCK = 50_000

Plain: TypeAlias = tuple[str, str, dict[str, Any]]
"""A chunk, or a hit: id, text, metadata."""

Mark: TypeAlias = Callable[[str], None]
"""Called when a stage of ingestion is done, with its name."""

Floats: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """One size's data: a folder that `prepare` has filled."""

    folder: Path

    @cached_property
    def vectors(self) -> Floats:
        """(n, d), of norm 1, mapped."""
        mapped: Floats = np.load(self.folder / "vectors.npy", mmap_mode="r")
        return mapped

    def questions(self, which: str) -> tuple[Floats, Rows]:
        """Return the "tuning" or the "measured" half of the held-out questions, (m, d), and their exact ten, (m, 10).

        Every other question, because neighbours in the file come from the same source. No subject's knob is chosen by
        a question that it is measured with.
        """
        half = slice({"tuning": 0, "measured": 1}[which], None, 2)
        return np.load(self.folder / "queries.npy")[half], np.load(self.folder / "nearest.npy")[half]

    @cached_property
    def _texts(self) -> list[str]:
        found: list[str] = json.loads((self.folder / "texts.json").read_bytes())
        return found

    def chunk(self, row: int) -> Plain:
        """Return the chunk of a row: about 800 bytes of real text and 200 of metadata."""
        texts, turn = self._texts, row // len(self._texts)
        questions, length, at = [], 0, row
        while length < TEXT_BYTES:
            questions.append(texts[at % len(texts)])
            length += len(questions[-1]) + 1
            at += 1 + 2 * turn  # in a grown corpus no two chunks have the same text, so compression gains nothing
        metadata = {
            "source": f"corpus/questions-{row // 1000:04d}.jsonl",
            "title": questions[0][:80],
            "language": "en",
            "year": 1990 + row % 35,
            "section": row % 17,
            "weight": round((row % 1000) / 1000, 3),
            "reviewed": row % 3 == 0,
            "tags": ["question", f"group-{row % 50}"],
        }
        return f"r{row:07d}", " ".join(questions)[:TEXT_BYTES], metadata

    def chunks(self) -> Iterator[Plain]:
        """Yield the chunk of every row."""
        return map(self.chunk, range(len(self.vectors)))


def row_of(chunk_id: str) -> int:
    """Return the row whose chunk has this id."""
    return int(chunk_id[1:])


def knn_recall(found: list[list[int]], nearest: Rows) -> float:
    """Return knn recall@10: the part of the exact ten that was found, over all questions."""
    hits = sum(len(set(rows) & set(exact.tolist())) for rows, exact in zip(found, nearest, strict=True))
    return round(hits / nearest.size, 4)


def prepare(folder: Path, data: Data, rows: int, grow: Path) -> Corpus:
    """Fill the folder, unless it is filled already, and return what it holds.

    Args:
        folder: of this size; a ``grown.f16.npy`` that lies there is taken instead of growing one.
        data: the real vectors, questions and texts.
        rows: beyond those of *data* they are grown.
        grow: the script that grows them.
    """
    corpus, last = Corpus(folder), folder / "nearest.npy"
    if not last.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_vectors(folder, data, rows, grow)
        (folder / "texts.json").write_text(json.dumps(data.texts))
        np.save(folder / "queries.npy", data.queries)
        half_done = folder / "nearest.half.npy"
        np.save(half_done, nearest(corpus.vectors, data.queries))
        half_done.rename(last)
    return corpus


def _write_vectors(folder: Path, data: Data, rows: int, grow: Path) -> None:
    if rows <= data.rows:
        np.save(folder / "vectors.npy", data.base[:rows])
        return
    grown = folder / "grown.f16.npy"
    if not grown.exists():
        if not grow.is_file():
            raise FileNotFoundError(f"{rows} rows have to be grown, and {grow.name} is not there; name it with --grow")
        half_done = folder / "half.f16.npy"
        subprocess.run([sys.executable, str(grow), str(rows), str(half_done)], check=True)
        half_done.rename(grown)
    source = np.load(grown, mmap_mode="r")
    out = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(rows, source.shape[1]))
    for start in range(0, rows, _BLOCK):
        block = source[start : min(start + _BLOCK, rows)].astype(np.float32)
        out[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()


def nearest(vectors: Floats, queries: Floats) -> Rows:
    """Return the exact ten nearest rows of each query by inner product, (m, 10), best first."""
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        block = queries @ vectors[start : start + _BLOCK].T
        scores = np.hstack([scores, block])
        rows = np.hstack([rows, np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows
