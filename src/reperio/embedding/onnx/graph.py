"""Make the ONNX graph of a BERT encoder, from tokens to their vectors, in ONNX Runtime's own operators for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.embedding.onnx import wire

_MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators: one for what takes five to fifteen of the standard's
_SMALL = 1024  # bytes; ONNX Runtime takes nothing smaller from outside

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of an encoder, as its config.json has them."""

    layers: int
    width: int
    heads: int
    inner: int
    words: int
    positions: int
    kinds: int
    epsilon: float

    @property
    def parameters(self) -> int:
        """Numbers in the matrices of the layers: each is multiplied once per token."""
        return self.layers * self.width * (4 * self.width + 2 * self.inner)

    def expected(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array, by its name in a BertModel."""
        table = {"word": self.words, "position": self.positions, "token_type": self.kinds}
        found: dict[str, tuple[int, ...]] = {
            f"embeddings.{name}_embeddings.weight": (number, self.width) for name, number in table.items()
        }
        linear = {f"attention.self.{name}": (self.width, self.width) for name in ("query", "key", "value")}
        linear |= {
            "attention.output.dense": (self.width, self.width),
            "intermediate.dense": (self.inner, self.width),
            "output.dense": (self.width, self.inner),
        }
        norms = ["embeddings.LayerNorm"]
        for layer in range(self.layers):
            for name, shape in linear.items():
                found[f"encoder.layer.{layer}.{name}.weight"] = shape
                found[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
            norms += [f"encoder.layer.{layer}.{name}.LayerNorm" for name in ("attention.output", "output")]
        return found | {f"{name}.{part}": (self.width,) for name in norms for part in ("weight", "bias")}


class Graph:
    """The graph of one encoder.

    Args:
        shape: sizes of the encoder.
        weights: its arrays, by their names in a BertModel; of the shapes of `Shape.expected`.

    Attributes:
        model: the serialized ONNX model. Inputs: ``tokens`` int64 and ``mask`` int32, both (texts, length); output:
            ``vectors`` float32 (texts, length, width).
        outside: its weights, which are handed over when it is loaded.
    """

    def __init__(self, shape: Shape, weights: Mapping[str, Array]) -> None:
        self.outside: dict[str, Array] = {}
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._shape, self._weights = shape, weights
        vectors = self._embeddings()
        for layer in range(shape.layers):
            vectors = self._layer(vectors, f"encoder.layer.{layer}.")
        self._node("Identity", vectors, output="vectors")
        inputs = [
            wire.port(name, kind, ("texts", "length")) for name, kind in (("tokens", wire.INT64), ("mask", wire.INT32))
        ]
        output = wire.port("vectors", wire.FLOAT, ("texts", "length", shape.width))
        self.model = wire.model(self._nodes, self._tensors, inputs, [output])

    def _node(self, operator: str, *inputs: str, output: str = "", domain: str = "", **options: float) -> str:
        output = output or f"{operator}-{len(self._nodes)}"
        self._nodes.append(wire.node(operator, inputs, output, domain, options))
        return output

    def _array(self, name: str, values: Array) -> str:
        values = np.ascontiguousarray(values)
        inline = values.nbytes < _SMALL
        self._tensors.append(wire.tensor(name, values, inline=inline))
        if not inline:
            self.outside[name] = values
        return name

    def _weight(self, name: str) -> str:
        return self._array(name, np.asarray(self._weights[name], dtype=np.float32))

    def _turned(self, *names: str) -> str:
        """Return matrices side by side, turned as MatMul wants them; the runtime does that once, when it loads them."""
        whole = [self._weight(f"{name}.weight") for name in names]
        together = whole[0] if len(whole) == 1 else self._node("Concat", *whole, axis=0)
        return self._node("Transpose", together)

    def _norm(self, name: str) -> tuple[str, str]:
        return self._weight(f"{name}.weight"), self._weight(f"{name}.bias")

    def _embeddings(self) -> str:
        words = self._node("Gather", self._weight("embeddings.word_embeddings.weight"), "tokens")
        # Every token of a single text is of type 0.
        first = np.asarray(self._weights["embeddings.token_type_embeddings.weight"][0], dtype=np.float32)
        places = np.asarray(self._weights["embeddings.position_embeddings.weight"], dtype=np.float32) + first
        zero, one = (self._array(name, np.array([value])) for name, value in (("zero", 0), ("one", 1)))
        length = self._node("Gather", self._node("Shape", "tokens"), one)
        used = self._node("Slice", self._array("places", places), zero, length, zero)
        both = self._node("Add", words, used)
        return self._node(
            "LayerNormalization", both, *self._norm("embeddings.LayerNorm"), axis=-1, epsilon=self._shape.epsilon
        )

    def _layer(self, vectors: str, name: str) -> str:
        own = f"{name}attention.self."
        names = [f"{own}{part}" for part in ("query", "key", "value")]
        bias = self._node("Concat", *(self._weight(f"{each}.bias") for each in names), axis=0)
        inputs = vectors, self._turned(*names), bias, "mask"
        attended = self._node("Attention", *inputs, domain=_MICROSOFT, num_heads=self._shape.heads)
        vectors = self._added(vectors, attended, f"{name}attention.output")
        inner = self._node("MatMul", vectors, self._turned(f"{name}intermediate.dense"))
        inner = self._node("BiasGelu", inner, self._weight(f"{name}intermediate.dense.bias"), domain=_MICROSOFT)
        return self._added(vectors, inner, f"{name}output")

    def _added(self, vectors: str, made: str, name: str) -> str:
        """Add what a part of a layer has made of the vectors to them, and normalise."""
        made = self._node("MatMul", made, self._turned(f"{name}.dense"))
        return self._node(
            "SkipLayerNormalization", made, vectors, *self._norm(f"{name}.LayerNorm"),
            self._weight(f"{name}.dense.bias"), domain=_MICROSOFT, epsilon=self._shape.epsilon,
        )  # fmt: skip
