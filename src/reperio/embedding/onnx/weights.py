"""Read a .safetensors file: its arrays are mapped, so that processes share them and only what is used is read."""

from __future__ import annotations

import math
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from reperio.layout import open_regular

_MOST_HEADER = 100 << 20  # bytes, as the format itself says
_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}


class BadWeights(ValueError):
    """The file is not what its format says."""


def read_weights(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Map the arrays of a .safetensors file, by name; the numbers of an array of bfloat16 come as float32.

    Raises:
        BadWeights: sizes or places in the file contradict each other, or it has numbers of an unknown kind.
        StorageFailed: it cannot be opened.
    """
    # A hub's cache has links in its folders of snapshots.
    descriptor = open_regular(path, follow=True)
    try:
        size = os.fstat(descriptor).st_size
        if size < 8:
            raise BadWeights("it is too short")
        mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    length = struct.unpack("<Q", mapped[:8])[0]
    if length > min(_MOST_HEADER, size - 8):
        raise BadWeights("its header is longer than the file")
    try:
        header = orjson.loads(mapped[8 : 8 + length])
    except orjson.JSONDecodeError as error:
        raise BadWeights("its header is no JSON") from error
    if not isinstance(header, dict):
        raise BadWeights("its header is no object")
    return {name: _array(mapped, 8 + length, name, kind) for name, kind in header.items() if name != "__metadata__"}


def _array(mapped: mmap.mmap, start: int, name: str, kind: Any) -> npt.NDArray[Any]:
    try:
        dtype, shape = np.dtype(_DTYPES[kind["dtype"]]), tuple(kind["shape"])
        begin, end = kind["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadWeights(f"it has {name[:60]!r} as {kind!r:.80}") from error
    numbers = (*shape, begin, end)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) > 8:
        raise BadWeights(f"it has {name[:60]!r} as {kind!r:.80}")
    count = math.prod(shape)
    if end - begin != count * dtype.itemsize or start + end > len(mapped):
        raise BadWeights(f"{name[:60]!r} is at bytes {begin} to {end}, which do not hold {shape!r:.60}")
    values = np.frombuffer(mapped, dtype=dtype, count=count, offset=start + begin).reshape(shape)
    if kind["dtype"] == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values
