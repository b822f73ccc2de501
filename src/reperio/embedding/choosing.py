"""Choose the engine that runs a model: ONNX Runtime where that costs nobody anything, else sentence-transformers.

Both make the same vectors within the contract's tolerance, so a collection does not care which of them it was.
docs/decisions/0016-onnx.md has what was measured.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from reperio.embedding.onnx import OnnxEmbedder
from reperio.embedding.onnx.embedder import parameters
from reperio.embedding.sentence_transformers import SentenceTransformerEmbedder
from reperio.errors import EmbedderFailed, MissingDependency
from reperio.printable import logger
from reperio.types import Embedder

_log = logger("reperio.embedding")

_SMALL = 25_000_000
"""Most numbers in the layers of a model that one thread answers a question with; one of twelve layers of 384 has 21."""

_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and either under Windows
_BFLOAT16 = {"avx512_bf16", "amx_tile"}  # as for `SentenceTransformerEmbedder`

_one_question: ContextVar[bool] = ContextVar("reperio_one_question", default=False)


@contextmanager
def for_one_question() -> Iterator[None]:
    """Prefer the engine that starts quickly: an embedder that is loaded inside ``with`` will embed little."""
    token = _one_question.set(True)
    try:
        yield
    finally:
        _one_question.reset(token)


def load_embedder(
    name: str, *, revision: str | None = None, query_prompt: str | None = None, passage_prompt: str | None = None
) -> Embedder:
    """Load a model by its name or path, on the engine that suits it and this machine.

    With both engines installed it is ONNX Runtime for small models whose every setting is known there, unless PyTorch
    has a GPU or bfloat16 instructions to compute with, which make many texts quicker.

    Raises:
        MissingDependency: no engine is installed.
        EmbedderFailed: the model cannot be loaded.
    """
    if not _is_installed("onnxruntime", "tokenizers"):
        return SentenceTransformerEmbedder(
            name, revision=revision, query_prompt=query_prompt, passage_prompt=passage_prompt
        )
    other = _is_installed("sentence_transformers")
    try:
        if not other or ((_one_question.get() or not _is_accelerated()) and parameters(name, revision) <= _SMALL):
            return OnnxEmbedder(name, revision=revision, query_prompt=query_prompt, passage_prompt=passage_prompt)
    except (EmbedderFailed, MissingDependency) as error:
        if not other:
            raise
        _log.info("%s: sentence-transformers is taken: %s", name, error)
    return SentenceTransformerEmbedder(
        name, revision=revision, query_prompt=query_prompt, passage_prompt=passage_prompt
    )


def _is_installed(*modules: str) -> bool:
    return all(sys.modules.get(module) is not None or find_spec(module) is not None for module in modules)


@cache
def _is_accelerated() -> bool:
    """Say whether PyTorch may have more here than ONNX Runtime uses. PyTorch itself would take seconds to tell."""
    if sys.platform == "darwin" or any(Path(device).exists() for device in _DEVICES):
        return True
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    return any(_BFLOAT16 & set(line.split()) for line in lines if line.startswith("flags"))
