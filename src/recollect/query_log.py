"""Held-out queries from a file: a log of questions as users asked them, or their vectors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from recollect.errors import InvalidInput

Queries: TypeAlias = "list[str] | npt.NDArray[Any]"
"""Texts, or an array as it was stored; `Collection.optimize` and `Collection.tune` check its shape and type."""

FIELDS = ("query", "text")
"""Names of the field that holds the question in a .jsonl, in this order."""

_ENDINGS = ".npy (vectors), .txt (a question per line) and .jsonl"


def read_queries(path: Path) -> Queries:
    """Read a query log.

    Args:
        path: ``.npy`` holds vectors (n, d). ``.txt`` has a question per line, ``.jsonl`` a JSON string or an object
            with the question under one of `FIELDS`; both in UTF-8, and empty lines are passed over. A question that
            was asked often counts often.

    Raises:
        InvalidInput: the file is missing, of another kind, empty or malformed; with the line.

    """
    readers: dict[str, Callable[[Path], Queries]] = {".npy": _read_vectors, ".txt": _read_lines, ".jsonl": _read_jsonl}
    read = readers.get(path.suffix.lower())
    if read is None:
        raise InvalidInput(f"{path} has the suffix {path.suffix!r}; held-out queries are read from {_ENDINGS}")
    try:
        found = read(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    if not len(found):
        raise InvalidInput(f"{path} holds no queries")
    return found


def _read_vectors(path: Path) -> npt.NDArray[Any]:
    try:
        found = np.load(path, allow_pickle=False)  # a pickle executes what is in it
    except (ValueError, EOFError):
        # numpy's own message proposes to unpickle the file
        raise InvalidInput(f"{path} is no array of floats, as numpy.save(path, vectors) writes it") from None
    if not isinstance(found, np.ndarray) or found.ndim != 2:
        what = f"an array of shape {found.shape}" if isinstance(found, np.ndarray) else "an archive of several arrays"
        raise InvalidInput(f"{path} holds {what}; queries are one array (n, d), a vector per row")
    return found


def _read_lines(path: Path) -> list[str]:
    return [line for _, line in _lines(path)]


def _read_jsonl(path: Path) -> list[str]:
    return [_to_question(line, f"{path}:{number}") for number, line in _lines(path)]


def _to_question(line: str, place: str) -> str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{place}: no valid JSON ({error}); every line is a string or an object") from None
    if isinstance(found, dict):
        name = next((field for field in FIELDS if field in found), None)
        if name is None:
            has = ", ".join(map(repr, found)) or "nothing"
            raise InvalidInput(f"{place}: has {has}; the question is looked for in {' and '.join(map(repr, FIELDS))}")
        found = found[name]
    if not isinstance(found, str) or not found.strip():
        raise InvalidInput(f"{place}: the question is {found!r}; it must be a text that is not empty")
    return found.strip()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty, with their numbers from 1."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise InvalidInput(
                    f"{path}:{number}: byte 0x{line[error.start]:02x} is no UTF-8; convert the file, e.g.: "
                    "iconv -f WINDOWS-1252 -t UTF-8"
                ) from None
            if text:
                yield number, text
