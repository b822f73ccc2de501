"""Held-out queries from a file: a log of questions as users asked them, or their vectors."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.arguments import to_path
from reperio.errors import InvalidInput
from reperio.filters import parse
from reperio.layout import open_regular, reason
from reperio.types import Limits
from reperio.vectors import load_array

Queries: TypeAlias = "list[str] | npt.NDArray[Any]"
"""Texts, or an array as it was stored; `Collection.optimize` and `Collection.tune` check its shape and type."""

FIELDS = ("query", "text")
"""Names of the field that holds the question in a .jsonl, in this order."""

_ENDINGS = ".npy (vectors), .txt (a question per line) and .jsonl"
MODES = ("dense", "lexical", "hybrid")
_MOST = Limits().k  # the k beyond which a collection refuses to search


@dataclass(frozen=True, slots=True)
class LoggedQuestion:
    """A question as it was asked; what a plain list of questions does not tell has its default.

    Attributes:
        text: the question.
        k: hits wanted.
        mode: "dense", "lexical" or "hybrid".
        where: filter; None for none.
        ids: of the chunks that came, best first.
    """

    text: str
    k: int = 10
    mode: str = "dense"
    where: Mapping[str, Any] | None = None
    ids: tuple[str, ...] = ()


def read_queries(path: Path) -> Queries:
    """Read a query log.

    Args:
        path: ``.npy`` holds vectors (n, d). ``.txt`` has a question per line, ``.jsonl`` a JSON string or an object
            with the question under one of `FIELDS`; both in UTF-8, and empty lines are passed over. A question that
            was asked often counts often.

    Raises:
        InvalidInput: the file is missing, of another kind, empty or malformed; with the line.
    """
    path = to_path("path", path)
    kind = path.suffix.lower()
    if kind not in (".npy", ".txt", ".jsonl"):
        raise InvalidInput(f"{path} has the suffix {path.suffix!r}; held-out queries are read from {_ENDINGS}")
    try:
        if kind == ".npy":
            found: Queries = _read_vectors(path)
        elif kind == ".txt":
            found = [line for _, line in _lines(path)]
        else:
            found = [_to_question(line, f"{path}:{number}")[0] for number, line in _lines(path)]
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {reason(error)}") from error
    if not len(found):
        raise InvalidInput(f"{path} holds no queries")
    return found


def read_log(path: Path) -> list[LoggedQuestion]:
    """Read questions with how they were asked, as ``reperio.open(query_log=…)`` keeps them; oldest first.

    Args:
        path: ``.jsonl`` or ``.txt``, as in `read_queries`. Of a log that has been rotated, ``name.1.jsonl`` and so on
            next to it are read too.

    Raises:
        InvalidInput: a file is missing, of another kind, empty or malformed; with the line.
    """
    path = to_path("path", path)
    if path.suffix.lower() not in (".txt", ".jsonl"):
        raise InvalidInput(f"{path} has the suffix {path.suffix!r}; questions are read from .txt and .jsonl")
    if path.suffix.lower() == ".txt":
        found = [LoggedQuestion(text) for text in read_queries(path)]
    else:
        try:
            found = [_to_logged(line, f"{each}:{number}") for each in _rotated(path) for number, line in _lines(each)]
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {reason(error)}") from error
    if not found:
        raise InvalidInput(f"{path} holds no questions")
    return found


def _rotated(path: Path) -> list[Path]:
    # The newest file has no number, and 1 is the newest of the others.
    numbered = (path.with_suffix(f".{number}.jsonl") for number in itertools.count(1))
    return [path, *itertools.takewhile(Path.exists, numbered)][::-1]


def _to_logged(line: str, place: str) -> LoggedQuestion:
    text, found = _to_question(line, place)
    k, mode, where = found.get("k", 10), found.get("mode", "dense"), found.get("where")
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= _MOST:
        raise InvalidInput(f"{place}: k is {k!r}; it must be a whole number from 1 to {_MOST:,}")
    if mode not in MODES:
        raise InvalidInput(f"{place}: mode is {mode!r}; it must be {', '.join(MODES)}")
    if where is not None and not isinstance(where, dict):
        raise InvalidInput(f'{place}: where is {where!r}; it must be an object like {{"lang": "en"}}, or null')
    try:
        parse(where or {})
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from None
    ids = found.get("ids", [])
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise InvalidInput(f"{place}: ids is {str(ids)[:60]}; it must be a list of texts")
    return LoggedQuestion(text, k, str(mode), where or None, tuple(ids))  # {} selects all, as no filter does


def _read_vectors(path: Path) -> npt.NDArray[Any]:
    try:
        with open(open_regular(path, follow=True), "rb") as file:
            found = load_array(file)
    except (ValueError, EOFError):
        # numpy's own message proposes to unpickle the file
        raise InvalidInput(f"{path} is no array of floats, as numpy.save(path, vectors) writes it") from None
    if not isinstance(found, np.ndarray) or found.ndim != 2:
        what = f"an array of shape {found.shape}" if isinstance(found, np.ndarray) else "an archive of several arrays"
        raise InvalidInput(f"{path} holds {what}; queries are one array (n, d), a vector per row")
    return found


def _to_question(line: str, place: str) -> tuple[str, dict[str, Any]]:
    """Return the question of a line, and all that the line says of it."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{place}: no valid JSON ({error}); every line is a string or an object") from None
    text, fields = found, found if isinstance(found, dict) else {}
    if isinstance(found, dict):
        name = next((field for field in FIELDS if field in found), None)
        # A log that hashes its texts is a log all the same, and the reason is not a missing field.
        if name is None and "query_sha256" in found:
            raise InvalidInput(f"{place}: the question was logged as a hash, and cannot be asked again; keep its text")
        if name is None:
            has = ", ".join(map(repr, found)) or "nothing"
            raise InvalidInput(f"{place}: has {has}; the question is looked for in {' and '.join(map(repr, FIELDS))}")
        text = found[name]
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"{place}: the question is {text!r}; it must be a text that is not empty")
    return text.strip(), fields


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty, with their numbers from 1."""
    with open(open_regular(path, follow=True), "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                # Some editors begin a file with a byte order mark, which is no part of the first question.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise InvalidInput(
                    f"{path}:{number}: byte 0x{line[error.start]:02x} is no UTF-8; convert the file, e.g.: "
                    "iconv -f WINDOWS-1252 -t UTF-8"
                ) from None
            if text:
                yield number, text
