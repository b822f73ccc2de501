"""Read the vectors of a segment's folder: the files that Chroma's hnswlib writes, and the pickle with their ids.

``header.bin`` says how ``data_level0.bin`` is arranged: elements of one size in a row, each with its links, its vector
and its label. Under cosine a vector has length 1 there, and ``length.bin`` has the length that it had. The links are
not used. ``index_metadata.pickle`` knows the label of each id.
"""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from reperio import layout
from reperio.errors import InvalidInput, UnsupportedFormat
from reperio.importers.matching import places_of
from reperio.importers.pickles import MAX_BYTES, Instance, Name, read_pickle
from reperio.importers.reading import read_file
from reperio.types import FloatMatrix, Metric, Rows

# Version, then offsetLevel0, max_elements, cur_element_count, size_data_per_element, label_offset, offsetData,
# maxlevel, enterpoint_node, maxM, maxM0, M, mult, ef_construction, as hnswlib names them.
_HEADER = struct.Struct("<i6QiI3QdQ")
_VERSION = 1
_LABEL = 8  # bytes
_BLOCK = 64 << 20  # bytes that are read at once
_MOST_ELEMENTS = 1 << 31
_STATE = Name("chromadb.segment.impl.vector.local_persistent_hnsw", "PersistentData")


@dataclass(frozen=True, slots=True)
class VectorFiles:
    """The vectors of a segment that Chroma has taken out of its log."""

    path: Path  # of data_level0.bin
    dimension: int
    places: dict[str, int]  # of each id, its element
    orphans: tuple[int, ...]  # labels that the pickle names and the file has not
    last: int | None  # number of the last log entry in it, where the files tell
    _file: BinaryIO
    _element: int  # bytes of an element
    _offset: int  # of the vector in it
    _lengths: Any  # float32 (n,), or None

    def vectors(self, places: Rows) -> FloatMatrix:
        """Return the vectors of these elements, float32 (len(places), d)."""
        first, last = int(places.min()), int(places.max()) + 1
        if last - first > 4 * len(places) + 64:  # far apart, after many deletes: one by one
            return np.concatenate([self.vectors(places[place : place + 1]) for place in range(len(places))])
        found = _read(self._file, self.path, first * self._element, (last - first) * self._element)
        parts = np.frombuffer(found, np.uint8).reshape(last - first, self._element)[places - first]
        bytes_of_all = parts[:, self._offset : self._offset + 4 * self.dimension]
        made = np.ascontiguousarray(bytes_of_all).view("<f4").astype(np.float32)
        return made if self._lengths is None else made * self._lengths[places][:, None]


def read_vector_files(folder: Path, metric: Metric, opened: ExitStack) -> VectorFiles | None:
    """Read and check the folder of a segment; None where Chroma has not written it yet."""
    layout.require_absent_or_directory(folder)
    pickled = folder / "index_metadata.pickle"
    if not layout.is_there(pickled):  # the files that may be there are those of an index that is still empty
        return None
    path = folder / "data_level0.bin"
    header = _header(folder / "header.bin")
    _, _, _, count, element, label_offset, offset, *_ = header
    dimension, rest = divmod(label_offset - offset, 4)
    file = opened.enter_context(os.fdopen(layout.open_regular(path), "rb"))
    size = os.fstat(file.fileno()).st_size
    fits = element == label_offset + _LABEL and 0 <= offset < label_offset and not rest and 1 <= dimension <= 1 << 16
    if header[0] != _VERSION:
        raise UnsupportedFormat(f"{folder / 'header.bin'} has the version {header[0]}; {_VERSION} is known here")
    if not fits or count > _MOST_ELEMENTS or count * element > size:
        raise InvalidInput(f"{folder / 'header.bin'} and {path.name} do not belong together: the folder is damaged")
    labels = _labels(file, path, count, element)
    known, last = _pickled(pickled, dimension, 2 * count)
    places = places_of(list(known.values()), labels)
    return VectorFiles(
        path=path,
        dimension=dimension,
        places={key: place for key, place in zip(known, places, strict=True) if place >= 0},
        orphans=tuple(label for label, place in zip(known.values(), places, strict=True) if place < 0),
        last=last,
        _file=file,
        _element=element,
        _offset=offset,
        _lengths=_lengths(folder / "length.bin", count) if metric is Metric.COSINE else None,
    )


def _header(path: Path) -> tuple[Any, ...]:
    content = layout.read_regular(path, _HEADER.size)
    if len(content) != _HEADER.size:
        raise InvalidInput(f"{path} has {len(content)} bytes, not {_HEADER.size}: it is damaged, or not Chroma's")
    return _HEADER.unpack(content)


def _labels(file: BinaryIO, path: Path, count: int, element: int) -> Rows:
    found = np.empty(count, dtype=np.int64)
    step = max(1, _BLOCK // element)
    for start in range(0, count, step):
        number = min(step, count - start)
        content = _read(file, path, start * element, number * element)
        rows = np.frombuffer(content, np.uint8).reshape(number, element)[:, -_LABEL:]
        found[start : start + number] = np.ascontiguousarray(rows).view("<i8")[:, 0]
    return found


def _lengths(path: Path, count: int) -> Any:
    """Return the lengths that the vectors had before Chroma made them 1; where they make no sense, they stay 1."""
    if not layout.is_there(path):
        return None
    with open(layout.open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size < 4 * count:
            return None
        found = np.frombuffer(_read(file, path, 0, 4 * count), "<f4").astype(np.float32)
    sound = np.isfinite(found) & (found > 1e-30) & (found < 1e18)
    return np.where(sound, found, np.float32(1))


def _read(file: BinaryIO, path: Path, start: int, length: int) -> bytes:
    with layout.storage_errors(path, "read"):
        file.seek(start)
        content = file.read(length)
    if len(content) != length:
        raise InvalidInput(f"{path} became shorter while it was read; let no program write the folder meanwhile")
    return content


def _pickled(path: Path, dimension: int, numbers: int) -> tuple[dict[str, int], int | None]:
    """Return the label of each id, and the number of the last log entry."""
    held = read_pickle(read_file(path, MAX_BYTES), allowed={_STATE}, where=str(path), numbers_below=numbers)
    state = held.state if type(held) is Instance else held  # a class until 1.0, a dictionary since
    found = state.get("id_to_label") if type(state) is dict else None
    if type(found) is not dict or any(
        type(key) is not str or type(label) is not int or not 0 <= label < 1 << 62 for key, label in found.items()
    ):
        raise InvalidInput(f"{path} holds something else than Chroma writes: the labels of ids")
    if state.get("dimensionality") not in (None, dimension):
        raise InvalidInput(f"{path} and header.bin tell vectors of different dimensions: the folder is damaged")
    last = state.get("max_seq_id")
    return found, last if type(last) is int and 0 <= last < 1 << 63 else None
