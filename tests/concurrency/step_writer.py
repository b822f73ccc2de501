"""A writer in a process of its own that does one step for each line it is told; started by the tests beside it."""

from __future__ import annotations

import sys
import zlib

import numpy as np
import numpy.typing as npt

import reperio
from reperio import Chunk

DIMENSION = 8


def vector(chunk_id: str) -> npt.NDArray[np.float32]:
    """Return the vector of a chunk, which its id alone decides."""
    return np.random.default_rng(zlib.crc32(chunk_id.encode())).standard_normal(DIMENSION).astype("f")


def say(word: str) -> None:
    """Write a word and a line end to standard output, at once."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(path: str) -> None:
    """Open the collection, then add a chunk per line of standard input, and say how that went."""
    with reperio.open(path, auto_optimize=False) as kb:
        say("open")
        for line in sys.stdin:
            chunk_id = line.strip()
            try:
                kb.add([Chunk(chunk_id, f"text of {chunk_id}")], vectors=vector(chunk_id)[None])
                say("stored")
            except reperio.ReperioError as error:
                say(f"{type(error).__name__}: {error}".replace("\n", " "))


if __name__ == "__main__":
    main(sys.argv[1])
