"""Read the vectors of a folder of LlamaIndex: JSON of a `SimpleVectorStore`, or a FAISS index and its numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from reperio import index, layout
from reperio.errors import InvalidInput
from reperio.importers.matching import places_of
from reperio.importers.reading import read_file, to_integer
from reperio.types import FloatMatrix, Metric, Rows

MAX_BYTES = 8 << 30
"""A longer file of JSON is not read: it must fit into memory."""

_BEGIN = re.compile(rb'\s*\{\s*"embedding_dict"\s*:\s*\{')
# One entry: the id, a flat list, and what comes next. Each byte is looked at once.
_ENTRY = re.compile(rb'\s*("(?:[^"\\]|\\.)*")\s*:\s*(\[[^\[\]"{}]*\])\s*([,}])')
_LONGEST = 65_536
_JSON = b"{ \t\r\n"
_ID_MAPS = (b"IxMp", b"IxM2")  # what FAISS begins the file of an IDMap with


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of a folder, by the ids of nodes."""

    kind: str
    dimension: int
    metric: Metric
    lost: str | None
    places: dict[str, int]  # where each node's vector is
    numbers: Rows  # by which the source knows each vector
    vectors: Callable[[Rows], FloatMatrix]  # returns those at these places


def read_vectors(path: Path, folder: Path) -> Vectors:
    """Read the file of a vector store: JSON, or in spite of its name a FAISS index."""
    with open(layout.open_regular(path), "rb") as file:
        first = file.read(1)
    return _simple(path) if first and first in _JSON else _faiss(path, folder)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, which may hold NaN, as Python writes it."""
    content = read_file(path, MAX_BYTES)
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{path} is no JSON ({error!s:.200}): it is damaged, or not LlamaIndex's") from None
    if type(found) is not dict:
        raise InvalidInput(f"{path} holds no object: it is not what LlamaIndex writes")
    return found


def _simple(path: Path) -> Vectors:
    """Read a `SimpleVectorStore`, vector by vector: all of them as Python's floats would take eight times as much."""
    content = read_file(path, MAX_BYTES)
    places: dict[str, int] = {}
    rows: list[Any] = []
    begin = _BEGIN.match(content)
    if begin is None:
        for key, values in _whole(path):
            places[key] = len(rows)
            rows.append(_row(values, key, path))
    else:
        at, end = begin.end(), b","
        empty = content[at : at + 1] == b"}"
        while not empty and end == b",":
            found = _ENTRY.match(content, at)
            if found is None:
                raise InvalidInput(f"{path} is damaged at byte {at:,}: an id and a list of numbers are expected")
            try:
                key, values = orjson.loads(found[1]), orjson.loads(found[2])
            except orjson.JSONDecodeError as error:
                raise InvalidInput(f"{path} is damaged at byte {at:,} ({error!s:.100})") from None
            places[key] = len(rows)
            rows.append(_row(values, key, path))
            at, end = found.end(), found[3]
    if not rows:
        raise InvalidInput(f"{path} holds no vectors: there is nothing to import")
    dimensions = {len(row) for row in rows}
    if len(dimensions) > 1 or not 1 <= len(rows[0]) <= _LONGEST:
        raise InvalidInput(f"{path} has vectors of {sorted(dimensions)[:5]} dimensions; a collection has one length")
    matrix = np.stack(rows)
    return Vectors(
        kind="SimpleVectorStore",
        dimension=matrix.shape[1],
        metric=Metric.COSINE,
        lost=None,
        places=places,
        numbers=np.arange(len(rows)),
        vectors=lambda wanted: matrix[wanted],
    )


def _whole(path: Path) -> list[tuple[str, Any]]:
    found = read_json(path).get("embedding_dict")
    if type(found) is not dict:
        raise InvalidInput(f"{path} has no embedding_dict: it is not what a SimpleVectorStore of LlamaIndex writes")
    return list(found.items())


def _row(values: Any, key: Any, path: Path) -> Any:
    if type(values) is not list or not set(map(type, values)) <= {int, float}:
        raise InvalidInput(f"{path}: the vector of {key!r:.80} is no list of numbers")
    with np.errstate(over="ignore"):  # what becomes infinite is refused with its row
        try:
            return np.array(values, dtype=np.float64).astype(np.float32)
        except OverflowError:  # an integer of hundreds of digits
            raise InvalidInput(f"{path}: the vector of {key!r:.80} has a number that no float can hold") from None


def _faiss(path: Path, folder: Path) -> Vectors:
    found = index.read_foreign(path, own_numbers=True)
    # LlamaIndex leaves an id_map.json of an earlier store in the folder. Only a FaissMapVectorStore has one, and only
    # that store numbers its vectors itself, in an IDMap.
    known = _mapped(folder, path) if found.kind.startswith("IndexIDMap") else _stored(folder / "index_store.json")
    # Node ids by number: where one has several numbers, the last counts.
    places = zip(known.values(), places_of(list(known), found.numbers), strict=True)
    return Vectors(
        kind=found.kind,
        dimension=found.dimension,
        metric=found.metric,
        lost=found.lost,
        places={key: place for key, place in places if place >= 0},
        numbers=found.numbers,
        vectors=found.vectors,
    )


def _mapped(folder: Path, path: Path) -> dict[int, str]:
    """Return the node ids by FAISS's number, of the map that a FaissMapVectorStore writes."""
    others = [
        each.name for each in sorted(folder.glob("*vector_store.json")) if each != path and _begins_as_id_map(each)
    ]
    if others:  # the map is that of the one persisted last, and nothing says which one that was
        raise InvalidInput(
            f"{folder} has one id_map.json for several FAISS stores, {path.name} and {others[0]!r:.80}; persist each "
            "into a folder of its own"
        )
    mapped = folder / "id_map.json"
    if not layout.is_there(mapped):
        raise InvalidInput(
            f"{folder} has no id_map.json, which tells the nodes of {path.name}; persist the store again"
        )
    return _by_number(_pairs(read_json(mapped).get("faiss_id_to_node_id_map")), mapped)


def _begins_as_id_map(path: Path) -> bool:
    with open(layout.open_regular(path), "rb") as file:
        return file.read(len(_ID_MAPS[0])) in _ID_MAPS


def _stored(path: Path) -> dict[int, str]:
    """Return the node ids by FAISS's number, of the index store."""
    pairs: list[tuple[Any, Any]] = []
    for each in _objects(read_json(path).get("index_store/data")):
        if each.get("__type__") == "vector_store":
            pairs += _pairs(_struct(each, path).get("nodes_dict"))
    return _by_number(pairs, path)


def _by_number(pairs: list[tuple[Any, Any]], path: Path) -> dict[int, str]:
    numbers: dict[int, str] = {}
    for number, key in pairs:
        known = to_integer(number)
        if type(number) is not str or known is None or known < 0:
            raise InvalidInput(f"{path} knows a vector by {number!r:.80}, which is no number of FAISS")
        if type(key) is not str or numbers.get(known, key) != key:
            raise InvalidInput(f"{path} has two indexes that use the same numbers, or no ids; persist one index alone")
        numbers[known] = key
    return numbers


def _struct(each: dict[str, Any], path: Path) -> dict[str, Any]:
    found = each.get("__data__")
    try:
        found = orjson.loads(found) if type(found) is str else found
    except orjson.JSONDecodeError:
        found = None
    if type(found) is not dict:
        raise InvalidInput(f"{path} holds an index that cannot be read: it is damaged")
    return found


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if type(value) is dict else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value.values() if type(each) is dict] if type(value) is dict else []
