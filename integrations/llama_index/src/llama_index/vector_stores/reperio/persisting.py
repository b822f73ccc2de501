"""Write and read the pointer that LlamaIndex's persist leaves: a collection is on disk at every moment.

`StorageContext.from_defaults(persist_dir=…)` without vector_store= loads whatever lies there as a SimpleVectorStore.
One that loaded would be empty, and answer nothing; so the pointer is JSON of such a kind that loading it fails with the
cure as its message: where an embedding's numbers are expected, it has the sentence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem
from reperio import Filter, InvalidInput, NotACollection
from reperio.filters import parse

_KEY = "reperio"
_MOST_BYTES = 1 << 20  # a pointer has two paths and a sentence


class Pointer(NamedTuple):
    """The content of a pointer that `write_pointer` wrote.

    Attributes:
        path: of the collection.
        scope: filter that the store was confined to, as a dictionary; None for none.
    """

    path: str
    scope: dict[str, Any] | None


def write_pointer(
    persist_path: str, collection: str, scope: Mapping[str, Any] | None, fs: fsspec.AbstractFileSystem | None
) -> None:
    """Write to *persist_path* where *collection* is: absolutely, and as seen from there, for folders that move.

    The store's scope is written too: one that is loaded again must not see more than before.
    """
    absolute = str(Path(collection).absolute())
    sentence = (
        f"this vector store is the Reperio collection {absolute}; load it with StorageContext.from_defaults("
        "persist_dir=..., vector_store=ReperioVectorStore.from_persist_dir(persist_dir)), or without any persist_dir "
        "as VectorStoreIndex(nodes=[], storage_context=ReperioVectorStore(path).storage_context())"
    )
    pointer = {"path": absolute, "relative": _relative(absolute, persist_path), "scope": scope}
    write_json(persist_path, {"embedding_dict": {_KEY: [sentence]}, _KEY: pointer}, fs)


def write_json(path: str, content: Any, fs: fsspec.AbstractFileSystem | None) -> None:
    """Write a JSON file, and the folder that it is in."""
    fs = fs or LocalFileSystem()
    fs.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH120  # a path of any file system
    with fs.open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=2)


def read_pointer(persist_path: str, fs: fsspec.AbstractFileSystem | None) -> Pointer:
    """Return what a pointer names; a path that is a directory is that of a collection, without a scope.

    Raises:
        NotACollection: nothing is there, or something that `write_pointer` did not write.
    """
    fs = fs or LocalFileSystem()
    if fs.isdir(persist_path):
        return Pointer(persist_path, None)
    if not fs.exists(persist_path):
        raise NotACollection(
            f"there is no {persist_path}; pass what index.storage_context.persist() was given, or open the collection "
            "itself: ReperioVectorStore(path)"
        )
    pointer = None
    if fs.isfile(persist_path):  # a named pipe would be waited for, a device read without end
        with fs.open(persist_path, "rb") as file:
            pointer = _parsed(file.read(_MOST_BYTES))
    if pointer is None:
        raise NotACollection(
            f"{persist_path} was not written by ReperioVectorStore.persist; load it with the store that wrote it"
        )
    moved = Path(persist_path).parent / pointer["relative"]
    there = str(moved) if not Path(pointer["path"]).is_dir() and moved.is_dir() else pointer["path"]
    return Pointer(there, pointer.get("scope"))


def agreed_scope(
    persisted: dict[str, Any] | None, given: Mapping[str, Any] | Filter | None, persist_path: str
) -> Mapping[str, Any] | Filter | None:
    """Return the scope to open with: the persisted one, or, where there was none, the one that is given.

    Raises:
        InvalidInput: both are there, and differ.
    """
    if persisted is None or given is None:
        return given if persisted is None else persisted
    if parse(given) != parse(persisted):
        raise InvalidInput(
            f"{persist_path} was persisted with the scope {persisted}, and is loaded with another; leave scope out, or "
            "open the collection itself: ReperioVectorStore(path, scope=...)"
        )
    return persisted


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        pointer: Any = json.loads(content)[_KEY]
    except (KeyError, TypeError, ValueError):
        return None
    named = isinstance(pointer, dict) and all(isinstance(pointer.get(key), str) for key in ("path", "relative"))
    return pointer if named and isinstance(pointer.get("scope"), (dict, type(None))) else None


def _relative(absolute: str, persist_path: str) -> str:
    try:
        return os.path.relpath(absolute, Path(persist_path).absolute().parent)
    except ValueError:  # another drive
        return absolute
