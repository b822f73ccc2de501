"""Write an ONNX model: the few of its protobuf messages that a graph with outside weights needs.

The numbers are those of the fields in onnx.proto, which never change. The package `onnx` would do the same, at the
price of one more dependency.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

FLOAT, INT32, INT64 = 1, 6, 7  # TensorProto.DataType
_TYPES = {np.dtype("float32"): FLOAT, np.dtype("int32"): INT32, np.dtype("int64"): INT64}
_IR_VERSION, _OPSET, _MICROSOFT_OPSET = 8, 17, 1
_EXTERNAL = 1  # TensorProto.DataLocation
_FLOAT_ATTRIBUTE, _INT_ATTRIBUTE = 1, 2  # AttributeProto.AttributeType

Shape = Sequence[int | str]
"""Of an input or output: a number, or the name of a length that differs from run to run."""


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number & (1 << 64) - 1)


def _bytes(field: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _attribute(name: str, value: float) -> bytes:
    if type(value) is int:
        return _bytes(1, name) + _number(3, value) + _number(20, _INT_ATTRIBUTE)
    return _bytes(1, name) + _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, _FLOAT_ATTRIBUTE)


def node(operator: str, inputs: Sequence[str], output: str, domain: str, options: Mapping[str, float]) -> bytes:
    """Return a NodeProto of one output."""
    return b"".join(
        [
            *(_bytes(1, name) for name in inputs),
            _bytes(2, output),
            _bytes(4, operator),
            *(_bytes(5, _attribute(name, value)) for name, value in options.items()),
            _bytes(7, domain),
        ]
    )


def tensor(name: str, values: npt.NDArray[np.generic], *, inline: bool) -> bytes:
    """Return a TensorProto with its values, or, unless *inline*, one whose values are handed over at loading."""
    kind = b"".join(_number(1, length) for length in values.shape) + _number(2, _TYPES[values.dtype]) + _bytes(8, name)
    if inline:
        return kind + _bytes(9, values.tobytes())
    # The place is never looked for: what is handed over by that name takes its place.
    return kind + _bytes(13, _bytes(1, "location") + _bytes(2, "handed-over")) + _number(14, _EXTERNAL)


def port(name: str, kind: int, shape: Shape) -> bytes:
    """Return a ValueInfoProto: an input or output of the graph."""
    lengths = (_bytes(2, each) if isinstance(each, str) else _number(1, each) for each in shape)
    dimensions = b"".join(_bytes(1, length) for length in lengths)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, dimensions)))


def model(nodes: list[bytes], tensors: list[bytes], inputs: list[bytes], outputs: list[bytes]) -> bytes:
    """Return a ModelProto of one graph."""
    parts = [(1, nodes), (2, [b"encoder"]), (5, tensors), (11, inputs), (12, outputs)]
    graph = b"".join(_bytes(field, each) for field, content in parts for each in content)
    microsoft = _bytes(1, "com.microsoft") + _number(2, _MICROSOFT_OPSET)
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _number(2, _OPSET)) + _bytes(8, microsoft)
