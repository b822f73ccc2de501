"""What LlamaIndex's persist writes: a pointer, as a collection is on disk at every moment.

`StorageContext.from_defaults(persist_dir=…)` without vector_store= loads whatever lies there as a SimpleVectorStore.
One that loaded would be empty, and answer nothing; so the pointer is JSON of such a kind that loading it fails with the
cure as its message: where an embedding's numbers are expected, it has the sentence.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from recollect import NotACollection

_KEY = "recollect"


def write_pointer(persist_path: str, collection: str, fs: fsspec.AbstractFileSystem | None) -> None:
    """Write to *persist_path* where *collection* is: absolutely, and as seen from there, for folders that move."""
    absolute = str(Path(collection).absolute())
    sentence = (
        f"this vector store is the Recollect collection {absolute}; load it with StorageContext.from_defaults("
        "persist_dir=..., vector_store=RecollectVectorStore.from_persist_dir(persist_dir)), or without any persist_dir "
        "as VectorStoreIndex(nodes=[], storage_context=RecollectVectorStore(path).storage_context())"
    )
    pointer = {"path": absolute, "relative": _relative(absolute, persist_path)}
    write_json(persist_path, {"embedding_dict": {_KEY: [sentence]}, _KEY: pointer}, fs)


def write_json(path: str, content: Any, fs: fsspec.AbstractFileSystem | None) -> None:
    """Write a JSON file, and the folder that it is in."""
    fs = fs or LocalFileSystem()
    fs.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH120  # a path of any file system
    with fs.open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=2)


def read_pointer(persist_path: str, fs: fsspec.AbstractFileSystem | None) -> str:
    """Return the collection that a pointer names; a path that is a directory is returned as it is.

    Raises:
        NotACollection: nothing is there, or something that `write_pointer` did not write.

    """
    fs = fs or LocalFileSystem()
    if fs.isdir(persist_path):
        return persist_path
    if not fs.exists(persist_path):
        raise NotACollection(
            f"there is no {persist_path}; pass what index.storage_context.persist() was given, or open the collection "
            "itself: RecollectVectorStore(path)"
        )
    with fs.open(persist_path, "rb") as file:
        content = file.read()
    pointer = _parsed(content)
    if pointer is None:
        raise NotACollection(
            f"{persist_path} was not written by RecollectVectorStore.persist; load it with the store that wrote it"
        )
    moved = Path(persist_path).parent / pointer["relative"]
    return str(moved) if not Path(pointer["path"]).is_dir() and moved.is_dir() else pointer["path"]


def _parsed(content: bytes) -> dict[str, str] | None:
    try:
        pointer: Any = json.loads(content)[_KEY]
    except (KeyError, TypeError, ValueError):
        return None
    named = isinstance(pointer, dict) and all(isinstance(pointer.get(key), str) for key in ("path", "relative"))
    return pointer if named else None


def _relative(absolute: str, persist_path: str) -> str:
    try:
        return os.path.relpath(absolute, Path(persist_path).absolute().parent)
    except ValueError:  # another drive
        return absolute
